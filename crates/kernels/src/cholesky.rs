//! The Cholesky factor of a symmetric matrix in f64, and solving systems with it.
//!
//! ```
//! use headstart_kernels::cholesky::{cholesky, solve_lower, solve_lower_transposed};
//! use headstart_kernels::table::Compute;
//!
//! let compute = Compute::new(1)?;
//! let mut a = [4.0, 2.0, 2.0, 10.0]; // [[4, 2], [2, 10]]
//! assert!(cholesky(&compute, 2, &mut a));
//! assert_eq!((a[0], a[2], a[3]), (2.0, 1.0, 3.0)); // L L' = A
//! let mut x = [8.0, 22.0]; // the right side of A x = b
//! solve_lower(2, &a, 1, &mut x);
//! solve_lower_transposed(2, &a, 1, &mut x);
//! assert_eq!(x, [1.0, 2.0]);
//! # Ok::<(), String>(())
//! ```

use crate::shape::is_product;
use crate::simd::vectorize;
use crate::table::Compute;

/// Columns that are brought up to date together.
const BLOCK: usize = 64;
/// Rows one task takes.
const TASK: usize = 32;
/// Rows one task takes of a block.
const ROWS: usize = 8;
/// Partial sums of a dot product.
const LANES: usize = 16;

/// Replaces the lower half of `a`, `[n, n]` row-major and positive definite, by `L` with `L L' = a`; what is above the
/// diagonal is not read, and means nothing afterwards. Whether it could: false leaves `a` half done. The same for any
/// number of threads.
///
/// # Panics
/// If `a` is not `n * n` numbers.
#[must_use]
pub fn cholesky(c: &Compute, n: usize, a: &mut [f64]) -> bool {
    assert!(is_product(a.len(), &[n, n]), "matrix length");
    for first in (0..n).step_by(BLOCK) {
        let last = n.min(first + BLOCK);
        // The block's rows left of it, which all rows below need.
        let left: Vec<f64> = (first..last).flat_map(|i| a[i * n..i * n + first].to_vec()).collect();
        c.threads.chunks(&mut a[first * n..], TASK * n, |_, rows| {
            vectorize!(c.isa(), {
                for row in rows.chunks_exact_mut(n) {
                    let (done, rest) = row.split_at_mut(first);
                    for (to, left) in rest.iter_mut().zip(left.chunks_exact(first.max(1))) {
                        *to -= dot(done, left);
                    }
                }
            });
        });
        if !small(n, first, last, a) {
            return false;
        }
        let corner: Vec<f64> =
            (first..last).flat_map(|i| a[i * n + first..i * n + last].to_vec()).collect();
        c.threads.chunks(&mut a[last * n..], TASK * n, |_, rows| {
            for row in rows.chunks_exact_mut(n) {
                lower_row(&corner, last - first, &mut row[first..last]);
            }
        });
    }
    true
}

