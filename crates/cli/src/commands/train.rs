//! `headstart train`.

mod settings;
mod show_batch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use headstart::augment::Mixing;
use headstart::cache::{CacheSettings, DISK};
use headstart::config::{Precision, TrainConfig};
use headstart::dataset::Dataset;
use headstart::history::PhaseName;
use headstart::hub::sources;
use headstart::inference::Control;
use headstart::job::{build_model, open_data};
use headstart::metrics::Report;
use headstart::model::Model;
use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::run_folder::RunFolder;
use headstart::trainer::{Outcome, Phase, Settings, Trainer};
use headstart::weights::Tensor;
use headstart::weights::model_file;
use headstart::{DType, Error};
use serde::Serialize;

use super::{compute, guide, hub, recipe, resume};
use crate::args::Train;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};
use settings::{base, settings};

/// What `--json` prints.
#[derive(Serialize)]
struct Outcomes<'a> {
    run_folder: String,
    best_epoch: Option<usize>,
    epochs: usize,
    #[serde(flatten)]
    report: Option<&'a Report>,
}

/// Trains, evaluates, draws.
pub fn run(args: &Train) -> Result<(), Failure> {
    let (mut config, opened) = match (&args.resume, args.recipe) {
        (Some(run), _) => (resume::settings(run, |config| settings(args, config))?, None),
        (None, Some(name)) => {
            let of = recipe::of_train(args, name, args.budget);
            let (_, _, recipe, data) = recipe::by_recipe(&of)?;
            recipe::announce(&recipe)?;
            (settings(args, recipe.config)?, Some(data))
        }
        (None, None) => (settings(args, base(args)?)?, None),
    };
    config.check().map_err(Failure::Usage)?;
    let list = phase_list(&config).map_err(Failure::Usage)?;
    let compute = compute(config.threads, config.precision)?;
    config.precision = Precision::exactly(compute.dtype);
    if args.resume.is_none() && sources::is_variant(&config.weights) {
        hub::published(&config.model, &config.weights, false)?;
    }
    hub::fetch_data(&config.data)?;
    let data = match opened {
        Some(data) => data,
        None => open_data(&config)?,
    };
    describe_data(&data);
    if let Some(path) = &args.show_batch {
        return show_batch::show_batch(&config, &data, compute, path);
    }
    let (mut model, earlier) = match &args.resume {
        Some(run) => {
            let resume::Earlier { model, folder, progress, optimizer } = resume::open(run, &data)?;
            (model, Some((folder, progress, optimizer)))
        }
        None => (new_model(&config, &data)?, None),
    };
    if config.from_scratch() && earlier.is_none() {
        eprintln!(
            "a frozen net of random numbers is of little use: everything trains for --epochs; \
             --fine-tune-at has the head go first"
        );
    }
    describe_entry(&model, compute.dtype, earlier.is_none());
    let settings = training(&config, cache_settings(args, &config)?, args.save_every);
    let mut trainer = Trainer::new(&mut model, &data, compute, settings)?;
    let path = start(&mut trainer, args, &config, earlier)?;
    eprintln!("run folder: {}", path.display());
    interrupt::watch();
    let (report, accuracies) = phases(&mut trainer, &list, &path)?;
    let best_epoch = trainer.history.best(config.monitor).map(|e| e.epoch);
    let epochs = trainer.history.epochs.len();
    if args.json {
        let run_folder = path.display().to_string();
        output::json(&Outcomes { run_folder, best_epoch, epochs, report: report.as_ref() })?;
    } else {
        if let Some(report) = &report {
            output::line(report)?;
        }
        let best = best_epoch.map_or("none".into(), |e| e.to_string());
        output::line(format!("best epoch: {best} of {epochs}"))?;
        output::line(format!("run folder: {}", path.display()))?;
    }
    guide::print(&config, &data, &accuracies, &path);
    Ok(())
}

/// What the trainer is told.
pub fn training(config: &TrainConfig, cache: CacheSettings, save_every: Option<u64>) -> Settings {
    Settings {
        batch_size: config.batch_size,
        accumulate: config.accumulate,
        rule: config.rule(),
        weight_decay: config.weight_decay(),
        layer_decay: config.layer_decay,
        class_weight: config.class_weight.clone(),
        label_smoothing: config.label_smoothing,
        clip_norm: config.clip_norm,
        clip_value: config.clip_value,
        balance: config.balance,
        dropout: config.dropout,
        freeze_bn: config.freeze_bn,
        monitor: config.monitor,
        early_stopping: config.early_stopping(),
        ema: config.ema,
        augment: config.augment.clone(),
        mixing: Mixing { mixup: config.mixup, cutmix: config.cutmix },
        shuffle: config.shuffle,
        seed: config.seed,
        cache,
        save_every: save_every.map(Duration::from_secs),
    }
}

fn describe_data(data: &Dataset) {
    eprintln!("{}", data.describe());
    for skipped in data.skipped.iter().take(10) {
        eprintln!("skipped {}: {}", skipped.name, skipped.reason);
    }
    eprintln!("classes: {}", shorten(&data.classes));
    for warning in headstart::inspect::warnings(data) {
        eprintln!("warning: {warning}");
    }
}

