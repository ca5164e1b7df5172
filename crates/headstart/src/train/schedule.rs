//! Learning rates over a phase: functions of the step (and, for a plateau, of the losses of the epochs before), so
//! that training can resume at any step. Every phase starts its schedule from the beginning, as a Keras model that
//! is compiled again does.
//!
//! ```
//! use headstart::schedule::{Decay, Schedule};
//!
//! // Half an epoch of warm-up, then times 0.1 after every second epoch; epochs of 100 steps.
//! let decay = Decay::Step { epochs: Some(2), factor: 0.1 };
//! let rates = Schedule { decay, warmup_epochs: 0.5 }.over(0.1, 6, 100)?;
//! for (step, rate) in [(0, 0.0), (25, 0.05), (50, 0.1), (200, 0.01)] {
//!     assert!((rates.at(step) - rate).abs() < 1e-7);
//! }
//! # Ok::<(), headstart::Error>(())
//! ```

use crate::error::{Error, Result};

/// How a phase's learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Schedule {
    /// How it changes after the warm-up.
    pub decay: Decay,
    /// Epochs, or a part of one, of the linear rise from 0; in a one-cycle schedule those of its rise, where 0 means 3
    /// tenths of the phase.
    pub warmup_epochs: f32,
}

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decay {
    /// It is constant.
    #[default]
    Constant,
    /// Falls in half a cosine to the phase's last step, as Keras's `CosineDecay`.
    Cosine {
        /// Where it ends, as a fraction of the phase's learning rate.
        alpha: f32,
    },
    /// Rises in half a cosine from a 25th, then falls to a 10,000th of that, as PyTorch's `OneCycleLR` (Smith and Topin
    /// 2017) with its defaults and `cycle_momentum=False`.
    OneCycle,
    /// Multiplied by `factor` after every given number of epochs, as PyTorch's `StepLR`.
    Step {
        /// Epochs between drops; none for a third of the phase, rounded up.
        epochs: Option<usize>,
        /// `gamma`: above 0, at most 1.
        factor: f32,
    },
    /// Multiplied by `factor` when the loss stops falling, as Keras's `ReduceLROnPlateau`.
    Plateau(ReduceOnPlateau),
}

/// Keras's `ReduceLROnPlateau`, without a cooldown. It watches the validation loss, or the training loss where nothing is
/// held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReduceOnPlateau {
    /// From above 0 to below 1.
    pub factor: f32,
    /// Epochs without improvement until the learning rate falls.
    pub patience: usize,
    /// By how much a loss must be below the lowest to count.
    pub min_delta: f64,
    /// Smallest learning rate.
    pub min_lr: f32,
}

impl Default for ReduceOnPlateau {
    /// Keras's.
    fn default() -> Self {
        ReduceOnPlateau { factor: 0.1, patience: 10, min_delta: 1e-4, min_lr: 0.0 }
    }
}

impl From<Decay> for Schedule {
    fn from(decay: Decay) -> Schedule {
        Schedule { decay, warmup_epochs: 0.0 }
    }
}

impl Schedule {
    /// A constant learning rate.
    pub const CONSTANT: Schedule = Schedule { decay: Decay::Constant, warmup_epochs: 0.0 };
    /// A cosine to 0 without warm-up.
    pub const COSINE: Schedule =
        Schedule { decay: Decay::Cosine { alpha: 0.0 }, warmup_epochs: 0.0 };

