//! Whether a classifier's probabilities are calibrated: calibration error and temperature.
//!
//! ```
//! use headstart::calibration::Calibration;
//!
//! // Four predictions at 0.75, three of them correct: perfectly calibrated.
//! let p = [0.75, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.25];
//! assert_eq!(Calibration::new(2, &p, &[0, 0, 0, 1]).ece, 0.0);
//! ```

use headstart_kernels::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measure::rank::argmax;
pub use crate::measure::rank::softmax;
pub use crate::net::weights::model_file::TemperatureFit;

/// Bins of equal width that the confidences from 0 to 1 are put into.
pub const BINS: usize = 15;
/// The least and the greatest temperature that [`fit_temperature`] gives.
pub const TEMPERATURES: [f64; 2] = [0.05, 20.0];

/// The images whose confidence is above `lower` and not above `upper`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower bound, excluded.
    pub lower: f64,
    /// Upper bound, included.
    pub upper: f64,
    /// Number of images.
    pub count: usize,
    /// Mean confidence; 0 where there are no images.
    pub confidence: f64,
    /// Accuracy; 0 where there are no images.
    pub accuracy: f64,
}

/// How well confidence and accuracy agree. An image's confidence is its greatest probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error, `sum over bins of count / n * |accuracy - confidence|` (Guo et al. 2017,
    /// "On Calibration of Modern Neural Networks", equation 3), from 0 to 1.
    pub ece: f64,
    /// The temperature by which the logits were divided, where it is not 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The same model without that temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncalibrated: Option<Uncalibrated>,
    /// The [`BINS`] bins, from low to high confidence.
    pub bins: Vec<Bin>,
}

/// Metrics at temperature 1 of a model that has another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uncalibrated {
    /// Mean categorical cross-entropy.
    pub loss: f64,
    /// Expected calibration error, as [`Calibration::ece`].
    pub ece: f64,
}

impl Uncalibrated {
    /// Compares probabilities, `[labels.len(), classes]` row-major, with the labels.
    pub fn new(classes: usize, probabilities: &[f32], labels: &[usize]) -> Uncalibrated {
        let numbers: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let total = cross_entropy(classes, probabilities, &numbers).loss;
        let ece = Calibration::new(classes, probabilities, labels).ece;
        Uncalibrated { loss: total / labels.len().max(1) as f64, ece }
    }
}

impl Calibration {
    /// Compares probabilities, `[labels.len(), classes]` row-major, with the labels.
    pub fn new(classes: usize, probabilities: &[f32], labels: &[usize]) -> Calibration {
        let mut bins: Vec<Bin> = (0..BINS)
            .map(|i| Bin {
                lower: i as f64 / BINS as f64,
                upper: (i + 1) as f64 / BINS as f64,
                ..Bin::default()
            })
            .collect();
        for (p, &label) in probabilities.chunks_exact(classes.max(1)).zip(labels) {
            let answer = argmax(p);
            let confidence = f64::from(p[answer]);
            // A NaN lands in the first bin and makes the error NaN.
            let number = (confidence * BINS as f64).ceil() as usize;
            let bin = &mut bins[number.saturating_sub(1).min(BINS - 1)];
            bin.count += 1;
            bin.confidence += confidence;
            bin.accuracy += f64::from(u8::from(answer == label));
        }
        let mut ece = 0.0;
        for bin in bins.iter_mut().filter(|b| b.count > 0) {
            let count = bin.count as f64;
            bin.confidence /= count;
            bin.accuracy /= count;
            ece += count / labels.len() as f64 * (bin.accuracy - bin.confidence).abs();
        }
        Calibration { ece, temperature: None, uncalibrated: None, bins }
    }
}

/// The temperature at which `softmax(logits / temperature)` has the least mean cross-entropy against
/// `labels` (Guo et al. 2017, section 4.2), within [`TEMPERATURES`].
///
/// Of n images, the label of each counts (n + 1) / (n + 2), and the other classes share the rest, as Platt 1999
/// ("Probabilistic Outputs for Support Vector Machines", section 2.2) has it: else a model that predicts all of a few
/// images correctly would be made certain of everything.
///
/// The cross-entropy is convex in `1 / temperature`; the zero of its slope is found by bisection.
///
/// # Errors
/// If there are no images or a logit is not a finite number.
pub fn fit_temperature(classes: usize, logits: &[f32], labels: &[usize]) -> Result<f64> {
    if labels.is_empty() || classes == 0 {
        return Err(Error::invalid("temperature", "images to fit it on", "none", ""));
    }
    if logits.iter().any(|z| !z.is_finite()) {
        let hint = "the weights are damaged or training diverged";
        return Err(Error::invalid("logits", "finite numbers", "others", hint));
    }
    let n = labels.len() as f64;
    // What the label counts beyond what every class does.
    let spread = if classes > 1 { 1.0 / (n + 2.0) / (classes - 1) as f64 } else { 0.0 };
    let of_label = (n + 1.0) / (n + 2.0) - spread;
    // d/db of the cross-entropy with softmax(b z) is the expectation of z under it minus that under the targets.
    let slope = |b: f64| -> f64 {
        let mut slope = 0.0;
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let (mut sum, mut mean, mut all) = (0.0, 0.0, 0.0);
            for &z in row {
                let e = (b * (f64::from(z) - top)).exp();
                sum += e;
                mean += e * f64::from(z);
                all += f64::from(z);
            }
            slope += mean / sum - of_label * f64::from(row[label]) - spread * all;
        }
        slope
    };
    let (mut low, mut high) = (1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]);
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if slope(middle) > 0.0 { high = middle } else { low = middle }
    }
    Ok((1.0 / (low * high).sqrt()).clamp(TEMPERATURES[0], TEMPERATURES[1]))
}

