//! A dense layer over many rows in f64, and its kernel's gradient: what a solver asks for again and again.
//!
//! Every element sums its terms in one order, whatever the number of threads.

use crate::shape::is_product;
use crate::simd::vectorize;
use crate::table::Compute;

/// Columns of the layer that are summed together.
const LANES: usize = 16;
/// Rows of the output, or of the gradient, that share what is loaded of a panel.
const ROWS: usize = 4;
/// Rows one task takes.
const TASK: usize = 64;
/// Rows of the kernel's gradient one task takes.
const FEATURES: usize = 64;

/// `to[i][n] = sum over k of x[i][k] * kernel[k][n] + bias[n]`; all row-major, `x` is `[rows, inputs]`.
///
/// # Panics
/// If lengths do not fit each other.
pub fn dense(c: &Compute, x: &[f32], kernel: &[f64], bias: &[f64], to: &mut [f64]) {
    let columns = bias.len();
    assert!(columns > 0 && kernel.len().is_multiple_of(columns), "kernel length");
    let width = kernel.len() / columns;
    assert!(to.len().is_multiple_of(columns), "output length");
    assert!(is_product(x.len(), &[to.len() / columns, width]), "input length");
    if width == 0 {
        return to.chunks_exact_mut(columns).for_each(|to| to.copy_from_slice(bias));
    }
    let panels = pack(kernel, columns);
    c.threads.chunks(to, TASK * columns, |task, to| {
        let rows = to.len() / columns;
        let x = &x[task * TASK * width..][..rows * width];
        vectorize!(c.isa(), {
            for (panel, first) in panels.chunks_exact(width * LANES).zip((0..).step_by(LANES)) {
                let part = first..columns.min(first + LANES);
                for (i, x) in x.chunks(ROWS * width).enumerate() {
                    let mut sums = [[0.0; LANES]; ROWS];
                    if x.len() == ROWS * width {
                        products(x, [width, 1], panel, &mut sums);
                    } else {
                        for (x, sums) in x.chunks_exact(width).zip(&mut sums) {
                            let mut one = [[0.0; LANES]; 1];
                            products(x, [width, 1], panel, &mut one);
                            *sums = one[0];
                        }
                    }
                    let to = &mut to[i * ROWS * columns..];
                    for (to, sums) in to.chunks_exact_mut(columns).zip(&sums) {
                        let ends = to[part.clone()].iter_mut().zip(sums).zip(&bias[part.clone()]);
                        for ((to, sum), bias) in ends {
                            *to = sum + bias;
                        }
                    }
                }
            }
        });
    });
}

/// The kernel in panels of [`LANES`] columns, padded with zeros.
fn pack(kernel: &[f64], columns: usize) -> Vec<f64> {
    let rows = kernel.len() / columns;
    let mut panels = vec![0.0; columns.div_ceil(LANES) * rows * LANES];
    if rows > 0 {
        for (p, panel) in panels.chunks_exact_mut(rows * LANES).enumerate() {
            let part = p * LANES..columns.min((p + 1) * LANES);
            for (to, row) in panel.chunks_exact_mut(LANES).zip(kernel.chunks_exact(columns)) {
                to[..part.len()].copy_from_slice(&row[part.clone()]);
            }
        }
    }
    panels
}

/// Adds `sum over k of x[r * by_row + k * by_step] * panel[k][..]` to the sums of `R` rows `r`.
#[inline(always)]
fn products<const R: usize>(
    x: &[f32],
    [by_row, by_step]: [usize; 2],
    panel: &[f64],
    sums: &mut [[f64; LANES]; R],
) {
    let mut acc = *sums;
    for (k, panel) in panel.chunks_exact(LANES).enumerate() {
        for r in 0..R {
            let x = f64::from(x[r * by_row + k * by_step]);
            for j in 0..LANES {
                acc[r][j] += x * panel[j];
            }
        }
    }
    *sums = acc;
}

/// `to[k][n] += sum over i of x[i][k] * d[i][n]`, for `columns` numbers `n`.
///
/// # Panics
/// If lengths do not fit each other.
pub fn dense_kernel_gradient(c: &Compute, x: &[f32], d: &[f64], columns: usize, to: &mut [f64]) {
    assert!(columns > 0 && to.len().is_multiple_of(columns), "gradient length");
    assert!(d.len().is_multiple_of(columns), "output gradient length");
    let width = to.len() / columns;
    let rows = d.len() / columns;
    assert!(is_product(x.len(), &[rows, width]), "input length");
    if width == 0 || rows == 0 {
        return;
    }
    let panels = pack(d, columns);
    c.threads.chunks(to, FEATURES * columns, |task, to| {
        let (first, features) = (task * FEATURES, to.len() / columns);
        // Rows lie far apart, often in the same cache sets: these features of them are brought together.
        let mut near = vec![0.0f32; rows * FEATURES];
        for (near, row) in near.chunks_exact_mut(FEATURES).zip(x.chunks_exact(width)) {
            near[..features].copy_from_slice(&row[first..first + features]);
        }
        vectorize!(c.isa(), {
            for (p, panel) in panels.chunks_exact(rows * LANES).enumerate() {
                let part = p * LANES..columns.min((p + 1) * LANES);
                for (k, to) in to.chunks_mut(ROWS * columns).enumerate() {
                    let mut sums = [[0.0; LANES]; ROWS];
                    products(&near[k * ROWS..], [1, FEATURES], panel, &mut sums);
                    for (to, sums) in to.chunks_exact_mut(columns).zip(&sums) {
                        for (to, sum) in to[part.clone()].iter_mut().zip(sums) {
                            *to += sum;
                        }
                    }
                }
            }
        });
    });
}
