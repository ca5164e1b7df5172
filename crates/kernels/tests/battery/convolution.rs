//! Convolutions: forward, with a pooling, and both gradients.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{DType, Element};
use headstart_kernels::oracle;
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Once, Want, gamma, nan, stored, wide};
use crate::support::{elements, noise};
use crate::{pooling, roundoff};

/// A convolution of these sizes: batch, height, width, channels in and out, kernel, stride, padding, upsample.
pub fn shape(s: [usize; 9]) -> ConvShape {
    let [batch, height, width, in_channels, out_channels, kernel, stride, padding, upsample] = s;
    let sizes = ConvSizes {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        upsample,
    };
    ConvShape::new(sizes).expect("sizes")
}

/// Of inputs as they are.
pub fn plain() -> Vec<ConvShape> {
    let mut list = Vec::new();
    for [ci, co] in [[1, 1], [3, 5], [16, 64], [17, 65], [64, 130], [7, 32]] {
        for [k, s, p] in
            [[1, 1, 0], [1, 2, 0], [3, 1, 1], [3, 2, 1], [3, 2, 0], [5, 3, 2], [7, 2, 0]]
        {
            list.push([2, 9, 8, ci, co, k, s, p, 1]);
        }
        list.push([1, 7, 7, ci, co, 7, 2, 0, 1]);
    }
    list.extend([
        [1, 1, 1, 4, 4, 1, 1, 0, 1],
        [3, 1, 5, 4, 70, 3, 1, 1, 1],
        // Reductions longer than a block.
        [1, 2, 2, 600, 64, 3, 1, 1, 1],
        [2, 6, 7, 1100, 64, 1, 1, 0, 1],
        [1, 3, 3, 1088, 64, 3, 1, 1, 1],
        [1, 40, 56, 8, 64, 3, 1, 1, 1],
        [5, 30, 31, 64, 20, 1, 2, 0, 1],
        [1, 9, 8, 40, 16, 3, 1, 1, 1],
        // Windows that lie in the padding as a whole, strides longer than the map.
        [2, 2, 3, 5, 6, 2, 2, 3, 1],
        [2, 1, 2, 5, 6, 1, 3, 2, 1],
        // Kernel gradients of pairs of images: a last single one, partial sums, more than is packed at a time.
        [9, 9, 8, 17, 65, 3, 2, 1, 1],
        [6, 40, 38, 3, 5, 3, 1, 1, 1],
        [10, 130, 120, 1, 1, 3, 1, 1, 1],
        // Dense layers.
        [7, 1, 1, 2048, 10, 1, 1, 0, 1],
        [1, 1, 1, 33, 1000, 1, 1, 0, 1],
    ]);
    let mut list: Vec<ConvShape> = list.into_iter().map(shape).collect();
    list.extend(winograd());
    list
}

/// Of 3x3 windows that Winograd's way suits.
pub fn winograd() -> Vec<ConvShape> {
    [
        [2, 4, 4, 64, 128],
        [2, 7, 7, 64, 128],
        [2, 8, 11, 64, 128],
        [2, 14, 12, 64, 128],
        [40, 7, 8, 64, 64],
        [1, 9, 10, 64, 64],
        // Gradients in tasks of rows and columns; many small blocks of tiles, several blocks with sums kept between them.
        [2, 4, 5, 128, 256],
        [690, 3, 3, 64, 64],
    ]
    .map(|[batch, height, width, ci, co]| shape([batch, height, width, ci, co, 3, 1, 1, 1]))
    .to_vec()
}

/// Of enlarged inputs: factors and strides with and without a common divisor, windows of one to five pixels, padding that
/// is no whole number of pixels, edges of tiles in pixels and channels, rows longer than a block of the gradient.
pub fn enlarged() -> Vec<ConvShape> {
    [
        [2, 8, 8, 3, 64, 7, 2, 3, 7],
        [1, 5, 6, 3, 64, 7, 2, 3, 2],
        [3, 8, 8, 3, 16, 3, 1, 1, 4],
        [1, 4, 3, 3, 65, 3, 2, 0, 3],
        [2, 3, 5, 5, 20, 5, 3, 2, 6],
        [1, 2, 2, 1, 1, 1, 1, 0, 2],
        [1, 1, 1, 3, 8, 3, 1, 1, 5],
        [1, 2, 150, 3, 16, 3, 1, 1, 2],
        [20, 3, 3, 2, 70, 7, 2, 3, 5],
    ]
    .map(shape)
    .to_vec()
}

fn fits(s: [usize; 9]) -> Option<ConvShape> {
    let [_, height, width, _, _, kernel, _, padding, upsample] = s;
    let fits = kernel <= height.min(width) * upsample + 2 * padding;
    fits.then(|| shape(s))
}

