//! `headstart data`.

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::config::TrainConfig;
use headstart::dataset::{self, DataOptions, Dataset, Limits};
use headstart::inspect::{self, Inspection, LabelCheck};
use headstart::label_issues::LabelOptions;
use headstart::run::DiskCache;
use headstart::source::is_file;

use super::{cache, check_output, device, model_for};
use crate::args::{Data, DataCheck, DataCommand};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Runs a command about data.
pub fn run(args: &Data) -> Result<(), Failure> {
    match &args.command {
        DataCommand::Check(args) => check(args),
        DataCommand::Get(args) => super::hub::data(args),
    }
}

/// Checks a data set and prints what it found.
fn check(args: &DataCheck) -> Result<(), Failure> {
    check_output(args.html.as_deref(), [&*args.data])?;
    let judge = args.labels.then(|| settings(args)).transpose()?;
    // Files stay as they are, so that their bytes can be compared and memory stays small.
    let options = DataOptions {
        validation_split: 0.0,
        threads: args.threads,
        empty_classes: true,
        limits: Limits { decoded_bytes: 0, ..Limits::default() },
        ..DataOptions::default()
    };
    let data = dataset::open(&args.data, &options)?;
    let mut progress = Progress::new(0);
    let started = std::time::Instant::now();
    let found = inspect::inspect(&data, args.threads, &mut |done, total| {
        let rate = done as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.count("checking images", done, total, rate);
    });
    progress.clear();
    let mut found = found?;
    if let Some((config, options)) = judge {
        found.labels = Some(labels(args, &config, options, &data, &found)?);
    }
    if let Some(path) = &args.html {
        write_bytes(path, inspect::html(&found, &data).as_bytes())?;
        note!("page: {}", path.display());
    }
    if args.json {
        output::json(&found)?;
    } else {
        output::line(&found)?;
    }
    Ok(())
}

/// The settings of the net for --labels, and of the cross-validation.
fn settings(args: &DataCheck) -> Result<(TrainConfig, LabelOptions), Failure> {
    let file = args.model.as_deref().filter(|model| is_file(model));
    let given = args.weights.is_some() || args.image_size.is_some() || args.interpolation.is_some();
    if let Some(file) = file.filter(|_| given) {
        let expected = "the name of a net with these flags";
        let found = "a model file, which has these settings inside";
        let hint = "leave --weights, --image-size and --interpolation out";
        return Err(Failure::Usage(Error::invalid(file, expected, found, hint)));
    }
    let defaults =
        TrainConfig::defaults(Some(&args.data), args.model.as_deref().filter(|_| file.is_none()));
    let config = TrainConfig {
        data: args.data.clone(),
        model: args.model.clone().filter(|_| file.is_none()).unwrap_or(defaults.model),
        weights: args.weights.clone().unwrap_or(defaults.weights),
        image_size: args.image_size.or(defaults.image_size),
        interpolation: args.interpolation.map(Into::into).or(defaults.interpolation),
        threads: args.threads,
        ..TrainConfig::default()
    };
    super::check(&config, file)?;
    Ok((config, LabelOptions { folds: args.folds, seed: args.seed, l2: None }))
}

/// Searches label errors in the training images.
fn labels(
    args: &DataCheck,
    config: &TrainConfig,
    options: LabelOptions,
    data: &Dataset,
    found: &Inspection,
) -> Result<LabelCheck, Failure> {
    let device = device(args.threads, args.precision.into())?;
    let model = model_for(args.model.as_deref().filter(|model| is_file(model)), config, data)?;
    let folder = cache::folder(args.no_cache, args.cache_dir.as_ref());
    let settings =
        DiskCache { folder, ..DiskCache::default() }.with_memory(config.cache_bytes())?;
    interrupt::watch();
    let mut progress = Progress::new(0);
    let mut show = |event| Ok(progress.show(&event));
    let check = inspect::check_labels(&model, data, found, &device, &settings, options, &mut show)?;
    progress.clear();
    check.ok_or_else(|| Failure::Interrupted("the labels were not checked".into()))
}
