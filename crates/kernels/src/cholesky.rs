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

use crate::products::{pack, rows_times, with_tile};
use crate::shape::is_product;
use crate::simd::vectorize;
use crate::table::Compute;

/// Columns that are brought up to date together.
const BLOCK: usize = 64;
/// Rows one task takes.
const ROWS: usize = 32;
/// Columns of an inverse one task takes.
const COLUMNS: usize = 32;

/// Replaces the lower half of `a`, `[n, n]` row-major and positive definite, by `L` with `L L' = a`; what is above the
/// diagonal is not read, and means nothing afterwards. Whether it could: false leaves `a` half done. The same for any
/// number of threads.
///
/// # Panics
/// If `a` is not `n * n` numbers.
#[must_use]
pub fn cholesky(c: &Compute, n: usize, a: &mut [f64]) -> bool {
    assert!(is_product(a.len(), &[n, n]), "matrix length");
    with_tile!(c.isa(), BLOCK, factor(c, n, a))
}

fn factor<const R: usize, const L: usize, const FMA: bool>(
    c: &Compute,
    n: usize,
    a: &mut [f64],
) -> bool {
    for first in (0..n).step_by(BLOCK) {
        let last = n.min(first + BLOCK);
        let columns = last - first;
        // The block's rows left of it, which all rows below need, transposed.
        let mut left = vec![0.0; first * columns];
        for (j, row) in a[first * n..].chunks(n).take(columns).enumerate() {
            row[..first].iter().enumerate().for_each(|(k, &v)| left[k * columns + j] = v);
        }
        let panels = pack::<L>(&left, columns);
        c.threads.chunks(&mut a[first * n..], ROWS * n, |_, rows| {
            vectorize!(c.isa(), {
                let mut sums = [0.0; ROWS * BLOCK];
                let sums = &mut sums[..rows.len() / n * columns];
                rows_times::<_, R, L, FMA>((rows, n), first, &panels, columns, sums);
                for (row, sums) in rows.chunks_exact_mut(n).zip(sums.chunks_exact(columns)) {
                    row[first..last].iter_mut().zip(sums).for_each(|(to, sum)| *to -= sum);
                }
            });
        });
        if !small(n, first, last, a) {
            return false;
        }
        let mut corner = vec![0.0; columns * columns];
        for (i, row) in a[first * n..].chunks(n).take(columns).enumerate() {
            for (j, &v) in row[first..=first + i].iter().enumerate() {
                corner[j * columns + i] = v;
            }
        }
        c.threads.chunks(&mut a[last * n..], ROWS * n, |_, rows| {
            vectorize!(c.isa(), {
                for row in rows.chunks_exact_mut(n) {
                    solve_row(&corner, &mut row[first..last]);
                }
            });
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

/// `row = row inv(L')` for a small `L'`, upper triangular.
#[inline(always)]
fn solve_row(upper: &[f64], row: &mut [f64]) {
    let n = row.len();
    for (j, upper) in upper.chunks_exact(n).enumerate() {
        let (done, rest) = row.split_at_mut(j + 1);
        done[j] /= upper[j];
        rest.iter_mut().zip(&upper[j + 1..]).for_each(|(to, u)| *to -= done[j] * u);
    }
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
    // Each task solves `L x = e` for some columns `e` of the identity, which are zero above their diagonal.
    let mut parts = vec![Vec::new(); n.div_ceil(COLUMNS)];
    c.threads.chunks(&mut parts, 1, |task, part| {
        part[0] = with_tile!(c.isa(), COLUMNS, columns_of_inverse(c, n, l, task * COLUMNS));
    });
    let mut inverse = vec![0.0; n * n];
    c.threads.chunks(&mut inverse, ROWS * n.max(1), |task, rows| {
        for (row, i) in rows.chunks_exact_mut(n).zip(task * ROWS..) {
            for (to, (part, first)) in
                row.chunks_mut(COLUMNS).zip(parts.iter().zip((0..).step_by(COLUMNS)))
            {
                if i >= first {
                    to.copy_from_slice(&part[(i - first) * to.len()..][..to.len()]);
                }
            }
        }
    });
    inverse
}

/// Columns of the inverse from `first` on, from that row on, `[n - first, columns]`.
fn columns_of_inverse<const R: usize, const L: usize, const FMA: bool>(
    c: &Compute,
    n: usize,
    l: &[f64],
    first: usize,
) -> Vec<f64> {
    let columns = COLUMNS.min(n - first);
    let mut x = vec![0.0; (n - first) * columns];
    vectorize!(c.isa(), {
        for from in (first..n).step_by(BLOCK) {
            let last = n.min(from + BLOCK);
            let (done, rest) = x.split_at_mut((from - first) * columns);
            let block = &mut rest[..(last - from) * columns];
            // What the rows above contribute, then what those of the block do to each other.
            if !done.is_empty() {
                let panels = pack::<L>(done, columns);
                let rows = &l[from * n + first..(last - 1) * n + from];
                rows_times::<_, R, L, FMA>((rows, n), from - first, &panels, columns, block);
                block.iter_mut().for_each(|to| *to = -*to);
            }
            for i in from..last {
                let (done, rest) = block.split_at_mut((i - from) * columns);
                let row = &mut rest[..columns];
                if let Some(to) = row.get_mut(i - first) {
                    *to += 1.0;
                }
                for (x, l) in done.chunks_exact(columns).zip(&l[i * n + from..]) {
                    row.iter_mut().zip(x).for_each(|(to, x)| *to -= l * x);
                }
                row.iter_mut().for_each(|to| *to /= l[i * n + i]);
            }
        }
    });
    x
}

fn check(n: usize, l: &[f64], columns: usize, b: &[f64]) {
    assert!(is_product(l.len(), &[n, n]), "factor length");
    assert!(columns > 0 && is_product(b.len(), &[n, columns]), "right side length");
}
