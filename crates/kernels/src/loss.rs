//! Softmax and categorical cross-entropy over rows of `classes` values.

use crate::shape::is_product;
use crate::table::Compute;

/// Loss and hits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchLoss {
    /// Sum of the losses of the rows.
    pub loss: f64,
    /// Rows whose first largest probability is the label's; a row with NaN never counts.
    pub correct: usize,
}

/// `p = softmax(logits)`, row by row, with the row's largest logit taken off first.
///
/// # Panics
/// If the lengths differ or are not rows of `classes`.
pub fn softmax(c: &Compute, classes: usize, logits: &[f32], p: &mut [f32]) {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "logits length");
    assert_eq!(logits.len(), p.len(), "lengths differ");
    let step = (4096 / classes).max(1) * classes;
    c.threads.chunks(p, step, |task, p| {
        let logits = logits[task * step..].chunks_exact(classes);
        for (p, logits) in p.chunks_exact_mut(classes).zip(logits) {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for (p, x) in p.iter_mut().zip(logits) {
                *p = (x - top).exp();
                sum += *p;
            }
            p.iter_mut().for_each(|p| *p /= sum);
        }
    });
}

/// Categorical cross-entropy of probabilities `p` (`[batch, classes]`) against `labels`.
///
/// Keras computes it from the logits, without clipping; from f32 probabilities a row's loss is the
/// same up to 87.3, minus the logarithm of the least normal number, and never above.
///
/// # Panics
/// If `p` is not one row per label or a label is not below `classes`.
pub fn cross_entropy(classes: usize, p: &[f32], labels: &[u32]) -> BatchLoss {
    check(classes, p, labels);
    let mut total = BatchLoss::default();
    for (row, &label) in p.chunks_exact(classes).zip(labels) {
        let own = row[label as usize];
        // NaN stays: `max` would drop it.
        let own = if own < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { own };
        total.loss -= f64::from(own).ln();
        let nan = row.iter().any(|p| p.is_nan());
        let best = (1..classes).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        total.correct += usize::from(!nan && best == label as usize);
    }
    total
}

/// Gradient of the mean cross-entropy with respect to the logits: `(p - onehot) / batch`.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_gradient(classes: usize, p: &[f32], labels: &[u32], dlogits: &mut [f32]) {
    check(classes, p, labels);
    assert_eq!(p.len(), dlogits.len(), "lengths differ");
    let scale = 1.0 / labels.len() as f32;
    let rows = dlogits.chunks_exact_mut(classes).zip(p.chunks_exact(classes));
    for ((d, p), &label) in rows.zip(labels) {
        d.iter_mut().zip(p).for_each(|(d, p)| *d = p * scale);
        d[label as usize] = (p[label as usize] - 1.0) * scale;
    }
}

/// A row of probabilities for each label, which is one of the classes.
fn check(classes: usize, p: &[f32], labels: &[u32]) {
    assert!(classes > 0, "no classes");
    assert!(is_product(p.len(), &[labels.len(), classes]), "probabilities length");
    assert!(
        labels.iter().all(|&label| (label as usize) < classes),
        "a label above {classes} classes"
    );
}

/// Labels of a batch: one per row, or two with fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labels<'a> {
    /// A class a row.
    pub first: &'a [u32],
    /// A second class per row and its fraction of the loss, from 0 to 1; the first has the rest.
    pub second: Option<(&'a [u32], f32)>,
}

impl<'a> From<&'a [u32]> for Labels<'a> {
    fn from(first: &'a [u32]) -> Self {
        Labels { first, second: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Labels<'a> {
    fn from(first: &'a Vec<u32>) -> Self {
        first[..].into()
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Labels<'a> {
    fn from(first: &'a [u32; N]) -> Self {
        first[..].into()
    }
}

/// What a training row is compared with beside its label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// How much a row counts by its label's class; empty where all count 1.
    pub weights: Vec<f32>,
    /// Fraction of each label that is spread over all classes, at least 0, below 1: the target is
    /// `onehot * (1 - smoothing) + smoothing / classes` (Szegedy et al. 2015, section 7; Keras's `label_smoothing`).
    pub smoothing: f32,
}

impl Targets {
    /// Loss and hits as [`cross_entropy`], against these targets; hits do not depend on them. Of two labels, each has its share
    /// of the loss, and hits are of the one with the larger share.
    ///
    /// # Panics
    /// As [`cross_entropy`]; if there are weights, but not one per class.
    pub fn loss<'a>(&self, classes: usize, p: &[f32], labels: impl Into<Labels<'a>>) -> BatchLoss {
        let Labels { first, second } = labels.into();
        let one = self.loss_of_one(classes, p, first);
        let Some((second, share)) = second else { return one };
        let other = self.loss_of_one(classes, p, second);
        let part = f64::from(share);
        BatchLoss {
            loss: (1.0 - part) * one.loss + part * other.loss,
            correct: if share > 0.5 { other.correct } else { one.correct },
        }
    }

    fn loss_of_one(&self, classes: usize, p: &[f32], labels: &[u32]) -> BatchLoss {
        if *self == Targets::default() {
            return cross_entropy(classes, p, labels);
        }
        self.check(classes, p, labels);
        let smoothing = f64::from(self.smoothing);
        let mut total = BatchLoss::default();
        for (row, label) in p.chunks_exact(classes).zip(labels.chunks_exact(1)) {
            let mut own = cross_entropy(classes, row, label);
            if smoothing > 0.0 {
                let all = (0..classes as u32).map(|k| cross_entropy(classes, row, &[k]).loss);
                own.loss += smoothing * (all.sum::<f64>() / classes as f64 - own.loss);
            }
            total.loss += own.loss * f64::from(self.weight(label[0]));
            total.correct += own.correct;
        }
        total
    }

    /// Gradient of the mean of that loss with respect to the logits: `weight * (p - target) / batch`.
    ///
    /// # Panics
    /// As [`Targets::loss`], and if the lengths differ.
    pub fn gradient<'a>(
        &self,
        classes: usize,
        p: &[f32],
        labels: impl Into<Labels<'a>>,
        dlogits: &mut [f32],
    ) {
        let Labels { first, second } = labels.into();
        self.gradient_of_one(classes, p, first, dlogits);
        let Some((second, share)) = second else { return };
        let mut other = vec![0.0; dlogits.len()];
        self.gradient_of_one(classes, p, second, &mut other);
        let sum = |(d, other): (&mut f32, f32)| *d = (1.0 - share) * *d + share * other;
        dlogits.iter_mut().zip(other).for_each(sum);
    }

    fn gradient_of_one(&self, classes: usize, p: &[f32], labels: &[u32], dlogits: &mut [f32]) {
        self.check(classes, p, labels);
        cross_entropy_gradient(classes, p, labels, dlogits);
        if *self == Targets::default() {
            return;
        }
        let whole = self.smoothing / labels.len() as f32;
        for (d, &label) in dlogits.chunks_exact_mut(classes).zip(labels) {
            let weight = self.weight(label);
            d[label as usize] += whole;
            d.iter_mut().for_each(|d| *d = (*d - whole / classes as f32) * weight);
        }
    }

    fn check(&self, classes: usize, p: &[f32], labels: &[u32]) {
        check(classes, p, labels);
        assert!([0, classes].contains(&self.weights.len()), "one weight per class");
    }

    fn weight(&self, label: u32) -> f32 {
        if self.weights.is_empty() { 1.0 } else { self.weights[label as usize] }
    }
}