/// Small convolutions of inputs as they are; some that Winograd's way suits.
pub fn small_plain() -> impl Strategy<Value = ConvShape> {
    let maps = (1..4usize, 1..10usize, 1..10usize);
    let direct = (maps.clone(), 1..40usize, 1..70usize, 1..6usize, 1..4usize, 0..4usize);
    let direct = direct
        .prop_filter_map("a kernel larger than the input", |(maps, ci, co, k, s, p)| {
            fits([maps.0, maps.1, maps.2, ci, co, k, s, p, 1])
        });
    let winograd = maps.prop_map(|(b, h, w)| shape([b, h, w, 64, 64, 3, 1, 1, 1]));
    prop_oneof![7 => direct, 1 => winograd]
}

/// Small convolutions of enlarged inputs.
pub fn small_enlarged() -> impl Strategy<Value = ConvShape> {
    let sizes = (1..4usize, 1..6usize, 1..6usize, 1..5usize, 1..70usize, 1..8usize, 1..4usize);
    (sizes, 0..4usize, 2..6usize).prop_filter_map("a kernel larger than the input", |(s, p, u)| {
        let (batch, height, width, ci, co, k, stride) = s;
        fits([batch, height, width, ci, co, k, stride, p, u])
    })
}

/// Every way a convolution is computed.
pub fn any() -> Vec<ConvShape> {
    [plain(), enlarged()].concat()
}

/// Small convolutions of any kind.
pub fn small_any() -> BoxedStrategy<ConvShape> {
    prop_oneof![3 => small_plain(), 1 => small_enlarged()].boxed()
}

pub fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| v.abs()).collect()
}

/// Whether the reference takes long.
fn large(s: &ConvShape) -> bool {
    s.flops() > 1 << 24
}

/// The ways, of so many, that a shape is tried in: the first and the last where it is large.
fn modes(s: &ConvShape, count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(if large(s) { count - 1 } else { 1 })
}

/// Whether Winograd's way suits a shape.
fn tiled<E: Element>(s: &ConvShape) -> bool {
    let full = |channels: usize| channels.is_multiple_of(64);
    let same = s.kernel() == 3 && [s.stride(), s.padding(), s.upsample()] == [1; 3];
    same && full(s.in_channels()) && full(s.out_channels()) && E::DTYPE == DType::F32
}

/// The error of each sum of `terms` products whose absolute values add up to `sizes`. Winograd's mixes those of a tile,
/// and is a multiple of the direct sum's (`winograd` measures which).
fn errors<E: Element>(s: &ConvShape, terms: usize, sizes: Vec<f64>) -> Vec<f64> {
    if tiled::<E>(s) {
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        return vec![2.5 * gamma(terms) * largest; sizes.len()];
    }
    sizes.into_iter().map(|size| size * gamma(terms)).collect()
}

static EXACT: Once<Exact> = Once::new();

/// A convolution by its definition, and the error each element may have before it is stored: sums of `terms` products,
/// `weights` as the kernel was given, as elements where nothing is summed before they are.
#[derive(Clone)]
pub struct Exact {
    pub values: Vec<f64>,
    pub errors: Vec<f64>,
}

impl Exact {
    pub fn forward<E: Element>(s: &ConvShape, x: &[f32], weights: &[f32], more: usize) -> Exact {
        let terms = s.kernel() * s.kernel() * s.in_channels() + more;
        let rounded: Vec<f32> = match s.upsample() {
            1 => weights.iter().map(|&w| E::from_f32(w).to_f32()).collect(),
            _ => weights.to_vec(),
        };
        let values = oracle::conv_forward(s, x, &rounded);
        let sizes = oracle::conv_forward(s, &absolute(x), &absolute(&rounded));
        // Kernels of enlarged inputs are rounded to floats and elements once they are summed.
        let summed = if s.upsample() > 1 { gamma(2) + roundoff::<E>() } else { 0.0 };
        let rounding: Vec<f64> = sizes.iter().map(|size| size * summed).collect();
        let mut errors = errors::<E>(s, terms, sizes);
        errors.iter_mut().zip(rounding).for_each(|(error, rounding)| *error += rounding);
        Exact { values, errors }
    }

    pub fn backward_input<E: Element>(s: &ConvShape, dy: &[f32], w: &[f32], more: usize) -> Exact {
        let terms = s.kernel() * s.kernel() * s.out_channels() + more;
        let values = oracle::conv_backward_input(s, dy, w);
        let sizes = oracle::conv_backward_input(s, &absolute(dy), &absolute(w));
        Exact { values, errors: errors::<E>(s, terms, sizes) }
    }

