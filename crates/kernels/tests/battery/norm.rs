//! Batch norm over rows of channels.

use headstart_kernels::element::Element;
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{FLOAT, Kernel, Want, gamma, nan, wide};
use crate::support::{elements, noise};

/// Rows and channels.
pub type Rows = (usize, usize);

pub const ROWS: [Rows; 7] = [(1, 1), (1, 17), (2, 3), (33, 64), (700, 65), (40, 2048), (9000, 16)];

pub fn small_rows() -> BoxedStrategy<Rows> {
    (1..40usize, 1..100usize).boxed()
}

const EPSILON: f32 = 0.1;

/// Mean, variance, gamma and beta of so many channels.
fn state(n: usize) -> [Vec<f32>; 4] {
    let variance = noise(n, 11).iter().map(|v| v.abs()).collect();
    [noise(n, 10), variance, noise(n, 12), noise(n, 13)]
}

fn deviations(variance: &[f32]) -> Vec<f64> {
    variance.iter().map(|&v| (f64::from(v) + f64::from(EPSILON)).sqrt()).collect()
}

fn column_sums(n: usize, values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    values.iter().enumerate().for_each(|(i, value)| sums[i % n] += value);
    sums
}

/// `norm::column_sums`.
pub struct ColumnSums;

impl Kernel for ColumnSums {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let mut sums = nan::<f32>(n);
        norm::column_sums(c, n, &elements::<E>(rows * n, 1).0, &mut sums);
        vec![wide(&sums)]
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let x = wide(&elements::<E>(rows * n, 1).0);
        let sizes = column_sums(n, &x.iter().map(|x| x.abs()).collect::<Vec<_>>());
        let bound = |k: usize| gamma(rows + 1) * sizes[k];
        vec![Want::floats("sums", column_sums(n, &x), bound)]
    }
}

/// `norm::batch_norm_statistics`; a large mean must not drown the variance.
pub struct Statistics;

const OFFSETS: [f32; 2] = [0.0, 1000.0];

fn moved<E: Element>(len: usize, offset: f32) -> Vec<E> {
    noise(len, 7).into_iter().map(|x| E::from_f32(x + offset)).collect()
}

impl Kernel for Statistics {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let of = |offset: f32| {
            let (mut mean, mut variance) = (nan::<f32>(n), nan::<f32>(n));
            let x = moved::<E>(rows * n, offset);
            norm::batch_norm_statistics(c, n, &x, &mut mean, &mut variance);
            [wide(&mean), wide(&variance)]
        };
        OFFSETS.into_iter().flat_map(of).collect()
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let of = |offset: f32| {
            let x = wide(&moved::<E>(rows * n, offset));
            let mean_of = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
                let values: Vec<f64> = (0..x.len()).map(f).collect();
                column_sums(n, &values).into_iter().map(|total| total / rows as f64).collect()
            };
            let mean = mean_of(&|i| x[i]);
            let variance = mean_of(&|i| (x[i] - mean[i % n]).powi(2));
            // Sums are of what values are more than the first row's.
            let more = mean_of(&|i| (x[i] - x[i % n]).abs());
            let squares = mean_of(&|i| (x[i] - x[i % n]).powi(2));
            let sum = gamma(rows + 2);
            let of_mean = |k: usize| sum * more[k];
            let bound = |k: usize| 2.0 * sum * squares[k] + 2.0 * more[k] * of_mean(k);
            let rounded: Vec<f64> = mean.iter().map(|m| m.abs() * FLOAT).collect();
            [
                Want::floats("mean", mean, |k| of_mean(k) + rounded[k]),
                Want::floats("variance", variance, bound),
            ]
        };
        OFFSETS.into_iter().flat_map(of).collect()
    }
}

/// `norm::batch_norm_fold` and `norm::batch_norm_apply`, with a residual and a ReLU or not.
pub struct Apply;

const MODES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

impl Kernel for Apply {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let (x, r) = (elements::<E>(rows * n, 1).0, elements::<E>(rows * n, 3).0);
        let [mean, variance, gamma, beta] = state(n);
        let (mut scale, mut shift) = (nan::<f32>(n), nan::<f32>(n));
        norm::batch_norm_fold(&gamma, &beta, &mean, &variance, EPSILON, &mut scale, &mut shift);
        let of = |(added, relu): (bool, bool)| {
            let (mut y, r) = (nan::<E>(rows * n), added.then_some(&r[..]));
            norm::batch_norm_apply(c, n, &x, &scale, &shift, r, relu, &mut y);
            wide(&y)
        };
        MODES.into_iter().map(of).collect()
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let (x, r) = (elements::<E>(rows * n, 1).1, elements::<E>(rows * n, 3).1);
        let [mean, variance, gain, beta] = state(n);
        let deviation = deviations(&variance);
        let of = |(added, relu): (bool, bool)| {
            let terms = |i: usize| {
                let k = i % n;
                let scale = f64::from(gain[k]) / deviation[k];
                let residual = if added { f64::from(r[i]) } else { 0.0 };
                [f64::from(x[i]) * scale, -f64::from(mean[k]) * scale, f64::from(beta[k]), residual]
            };
            let floor = if relu { 0.0 } else { f64::NEG_INFINITY };
            let value = |i: usize| terms(i).iter().sum::<f64>().max(floor);
            let values = (0..x.len()).map(value).collect();
            let bound = |i: usize| gamma(5) * terms(i).iter().map(|t| t.abs()).sum::<f64>();
            Want::stored::<E>("normalised", values, bound)
        };
        MODES.into_iter().map(of).collect()
    }
}

