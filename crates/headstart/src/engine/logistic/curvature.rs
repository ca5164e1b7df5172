//! About how much the loss of a head curves in each direction, so that few steps lead to its minimum.
//!
//! Features of a net are all positive and correlated: their loss is a narrow valley. Its second derivative with respect
//! to the kernel is about the features' covariance, in which each image is weighted with the mean of `p (1 - p)` over
//! classes (`(1 - 1/classes) / classes` where this is unknown: Boehning 1992, "Multinomial logistic regression
//! algorithm"), plus that of the L2 penalty. L-BFGS takes the inverse of this matrix for its first guess of the curvature. The
//! bias is counted from the mean image: `bias = bias' - mean kernel`.

use headstart_kernels::cholesky::{cholesky, inverse_lower};
use headstart_kernels::linear::{dense, dense_kernel_gradient};
use headstart_kernels::table::Compute;

use super::Scaler;
use super::team::Team;

/// Images whose products are summed at a time.
const BLOCK: usize = 512;
/// Most images for each feature that the covariance is computed from, and how many always are.
const SHARE: usize = 2;
const ALWAYS: usize = 512;
/// Rows of a slab.
const SLAB: usize = 256;

/// The inverse of the curvature.
#[derive(Clone, Debug)]
pub(super) struct Curvature {
    /// Mean of each feature.
    pub mean: Vec<f64>,
    /// How much the loss curves by a class's bias.
    bias: f64,
    /// `inv(L)'`, where `L L'` is the curvature by the kernel, in slabs of rows without the columns that are zero in all of them.
    slabs: Vec<Slab>,
    /// The L2 penalty that it is of.
    pub l2: f64,
}

/// Rows of an upper triangular matrix from `first` on, `[rows, width - first]`.
#[derive(Clone, Debug)]
struct Slab {
    first: usize,
    values: Vec<f32>,
}

/// Images that a curvature is computed of.
pub(super) struct Sample<'a> {
    /// `[images, width]`.
    pub features: &'a [f32],
    pub width: usize,
    /// Positions of the images that count.
    pub rows: &'a [usize],
    /// How the head's features come from these.
    pub scaler: Option<&'a Scaler>,
    /// Of each position, how much its loss curves for a given direction.
    pub weight: &'a dyn Fn(usize) -> f64,
}

impl Curvature {
    /// That of images and an L2 penalty.
    pub fn new(team: &Team<'_>, sample: &Sample<'_>, l2: f64) -> Curvature {
        let (compute, width) = (team.compute, sample.width);
        let step = sample.rows.len().div_ceil(ALWAYS.max(SHARE * width)).max(1);
        let rows: Vec<usize> = sample.rows.iter().step_by(step).copied().collect();
        let weights: Vec<f64> = rows.iter().map(|&i| (sample.weight)(i)).collect();
        let (mean, mut factor) = spread(team, sample, &rows, &weights);
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
        let slab = |first: usize| {
            let (last, columns) = (width.min(first + SLAB), width - first);
            let mut values = vec![0.0; (last - first) * columns];
            for (i, row) in inverse.chunks_exact(width).enumerate().skip(first) {
                for (j, &value) in row[first..last.min(i + 1)].iter().enumerate() {
                    values[j * columns + i - first] = value as f32;
                }
            }
            Slab { first, values }
        };
        let slabs = (0..width).step_by(SLAB).map(slab).collect();
        let bias = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        Curvature { mean, bias: bias.max(1e-12), slabs, l2 }
    }

    /// A gradient by kernels, `[width, columns]`, over the curvature.
    pub fn solve(&self, compute: &Compute, columns: usize, gradient: &[f64]) -> Vec<f64> {
        let (mut half, mut step) = (vec![0.0; gradient.len()], vec![0.0; gradient.len()]);
        let zeros = vec![0.0; columns];
        let rows = |slab: &Slab, all: usize| {
            let count = slab.values.len() / (all / columns - slab.first);
            slab.first * columns..(slab.first + count) * columns
        };
        for slab in &self.slabs {
            let part = &gradient[rows(slab, gradient.len())];
            let to = &mut half[slab.first * columns..];
            dense_kernel_gradient(compute, &slab.values, part, columns, to);
        }
        for slab in &self.slabs {
            let to = &mut step[rows(slab, gradient.len())];
            dense(compute, &slab.values, &half[slab.first * columns..], &zeros, to);
        }
        step
    }

