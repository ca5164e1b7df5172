//! `headstart evaluate`.

use std::path::Path;

use headstart::atomic::write_bytes;
use headstart::bootstrap::{self, intervals};
use headstart::calibration::fit_temperature;
use headstart::dataset::{Dataset, Subset};
use headstart::gradcam::GradCam;
use headstart::inference::{self, probabilities, values};
use headstart::job::{labels_for, open_with};
use headstart::metrics::Report;
use headstart::model::Model;
use headstart::report::{self, Shown, choose, gallery};
use headstart::source::is_file;
use headstart::weights;
use headstart::{Device, Error};

use super::{device, hub, open_model, parts};
use crate::args::{Evaluate, Split};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Classifies labelled images and reports.
pub fn run(args: &Evaluate) -> Result<(), Failure> {
    if args.calibrate && !is_file(&args.model) {
        let hint = "train a model, or give a model file";
        let found = args.model.clone();
        return Err(Failure::Usage(Error::invalid("--calibrate", "a model file", found, hint)));
    }
    let device = device(args.threads, args.precision.into())?;
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    let options = args.parts.options(args.calibrate, args.threads);
    let data = hub::watched(|watch| open_with(&args.data, &options, watch))?;
    for skipped in &data.skipped {
        eprintln!("skipped {}: {}", skipped.name, skipped.reason);
    }
    interrupt::watch();
    if args.calibrate {
        calibrate(args, &mut model, &data, &device)?;
    }
    // Without test images, the images that the temperature was fitted on are evaluated.
    let split = match args.parts.split {
        Split::Auto if args.calibrate && data.test.is_none() => Split::Validation,
        split => split,
    };
    let list = parts(&data, split)?;
    let Predictions { report, p, labels } = evaluate(args, &model, &data, &list, &device)?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        report::write(folder, &report)?;
        report::draw(folder, &Default::default(), Some(&report))?;
    }
    if let Some(path) = &args.gallery {
        let sections = choose(&report, &p, &labels, args.gallery_size);
        let mut cam = GradCam::new(&model, &device)?;
        let get = |i: usize| {
            let (split, subset, at) = locate(&list, i);
            let name = format!("{split}/{}", subset.name(at));
            Ok(Shown { name, image: subset.image(at)?, label: labels[i] })
        };
        let page = gallery(&model, &mut cam, &report, &sections, &get)?;
        write_bytes(path, page.as_bytes())?;
        eprintln!("gallery: {}", path.display());
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&report)?;
    }
    Ok(())
}

/// The part of the data that contains image `i` of all, and its position there.
fn locate<'a>(list: &[(&'static str, &'a Subset)], i: usize) -> (&'static str, &'a Subset, usize) {
    let mut at = i;
    for &(split, subset) in list {
        if at < subset.len() {
            return (split, subset, at);
        }
        at -= subset.len();
    }
    unreachable!("positions come from these parts")
}

struct Predictions {
    report: Report,
    p: Vec<f32>,
    labels: Vec<usize>,
}

fn evaluate(
    args: &Evaluate,
    model: &Model,
    data: &Dataset,
    list: &[(&'static str, &Subset)],
    device: &Device,
) -> Result<Predictions, Failure> {
    let mut progress = Progress::new(0);
    let name = if list.len() == 1 { list[0].0 } else { "all" };
    let (mut p, mut labels) = (Vec::new(), Vec::new());
    for &(split, subset) in list {
        labels.extend(labels_for(model, data, subset)?);
        let total = subset.len();
        let mut show = |done| progress.images(&format!("evaluating, {split}"), done, total);
        match probabilities(model, subset, device, args.batch_size, &mut show)? {
            Some(some) => p.extend(some),
            None => return Err(Failure::Interrupted("nothing was written".into())),
        }
    }
    let classes = &model.card.classes;
    let mut report = inference::report(model, name, &p, &labels)?;
    if (args.bootstrap, args.bootstrap_seed) != (bootstrap::RESAMPLES, bootstrap::SEED) {
        let (resamples, seed) = (args.bootstrap, args.bootstrap_seed);
        report.confidence_intervals = intervals(classes.len(), &p, &labels, resamples, seed);
    }
    if let Some(calibration) = &mut report.calibration {
        calibration.temperature = model.card.temperature;
    }
    Ok(Predictions { report, p, labels })
}

/// Fits a temperature on the validation images and stores it in the model and its file.
fn calibrate(
    args: &Evaluate,
    model: &mut Model,
    data: &Dataset,
    device: &Device,
) -> Result<(), Failure> {
    let subset = parts(data, Split::Validation)?[0].1;
    let labels = labels_for(model, data, subset)?;
    let mut progress = Progress::new(0);
    let mut show = |done| progress.images("calibrating, validation", done, subset.len());
    let batch = args.batch_size;
    let Some(logits) = values(model, subset, model.logits(), device, batch, &mut show)? else {
        return Err(Failure::Interrupted("the model file was not changed".into()));
    };
    let temperature = fit_temperature(model.card.classes.len(), &logits, &labels)?;
    store(Path::new(&args.model), temperature)?;
    model.card.temperature = Some(temperature);
    eprintln!(
        "temperature {temperature:.4}, fitted on {} validation images, is stored in {}; probabilities are calibrated with it",
        labels.len(),
        args.model
    );
    Ok(())
}

/// Stores a temperature in a model file and changes nothing else in it.
fn store(path: &Path, temperature: f64) -> Result<(), Error> {
    let file = weights::read(path)?;
    let optimizer = file.optimizer.clone();
    let mut model = Model::from_file(file)?;
    model.card.temperature = Some(temperature);
    let progress = model.card.progress.clone();
    model.save(path, progress, &optimizer)
}
