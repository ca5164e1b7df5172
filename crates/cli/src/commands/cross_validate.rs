//! `headstart cross-validate`.

use headstart::config::{HeadSolver, TrainConfig};
use headstart::cross_validate::{self, CrossValidated, FoldOptions};
use headstart::export::check_out_of_fold_ending;
use headstart::run::{DiskCache, Event};
use headstart::{Error, events};

use super::{cache, check_output, unused};
use crate::args;
use crate::failure::Failure;
use crate::output::note;
use crate::show::Show;
use crate::{interrupt, output};

/// Cross-validates and prints a row for each fold.
pub fn run(args: &args::CrossValidate) -> Result<(), Failure> {
    let config = settings(args)?;
    if let Some(path) = &args.output {
        check_out_of_fold_ending(path).map_err(Failure::Usage)?;
        check_output(Some(path), [&*config.data, &*config.weights])?;
    }
    let folder = cache::folder(args.cache.no_cache, args.cache.cache_dir.as_ref());
    let cache = DiskCache { folder, ..DiskCache::default() };
    let runs = args.out.clone();
    let usual = FoldOptions { or_fewer: true, cache, runs, ..FoldOptions::default() };
    let options = match args.folds {
        Some(folds) => FoldOptions { folds, or_fewer: false, ..usual },
        None => usual,
    };
    cross_validate::check(&config, &options).map_err(Failure::Usage)?;
    let mut show = if args.out.is_some() { Show::new() } else { Show::without_folders() };
    let result = cross_validate::cross_validate(&config, &options, &mut |event| {
        match event {
            // Each of a fold's penalties would be a line.
            Event::Training(events::Event::Solved { .. }) => return interrupt::control(),
            Event::Model { .. } => interrupt::watch(),
            _ => {}
        }
        show.show(event)
    });
    show.clear();
    let stopped = || Failure::Interrupted("no fold counts before all are done".into());
    let result: CrossValidated = result?.ok_or_else(stopped)?;
    for warning in &result.warnings {
        note!("warning: {warning}");
    }
    if let Some(path) = &args.output {
        result.write(path)?;
        note!(
            "out-of-fold predictions: {}, a row for each of {} images",
            path.display(),
            result.images
        );
    }
    if args.json {
        output::json(&result)?;
    } else {
        output::line(&result)?;
    }
    Ok(())
}

/// The flags that were given, over those of --config or the defaults.
fn settings(args: &args::CrossValidate) -> Result<TrainConfig, Failure> {
    let (data, model) = (args.data.as_deref(), args.model.as_deref());
    let mut c = match &args.config {
        Some(path) => TrainConfig::read_for(path, data, model)?,
        None => {
            let usual = TrainConfig::defaults(data, model);
            TrainConfig { fine_tune_at: None, head_solver: HeadSolver::Lbfgs, ..usual }
        }
    };
    macro_rules! take {
        ($($field:ident),*) => { $(if let Some(value) = args.$field.clone() { c.$field = value.into(); })* };
    }
    take!(data, model, weights, seed, validation_split, fine_tune_epochs, fine_tune_learning_rate);
    take!(learning_rate, optimizer, batch_size, precision, device, threads);
    if let Some(epochs) = args.epochs {
        (c.epochs, c.head_solver) = (epochs, HeadSolver::Gradient);
    }
    if args.fine_tune_at.is_some() {
        (c.fine_tune_at, c.unfreeze) = (args.fine_tune_at.clone(), Vec::new());
    }
    if args.image_size.is_some() {
        (c.upsample, c.image_size) = (None, args.image_size);
    }
    c.interpolation = args.interpolation.map(Into::into).or(c.interpolation);
    args.fits.over(&mut c);
    c.limit = args.limit.or(c.limit);
    c.head_l2 = args.head_l2.or(c.head_l2);
    c.group = args.split.group.clone().or(c.group);
    // As scikit-learn does it for classifiers, whatever a run's own split was.
    c.stratify = args.split.by_class().unwrap_or(true);
    let of_steps = [
        ("--optimizer", args.optimizer.is_some()),
        ("--batch-size", args.batch_size.is_some()),
        ("--learning-rate", args.learning_rate.is_some()),
        ("--fine-tune-learning-rate", args.fine_tune_learning_rate.is_some()),
    ];
    unused::check(&c, &of_steps)?;
    if args.out.is_some() && c.only_fits_the_head() {
        let expected = "--fine-tune-at or --epochs with it";
        let found = "a head that is fitted on cached features, which is no run";
        return Err(Failure::Usage(Error::invalid("--out", expected, found, "leave it out")));
    }
    Ok(c)
}
