//! The parts of a job: what trains, for how long, in which steps.

use crate::measure::epoch::PhaseName;
use crate::net::resnet::FreezePoint;
use crate::train::schedule::Schedule;

/// One part of the job.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What records call it.
    pub name: PhaseName,
    /// The first layer of the net that trains; none for the head alone.
    pub from: Option<FreezePoint>,
    /// Epochs.
    pub epochs: usize,
    /// The largest step size.
    pub learning_rate: f32,
    /// How the step size changes over the phase.
    pub schedule: Schedule,
    /// Solves the head to its optimum in one epoch, in place of steps along the gradient.
    pub solver: Option<Solver>,
}

/// Solves the head to its optimum, as [`crate::engine::logistic::solve`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Solver {
    /// Weight of the squared kernel. None for the one, of powers of ten, with the least loss on the validation images;
    /// without those, half of one over the number of training images, as scikit-learn's `C = 1`.
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

    /// Solves the head over the frozen net. It counts as one epoch.
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

    /// The same with a step size that changes.
    pub fn with_schedule(self, schedule: Schedule) -> Phase {
        Phase { schedule, ..self }
    }
}