/// `norm::batch_norm_parameter_gradients`.
pub struct ParameterGradients;

impl Kernel for ParameterGradients {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(rows * n, 1).0, elements::<E>(rows * n, 2).0);
        let [mean, variance, gamma, _] = &state(n);
        let state = NormState { mean, variance, gamma, epsilon: EPSILON };
        let (mut g, mut b) = (nan::<f32>(n), nan::<f32>(n));
        norm::batch_norm_parameter_gradients(c, n, &x, &dy, state, &mut g, &mut b);
        vec![wide(&g), wide(&b)]
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let (x, dy) = (elements::<E>(rows * n, 1).1, wide(&elements::<E>(rows * n, 2).0));
        let [mean, variance, ..] = state(n);
        let deviation = deviations(&variance);
        let product =
            |i: usize| dy[i] * (f64::from(x[i]) - f64::from(mean[i % n])) / deviation[i % n];
        let products: Vec<f64> = (0..x.len()).map(product).collect();
        let sizes = |values: &[f64]| {
            column_sums(n, &values.iter().map(|value| value.abs()).collect::<Vec<_>>())
        };
        let (g, b) = (sizes(&products), sizes(&dy));
        vec![
            Want::floats("dgamma", column_sums(n, &products), |k| gamma(rows + 3) * g[k]),
            Want::floats("dbeta", column_sums(n, &dy), |k| gamma(rows + 1) * b[k]),
        ]
    }
}

/// `norm::batch_norm_input_gradient`, in place or not.
pub struct InputGradient;

impl Kernel for InputGradient {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(rows * n, 1).0, elements::<E>(rows * n, 2).0);
        let [mean, variance, gamma, _] = &state(n);
        let state = NormState { mean, variance, gamma, epsilon: EPSILON };
        let (g, b) = (noise(n, 20), noise(n, 21));
        let (mut apart, mut dx) = (nan::<E>(rows * n), dy.clone());
        norm::batch_norm_input_gradient(c, n, &x, state, &g, &b, Some(&dy), &mut apart);
        norm::batch_norm_input_gradient(c, n, &x, state, &g, &b, None, &mut dx);
        assert!(dx == apart, "other bits in place");
        vec![wide(&dx)]
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let (x, dy) = (elements::<E>(rows * n, 1).1, elements::<E>(rows * n, 2).1);
        let [mean, variance, gain, _] = state(n);
        let (deviation, g, b) = (deviations(&variance), noise(n, 20), noise(n, 21));
        let terms = |i: usize| {
            let k = i % n;
            let (sd, count) = (deviation[k], rows as f64);
            let slope = (f64::from(x[i]) - f64::from(mean[k])) / sd * f64::from(g[k]) / count;
            let terms = [f64::from(dy[i]), -f64::from(b[k]) / count, -slope];
            terms.map(|term| term * f64::from(gain[k]) / sd)
        };
        let values = (0..x.len()).map(|i| terms(i).iter().sum()).collect();
        let bound = |i: usize| gamma(7) * terms(i).iter().map(|t| t.abs()).sum::<f64>();
        vec![Want::stored::<E>("gradient", values, bound)]
    }
}

/// `norm::batch_norm_frozen_input_gradient`, in place or not.
pub struct FrozenInputGradient;

impl Kernel for FrozenInputGradient {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let dy = elements::<E>(rows * n, 2).0;
        let [mean, variance, gamma, _] = &state(n);
        let state = NormState { mean, variance, gamma, epsilon: EPSILON };
        let (mut apart, mut dx) = (nan::<E>(rows * n), dy.clone());
        norm::batch_norm_frozen_input_gradient(c, n, state, Some(&dy), &mut apart);
        norm::batch_norm_frozen_input_gradient(c, n, state, None, &mut dx);
        assert!(dx == apart, "other bits in place");
        vec![wide(&dx)]
    }

    fn want<E: Element>(&(rows, n): &Rows) -> Vec<Want> {
        let dy = elements::<E>(rows * n, 2).1;
        let [_, variance, gain, _] = state(n);
        let deviation = deviations(&variance);
        let value = |i: usize| f64::from(dy[i]) * f64::from(gain[i % n]) / deviation[i % n];
        let values: Vec<f64> = (0..dy.len()).map(value).collect();
        vec![Want::stored::<E>("gradient", values, |i| value(i).abs() * gamma(2))]
    }
}