    fn backward_kernel<E: Element>(s: &ConvShape, x: &[f32], dy: &[f32]) -> Exact {
        let terms = s.batch() * s.out_height() * s.out_width() + 1;
        let values = oracle::conv_backward_kernel(s, x, dy);
        let sizes = oracle::conv_backward_kernel(s, &absolute(x), &absolute(dy));
        // A tap sums fewer pixels at the border, and no fewer rounded transforms.
        Exact { values, errors: errors::<E>(s, terms, sizes) }
    }

    /// What `make` makes for this shape, kept if that takes long.
    fn kept<E: Element>(direction: &str, s: &ConvShape, make: impl FnOnce() -> Exact) -> Exact {
        if !large(s) {
            return make();
        }
        let kept = EXACT.of(format!("{direction} {} {s:?}", E::DTYPE.name()), make);
        kept.get().expect("made").clone()
    }

    /// With what an epilogue adds; sums of rounded values add no more than the two terms counted.
    fn add(&mut self, values: impl Fn(usize) -> f64) {
        for (i, (to, error)) in self.values.iter_mut().zip(&mut self.errors).enumerate() {
            let value = values(i);
            *error += value.abs() * gamma(2);
            *to += value;
        }
    }
}

/// `conv::forward` with every epilogue, each output channel scaled while it is packed.
pub struct Forward;

impl Kernel for Forward {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        any()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        small_any()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let x = elements::<E>(s.in_len(), 1).0;
        let (w, scale) = (noise(s.kernel_len(), 2), noise(s.out_channels(), 3));
        let (bias, residual) = (noise(s.out_channels(), 4), elements::<E>(s.out_len(), 5).0);
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, Some(&scale), &mut packed);
        let run = |s: &ConvShape, mode: usize, first: usize| {
            let one = s.first(1);
            let epilogue = Epilogue {
                bias: (mode & 1 > 0).then_some(&bias[..]),
                residual: (mode & 2 > 0).then(|| &residual[first * one.out_len()..][..s.out_len()]),
                relu: mode & 4 > 0,
            };
            let mut y = nan::<E>(s.out_len());
            conv::forward(
                c,
                s,
                &x[first * one.in_len()..][..s.in_len()],
                &packed,
                epilogue,
                &mut y,
            );
            y
        };
        let outputs: Vec<Vec<E>> = modes(s, 8).map(|mode| run(s, mode, 0)).collect();
        let last = outputs.last().expect("an output");
        // A pixel's value must not depend on where in a tile it falls.
        for image in 0..s.batch().min(3) {
            let (one, len) = (s.first(1), s.first(1).out_len());
            let alone = run(&one, 7, image) == last[image * len..][..len];
            assert!(alone, "{s:?}: image {image} has other bits alone than in the batch");
        }
        outputs.iter().map(|y| wide(y)).collect()
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let xv = elements::<E>(s.in_len(), 1).1;
        let (w, scale) = (noise(s.kernel_len(), 2), noise(s.out_channels(), 3));
        let (bias, rv) = (noise(s.out_channels(), 4), elements::<E>(s.out_len(), 5).1);
        let n = s.out_channels();
        let scaled: Vec<f32> = w.iter().enumerate().map(|(i, w)| w * scale[i % n]).collect();
        let make = || Exact::forward::<E>(s, &xv, &scaled, 2);
        let exact = Exact::kept::<E>("forward", s, make);
        let of = |mode: usize| {
            let mut exact = exact.clone();
            if mode & 1 > 0 {
                exact.add(|i| f64::from(bias[i % n]));
            }
            if mode & 2 > 0 {
                exact.add(|i| f64::from(rv[i]));
            }
            let floor = if mode & 4 > 0 { 0.0 } else { f64::NEG_INFINITY };
            let values = exact.values.iter().map(|y| y.max(floor)).collect();
            Want::stored::<E>("output", values, |i| exact.errors[i])
        };
        modes(s, 8).map(of).collect()
    }
}

/// `conv::forward_pooled`, which must have the bits of `conv::forward` and `pool::max_pool`.
pub struct Pooled;

const POOLS: [[usize; 3]; 2] = [[3, 2, 1], [2, 2, 0]];

fn pools(s: &ConvShape) -> Vec<PoolShape> {
    let (height, width) = (s.out_height(), s.out_width());
    let fits = |[pool, _, padding]: &[usize; 3]| height.min(width) + 2 * padding >= *pool;
    let shape = |[pool, stride, padding]: [usize; 3]| {
        let (batch, channels) = (s.batch(), s.out_channels());
        let sizes = PoolSizes { batch, height, width, channels, pool, stride, padding };
        PoolShape::new(sizes).expect("sizes")
    };
    POOLS.into_iter().filter(fits).map(shape).collect()
}

