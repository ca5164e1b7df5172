//! The parts of a job: what trains, for how long, in which steps.

use crate::history::PhaseName;
use crate::resnet::FreezePoint;
use crate::schedule::Schedule;

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
}

impl Phase {
    /// Trains the head over the frozen net.
    pub fn head(epochs: usize, learning_rate: f32) -> Phase {
        let (name, schedule) = (PhaseName::Head, Schedule::CONSTANT);
        Phase { name, from: None, epochs, learning_rate, schedule }
    }

    /// Trains the head and the net from a layer on.
    pub fn fine_tune(from: FreezePoint, epochs: usize, learning_rate: f32) -> Phase {
        let (name, schedule) = (PhaseName::FineTune, Schedule::CONSTANT);
        Phase { name, from: Some(from), epochs, learning_rate, schedule }
    }

    /// Trains everything, for nets without weights.
    pub fn full(epochs: usize, learning_rate: f32) -> Phase {
        let (name, schedule) = (PhaseName::Full, Schedule::CONSTANT);
        Phase { name, from: Some(FreezePoint(0)), epochs, learning_rate, schedule }
    }

    /// The same with a step size that changes.
    pub fn with_schedule(self, schedule: Schedule) -> Phase {
        Phase { schedule, ..self }
    }
}
