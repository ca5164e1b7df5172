//! Max pooling and global average pooling, NHWC, with their gradients.

use crate::element::Element;
use crate::simd::vectorize;
use crate::table::Compute;

/// Sizes of a max pooling over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Window height and width.
    pub pool: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros around the input, on each side, that take part in the maximum.
    pub padding: usize,
}

impl PoolShape {
    /// Output rows.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.pool) / self.stride + 1
    }

    /// Output columns.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.pool) / self.stride + 1
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.channels
    }

    /// Calls `f` with every cell of the window of output (`y`, `x`) in order: the input pixel
    /// within its image, or `None` in the padding.
    #[inline(always)]
    fn window(&self, y: usize, x: usize, mut f: impl FnMut(Option<usize>)) {
        for i in 0..self.pool {
            for j in 0..self.pool {
                let (r, c) = (y * self.stride + i, x * self.stride + j);
                let inside = r >= self.padding
                    && c >= self.padding
                    && r - self.padding < self.height
                    && c - self.padding < self.width;
                f(inside.then(|| (r - self.padding) * self.width + c - self.padding));
            }
        }
    }
}

/// Maximum over windows; input `[batch, height, width, channels]`. NaN spreads.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn max_pool<E: Element>(c: &Compute, s: &PoolShape, x: &[E], y: &mut [E]) {
    assert!(x.len() == s.in_len() && y.len() == s.out_len(), "pooling lengths");
    let (n, row) = (s.channels, s.out_width() * s.channels);
    if row == 0 {
        return;
    }
    c.threads.chunks(y, row, |line, y| {
        let (image, line) = (line / s.out_height(), line % s.out_height());
        let x = &x[image * s.height * s.width * n..][..s.height * s.width * n];
        vectorize!(c.isa(), {
            for (column, y) in y.chunks_exact_mut(n).enumerate() {
                y.fill(E::from_f32(f32::NEG_INFINITY));
                s.window(
                    line,
                    column,
                    #[inline(always)]
                    |pixel| match pixel {
                        Some(pixel) => {
                            for (y, &x) in y.iter_mut().zip(&x[pixel * n..][..n]) {
                                let value = x.to_f32();
                                *y = if value > y.to_f32() || value.is_nan() { x } else { *y };
                            }
                        }
                        None => {
                            let zero = E::default();
                            y.iter_mut()
                                .for_each(|y| *y = if y.to_f32() < 0.0 { zero } else { *y });
                        }
                    },
                );
            }
        });
    });
}

/// Gradient of [`max_pool`], overwriting `dx`. Of equal maxima the first in the window takes the
/// gradient, as in TensorFlow and PyTorch on a CPU; a maximum in the padding takes it away.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn max_pool_backward<E: Element>(c: &Compute, s: &PoolShape, x: &[E], dy: &[E], dx: &mut [E]) {
    assert!(x.len() == s.in_len() && dx.len() == s.in_len(), "pooling lengths");
    assert_eq!(dy.len(), s.out_len(), "pooling gradient length");
    let n = s.channels;
    let (pixels, out) = (s.height * s.width * n, s.out_height() * s.out_width() * n);
    if pixels == 0 {
        return;
    }
    c.threads.chunks(dx, pixels, |image, dx| {
        let x = &x[image * pixels..][..pixels];
        let dy = &dy[image * out..][..out];
        let line = s.width * n;
        // The sums of the rows that windows still reach; row `r` lies at `r % pool`.
        let mut sums = vec![0.0f32; s.pool * line];
        let mut next = 0;
        for (y, dy) in dy.chunks_exact(s.out_width() * n).enumerate() {
            for first in (0..n).step_by(BLOCK) {
                let channels = first..n.min(first + BLOCK);
                vectorize!(c.isa(), route(s, y, channels, x, dy, &mut sums));
            }
            let done = ((y + 1) * s.stride).saturating_sub(s.padding).min(s.height);
            vectorize!(c.isa(), finish(s.pool, next..done, line, &mut sums, dx));
            next = next.max(done);
        }
        vectorize!(c.isa(), finish(s.pool, next..s.height, line, &mut sums, dx));
    });
}

/// Channels whose maxima are looked for together.
const BLOCK: usize = 64;

