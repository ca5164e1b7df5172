use crate::isa::Isa;
use crate::simd::vectorize;

/// Blocks that are transformed together, each in a lane.
pub const LANES: usize = 8;
/// Quantised coefficients of [`LANES`] neighbouring blocks: 64 in row-major order, of each those of all blocks.
pub type Blocks = [[i16; LANES]; 64];

/// Fractional bits of the factors.
const PLACES: u32 = 13;
/// Fractional bits that the first pass leaves.
const KEPT: u32 = 2;
/// What shifting the middle of the range to 128 adds.
const MIDDLE: i32 = 128;

/// Dequantises a row of blocks, transforms them back and writes 8 rows of samples of `64 * blocks.len()` each.
///
/// The algorithm is the one of Loeffler, Ligtenberg and Moschytz with 13 fractional bits, as in libjpeg's
/// `jpeg_idct_islow`. Where coefficients are too large for an image, 16-bit sums wrap and what the first pass stores
/// saturates, as in libjpeg-turbo's code for SSE2 and AVX2.
///
/// # Panics
/// If the CPU has not the instruction set, or `out` is not `512 * blocks.len()` bytes.
pub fn inverse_dct(isa: Isa, blocks: &[Blocks], quantisation: &[u16; 64], out: &mut [u8]) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert_eq!(out.len(), blocks.len() * 64 * LANES, "output length");
    if blocks.is_empty() {
        return;
    }
    let stride = blocks.len() * 8 * LANES;
    let steps = quantisation.map(|step| step as i16);
    let mut bytes = [[[0_u8; LANES]; 8]; 8];
    for (i, block) in blocks.iter().enumerate() {
        vectorize!(isa, transform(block, &steps, &mut bytes));
        let turned = vectorize!(isa, turn(&bytes));
        for (r, row) in out.chunks_exact_mut(stride).enumerate() {
            let row = row[i * 8 * LANES..].as_chunks_mut::<8>().0;
            for (to, lane) in row.iter_mut().zip(&turned) {
                *to = lane[r].to_le_bytes();
            }
        }
    }
}

/// Samples of blocks: those of column `c`, row `r` are at `[c][r]`.
#[inline(always)]
fn transform(block: &Blocks, steps: &[i16; 64], out: &mut [[[u8; LANES]; 8]; 8]) {
    let mut half = [[[0_i16; LANES]; 8]; 8];
    // Whether a block has coefficients below its first row.
    let mut below = [0; LANES];
    for row in &block[8..] {
        for lane in 0..LANES {
            below[lane] |= row[lane];
        }
    }
    for c in 0..8 {
        // Eight lanes are a vector: loops over them stay the inner ones.
        let mut to = [[0_i16; LANES]; 8];
        for lane in 0..LANES {
            let column = |r: usize| block[8 * r + c][lane].wrapping_mul(steps[8 * r + c]);
            let sums = butterflies(column);
            for r in 0..8 {
                let sum = saturated(descaled::<{ PLACES - KEPT }>(sums[r]));
                to[r][lane] = if below[lane] == 0 { column(0) << KEPT } else { sum };
            }
        }
        for r in 0..8 {
            half[r][c] = to[r];
        }
    }
    for (r, row) in half.iter().enumerate() {
        let mut to = [[0_u8; LANES]; 8];
        for lane in 0..LANES {
            let sums = butterflies(|c| row[c][lane]);
            for c in 0..8 {
                let sample = descaled::<{ PLACES + KEPT + 3 }>(sums[c]);
                to[c][lane] = (sample.clamp(-MIDDLE, MIDDLE - 1) + MIDDLE) as u8;
            }
        }
        for c in 0..8 {
            out[c][r] = to[c];
        }
    }
}

/// Rounded and without its last bits.
#[inline(always)]
pub(super) fn descaled<const BITS: u32>(sum: i32) -> i32 {
    sum.wrapping_add(1 << (BITS - 1)) >> BITS
}

#[inline(always)]
fn saturated(value: i32) -> i16 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// A factor with its fractional bits.
pub(super) const fn fixed(factor: f64) -> i32 {
    (factor * (1 << PLACES) as f64 + 0.5) as i32
}

/// One dimension, with [`PLACES`] more fractional bits.
#[inline(always)]
fn butterflies(at: impl Fn(usize) -> i16) -> [i32; 8] {
    let x = [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)];
    let wide = |i: usize| i32::from(x[i]);
    let add = |a: usize, b: usize| i32::from(x[a].wrapping_add(x[b]));
    let times = |a: i32, factor: f64| a.wrapping_mul(fixed(factor));
    // Even coefficients.
    let both = times(wide(2) + wide(6), 0.541196100);
    let low = both.wrapping_sub(times(wide(6), 1.847759065));
    let high = both.wrapping_add(times(wide(2), 0.765366865));
    let sum = add(0, 4) << PLACES;
    let difference = i32::from(x[0].wrapping_sub(x[4])) << PLACES;
    let even = [
        sum.wrapping_add(high),
        difference.wrapping_add(low),
        difference.wrapping_sub(low),
        sum.wrapping_sub(high),
    ];
    // Odd coefficients.
    let (z3, z4) = (add(7, 3), add(5, 1));
    let z5 = times(z3 + z4, 1.175875602);
    let z1 = times(wide(7) + wide(1), 0.899976223);
    let z2 = times(wide(5) + wide(3), 2.562915447);
    let z3 = z5.wrapping_sub(times(z3, 1.961570560));
    let z4 = z5.wrapping_sub(times(z4, 0.390180644));
    let odd = [
        times(wide(1), 1.501321110).wrapping_sub(z1).wrapping_add(z4),
        times(wide(3), 3.072711026).wrapping_sub(z2).wrapping_add(z3),
        times(wide(5), 2.053119869).wrapping_sub(z2).wrapping_add(z4),
        times(wide(7), 0.298631336).wrapping_sub(z1).wrapping_add(z3),
    ];
    let mut out = [0; 8];
    for i in 0..4 {
        out[i] = even[i].wrapping_add(odd[i]);
        out[7 - i] = even[i].wrapping_sub(odd[i]);
    }
    out
}

/// Samples of each lane: row `r` of its block is the word at `[lane][r]`. Bytes of eight columns change places with
/// those of eight lanes in three steps, for all rows at once.
#[inline(always)]
fn turn(samples: &[[[u8; LANES]; 8]; 8]) -> [[u64; 8]; LANES] {
    let mut words = [[0; 8]; LANES];
    for (words, column) in words.iter_mut().zip(samples) {
        for (word, bytes) in words.iter_mut().zip(column) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
    for (apart, mask) in [(1, 0x00ff_00ff_00ff_00ff), (2, 0x0000_ffff_0000_ffff), (4, 0xffff_ffff)]
    {
        for i in (0..8).filter(|i| i & apart == 0) {
            let (low, high) = words.split_at_mut(i + apart);
            for (low, high) in low[i].iter_mut().zip(&mut high[0]) {
                let (a, b): (u64, u64) = (*low, *high);
                *low = a & mask | (b & mask) << (8 * apart);
                *high = a >> (8 * apart) & mask | b & !mask;
            }
        }
    }
    words
}
