//! `headstart evaluate`.

use std::path::Path;

use headstart::atomic::{make_folder, write_bytes};
use headstart::bootstrap::{self, intervals};
use headstart::dataset::{DataOptions, Dataset, Subset};
use headstart::evaluate::{
    EvaluateOptions, Evaluated, Given, Opened, Seen, calibrate_with, evaluate_with, open_for, seen,
};
use headstart::export::{Prediction, Truth, check_predictions_ending, write_predictions};
use headstart::hard::{Bounds, hard_images};
use headstart::image::Views;
use headstart::model::Model;
use headstart::report;
use headstart::source::is_file;
use headstart::summary::grouped;
use headstart::weights::file_of;
use headstart::weights::model_file::Trained;
use headstart::{Device, Error};

use super::{cache, check_output, device, hub, open_model, settled};
use crate::args::{Evaluate, Split};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output, show};

/// Classifies labelled images and reports.
pub fn run(args: &Evaluate) -> Result<(), Failure> {
    for out in [&args.output, &args.gallery] {
        check_output(out.as_deref(), [&*args.data, &args.model])?;
    }
    if let Some(folder) = &args.out {
        make_folder(folder)?;
    }
    if let Some(path) = &args.output {
        check_predictions_ending(path).map_err(Failure::Usage)?;
    }
    if args.calibrate && !is_file(&args.model) {
        let hint = "train a model, or give a model file";
        let found = args.model.clone();
        return Err(Failure::Usage(Error::invalid("--calibrate", "a model file", found, hint)));
    }
    let device = device(args.threads, args.precision.into(), args.device)?;
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    args.fits.over_card(&mut model.card).map_err(Failure::Usage)?;
    let device = settled(device, (args.device, args.precision.into()), &model, args.batch_size)?;
    let opened = open(&model, args, &device)?;
    let data = &opened.data;
    show::skipped(&data.skipped);
    interrupt::watch();
    if args.calibrate {
        warn(
            &model,
            &data.parts(headstart::dataset::Split::Validation)?,
            Split::Validation,
            &device,
        )?;
        calibrate(args, &mut model, data, &device)?;
    }
    // Without test images, the images that the temperature was fitted on are evaluated.
    let split = match args.parts.split {
        Split::Auto if args.calibrate && data.test.is_none() => Split::Validation,
        split => split,
    };
    let list = opened.parts(split.into())?;
    if let (Split::Auto, Some(seen)) = (split, &opened.left_out) {
        tell_left_out(seen, &list);
    }
    warn(&model, &list, args.parts.split, &device)?;
    let mut progress = Progress::new(0);
    let (cache, batch) = (cache::settings(&args.cache), args.batch_size);
    let options = EvaluateOptions { batch, tta: args.tta, cache: &cache };
    let mut show = cache::show(&mut progress, "evaluating");
    let evaluated = evaluate_with(&model, data, &list, &device, options, &mut show)?;
    drop(show);
    let views = match args.tta {
        Views::One => None,
        Views::Mirror => Some("its mirror image"),
        Views::Corners => Some("its four corners"),
        Views::All => Some("its four corners, and the mirror images of these"),
    };
    if let Some(views) = views {
        note!("probabilities are the means of those of each image and {views}");
    }
    let Some(Evaluated { mut report, probabilities: p, labels }) = evaluated else {
        return Err(Failure::Interrupted("nothing was written".into()));
    };
    if (args.bootstrap, args.bootstrap_seed) != (bootstrap::RESAMPLES, bootstrap::SEED) {
        let (classes, resamples, seed) =
            (report.classes.len(), args.bootstrap, args.bootstrap_seed);
        report.confidence_intervals = intervals(classes, &p, &labels, resamples, seed);
    }
    if let Some(folder) = &args.out {
        report::write(folder, &report)?;
        report::draw(folder, &Default::default(), Some(&report))?;
    }
    if let Some(path) = &args.gallery {
        let bounds = Bounds { worst: args.gallery_size, pairs: 8, of_pair: 6, unsure: 0 };
        let hard = hard_images(&model, &device, &list, &report, &p, &labels, &bounds)?;
        let page = report::gallery(&model.card.architecture, &report, &hard)?;
        write_bytes(path, page.as_bytes())?;
        note!("gallery: {}", path.display());
    }
    if let Some(path) = &args.output {
        write_predictions(path, &rows(&model, &list, &p, &labels))?;
        note!("predictions: {}, a row for each of {} images", path.display(), labels.len());
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&report)?;
    }
    Ok(())
}

