//! A convolution's kernel in memory, read as one matrix of reduction rows and columns for each tap.

use std::ops::Range;

use crate::prefetch::prefetch;

/// In which direction neighbours of a matrix are neighbours in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Inner {
    /// Along the columns.
    Columns,
    /// Along the reduction.
    Depth,
}

/// The matrices of all taps.
#[derive(Clone, Debug)]
pub(crate) struct Matrices<'a> {
    /// All of the kernel.
    pub values: &'a [f32],
    /// Where the matrix of each tap starts.
    pub starts: Vec<usize>,
    /// Rows of a matrix.
    pub depth: usize,
    /// Columns of a matrix.
    pub columns: usize,
    /// How a matrix lies in memory.
    pub inner: Inner,
    /// Factor of each column.
    pub scale: Option<&'a [f32]>,
}

impl Matrices<'_> {
    /// Copies some rows and columns of the matrix of `tap` to `to`, whose rows are `stride` long.
    ///
    /// # Panics
    /// If they do not lie within the matrix or `to` is too short.
    #[inline(always)]
    pub fn read(
        &self,
        tap: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        stride: usize,
        to: &mut [f32],
    ) {
        let values = &self.values[self.starts[tap]..][..self.depth * self.columns];
        let (first, width, ahead) = (columns.start, columns.len(), rows.len());
        match self.inner {
            Inner::Columns => {
                for (to, k) in to.chunks_mut(stride).zip(rows.clone()) {
                    let from = &values[k * self.columns + first..][..width];
                    soon(from.as_ptr().wrapping_add(ahead * self.columns), width);
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = *from;
                    }
                }
            }
            Inner::Depth => {
                let (depth, start) = (self.depth, rows.start);
                for j in (0..width).step_by(SQUARE) {
                    for c in j..width.min(j + SQUARE) {
                        let from = values[(first + c) * depth + start..].as_ptr();
                        soon(from.wrapping_add(ahead), ahead);
                    }
                    for k in (0..rows.len()).step_by(SQUARE) {
                        let from = &values[(first + j) * depth + start + k..];
                        let to = &mut to[k * stride + j..];
                        let [across, down] = [SQUARE.min(width - j), SQUARE.min(rows.len() - k)];
                        if across == SQUARE && down == SQUARE {
                            transpose(from, depth, to, stride);
                            continue;
                        }
                        for c in 0..across {
                            for r in 0..down {
                                to[r * stride + c] = from[c * depth + r];
                            }
                        }
                    }
                }
            }
        }
        if let Some(scale) = self.scale {
            let scale = &scale[columns];
            for to in to.chunks_mut(stride).take(rows.len()) {
                for (to, scale) in to.iter_mut().zip(scale) {
                    *to *= scale;
                }
            }
        }
    }
}

/// Asks for some floats, which need not exist: those that the next block reads.
#[inline(always)]
fn soon(from: *const f32, count: usize) {
    for at in (0..count).step_by(32) {
        prefetch(from.wrapping_add(at).cast());
    }
}

/// Side of the blocks that are transposed in registers.
const SQUARE: usize = 16;

/// Writes a square of `from`, whose rows are `stride` apart, to `to` with rows and columns exchanged.
#[inline(always)]
fn transpose(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
    let mut block = [[0.0f32; SQUARE]; SQUARE];
    for (c, row) in block.iter_mut().enumerate() {
        row.copy_from_slice(&from[c * from_stride..][..SQUARE]);
    }
    for r in 0..SQUARE {
        let row: [f32; SQUARE] = std::array::from_fn(
            #[inline(always)]
            |c| block[c][r],
        );
        to[r * to_stride..][..SQUARE].copy_from_slice(&row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_the_same_block() {
        // Blocks smaller than a square, and with whole squares and their edges.
        for [depth, columns, down, across] in [[5, 7, 3, 5], [41, 50, 35, 37]] {
            let at = |tap: usize, k: usize, n: usize| (10_000 * tap + 100 * k + n) as f32;
            let mut by_row = Vec::new();
            let mut by_column = Vec::new();
            for tap in 0..2 {
                (0..depth).for_each(|k| (0..columns).for_each(|n| by_row.push(at(tap, k, n))));
                (0..columns).for_each(|n| (0..depth).for_each(|k| by_column.push(at(tap, k, n))));
            }
            let scale: Vec<f32> = (0..columns).map(|n| n as f32 - 2.0).collect();
            for (values, inner) in [(&by_row, Inner::Columns), (&by_column, Inner::Depth)] {
                let starts = vec![0, depth * columns];
                let scale = Some(&scale[..]);
                let matrices = Matrices { values, starts, depth, columns, inner, scale };
                let stride = across + 3;
                let mut block = vec![f32::NAN; down * stride];
                matrices.read(1, 1..1 + down, 2..2 + across, stride, &mut block);
                for (k, row) in block.chunks_exact(stride).enumerate() {
                    for (n, &value) in row[..across].iter().enumerate() {
                        assert_eq!(value, at(1, k + 1, n + 2) * n as f32);
                    }
                    assert!(row[across..].iter().all(|v| v.is_nan()), "written past the block");
                }
            }
        }
    }
}
