//! `headstart data`.

use headstart::atomic::write_bytes;
use headstart::config::TrainConfig;
use headstart::dataset::{DataOptions, Dataset, Limits};
use headstart::evaluate::tuned_on;
use headstart::inspect::{self, Inspection, LabelCheck};
use headstart::job;
use headstart::label_issues::LabelOptions;
use headstart::model::Model;
use headstart::run::DiskCache;
use headstart::source::is_file;
use headstart::trainer::INFERENCE_BATCH;
use headstart::{Device, Error};

use super::{cache, check_output, device, model_for, settled, shard};
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
    let part = args.shard.as_deref().map(str::parse).transpose().map_err(Failure::Usage)?;
    let data =
        super::hub::watched(|watch| job::open_with(&args.data, &options(args.threads), watch))?;
    if let (Some(part), Some(folder)) = (part, &args.out) {
        return shard::check(args, (part, folder), &data);
    }
    let mut progress = Progress::new(0);
    let started = std::time::Instant::now();
    let found = inspect::inspect(&data, args.threads, &mut |done, total| {
        let rate = done as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.count("checking images", done, total, rate);
    });
    progress.clear();
    let mut found = found?;
    let mut interrupted = None;
    if let Some((config, options)) = judge {
        match labels(args, &config, options, &data, &mut found)? {
            Some(check) => found.labels = Some(check),
            None => {
                let what = "the labels were not checked; the other findings are above";
                interrupted = Some(Failure::Interrupted(what.into()));
            }
        }
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
    interrupted.map_or(Ok(()), Err)
}

/// How a data set is opened to be checked: files stay as they are, so that their bytes can be compared and memory stays small.
pub(super) fn options(threads: usize) -> DataOptions {
    DataOptions {
        validation_split: 0.0,
        threads,
        empty_classes: true,
        limits: Limits { decoded_bytes: 0, ..Limits::default() },
        ..DataOptions::default()
    }
}

/// The settings of the net for --labels, and of the cross-validation.
fn settings(args: &DataCheck) -> Result<(TrainConfig, LabelOptions), Failure> {
    let file = args.model.as_deref().filter(|model| is_file(model));
    let given = args.weights.is_some()
        || args.image_size.is_some()
        || args.interpolation.is_some()
        || args.fits.given();
    if let Some(file) = file.filter(|_| given) {
        let expected = "the name of a net with these flags";
        let found = "a model file, which has these settings inside";
        let hint = "leave --weights, --image-size, --interpolation, --fit and --decode out";
        return Err(Failure::Usage(Error::invalid(file, expected, found, hint)));
    }
    let defaults =
        TrainConfig::defaults(Some(&args.data), args.model.as_deref().filter(|_| file.is_none()));
    let mut config = TrainConfig {
        data: args.data.clone(),
        model: args.model.clone().filter(|_| file.is_none()).unwrap_or(defaults.model),
        weights: args.weights.clone().unwrap_or(defaults.weights),
        image_size: args.image_size.or(defaults.image_size),
        interpolation: args.interpolation.map(Into::into).or(defaults.interpolation),
        threads: args.threads,
        ..TrainConfig::default()
    };
    args.fits.over(&mut config);
    super::check(&config, file)?;
    Ok((config, LabelOptions { folds: args.folds, seed: args.seed, l2: None }))
}

/// Searches label errors in the training images; `None` if it was interrupted.
fn labels(
    args: &DataCheck,
    config: &TrainConfig,
    options: LabelOptions,
    data: &Dataset,
    found: &mut Inspection,
) -> Result<Option<LabelCheck>, Failure> {
    let device = device(args.threads, args.precision.into(), args.device)?;
    let file = args.model.as_deref().filter(|model| is_file(model));
    let model = model_for(file.map(Model::open).transpose()?, config, data)?;
    let device = settled(device, (args.device, args.precision.into()), &model, INFERENCE_BATCH)?;
    found.warnings.extend(learned(&model, data, &device)?);
    let folder = cache::folder(args.no_cache, args.cache_dir.as_ref());
    let settings = DiskCache { folder, ..DiskCache::default() }.with_memory(config.cache_bytes());
    interrupt::watch();
    let mut progress = Progress::new(0);
    let mut show = |event| Ok(progress.show(&event));
    let check = inspect::check_labels(&model, data, found, &device, &settings, options, &mut show)?;
    progress.clear();
    Ok(check)
}

/// A warning where the features are those of layers that were trained on these images: they know the labels, wrong ones too.
fn learned(model: &Model, data: &Dataset, device: &Device) -> Result<Option<String>, Failure> {
    let seen = tuned_on(model, &data.train, &device.compute().threads)?;
    Ok((seen > 0).then(|| {
        format!(
            "the model of --model was trained on {seen} of these {} images, and learned their labels, wrong ones too: fewer are \
             found than by a net that has not seen them, such as that without --model",
            data.train.len()
        )
    }))
}
