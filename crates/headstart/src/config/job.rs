//! What settings stand for: the update rule, the schedule, the phases.

use super::{HeadSolver, OptimizerName, ScheduleName, TrainConfig};
use crate::monitor::EarlyStopping;
use crate::optimizer::{Rule, WeightDecay};
use crate::resnet::FreezePoint;
use crate::schedule::{Decay, ReduceOnPlateau, Schedule};
use crate::trainer::{Phase, Solver};

impl TrainConfig {
    /// The update rule.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            OptimizerName::Rmsprop => Rule::RmsProp { rho: self.rho, epsilon: 1e-7 },
            OptimizerName::Sgd => Rule::Sgd { momentum: self.momentum, nesterov: self.nesterov },
            OptimizerName::Adam | OptimizerName::AdamW => {
                let TrainConfig { beta_1, beta_2, .. } = *self;
                Rule::Adam { beta_1, beta_2, epsilon: 1e-7 }
            }
        }
    }

    /// How weights shrink.
    pub fn weight_decay(&self) -> WeightDecay {
        let own = if self.optimizer == OptimizerName::AdamW { 0.004 } else { 0.0 };
        WeightDecay { rate: self.weight_decay.unwrap_or(own), of: self.decay_of }
    }

    /// How the step size changes over each phase.
    pub fn schedule(&self) -> Schedule {
        let TrainConfig { warmup_epochs, schedule_alpha: alpha, schedule_factor: factor, .. } =
            *self;
        let decay = match self.schedule {
            ScheduleName::Constant => Decay::Constant,
            ScheduleName::Cosine => Decay::Cosine { alpha },
            ScheduleName::OneCycle => Decay::OneCycle,
            ScheduleName::Step => Decay::Step { epochs: self.step_epochs, factor },
            ScheduleName::Plateau => {
                let (patience, min_lr) = (self.plateau_patience, self.min_learning_rate);
                let min_delta = self.min_delta.unwrap_or(ReduceOnPlateau::default().min_delta);
                Decay::Plateau(ReduceOnPlateau { factor, patience, min_delta, min_lr })
            }
        };
        Schedule { decay, warmup_epochs }
    }

    /// When a phase ends early.
    pub fn early_stopping(&self) -> Option<EarlyStopping> {
        let (monitor, min_delta) = (self.monitor, self.min_delta.unwrap_or(0.0));
        self.patience.map(|patience| EarlyStopping { monitor, patience, min_delta })
    }

    /// Whether everything trains from random numbers, in one phase: there are no weights, and no
    /// layer is named from which on to fine-tune.
    pub fn from_scratch(&self) -> bool {
        self.weights == "none" && self.fine_tune_at.is_none()
    }

    /// The phases that have epochs, in order; `from` is the layer that `fine_tune_at` names.
    pub fn phases(&self, from: Option<FreezePoint>) -> Vec<Phase> {
        let (epochs, rate) = (self.epochs, self.learning_rate);
        let first = match (self.from_scratch(), self.head_solver) {
            (true, _) => Phase::full(epochs, rate),
            (false, HeadSolver::Gradient) => Phase::head(epochs, rate),
            (false, HeadSolver::Lbfgs) if epochs == 0 => Phase::head(0, rate),
            (false, HeadSolver::Lbfgs) => Phase::solved_head(Solver { l2: self.head_l2 }),
        };
        let second = from.map(|from| {
            Phase::fine_tune(from, self.fine_tune_epochs, self.fine_tune_learning_rate)
        });
        let phases = std::iter::once(first).chain(second).filter(|p| p.epochs > 0);
        phases.map(|p| p.with_schedule(self.schedule())).collect()
    }
}
