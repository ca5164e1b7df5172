//! What convolutions gather for a batch norm beside their output, against the f64 oracle.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::norm::NormState;
use headstart_kernels::oracle;
use headstart_kernels::table::Compute;

mod support;
use support::{close, each_compute, elements, noise, same_bits, unit_roundoff};

/// Whole tiles and edges of pixels and channels, several chunks of pixels, strides that leave pixels out.
fn shapes() -> Vec<ConvShape> {
    let list = [
        (2, 9, 8, 17, 65, 1, 1, 0),
        (1, 7, 7, 64, 128, 1, 1, 0),
        (3, 12, 11, 16, 64, 3, 1, 1),
        (2, 9, 8, 20, 10, 1, 2, 0),
        (2, 9, 9, 8, 16, 3, 2, 1),
        (1, 1, 1, 4, 4, 1, 1, 0),
        (1, 40, 30, 8, 70, 1, 1, 0),
    ];
    list.map(|(batch, height, width, in_channels, out_channels, kernel, stride, padding)| {
        let sizes =
            ConvSizes { batch, height, width, in_channels, out_channels, ..ConvSizes::default() };
        ConvShape::new(ConvSizes { kernel, stride, padding, ..sizes }).unwrap()
    })
    .to_vec()
}

/// Sum over the rows of `f(element, column)`, by column.
fn columns(values: &[f64], n: usize, f: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    (0..values.len()).for_each(|i| sums[i % n] += f(i));
    sums
}

/// Relative error of a sum of floats, and of elements that are rounded where a tile sticks out.
fn tolerance<E: Element>() -> f64 {
    2e-5 + unit_roundoff::<E>()
}

fn statistics<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = 10 * seed as u64;
        let (x, xv) = elements::<E>(s.in_len(), seed + 1);
        let (_, w) = elements::<E>(s.kernel_len(), seed + 2);
        let (n, bias) = (s.out_channels(), noise(s.out_channels(), seed + 3));
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, None, &mut packed);
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        let mut plain = vec![E::default(); s.out_len()];
        conv::forward(c, s, &x, &packed, epilogue, &mut plain);
        let mut y = vec![E::from_f32(f32::NAN); s.out_len()];
        let (mut mean, mut variance) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        conv::forward_statistics(c, s, &x, &packed, epilogue, &mut y, &mut mean, &mut variance);
        assert!(y == plain, "{s:?}");
        let exact = oracle::conv_forward(s, &xv, &w);
        let value = |i: usize| exact[i] + f64::from(bias[i % n]);
        let rows = (exact.len() / n) as f64;
        let m: Vec<f64> = columns(&exact, n, value).iter().map(|t| t / rows).collect();
        let v = columns(&exact, n, |i| (value(i) - m[i % n]).powi(2) / rows);
        let square = (0..exact.len()).map(|i| value(i).powi(2)).fold(0.0, f64::max);
        let what = format!("{} {} {s:?}", c.isa(), E::DTYPE.name());
        close(&format!("mean, {what}"), &mean, &m, square.sqrt() * tolerance::<E>());
        close(&format!("variance, {what}"), &variance, &v, 2.0 * square * tolerance::<E>());
    }
}

#[test]
fn statistics_are_those_of_the_output() {
    each_compute(statistics::<f32>);
    each_compute(statistics::<Bf16>);
}

fn gradients<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = 10 * seed as u64;
        let (dy, dyv) = elements::<E>(s.out_len(), seed + 1);
        let (_, w) = elements::<E>(s.kernel_len(), seed + 2);
        let (held, hv) = elements::<E>(s.in_len(), seed + 3);
        let (mask, mv) = elements::<E>(s.in_len(), seed + 4);
        let (x, xv) = elements::<E>(s.in_len(), seed + 5);
        let n = s.in_channels();
        let mean = noise(n, seed + 6);
        let variance: Vec<f32> = noise(n, seed + 7).iter().map(|v| v.abs() + 0.1).collect();
        let gamma = noise(n, seed + 8);
        let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 1e-3 };
        let mut packed = Packed::default();
        conv::pack_backward_input::<E>(c, s, &w, &mut packed);
        let exact = oracle::conv_backward_input(s, &dyv, &w);
        for mode in 0..4 {
            let (accumulate, masked) = (mode & 1 > 0, mode & 2 > 0);
            let onto = if accumulate { Onto::Gradient } else { Onto::Nothing };
            let mask = masked.then_some(&mask[..]);
            let start = || match accumulate {
                true => held.clone(),
                false => vec![E::from_f32(f32::NAN); s.in_len()],
            };
            let (mut plain, mut dx) = (start(), start());
            conv::backward_input(c, s, &dy, &packed, onto, mask, &mut plain);
            let (mut dgamma, mut dbeta) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            conv::backward_input_norm(
                c,
                s,
                &dy,
                &packed,
                onto,
                mask,
                &mut dx,
                &x,
                state,
                &mut dgamma,
                &mut dbeta,
            );
            assert!(dx == plain, "{s:?} mode {mode}");
            let value = |i: usize| match masked && mv[i] <= 0.0 {
                true => 0.0,
                false => exact[i] + if accumulate { f64::from(hv[i]) } else { 0.0 },
            };
            let normal = |i: usize| {
                let deviation = (f64::from(variance[i % n]) + f64::from(1e-3f32)).sqrt();
                (f64::from(xv[i]) - f64::from(mean[i % n])) / deviation
            };
            let size = columns(&exact, n, |i| value(i).abs() * (1.0 + 7.0));
            let bound = size.iter().fold(1e-6, |a: f64, &b| a.max(b)) * tolerance::<E>();
            let what = format!("{} {} {s:?} mode {mode}", c.isa(), E::DTYPE.name());
            close(&format!("dbeta, {what}"), &dbeta, &columns(&exact, n, value), bound);
            let want = columns(&exact, n, |i| value(i) * normal(i));
            close(&format!("dgamma, {what}"), &dgamma, &want, bound);
        }
    }
}

#[test]
fn gradients_of_a_batch_norm_are_those_of_the_input_gradient() {
    each_compute(gradients::<f32>);
    each_compute(gradients::<Bf16>);
}

#[test]
fn sums_do_not_depend_on_the_number_of_threads() {
    for s in shapes() {
        same_bits(|c| {
            let (x, w) = (elements::<Bf16>(s.in_len(), 1).0, noise(s.kernel_len(), 2));
            let mut packed = Packed::default();
            conv::pack_forward::<Bf16>(c, &s, &w, None, &mut packed);
            let mut y = vec![Bf16::default(); s.out_len()];
            let (mut mean, n) = (vec![0.0; s.out_channels()], s.out_channels());
            let (epilogue, mut variance) = (Epilogue::default(), vec![0.0; n]);
            conv::forward_statistics(
                c,
                &s,
                &x,
                &packed,
                epilogue,
                &mut y,
                &mut mean,
                &mut variance,
            );
            mean.extend(variance);
            mean
        });
    }
}
