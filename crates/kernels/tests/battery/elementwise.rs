//! Passes over elements, and frames.

use headstart_kernels::element::Element;
use headstart_kernels::elementwise::{self, Affine, FrameShape, FrameSizes};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want, gamma, nan, wide};
use crate::support::elements;

/// `elementwise::relu`, `relu_backward`, `add`, `accumulate`, `copy` and `dropout`: one rounding each.
pub struct Passes;

const RATE: f32 = 0.25;

impl Kernel for Passes {
    /// Elements.
    type Shape = usize;

    fn edges() -> Vec<usize> {
        vec![1, 31, 32, 33, 1 << 15, 70_001]
    }

    fn small() -> BoxedStrategy<usize> {
        (0..300usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &n: &usize) -> Vec<Vec<f64>> {
        let (a, b) = (elements::<E>(n, 1).0, elements::<E>(n, 2).0);
        let new = || nan::<E>(n);
        let (mut relu, mut dy, mut copy) = (new(), b.clone(), new());
        elementwise::relu(c, &a, &mut relu);
        elementwise::relu_backward(c, &relu, &mut dy);
        elementwise::copy(c, &a, &mut copy);
        let (mut sum, mut rectified, mut accumulated) = (new(), new(), b.clone());
        elementwise::add(c, &a, &b, false, &mut sum);
        elementwise::add(c, &a, &b, true, &mut rectified);
        elementwise::accumulate(c, &a, &mut accumulated);
        let (mut dropped, mut again) = (new(), new());
        elementwise::dropout(c, RATE, 9, &a, &mut dropped);
        elementwise::dropout(c, RATE, 9, &copy, &mut again);
        assert!(dropped == again, "dropout differs from one call to the next");
        let kept = dropped.iter().filter(|&&y| y != E::default()).count() as f64;
        let (share, deviation) = (f64::from(1.0 - RATE), (0.25 * 0.75 / n as f64).sqrt());
        assert!(n < 100 || (kept / n as f64 - share).abs() < 5.0 * deviation, "{kept} of {n} kept");
        // What is dropped is compared as if it were kept.
        let all = dropped.iter().zip(&a).map(|(&y, x)| match y == E::default() {
            true => E::from_f32(x.to_f32() / (1.0 - RATE)),
            false => y,
        });
        let all: Vec<E> = all.collect();
        [relu, dy, copy, sum, rectified, accumulated, all].iter().map(|y| wide(y)).collect()
    }

    fn want<E: Element>(&n: &usize) -> Vec<Want> {
        let (a, b) = (wide(&elements::<E>(n, 1).0), wide(&elements::<E>(n, 2).0));
        let of = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect()
        };
        let sum = |what: &'static str, f: &dyn Fn(f64, f64) -> f64| {
            let values = of(f);
            let sizes = values.clone();
            Want::stored::<E>(what, values, |i| gamma(1) * sizes[i].abs())
        };
        vec![
            Want::exact("relu", of(&|a, _| a.max(0.0))),
            Want::exact("relu gradient", of(&|a, b| if a > 0.0 { b } else { 0.0 })),
            Want::exact("copy", a.clone()),
            sum("sum", &|a, b| a + b),
            sum("rectified sum", &|a, b| (a + b).max(0.0)),
            sum("accumulated", &|a, b| a + b),
            sum("dropout", &|a, _| a / f64::from(1.0 - RATE)).loosen(2.0),
        ]
    }
}

/// `elementwise::frame`, with a map of pixels or not, and `elementwise::frame_backward`.
pub struct Frame;

const AFFINE: Affine =
    Affine { source: [2, 1, 0], scale: [1.0, 2.0, 0.5], offset: [-1.0, 0.0, 3.0] };

fn shape([batch, height, width, channels, factor, padding]: [usize; 6]) -> FrameShape {
    FrameShape::new(FrameSizes { batch, height, width, channels, factor, padding }).expect("sizes")
}

/// The input pixel that each output pixel shows; `None` in the frame.
fn pixels(s: &FrameShape) -> Vec<Option<usize>> {
    let (down, across) = (s.out_height(), s.out_width());
    let pixel = |i: usize| {
        let (image, row, column) = (i / across / down, i / across % down, i % across);
        let inside = |at: usize, side: usize| {
            let at = at.checked_sub(s.padding())? / s.factor();
            (at < side).then_some(at)
        };
        let (row, column) = (inside(row, s.height())?, inside(column, s.width())?);
        Some((image * s.height() + row) * s.width() + column)
    };
    (0..s.batch() * down * across).map(pixel).collect()
}

impl Kernel for Frame {
    type Shape = FrameShape;

    fn edges() -> Vec<FrameShape> {
        vec![shape([2, 3, 4, 3, 2, 1]), shape([1, 1, 1, 70, 1, 3]), shape([3, 32, 32, 3, 7, 3])]
    }

    fn small() -> BoxedStrategy<FrameShape> {
        let channels = prop_oneof![Just(3usize), 1..20usize];
        let sizes = (1..3usize, 1..6usize, 1..6usize, channels, 1..4usize, 0..3usize);
        sizes.prop_map(|(b, h, w, c, factor, padding)| shape([b, h, w, c, factor, padding])).boxed()
    }

    fn run<E: Element>(c: &Compute, s: &FrameShape) -> Vec<Vec<f64>> {
        let (x, dy) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.out_len(), 2).0);
        let affine = (s.channels() == 3).then_some(&AFFINE);
        let (mut plain, mut mapped) = (nan::<E>(s.out_len()), nan::<f32>(s.out_len()));
        elementwise::frame(c, s, None, &x, &mut plain);
        elementwise::frame(c, s, affine, &x, &mut mapped);
        let mut dx = nan::<E>(s.in_len());
        elementwise::frame_backward(c, s, &dy, &mut dx);
        vec![wide(&plain), wide(&mapped), wide(&dx)]
    }

    fn want<E: Element>(s: &FrameShape) -> Vec<Want> {
        let (x, dy) =
            (wide(&elements::<E>(s.in_len(), 1).0), wide(&elements::<E>(s.out_len(), 2).0));
        let (n, pixels) = (s.channels(), pixels(s));
        let shown = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..s.out_len()).map(|i| pixels[i / n].map_or(0.0, |pixel| f(pixel, i % n))).collect()
        };
        let mapped = shown(&|pixel, k| match n == 3 {
            true => {
                x[pixel * 3 + AFFINE.source[k]] * f64::from(AFFINE.scale[k])
                    + f64::from(AFFINE.offset[k])
            }
            false => x[pixel * n + k],
        });
        let (mut dx, mut sizes) = (vec![0.0; s.in_len()], vec![0.0f64; s.in_len()]);
        for (i, &dy) in dy.iter().enumerate() {
            if let Some(pixel) = pixels[i / n] {
                dx[pixel * n + i % n] += dy;
                sizes[pixel * n + i % n] += dy.abs();
            }
        }
        let terms = gamma(s.factor() * s.factor());
        vec![
            Want::exact("frame", shown(&|pixel, k| x[pixel * n + k])),
            // Values are below 1, offsets and factors below 4.
            Want::floats("frame of mapped pixels", mapped, |_| 2.0 * gamma(5)),
            Want::stored::<E>("gradient", dx, |i| terms * sizes[i]),
        ]
    }
}
