//! Softmax and categorical cross-entropy over rows of `classes` values.

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
    assert_eq!(p.len(), labels.len() * classes, "probabilities length");
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

/// The same sum with each row's loss times the weight of its label's class.
///
/// # Panics
/// As [`cross_entropy`]; if there is not one weight per class.
pub fn weighted_loss(classes: usize, p: &[f32], labels: &[u32], weights: &[f32]) -> f64 {
    assert_eq!((p.len(), weights.len()), (labels.len() * classes, classes), "lengths differ");
    let rows = p.chunks_exact(classes).zip(labels.chunks_exact(1));
    let loss = |(row, label): (&[f32], &[u32])| {
        f64::from(weights[label[0] as usize]) * cross_entropy(classes, row, label).loss
    };
    rows.map(loss).sum()
}

/// Sum of what label smoothing (Szegedy et al. 2015, section 7; Keras's `label_smoothing`) adds to the rows' losses: targets are
/// `onehot * (1 - smoothing) + smoothing / classes`. With `weights` each row counts as its label's class does.
///
/// # Panics
/// As [`weighted_loss`], where there are weights.
pub fn smoothing_loss(
    classes: usize,
    p: &[f32],
    labels: &[u32],
    weights: &[f32],
    smoothing: f32,
) -> f64 {
    assert_eq!(p.len(), labels.len() * classes, "probabilities length");
    assert!(weights.is_empty() || weights.len() == classes, "weights length");
    let smoothing = f64::from(smoothing);
    let logarithm =
        |p: f32| f64::from(if p < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { p }).ln();
    let rows = p.chunks_exact(classes).zip(labels);
    rows.map(|(row, &label)| {
        let weight = weights.get(label as usize).map_or(1.0, |&w| f64::from(w));
        let mean = row.iter().map(|&p| logarithm(p)).sum::<f64>() / classes as f64;
        weight * smoothing * (logarithm(row[label as usize]) - mean)
    })
    .sum()
}

/// Adds label smoothing to the gradient of the mean cross-entropy with respect to the logits.
///
/// # Panics
/// If the lengths differ or a label is not below `classes`.
pub fn smooth_rows(classes: usize, labels: &[u32], smoothing: f32, dlogits: &mut [f32]) {
    assert_eq!(dlogits.len(), labels.len() * classes, "gradient length");
    let whole = smoothing / labels.len() as f32;
    for (d, &label) in dlogits.chunks_exact_mut(classes).zip(labels) {
        d.iter_mut().for_each(|d| *d -= whole / classes as f32);
        d[label as usize] += whole;
    }
}

/// Multiplies each row of the logits' gradient by the weight of its label's class.
///
/// # Panics
/// As [`weighted_loss`].
pub fn weigh_rows(classes: usize, labels: &[u32], weights: &[f32], dlogits: &mut [f32]) {
    let lengths = (dlogits.len(), weights.len());
    assert_eq!(lengths, (labels.len() * classes, classes), "lengths differ");
    for (d, &label) in dlogits.chunks_exact_mut(classes).zip(labels) {
        d.iter_mut().for_each(|d| *d *= weights[label as usize]);
    }
}

/// Gradient of the mean cross-entropy with respect to the logits: `(p - onehot) / batch`.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_gradient(classes: usize, p: &[f32], labels: &[u32], dlogits: &mut [f32]) {
    assert_eq!(p.len(), labels.len() * classes, "probabilities length");
    assert_eq!(p.len(), dlogits.len(), "lengths differ");
    let scale = 1.0 / labels.len() as f32;
    let rows = dlogits.chunks_exact_mut(classes).zip(p.chunks_exact(classes));
    for ((d, p), &label) in rows.zip(labels) {
        d.iter_mut().zip(p).for_each(|(d, p)| *d = p * scale);
        d[label as usize] = (p[label as usize] - 1.0) * scale;
    }
}
