//! `headstart evaluate`.

use std::path::Path;
use std::sync::Arc;

use headstart::atomic::write_bytes;
use headstart::bootstrap::{self, intervals};
use headstart::calibration::fit_temperature;
use headstart::dataset::{self, Dataset, Subset};
use headstart::gradcam::GradCam;
use headstart::inference::{probabilities, values};
use headstart::job::labels_for;
use headstart::metrics::Report;
use headstart::model::Model;
use headstart::report::{self, Shown, choose, gallery};
use headstart::weights;
use headstart::{Compute, Error};

use super::{compute, hub, is_file, open_model, parts};
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
    let compute = compute(args.threads, args.precision.into())?;
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    let options = args.parts.options(args.calibrate, args.threads);
    let data = dataset::open(hub::fetch_data(&args.data)?, &options)?;
    for skipped in &data.skipped {
        eprintln!("skipped {}: {}", skipped.name, skipped.reason);
    }
    interrupt::watch();
    if args.calibrate {
        calibrate(args, &mut model, &data, &compute)?;
    }
    // The images a temperature was fitted on are the ones to look at where there are no test images.
    let split = match args.parts.split {
        Split::Auto if args.calibrate && data.test.is_none() => Split::Validation,
        split => split,
    };
    let list = parts(&data, split)?;
    let Answers { report, p, labels } = evaluate(args, &model, &data, &list, &compute)?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        report::write(folder, &report)?;
        report::draw(folder, &Default::default(), Some(&report))?;
    }
    if let Some(path) = &args.gallery {
        let sections = choose(&report, &p, &labels, args.gallery_size);
        let mut cam = GradCam::new(&model, &compute)?;
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

/// The part of the data that holds the `i`th image of all, and where.
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

struct Answers {
    report: Report,
    p: Vec<f32>,
    labels: Vec<usize>,
}

fn evaluate(
    args: &Evaluate,
    model: &Model,
    data: &Dataset,
    list: &[(&'static str, &Subset)],
    compute: &Arc<Compute>,
) -> Result<Answers, Failure> {
    let mut progress = Progress::new(0);
    let name = if list.len() == 1 { list[0].0 } else { "all" };
    let (mut p, mut labels) = (Vec::new(), Vec::new());
    for &(split, subset) in list {
        labels.extend(labels_for(model, data, subset)?);
        let total = subset.len();
        let mut show = |done| progress.images(&format!("evaluating, {split}"), done, total);
        match probabilities(model, subset, compute, args.batch_size, &mut show)? {
            Some(some) => p.extend(some),
            None => return Err(Failure::Interrupted("nothing was written".into())),
        }
    }
    let classes = &model.card.classes;
    let mut report = Report::new(name, classes, &p, &labels);
    if !report.loss.is_finite() {
        let found = report.loss.to_string();
        let hint = "the weights are damaged or training diverged";
        return Err(Error::invalid("loss", "a finite number", found, hint).into());
    }
    if (args.bootstrap, args.bootstrap_seed) != (bootstrap::RESAMPLES, bootstrap::SEED) {
        let (resamples, seed) = (args.bootstrap, args.bootstrap_seed);
        report.confidence_intervals = intervals(classes.len(), &p, &labels, resamples, seed);
    }
    if let Some(calibration) = &mut report.calibration {
        calibration.temperature = model.card.temperature;
    }
    Ok(Answers { report, p, labels })
}

/// Fits a temperature on the validation images and keeps it in the model and its file.
fn calibrate(
    args: &Evaluate,
    model: &mut Model,
    data: &Dataset,
    compute: &Arc<Compute>,
) -> Result<(), Failure> {
    let subset = parts(data, Split::Validation)?[0].1;
    let labels = labels_for(model, data, subset)?;
    let mut progress = Progress::new(0);
    let mut show = |done| progress.images("calibrating, validation", done, subset.len());
    let batch = args.batch_size;
    let Some(logits) = values(model, subset, model.logits(), compute, batch, &mut show)? else {
        return Err(Failure::Interrupted("the model file is as it was".into()));
    };
    let temperature = fit_temperature(model.card.classes.len(), &logits, &labels)?;
    store(Path::new(&args.model), temperature)?;
    model.card.temperature = Some(temperature);
    eprintln!(
        "temperature {temperature:.4}, fitted on {} validation images, is in {} and predict divides by it",
        labels.len(),
        args.model
    );
    Ok(())
}

/// Puts a temperature into a model file; all else in it stays.
fn store(path: &Path, temperature: f64) -> Result<(), Error> {
    let file = weights::read(path)?;
    let optimizer = file.optimizer.clone();
    let mut model = Model::from_file(file)?;
    model.card.temperature = Some(temperature);
    let progress = model.card.progress.clone();
    model.save(path, progress, &optimizer)
}
