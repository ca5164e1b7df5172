//! A dense layer over many rows in f64, and its kernel's gradient: what a solver asks for again and again.
//!
//! Every element sums its terms in one order, whatever the number of threads.

use crate::products::{TASK, columns_times, pack, rows_times, with_tile};
use crate::shape::is_product;
use crate::simd::vectorize;
use crate::table::Compute;

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
    to.chunks_exact_mut(columns).for_each(|to| to.copy_from_slice(bias));
    if width > 0 {
        with_tile!(c.isa(), columns, dense_of(c, x, kernel, columns, to));
    }
}

fn dense_of<const R: usize, const L: usize, const FMA: bool>(
    c: &Compute,
    x: &[f32],
    kernel: &[f64],
    columns: usize,
    to: &mut [f64],
) {
    let (width, panels) = (kernel.len() / columns, pack::<L>(kernel, columns));
    c.threads.chunks(to, TASK * columns, |task, to| {
        let x = &x[task * TASK * width..][..to.len() / columns * width];
        vectorize!(c.isa(), rows_times::<_, R, L, FMA>((x, width), width, &panels, columns, to));
    });
}

/// `to[k][n] += sum over i of x[i][k] * d[i][n]`, for `columns` numbers `n`.
///
/// # Panics
/// If lengths do not fit each other.
pub fn dense_kernel_gradient(c: &Compute, x: &[f32], d: &[f64], columns: usize, to: &mut [f64]) {
    let width = to.len().checked_div(columns).unwrap_or(0);
    transposed_times(c, (x, width, 0), d, columns, to, false);
}

/// The rows of [`dense_kernel_gradient`] from number `first` on, for features of `width` numbers: as many as `to` has, to
/// the same bits. Several machines can share the work by them.
///
/// # Panics
/// If lengths do not fit each other.
pub fn dense_kernel_gradient_part(
    c: &Compute,
    (x, width): (&[f32], usize),
    d: &[f64],
    columns: usize,
    first: usize,
    to: &mut [f64],
) {
    transposed_times(c, (x, width, first), d, columns, to, false);
}

/// `to[k][n] += sum over i of x[i][k] * d[i][n]`, for `width` numbers `k` and `n` with `n <= k`: half of a symmetric matrix. What
/// is above the diagonal means nothing afterwards.
///
/// # Panics
/// If lengths do not fit each other.
pub fn symmetric_products(c: &Compute, x: &[f32], d: &[f64], width: usize, to: &mut [f64]) {
    assert!(is_product(to.len(), &[width, width]), "matrix length");
    symmetric_products_part(c, x, d, width, 0, to);
}

/// The rows of [`symmetric_products`] from number `first` on: as many as `to` has, to the same bits.
///
/// # Panics
/// If lengths do not fit each other.
pub fn symmetric_products_part(
    c: &Compute,
    x: &[f32],
    d: &[f64],
    width: usize,
    first: usize,
    to: &mut [f64],
) {
    if width > 0 {
        transposed_times(c, (x, width, first), d, width, to, true);
    }
}

fn transposed_times(
    c: &Compute,
    (x, width, first): (&[f32], usize, usize),
    d: &[f64],
    columns: usize,
    to: &mut [f64],
    lower: bool,
) {
    assert!(columns > 0 && to.len().is_multiple_of(columns), "gradient length");
    assert!(d.len().is_multiple_of(columns), "output gradient length");
    let last = first.checked_add(to.len() / columns);
    assert!(last.is_some_and(|last| last <= width), "gradient rows");
    let rows = d.len() / columns;
    assert!(is_product(x.len(), &[rows, width]), "input length");
    if !to.is_empty() && rows > 0 {
        with_tile!(c.isa(), columns, gradient_of(c, (x, width, first), d, columns, to, lower));
    }
}

fn gradient_of<const R: usize, const L: usize, const FMA: bool>(
    c: &Compute,
    (x, width, from): (&[f32], usize, usize),
    d: &[f64],
    columns: usize,
    to: &mut [f64],
    lower: bool,
) {
    let panels = pack::<L>(d, columns);
    c.threads.chunks(to, TASK * columns, |task, to| {
        let first = from + task * TASK;
        let wanted = if lower { columns.min(first + to.len() / columns) } else { columns };
        let wanted = 0..wanted.div_ceil(L);
        vectorize!(
            c.isa(),
            columns_times::<_, R, L, FMA>((x, width, first), wanted, &panels, columns, to)
        );
    });
}
