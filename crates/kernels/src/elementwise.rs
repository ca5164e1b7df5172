//! Passes over memory that no other kernel absorbed, with their gradients.

use crate::simd::vectorize;
use crate::table::Compute;

/// Floats one task handles.
const TASK: usize = 1 << 15;

fn map1(c: &Compute, a: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    assert_eq!(a.len(), y.len(), "lengths differ");
    c.threads.chunks(y, TASK, |i, y| {
        let a = &a[i * TASK..][..y.len()];
        vectorize(c.isa(), || y.iter_mut().zip(a).for_each(|(y, &a)| *y = f(a)));
    });
}

/// `y = max(x, 0)`; NaN stays NaN.
pub fn relu(c: &Compute, x: &[f32], y: &mut [f32]) {
    map1(c, x, y, |x| if x < 0.0 { 0.0 } else { x });
}

/// Zeroes the elements of `dy` whose ReLU output `y` is not positive.
pub fn relu_backward(c: &Compute, y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len(), "lengths differ");
    c.threads.chunks(dy, TASK, |i, dy| {
        let y = &y[i * TASK..][..dy.len()];
        vectorize(c.isa(), || {
            dy.iter_mut().zip(y).for_each(|(d, &y)| *d = if y > 0.0 { *d } else { 0.0 });
        });
    });
}

/// `y = a + b`, then `max(y, 0)` with `rectify`.
pub fn add(c: &Compute, a: &[f32], b: &[f32], rectify: bool, y: &mut [f32]) {
    assert!(a.len() == y.len() && b.len() == y.len(), "lengths differ");
    let floor = if rectify { 0.0 } else { f32::NEG_INFINITY };
    c.threads.chunks(y, TASK, |i, y| {
        let (a, b) = (&a[i * TASK..][..y.len()], &b[i * TASK..][..y.len()]);
        vectorize(c.isa(), || {
            for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                let v = a + b;
                *y = if v < floor { floor } else { v };
            }
        });
    });
}

/// `y += a`
pub fn accumulate(c: &Compute, a: &[f32], y: &mut [f32]) {
    assert_eq!(a.len(), y.len(), "lengths differ");
    c.threads.chunks(y, TASK, |i, y| {
        let a = &a[i * TASK..][..y.len()];
        vectorize(c.isa(), || y.iter_mut().zip(a).for_each(|(y, a)| *y += a));
    });
}

/// `y = a`
pub fn copy(c: &Compute, a: &[f32], y: &mut [f32]) {
    map1(c, a, y, |a| a);
}

/// Zeroes a share `rate` of the elements and divides the others by `1 - rate`. Which ones is a
/// function of `seed` and position alone; the gradient is the same call on the gradient.
pub fn dropout(c: &Compute, rate: f32, seed: u64, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths differ");
    assert!((0.0..1.0).contains(&rate), "dropout rate {rate} is not in 0..1");
    let scale = 1.0 / (1.0 - rate);
    c.threads.chunks(y, TASK, |task, y| {
        let x = &x[task * TASK..][..y.len()];
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            let keep = uniform(seed, (task * TASK + i) as u64) >= rate;
            *y = if keep { x * scale } else { 0.0 };
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

/// Sizes of an enlargement by whole factors and a frame of zeros around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameShape {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Nearest-neighbour enlargement in both directions.
    pub factor: usize,
    /// Zeros around the enlarged map, on each side.
    pub padding: usize,
}

impl FrameShape {
    /// Output rows.
    pub fn out_height(&self) -> usize {
        self.height * self.factor + 2 * self.padding
    }

    /// Output columns.
    pub fn out_width(&self) -> usize {
        self.width * self.factor + 2 * self.padding
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.channels
    }
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

/// Enlarges and frames `x`; with `affine` (three channels) pixels are mapped first, the zeros of
/// the frame are not.
///
/// # Panics
/// If a slice has not the length `s` gives it, or `affine` meets other than three channels.
pub fn frame(c: &Compute, s: &FrameShape, affine: Option<&Affine>, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == s.in_len() && y.len() == s.out_len(), "frame lengths");
    assert!(affine.is_none() || s.channels == 3, "pixel maps need three channels");
    assert!(affine.is_none_or(|a| a.source.iter().all(|&k| k < 3)), "source channel");
    let (n, row) = (s.channels, s.out_width() * s.channels);
    if row == 0 || x.is_empty() {
        y.fill(0.0);
        return;
    }
    c.threads.chunks(y, row, |line, y| {
        let (image, line) = (line / s.out_height(), line % s.out_height());
        if line < s.padding || line - s.padding >= s.height * s.factor {
            y.fill(0.0);
            return;
        }
        let from = (image * s.height + (line - s.padding) / s.factor) * s.width * n;
        let (left, inner) = y.split_at_mut(s.padding * n);
        let (inner, right) = inner.split_at_mut(s.width * s.factor * n);
        left.fill(0.0);
        right.fill(0.0);
        let pixels = x[from..from + s.width * n].chunks_exact(n);
        for (cells, pixel) in inner.chunks_exact_mut(s.factor * n).zip(pixels) {
            for cell in cells.chunks_exact_mut(n) {
                match affine {
                    None => cell.copy_from_slice(pixel),
                    Some(a) => {
                        for k in 0..3 {
                            cell[k] = pixel[a.source[k]] * a.scale[k] + a.offset[k];
                        }
                    }
                }
            }
        }
    });
}

/// Gradient of [`frame`] without a pixel map, overwriting `dx`.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn frame_backward(c: &Compute, s: &FrameShape, dy: &[f32], dx: &mut [f32]) {
    assert!(dx.len() == s.in_len() && dy.len() == s.out_len(), "frame lengths");
    let (n, row) = (s.channels, s.width * s.channels);
    if row == 0 {
        return;
    }
    c.threads.chunks(dx, row, |line, dx| {
        let (image, line) = (line / s.height, line % s.height);
        dx.fill(0.0);
        for i in 0..s.factor {
            let from = (image * s.out_height() + s.padding + line * s.factor + i) * s.out_width();
            let dy = &dy[(from + s.padding) * n..][..s.width * s.factor * n];
            for (x, cells) in dx.chunks_exact_mut(n).zip(dy.chunks_exact(s.factor * n)) {
                for cell in cells.chunks_exact(n) {
                    x.iter_mut().zip(cell).for_each(|(x, y)| *x += y);
                }
            }
        }
    });
}