/// The factor of the block on the diagonal.
fn small(n: usize, first: usize, last: usize, a: &mut [f64]) -> bool {
    for i in first..last {
        for j in first..=i {
            let mut sum = a[i * n + j];
            for k in first..j {
                sum -= a[i * n + k] * a[j * n + k];
            }
            if i > j {
                a[i * n + j] = sum / a[j * n + j];
            } else if sum > 0.0 && sum.is_finite() {
                a[i * n + i] = sum.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// `row = row inv(L)'` for a small `L`.
fn lower_row(l: &[f64], n: usize, row: &mut [f64]) {
    for j in 0..n {
        let (done, rest) = row.split_at_mut(j);
        let sum: f64 = done.iter().zip(&l[j * n..]).map(|(x, l)| x * l).sum();
        rest[0] = (rest[0] - sum) / l[j * n + j];
    }
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (x, a) = a.as_chunks::<LANES>();
    let (y, b) = b.as_chunks::<LANES>();
    for (x, y) in x.iter().zip(y) {
        for j in 0..LANES {
            sums[j] += x[j] * y[j];
        }
    }
    let rest: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// Solves `L x = b` for `columns` right sides, `[n, columns]` row-major, in place.
///
/// # Panics
/// If lengths do not fit each other.
pub fn solve_lower(n: usize, l: &[f64], columns: usize, b: &mut [f64]) {
    check(n, l, columns, b);
    for i in 0..n {
        let (done, rest) = b.split_at_mut(i * columns);
        let row = &mut rest[..columns];
        for (x, l) in done.chunks_exact(columns).zip(&l[i * n..]) {
            row.iter_mut().zip(x).for_each(|(to, x)| *to -= l * x);
        }
        row.iter_mut().for_each(|to| *to /= l[i * n + i]);
    }
}

/// Solves `L' x = b` as [`solve_lower`] does `L x = b`.
///
/// # Panics
/// If lengths do not fit each other.
pub fn solve_lower_transposed(n: usize, l: &[f64], columns: usize, b: &mut [f64]) {
    check(n, l, columns, b);
    for i in (0..n).rev() {
        let (before, rest) = b.split_at_mut(i * columns);
        let row = &mut rest[..columns];
        row.iter_mut().for_each(|to| *to /= l[i * n + i]);
        for (to, l) in before.chunks_exact_mut(columns).zip(&l[i * n..]) {
            to.iter_mut().zip(&*row).for_each(|(to, x)| *to -= l * x);
        }
    }
}

/// `b = L' b`, for `columns` columns, `[n, columns]` row-major, in place.
///
/// # Panics
/// If lengths do not fit each other.
pub fn times_lower_transposed(n: usize, l: &[f64], columns: usize, b: &mut [f64]) {
    check(n, l, columns, b);
    for i in 0..n {
        let (before, rest) = b.split_at_mut(i * columns);
        let row = &mut rest[..columns];
        for (to, l) in before.chunks_exact_mut(columns).zip(&l[i * n..]) {
            to.iter_mut().zip(&*row).for_each(|(to, x)| *to += l * x);
        }
        row.iter_mut().for_each(|to| *to *= l[i * n + i]);
    }
}

/// The inverse of `L`, `[n, n]` row-major with zeros above the diagonal; what `l` has there is not read. The same for any
/// number of threads.
///
/// # Panics
/// If `l` is not `n * n` numbers.
pub fn inverse_lower(c: &Compute, n: usize, l: &[f64]) -> Vec<f64> {
    assert!(is_product(l.len(), &[n, n]), "factor length");
    let mut x = vec![0.0; n * n];
    for first in (0..n).step_by(BLOCK) {
        let last = n.min(first + BLOCK);
        let (done, rest) = x.split_at_mut(first * n);
        let block = &mut rest[..(last - first) * n];
        // What the rows above contribute, then what those of the block do to each other.
        c.threads.chunks(block, ROWS * n, |task, rows| {
            vectorize!(c.isa(), {
                for (row, i) in rows.chunks_exact_mut(n).zip(first + task * ROWS..) {
                    for (k, (x, l)) in done.chunks_exact(n).zip(&l[i * n..]).enumerate() {
                        subtract(&mut row[..=k], *l, &x[..=k]);
                    }
                }
            });
        });
        for i in first..last {
            let (done, rest) = block.split_at_mut((i - first) * n);
            let row = &mut rest[..n];
            row[i] = 1.0;
            for (k, x) in (first..i).zip(done.chunks_exact(n)) {
                subtract(&mut row[..=k], l[i * n + k], &x[..=k]);
            }
            row[..=i].iter_mut().for_each(|to| *to /= l[i * n + i]);
        }
    }
    x
}

#[inline(always)]
fn subtract(to: &mut [f64], factor: f64, x: &[f64]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to -= factor * x;
    }
}

fn check(n: usize, l: &[f64], columns: usize, b: &[f64]) {
    assert!(is_product(l.len(), &[n, n]), "factor length");
    assert!(columns > 0 && is_product(b.len(), &[n, columns]), "right side length");
}
