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

    /// Calls `f` with every cell of the window of output (`y`, `x`) in order: row and column of the input
    /// pixel, or `None` in the padding.
    #[inline(always)]
    fn window(&self, y: usize, x: usize, mut f: impl FnMut(Option<[usize; 2]>)) {
        for i in 0..self.pool {
            for j in 0..self.pool {
                let (r, c) = (y * self.stride + i, x * self.stride + j);
                let inside = r >= self.padding
                    && c >= self.padding
                    && r - self.padding < self.height
                    && c - self.padding < self.width;
                f(inside.then(|| [r - self.padding, c - self.padding]));
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
                        Some([row, column]) => {
                            let pixel = row * s.width + column;
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
            vectorize!(c.isa(), route(s, y, x, dy, &mut sums));
            let done = ((y + 1) * s.stride).saturating_sub(s.padding).min(s.height);
            vectorize!(c.isa(), finish(s.pool, next..done, line, &mut sums, dx));
            next = next.max(done);
        }
        vectorize!(c.isa(), finish(s.pool, next..s.height, line, &mut sums, dx));
    });
}

/// Channels whose maxima are looked for together, in registers.
const BLOCK: usize = 32;

/// Adds the gradients `dy` of one output row to `sums`, at the maximum of each window.
#[inline(always)]
fn route<E: Element>(s: &PoolShape, y: usize, x: &[E], dy: &[E], sums: &mut [f32]) {
    let n = s.channels;
    for (column, dy) in dy.chunks_exact(n).enumerate() {
        let mut first = 0;
        while let Some(dy) = dy[first..].first_chunk::<BLOCK>() {
            let at = maxima::<E, BLOCK>(s, [y, column], first, x);
            add(s, [y, column], first, &at, dy, sums);
            first += BLOCK;
        }
        for (channel, &dy) in dy.iter().enumerate().skip(first) {
            let at = maxima::<E, 1>(s, [y, column], channel, x);
            add(s, [y, column], channel, &at, &[dy], sums);
        }
    }
}

/// The cell of the window at which each of `N` channels from `first` on has its maximum: `u32::MAX` in the padding.
#[inline(always)]
fn maxima<E: Element, const N: usize>(
    s: &PoolShape,
    [y, column]: [usize; 2],
    first: usize,
    x: &[E],
) -> [u32; N] {
    let (mut best, mut at) = ([f32::NEG_INFINITY; N], [u32::MAX; N]);
    let mut cell = 0;
    s.window(
        y,
        column,
        #[inline(always)]
        |pixel| {
            let (zeros, number) =
                ([E::default(); N], if pixel.is_some() { cell } else { u32::MAX });
            let values = pixel.and_then(|[row, column]| {
                x[(row * s.width + column) * s.channels + first..].first_chunk()
            });
            let values = values.unwrap_or(&zeros);
            for i in 0..N {
                let x = values[i].to_f32();
                // Without branches, so that all channels are compared at once.
                let better = (x > best[i]) | (x.is_nan() & !best[i].is_nan());
                best[i] = if better { x } else { best[i] };
                at[i] = if better { number } else { at[i] };
            }
            cell += 1;
        },
    );
    at
}

/// Adds the gradients of `N` channels from `first` on to the sums at the cells `at` of the window.
#[inline(always)]
fn add<E: Element, const N: usize>(
    s: &PoolShape,
    [y, column]: [usize; 2],
    first: usize,
    at: &[u32; N],
    dy: &[E; N],
    sums: &mut [f32],
) {
    let mut cell = 0;
    s.window(
        y,
        column,
        #[inline(always)]
        |pixel| {
            let number = cell;
            let row = pixel.map(|[row, column]| row % s.pool * s.width + column);
            if let Some(row) = row
                && let Some(sums) = sums[row * s.channels + first..].first_chunk_mut::<N>()
            {
                for i in 0..N {
                    sums[i] += if at[i] == number { dy[i].to_f32() } else { 0.0 };
                }
            }
            cell += 1;
        },
    );
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