/// Says how images enter the net, and what there is to choose where the run `begins`.
fn describe_entry(model: &Model, dtype: DType, begins: bool) {
    let card = &model.card;
    let (height, width, factor) = (card.height, card.width, card.upsample);
    eprintln!(
        "images enter {} at {}x{}, {} preprocessing, {} arithmetic",
        card.architecture,
        height * factor,
        width * factor,
        card.preprocess.name(),
        dtype.name()
    );
    if factor > 1 && begins {
        eprintln!(
            "note: enlarged {factor} times by nearest neighbour, as the article does; --image-size {} \
             --interpolation bicubic gives better features (CIFAR-10, linear head on 4,000 images: \
             test accuracy 0.79 instead of 0.69)",
            height * factor
        );
    }
}

/// Where an earlier run stood, with its optimizer's memory.
type Earlier = (RunFolder, model_file::Progress, Vec<Tensor>);

/// Has `trainer` record in a folder of its own, or go on in that of the earlier run; the folder's path.
fn start(
    trainer: &mut Trainer<'_>,
    args: &Train,
    config: &TrainConfig,
    earlier: Option<Earlier>,
) -> Result<PathBuf, Failure> {
    let (mut folder, going_on) = match earlier {
        Some((folder, progress, optimizer)) => (folder, Some((progress, optimizer))),
        None => {
            let folder = match &args.out {
                Some(path) => RunFolder::create(path, args.exist_ok)?,
                None => RunFolder::create_next("runs/train")?,
            };
            folder.write_config(&config.to_toml()?)?;
            (folder, None)
        }
    };
    if config.tensorboard {
        folder = folder.with_tensorboard(going_on.as_ref().map_or(0, |(p, _)| p.epochs));
    }
    let path = folder.path().to_path_buf();
    trainer.record_in(folder);
    if let Some((progress, optimizer)) = going_on {
        trainer.resume(progress, optimizer)?;
    }
    Ok(path)
}

/// Reports and accuracies of phases.
type Results = (Option<Report>, Vec<(PhaseName, f64)>);

/// All phases, each evaluated; the report is that of the last, the accuracies those of all.
fn phases(trainer: &mut Trainer<'_>, list: &[Phase], path: &Path) -> Result<Results, Failure> {
    let mut progress = Progress::new(list.iter().map(|p| p.epochs).sum());
    let (mut report, mut accuracies) = (None, Vec::new());
    for phase in list {
        let evaluated = trainer.passes_over();
        let outcome = trainer.fit(phase, &mut |event| progress.show(event));
        progress.clear();
        if evaluated {
            outcome?;
            continue;
        }
        draw(trainer, path, None)?;
        if outcome? == Outcome::Stopped {
            return Err(stopped(path));
        }
        report = trainer.evaluate(&mut |event| progress.show(event))?;
        progress.clear();
        if report.is_none() && interrupt::control() == Control::Stop {
            return Err(stopped(path));
        }
        accuracies.extend(report.as_ref().map(|r| (phase.name, r.accuracy)));
        draw(trainer, path, report.as_ref())?;
    }
    trainer.check_resumed()?;
    Ok((report, accuracies))
}

fn stopped(path: &Path) -> Failure {
    let last = path.join("weights/last.safetensors");
    Failure::Interrupted(format!(
        "the weights are saved in {}; headstart train --resume {} goes on",
        last.display(),
        path.display()
    ))
}

/// Writes the report and all pictures.
fn draw(trainer: &Trainer<'_>, path: &Path, report: Option<&Report>) -> Result<(), Error> {
    if let (Some(folder), Some(report)) = (trainer.folder(), report) {
        folder.write_report(report)?;
    }
    headstart::report::draw(path, &trainer.history, report)
}

/// A model for the data, with the weights that are named.
fn new_model(config: &TrainConfig, data: &Dataset) -> Result<Model, Failure> {
    hub::fetch_weights(config)?;
    let (model, loaded) = build_model(config, data)?;
    match loaded {
        Some(report) => eprintln!("weights {}: {report}", config.weights),
        None => eprintln!("weights: none, the net starts from random numbers"),
    }
    Ok(model)
}

fn cache_settings(args: &Train, config: &TrainConfig) -> Result<CacheSettings, Failure> {
    let folder = match args.no_cache {
        true => None,
        false => Some(super::cache::root(args.cache_dir.as_ref())?),
    };
    Ok(CacheSettings {
        memory: config.cache_bytes(),
        folder,
        disk: args.cache_disk.map_or(DISK, headstart::range::bytes),
    })
}

/// The phases, checked before anything is read.
fn phase_list(config: &TrainConfig) -> Result<Vec<Phase>, Error> {
    let recipe = Recipe::named(&config.model)?;
    let size = recipe.image_size;
    let around =
        Surroundings { height: size, width: size, preprocess: None, upsample: 1, classes: None };
    config.phases(&Net::new(&recipe, &around)?)
}

fn shorten(names: &[String]) -> String {
    match names.len() {
        0..=20 => names.join(", "),
        n => format!("{}, ... {} ({n} in all)", names[..10].join(", "), names[n - 1]),
    }
}
