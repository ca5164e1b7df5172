//! Variables in which the head's loss curves about equally in all directions, so that few steps lead to its minimum.
//!
//! Features of a net are all positive and correlated: their loss is a narrow valley. Its second derivative with respect
//! to the kernel is about the features' covariance, in which each image is weighted with the mean of `p (1 - p)` over
//! classes (`(1 - 1/classes) / classes` where this is unknown: Boehning 1992, "Multinomial logistic regression
//! algorithm"), plus that of the L2 penalty. Let `L L'` be this matrix. With `kernel = inv(L)' kernel'` and `bias = bias' -
//! mean kernel` it becomes the identity. The problem itself does not change.

use headstart_kernels::cholesky::{cholesky, inverse_lower, times_lower_transposed};
use headstart_kernels::linear::{dense, dense_kernel_gradient};
use headstart_kernels::table::Compute;

use super::{BLOCK, Examples, LinearHead};

/// Most images for each feature that the covariance is computed from.
const SHARE: usize = 2;

/// Variables of a head: kernel, then bias.
#[derive(Clone, Debug)]
pub(super) struct Basis {
    /// Mean of each feature.
    mean: Vec<f64>,
    /// `L`, in the lower half.
    factor: Vec<f64>,
    /// `inv(L)'`. The head is this times the values.
    matrix: Vec<f32>,
    classes: usize,
}

impl Basis {
    /// The basis for an L2 penalty; the weights of the images come from the head `near`, if there is one.
    pub fn new(
        compute: &Compute,
        examples: &Examples<'_>,
        l2: f64,
        near: Option<&LinearHead>,
    ) -> Basis {
        let Examples { features, width, classes, labels, class_weights } = *examples;
        let step = labels.len().div_ceil(SHARE * width);
        let rows: Vec<f32> =
            features.chunks_exact(width).step_by(step).flatten().copied().collect();
        let likely = 1.0 / classes as f64;
        let mut weights = match near {
            Some(head) => weights(compute, &rows, head),
            None => vec![likely * (1.0 - likely); rows.len() / width],
        };
        if !class_weights.is_empty() {
            let labels = labels.iter().step_by(step);
            let each = weights.iter_mut().zip(labels);
            each.for_each(|(weight, &label)| *weight *= f64::from(class_weights[label]));
        }
        let (mean, mut factor) = spread(compute, &rows, width, &weights);
        let trace: f64 = (0..width).map(|i| factor[i * width + i]).sum();
        // So that the matrix has a factor where features depend on each other.
        let squares: f64 = mean.iter().map(|m| m * m).sum();
        let least = (1e-6 * trace + 1e-9 * squares) / width as f64 + 1e-12;
        (0..width).for_each(|i| factor[i * width + i] += 2.0 * l2 + least);
        if !cholesky(compute, width, &mut factor) {
            factor.fill(0.0);
            (0..width).for_each(|i| factor[i * width + i] = 1.0);
        }
        let inverse = inverse_lower(compute, width, &factor);
        let mut matrix = vec![0.0; width * width];
        for (i, row) in inverse.chunks_exact(width).enumerate() {
            for (j, &value) in row[..=i].iter().enumerate() {
                matrix[j * width + i] = value as f32;
            }
        }
        Basis { mean, factor, matrix, classes }
    }

    /// The head that `values` describe.
    pub fn head(&self, compute: &Compute, values: &[f64]) -> Vec<f64> {
        let mut head = values.to_vec();
        let size = self.mean.len() * self.classes;
        let (kernel, bias) = head.split_at_mut(size);
        dense(compute, &self.matrix, &values[..size], &vec![0.0; self.classes], kernel);
        self.mean_scores(kernel).zip(bias).for_each(|(score, b)| *b -= score);
        head
    }

    /// Values that describe a head close to `head`.
    pub fn values(&self, head: &[f64]) -> Vec<f64> {
        let mut values = head.to_vec();
        let (kernel, bias) = values.split_at_mut(self.mean.len() * self.classes);
        self.mean_scores(kernel).zip(bias).for_each(|(score, b)| *b += score);
        times_lower_transposed(self.mean.len(), &self.factor, self.classes, kernel);
        values
    }