impl Kernel for Pooled {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        enlarged()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        small_enlarged().boxed()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (x, w) = (elements::<E>(s.in_len(), 1).0, noise(s.kernel_len(), 2));
        let bias = noise(s.out_channels(), 3);
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, None, &mut packed);
        let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
        let mut map = nan::<E>(s.out_len());
        conv::forward(c, s, &x, &packed, epilogue, &mut map);
        let pooled = pools(s).into_iter().map(|pool| {
            let (mut want, mut got) = (nan::<E>(pool.out_len()), nan::<E>(pool.out_len()));
            pool::max_pool(c, &pool, &map, None, &mut want);
            conv::forward_pooled(c, s, &pool, &x, &packed, epilogue, &mut got);
            assert!(got == want, "{s:?} {pool:?}: other bits than one after the other");
            wide(&got)
        });
        pooled.collect()
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let (xv, w) = (elements::<E>(s.in_len(), 1).1, noise(s.kernel_len(), 2));
        let (bias, n) = (noise(s.out_channels(), 3), s.out_channels());
        let mut exact = Exact::forward::<E>(s, &xv, &w, 2);
        exact.add(|i| f64::from(bias[i % n]));
        let map: Vec<f64> = exact.values.iter().map(|y| y.max(0.0)).collect();
        // A maximum is off by as much as the worst element that its window sees.
        let errors = map.iter().zip(&exact.errors).map(|(&y, &error)| stored::<E>(y, error));
        let errors: Vec<f64> = errors.collect();
        let pooled = |pool: PoolShape| {
            let [values, bounds] = [&map, &errors].map(|values| pooling::maxima(&pool, values));
            Want { what: "pooled output", values, bounds }
        };
        pools(s).into_iter().map(pooled).collect()
    }
}

/// `conv::backward_input`, onto another gradient and with a mask or not.
pub struct BackwardInput;

impl Kernel for BackwardInput {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        plain()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        small_plain().boxed()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (dy, w) = (elements::<E>(s.out_len(), 1).0, elements::<E>(s.kernel_len(), 2).1);
        let (held, mask) = (elements::<E>(s.in_len(), 3).0, elements::<E>(s.in_len(), 4).0);
        let mut packed = Packed::default();
        conv::pack_backward_input::<E>(c, s, &w, &mut packed);
        let run = |mode: usize| {
            let (onto, mut dx) = match mode & 1 > 0 {
                true => (Onto::Gradient, held.clone()),
                false => (Onto::Nothing, nan(s.in_len())),
            };
            let mask = (mode & 2 > 0).then_some(&mask[..]);
            conv::backward_input(c, s, &dy, &packed, onto, mask, &mut dx);
            dx
        };
        // A second convolution of the same input need not go where neither reaches.
        let (first, second) = (run(0), elements::<E>(s.out_len(), 5).0);
        for mask in [None, Some(&mask[..])] {
            let [same, any] = [Onto::SameGrid, Onto::Gradient].map(|onto| {
                let mut dx = first.clone();
                conv::backward_input(c, s, &second, &packed, onto, mask, &mut dx);
                dx
            });
            assert!(same == any, "{s:?}: other bits onto the same grid");
        }
        modes(s, 4).map(|mode| wide(&run(mode))).collect()
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let (dyv, w) = (elements::<E>(s.out_len(), 1).1, elements::<E>(s.kernel_len(), 2).1);
        let (hv, mv) = (elements::<E>(s.in_len(), 3).1, elements::<E>(s.in_len(), 4).1);
        let make = || Exact::backward_input::<E>(s, &dyv, &w, 1);
        let exact = Exact::kept::<E>("to the input", s, make);
        let of = |mode: usize| {
            let mut exact = exact.clone();
            if mode & 1 > 0 {
                exact.add(|i| f64::from(hv[i]));
            }
            let kept = |i: usize| mode & 2 == 0 || mv[i] > 0.0;
            let value = |(i, &dx): (usize, &f64)| if kept(i) { dx } else { 0.0 };
            let values = exact.values.iter().enumerate().map(value).collect();
            Want::stored::<E>("gradient", values, |i| if kept(i) { exact.errors[i] } else { 0.0 })
        };
        modes(s, 4).map(of).collect()
    }
}

/// `conv::backward_kernel`.
pub struct BackwardKernel;

impl Kernel for BackwardKernel {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        any()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        small_any()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.out_len(), 2).0);
        let mut dw = nan::<f32>(s.kernel_len());
        conv::backward_kernel(c, s, &x, &dy, &mut dw);
        vec![wide(&dw)]
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let (xv, dyv) = (elements::<E>(s.in_len(), 1).1, elements::<E>(s.out_len(), 2).1);
        let make = || Exact::backward_kernel::<E>(s, &xv, &dyv);
        let Exact { values, errors } = Exact::kept::<E>("to the kernel", s, make);
        vec![Want::floats("gradient", values, |i| errors[i])]
    }
}