/// Adds the gradients `dy` of one output row to `sums`, at the maximum of each window.
#[inline(always)]
fn route<E: Element>(
    s: &PoolShape,
    y: usize,
    channels: std::ops::Range<usize>,
    x: &[E],
    dy: &[E],
    sums: &mut [f32],
) {
    let (n, count) = (s.channels, channels.len());
    for (column, dy) in dy.chunks_exact(n).enumerate() {
        let dy = &dy[channels.clone()];
        let mut best = [f32::NEG_INFINITY; BLOCK];
        let mut at = [u32::MAX; BLOCK];
        let mut cell = 0;
        s.window(
            y,
            column,
            #[inline(always)]
            |pixel| {
                let cells = best.iter_mut().zip(&mut at);
                let number = cell;
                match pixel {
                    Some(pixel) => {
                        let x = &x[pixel * n + channels.start..][..count];
                        for ((best, at), x) in cells.zip(x) {
                            let x = x.to_f32();
                            let better = x > *best || (x.is_nan() && !best.is_nan());
                            *best = if better { x } else { *best };
                            *at = if better { number } else { *at };
                        }
                    }
                    None => {
                        for (best, at) in cells.take(count) {
                            let better = *best < 0.0;
                            *best = if better { 0.0 } else { *best };
                            *at = if better { u32::MAX } else { *at };
                        }
                    }
                }
                cell += 1;
            },
        );
        let mut cell = 0;
        s.window(
            y,
            column,
            #[inline(always)]
            |pixel| {
                let number = cell;
                if let Some(pixel) = pixel {
                    let row = pixel / s.width % s.pool * s.width + pixel % s.width;
                    let sums = &mut sums[row * n + channels.start..][..count];
                    for ((sum, dy), &at) in sums.iter_mut().zip(dy).zip(&at) {
                        *sum += if at == number { dy.to_f32() } else { 0.0 };
                    }
                }
                cell += 1;
            },
        );
    }
}

/// Writes the gradient of some rows and frees their sums.
#[inline(always)]
fn finish<E: Element>(
    pool: usize,
    rows: std::ops::Range<usize>,
    line: usize,
    sums: &mut [f32],
    dx: &mut [E],
) {
    for row in rows {
        let sums = &mut sums[row % pool * line..][..line];
        for (to, sum) in dx[row * line..][..line].iter_mut().zip(sums) {
            *to = E::from_f32(*sum);
            *sum = 0.0;
        }
    }
}

/// Mean over the pixels of each image; `[batch, pixels, channels]` to `[batch, channels]`, in floats.
///
/// # Panics
/// If a slice has not the length the sizes give it.
pub fn global_average_pool<E: Element>(
    c: &Compute,
    pixels: usize,
    channels: usize,
    x: &[E],
    y: &mut [f32],
) {
    assert!(channels > 0 && y.len().is_multiple_of(channels), "pooling lengths");
    assert_eq!(x.len(), y.len() * pixels, "pooling lengths");
    c.threads.chunks(y, channels, |image, y| {
        let x = &x[image * pixels * channels..][..pixels * channels];
        vectorize!(c.isa(), {
            y.fill(0.0);
            for row in x.chunks_exact(channels) {
                y.iter_mut().zip(row).for_each(|(y, x)| *y += x.to_f32());
            }
            let scale = 1.0 / pixels as f32;
            y.iter_mut().for_each(|y| *y *= scale);
        });
    });
}

/// Gradient of [`global_average_pool`], overwriting `dx`.
///
/// # Panics
/// If a slice has not the length the sizes give it.
pub fn global_average_pool_backward<E: Element>(
    c: &Compute,
    pixels: usize,
    channels: usize,
    dy: &[f32],
    dx: &mut [E],
) {
    assert!(channels > 0 && dy.len().is_multiple_of(channels), "pooling lengths");
    assert_eq!(dx.len(), dy.len() * pixels, "pooling lengths");
    if pixels == 0 {
        return;
    }
    c.threads.chunks(dx, pixels * channels, |image, dx| {
        let dy = &dy[image * channels..][..channels];
        let scale = 1.0 / pixels as f32;
        vectorize!(c.isa(), {
            for row in dx.chunks_exact_mut(channels) {
                row.iter_mut().zip(dy).for_each(|(x, y)| *x = E::from_f32(y * scale));
            }
        });
    });
}