    /// The gradient by the values, from the one by the head.
    pub fn gradient(&self, compute: &Compute, by_head: &[f64]) -> Vec<f64> {
        let (kernel, bias) = by_head.split_at(self.mean.len() * self.classes);
        let mut whole = kernel.to_vec();
        for (row, m) in whole.chunks_exact_mut(self.classes).zip(&self.mean) {
            row.iter_mut().zip(bias).for_each(|(g, b)| *g -= m * b);
        }
        let mut gradient = vec![0.0; by_head.len()];
        let (by_kernel, by_bias) = gradient.split_at_mut(whole.len());
        dense_kernel_gradient(compute, &self.matrix, &whole, self.classes, by_kernel);
        by_bias.copy_from_slice(bias);
        gradient
    }

    /// The mean features times the kernel.
    fn mean_scores(&self, kernel: &[f64]) -> impl Iterator<Item = f64> {
        let mut scores = vec![0.0; self.classes];
        for (row, m) in kernel.chunks_exact(self.classes).zip(&self.mean) {
            scores.iter_mut().zip(row).for_each(|(s, w)| *s += m * w);
        }
        scores.into_iter()
    }
}

/// How much the loss of each image curves: the mean of `p (1 - p)` over classes.
fn weights(compute: &Compute, rows: &[f32], head: &LinearHead) -> Vec<f64> {
    let p = head.probabilities(compute, rows);
    let of = |p: &[f32]| p.iter().map(|&p| f64::from(p * (1.0 - p))).sum::<f64>() / p.len() as f64;
    p.chunks_exact(head.bias.len()).map(of).collect()
}

/// Mean of each feature, `[width]`, and weighted products of their distances from it, `[width, width]`, over the number of
/// rows.
fn spread(compute: &Compute, rows: &[f32], width: usize, weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let share = 1.0 / weights.len() as f64;
    let mut mean = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, &x)| *m += share * f64::from(x));
    }
    let mut products = vec![0.0; width * width];
    let (mut centred, mut wide) = (Vec::new(), Vec::new());
    for (rows, weights) in rows.chunks(BLOCK * width).zip(weights.chunks(BLOCK)) {
        centred.clear();
        wide.clear();
        for (row, weight) in rows.chunks_exact(width).zip(weights) {
            let distances = row.iter().zip(&mean).map(|(&x, m)| (f64::from(x) - m) as f32);
            centred.extend(distances.clone());
            wide.extend(distances.map(|x| share * weight * f64::from(x)));
        }
        dense_kernel_gradient(compute, &centred, &wide, width, &mut products);
    }
    (mean, products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logistic::tests::clusters;

    #[test]
    fn values_and_heads_stand_for_each_other_and_gradients_follow_the_chain_rule() {
        let (features, labels) = clusters(3, 20, 5, 1.0);
        let compute = Compute::new(1).unwrap();
        let examples = Examples::new(&features, 5, &labels, 3);
        let basis = Basis::new(&compute, &examples, 1e-3, None);
        let head: Vec<f64> = (0..18).map(|i| (i as f64 * 0.7).sin()).collect();
        let back = basis.head(&compute, &basis.values(&head));
        assert!(back.iter().zip(&head).all(|(a, b)| (a - b).abs() < 1e-5), "{back:?}");
        // The derivative of `by . head(values)`, which is linear, is a difference.
        let by: Vec<f64> = (0..18).map(|i| (i as f64 * 1.3).cos()).collect();
        let at = |values: &[f64]| {
            basis.head(&compute, values).iter().zip(&by).map(|(h, b)| h * b).sum::<f64>()
        };
        let (gradient, mut values) = (basis.gradient(&compute, &by), basis.values(&head));
        for i in 0..18 {
            let before = at(&values);
            values[i] += 1.0;
            assert!((at(&values) - before - gradient[i]).abs() < 1e-10, "{i}");
            values[i] -= 1.0;
        }
    }

    #[test]
    fn features_that_depend_on_each_other_or_never_change_have_a_basis() {
        let features: Vec<f32> = (0..10).flat_map(|i| [i as f32, 2.0 * i as f32, 3.0]).collect();
        let examples = Examples::new(&features, 3, &[0; 10], 2);
        let compute = Compute::new(1).unwrap();
        let basis = Basis::new(&compute, &examples, 0.0, None);
        let head = [1.0, -2.0, 3.0, 0.5, 2.0, -1.0, 0.25, 4.0];
        let back = basis.head(&compute, &basis.values(&head));
        assert!(back.iter().zip(&head).all(|(a, b)| (a - b).abs() < 1e-2), "{back:?}");
    }
}
