//! The learning rate range test from settings, over the phase that they would train.

use crate::control::Control;
use crate::error::{Error, Result};
use crate::measure::epoch::PhaseName;
use crate::net::resnet::{FreezePoint, Net};
use crate::session::config::{HeadSolver, TrainConfig};
use crate::session::job::{self, build_model_with, open_data_with};
use crate::session::run::{DiskCache, Event, Listen, Teller};
use crate::study::bench::Part;
use crate::train::lr_find::{LrCurve, LrFind};
use crate::train::trainer::{Outcome, Phase, Solver, Trainer};

/// Least number of steps for a suggestion.
const LEAST: usize = 3;

/// Result of a range test.
#[derive(Clone, Debug, PartialEq)]
pub struct Tested {
    /// The phase that was tried.
    pub phase: PhaseName,
    /// The setting that a suggestion is for: "learning-rate" or "fine-tune-learning-rate".
    pub setting: &'static str,
    /// The losses.
    pub curve: LrCurve,
}

/// `config` for a test of one phase, whatever phases it lists: fine-tuning from a layer, or the head by gradient
/// steps.
pub fn of_one_phase(config: TrainConfig, fine_tune_at: Option<String>) -> TrainConfig {
    let config = TrainConfig { unfreeze: Vec::new(), fine_tune_at, ..config };
    match config.fine_tune_at {
        Some(_) => config,
        None => TrainConfig { head_solver: HeadSolver::Gradient, head_l2: None, ..config },
    }
}

/// Fails for impossible settings, before anything is read.
///
/// # Errors
/// In that case.
pub fn check(config: &TrainConfig, range: &LrFind) -> Result<()> {
    job::check(config)?;
    range.check()?;
    freeze_point(config, &job::bare_net(config)?).map(drop)
}

/// The first layer that trains, if any of the net does.
fn freeze_point(config: &TrainConfig, net: &Net) -> Result<Option<FreezePoint>> {
    config.fine_tune_at.as_deref().map(|at| net.freeze_point(at)).transpose()
}

/// Tries learning rates over the head's phase, or over fine-tuning from the layer that `config` names, with the head fitted with L-BFGS
/// before; `None` if `listen` stopped it.
///
/// # Errors
/// As [`check`]; if data or weights cannot be downloaded or read, the loss diverges at once, or as [`Trainer::fit`].
pub fn range_test(
    config: &TrainConfig,
    range: &LrFind,
    listen: &mut Listen<'_>,
) -> Result<Option<Tested>> {
    check(config, range)?;
    let teller = &mut Teller::new(listen);
    let device = job::device(config.threads, config.precision, config.device)?;
    let data = open_data_with(config, &mut teller.download())?;
    if teller.tell(&Event::Data(&data)) == Control::Stop {
        return Ok(None);
    }
    let (mut model, _) = build_model_with(config, &data, &mut teller.download())?;
    let first = freeze_point(config, &model.net)?;
    let work = (first.map_or(Part::Forward, Part::FineTune), config.batch_size);
    let (device, _) = job::settle(device, config.device, config.precision, &model, work)?;
    let cache = DiskCache::default().with_memory(config.cache_bytes());
    let mut trainer = Trainer::new(&mut model, &data, device, config.settings(cache, None))?;
    let phase = match first {
        None if config.from_scratch() => Phase::full(1, 1.0),
        None => Phase::head(1, 1.0),
        Some(from) => {
            let solved = Phase::solved_head(Solver { l2: config.head_l2 });
            let begins = from > FreezePoint(0) || config.weights != "none";
            if begins && trainer.fit(&solved, &mut teller.training())? == Outcome::Stopped {
                return Ok(None);
            }
            Phase::fine_tune(from, 1, 1.0)
        }
    };
    let Some(curve) = trainer.lr_find(&phase, range, &mut teller.training())? else {
        return Ok(None);
    };
    if curve.points.len() < LEAST {
        let found = format!("{} before the loss diverged", curve.points.len());
        let (expected, hint) = (format!("at least {LEAST} steps"), "lower --start");
        return Err(Error::invalid("range test", expected, found, hint));
    }
    let setting = if first.is_some() { "fine-tune-learning-rate" } else { "learning-rate" };
    Ok(Some(Tested { phase: phase.name, setting, curve }))
}
