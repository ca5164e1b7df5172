//! Every pass over bfloat16 is the pass over floats on the same values, rounded at the end.

use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::elementwise::{self, Affine, FrameShape, FrameSizes};
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want};
use crate::norm::{ROWS, Rows, small_rows};
use crate::support::{elements, noise};

/// Batch norm, elementwise passes, pooling and frames.
pub struct Passes;

/// What is compared, in order.
const NAMES: [&str; 16] = [
    "statistics",
    "apply",
    "apply with residual and ReLU",
    "parameter gradients",
    "input gradient",
    "frozen input gradient",
    "column sums",
    "add",
    "accumulate",
    "relu",
    "relu gradient",
    "dropout",
    "pool",
    "pool gradient",
    "average and its gradient",
    "frame and its gradient",
];

/// How many elements are not the rounded floats.
fn off(got: &[Bf16], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let off = |(got, want): (&Bf16, &f32)| *got != Bf16::from_f32(*want);
    got.iter().zip(want).filter(|pair| off(*pair)).count() as f64
}

/// How many floats differ.
fn apart(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).filter(|(got, want)| got != want).count() as f64
}

fn halves(len: usize) -> Vec<Bf16> {
    vec![Bf16::from_f32(f32::NAN); len]
}

fn floats(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

impl Kernel for Passes {
    type Shape = Rows;

    fn edges() -> Vec<Rows> {
        ROWS.to_vec()
    }

    fn small() -> BoxedStrategy<Rows> {
        small_rows()
    }

    fn run<E: Element>(c: &Compute, &(rows, n): &Rows) -> Vec<Vec<f64>> {
        let differences = [norms(c, rows, n), passes(c, rows * n), maps(c, rows.min(9), n.min(70))];
        differences.concat().into_iter().map(|difference| vec![difference]).collect()
    }

    fn want<E: Element>(_: &Rows) -> Vec<Want> {
        NAMES.map(|what| Want::exact(what, vec![0.0])).to_vec()
    }
}

fn norms(c: &Compute, rows: usize, n: usize) -> Vec<f64> {
    let len = rows * n;
    let (x, xv) = elements::<Bf16>(len, 1);
    let (dy, dv) = elements::<Bf16>(len, 2);
    let (r, rv) = elements::<Bf16>(len, 3);
    let (gamma, beta) = (noise(n, 4), noise(n, 5));
    let pair = || (floats(n), floats(n));
    let ((mut mean, mut variance), (mut a, mut b)) = (pair(), pair());
    norm::batch_norm_statistics(c, n, &xv, &mut mean, &mut variance);
    norm::batch_norm_statistics(c, n, &x, &mut a, &mut b);
    let mut list = vec![apart(&a, &mean) + apart(&b, &variance)];
    for (half, full, relu) in [(None, None, false), (Some(&r[..]), Some(&rv[..]), true)] {
        let (mut y, mut want) = (halves(len), floats(len));
        norm::batch_norm_apply(c, n, &x, &gamma, &beta, half, relu, &mut y);
        norm::batch_norm_apply(c, n, &xv, &gamma, &beta, full, relu, &mut want);
        list.push(off(&y, &want));
    }
    let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 0.1 };
    let ((mut g, mut h), (mut i, mut j)) = (pair(), pair());
    norm::batch_norm_parameter_gradients(c, n, &xv, &dv, state, &mut g, &mut h);
    norm::batch_norm_parameter_gradients(c, n, &x, &dy, state, &mut i, &mut j);
    list.push(apart(&i, &g) + apart(&j, &h));
    let (mut d, mut want) = (dy.clone(), dv.clone());
    norm::batch_norm_input_gradient(c, n, &x, state, &g, &h, None, &mut d);
    norm::batch_norm_input_gradient(c, n, &xv, state, &g, &h, None, &mut want);
    list.push(off(&d, &want));
    let (mut d, mut want) = (dy, dv);
    norm::batch_norm_frozen_input_gradient(c, n, state, None, &mut d);
    norm::batch_norm_frozen_input_gradient(c, n, state, None, &mut want);
    list.push(off(&d, &want));
    norm::column_sums(c, n, &xv, &mut g);
    norm::column_sums(c, n, &x, &mut h);
    list.push(apart(&h, &g));
    list
}