    /// A gradient by the biases over the curvature.
    pub fn solve_bias(&self, gradient: &mut [f64]) {
        gradient.iter_mut().for_each(|g| *g /= self.bias);
    }
}

/// Mean of each feature, `[width]`, and weighted products of their distances from it, `[width, width]`, over the number of
/// rows: the half below the diagonal.
fn spread(
    team: &Team<'_>,
    sample: &Sample<'_>,
    rows: &[usize],
    weights: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let width = sample.width;
    let share = 1.0 / rows.len().max(1) as f64;
    let scaled = |i: usize| -> Vec<f32> {
        let row = &sample.features[i * width..][..width];
        sample.scaler.map_or_else(|| row.to_vec(), |scaler| scaler.apply(row))
    };
    let mut mean = vec![0.0; width];
    for &i in rows {
        mean.iter_mut().zip(scaled(i)).for_each(|(m, x)| *m += share * f64::from(x));
    }
    let products = team.symmetric(width, |add, first, products| {
        let (mut centred, mut wide) = (Vec::new(), Vec::new());
        for (rows, weights) in rows.chunks(BLOCK).zip(weights.chunks(BLOCK)) {
            centred.clear();
            wide.clear();
            for (&i, weight) in rows.iter().zip(weights) {
                let row = scaled(i);
                let distances = row.iter().zip(&mean).map(|(&x, m)| (f64::from(x) - m) as f32);
                centred.extend(distances.clone());
                wide.extend(distances.map(|x| share * weight * f64::from(x)));
            }
            add(&centred, &wide, first, products);
        }
    });
    (mean, products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logistic::tests::clusters;

    /// The curvature of all images alike, and the matrix that it is the inverse of.
    fn of(features: &[f32], width: usize, l2: f64) -> (Curvature, Vec<f64>) {
        let compute = Compute::new(1).unwrap();
        let rows: Vec<usize> = (0..features.len() / width).collect();
        let sample = Sample { features, width, rows: &rows, scaler: None, weight: &|_| 0.25 };
        let curvature = Curvature::new(&Team::alone(&compute), &sample, l2);
        let mean = |j: usize| {
            rows.iter().map(|&i| f64::from(features[i * width + j])).sum::<f64>()
                / rows.len() as f64
        };
        let entry = |j: usize, k: usize| {
            let of = |i: usize, j: usize| f64::from(features[i * width + j]) - mean(j);
            let sum: f64 = rows.iter().map(|&i| 0.25 * of(i, j) * of(i, k)).sum();
            sum / rows.len() as f64 + if j == k { 2.0 * l2 } else { 0.0 }
        };
        let matrix = (0..width * width).map(|i| entry(i / width, i % width)).collect();
        (curvature, matrix)
    }

    #[test]
    fn a_gradient_comes_back_from_its_step_times_the_curvature() {
        // One slab, and two.
        for (width, l2) in [(5, 1e-3), (300, 1.0)] {
            let (features, _) = clusters(3, 20, width, 1.0);
            let (curvature, matrix) = of(&features, width, l2);
            let gradient: Vec<f64> = (0..2 * width).map(|i| (i as f64 * 0.7).sin()).collect();
            let step = curvature.solve(&Compute::new(1).unwrap(), 2, &gradient);
            for (i, want) in gradient.iter().enumerate() {
                let row = &matrix[i / 2 * width..][..width];
                let back: f64 = row.iter().enumerate().map(|(k, m)| m * step[k * 2 + i % 2]).sum();
                assert!((back - want).abs() < 1e-3, "{i}: {back} {want}");
            }
        }
    }

    #[test]
    fn features_that_depend_on_each_other_or_never_change_have_one() {
        let features: Vec<f32> = (0..10).flat_map(|i| [i as f32, 2.0 * i as f32, 3.0]).collect();
        let step = of(&features, 3, 0.0).0.solve(&Compute::new(1).unwrap(), 1, &[1.0, 2.0, 0.0]);
        // Along what changes, (1, 2, 0), the curvature is 0.25 times the variance, 8.25, whose inverse is the step.
        assert!(step.iter().all(|v| v.is_finite()), "{step:?}");
        assert!((step[0] + 2.0 * step[1] - 1.0 / (0.25 * 8.25)).abs() < 1e-2, "{step:?}");
    }
}
