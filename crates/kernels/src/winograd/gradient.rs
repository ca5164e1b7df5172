//! The kernel gradient: 36 GEMMs over the tiles, and the kernel's transform turned round.

use super::tiles::{BLOCK, PRODUCTS, Tiles, apart, each_tile, floats};
use crate::element::Element;
use crate::isa::{GradientArgs, SpreadArgs};
use crate::shape::ConvShape;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;
use std::f64::consts::{FRAC_1_SQRT_2 as P, SQRT_2 as Q};
use std::ops::Range;

/// Tiles of a block whose sum stays in registers.
const SUM: usize = 128;
/// Reduction rows and columns of a task, whose sums of all products stay in the second-level cache.
const RANGE: usize = 32;
const WIDTH: usize = 64;
/// Reduction rows of a task that transforms sums back.
const ROWS: usize = 16;
/// Pairs of channels that are transformed back together.
const RUN: usize = 4 * WIDTH;
/// Tasks of a block of tiles, where the channels allow.
const TASKS: usize = 16;

/// `grad_kernel[tap][k][n]`, as [`crate::gradient::run`] computes it.
///
/// # Panics
/// If a slice has not the length that `shape` gives it.
pub(crate) fn kernel_gradient<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    source: &[E],
    grad_output: &[E],
    grad_kernel: &mut [f32],
) {
    let (source, grad_output) = (floats(source), floats(grad_output));
    let (depth, columns) = (shape.in_channels(), shape.out_channels());
    assert_eq!(source.len(), shape.in_len(), "source length");
    assert_eq!(grad_output.len(), shape.out_len(), "output gradient length");
    assert_eq!(grad_kernel.len(), shape.kernel_len(), "kernel gradient length");
    let tiles = Tiles::new(shape);
    if tiles.count == 0 {
        grad_kernel.fill(0.0);
        return;
    }
    let nr = compute.kernels::<f32>().gradient(columns).nr;
    assert!(WIDTH.is_multiple_of(nr), "columns of a panel");
    assert!(columns.is_multiple_of(WIDTH) && depth.is_multiple_of(16), "channels");
    let size = tiles.block(depth + columns, BLOCK, 1);
    let [ahead, behind] = [depth, columns].map(|channels| apart(size * channels));
    let widths = columns / WIDTH;
    // Sums of a few rows and columns, transformed back where they are; or those of single products, kept until all are there.
    let whole = size >= tiles.count && widths * depth.div_ceil(RANGE) >= TASKS;
    let range = if whole { RANGE } else { depth };
    let work = PRODUCTS * (ahead + behind);
    let kept = if whole { 0 } else { PRODUCTS * depth * columns };
    let mut scratch = compute.scratch(work + kept);
    let (work, kept) = scratch[..work + kept].split_at_mut(work);
    let (spread, gradients) = work.split_at_mut(PRODUCTS * ahead);
    let job = Job {
        compute,
        tiles,
        depth,
        columns,
        nr,
        range,
        size,
        source,
        grad_output,
        zeros: vec![0.0; depth.max(columns)],
        ahead,
        spread: Shared::new(spread),
        behind,
        gradients: Shared::new(gradients),
        kept: Shared::new(kept),
        grad_kernel: Shared::new(grad_kernel),
    };
    for first in (0..tiles.count).step_by(size) {
        let count = size.min(tiles.count - first);
        each_tile(compute, count, |i| job.spread(first, i));
        if whole {
            compute.threads.run(widths * depth.div_ceil(RANGE), |task| {
                let part = job.part(task);
                let mut scratch = compute.scratch(part.len());
                let sums = &mut scratch[..part.len()];
                for (product, sums) in sums.chunks_exact_mut(part.rows * WIDTH).enumerate() {
                    job.multiply(&part, count, product, false, sums);
                }
                job.collect(&part, 0..part.rows, sums);
            });
            return;
        }
        compute.threads.run(PRODUCTS * widths, |task| {
            let (product, part) = (task / widths, job.part(task % widths));
            let len = depth * WIDTH;
            // SAFETY: tasks own disjoint products or columns.
            let sums = unsafe { job.kept.slice(part.kept + product * len, len) };
            job.multiply(&part, count, product, first > 0, sums);
        });
    }
    compute.threads.run(widths * depth.div_ceil(ROWS), |task| {
        let (part, row) = (job.part(task % widths), task / widths * ROWS);
        // SAFETY: nothing writes it any more.
        let sums = unsafe { job.kept.read(part.kept, part.len()) };
        job.collect(&part, row..depth.min(row + ROWS), sums);
    });
}

