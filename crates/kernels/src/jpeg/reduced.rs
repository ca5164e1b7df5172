use super::dct::{Blocks, LANES, descaled, fixed};
use crate::isa::Isa;
use crate::simd::vectorize;

/// Fractional bits of the factors.
const PLACES: u32 = 13;
/// Fractional bits that the first pass leaves.
const KEPT: u32 = 2;
/// What shifting the middle of the range to 128 adds.
const MIDDLE: i32 = 128;

/// As [`inverse_dct`](super::inverse_dct), at a half, a quarter or an eighth of the size: `side` is 4, 2 or 1, the
/// samples of a block across and down, and each is the mean of those it stands for. `out` is `side` rows of
/// `8 * side * blocks.len()`.
///
/// The algorithms are those of libjpeg's `jpeg_idct_4x4`, `jpeg_idct_2x2` and `jpeg_idct_1x1`.
///
/// # Panics
/// If the CPU has not the instruction set, `side` is another number, or `out` has another length.
pub fn reduced_dct(
    isa: Isa,
    side: usize,
    blocks: &[Blocks],
    quantisation: &[u16; 64],
    out: &mut [u8],
) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert!(matches!(side, 1 | 2 | 4), "a block of {side} samples");
    assert_eq!(out.len(), blocks.len() * LANES * side * side, "output length");
    let steps = quantisation.map(|step| step as i16);
    let stride = (blocks.len() * LANES * side).max(1);
    for (i, block) in blocks.iter().enumerate() {
        let mut samples = [[[0_u8; LANES]; 4]; 4];
        match side {
            4 => vectorize!(isa, transform::<4>(block, &steps, &mut samples)),
            2 => vectorize!(isa, transform::<2>(block, &steps, &mut samples)),
            _ => vectorize!(isa, means(block, &steps, &mut samples)),
        }
        for (row, samples) in out.chunks_exact_mut(stride).zip(&samples) {
            let row = &mut row[i * LANES * side..][..LANES * side];
            for (lane, to) in row.chunks_exact_mut(side).enumerate() {
                to.iter_mut().zip(samples).for_each(|(to, sample)| *to = sample[lane]);
            }
        }
    }
}

/// Samples of blocks, those of row `r`, column `c` at `[r][c]`.
type Samples = [[[u8; LANES]; 4]; 4];

/// The sample of blocks that become a single one. Means that are no samples of an image wrap at 10 bits, as in libjpeg.
#[inline(always)]
fn means(block: &Blocks, steps: &[i16; 64], out: &mut Samples) {
    for (to, &value) in out[0][0].iter_mut().zip(&block[0]) {
        let mean = descaled::<3>(i32::from(value) * i32::from(steps[0]));
        *to = sample(mean << 22 >> 22);
    }
}

#[inline(always)]
fn transform<const SIDE: usize>(block: &Blocks, steps: &[i16; 64], out: &mut Samples) {
    // Rows of what the columns become, by column.
    let mut half = [[[0_i32; LANES]; 8]; 4];
    for c in 0..8 {
        if !used::<SIDE>(c) {
            continue;
        }
        for lane in 0..LANES {
            let at = |r: usize| i32::from(block[8 * r + c][lane]) * i32::from(steps[8 * r + c]);
            let sums = sums::<SIDE>(at);
            for r in 0..SIDE {
                half[r][c][lane] = match SIDE {
                    4 => descaled::<{ PLACES - KEPT + 1 }>(sums[r]),
                    _ => descaled::<{ PLACES - KEPT + 2 }>(sums[r]),
                };
            }
        }
    }
    for r in 0..SIDE {
        for lane in 0..LANES {
            let sums = sums::<SIDE>(|c| half[r][c][lane]);
            for c in 0..SIDE {
                out[r][c][lane] = sample(match SIDE {
                    4 => descaled::<{ PLACES + KEPT + 3 + 1 }>(sums[c]),
                    _ => descaled::<{ PLACES + KEPT + 3 + 2 }>(sums[c]),
                });
            }
        }
    }
}

/// Whether a column has a part in the result: the means of the others are 0.
#[inline(always)]
fn used<const SIDE: usize>(column: usize) -> bool {
    match SIDE {
        4 => column != 4,
        _ => column == 0 || column % 2 == 1,
    }
}

#[inline(always)]
fn sample(value: i32) -> u8 {
    (value.clamp(-MIDDLE, MIDDLE - 1) + MIDDLE) as u8
}

/// One dimension, with [`PLACES`] more fractional bits and one more for each halving.
#[inline(always)]
fn sums<const SIDE: usize>(at: impl Fn(usize) -> i32) -> [i32; 4] {
    let times = |i: usize, factor: f64| at(i).wrapping_mul(fixed(factor));
    let all = |terms: &[(usize, f64)]| {
        terms.iter().fold(0_i32, |sum, &(i, factor)| match factor < 0.0 {
            true => sum.wrapping_sub(times(i, -factor)),
            false => sum.wrapping_add(times(i, factor)),
        })
    };
    if SIDE == 2 {
        let even = at(0) << (PLACES + 2);
        let odd = all(&[(7, -0.720959822), (5, 0.850430095), (3, -1.272758580), (1, 3.624509785)]);
        return [even.wrapping_add(odd), even.wrapping_sub(odd), 0, 0];
    }
    let (mean, slope) = (at(0) << (PLACES + 1), all(&[(2, 1.847759065), (6, -0.765366865)]));
    let (outer, inner) = (mean.wrapping_add(slope), mean.wrapping_sub(slope));
    let near = all(&[(7, -0.211164243), (5, 1.451774981), (3, -2.172734803), (1, 1.061594337)]);
    let far = all(&[(7, -0.509795579), (5, -0.601344887), (3, 0.899976223), (1, 2.562915447)]);
    [
        outer.wrapping_add(far),
        inner.wrapping_add(near),
        inner.wrapping_sub(near),
        outer.wrapping_sub(far),
    ]
}
