//! `headstart probe`.

use headstart::cache::Whole;
use headstart::config::TrainConfig;
use headstart::job::open_data_for;
use headstart::probe::probe;
use headstart::probe_weights::{ProbedWeights, probe_weights};
use headstart::source::is_file;
use headstart::trainer::INFERENCE_BATCH;
use headstart::{Dataset, Device, Error, Model};

use super::{cache, check, device, hub, model_for, settled};
use crate::args::Probe;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Fits a linear head on each stage's outputs and suggests where to start fine-tuning.
pub fn run(args: &Probe) -> Result<(), Failure> {
    let file = Some(args.model.as_str()).filter(|model| is_file(model));
    let given = !args.weights.is_empty()
        || args.image_size.is_some()
        || args.interpolation.is_some()
        || args.fits.given();
    if file.is_some() && given {
        return Err(Failure::Usage(Error::invalid(
            args.model.clone(),
            "the name of a net with these flags",
            "a model file, which has these settings inside",
            "leave --weights, --image-size, --interpolation, --fit and --decode out",
        )));
    }
    if !(args.l2 >= 0.0 && args.l2.is_finite()) {
        let found = args.l2.to_string();
        return Err(Failure::Usage(Error::invalid("--l2", "0 or more", found, "")));
    }
    let net = Some(args.model.as_str()).filter(|_| file.is_none());
    let defaults = TrainConfig::defaults(Some(&args.data), net);
    let mut config = TrainConfig {
        data: args.data.clone(),
        model: net.map_or(defaults.model, String::from),
        weights: args.weights.first().cloned().unwrap_or(defaults.weights),
        image_size: args.image_size.or(defaults.image_size),
        interpolation: args.interpolation.map(Into::into).or(defaults.interpolation),
        // Weights are compared by cross-validation.
        validation_split: if args.weights.len() > 1 { 0.0 } else { args.validation_split },
        stratify: args.split.stratify,
        group: args.split.group.clone(),
        limit: args.limit,
        threads: args.threads,
        ..TrainConfig::default()
    };
    args.fits.over(&mut config);
    check(&config, file)?;
    let device = device(args.threads, args.precision.into(), args.device)?;
    let opened = file.map(Model::open).transpose()?;
    let data = hub::watched(|watch| open_data_for(&config, opened.as_ref(), watch))?;
    if args.weights.len() > 1 {
        return compare(args, &config, &data, &device);
    }
    let Some(validation) = &data.validation else {
        let hint = "give --validation-split above 0";
        return Err(Failure::Usage(Error::invalid("validation images", "some", "none", hint)));
    };
    let model = model_for(opened, &config, &data)?;
    let device = settled(device, (args.device, args.precision.into()), &model, INFERENCE_BATCH)?;
    interrupt::watch();
    let (mut progress, cache) = (Progress::new(0), cache::settings(&args.cache));
    let mut whole = Whole::new(&model, &data.name, &device, INFERENCE_BATCH, &cache);
    let mut show = cache::show(&mut progress, "stages");
    let mut run = |name, subset| {
        let tensors = whole.stages((name, subset), &mut show)?;
        tensors.ok_or_else(|| Failure::Interrupted("nothing was measured".into()))
    };
    let (train, other) = (run("train", &data.train)?, run("validation", validation)?);
    let (labels, held_out) = (data.train.labels(), validation.labels());
    let classes = data.classes.len();
    let probed = probe(&model, &device, (&train, &labels), (&other, &held_out), classes, args.l2)?;
    if args.json {
        output::json(&probed)?;
        return Ok(());
    }
    let width = probed.stages.iter().map(|s| s.layer.len()).max().unwrap_or(0).max(5);
    output::line(format!("{:width$}  index  features  accuracy  training accuracy", "layer"))?;
    for s in &probed.stages {
        output::line(format!(
            "{:width$}  {:5}  {:8}  {:8.4}  {:17.4}",
            s.layer, s.index, s.features, s.accuracy, s.train_accuracy
        ))?;
    }
    output::line(format!(
        "best {:.4} +- {:.4} ({} images): --fine-tune-at {}",
        probed.best, probed.standard_error, probed.samples, probed.suggested
    ))?;
    Ok(())
}

/// A head on the features of each of the weights, best first.
fn compare(
    args: &Probe,
    config: &TrainConfig,
    data: &Dataset,
    device: &Device,
) -> Result<(), Failure> {
    interrupt::watch();
    let (mut progress, cache) = (Progress::new(0), cache::settings(&args.cache));
    let mut emit = |event| Ok(progress.show(&event));
    let found = hub::watched(|watch| {
        probe_weights(config, &args.weights, data, (device, &cache), watch, &mut emit)
    })?;
    progress.clear();
    let mut list = found.ok_or_else(|| Failure::Interrupted("nothing was measured".into()))?;
    list.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy));
    if args.json {
        return Ok(output::json(&list)?);
    }
    let width = list.iter().map(|w| w.weights.chars().count()).max().unwrap_or(0).max(7);
    output::line(format!(
        "{:width$}  features  accuracy           loss  L2    seconds",
        "weights"
    ))?;
    for w in &list {
        let ProbedWeights {
            weights, features, accuracy, standard_error, loss, l2, seconds, ..
        } = w;
        output::line(format!(
            "{weights:width$}  {features:8}  {accuracy:.4} +- {standard_error:.4}  {loss:.4}  {l2:<4e}  {seconds:.1}"
        ))?;
    }
    let samples = list.first().map_or(0, |w| w.samples);
    output::line(format!(
        "by cross-validation: {samples} images that the heads were not fitted on"
    ))?;
    Ok(())
}