fn passes(c: &Compute, len: usize) -> Vec<f64> {
    let (x, xv) = elements::<Bf16>(len, 1);
    let (dy, dv) = elements::<Bf16>(len, 2);
    let (r, rv) = elements::<Bf16>(len, 3);
    let (mut y, mut want) = (halves(len), floats(len));
    let mut list = Vec::new();
    elementwise::add(c, &x, &r, true, &mut y);
    elementwise::add(c, &xv, &rv, true, &mut want);
    list.push(off(&y, &want));
    let mut want: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
    elementwise::accumulate(c, &x, &mut y);
    elementwise::accumulate(c, &xv, &mut want);
    list.push(off(&y, &want));
    elementwise::relu(c, &x, &mut y);
    elementwise::relu(c, &xv, &mut want);
    list.push(off(&y, &want));
    let (mut d, mut e) = (dy, dv);
    elementwise::relu_backward(c, &y, &mut d);
    elementwise::relu_backward(c, &want, &mut e);
    list.push(off(&d, &e));
    elementwise::dropout(c, 0.3, 5, &x, &mut y);
    elementwise::dropout(c, 0.3, 5, &xv, &mut want);
    list.push(off(&y, &want));
    list
}

fn maps(c: &Compute, side: usize, n: usize) -> Vec<f64> {
    let sizes =
        PoolSizes { batch: 2, height: side, width: side + 1, channels: n, ..PoolSizes::default() };
    let s = PoolShape::new(PoolSizes { pool: 3, stride: 2, padding: 1, ..sizes }).expect("sizes");
    let (x, xv) = elements::<Bf16>(s.in_len(), 1);
    let (dy, dv) = elements::<Bf16>(s.out_len(), 2);
    let (mut y, mut want) = (halves(s.out_len()), floats(s.out_len()));
    pool::max_pool(c, &s, &x, None, &mut y);
    pool::max_pool(c, &s, &xv, None, &mut want);
    let mut list = vec![off(&y, &want)];
    let (mut dx, mut want) = (halves(s.in_len()), floats(s.in_len()));
    pool::max_pool_backward(c, &s, &x, None, &dy, false, &mut dx);
    pool::max_pool_backward(c, &s, &xv, None, &dv, false, &mut want);
    list.push(off(&dx, &want));
    let pixels = s.height() * s.width();
    let (mut m, mut w) = (floats(2 * n), floats(2 * n));
    pool::global_average_pool(c, pixels, n, &x, &mut m);
    pool::global_average_pool(c, pixels, n, &xv, &mut w);
    pool::global_average_pool_backward(c, pixels, n, &m, &mut dx);
    pool::global_average_pool_backward(c, pixels, n, &m, &mut want);
    list.push(apart(&m, &w) + off(&dx, &want));
    let sizes =
        FrameSizes { batch: 2, height: side, width: side, channels: 3, factor: 2, padding: 1 };
    let s = FrameShape::new(sizes).expect("sizes");
    let affine = Affine { source: [2, 1, 0], scale: [1.0, 2.0, 0.5], offset: [-1.0, 0.0, 3.0] };
    let x = noise(s.in_len(), 1);
    let (mut y, mut want) = (halves(s.out_len()), floats(s.out_len()));
    elementwise::frame(c, &s, Some(&affine), &x, &mut y);
    elementwise::frame(c, &s, Some(&affine), &x, &mut want);
    let framed = off(&y, &want);
    let values: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
    let (mut dx, mut want) = (halves(s.in_len()), floats(s.in_len()));
    elementwise::frame_backward(c, &s, &y, &mut dx);
    elementwise::frame_backward(c, &s, &values, &mut want);
    list.push(framed + off(&dx, &want));
    list
}
