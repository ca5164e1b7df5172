//! From flags and --config to settings.

use std::path::Path;

use headstart::Error;
use headstart::augment::Augmentation;
use headstart::class_weight::ClassWeight;
use headstart::config::{HeadSolver, TrainConfig};
use headstart::monitor::Monitor;

use crate::args::{BatchSize, Train};
use crate::commands::unused;
use crate::failure::Failure;
use crate::output::note;

/// The settings of --config, or the defaults.
pub fn base(args: &Train) -> Result<TrainConfig, Failure> {
    let (data, model) = (args.data.as_deref(), args.model.as_deref());
    match &args.config {
        Some(path) => Ok(TrainConfig::read_for(path, data, model)?),
        None => Ok(TrainConfig::defaults(data, model)),
    }
}

/// The flags that were given, over `c`.
pub fn settings(args: &Train, mut c: TrainConfig) -> Result<TrainConfig, Failure> {
    /// Takes over the flags that were given.
    macro_rules! take {
        ($($field:ident),*) => { $(if let Some(value) = args.$field.clone() { c.$field = value.into(); })* };
    }
    take!(
        data,
        model,
        weights,
        epochs,
        fine_tune_epochs,
        unfreeze,
        accumulate,
        replicas,
        optimizer,
        momentum,
        rho,
        beta_1,
        beta_2,
        decay_of,
        schedule,
        warmup_epochs,
        schedule_alpha,
        schedule_factor,
        plateau_patience,
        min_learning_rate,
        monitor,
        best_within,
        dropout,
        label_smoothing,
        learning_rate,
        fine_tune_learning_rate,
        preprocess,
        head_init,
        head_solver,
        validation_split,
        test_split,
        seed,
        precision,
        device,
        threads
    );
    macro_rules! take_some {
        ($($field:ident),*) => { $(if let Some(value) = args.$field.clone() { c.$field = Some(value.into()); })* };
    }
    take_some!(
        fine_tune_at,
        scale_learning_rate,
        head_l2,
        head_images,
        layer_decay,
        clip_norm,
        clip_value,
        weight_decay,
        step_epochs,
        patience,
        max_time,
        min_delta,
        ema,
        mixup,
        cutmix,
        train_size,
        limit,
        cache_memory,
        interpolation
    );
    if let Some(size) = args.batch_size {
        c.batch_size = match size {
            BatchSize::Images(size) => size,
            // Until the memory is known; the run finds it.
            BatchSize::ThatFits => c.batch_size.max(c.replicas).max(2),
        };
    }
    args.fits.over(&mut c);
    sizes_and_layers(args, &mut c);
    if let Some(text) = &args.class_weight {
        let weight = match Path::new(text).is_file() {
            true => ClassWeight::read(text)?,
            false => text.parse().map_err(Failure::Usage)?,
        };
        c.class_weight = Some(weight);
    }
    if !args.augment.is_empty() {
        c.augment = args.augment.iter().flat_map(|list| list.0.clone()).collect();
    }
    switches(args, &mut c);
    if args.recipe.is_some() {
        without_its_reason(args, &mut c);
    }
    check_fine_tuning(args, &c)?;
    unused::check(&c, &of_steps(args))?;
    if args.epochs.is_some_and(|epochs| epochs > 1) && c.only_fits_the_head() {
        note!("warning: --epochs is not used: L-BFGS fits the head to its optimum, in one epoch");
    }
    Ok(c)
}

/// Takes back what a recipe chose for the sake of another setting that a flag has changed.
fn without_its_reason(args: &Train, c: &mut TrainConfig) {
    if c.head_solver != HeadSolver::Lbfgs && !args.refit {
        c.refit = false;
    }
    // It is the standard error of an accuracy.
    if c.monitor == Monitor::Loss && args.best_within.is_none() {
        c.best_within = 0.0;
    }
    let crops = c.augment.iter().any(|change| matches!(change, Augmentation::ResizedCrop { .. }));
    if !crops && args.train_size.is_none() {
        c.train_size = None;
    }
}