    /// The learning rates of a phase of `epochs` epochs of `steps` steps each, at most `learning_rate`.
    ///
    /// # Errors
    /// If a setting is out of range or the warm-up leaves no step after it.
    pub fn over(self, learning_rate: f32, epochs: usize, steps: usize) -> Result<Rates> {
        self.check(epochs)?;
        let warmup_steps = (f64::from(self.warmup_epochs) * steps as f64).round() as u64;
        let (total, warm) = ((epochs as u64).saturating_mul(steps as u64), warmup_steps > 0);
        let form = match self.decay {
            Decay::Constant => Form::Constant(learning_rate),
            Decay::Cosine { alpha } => {
                return Ok(Rates::from(CosineDecay {
                    initial_learning_rate: if warm { 0.0 } else { learning_rate },
                    decay_steps: total.saturating_sub(warmup_steps).max(1),
                    alpha,
                    warmup_target: warm.then_some(learning_rate),
                    warmup_steps,
                }));
            }
            Decay::OneCycle => {
                let up = if warm { warmup_steps as f64 } else { 0.3 * total as f64 };
                let form = Form::OneCycle { max_lr: learning_rate, up: up - 1.0, total };
                return Ok(Rates { warmup_steps: 0, form });
            }
            Decay::Step { epochs: every, factor } => {
                let every = every.unwrap_or(epochs.div_ceil(3)).max(1);
                let every = (every as u64).saturating_mul(steps as u64);
                Form::Step { learning_rate, factor, every: every.max(1) }
            }
            Decay::Plateau(rule) => {
                Form::Plateau(Plateau { rule, learning_rate, best: f64::INFINITY, wait: 0 })
            }
        };
        Ok(Rates { warmup_steps, form })
    }

    fn check(self, epochs: usize) -> Result<()> {
        let against = |what: &str, expected: &str, found: f32, hint: &str| {
            Err(Error::invalid(what, expected, found.to_string(), hint))
        };
        let warmup = self.warmup_epochs;
        if !(warmup >= 0.0 && warmup < epochs as f32) {
            let expected = format!("a number from 0 to below {epochs}, the epochs of the phase");
            return against("warm-up epochs", &expected, warmup, "lower --warmup-epochs");
        }
        match self.decay {
            Decay::Cosine { alpha } if !(0.0..=1.0).contains(&alpha) => {
                against("schedule alpha", "a fraction from 0 to 1", alpha, "")
            }
            Decay::Step { factor, .. } if !(factor > 0.0 && factor <= 1.0) => {
                against("schedule factor", "a number above 0, at most 1", factor, "")
            }
            Decay::Step { epochs: Some(0), .. } => against("step epochs", "1 or more", 0.0, ""),
            Decay::Plateau(ReduceOnPlateau { factor, .. }) if !(factor > 0.0 && factor < 1.0) => {
                against("schedule factor", "a number above 0 and below 1", factor, "")
            }
            Decay::Plateau(ReduceOnPlateau { min_lr, .. })
                if !(min_lr >= 0.0 && min_lr.is_finite()) =>
            {
                against("lowest learning rate", "0 or more", min_lr, "")
            }
            _ => Ok(()),
        }
    }
}

/// A phase's learning rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Steps of the linear rise, where the schedule has no rise of its own.
    warmup_steps: u64,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Constant(f32),
    Cosine(CosineDecay),
    /// `up` is the step at whose end the top is reached.
    OneCycle {
        max_lr: f32,
        up: f64,
        total: u64,
    },
    Step {
        learning_rate: f32,
        factor: f32,
        every: u64,
    },
    Plateau(Plateau),
}

impl From<CosineDecay> for Rates {
    fn from(cosine: CosineDecay) -> Rates {
        Rates { warmup_steps: 0, form: Form::Cosine(cosine) }
    }
}

impl Rates {
    /// The same at every step.
    pub fn constant(learning_rate: f32) -> Rates {
        Rates { warmup_steps: 0, form: Form::Constant(learning_rate) }
    }

    /// The learning rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f32 {
        let rate = match self.form {
            Form::Constant(rate) => rate,
            Form::Cosine(cosine) => cosine.at(step),
            Form::OneCycle { max_lr, up, total } => one_cycle(max_lr, up, total, step),
            Form::Step { learning_rate, factor, every } => {
                let drops = i32::try_from(step / every).unwrap_or(i32::MAX);
                (f64::from(learning_rate) * f64::from(factor).powi(drops)) as f32
            }
            Form::Plateau(plateau) => plateau.learning_rate,
        };
        if step < self.warmup_steps {
            return (f64::from(rate) * (step as f64 / self.warmup_steps as f64)) as f32;
        }
        rate
    }

    /// Adds an epoch's loss, on which later learning rates may depend.
    pub fn end_epoch(&mut self, loss: f64) {
        if let Form::Plateau(plateau) = &mut self.form {
            plateau.note(loss);
        }
    }
}

