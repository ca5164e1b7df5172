//! Passes over memory that no other kernel absorbed, with their gradients.

use crate::element::Element;
use crate::simd::vectorize;
use crate::table::Compute;

pub use crate::shape::{FrameShape, FrameSizes};

/// Floats one task handles.
const TASK: usize = 1 << 15;

fn map1<E: Element>(c: &Compute, a: &[E], y: &mut [E], f: impl Fn(f32) -> f32 + Sync) {
    assert_eq!(a.len(), y.len(), "lengths differ");
    c.threads.chunks(y, TASK, |i, y| {
        let a = &a[i * TASK..][..y.len()];
        vectorize!(c.isa(), {
            y.iter_mut().zip(a).for_each(|(y, a)| *y = E::from_f32(f(a.to_f32())));
        });
    });
}

/// `y = max(x, 0)`; NaN stays NaN.
///
/// # Panics
/// If the lengths differ.
pub fn relu<E: Element>(c: &Compute, x: &[E], y: &mut [E]) {
    map1(
        c,
        x,
        y,
        #[inline(always)]
        |x| if x < 0.0 { 0.0 } else { x },
    );
}

/// Zeroes the elements of `dy` whose ReLU output `y` is not positive.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward<E: Element>(c: &Compute, y: &[E], dy: &mut [E]) {
    assert_eq!(y.len(), dy.len(), "lengths differ");
    c.threads.chunks(dy, TASK, |i, dy| {
        let y = &y[i * TASK..][..dy.len()];
        vectorize!(c.isa(), {
            let zero = E::default();
            dy.iter_mut().zip(y).for_each(|(d, y)| *d = if y.to_f32() > 0.0 { *d } else { zero });
        });
    });
}

/// `y = a + b`, then `max(y, 0)` with `rectify`.
///
/// # Panics
/// If the lengths differ.
pub fn add<E: Element>(c: &Compute, a: &[E], b: &[E], rectify: bool, y: &mut [E]) {
    assert!(a.len() == y.len() && b.len() == y.len(), "lengths differ");
    let floor = if rectify { 0.0 } else { f32::NEG_INFINITY };
    c.threads.chunks(y, TASK, |i, y| {
        let (a, b) = (&a[i * TASK..][..y.len()], &b[i * TASK..][..y.len()]);
        vectorize!(c.isa(), {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                let v = a.to_f32() + b.to_f32();
                *y = E::from_f32(if v < floor { floor } else { v });
            }
        });
    });
}

/// `y += a`
///
/// # Panics
/// If the lengths differ.
pub fn accumulate<E: Element>(c: &Compute, a: &[E], y: &mut [E]) {
    assert_eq!(a.len(), y.len(), "lengths differ");
    c.threads.chunks(y, TASK, |i, y| {
        let a = &a[i * TASK..][..y.len()];
        vectorize!(c.isa(), {
            y.iter_mut().zip(a).for_each(|(y, a)| *y = E::from_f32(y.to_f32() + a.to_f32()));
        });
    });
}

/// `y = a`
///
/// # Panics
/// If the lengths differ.
pub fn copy<E: Element>(c: &Compute, a: &[E], y: &mut [E]) {
    assert_eq!(a.len(), y.len(), "lengths differ");
    c.threads.chunks(y, TASK, |i, y| y.copy_from_slice(&a[i * TASK..][..y.len()]));
}

/// Dropout: zeroes a fraction `rate` of the elements and divides the others by `1 - rate`. Which ones is a
/// function of `seed` and position alone; the gradient is the same call on the gradient.
///
/// # Panics
/// If the lengths differ, or `rate` is not from 0 to below 1.
pub fn dropout<E: Element>(c: &Compute, rate: f32, seed: u64, x: &[E], y: &mut [E]) {
    assert_eq!(x.len(), y.len(), "lengths differ");
    assert!((0.0..1.0).contains(&rate), "dropout rate {rate} is not in 0..1");
    let scale = 1.0 / (1.0 - rate);
    c.threads.chunks(y, TASK, |task, y| {
        let x = &x[task * TASK..][..y.len()];
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            let keep = uniform(seed, (task * TASK + i) as u64) >= rate;
            *y = if keep { E::from_f32(x.to_f32() * scale) } else { E::default() };
        }
    });
}

