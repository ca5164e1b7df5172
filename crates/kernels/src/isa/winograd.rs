//! The transforms of Winograd's F(4x4, 3x3), generic over the vector.
//!
//! A 4x4 tile of outputs is `A^T [(G g G^T) . (B^T d B)] A` for the 6x6 tile `d` of inputs and the kernel
//! `g` (Lavin and Gray 2016), here with the points 0, +-1/sqrt 2, +-sqrt 2 and infinity, whose errors in
//! f32 are about twice those of the direct sum, product by product; with 0, +-1, +-2 they are four times.

// Tiles are indexed by constants once the loops are unrolled; iterators hide that.
#![allow(clippy::needless_range_loop)]

use std::f32::consts::{FRAC_1_SQRT_2 as P, SQRT_2 as Q};

use super::tile::Vector;

/// What the transform of one tile to the 6x6 products reads and writes.
pub(crate) struct SpreadArgs {
    /// Pointers to the rows of channels of the tile's pixels, row by row.
    pub pixels: *const *const f32,
    /// First channel.
    pub offset: usize,
    /// Channels, a multiple of 16.
    pub channels: usize,
    /// Where the first product's channels go.
    pub output: *mut f32,
    /// Floats between the 36 products.
    pub stride: usize,
}

/// What the transform of one tile from the 6x6 products reads and writes.
pub(crate) struct CollectArgs {
    /// The first product's channels.
    pub products: *const f32,
    /// Floats between the 36 products.
    pub stride: usize,
    /// Channels, a multiple of 16.
    pub channels: usize,
    /// Start of the output, and of `residual` and `mask`.
    pub output: *mut f32,
    /// Where each of the tile's 4x4 pixels starts in the output; [`OUTSIDE`] for none.
    pub rows: *const usize,
    /// Whether the tile adds to what the output holds.
    pub accumulate: bool,
    /// Values added per channel, or null.
    pub bias: *const f32,
    /// Added element by element, laid out as the output, or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Results become zero where this is not positive; laid out as the output, or null.
    pub mask: *const f32,
}

/// In [`CollectArgs::rows`]: a pixel outside of the map.
pub(crate) const OUTSIDE: usize = usize::MAX;

/// The transforms of one instruction set; they need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transforms {
    /// `B^T d B` of a 6x6 tile.
    pub input: unsafe fn(&SpreadArgs),
    /// `A d A^T` of a 4x4 tile.
    pub gradient: unsafe fn(&SpreadArgs),
    /// `A^T m A` of 6x6 products.
    pub output: unsafe fn(&CollectArgs),
}

#[inline(always)]
unsafe fn times<V: Vector>(factor: f32, x: V) -> V {
    // SAFETY: the caller's CPU runs V's instruction set; so below.
    unsafe { V::splat(0.0).fma(V::splat(factor), x) }
}

/// `a + factor * b`
#[inline(always)]
unsafe fn plus<V: Vector>(a: V, factor: f32, b: V) -> V {
    unsafe { a.fma(V::splat(factor), b) }
}

/// `B^T d`; the rows' common factors are in `G`.
#[inline(always)]
unsafe fn input_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    unsafe {
        let (pe, po) = (plus(d[4], -2.0, d[2]), plus(d[3], -2.0, d[1]));
        let (qe, qo) = (plus(d[4], -0.5, d[2]), plus(d[3], -0.5, d[1]));
        [
            plus(d[0].add(d[4]), -2.5, d[2]),
            plus(pe, P, po),
            plus(pe, -P, po),
            plus(qe, Q, qo),
            plus(qe, -Q, qo),
            plus(d[1].add(d[5]), -2.5, d[3]),
        ]
    }
}

/// `A y`
#[inline(always)]
unsafe fn gradient_line<V: Vector>(y: [V; 4]) -> [V; 6] {
    unsafe {
        let (pe, po) = (plus(y[0], 0.5, y[2]), plus(y[1], 0.5, y[3]));
        let (qe, qo) = (plus(y[0], 2.0, y[2]), plus(y[1], 2.0, y[3]));
        [y[0], plus(pe, P, po), plus(pe, -P, po), plus(qe, Q, qo), plus(qe, -Q, qo), y[3]]
    }
}