/// State of a plateau schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plateau {
    rule: ReduceOnPlateau,
    learning_rate: f32,
    best: f64,
    wait: usize,
}

impl Plateau {
    fn note(&mut self, loss: f64) {
        let ReduceOnPlateau { factor, patience, min_delta, min_lr } = self.rule;
        if loss + min_delta < self.best {
            (self.best, self.wait) = (loss, 0);
            return;
        }
        self.wait += 1;
        if self.wait >= patience && self.learning_rate > min_lr {
            let lower = (f64::from(self.learning_rate) * f64::from(factor)) as f32;
            (self.learning_rate, self.wait) = (lower.max(min_lr), 0);
        }
    }
}

/// PyTorch's `OneCycleLR`: from a 25th of `max_lr` up to it at step `up`, down to a 10,000th of where it began at the
/// last of `total` steps.
fn one_cycle(max_lr: f32, up: f64, total: u64, step: u64) -> f32 {
    let max = f64::from(max_lr);
    let (initial, step) = (max / 25.0, step as f64);
    let (from, to, done, steps) = if step <= up && up > 0.0 {
        (initial, max, step, up)
    } else {
        let up = up.max(0.0);
        (max, initial / 1e4, step - up, (total as f64 - 1.0 - up).max(1.0))
    };
    let share = (done / steps).min(1.0);
    (to + (from - to) / 2.0 * ((std::f64::consts::PI * share).cos() + 1.0)) as f32
}

/// Keras's `CosineDecay` (Loshchilov and Hutter 2016), with linear warm-up (Goyal et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineDecay {
    /// Learning rate of step 0.
    pub initial_learning_rate: f32,
    /// Steps of the fall.
    pub decay_steps: u64,
    /// Where the fall ends, as a fraction of where it begins.
    pub alpha: f32,
    /// Where the rise ends; none to fall from step 0 on.
    pub warmup_target: Option<f32>,
    /// Steps of the rise.
    pub warmup_steps: u64,
}

