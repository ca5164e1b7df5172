//! From settings to the optimizer, the schedule and the phases.

use std::time::Duration;

use super::unfreeze::HEAD;
use super::{HeadSolver, OptimizerName, Precision, ScheduleName, TrainConfig};
use crate::data::augment::Mixing;
use crate::data::image::Views;
use crate::engine::optimizer::{Rule, WeightDecay};
use crate::error::{Error, Result};
use crate::measure::epoch::PhaseName;
use crate::measure::monitor::{BestBy, EarlyStopping};
use crate::net::graph::Op;
use crate::net::model::Model;
use crate::net::resnet::Net;
use crate::range;
use crate::train::cache::CacheSettings;
use crate::train::schedule::{Decay, ReduceOnPlateau, Schedule};
use crate::train::trainer::{Phase, Settings, Solver, default_cache_memory};

impl TrainConfig {
    /// The optimizer.
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

    /// The weight decay.
    pub fn weight_decay(&self) -> WeightDecay {
        let own = if self.optimizer == OptimizerName::AdamW { 0.004 } else { 0.0 };
        WeightDecay { rate: self.weight_decay.unwrap_or(own), of: self.decay_of }
    }

    /// How the learning rate changes over each phase.
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

    /// What the learning rates are multiplied by: the images of an update over those that they are meant for.
    pub fn rate_factor(&self) -> f32 {
        let images = self.batch_size as f64 * self.accumulate as f64;
        self.scale_learning_rate.map_or(1.0, |meant| (images / meant.max(1) as f64) as f32)
    }

    /// The schedule of a phase of so many epochs. Learning rates that were raised begin with a warm-up of five epochs, or a quarter
    /// of a short phase, unless another is set.
    fn schedule_over(&self, epochs: usize) -> Schedule {
        let schedule = self.schedule();
        let own = self.warmup_epochs > 0.0 || self.schedule == ScheduleName::OneCycle;
        match self.rate_factor() > 1.0 && !own {
            true => Schedule { warmup_epochs: (epochs as f32 / 4.0).min(5.0), ..schedule },
            false => schedule,
        }
    }

    /// When a phase ends early.
    pub fn early_stopping(&self) -> Option<EarlyStopping> {
        let (monitor, min_delta) = (self.monitor, self.min_delta.unwrap_or(0.0));
        self.patience.map(|patience| EarlyStopping { monitor, patience, min_delta })
    }