/// The reduction rows and columns of a task.
struct Part {
    start: usize,
    rows: usize,
    /// The first of [`WIDTH`] columns.
    column: usize,
    /// Where its sums start among those that are kept.
    kept: usize,
}

impl Part {
    fn len(&self) -> usize {
        PRODUCTS * self.rows * WIDTH
    }
}

/// A kernel gradient under way.
struct Job<'a> {
    compute: &'a Compute,
    tiles: Tiles,
    depth: usize,
    columns: usize,
    /// Columns of a panel.
    nr: usize,
    /// Reduction rows of a task.
    range: usize,
    /// Tiles of a block.
    size: usize,
    source: &'a [f32],
    grad_output: &'a [f32],
    zeros: Vec<f32>,
    /// Transformed inputs: product by product, for each range of rows one row a tile.
    spread: Shared<'a, f32>,
    ahead: usize,
    /// Transformed output gradients: product by product, for each panel one row a tile.
    gradients: Shared<'a, f32>,
    behind: usize,
    /// Sums between one block and the next: part by part, product by product.
    kept: Shared<'a, f32>,
    grad_kernel: Shared<'a, f32>,
}

impl Job<'_> {
    fn part(&self, task: usize) -> Part {
        let widths = self.columns / WIDTH;
        let (column, start) = (task % widths * WIDTH, task / widths * self.range);
        let kept = PRODUCTS * (column * self.depth + start * WIDTH);
        Part { start, rows: self.range.min(self.depth - start), column, kept }
    }

    /// Transforms input and output gradient of tile `first + i`, the block's `i`th.
    fn spread(&self, first: usize, i: usize) {
        let transforms = &self.compute.record.winograd;
        let zeros = &self.zeros;
        let rows = self.tiles.rows(first + i, 1, 6, self.source, &zeros[..self.depth]);
        for start in (0..self.depth).step_by(self.range) {
            let channels = self.range.min(self.depth - start);
            let args = SpreadArgs {
                pixels: rows.as_ptr(),
                offset: start,
                channels,
                output: self.spread.pointer().wrapping_add(start * self.size + i * channels),
                stride: self.ahead,
            };
            // SAFETY: 36 checked pointers to `depth` floats; each product has its own floats for the tile in every range.
            // The record's ISA was found available; so below.
            unsafe { (transforms.input)(&args) };
        }
        let rows = self.tiles.rows(first + i, 0, 4, self.grad_output, &zeros[..self.columns]);
        for panel in 0..self.columns / self.nr {
            let start = (panel * self.size + i) * self.nr;
            let args = SpreadArgs {
                pixels: rows.as_ptr(),
                offset: panel * self.nr,
                channels: self.nr,
                output: self.gradients.pointer().wrapping_add(start),
                stride: self.behind,
            };
            // SAFETY: 16 checked pointers to `columns` floats; each product has its own floats for the tile in every panel.
            unsafe { (transforms.gradient)(&args) };
        }
    }

    /// `sums[k][n] = sum over the block's tiles of spread[tile][k] * gradients[tile][n]` of a product; with `accumulate`
    /// added to what `sums` holds.
    fn multiply(
        &self,
        part: &Part,
        count: usize,
        product: usize,
        accumulate: bool,
        sums: &mut [f32],
    ) {
        let (rows, nr) = (part.rows, self.nr);
        let tiles = self.compute.kernels::<f32>().gradient(self.columns);
        let at = product * self.ahead + part.start * self.size;
        // SAFETY: nothing writes these while they are multiplied.
        let spread = unsafe { self.spread.read(at, count * rows) };
        let at = product * self.behind + part.column * self.size;
        for first in (0..count).step_by(SUM) {
            let steps = SUM.min(count - first);
            let spread = &spread[first * rows..][..steps * rows];
            for column in (0..WIDTH).step_by(nr) {
                let at = at + column * self.size + first * nr;
                // SAFETY: as above.
                let gradients = unsafe { self.gradients.read(at, steps * nr) };
                let mut k = 0;
                while k < rows {
                    let mr = tiles.run.len().min(rows - k);
                    let (from, len) = (k * WIDTH + column, (mr - 1) * WIDTH + nr);
                    let output = sums[from..][..len].as_mut_ptr();
                    let args = GradientArgs {
                        steps,
                        input: spread[k..][..(steps - 1) * rows + mr].as_ptr(),
                        stride: rows,
                        places: std::ptr::null(),
                        panel: gradients.as_ptr(),
                        output,
                        output_stride: WIDTH,
                        sums: if accumulate || first > 0 { output } else { std::ptr::null_mut() },
                        sums_stride: WIDTH,
                        ahead: std::ptr::null(),
                        ahead_len: 0,
                    };
                    // SAFETY: `steps` rows, `rows` apart, of `mr` floats, and as many of `nr` gradients; `mr` rows of `nr`
                    // floats, `WIDTH` apart, to be written, and to be read where there are sums.
                    unsafe { (tiles.run[mr - 1])(&args) };
                    k += mr;
                }
            }
        }
    }

    /// `G^T sums G` for every pair of channels of some rows of a part.
    fn collect(&self, part: &Part, rows: Range<usize>, sums: &[f32]) {
        let (mut half, mut taps) = ([[[0.0; RUN]; 3]; 6], [[[0.0; RUN]; 3]; 3]);
        for first in rows.clone().step_by(RUN / WIDTH) {
            let size = (rows.end - first).min(RUN / WIDTH) * WIDTH;
            vectorize!(self.compute.isa(), {
                for (x, half) in half.iter_mut().enumerate() {
                    let column = [0, 6, 12, 18, 24, 30].map(
                        #[inline(always)]
                        |y| &sums[((y + x) * part.rows + first) * WIDTH..][..size],
                    );
                    line(column, half);
                }
                for (y, taps) in taps.iter_mut().enumerate() {
                    let row = [0, 1, 2, 3, 4, 5].map(
                        #[inline(always)]
                        |x| &half[x][y][..size],
                    );
                    line(row, taps);
                }
            });
            for (tap, values) in taps.as_flattened().iter().enumerate() {
                for (k, values) in values[..size].chunks_exact(WIDTH).enumerate() {
                    let row = tap * self.depth + part.start + first + k;
                    let at = row * self.columns + part.column;
                    // SAFETY: tasks own disjoint rows and columns of every tap.
                    unsafe { self.grad_kernel.slice(at, WIDTH) }.copy_from_slice(values);
                }
            }
        }
    }
}

/// `G^T u`, three rows, with the factors that `B^T` leaves out.
#[inline(always)]
fn line(u: [&[f32]; 6], to: &mut [[f32; RUN]; 3]) {
    let (p, q) = (P as f32, Q as f32);
    let (third, sixth) = (1.0 / 3.0, 1.0 / 6.0);
    for j in 0..u[0].len().min(RUN) {
        let (near_even, near_odd) = (u[1][j] + u[2][j], u[2][j] - u[1][j]);
        let (far_even, far_odd) = (u[3][j] + u[4][j], u[3][j] - u[4][j]);
        to[0][j] = u[0][j] - 2.0 * third * near_even + sixth * far_even;
        to[1][j] = 2.0 * third * p * near_odd + sixth * q * far_odd;
        to[2][j] = third * (far_even - near_even) + u[5][j];
    }
}
