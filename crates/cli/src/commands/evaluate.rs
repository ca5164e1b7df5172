//! `headstart evaluate`.

use headstart::Error;
use headstart::dataset::{self, DataOptions};
use headstart::inference::probabilities;
use headstart::job::labels_for;
use headstart::metrics::Report;

use super::{compute, hub, open_model, parts};
use crate::args::{Evaluate, Split};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Classifies labelled images and reports.
pub fn run(args: &Evaluate) -> Result<(), Failure> {
    if args.batch_size == 0 {
        return Err(Failure::Usage(Error::invalid("--batch-size", "at least 1", "0", "")));
    }
    let compute = compute(args.threads, args.precision.into())?;
    let model = open_model(&args.model, args.weights.as_deref())?;
    let holds_out = matches!(args.split, Split::Validation | Split::Train);
    let options = DataOptions {
        validation_split: if holds_out { args.validation_split } else { 0.0 },
        test_split: args.test_split,
        seed: args.seed,
        threads: args.threads,
        ..DataOptions::default()
    };
    let data = dataset::open(hub::fetch_data(&args.data)?, &options)?;
    for skipped in &data.skipped {
        eprintln!("skipped {}: {}", skipped.name, skipped.reason);
    }
    interrupt::watch();
    let mut progress = Progress::new(0);
    let list = parts(&data, args.split)?;
    let name = if list.len() == 1 { list[0].0 } else { "all" };
    let (mut p, mut labels) = (Vec::new(), Vec::new());
    for (split, subset) in list {
        labels.extend(labels_for(&model, &data, subset)?);
        let total = subset.len();
        let mut show = |done| progress.images(&format!("evaluating, {split}"), done, total);
        match probabilities(&model, subset, &compute, args.batch_size, &mut show)? {
            Some(some) => p.extend(some),
            None => return Err(Failure::Interrupted("nothing was written".into())),
        }
    }
    let report = Report::new(name, &model.card.classes, &p, &labels);
    if !report.loss.is_finite() {
        let found = report.loss.to_string();
        let hint = "the weights are damaged or training diverged";
        return Err(Error::invalid("loss", "a finite number", found, hint).into());
    }
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&report)?;
    }
    Ok(())
}
