//! The phases of a run: what trains, for how long, with which learning rates.

use crate::measure::epoch::PhaseName;
use crate::net::resnet::FreezePoint;
use crate::train::schedule::Schedule;

/// One phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name in records.
    pub name: PhaseName,
    /// The first layer of the net that trains; none for the head only.
    pub from: Option<FreezePoint>,
    /// Epochs.
    pub epochs: usize,
    /// The largest learning rate.
    pub learning_rate: f32,
    /// How the learning rate changes over the phase.
    pub schedule: Schedule,
    /// Fits the head with L-BFGS in one epoch, instead of gradient steps.
    pub solver: Option<Solver>,
}

/// Fits the head with L-BFGS, as [`crate::engine::logistic::solve`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Solver {
    /// L2 penalty. None for the one with the least loss by five-fold cross-validation over the training images, of powers of ten
    /// and their half steps (1, 0.3, 0.1, ...).
    pub l2: Option<f64>,
}

impl Phase {
    fn new(name: PhaseName, from: Option<FreezePoint>, epochs: usize, learning_rate: f32) -> Phase {
        Phase { name, from, epochs, learning_rate, schedule: Schedule::CONSTANT, solver: None }
    }

    /// Trains the head over the frozen net.
    pub fn head(epochs: usize, learning_rate: f32) -> Phase {
        Phase::new(PhaseName::Head, None, epochs, learning_rate)
    }

    /// Fits the head over the frozen net with L-BFGS. It counts as one epoch.
    pub fn solved_head(solver: Solver) -> Phase {
        Phase { solver: Some(solver), ..Phase::head(1, 1.0) }
    }

    /// Trains the head and the net from a layer on.
    pub fn fine_tune(from: FreezePoint, epochs: usize, learning_rate: f32) -> Phase {
        Phase::new(PhaseName::FineTune, Some(from), epochs, learning_rate)
    }

    /// Trains everything, for nets without weights.
    pub fn full(epochs: usize, learning_rate: f32) -> Phase {
        Phase::new(PhaseName::Full, Some(FreezePoint(0)), epochs, learning_rate)
    }

    /// The same with a learning rate that changes.
    pub fn with_schedule(self, schedule: Schedule) -> Phase {
        Phase { schedule, ..self }
    }
}
