//! Weighted sums of bytes in whole numbers: the two passes of resizing RGB images.
//!
//! Sums are exact, so results are the same on every processor.

use crate::isa::Isa;
use crate::shape::is_product;
use crate::simd::{vectorize, words_of};

/// Fractional bits of weights: 8 bits of pixel and 2 of overshoot leave 22 of 32.
pub const PLACES: u32 = 22;
/// What sums begin with, so that shifting rounds.
const HALF: i32 = 1 << (PLACES - 1);
/// Rows that are summed together: their pixels of a column lie side by side and fill whole registers.
const ROWS: usize = 16;
/// Columns whose products are summed before the sums go to memory.
const TAPS: usize = 6;
/// A column's pixels of [`ROWS`] rows: red is the lowest byte, the highest means nothing.
type Column = [u32; ROWS];

/// For an output position the first source position, and where its weights end among all weights.
pub type Span = (usize, usize);

#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PLACES).clamp(0, 255) as u8
}

/// Brings rows of `from` RGB pixels to rows of `spans.len()`.
///
/// # Panics
/// If the CPU has not the instruction set, there are not as many rows in `out` as in `source`, or a span leaves its row
/// or the weights. Sums of more than 32 bits wrap, or panic where overflow is checked.
pub fn horizontal(
    isa: Isa,
    source: &[u8],
    from: usize,
    spans: &[Span],
    weights: &[i32],
    out: &mut [u8],
) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert!(from > 0 && !spans.is_empty(), "rows of no pixels");
    let rows = source.len() / 3 / from;
    assert!(is_product(source.len(), &[rows, from, 3]), "source length");
    assert!(is_product(out.len(), &[rows, spans.len(), 3]), "output length");
    check(spans, weights, from);
    if rows == 0 {
        return;
    }
    let (row, to) = (from * 3, spans.len() * 3);
    let (mut columns, mut results) = (vec![[0; ROWS]; from], vec![[0; ROWS]; spans.len()]);
    for (source, out) in source.chunks(ROWS * row).zip(out.chunks_mut(ROWS * to)) {
        // Not for any instruction set: gathering and scattering pixels is slower than moving them one by one.
        turn(source, row, &mut columns);
        vectorize!(isa, {
            let mut start = 0;
            for (result, &(first, end)) in results.iter_mut().zip(spans) {
                *result = sum(&columns[first..][..end - start], &weights[start..end]);
                start = end;
            }
        });
        turn_back(&results, out, to);
    }
}

/// Spans that follow one another through the weights and are within this many positions.
fn check(spans: &[Span], weights: &[i32], positions: usize) {
    let mut start = 0;
    for &(first, end) in spans {
        assert!(start <= end && end <= weights.len(), "weights of a span");
        let count = end - start;
        assert!(count <= positions && first <= positions - count, "a span outside of {positions}");
        start = end;
    }
}

/// The weighted sum of some columns.
#[inline(always)]
fn sum(columns: &[Column], weights: &[i32]) -> Column {
    let mut sums = [[HALF; ROWS]; 3];
    let (columns, last) = columns.as_chunks::<TAPS>();
    let (weights, last_weights) = weights.as_chunks::<TAPS>();
    for (columns, weights) in columns.iter().zip(weights) {
        add(columns, weights, &mut sums);
    }
    for (column, &weight) in last.iter().zip(last_weights) {
        add(&[*column], &[weight], &mut sums);
    }
    let mut pixels = [0; ROWS];
    for (channel, sums) in sums.iter().enumerate() {
        for (pixel, &sum) in pixels.iter_mut().zip(sums) {
            *pixel |= u32::from(to_byte(sum)) << (8 * channel);
        }
    }
    pixels
}

/// Adds some columns, times a weight each, to the sums of each channel.
#[inline(always)]
fn add<const N: usize>(columns: &[Column; N], weights: &[i32; N], sums: &mut [[i32; ROWS]; 3]) {
    for (channel, sums) in sums.iter_mut().enumerate() {
        for (r, sum) in sums.iter_mut().enumerate() {
            for (column, weight) in columns.iter().zip(weights) {
                *sum += (column[r] >> (8 * channel) & 255) as i32 * weight;
            }
        }
    }
}

/// Puts the pixels of each column of some rows side by side; of missing rows what was there stays.
fn turn(source: &[u8], row: usize, columns: &mut [Column]) {
    // Few enough columns to stay in the first-level cache until all their rows are there.
    const SOME: usize = 128;
    for (i, columns) in columns.chunks_mut(SOME).enumerate() {
        for (r, row) in source.chunks_exact(row).enumerate().take(ROWS) {
            let pixels = &row[i * SOME * 3..][..columns.len() * 3];
            words_of(pixels, columns.iter_mut().map(|column| &mut column[r]));
        }
    }
}

/// Writes the pixels of columns to rows of `row` bytes.
fn turn_back(columns: &[Column], rows: &mut [u8], row: usize) {
    for (r, row) in rows.chunks_exact_mut(row).enumerate() {
        for (pixel, column) in row.as_chunks_mut::<3>().0.iter_mut().zip(columns) {
            let [red, green, blue, _] = column[r].to_le_bytes();
            *pixel = [red, green, blue];
        }
    }
}

/// Brings rows of `row` bytes to `spans.len()` such rows.
///
/// # Panics
/// If the CPU has not the instruction set, or a span leaves the image or the weights. Sums of more than 32 bits wrap, or
/// panic where overflow is checked.
pub fn vertical(
    isa: Isa,
    source: &[u8],
    row: usize,
    spans: &[Span],
    weights: &[i32],
    out: &mut [u8],
) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert!(row > 0 && source.len().is_multiple_of(row), "source length");
    assert!(is_product(out.len(), &[spans.len(), row]), "output length");
    check(spans, weights, source.len() / row);
    let mut sums = vec![0_i32; row];
    vectorize!(isa, {
        let mut start = 0;
        for (out, &(first, end)) in out.chunks_exact_mut(row).zip(spans) {
            let weights = &weights[start..end];
            start = end;
            let rows = source[first * row..(first + weights.len()) * row].chunks_exact(row);
            sums.fill(HALF);
            for (source, &weight) in rows.zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, &sum) in out.iter_mut().zip(&sums) {
                *value = to_byte(sum);
            }
        }
    });
}
