//! Dense layers and triangular systems in f64.

use headstart_kernels::cholesky;
use headstart_kernels::element::Element;
use headstart_kernels::linear;
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want};
use crate::support::noise;

/// Error of a sum of so many products of f64 in any order, as a share of the sum of their absolute values.
fn gamma(terms: usize) -> f64 {
    terms as f64 * f64::EPSILON / 2.0
}

fn numbers(len: usize, seed: u64) -> Vec<f64> {
    noise(len, seed).into_iter().map(f64::from).collect()
}

/// `linear::dense`, `linear::dense_kernel_gradient` and `linear::symmetric_products`.
pub struct Dense;

impl Kernel for Dense {
    /// Rows, inputs and columns.
    type Shape = (usize, usize, usize);

    fn edges() -> Vec<Self::Shape> {
        vec![
            (1, 1, 1),
            (3, 5, 2),
            (70, 130, 10),
            (9, 65, 33),
            (0, 80, 3),
            (3, 0, 2),
            (200, 7, 1),
            (140, 150, 20),
        ]
    }

    fn small() -> BoxedStrategy<Self::Shape> {
        (0..20usize, 0..80usize, 1..40usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(rows, width, columns): &Self::Shape) -> Vec<Vec<f64>> {
        let (x, d) = (noise(rows * width, 1), numbers(rows * columns, 4));
        let (kernel, bias) = (numbers(width * columns, 2), numbers(columns, 3));
        let (mut y, mut g) = (vec![f64::NAN; rows * columns], vec![0.5; width * columns]);
        linear::dense(c, &x, &kernel, &bias, &mut y);
        linear::dense_kernel_gradient(c, &x, &d, columns, &mut g);
        let mut s = vec![0.25; width * width];
        linear::symmetric_products(c, &x, &numbers(rows * width, 5), width, &mut s);
        // Parts of the rows have the same bits.
        for (first, whole) in g.chunks(64 * columns).enumerate() {
            let mut part = vec![0.5; whole.len()];
            let x = (&x[..], width);
            linear::dense_kernel_gradient_part(c, x, &d, columns, 64 * first, &mut part);
            assert!(part.iter().zip(whole).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        let mut part = vec![0.25; (width - width / 64 * 64) * width];
        let wide = numbers(rows * width, 5);
        linear::symmetric_products_part(c, &x, &wide, width, width / 64 * 64, &mut part);
        let whole = &s[width / 64 * 64 * width..];
        for (row, (a, b)) in part.iter().zip(whole).enumerate() {
            let below = row % width.max(1) <= width / 64 * 64 + row / width.max(1);
            assert!(!below || a.to_bits() == b.to_bits());
        }
        // What is above the diagonal means nothing.
        for (row, values) in s.chunks_exact_mut(width.max(1)).enumerate() {
            values[row + 1..].fill(0.0);
        }
        vec![y, g, s]
    }

    fn want<E: Element>(&(rows, width, columns): &Self::Shape) -> Vec<Want> {
        let (x, d) = (numbers(rows * width, 1), numbers(rows * columns, 4));
        let (kernel, bias) = (numbers(width * columns, 2), numbers(columns, 3));
        let wide = numbers(rows * width, 5);
        let of =
            |what, len: usize, start: &dyn Fn(usize) -> f64, terms: &dyn Fn(usize) -> Vec<f64>| {
                let values = (0..len).map(|i| start(i) + terms(i).iter().sum::<f64>()).collect();
                let bound = |i: usize| {
                    let terms = terms(i);
                    let size = start(i).abs() + terms.iter().map(|t| t.abs()).sum::<f64>();
                    2.0 * gamma(terms.len() + 1) * size
                };
                Want { what, values, bounds: (0..len).map(bound).collect() }
            };
        let output = |i: usize| {
            let (row, n) = (i / columns, i % columns);
            (0..width).map(|k| x[row * width + k] * kernel[k * columns + n]).collect()
        };
        let gradient = |i: usize| {
            let (k, n) = (i / columns, i % columns);
            (0..rows).map(|row| x[row * width + k] * d[row * columns + n]).collect()
        };
        let lower = |i: usize| i % width <= i / width;
        let half = |i: usize| {
            let (k, n) = (i / width, i % width);
            let of = |row: usize| x[row * width + k] * wide[row * width + n];
            (0..rows).filter(|_| lower(i)).map(of).collect()
        };
        vec![
            of("output", rows * columns, &|i| bias[i % columns], &output),
            of("kernel gradient", width * columns, &|_| 0.5, &gradient),
            of("symmetric products", width * width, &|i| if lower(i) { 0.25 } else { 0.0 }, &half),
        ]
    }
}

/// `cholesky::cholesky`: its factor times itself is the matrix, what is solved with it solves, and
/// `cholesky::inverse_lower` inverts it.
pub struct Cholesky;

const SIDES: usize = 3;

/// `B B' + I`, of a `B` with no pattern.
fn matrix(n: usize) -> Vec<f64> {
    let b = numbers(n * n, 1);
    let entry = |i: usize, j: usize| {
        let product: f64 = (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum();
        product + f64::from(u8::from(i == j))
    };
    (0..n * n).map(|i| entry(i / n, i % n)).collect()
}

impl Kernel for Cholesky {
    /// Rows.
    type Shape = usize;

    fn edges() -> Vec<usize> {
        vec![1, 5, 64, 65, 150, 270]
    }

    fn small() -> BoxedStrategy<usize> {
        (1..24usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &n: &usize) -> Vec<Vec<f64>> {
        let (a, x) = (matrix(n), numbers(n * SIDES, 2));
        let mut l = a.clone();
        assert!(cholesky::cholesky(c, n, &mut l), "{n}: positive definite");
        let lower = |i: usize, k: usize| if k <= i { l[i * n + k] } else { 0.0 };
        let product = |i: usize| (0..n).map(|k| lower(i / n, k) * lower(i % n, k)).sum();
        let inverse = cholesky::inverse_lower(c, n, &l);
        let identity =
            |i: usize| (0..n).map(|k| lower(i / n, k) * inverse[k * n + i % n]).sum::<f64>();
        // A x, solved again.
        let mut solved: Vec<f64> = (0..n * SIDES)
            .map(|i| (0..n).map(|k| a[i / SIDES * n + k] * x[k * SIDES + i % SIDES]).sum())
            .collect();
        let mut half = x.clone();
        cholesky::times_lower_transposed(n, &l, SIDES, &mut half);
        cholesky::solve_lower_transposed(n, &l, SIDES, &mut half);
        cholesky::solve_lower(n, &l, SIDES, &mut solved);
        cholesky::solve_lower_transposed(n, &l, SIDES, &mut solved);
        vec![(0..n * n).map(product).collect(), (0..n * n).map(identity).collect(), solved, half]
    }

    fn want<E: Element>(&n: &usize) -> Vec<Want> {
        let (a, x) = (matrix(n), numbers(n * SIDES, 2));
        let identity = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
        // The smallest eigenvalue is 1 at least, the largest no more than the trace.
        let condition: f64 = (0..n).map(|i| a[i * n + i]).sum();
        let within = |what, values: Vec<f64>, error: f64| {
            let bounds = vec![error; values.len()];
            Want { what, values, bounds }
        };
        vec![
            within("factor times itself", a, 4.0 * gamma(n + 2) * condition),
            within("factor times inverse", identity, 4.0 * gamma(n + 2) * condition),
            within("solution", x.clone(), 16.0 * gamma(n + 2) * condition),
            within("solution of half", x, 16.0 * gamma(n + 2) * condition),
        ]
    }
}