/// Folds that [`calibrate`] cross-validates with.
const FOLDS: usize = 5;

/// Fits a temperature, and says whether it is worth having: whether on images that it was not fitted on, the mean cross-entropy
/// falls by more than the standard error of that mean. Every fifth image is held out in turn. Of few images, most of what a
/// temperature gains on them is theirs alone, and on others probabilities get worse; of fewer than five nothing can be said,
/// and none is kept.
///
/// ```
/// use headstart::calibration::calibrate;
///
/// // Right three times of four, and said with 0.98.
/// let (logits, labels) = ([4.0, 0.0].repeat(400), [0, 0, 0, 1].repeat(100));
/// let fit = calibrate(2, &logits, &labels)?;
/// assert!(fit.is_kept() && (fit.temperature - 4.0 / 3f64.ln()).abs() < 0.1);
/// assert!(!calibrate(2, &logits[..16], &labels[..8])?.is_kept());
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// As [`fit_temperature`].
pub fn calibrate(classes: usize, logits: &[f32], labels: &[usize]) -> Result<TemperatureFit> {
    let temperature = fit_temperature(classes, logits, labels)?;
    let n = labels.len();
    let mut gains = Vec::with_capacity(n);
    for fold in (0..FOLDS).filter(|_| n >= FOLDS) {
        let (held_out, seen): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| i % FOLDS == fold);
        let row = |i: usize| &logits[i * classes..][..classes];
        let rows: Vec<f32> = seen.iter().flat_map(|&i| row(i)).copied().collect();
        let own: Vec<usize> = seen.iter().map(|&i| labels[i]).collect();
        let fitted = fit_temperature(classes, &rows, &own)?;
        let gain = |&i: &usize| loss(row(i), labels[i], 1.0) - loss(row(i), labels[i], fitted);
        gains.extend(held_out.iter().map(gain));
    }
    let count = gains.len().max(1) as f64;
    // A sum of nothing is -0.
    let gain = gains.iter().sum::<f64>() / count + 0.0;
    let variance = gains.iter().map(|g| (g - gain).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let standard_error = (variance.abs() / count).sqrt();
    Ok(TemperatureFit { temperature, images: n, gain, standard_error })
}

