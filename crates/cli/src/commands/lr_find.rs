//! `headstart lr-find`.

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::cache::{CacheSettings, DISK};
use headstart::config::TrainConfig;
use headstart::hub::sources;
use headstart::job::{build_model, open_data};
use headstart::lr_find::{LrCurve, LrFind};
use headstart::report::lr_curve;
use headstart::resnet::FreezePoint;
use headstart::trainer::{Outcome, Phase, Solver, Trainer};
use serde::Serialize;

use super::{cache, compute, hub, train};
use crate::args;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};

/// What `--json` prints.
#[derive(Serialize)]
struct Found<'a> {
    phase: String,
    suggestion: Option<f32>,
    steepest: Option<f32>,
    picture: String,
    #[serde(flatten)]
    curve: &'a LrCurve,
}

/// Runs the test, draws it and says what follows.
pub fn run(args: &args::LrFind) -> Result<(), Failure> {
    let config = settings(args)?;
    config.check().map_err(Failure::Usage)?;
    let range = LrFind { start: args.start, end: args.end, steps: args.steps };
    range.check().map_err(Failure::Usage)?;
    let compute = compute(config.threads, config.precision)?;
    if sources::is_variant(&config.weights) {
        hub::published(&config.model, &config.weights, false)?;
    }
    hub::fetch_data(&config.data)?;
    let data = open_data(&config)?;
    eprintln!("{}", data.describe());
    hub::fetch_weights(&config)?;
    let (mut model, _) = build_model(&config, &data)?;
    let first = config.fine_tune_at.as_deref().map(|at| model.net.freeze_point(at));
    let first = first.transpose().map_err(Failure::Usage)?;
    let settings = CacheSettings {
        memory: config.cache_bytes(),
        folder: Some(cache::root(None)?),
        disk: DISK,
    };
    let settings = train::training(&config, settings, None);
    let mut trainer = Trainer::new(&mut model, &data, compute, settings)?;
    let mut progress = Progress::new(1);
    interrupt::watch();
    let phase = match first {
        None if config.from_scratch() => Phase::full(1, 1.0),
        None => Phase::head(1, 1.0),
        Some(from) => {
            let solved = Phase::solved_head(Solver { l2: config.head_l2 });
            let begins = from > FreezePoint(0) || config.weights != "none";
            if begins && trainer.fit(&solved, &mut |e| progress.show(e))? == Outcome::Stopped {
                return Err(stopped());
            }
            Phase::fine_tune(from, 1, 1.0)
        }
    };
    let curve = trainer.lr_find(&phase, &range, &mut |event| progress.show(event))?;
    progress.clear();
    let curve = curve.ok_or_else(stopped)?;
    if curve.points.len() < 3 {
        let found = format!("{} before it ran away", curve.points.len());
        let hint = "lower --start";
        return Err(Error::invalid("range test", "at least 3 steps", found, hint).into());
    }
    write_bytes(&args.out, &lr_curve(&curve)?.png)?;
    let (suggestion, steepest) = (curve.suggestion(), curve.steepest());
    let picture = args.out.display().to_string();
    if args.json {
        let phase = phase.name.name();
        output::json(&Found { phase, suggestion, steepest, picture, curve: &curve })?;
        return Ok(());
    }
    let flag = if first.is_some() { "--fine-tune-learning-rate" } else { "--learning-rate" };
    match suggestion {
        Some(rate) => output::line(format!("suggestion: {flag} {rate:.1e}"))?,
        None => output::line("no suggestion: the loss never falls")?,
    }
    if let Some(rate) = steepest {
        output::line(format!("the loss falls fastest at {rate:.1e}"))?;
    }
    output::line(format!("picture: {picture}"))?;
    Ok(())
}

fn stopped() -> Failure {
    Failure::Interrupted("nothing was measured".into())
}

/// The flags that were given, over those of --config or the defaults.
fn settings(args: &args::LrFind) -> Result<TrainConfig, Failure> {
    let (data, model) = (args.data.as_deref(), args.model.as_deref());
    let mut c = match &args.config {
        Some(path) => TrainConfig::read_for(path, data, model)?,
        None => TrainConfig { fine_tune_at: None, ..TrainConfig::defaults(data, model) },
    };
    // The test is of one phase, whatever phases a file lists.
    c.unfreeze.clear();
    c.fine_tune_at.clone_from(&args.fine_tune_at);
    macro_rules! take {
        ($($field:ident),*) => { $(if let Some(value) = args.$field.clone() { c.$field = value.into(); })* };
    }
    take!(data, model, weights, batch_size, optimizer, seed, precision, threads);
    if args.image_size.is_some() {
        (c.upsample, c.image_size) = (None, args.image_size);
    }
    c.interpolation = args.interpolation.map(Into::into).or(c.interpolation);
    c.limit = args.limit.or(c.limit);
    if args.fine_tune_at.is_none() {
        c.head_solver = headstart::config::HeadSolver::Gradient;
        c.head_l2 = None;
    }
    Ok(c)
}