    /// Bytes of memory for cached features of the frozen layers.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_memory.map_or_else(default_cache_memory, range::bytes)
    }

    /// The trainer's settings.
    pub fn settings(&self, cache: CacheSettings, save_every: Option<Duration>) -> Settings {
        Settings {
            batch_size: self.batch_size,
            accumulate: self.accumulate,
            replicas: self.replicas,
            rule: self.rule(),
            weight_decay: self.weight_decay(),
            layer_decay: self.layer_decay,
            class_weight: self.class_weight.clone(),
            label_smoothing: self.label_smoothing,
            clip_norm: self.clip_norm,
            clip_value: self.clip_value,
            balance: self.balance,
            dropout: self.dropout,
            freeze_bn: self.freeze_bn,
            head_views: Views::of(self.head_mirror, self.head_crops),
            head_images: self.head_images,
            best_by: self.best_by(),
            early_stopping: self.early_stopping(),
            ema: self.ema,
            augment: self.augment.clone(),
            train_size: self.train_size,
            mixing: Mixing { mixup: self.mixup, cutmix: self.cutmix },
            shuffle: self.shuffle,
            seed: self.seed,
            cache,
            max_time: self.max_time.map(|time| time.0),
            save_every,
        }
    }

    /// How the epoch is chosen whose weights are shipped. Under early stopping, which goes back to a phase's best epoch, that
    /// is the best itself.
    pub fn best_by(&self) -> BestBy {
        let within = if self.patience.is_some() { 0.0 } else { self.best_within };
        BestBy { monitor: self.monitor, within }
    }

    /// Whether everything trains from a random initialisation, in one phase: there are no weights, and no
    /// layer to fine-tune from is named.
    pub fn from_scratch(&self) -> bool {
        self.weights == "none" && self.fine_tune_at.is_none() && self.unfreeze.is_empty()
    }

    /// Whether L-BFGS fits the head, and no phase has gradient steps.
    pub fn only_fits_the_head(&self) -> bool {
        self.head_solver == HeadSolver::Lbfgs
            && !self.from_scratch()
            && self.parts().iter().all(|part| part.0.is_none())
    }

    /// Epochs and largest learning rate of the phases that have epochs, with the name of the first layer that
    /// trains; none for the head only, or for everything [from scratch](Self::from_scratch).
    pub(super) fn parts(&self) -> Vec<(Option<&str>, usize, f32)> {
        let rate = |at: Option<&str>| match at {
            None => self.learning_rate,
            Some(_) => self.fine_tune_learning_rate,
        };
        let listed = self.unfreeze.iter().map(|u| {
            let at = Some(u.at.as_str()).filter(|&at| at != HEAD);
            (at, u.epochs, rate(at))
        });
        let second = self.fine_tune_at.as_deref();
        let second = second.map(|at| (Some(at), self.fine_tune_epochs, rate(Some(at))));
        let usual = [Some((None, self.epochs, rate(None))), second];
        let usual = usual.into_iter().flatten().filter(|part| part.1 > 0);
        if self.unfreeze.is_empty() { usual.collect() } else { listed.collect() }
    }

    /// Epochs of all phases, unless one ends early.
    ///
    /// ```
    /// use headstart::config::{HeadSolver, TrainConfig};
    ///
    /// let both = TrainConfig { epochs: 3, fine_tune_epochs: 4, ..TrainConfig::sample() };
    /// assert_eq!(both.planned_epochs(), 7);
    /// let fitted = TrainConfig { head_solver: HeadSolver::Lbfgs, ..both };
    /// assert_eq!(fitted.planned_epochs(), 1 + 4);
    /// assert_eq!(TrainConfig { fine_tune_at: None, ..fitted }.planned_epochs(), 1);
    /// ```
    pub fn planned_epochs(&self) -> usize {
        let solved = self.head_solver == HeadSolver::Lbfgs && !self.from_scratch();
        let each = |&(at, epochs, _): &(Option<&str>, usize, f32)| match at {
            None if solved => 1,
            _ => epochs,
        };
        self.parts().iter().map(each).sum()
    }

    /// The phases that have epochs, in order, of this `net`.
    ///
    /// # Errors
    /// If a layer is named that the net does not have, or one that is not before those of the phase before.
    pub fn phases(&self, net: &Net) -> Result<Vec<Phase>> {
        let mut phases: Vec<Phase> = Vec::new();
        let factor = self.rate_factor();
        for (at, epochs, rate) in self.parts() {
            let rate = rate * factor;
            let from = at.map(|at| net.freeze_point(at)).transpose()?;
            let phase = match from {
                None if self.from_scratch() => Phase::full(epochs, rate),
                None if self.head_solver == HeadSolver::Lbfgs => {
                    Phase::solved_head(Solver { l2: self.head_l2 })
                }
                None => Phase::head(epochs, rate),
                Some(from) => Phase::fine_tune(from, epochs, rate),
            };
            let tuned = phases.iter().filter(|p| p.from.is_some()).count();
            let name = if from.is_some() { PhaseName::fine_tune(tuned + 1) } else { phase.name };
            let last = phases.last().map(|last| last.from);
            if last
                .is_some_and(|last| from.is_none() || last.is_some_and(|last| from >= Some(last)))
            {
                let expected = "head first, then earlier and earlier layers";
                let found = format!("{} after a phase that trains it already", at.unwrap_or(HEAD));
                return Err(Error::invalid("unfreeze", expected, found, ""));
            }
            phases.push(Phase { name, ..phase.with_schedule(self.schedule_over(epochs)) });
        }
        Ok(phases)
    }
}

/// The arithmetic of the run that a model is from; none where its card names no run.
pub fn precision_of_run(model: &Model) -> Option<Precision> {
    let text = &model.card.trained.as_ref()?.settings;
    toml::from_str(text).ok().map(|config: TrainConfig| config.precision)
}

/// Which layers of a model were trained by the run that it is from, a flag for each node of its net; none where its card
/// names no run, or one of another net.
pub fn trained_layers(model: &Model) -> Option<Vec<bool>> {
    let text = &model.card.trained.as_ref()?.settings;
    let config: TrainConfig = toml::from_str(text).ok()?;
    let (net, phases) = (&model.net, config.phases(&model.net).ok()?);
    // Each phase trains what the one before does, and more.
    let mut trained = match phases.last()?.from {
        None => net.head_only(),
        Some(from) => net.trainable(from),
    };
    if config.freeze_bn {
        let nodes = net.graph.nodes.iter();
        let norms = nodes.map(|node| matches!(node.op, Op::BatchNorm { .. }));
        trained.iter_mut().zip(norms).for_each(|(trained, norm)| *trained &= !norm);
    }
    Some(trained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::job::bare_net;

    #[test]
    fn learning_rates_grow_with_the_batch_and_warm_up() {
        let plain = TrainConfig { epochs: 40, learning_rate: 1e-2, ..TrainConfig::default() };
        let phases = |config: &TrainConfig| {
            let phases = config.phases(&bare_net(config).unwrap()).unwrap();
            (phases[0].learning_rate, phases[0].schedule.warmup_epochs)
        };
        assert_eq!(phases(&plain), (1e-2, 0.0));
        let large = TrainConfig {
            batch_size: 128,
            accumulate: 4,
            scale_learning_rate: Some(256),
            ..plain.clone()
        };
        assert_eq!(phases(&large), (2e-2, 5.0));
        assert_eq!(phases(&TrainConfig { epochs: 8, ..large.clone() }), (2e-2, 2.0));
        assert_eq!(phases(&TrainConfig { warmup_epochs: 1.5, ..large.clone() }), (2e-2, 1.5));
        // Smaller batches take smaller steps, which need no warm-up.
        let small = TrainConfig { batch_size: 64, accumulate: 1, ..large };
        assert_eq!(phases(&small), (2.5e-3, 0.0));
    }
}