/// Flags of gradient steps, and whether they are given.
fn of_steps(args: &Train) -> Vec<(&'static str, bool)> {
    let mut flags = vec![
        ("--fine-tune-learning-rate", args.fine_tune_learning_rate.is_some()),
        ("--nesterov", args.nesterov),
        ("--no-shuffle", args.no_shuffle),
    ];
    macro_rules! given {
        ($($name:literal: $field:ident),*) => { $(flags.push(($name, args.$field.is_some()));)* };
    }
    given!(
        "--learning-rate": learning_rate,
        "--optimizer": optimizer,
        "--rho": rho,
        "--momentum": momentum,
        "--beta-1": beta_1,
        "--beta-2": beta_2,
        "--weight-decay": weight_decay,
        "--decay-of": decay_of,
        "--schedule": schedule,
        "--warmup-epochs": warmup_epochs,
        "--schedule-alpha": schedule_alpha,
        "--schedule-factor": schedule_factor,
        "--step-epochs": step_epochs,
        "--plateau-patience": plateau_patience,
        "--min-learning-rate": min_learning_rate,
        "--patience": patience,
        "--min-delta": min_delta,
        "--ema": ema,
        "--accumulate": accumulate,
        "--replicas": replicas,
        "--scale-learning-rate": scale_learning_rate,
        "--layer-decay": layer_decay,
        "--clip-norm": clip_norm,
        "--clip-value": clip_value,
        "--mixup": mixup,
        "--cutmix": cutmix,
        "--train-size": train_size,
        "--dropout": dropout,
        "--label-smoothing": label_smoothing
    );
    flags.push(("--augment", !args.augment.is_empty()));
    flags
}

/// Settings that are on or off, and how images are split.
fn switches(args: &Train, c: &mut TrainConfig) {
    c.stratify = args.split.by_class().unwrap_or(c.stratify);
    c.group = args.split.group.clone().or(c.group.take());
    c.freeze_bn |= args.freeze_bn;
    c.balance |= args.balance;
    c.nesterov |= args.nesterov;
    c.tensorboard |= args.tensorboard;
    c.shuffle &= !args.no_shuffle;
    c.calibrate &= !args.no_calibrate;
    c.refit |= args.refit;
    c.head_mirror |= args.head_mirror;
    c.head_crops |= args.head_crops;
}

/// Settings that exclude each other, of which a flag replaces the other kind too.
fn sizes_and_layers(args: &Train, c: &mut TrainConfig) {
    if let Some(factor) = args.upsample {
        (c.upsample, c.image_size) = (Some(factor), None);
        // The interpolation of the default data is not for upsampling.
        if args.config.is_none() && args.interpolation.is_none() {
            c.interpolation = None;
        }
    }
    if let Some(size) = args.image_size {
        (c.upsample, c.image_size) = (None, Some(size));
    }
    let random = args.weights.as_deref() == Some("none");
    if random && args.config.is_none() && args.fine_tune_at.is_none() {
        c.fine_tune_at = None;
    }
    if !c.unfreeze.is_empty() && args.unfreeze.is_some() {
        c.fine_tune_at = None;
    }
}

/// Fails for flags of fine-tuning without a layer to begin at.
fn check_fine_tuning(args: &Train, c: &TrainConfig) -> Result<(), Failure> {
    if c.fine_tune_at.is_some() {
        return Ok(());
    }
    let epochs = args.fine_tune_epochs.is_some_and(|n| n > 0);
    let rate = args.fine_tune_learning_rate.is_some() && c.unfreeze.is_empty();
    for (flag, given) in [("--fine-tune-epochs", epochs), ("--fine-tune-learning-rate", rate)] {
        if given {
            let expected = "--fine-tune-at with it";
            let error = Error::invalid(flag, expected, "no layer to fine-tune from", "");
            return Err(Failure::Usage(error));
        }
    }
    Ok(())
}