/// `A^T m`
#[inline(always)]
unsafe fn output_line<V: Vector>(m: [V; 6]) -> [V; 4] {
    unsafe {
        let (ps, pd) = (m[1].add(m[2]), plus(m[1], -1.0, m[2]));
        let (qs, qd) = (m[3].add(m[4]), plus(m[3], -1.0, m[4]));
        [
            m[0].add(ps).add(qs),
            plus(times(P, pd), Q, qd),
            plus(times(0.5, ps), 2.0, qs),
            plus(plus(m[5], P / 2.0, pd), 2.0 * Q, qd),
        ]
    }
}

/// # Safety
/// The CPU runs V's instruction set; every pointer of `t` is valid for what its field says.
#[inline(always)]
pub(super) unsafe fn input<V: Vector>(t: &SpreadArgs) {
    // SAFETY: all accesses are those the fields of `SpreadArgs` promise.
    unsafe {
        for c in (t.offset..t.offset + t.channels).step_by(V::LANES) {
            let mut half = [[V::splat(0.0); 6]; 6];
            for x in 0..6 {
                let column = std::array::from_fn(|y| V::load((*t.pixels.add(y * 6 + x)).add(c)));
                let line = input_line(column);
                for y in 0..6 {
                    half[y][x] = line[y];
                }
            }
            for y in 0..6 {
                let line = input_line(half[y]);
                for x in 0..6 {
                    line[x].store(t.output.add((y * 6 + x) * t.stride + c - t.offset));
                }
            }
        }
    }
}

/// # Safety
/// As for [`input`].
#[inline(always)]
pub(super) unsafe fn gradient<V: Vector>(t: &SpreadArgs) {
    // SAFETY: all accesses are those the fields of `SpreadArgs` promise.
    unsafe {
        for c in (t.offset..t.offset + t.channels).step_by(V::LANES) {
            let mut half = [[V::splat(0.0); 4]; 6];
            for x in 0..4 {
                let column = std::array::from_fn(|y| V::load((*t.pixels.add(y * 4 + x)).add(c)));
                let line = gradient_line(column);
                for y in 0..6 {
                    half[y][x] = line[y];
                }
            }
            for y in 0..6 {
                let line = gradient_line(half[y]);
                for x in 0..6 {
                    line[x].store(t.output.add((y * 6 + x) * t.stride + c - t.offset));
                }
            }
        }
    }
}

/// # Safety
/// As for [`input`].
#[inline(always)]
pub(super) unsafe fn output<V: Vector>(t: &CollectArgs) {
    // SAFETY: all accesses are those the fields of `CollectArgs` promise.
    unsafe {
        for c in (0..t.channels).step_by(V::LANES) {
            let mut half = [[V::splat(0.0); 6]; 4];
            for x in 0..6 {
                let column =
                    std::array::from_fn(|y| V::load(t.products.add((y * 6 + x) * t.stride + c)));
                let line = output_line(column);
                for y in 0..4 {
                    half[y][x] = line[y];
                }
            }
            for y in 0..4 {
                let line = output_line(half[y]);
                for x in 0..4 {
                    let row = *t.rows.add(y * 4 + x);
                    if row == OUTSIDE {
                        continue;
                    }
                    let at = row + c;
                    let mut value = line[x];
                    if t.accumulate {
                        value = value.add(V::load(t.output.add(at)));
                    }
                    if !t.bias.is_null() {
                        value = value.add(V::load(t.bias.add(c)));
                    }
                    if !t.residual.is_null() {
                        value = value.add(V::load(t.residual.add(at)));
                    }
                    if t.relu {
                        value = value.relu();
                    }
                    if !t.mask.is_null() {
                        value = value.keep_where_positive(V::load(t.mask.add(at)));
                    }
                    value.store(t.output.add(at));
                }
            }
        }
    }
}
