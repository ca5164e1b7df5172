//! `headstart evaluate`.

use std::path::Path;

use headstart::atomic::write_bytes;
use headstart::bootstrap::{self, intervals};
use headstart::dataset::{Dataset, Subset};
use headstart::evaluate::{self, Evaluated, evaluate};
use headstart::hard::{Bounds, hard_images};
use headstart::job::open_with;
use headstart::model::Model;
use headstart::report;
use headstart::source::is_file;
use headstart::{Device, Error};

use super::{device, hub, open_model};
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
    let list = data.parts(split.into())?;
    let mut progress = Progress::new(0);
    let mut show =
        |name: &str, done, total| progress.images(&format!("evaluating, {name}"), done, total);
    let evaluated = evaluate(&model, &data, &list, &device, args.batch_size, &mut show)?;
    let Some(Evaluated { mut report, probabilities: p, labels }) = evaluated else {
        return Err(Failure::Interrupted("nothing was written".into()));
    };
    if (args.bootstrap, args.bootstrap_seed) != (bootstrap::RESAMPLES, bootstrap::SEED) {
        let (classes, resamples, seed) =
            (report.classes.len(), args.bootstrap, args.bootstrap_seed);
        report.confidence_intervals = intervals(classes, &p, &labels, resamples, seed);
    }
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        report::write(folder, &report)?;
        report::draw(folder, &Default::default(), Some(&report))?;
    }
    if let Some(path) = &args.gallery {
        let bounds = Bounds { worst: args.gallery_size, pairs: 8, of_pair: 6, unsure: 0 };
        let hard = hard_images(&model, &device, &list, &report, &p, &labels, &bounds)?;
        let page = report::gallery(&model.card.architecture, &report, &hard)?;
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

/// Fits a temperature on the validation images.
fn calibrate(
    args: &Evaluate,
    model: &mut Model,
    data: &Dataset,
    device: &Device,
) -> Result<(), Failure> {
    let (path, batch) = (Path::new(&args.model), args.batch_size);
    let mut progress = Progress::new(0);
    let mut show =
        |name: &str, done, total| progress.images(&format!("calibrating, {name}"), done, total);
    let fitted = evaluate::calibrate(model, path, data, device, batch, &mut show)?;
    let Some(temperature) = fitted else {
        return Err(Failure::Interrupted("the model file was not changed".into()));
    };
    eprintln!(
        "temperature {temperature:.4}, fitted on {} validation images, is stored in {}; probabilities are calibrated with it",
        data.validation.as_ref().map_or(0, Subset::len),
        args.model
    );
    Ok(())
}
