//! Step sizes over a phase: pure functions of the step, so that training can go on from any step.

use crate::error::{Error, Result};

/// How a phase's step size changes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Schedule {
    /// Not at all.
    #[default]
    Constant,
    /// Up in a line from 0, then down in half a cosine to the phase's last step.
    Cosine {
        /// Epochs, or a part of one, on the way up.
        warmup_epochs: f32,
        /// Where the way down ends, as a share of the phase's step size.
        alpha: f32,
    },
}

impl Schedule {
    /// A cosine to 0 without warm-up.
    pub const COSINE: Schedule = Schedule::Cosine { warmup_epochs: 0.0, alpha: 0.0 };

    /// The step sizes of a phase of `epochs` epochs of `steps` steps each, at most `learning_rate`.
    ///
    /// # Errors
    /// If a setting is out of range or the warm-up leaves no step to go down.
    pub fn over(self, learning_rate: f32, epochs: usize, steps: usize) -> Result<Rates> {
        let Schedule::Cosine { warmup_epochs, alpha } = self else {
            return Ok(Rates::Constant(learning_rate));
        };
        if !(0.0..=1.0).contains(&alpha) {
            let expected = "a share from 0 to 1";
            return Err(Error::invalid("schedule alpha", expected, alpha.to_string(), ""));
        }
        if !(warmup_epochs >= 0.0 && warmup_epochs < epochs as f32) {
            return Err(Error::invalid(
                "warm-up epochs",
                format!("a number from 0 to below {epochs}, the epochs of the phase"),
                warmup_epochs.to_string(),
                "lower --warmup-epochs",
            ));
        }
        let warmup_steps = (f64::from(warmup_epochs) * steps as f64).round() as u64;
        let total = (epochs * steps) as u64;
        let warm = warmup_steps > 0;
        Ok(Rates::Cosine(CosineDecay {
            initial_learning_rate: if warm { 0.0 } else { learning_rate },
            decay_steps: total.saturating_sub(warmup_steps).max(1),
            alpha,
            warmup_target: warm.then_some(learning_rate),
            warmup_steps,
        }))
    }
}

/// A phase's step sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rates {
    /// The same at every step.
    Constant(f32),
    /// Keras's `CosineDecay`.
    Cosine(CosineDecay),
}

impl Rates {
    /// The step size of a step, counted from 0.
    pub fn at(&self, step: u64) -> f32 {
        match self {
            Rates::Constant(rate) => *rate,
            Rates::Cosine(cosine) => cosine.at(step),
        }
    }
}

/// Keras's `CosineDecay` (Loshchilov and Hutter 2016), with linear warm-up (Goyal et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineDecay {
    /// Step size of step 0.
    pub initial_learning_rate: f32,
    /// Steps of the way down.
    pub decay_steps: u64,
    /// Where the way down ends, as a share of where it begins.
    pub alpha: f32,
    /// Where the way up ends; none to go down from step 0 on.
    pub warmup_target: Option<f32>,
    /// Steps of the way up.
    pub warmup_steps: u64,
}

impl CosineDecay {
    /// The step size of a step, counted from 0; past the end that of the end.
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
        let schedule = Schedule::Cosine { warmup_epochs: 1.5, alpha: 0.1 };
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
        let constant = Schedule::Constant.over(0.4, 4, 10).unwrap();
        assert_eq!((constant.at(0), constant.at(u64::MAX)), (0.4, 0.4));
    }

    #[test]
    fn nonsense_is_refused() {
        for (warmup_epochs, alpha) in
            [(4.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (0.0, 1.5), (0.0, f32::NAN)]
        {
            let schedule = Schedule::Cosine { warmup_epochs, alpha };
            assert!(schedule.over(0.1, 4, 10).is_err(), "{schedule:?}");
        }
    }
}
