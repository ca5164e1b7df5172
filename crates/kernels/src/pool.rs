//! Max pooling, of a map as it is or normalised on the way, and global average pooling, NHWC, with their gradients.

use std::ops::Range;

use crate::element::Element;
use crate::rows::{BLOCK, Rounding, map, vectorize_rounding};
use crate::shape::is_product;
use crate::simd::vectorize;
use crate::table::Compute;

pub use crate::shape::{PoolShape, PoolSizes};

/// What happens to a map on its way into [`max_pool`]: a batch norm, and a ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Normalize<'a> {
    /// Factor of each channel.
    pub scale: &'a [f32],
    /// Added to each channel.
    pub shift: &'a [f32],
    /// `max(x, 0)` afterwards.
    pub relu: bool,
}

/// The rows of an image, as windows see them.
struct Rows<'a, E> {
    image: &'a [E],
    normalize: Option<Normalize<'a>>,
    /// Elements of a row.
    line: usize,
    pool: usize,
    /// The last `pool` normalised rows; row `r` lies at `r % pool`.
    made: Vec<E>,
    /// The next row to normalise.
    next: usize,
}

impl<'a, E: Element> Rows<'a, E> {
    fn new(s: &PoolShape, image: &'a [E], normalize: Option<Normalize<'a>>) -> Rows<'a, E> {
        let line = s.width() * s.channels();
        let made = vec![E::default(); if normalize.is_some() { s.pool() * line } else { 0 }];
        Rows { image, normalize, line, pool: s.pool(), made, next: 0 }
    }

    /// Makes some rows ready, which begin and end no earlier than the last ones.
    #[inline(always)]
    fn ready(&mut self, round: impl Rounding, rows: Range<usize>) {
        let Some(Normalize { scale, shift, relu }) = self.normalize else { return };
        let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
        for r in self.next.max(rows.start)..rows.end {
            let from = &self.image[r * self.line..][..self.line];
            let to = &mut self.made[r % self.pool * self.line..][..self.line];
            map(
                round,
                scale.len(),
                [from],
                [scale, shift],
                to,
                #[inline(always)]
                |[x], [a, b], _| {
                    let v = x * a + b;
                    if v < floor { floor } else { v }
                },
            );
        }
        self.next = rows.end;
    }

    /// A row that is ready.
    #[inline(always)]
    fn row(&self, r: usize) -> &[E] {
        match self.normalize {
            Some(_) => &self.made[r % self.pool * self.line..][..self.line],
            None => &self.image[r * self.line..][..self.line],
        }
    }
}

fn check_normalize(s: &PoolShape, normalize: Option<Normalize<'_>>) {
    let fits = |values: &[f32]| !values.is_empty() && values.len() == s.channels();
    assert!(normalize.is_none_or(|n| fits(n.scale) && fits(n.shift)), "parameter length");
}

/// Rows of the output that one task computes.
const ROWS: usize = 8;

/// Maximum over windows; input `[batch, height, width, channels]`. NaN spreads. With `normalize` that of the
/// normalised input, to the bits of [`crate::norm::batch_norm_apply`] before.
///
/// # Panics
/// If a slice has not the length `s` gives it, or `normalize` not one parameter a channel.
pub fn max_pool<E: Element>(
    c: &Compute,
    s: &PoolShape,
    x: &[E],
    normalize: Option<Normalize<'_>>,
    y: &mut [E],
) {
    assert!(x.len() == s.in_len() && y.len() == s.out_len(), "pooling lengths");
    check_normalize(s, normalize);
    let (line, row) = (s.width() * s.channels(), s.out_width() * s.channels());
    if row == 0 {
        return;
    }
    let image = |i: usize| &x[i * s.height() * line..][..s.height() * line];
    c.threads.chunks(y, ROWS * row, |part, y| {
        let mut highest = vec![E::default(); line];
        let mut rows = Rows::new(s, image(part * ROWS / s.out_height()), normalize);
        vectorize_rounding!(c.isa(), |round| {
            for (i, y) in y.chunks_exact_mut(row).enumerate() {
                let at = (part * ROWS + i) % s.out_height();
                if at == 0 {
                    rows.image = image((part * ROWS + i) / s.out_height());
                    rows.next = 0;
                }
                rows.ready(round, s.rows(at));
                maxima(
                    s,
                    at,
                    #[inline(always)]
                    |r| rows.row(r),
                    &mut highest,
                    y,
                );
            }
        });
    });
}