/// Most classes of a row.
const TOP: usize = 5;

/// The prediction for each image beside its label.
fn rows(
    model: &Model,
    list: &[(&'static str, &Subset)],
    p: &[f32],
    labels: &[usize],
) -> Vec<Prediction> {
    let classes = &model.card.classes;
    let names = list.iter().flat_map(|(split, subset)| {
        (0..subset.len()).map(move |i| (*split, subset.path(i).into_owned()))
    });
    let rows = names.zip(labels).zip(p.chunks_exact(classes.len().max(1)));
    rows.map(|(((split, name), &label), p)| {
        let choices = model.choices(p, TOP);
        let correct = choices.first().is_some_and(|c| c.index == label);
        let truth = Truth {
            split,
            label: classes[label].clone(),
            label_index: label,
            label_probability: p[label],
            correct,
        };
        Prediction { truth: Some(truth), ..Prediction::new(name, choices, 0.0) }
    })
    .collect()
}

/// The images, split as in the model's training where they are the ones it was trained on.
fn open(model: &Model, args: &Evaluate, device: &Device) -> Result<Opened, Failure> {
    let options = DataOptions { threads: args.threads, ..DataOptions::default() };
    let (given, threads) = (args.parts.given(), &device.compute().threads);
    let validation = args.calibrate || args.parts.hold_out();
    let opened = hub::watched(|watch| {
        open_for(model, &args.data, given, validation, &options, threads, watch)
    })?;
    if let (true, Some(trained)) = (opened.own, &model.card.trained) {
        tell_split(&args.parts.given(), trained, opened.as_then);
    }
    Ok(opened)
}

/// Says that images are split as in the model's training, or what differs.
fn tell_split(given: &Given, trained: &Trained, as_then: bool) {
    let differences = given.differences(trained);
    if as_then {
        note!(
            "the model was trained on these images; they are split as they were then ({})",
            trained.split()
        );
        return;
    }
    let said = differences.iter().map(|(what, given, then)| format!("{what} {given}, then {then}"));
    // Which of those evaluated it was trained on is said by name and number.
    note!(
        "these images are split otherwise than when the model was trained on them ({})",
        said.collect::<Vec<_>>().join("; ")
    );
}

/// Says which images are left out, because the model was trained on them.
fn tell_left_out(seen: &Seen, list: &[(&'static str, &Subset)]) {
    let others: usize = list.iter().map(|(_, subset)| subset.len()).sum();
    note!(
        "the model was trained on {} of these {} images ({seen}); they are left out, and the other {} are evaluated",
        grouped(seen.count),
        grouped(seen.count + others),
        grouped(others)
    );
}

/// Says which images the model was trained on.
fn warn(
    model: &Model,
    list: &[(&'static str, &Subset)],
    split: Split,
    device: &Device,
) -> Result<(), Failure> {
    let images: usize = list.iter().map(|(_, subset)| subset.len()).sum();
    let Some(seen) = seen(model, list, &device.compute().threads)? else { return Ok(()) };
    if seen.count > 0 {
        // Who asks for the training images is told, and not warned.
        let warning = if split == Split::Train { "" } else { "warning: " };
        note!(
            "{warning}the model was trained on {} of these {} images ({seen}); metrics on them do not say what it does \
             on new ones",
            grouped(seen.count),
            grouped(images)
        );
    }
    Ok(())
}

/// Fits a temperature on the validation images.
fn calibrate(
    args: &Evaluate,
    model: &mut Model,
    data: &Dataset,
    device: &Device,
) -> Result<(), Failure> {
    let (path, batch) = (Path::new(&args.model), args.batch_size);
    let mut progress = Progress::new(0);
    let (cache, mut show) =
        (cache::settings(&args.cache), cache::show(&mut progress, "calibrating"));
    let fitted = calibrate_with(model, path, data, device, batch, &cache, &mut show)?;
    let Some(fit) = fitted else {
        return Err(Failure::Interrupted("the model file was not changed".into()));
    };
    let file = file_of(path);
    match fit.is_kept() {
        true => {
            note!("{fit}, is stored in {}; probabilities are calibrated with it", file.display())
        }
        false => note!("{fit}; {} has none, and its probabilities are as they are", file.display()),
    }
    Ok(())
}
