//! The kernel's transform, packed into panels for each of the 36 products.

use super::tiles::PRODUCTS;
use crate::matrices::Matrices;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;
use std::f64::consts::{FRAC_1_SQRT_2 as P, SQRT_2 as Q};

/// Reduction rows of a task: squares of 16 are what [`Matrices::read`] transposes at once.
const ROWS: usize = 16;
/// Elements of a panel that are transformed together. Products lie far apart in the packed kernel, in the same cache sets,
/// so that a run of each is written in one go.
const RUN: usize = 128;

/// Length of a packed kernel from `depth` to `columns` channels.
pub(crate) fn packed_len(depth: usize, columns: usize) -> usize {
    PRODUCTS * depth * columns
}

/// `G g G^T`, packed into panels product by product.
///
/// # Panics
/// If `packed` has not the length [`packed_len`] says, or channels do not fill panels and blocks of rows.
pub(crate) fn pack(compute: &Compute, kernel: &Matrices<'_>, packed: &mut [f32]) {
    let (depth, columns) = (kernel.depth, kernel.columns);
    let nr = compute.kernels::<f32>().tile(columns).nr;
    assert_eq!(packed.len(), packed_len(depth, columns), "packed length");
    assert!(columns.is_multiple_of(nr) && depth.is_multiple_of(ROWS), "channels");
    let (panels, size) = (columns / nr, ROWS * nr);
    let packed = Shared::new(packed);
    compute.threads.run(panels * (depth / ROWS), |task| {
        let (panel, first) = (task % panels, task / panels * ROWS);
        let mut taps = vec![0.0f32; 9 * size];
        let mut products = [[0.0f32; RUN]; PRODUCTS];
        vectorize!(compute.isa(), {
            for (tap, to) in taps.chunks_exact_mut(size).enumerate() {
                kernel.read(tap, first..first + ROWS, panel * nr..(panel + 1) * nr, nr, to);
            }
            for start in (0..size).step_by(RUN) {
                let run = RUN.min(size - start);
                let mut block = [[0.0f64; RUN]; 9];
                for (block, taps) in block.iter_mut().zip(taps.chunks_exact(size)) {
                    for (block, tap) in block.iter_mut().zip(&taps[start..][..run]) {
                        *block = f64::from(*tap);
                    }
                }
                transform(&block, &mut products);
                for (product, values) in products.iter().enumerate() {
                    let at = ((product * panels + panel) * depth + first) * nr + start;
                    // SAFETY: tasks own disjoint (panel, rows) parts of every product.
                    unsafe { packed.slice(at, run) }.copy_from_slice(&values[..run]);
                }
            }
        });
    });
}

/// `G g G^T` of many kernels, each value rounded once.
#[inline(always)]
fn transform(taps: &[[f64; RUN]; 9], products: &mut [[f32; RUN]; PRODUCTS]) {
    let mut half = [[[0.0; RUN]; 6]; 3];
    for (x, half) in half.iter_mut().enumerate() {
        line(
            [&taps[x], &taps[3 + x], &taps[6 + x]],
            half,
            #[inline(always)]
            |v| v,
        );
    }
    for (y, products) in products.as_chunks_mut().0.iter_mut().enumerate() {
        line(
            [&half[0][y], &half[1][y], &half[2][y]],
            products,
            #[inline(always)]
            |v| v as f32,
        );
    }
}

/// `G g`, with the factors that `B^T` leaves out.
#[inline(always)]
fn line<O>(g: [&[f64; RUN]; 3], to: &mut [[O; RUN]; 6], make: impl Fn(f64) -> O) {
    let (near, far) = (-1.0 / 1.5, 1.0 / 6.0);
    for j in 0..RUN {
        let (near_even, near_odd) = (near * (g[0][j] + 0.5 * g[2][j]), near * P * g[1][j]);
        let (far_even, far_odd) = (far * (g[0][j] + 2.0 * g[2][j]), far * Q * g[1][j]);
        to[0][j] = make(g[0][j]);
        to[1][j] = make(near_even + near_odd);
        to[2][j] = make(near_even - near_odd);
        to[3][j] = make(far_even + far_odd);
        to[4][j] = make(far_even - far_odd);
        to[5][j] = make(g[2][j]);
    }
}
