//! Classes in the order of their probability.

use crate::task::Task;

/// The most probable class, the first of equals.
pub fn argmax(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (i, &p) in probabilities.iter().enumerate() {
        if p > probabilities[best] {
            best = i;
        }
    }
    best
}

/// Classes from the most probable on, equals in label order, at most `count`.
pub fn top(probabilities: &[f32], count: usize) -> Vec<usize> {
    Task::OneClass.ranked(probabilities, count).into_iter().map(|(class, _)| class).collect()
}

/// Whether `label` is among the five most probable classes, equals in label order.
pub fn in_top5(p: &[f32], label: usize) -> bool {
    let before = |(i, &q): (usize, &f32)| q > p[label] || (q == p[label] && i < label);
    p.iter().enumerate().filter(|&e| before(e)).count() < 5
}

/// `softmax(logits / temperature)`, row by row.
pub fn softmax(classes: usize, logits: &[f32], temperature: f64) -> Vec<f32> {
    let mut p = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes.max(1)) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let power = |z: f32| (f64::from(z - top) / temperature).exp();
        let sum: f64 = row.iter().map(|&z| power(z)).sum();
        p.extend(row.iter().map(|&z| (power(z) / sum) as f32));
    }
    p
}