/// Cross-entropy of one image's logits at a temperature.
fn loss(logits: &[f32], label: usize, temperature: f64) -> f64 {
    let scaled = || logits.iter().map(|&z| f64::from(z) / temperature);
    let top = scaled().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled().map(|z| (z - top).exp()).sum();
    sum.ln() + top - f64::from(logits[label]) / temperature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_small_case_worked_by_hand() {
        // Confidences 0.9, 0.9, 0.6; hits 1, 0, 1: bins (13/15, 14/15] and (8/15, 9/15].
        let p = [0.9, 0.1, 0.9, 0.1, 0.4, 0.6];
        let c = Calibration::new(2, &p, &[0, 1, 1]);
        let expected = 2.0 / 3.0 * 0.4 + 1.0 / 3.0 * 0.4;
        assert!((c.ece - expected).abs() <= 1e-7, "{c:?}");
        assert_eq!((c.bins.len(), c.bins[13].count, c.bins[13].accuracy), (15, 2, 0.5));
        assert_eq!(c.bins.iter().map(|b| b.count).sum::<usize>(), 3);
        // Both ends have a bin.
        let c = Calibration::new(1, &[1.0, 0.0], &[0, 0]);
        assert_eq!((c.bins[14].count, c.bins[0].count), (1, 1));
        assert!(Calibration::new(2, &[f32::NAN, 0.5], &[0]).ece.is_nan());
    }

    #[test]
    fn small_gains_are_not_shown_as_none() {
        let fit =
            TemperatureFit { temperature: 1.1, images: 100, gain: 2e-6, standard_error: 1e-6 };
        assert!(fit.to_string().contains("falls by 2e-6 +- 1e-6"), "{fit}");
        let none = TemperatureFit { gain: 0.0, ..fit };
        assert!(none.to_string().contains("by 0.0000 +- 1e-6"), "{none}");
    }

    #[test]
    fn a_temperature_put_in_is_found_again() {
        // Labels in the shares that softmax gives; the logits are then stretched.
        let logits = [2.0f32, 0.0, -1.0];
        let p = softmax(3, &logits, 1.0);
        let n = 10_000;
        let labels: Vec<usize> =
            (0..3).flat_map(|k| vec![k; (p[k] * n as f32).round() as usize]).collect();
        for truth in [0.5, 1.0, 2.5] {
            let stretched = logits.map(|z| z * truth as f32).repeat(labels.len());
            let found = fit_temperature(3, &stretched, &labels).unwrap();
            assert!((found / truth - 1.0).abs() <= 1e-3, "{found} for {truth}");
        }
    }

    #[test]
    fn a_temperature_is_kept_where_images_it_was_not_fitted_on_gain_from_it() {
        // Labels drawn as softmax says at temperature `truth`, of two classes at each of several distances.
        let mut state = 7u64;
        let mut drawn = |truth: f64, count: usize| {
            let (mut logits, mut labels) = (Vec::new(), Vec::new());
            for i in 0..count {
                let z = [0.5f32, 1.0, 2.0, 4.0][i % 4];
                let p = 1.0 / (1.0 + (-f64::from(z) / truth).exp());
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                logits.extend([z, 0.0]);
                labels.push(usize::from((state >> 33) as f64 / (1u64 << 31) as f64 > p));
            }
            calibrate(2, &logits, &labels).unwrap()
        };
        // Where there is nothing to gain, chance says so in few draws; where there is much, all say so.
        for (truth, count, least, most) in [
            (1.0, 100, 0, 10),
            (1.0, 1000, 0, 10),
            (3.0, 1000, 40, 40),
            (0.4, 1000, 40, 40),
            (2.0, 4, 0, 0),
        ] {
            let fits: Vec<TemperatureFit> = (0..40).map(|_| drawn(truth, count)).collect();
            let kept = fits.iter().filter(|fit| fit.is_kept()).count();
            assert!((least..=most).contains(&kept), "{truth} {count}: {kept}");
            for fit in fits {
                let stored = fit.is_kept().then_some(fit.temperature);
                assert_eq!((fit.images, fit.stored()), (count, stored));
            }
        }
        // Against the definition, on images that all are the same: nothing varies.
        let fit = calibrate(2, &[1.0, 0.0].repeat(10), &[0; 10]).unwrap();
        let fold = fit_temperature(2, &[1.0, 0.0].repeat(8), &[0; 8]).unwrap();
        let at = |t: f64| (1.0 + (-1.0 / t).exp()).ln();
        assert!(
            (fit.gain - (at(1.0) - at(fold))).abs() <= 1e-12 && fit.standard_error <= 1e-12,
            "{fit:?}"
        );
    }

    #[test]
    fn nothing_to_fit_on_is_an_error_and_separable_labels_stay_in_range() {
        assert!(fit_temperature(2, &[], &[]).is_err());
        assert!(fit_temperature(2, &[f32::NAN, 0.0], &[0]).is_err());
        // All of 36 images right: as certain as 37 of 38 are, and not as the bounds allow.
        let t = fit_temperature(2, &[30.0, 0.0].repeat(36), &[0; 36]).unwrap();
        assert!((softmax(2, &[30.0, 0.0], t)[0] - 37.0 / 38.0).abs() <= 1e-4, "{t}");
        let one = fit_temperature(2, &[1.0, 0.0], &[0]).unwrap();
        assert!((one - 1.0 / 2f64.ln()).abs() <= 1e-6, "{one}");
        let least = fit_temperature(2, &[1e-3, 0.0], &[0]).unwrap();
        assert!((least - TEMPERATURES[0]).abs() <= 1e-6, "{least}");
        let most = fit_temperature(2, &[1.0, 0.0], &[1]).unwrap();
        assert!((most - TEMPERATURES[1]).abs() <= 1e-4, "{most}");
    }

    #[test]
    fn temperature_one_is_softmax_and_a_high_one_levels() {
        let p = softmax(2, &[0.0, 3.0f32.ln()], 1.0);
        assert!((p[0] - 0.25).abs() <= 1e-6 && (p[1] - 0.75).abs() <= 1e-6);
        assert!((softmax(2, &[0.0, 1000.0], 1e6)[0] - 0.5).abs() <= 1e-3);
    }
}