/// Output row `at` of [`max_pool`] from an image's input rows: the maxima of the window's rows, column by column, then
/// along the row.
#[inline(always)]
pub(crate) fn maxima<'r, E: Element>(
    s: &PoolShape,
    at: usize,
    row: impl Fn(usize) -> &'r [E],
    highest: &mut [E],
    y: &mut [E],
) {
    let (n, rows) = (s.channels(), s.rows(at));
    highest_of(s, rows, row, highest);
    for (column, y) in y.chunks_exact_mut(n).enumerate() {
        highest_of(
            s,
            s.columns(column),
            #[inline(always)]
            |column| &highest[column * n..][..n],
            y,
        );
    }
}

/// The maxima of a window's rows or columns.
#[inline(always)]
fn highest_of<'r, E: Element>(
    s: &PoolShape,
    inside: Range<usize>,
    values: impl Fn(usize) -> &'r [E],
    to: &mut [E],
) {
    if inside.len() == 3 && s.pool() == 3 {
        // The usual window in one pass.
        let [a, b, c] = [0, 1, 2].map(
            #[inline(always)]
            |i| values(inside.start + i),
        );
        for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
            *to = a.larger(b).larger(c);
        }
        return;
    }
    to.fill(lowest(s, &inside));
    for i in inside {
        raise(to, values(i));
    }
}

/// Start of a maximum over this many of the window's rows or columns: the padding's zero, if it reaches there.
#[inline(always)]
fn lowest<E: Element>(s: &PoolShape, inside: &Range<usize>) -> E {
    if inside.len() < s.pool() { E::default() } else { E::from_f32(f32::NEG_INFINITY) }
}

/// Raises values to others; NaN stays and spreads.
#[inline(always)]
fn raise<E: Element>(values: &mut [E], others: &[E]) {
    for (value, &other) in values.iter_mut().zip(others) {
        *value = value.larger(other);
    }
}

/// Gradient of [`max_pool`], overwriting `dx`. Of equal maxima the first in the window takes the
/// gradient, as in TensorFlow and PyTorch on a CPU; a maximum in the padding takes it away. With `normalize` the gradient
/// is that of the normalised input. With `rectified` what the windows see is a ReLU's output and `dx` the gradient of its
/// input: maxima that are not positive take none.
///
/// # Panics
/// If a slice has not the length `s` gives it, or `normalize` not one parameter a channel.
pub fn max_pool_backward<E: Element>(
    c: &Compute,
    s: &PoolShape,
    x: &[E],
    normalize: Option<Normalize<'_>>,
    dy: &[E],
    rectified: bool,
    dx: &mut [E],
) {
    assert!(x.len() == s.in_len() && dx.len() == s.in_len(), "pooling lengths");
    assert_eq!(dy.len(), s.out_len(), "pooling gradient length");
    check_normalize(s, normalize);
    let (line, row) = (s.width() * s.channels(), s.out_width() * s.channels());
    let (pixels, out) = (s.height() * line, s.out_height() * row);
    if pixels == 0 {
        return;
    }
    c.threads.chunks(dx, pixels, |image, dx| {
        let mut rows = Rows::new(s, &x[image * pixels..][..pixels], normalize);
        let dy = &dy[image * out..][..out];
        let (mut highest, mut y) = (vec![E::default(); line], vec![E::default(); row]);
        // The output row's gradient.
        let mut gradient = vec![0.0f32; row];
        // The sums of the rows that windows still reach; row `r` lies at `r % pool`.
        let mut sums = vec![0.0f32; s.pool() * line];
        let mut next = 0;
        for (at, dy) in dy.chunks_exact(row).enumerate() {
            vectorize_rounding!(c.isa(), |round| {
                rows.ready(round, s.rows(at));
                maxima(
                    s,
                    at,
                    #[inline(always)]
                    |r| rows.row(r),
                    &mut highest,
                    &mut y,
                );
                for ((gradient, dy), y) in gradient.iter_mut().zip(dy).zip(&y) {
                    *gradient = if (y.to_f32() > 0.0) | !rectified { dy.to_f32() } else { 0.0 };
                }
                route(s, at, &rows, &y, &mut gradient, &mut sums);
            });
            let done = ((at + 1) * s.stride()).saturating_sub(s.padding()).min(s.height());
            vectorize_rounding!(c.isa(), |round| {
                finish(round, s.pool(), next..done, line, &mut sums, dx)
            });
            next = next.max(done);
        }
        vectorize_rounding!(c.isa(), |round| {
            finish(round, s.pool(), next..s.height(), line, &mut sums, dx)
        });
    });
}

/// Channels whose gradients are routed at a time, several registers of them: each window's cells depend on one another.
const CHANNELS: usize = 64;

