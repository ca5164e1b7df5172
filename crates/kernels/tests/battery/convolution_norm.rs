//! What convolutions gather for a batch norm beside their output.

use headstart_kernels::conv::{self, ConvShape, Epilogue, Onto, Packed};
use headstart_kernels::element::Element;
use headstart_kernels::norm::NormState;
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::convolution::{self, Exact};
use crate::kernel::{Kernel, Want, gamma, nan, stored, wide};
use crate::support::{elements, noise};

/// Whole tiles and edges of pixels and channels, several chunks of pixels, strides that leave pixels out.
fn shapes() -> Vec<ConvShape> {
    let list = [
        [2, 9, 8, 17, 65, 1, 1, 0, 1],
        [1, 7, 7, 64, 128, 1, 1, 0, 1],
        [3, 12, 11, 16, 64, 3, 1, 1, 1],
        [2, 9, 8, 20, 10, 1, 2, 0, 1],
        [2, 9, 9, 8, 16, 3, 2, 1, 1],
        [1, 1, 1, 4, 4, 1, 1, 0, 1],
        [1, 40, 30, 8, 70, 1, 1, 0, 1],
        [2, 7, 8, 64, 64, 3, 1, 1, 1],
    ];
    list.map(convolution::shape).to_vec()
}

/// Sums over the rows of `f(element)`, by column.
fn columns(len: usize, n: usize, f: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    (0..len).for_each(|i| sums[i % n] += f(i));
    sums
}

/// `conv::forward_statistics`: the bits of `conv::forward`, and mean and variance of its output.
pub struct Statistics;

impl Kernel for Statistics {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        [shapes(), convolution::enlarged()].concat()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        convolution::small_any()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (x, w) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.kernel_len(), 2).1);
        let (n, bias) = (s.out_channels(), noise(s.out_channels(), 3));
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, None, &mut packed);
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let (mut plain, mut y) = (nan::<E>(s.out_len()), nan::<E>(s.out_len()));
        conv::forward(c, s, &x, &packed, epilogue, &mut plain);
        let (mut mean, mut variance) = (nan::<f32>(n), nan::<f32>(n));
        conv::forward_statistics(c, s, &x, &packed, epilogue, &mut y, &mut mean, &mut variance);
        assert!(y == plain, "{s:?}: other bits than without statistics");
        vec![wide(&mean), wide(&variance)]
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let (xv, w) = (elements::<E>(s.in_len(), 1).1, elements::<E>(s.kernel_len(), 2).1);
        let (n, bias) = (s.out_channels(), noise(s.out_channels(), 3));
        let exact = Exact::forward::<E>(s, &xv, &w, 2);
        let (y, len) = (|i: usize| exact.values[i] + f64::from(bias[i % n]), s.out_len());
        let (rows, sum) = (len / n, gamma(len / n + 4));
        let mean_of = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            columns(len, n, f).into_iter().map(|total| total / rows as f64).collect()
        };
        let mean = mean_of(&y);
        let variance = mean_of(&|i| (y(i) - mean[i % n]).powi(2));
        // Each element may be off by this much, rounded or not.
        let error = |i: usize| stored::<E>(y(i), exact.errors[i] + y(i).abs() * gamma(2));
        let errors = mean_of(&error);
        // Sums are of the values, or of what they are more than the first row's.
        let most = |i: usize| y(i).abs() + y(i % n).abs();
        let sizes = mean_of(&most);
        let squares = mean_of(&|i| most(i) * most(i));
        let products = mean_of(&|i| {
            2.0 * most(i) * (error(i) + error(i % n)) + (error(i) + error(i % n)).powi(2)
        });
        let of_mean = |k: usize| errors[k] + sum * sizes[k];
        vec![
            Want::floats("mean", mean.clone(), of_mean),
            Want::floats("variance", variance, |k| {
                products[k] + sum * squares[k] + 2.0 * sizes[k] * of_mean(k) + of_mean(k).powi(2)
            }),
        ]
    }
}

/// `conv::backward_input_norm`: the bits of `conv::backward_input`, and the gradients of the batch norm before.
pub struct Gradients;

const EPSILON: f32 = 1e-3;

/// Mean, variance and gamma of so many channels.
fn state(n: usize) -> [Vec<f32>; 3] {
    let variance = noise(n, 7).iter().map(|v| v.abs() + 0.1).collect();
    [noise(n, 6), variance, noise(n, 8)]
}

impl Kernel for Gradients {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        shapes()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        convolution::small_plain().boxed()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (dy, w) = (elements::<E>(s.out_len(), 1).0, elements::<E>(s.kernel_len(), 2).1);
        let (held, mask) = (elements::<E>(s.in_len(), 3).0, elements::<E>(s.in_len(), 4).0);
        let (x, n) = (elements::<E>(s.in_len(), 5).0, s.in_channels());
        let [mean, variance, gamma] = &state(n);
        let state = NormState { mean, variance, gamma, epsilon: EPSILON };
        let mut packed = Packed::default();
        conv::pack_backward_input::<E>(c, s, &w, &mut packed);
        let run = |mode: usize| {
            let (onto, start) = match mode & 1 > 0 {
                true => (Onto::Gradient, held.clone()),
                false => (Onto::Nothing, nan(s.in_len())),
            };
            let mask = (mode & 2 > 0).then_some(&mask[..]);
            let (mut plain, mut dx) = (start.clone(), start);
            conv::backward_input(c, s, &dy, &packed, onto, mask, &mut plain);
            let (mut g, mut b) = (nan::<f32>(n), nan::<f32>(n));
            let to = &mut dx;
            conv::backward_input_norm(
                c, s, &dy, &packed, onto, mask, to, &x, state, &mut g, &mut b,
            );
            assert!(dx == plain, "{s:?} mode {mode}: other bits than without a batch norm");
            [wide(&g), wide(&b)]
        };
        (0..4).flat_map(run).collect()
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let (dyv, w) = (elements::<E>(s.out_len(), 1).1, elements::<E>(s.kernel_len(), 2).1);
        let (hv, mv) = (elements::<E>(s.in_len(), 3).1, elements::<E>(s.in_len(), 4).1);
        let (xv, n, len) = (elements::<E>(s.in_len(), 5).1, s.in_channels(), s.in_len());
        let [mean, variance, _] = state(n);
        let exact = Exact::backward_input::<E>(s, &dyv, &w, 1);
        let deviation = |k: usize| (f64::from(variance[k]) + f64::from(EPSILON)).sqrt();
        let sum = gamma(len / n + 4);
        let of = |mode: usize| {
            let value = |i: usize| match mode & 2 > 0 && mv[i] <= 0.0 {
                true => 0.0,
                false => exact.values[i] + if mode & 1 > 0 { f64::from(hv[i]) } else { 0.0 },
            };
            let error = |i: usize| stored::<E>(value(i), exact.errors[i] + 2.0 * gamma(1));
            let normal = |i: usize| (f64::from(xv[i]) - f64::from(mean[i % n])) / deviation(i % n);
            // The products are of `x`, the mean's share is taken off afterwards, or of both less one another.
            let size = |i: usize| {
                (f64::from(xv[i]).abs() + f64::from(mean[i % n]).abs()) / deviation(i % n)
            };
            let errors = columns(len, n, |i| error(i) + sum * value(i).abs());
            let products = columns(len, n, |i| size(i) * (error(i) + sum * value(i).abs()));
            [
                Want::floats("dgamma", columns(len, n, |i| value(i) * normal(i)), |k| products[k]),
                Want::floats("dbeta", columns(len, n, value), |k| errors[k]),
            ]
        };
        (0..4).flat_map(of).collect()
    }
}