/// A number in 0..1 from SplitMix64 (Steele et al. 2014) at `position`.
fn uniform(seed: u64, position: u64) -> f32 {
    let mut z = seed.wrapping_add((position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Output channel `k` is `input[source[k]] * scale[k] + offset[k]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Input channel per output channel.
    pub source: [usize; 3],
    /// Factor per output channel.
    pub scale: [f32; 3],
    /// Summand per output channel.
    pub offset: [f32; 3],
}

/// What [`frame`] reads: elements, or the bytes of images.
pub trait Pixel: Copy + Send + Sync {
    /// The value, exactly.
    fn value(self) -> f32;
}

impl Pixel for u8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl<E: Element> Pixel for E {
    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// Upsamples and frames `x`; with `affine` (three channels) pixels are mapped first, the zeros of
/// the frame are not.
///
/// # Panics
/// If a slice has not the length `s` gives it, or `affine` meets other than three channels.
pub fn frame<I: Pixel, E: Element>(
    c: &Compute,
    s: &FrameShape,
    affine: Option<&Affine>,
    x: &[I],
    y: &mut [E],
) {
    assert!(x.len() == s.in_len() && y.len() == s.out_len(), "frame lengths");
    assert!(affine.is_none() || s.channels() == 3, "pixel maps need three channels");
    assert!(affine.is_none_or(|a| a.source.iter().all(|&k| k < 3)), "source channel");
    let (n, row) = (s.channels(), s.out_width() * s.channels());
    if row == 0 || x.is_empty() {
        y.fill(E::default());
        return;
    }
    c.threads.chunks(y, row, |line, y| {
        let (image, line) = (line / s.out_height(), line % s.out_height());
        if line < s.padding() || line - s.padding() >= s.height() * s.factor() {
            y.fill(E::default());
            return;
        }
        let from = (image * s.height() + (line - s.padding()) / s.factor()) * s.width() * n;
        let (left, inner) = y.split_at_mut(s.padding() * n);
        let (inner, right) = inner.split_at_mut(s.width() * s.factor() * n);
        left.fill(E::default());
        right.fill(E::default());
        let pixels = x[from..from + s.width() * n].chunks_exact(n);
        for (cells, pixel) in inner.chunks_exact_mut(s.factor() * n).zip(pixels) {
            let (cell, others) = cells.split_at_mut(n);
            match affine {
                None => {
                    cell.iter_mut().zip(pixel).for_each(|(y, x)| *y = E::from_f32(x.value()));
                }
                Some(a) => {
                    for (k, y) in cell.iter_mut().enumerate() {
                        *y = E::from_f32(pixel[a.source[k]].value() * a.scale[k] + a.offset[k]);
                    }
                }
            }
            others.chunks_exact_mut(n).for_each(|other| other.copy_from_slice(cell));
        }
    });
}

/// Gradient of [`frame`] without a pixel map, overwriting `dx`.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn frame_backward<E: Element>(c: &Compute, s: &FrameShape, dy: &[E], dx: &mut [E]) {
    assert!(dx.len() == s.in_len() && dy.len() == s.out_len(), "frame lengths");
    let (n, row) = (s.channels(), s.width() * s.channels());
    if row == 0 {
        return;
    }
    c.threads.chunks(dx, row, |line, dx| {
        let (image, line) = (line / s.height(), line % s.height());
        let mut sums = vec![0.0; dx.len()];
        for i in 0..s.factor() {
            let from =
                (image * s.out_height() + s.padding() + line * s.factor() + i) * s.out_width();
            let dy = &dy[(from + s.padding()) * n..][..s.width() * s.factor() * n];
            for (x, cells) in sums.chunks_exact_mut(n).zip(dy.chunks_exact(s.factor() * n)) {
                for cell in cells.chunks_exact(n) {
                    x.iter_mut().zip(cell).for_each(|(x, y)| *x += y.to_f32());
                }
            }
        }
        dx.iter_mut().zip(sums).for_each(|(x, sum)| *x = E::from_f32(sum));
    });
}
