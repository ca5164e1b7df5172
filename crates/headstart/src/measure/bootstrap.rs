//! Confidence intervals of an evaluation's metrics: how much they would vary on other images of the same kind.
//!
//! ```
//! use headstart::bootstrap::{RESAMPLES, SEED, intervals};
//!
//! // Two classes, 100 images, 80 of them right.
//! let p = [0.9, 0.1].repeat(100);
//! let labels: Vec<usize> = (0..100).map(|i| usize::from(i >= 80)).collect();
//! let [low, high] = intervals(2, &p, &labels, RESAMPLES, SEED).unwrap().accuracy;
//! assert!(low < 0.8 && 0.8 < high && high - low < 0.2);
//! ```

use headstart_kernels::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::data::split::RandomState;
use crate::measure::rank::{argmax, in_top5};

/// Default number of resamples.
pub const RESAMPLES: usize = 1000;
/// Default seed of the resamples.
pub const SEED: u32 = 42;

/// Confidence intervals of an evaluation's metrics: the 2.5th and 97.5th percentile over resamples of the
/// images, drawn with replacement (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13). Where all images
/// are right, or none, all resamples are the same; a fraction then has the exact bounds of Clopper and Pearson (1934).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Fraction of resamples inside an interval: 0.95.
    pub level: f64,
    /// Number of resamples.
    pub resamples: usize,
    /// Seed of the resamples.
    pub seed: u32,
    /// Bounds of the mean cross-entropy.
    pub loss: [f64; 2],
    /// Bounds of the accuracy.
    pub accuracy: [f64; 2],
    /// Bounds of the top-5 accuracy.
    pub top5: [f64; 2],
}

/// Intervals for probabilities, `[labels.len(), classes]` row-major; `None` without images or resamples.
pub fn intervals(
    classes: usize,
    probabilities: &[f32],
    labels: &[usize],
    resamples: usize,
    seed: u32,
) -> Option<Intervals> {
    let images: Vec<[f64; 3]> = probabilities
        .chunks_exact(classes.max(1))
        .zip(labels)
        .map(|(p, &label)| {
            let hit = |yes: bool| f64::from(u8::from(yes));
            let loss = cross_entropy(classes, p, &[label as u32]).loss;
            [loss, hit(argmax(p) == label), hit(in_top5(p, label))]
        })
        .collect();
    if images.is_empty() || resamples == 0 {
        return None;
    }
    let mut random = RandomState::new(seed);
    let last = images.len() as u64 - 1;
    let mut figures = [const { Vec::new() }; 3];
    for _ in 0..resamples {
        let mut sums = [0.0; 3];
        for _ in 0..images.len() {
            let image = &images[random.interval(last) as usize];
            sums.iter_mut().zip(image).for_each(|(sum, value)| *sum += value);
        }
        figures.iter_mut().zip(sums).for_each(|(f, sum)| f.push(sum / images.len() as f64));
    }
    let [loss, accuracy, top5] = figures.map(|mut values| {
        values.sort_by(f64::total_cmp);
        [percentile(&values, 0.025), percentile(&values, 0.975)]
    });
    let fraction = |at: usize, interval| {
        let hits = images.iter().filter(|image| image[at] > 0.0).count();
        exact(hits, images.len()).unwrap_or(interval)
    };
    let accuracy = fraction(1, accuracy);
    // Of five classes or fewer all are among the first five, whatever the images.
    let top5 = if classes > 5 { fraction(2, top5) } else { top5 };
    Some(Intervals { level: 0.95, resamples, seed, loss, accuracy, top5 })
}

/// The bounds of a fraction of 0 or 1.
fn exact(hits: usize, count: usize) -> Option<[f64; 2]> {
    let bound = 0.025_f64.powf(1.0 / count as f64);
    match hits {
        0 => Some([0.0, 1.0 - bound]),
        _ if hits == count => Some([bound, 1.0]),
        _ => None,
    }
}

/// NumPy's `percentile` of sorted values: linear between the two nearest.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_binomial_and_follow_from_the_seed() {
        // 400 images, 80% right: the standard error of the share is 0.02.
        let labels: Vec<usize> = (0..400).map(|i| usize::from(i % 5 == 0)).collect();
        let p = [0.7f32, 0.3].repeat(400);
        let i = intervals(2, &p, &labels, 2000, 1).unwrap();
        let [low, high] = i.accuracy;
        assert!((low - (0.8 - 1.96 * 0.02)).abs() <= 0.006, "{i:?}");
        assert!((high - (0.8 + 1.96 * 0.02)).abs() <= 0.006, "{i:?}");
        assert_eq!(i.top5, [1.0, 1.0]);
        assert!(i.loss[0] < i.loss[1]);
        assert_eq!(intervals(2, &p, &labels, 2000, 1).unwrap(), i);
        assert!(intervals(2, &p, &labels, 2000, 2).unwrap() != i);
    }

    #[test]
    fn fractions_of_0_and_1_have_exact_bounds() {
        // SciPy: `binomtest(20, 20).proportion_ci(0.95, "exact")` is (0.8315664, 1.0).
        let of = |label: usize| intervals(2, &[0.7, 0.3].repeat(20), &[label; 20], 50, 1).unwrap();
        let [right, wrong] = [of(0), of(1)];
        assert!((right.accuracy[0] - 0.8315664).abs() <= 1e-6 && right.accuracy[1] == 1.0);
        assert!((wrong.accuracy[1] - 0.1684336).abs() <= 1e-6 && wrong.accuracy[0] == 0.0);
        assert_eq!([right.top5, wrong.top5], [[1.0, 1.0]; 2]);
        let six = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1].repeat(20);
        let six = intervals(6, &six, &[0; 20], 50, 1).unwrap();
        assert_eq!(six.top5, right.accuracy);
    }

    #[test]
    fn there_are_none_of_nothing() {
        assert_eq!(intervals(2, &[], &[], 100, 1), None);
        assert_eq!(intervals(2, &[0.5, 0.5], &[0], 0, 1), None);
    }

    #[test]
    fn percentiles_are_numpy_s() {
        let values = [0.0, 1.0, 2.0, 4.0];
        assert_eq!(percentile(&values, 0.5), 1.5);
        assert!((percentile(&values, 0.975) - 3.85).abs() <= 1e-12);
    }
}
