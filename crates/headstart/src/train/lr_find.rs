//! The learning rate range test (Smith 2017, "Cyclical Learning Rates"; fastai's `lr_find`): steps with a rising learning
//! rate, until the loss diverges.
//!
//! ```
//! use headstart::lr_find::LrCurve;
//!
//! // Nothing happens, then the loss falls, then it diverges.
//! let losses = [2.0, 2.0, 1.9, 1.5, 1.0, 0.6, 0.5, 0.9, 4.0];
//! let points = losses.iter().enumerate().map(|(i, &loss)| (1e-6 * 10f32.powi(i as i32), loss));
//! let curve = LrCurve { points: points.collect() };
//! let found = curve.suggestion().unwrap();
//! assert!((1e-4..1e-1).contains(&found), "{found}");
//! ```

use serde::Serialize;

use crate::error::{Error, Result};
use crate::range;

/// Weight of the old mean in the smoothed loss, as fastai's recorder has it.
const SMOOTH: f64 = 0.98;
/// The test ends where the smoothed loss is this many times its minimum.
const RUNAWAY: f64 = 4.0;

/// The range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrFind {
    /// Learning rate of the first step.
    pub start: f32,
    /// Learning rate of the last step, if the loss does not diverge before.
    pub end: f32,
    /// Steps, 10 to 10,000; from each to the next the learning rate rises by the same factor.
    pub steps: usize,
}

impl Default for LrFind {
    /// fastai's: 100 steps from 1e-7 to 10.
    fn default() -> Self {
        LrFind { start: 1e-7, end: 10.0, steps: 100 }
    }
}

impl LrFind {
    /// Says what is out of range.
    ///
    /// # Errors
    /// If anything is.
    pub fn check(&self) -> Result<()> {
        let LrFind { start, end, steps } = *self;
        if !(start > 0.0 && end > start && end.is_finite()) {
            let found = format!("{start} to {end}");
            return Err(Error::invalid("learning rates", "0 < start < end", found, ""));
        }
        range::TEST_STEPS.check(steps as u64)
    }

    /// The learning rate of a step, counted from 0.
    pub fn at(&self, step: usize) -> f32 {
        let share = step as f64 / (self.steps - 1).max(1) as f64;
        let (start, end) = (f64::from(self.start), f64::from(self.end));
        (start * (end / start).powf(share)) as f32
    }
}

/// Smoothed training loss against the learning rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LrCurve {
    /// Learning rate and loss, in the order of the steps.
    pub points: Vec<(f32, f64)>,
}

impl LrCurve {
    /// The middle of the longest fall: fastai's "valley" rule, over the longest falling subsequence of losses. None
    /// if the loss never falls.
    pub fn suggestion(&self) -> Option<f32> {
        let losses: Vec<f64> = self.points.iter().map(|p| p.1).collect();
        // The longest falling subsequence that ends at each point: its length, and the point before.
        let mut ways: Vec<(usize, Option<usize>)> = Vec::with_capacity(losses.len());
        for i in 0..losses.len() {
            let before = (0..i).filter(|&j| losses[j] > losses[i]).max_by_key(|&j| ways[j].0);
            ways.push((1 + before.map_or(0, |j| ways[j].0), before));
        }
        let longest = ways.iter().map(|way| way.0).max().filter(|&most| most > 1)?;
        let mut at = ways.iter().position(|way| way.0 == longest)?;
        for _ in 0..longest.div_ceil(2) - 1 {
            at = ways[at].1?;
        }
        Some(self.points[at].0)
    }

    /// Where the loss falls fastest per factor of the learning rate.
    pub fn steepest(&self) -> Option<f32> {
        let slope = |w: &[(f32, f64)]| (w[2].1 - w[0].1) / f64::from(w[2].0 / w[0].0).ln();
        let fastest = self.points.windows(3).min_by(|a, b| slope(a).total_cmp(&slope(b)))?;
        (slope(fastest) < 0.0).then_some(fastest[1].0)
    }
}

/// Collects losses while the test runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    mean: f64,
    least: f64,
    pub curve: LrCurve,
}

impl Recorder {
    /// Adds the loss of a step; false if it diverges or is not a number.
    pub fn add(&mut self, rate: f32, loss: f32) -> bool {
        if !loss.is_finite() {
            return false;
        }
        let count = self.curve.points.len() as i32 + 1;
        self.mean = SMOOTH * self.mean + (1.0 - SMOOTH) * f64::from(loss);
        let smoothed = self.mean / (1.0 - SMOOTH.powi(count));
        self.least = if count == 1 { smoothed } else { self.least.min(smoothed) };
        self.curve.points.push((rate, smoothed));
        smoothed <= RUNAWAY * self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_one_factor_from_start_to_end() {
        let range = LrFind { start: 1e-4, end: 1.0, steps: 5 };
        let rates: Vec<f32> = (0..5).map(|step| range.at(step)).collect();
        for (found, want) in rates.iter().zip([1e-4, 1e-3, 1e-2, 1e-1, 1.0]) {
            assert!((found / want - 1.0).abs() < 1e-5, "{rates:?}");
        }
        for bad in [
            LrFind { start: 0.0, ..range },
            LrFind { end: 1e-5, ..range },
            LrFind { end: f32::INFINITY, ..range },
            LrFind { steps: 2, ..range },
            LrFind { start: f32::NAN, ..range },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn suggestions_lie_on_the_way_down() {
        let curve = |losses: &[f64]| LrCurve {
            points: losses.iter().enumerate().map(|(i, &l)| (10f32.powi(i as i32), l)).collect(),
        };
        // Falls from the third to the seventh.
        let falls = curve(&[5.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0, 9.0]);
        assert_eq!(falls.suggestion(), Some(1e4));
        assert_eq!(falls.steepest(), Some(1e3));
        // A short dip is not the valley.
        let noisy = curve(&[5.0, 4.9, 5.1, 4.8, 4.0, 3.0, 3.5, 2.0, 8.0]);
        assert_eq!(noisy.suggestion(), Some(1e4));
        let rises = curve(&[1.0, 2.0, 3.0]);
        assert_eq!((rises.suggestion(), rises.steepest()), (None, None));
        assert_eq!(curve(&[]).suggestion(), None);
    }

    #[test]
    fn a_loss_that_runs_away_or_is_no_number_ends_the_test() {
        let mut recorder = Recorder::default();
        assert!((0..50).all(|i| recorder.add(i as f32, 1.0)));
        let steps = (0..100).take_while(|_| recorder.add(1.0, 30.0)).count();
        assert!((1..10).contains(&steps), "{steps}");
        assert!(!recorder.add(1.0, f32::NAN));
        // The mean of equal losses is that loss, from the first on.
        assert!(recorder.curve.points[..50].iter().all(|p| (p.1 - 1.0).abs() < 1e-9));
    }
}