impl CosineDecay {
    /// The learning rate of a step, counted from 0; past the end that of the end.
    pub fn at(&self, step: u64) -> f32 {
        let initial = f64::from(self.initial_learning_rate);
        let (top, done) = match self.warmup_target {
            Some(target) if step < self.warmup_steps => {
                let share = step as f64 / self.warmup_steps as f64;
                return ((f64::from(target) - initial) * share + initial) as f32;
            }
            Some(target) => (f64::from(target), step - self.warmup_steps),
            None => (initial, step),
        };
        let share = done.min(self.decay_steps) as f64 / self.decay_steps as f64;
        let (cosine, alpha) = ((std::f64::consts::PI * share).cos(), f64::from(self.alpha));
        (top * ((1.0 - alpha) * 0.5 * (1.0 + cosine) + alpha)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_warms_up_and_ends_at_alpha() {
        let schedule = Schedule { decay: Decay::Cosine { alpha: 0.1 }, warmup_epochs: 1.5 };
        let rates = schedule.over(0.4, 4, 10).unwrap();
        assert_eq!([rates.at(0), rates.at(15)], [0.0, 0.4]);
        for (step, want) in [(3, 0.08), (40, 0.04), (1000, 0.04)] {
            assert!((rates.at(step) - want).abs() <= 1e-7, "{step}: {}", rates.at(step));
        }
        assert!((1..=15).all(|s| rates.at(s) > rates.at(s - 1)));
        assert!((16..=40).all(|s| rates.at(s) < rates.at(s - 1)));
        let plain = Schedule::COSINE.over(0.4, 4, 10).unwrap();
        assert_eq!((plain.at(0), plain.at(40)), (0.4, 0.0));
        assert!((plain.at(20) - 0.2).abs() <= 1e-7);
        let constant = Schedule::CONSTANT.over(0.4, 4, 10).unwrap();
        assert_eq!((constant.at(0), constant.at(u64::MAX)), (0.4, 0.4));
    }

    #[test]
    fn every_schedule_warms_up_in_a_line() {
        let step = Decay::Step { epochs: None, factor: 0.5 };
        for decay in [Decay::Constant, step, Decay::Plateau(ReduceOnPlateau::default())] {
            let rates = Schedule { decay, warmup_epochs: 0.5 }.over(0.4, 4, 10).unwrap();
            assert_eq!([rates.at(0), rates.at(5)], [0.0, 0.4], "{decay:?}");
            assert!((rates.at(2) - 0.16).abs() <= 1e-7, "{decay:?}");
        }
        // A third of four epochs, rounded up, is two.
        let rates = Schedule::from(step).over(0.4, 4, 10).unwrap();
        assert_eq!([rates.at(19), rates.at(20), rates.at(39)], [0.4, 0.2, 0.2]);
    }

    #[test]
    fn rates_are_those_of_torch_and_keras() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizers/schedules.json");
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let numbers = |v: &serde_json::Value| -> Vec<f64> {
            v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let close = |name: &str, step: usize, ours: f32, want: f64| {
            let distance = (f64::from(ours) - want).abs();
            assert!(distance <= 1e-6 * want.abs() + 1e-12, "{name} at {step}: {ours}, not {want}");
        };
        let plateau = |factor, patience, min_delta, min_lr| {
            Decay::Plateau(ReduceOnPlateau { factor, patience, min_delta, min_lr })
        };
        for (name, decay, warmup_epochs) in [
            ("one_cycle", Decay::OneCycle, 0.0),
            ("one_cycle_half", Decay::OneCycle, 2.0),
            ("step", Decay::Step { epochs: Some(2), factor: 0.3 }, 0.0),
            ("plateau", plateau(0.1, 2, 1e-4, 0.0), 0.0),
            ("plateau_floor", plateau(0.5, 1, 0.1, 0.04), 0.0),
        ] {
            let mut rates = Schedule { decay, warmup_epochs }.over(0.1, 4, 5).unwrap();
            let plateau = name.starts_with("plateau");
            let losses = numbers(&golden["losses"]);
            for (step, want) in numbers(&golden["rates"][name]).into_iter().enumerate() {
                if plateau && step > 0 {
                    rates.end_epoch(losses[step - 1]);
                }
                close(name, step, rates.at(step as u64), want);
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let plateau = |factor, min_lr| {
            Decay::Plateau(ReduceOnPlateau { factor, min_lr, ..ReduceOnPlateau::default() })
        };
        for (warmup_epochs, decay) in [
            (4.0, Decay::Constant),
            (-1.0, Decay::OneCycle),
            (f32::NAN, Decay::Constant),
            (0.0, Decay::Cosine { alpha: 1.5 }),
            (0.0, Decay::Cosine { alpha: f32::NAN }),
            (0.0, Decay::Step { epochs: Some(0), factor: 0.1 }),
            (0.0, Decay::Step { epochs: None, factor: 0.0 }),
            (0.0, Decay::Step { epochs: None, factor: f32::NAN }),
            (0.0, plateau(1.0, 0.0)),
            (0.0, plateau(0.5, -1.0)),
            (0.0, plateau(0.5, f32::NAN)),
        ] {
            let schedule = Schedule { decay, warmup_epochs };
            assert!(schedule.over(0.1, 4, 10).is_err(), "{schedule:?}");
        }
        // Phases of a step or two have a cycle too.
        for steps in 1..4 {
            let rates = Schedule::from(Decay::OneCycle).over(0.1, 1, steps).unwrap();
            assert!((0..5).all(|s| (0.0..=0.1).contains(&rates.at(s))), "{steps}");
        }
    }
}