/// Adds the gradient of one output row, whose maxima are `y`, to `sums`; none of it is left in `gradient`.
#[inline(always)]
fn route<E: Element>(
    s: &PoolShape,
    at: usize,
    map: &Rows<'_, E>,
    y: &[E],
    gradient: &mut [f32],
    sums: &mut [f32],
) {
    let (n, rows) = (s.channels(), s.rows(at));
    let line = |r: usize| (map.row(r), r % s.pool() * s.width() * n);
    let lines: Vec<(&[E], usize)> = rows.clone().map(line).collect();
    let outputs = y.chunks_exact(n).zip(gradient.chunks_exact_mut(n));
    for (column, (y, gradient)) in outputs.enumerate() {
        let columns = s.columns(column);
        if rows.len() < s.pool() || columns.len() < s.pool() {
            padded(s, [at, column], map, y, gradient, sums);
            continue;
        }
        let whole = n / CHANNELS * CHANNELS;
        let blocks = y.as_chunks().0.iter().zip(gradient.as_chunks_mut().0);
        for (block, (y, gradient)) in blocks.enumerate() {
            for &(row, start) in &lines {
                for column in columns.clone() {
                    let at = column * n + block * CHANNELS;
                    let sums = sums[start + at..].first_chunk_mut();
                    if let (Some(x), Some(sums)) = (row[at..].first_chunk(), sums) {
                        take_block(x, y, gradient, sums);
                    }
                }
            }
        }
        if whole < n {
            let (y, gradient) = (&y[whole..], &mut gradient[whole..]);
            for &(row, start) in &lines {
                for column in columns.clone() {
                    let part = column * n + whole..(column + 1) * n;
                    take(&row[part.clone()], y, gradient, &mut sums[start..][part]);
                }
            }
        }
    }
}

/// The same for a window that reaches into the padding, whose zeros take what they are the maximum of.
#[inline(always)]
fn padded<E: Element>(
    s: &PoolShape,
    [line, column]: [usize; 2],
    map: &Rows<'_, E>,
    y: &[E],
    gradient: &mut [f32],
    sums: &mut [f32],
) {
    let (n, rows, columns) = (s.channels(), s.rows(line), s.columns(column));
    for r in line * s.stride()..line * s.stride() + s.pool() {
        for c in column * s.stride()..column * s.stride() + s.pool() {
            let (r, c) = (r.wrapping_sub(s.padding()), c.wrapping_sub(s.padding()));
            if rows.contains(&r) && columns.contains(&c) {
                let x = &map.row(r)[c * n..][..n];
                take(x, y, gradient, &mut sums[(r % s.pool() * s.width() + c) * n..][..n]);
            } else {
                for (gradient, y) in gradient.iter_mut().zip(y) {
                    *gradient = split(E::default(), *y, *gradient)[1];
                }
            }
        }
    }
}

/// Moves gradients to the sums of a pixel that has the maximum: the first such one in the window finds all of it.
#[inline(always)]
fn take<E: Element>(x: &[E], y: &[E], gradient: &mut [f32], sums: &mut [f32]) {
    for (((x, y), gradient), sum) in x.iter().zip(y).zip(gradient).zip(sums) {
        let [taken, rest] = split(*x, *y, *gradient);
        *sum += taken;
        *gradient = rest;
    }
}

/// [`take`], of a number of channels that the compiler knows.
#[inline(always)]
fn take_block<E: Element>(
    x: &[E; CHANNELS],
    y: &[E; CHANNELS],
    gradient: &mut [f32; CHANNELS],
    sums: &mut [f32; CHANNELS],
) {
    for k in 0..CHANNELS {
        let [taken, rest] = split(x[k], y[k], gradient[k]);
        sums[k] += taken;
        gradient[k] = rest;
    }
}

/// What a value takes of the gradient of a maximum: all or nothing, and what it leaves. By bits: a choice that is stored
/// over what was chosen from would become a masked store.
#[inline(always)]
fn split<E: Element>(x: E, y: E, gradient: f32) -> [f32; 2] {
    let (x, y) = (x.to_f32(), y.to_f32());
    let kept = u32::from((x == y) | x.is_nan()).wrapping_sub(1);
    [!kept, kept].map(|part| f32::from_bits(gradient.to_bits() & part))
}

/// Writes the gradient of some rows and frees their sums.
#[inline(always)]
fn finish<E: Element>(
    round: impl Rounding,
    pool: usize,
    rows: std::ops::Range<usize>,
    line: usize,
    sums: &mut [f32],
    dx: &mut [E],
) {
    for row in rows {
        let sums = &mut sums[row % pool * line..][..line];
        let (blocks, rest) = dx[row * line..][..line].as_chunks_mut();
        let (whole, last) = sums.as_chunks_mut();
        for (to, sums) in blocks.iter_mut().zip(whole) {
            round.store(sums, to);
            *sums = [0.0; BLOCK];
        }
        for (to, sum) in rest.iter_mut().zip(last) {
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
    assert!(is_product(x.len(), &[y.len(), pixels]), "pooling lengths");
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
    assert!(is_product(dx.len(), &[dy.len(), pixels]), "pooling lengths");
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
