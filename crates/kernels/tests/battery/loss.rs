//! Softmax and cross-entropy.

use headstart_kernels::element::Element;
use headstart_kernels::loss;
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want, gamma, nan, wide};
use crate::support::noise;

/// `loss::softmax`, the cross-entropy of what it gives, and its gradient.
pub struct Softmax;

fn logits(rows: usize, classes: usize) -> Vec<f32> {
    noise(rows * classes, 3).iter().map(|x| x * 30.0).collect()
}

fn labels(rows: usize, classes: usize) -> Vec<u32> {
    (0..rows).map(|row| (row * 7 % classes) as u32).collect()
}

impl Kernel for Softmax {
    /// Rows and classes.
    type Shape = (usize, usize);

    fn edges() -> Vec<Self::Shape> {
        vec![(1, 2), (20, 10), (7, 1000), (3, 5000), (1, 1)]
    }

    fn small() -> BoxedStrategy<Self::Shape> {
        (1..20usize, 1..50usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(rows, classes): &Self::Shape) -> Vec<Vec<f64>> {
        let (logits, labels) = (logits(rows, classes), labels(rows, classes));
        let (mut p, mut d) = (nan::<f32>(rows * classes), nan::<f32>(rows * classes));
        loss::softmax(c, classes, &logits, &mut p);
        let total = loss::cross_entropy(classes, &p, &labels);
        loss::cross_entropy_gradient(classes, &p, &labels, &mut d);
        vec![wide(&p), vec![total.loss, total.correct as f64], wide(&d)]
    }

    fn want<E: Element>(&(rows, classes): &Self::Shape) -> Vec<Want> {
        let (logits, labels) = (logits(rows, classes), labels(rows, classes));
        let (mut p, mut loss, mut correct) = (Vec::new(), 0.0, 0);
        for (row, &label) in logits.chunks_exact(classes).zip(&labels) {
            let e: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let sum: f64 = e.iter().sum();
            loss -= (e[label as usize] / sum).max(f64::from(f32::MIN_POSITIVE)).ln();
            let best = (1..classes).fold(0, |best, k| if row[k] > row[best] { k } else { best });
            correct += usize::from(best == label as usize);
            p.extend(e.iter().map(|e| e / sum));
        }
        let hit = |i: usize| f64::from(u8::from(i % classes == labels[i / classes] as usize));
        let d: Vec<f64> = (0..p.len()).map(|i| (p[i] - hit(i)) / rows as f64).collect();
        // Differences of logits, to 60, are rounded before the exponential; so are `classes` terms of the sum.
        let relative = 64.0 * gamma(1) + gamma(classes + 6);
        let of_p = p.clone();
        let bound = |i: usize| relative * of_p[i];
        vec![
            Want::floats("probabilities", p, bound),
            Want {
                what: "loss and hits",
                values: vec![loss, correct as f64],
                bounds: vec![2.0 * relative * rows as f64, 0.0],
            },
            Want::floats("gradient", d, |i| (bound(i) + 3.0 * gamma(1)) / rows as f64),
        ]
    }
}
