//! A convolution's kernel in memory, read as one matrix of reduction rows and columns for each tap.

use std::ops::Range;

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
        let (first, width) = (columns.start, columns.len());
        match self.inner {
            Inner::Columns => {
                for (to, k) in to.chunks_mut(stride).zip(rows.clone()) {
                    to[..width].copy_from_slice(&values[k * self.columns + first..][..width]);
                }
            }
            Inner::Depth => {
                for (j, n) in columns.clone().enumerate() {
                    let column = &values[n * self.depth + rows.start..][..rows.len()];
                    for (to, &value) in to[j..].iter_mut().step_by(stride).zip(column) {
                        *to = value;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_give_the_same_block() {
        let (depth, columns) = (5, 7);
        let at = |tap: usize, k: usize, n: usize| (100 * tap + 10 * k + n) as f32;
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
            let mut block = [f32::NAN; 3 * 8];
            matrices.read(1, 1..4, 2..7, 8, &mut block);
            for (k, row) in block.chunks_exact(8).enumerate() {
                for (n, &value) in row[..5].iter().enumerate() {
                    assert_eq!(value, at(1, k + 1, n + 2) * n as f32);
                }
                assert!(row[5..].iter().all(|v| v.is_nan()), "written past the block");
            }
        }
    }
}
