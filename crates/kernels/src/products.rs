//! Products of matrices in f64: one register tile, compiled for each instruction set, and the loops around it.
//!
//! Every element sums its terms in one order, from the first to the last, whatever the number of threads.

use crate::isa::Isa;

/// Terms that are summed before the next panel is taken: a panel of as many stays in the first-level cache.
pub(crate) const DEPTH: usize = 128;
/// Rows that share what is loaded of a panel.
pub(crate) const TASK: usize = 64;

/// Rows, columns and whether to multiply and add at once, of an instruction set's tile for so many columns. Its eight registers
/// of sums hide the latency of adding to them; the compiler does not keep more than 64 sums in registers.
pub(crate) fn tile_of(isa: Isa, columns: usize) -> (usize, usize, bool) {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx if columns > 8 => (4, 16, true),
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => (8, 8, true),
        Isa::Avx2 | Isa::Neon => (4, 8, true),
        Isa::Portable => (4, 8, false),
    }
}

/// Calls a function that is generic over a tile's rows, columns and way of adding with those of an instruction set.
macro_rules! with_tile {
    ($isa:expr, $columns:expr, $f:ident($($argument:expr),* $(,)?)) => {
        match $crate::products::tile_of($isa, $columns) {
            (_, 16, _) => $f::<4, 16, true>($($argument),*),
            (8, _, _) => $f::<8, 8, true>($($argument),*),
            (_, _, true) => $f::<4, 8, true>($($argument),*),
            (_, _, false) => $f::<4, 8, false>($($argument),*),
        }
    };
}
pub(crate) use with_tile;

/// Adds `sum over k of x_k[r] * panel[k][..]` to the sums of `R` rows.
#[inline(always)]
fn tile<const R: usize, const L: usize, const FMA: bool>(
    x: impl Iterator<Item = [f64; R]>,
    panel: &[f64],
    sums: &mut [[f64; L]; R],
) {
    let mut acc = *sums;
    let (panel, _) = panel.as_chunks::<L>();
    for (x, panel) in x.zip(panel) {
        for r in 0..R {
            for j in 0..L {
                acc[r][j] = match FMA {
                    true => x[r].mul_add(panel[j], acc[r][j]),
                    false => acc[r][j] + x[r] * panel[j],
                };
            }
        }
    }
    *sums = acc;
}

/// Adds the products to `R` rows of `to`, `columns` wide, in the columns from `first` on.
#[inline(always)]
fn add_tile<const R: usize, const L: usize, const FMA: bool>(
    x: impl Iterator<Item = [f64; R]>,
    panel: &[f64],
    (to, columns, first): (&mut [f64], usize, usize),
) {
    let mut sums = [[0.0; L]; R];
    let part = first..columns.min(first + L);
    for (sums, to) in sums.iter_mut().zip(to.chunks_exact(columns)) {
        sums.iter_mut().zip(&to[part.clone()]).for_each(|(sum, to)| *sum = *to);
    }
    tile::<R, L, FMA>(x, panel, &mut sums);
    for (sums, to) in sums.iter().zip(to.chunks_exact_mut(columns)) {
        to[part.clone()].iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum);
    }
}

/// A matrix, `[rows, columns]` row-major, in panels of `L` columns, padded with zeros.
pub(crate) fn pack<const L: usize>(matrix: &[f64], columns: usize) -> Vec<f64> {
    let rows = matrix.len() / columns;
    let mut panels = vec![0.0; columns.div_ceil(L) * rows * L];
    if rows > 0 {
        for (p, panel) in panels.chunks_exact_mut(rows * L).enumerate() {
            let part = p * L..columns.min((p + 1) * L);
            for (to, row) in panel.chunks_exact_mut(L).zip(matrix.chunks_exact(columns)) {
                to[..part.len()].copy_from_slice(&row[part.clone()]);
            }
        }
    }
    panels
}

/// `to[i][n] += sum over k of x[i][k] * panels[k][n]`: `x` has rows `stride` apart, of which `depth` numbers count, `to` at most
/// [`TASK`] rows of `columns`, and the panels are those of [`pack`].
#[inline(always)]
pub(crate) fn rows_times<X: Copy + Into<f64>, const R: usize, const L: usize, const FMA: bool>(
    x: (&[X], usize),
    depth: usize,
    panels: &[f64],
    columns: usize,
    to: &mut [f64],
) {
    let (x, stride) = x;
    let mut near = [[0.0; DEPTH]; TASK];
    for from in (0..depth).step_by(DEPTH) {
        let len = DEPTH.min(depth - from);
        for (near, x) in near.iter_mut().zip(x.chunks(stride)) {
            near.iter_mut().zip(&x[from..from + len]).for_each(|(to, &x)| *to = x.into());
        }
        for (p, panel) in panels.chunks_exact(depth * L).enumerate() {
            let panel = &panel[from * L..(from + len) * L];
            for (near, to) in near.as_chunks::<R>().0.iter().zip(to.chunks_mut(R * columns)) {
                let x = (0..len.min(DEPTH)).map(|k| std::array::from_fn(|r| near[r][k]));
                add_tile::<R, L, FMA>(x, panel, (to, columns, p * L));
            }
        }
    }
}

/// `to[k][n] += sum over i of x[i][k] * panels[i][n]`: `x` has rows `stride` apart, of which the numbers from `first` on count,
/// one for each row of `to`, which are at most [`TASK`], of `columns`; the panels, of [`pack`], are those that `wanted` names.
#[inline(always)]
pub(crate) fn columns_times<
    X: Copy + Into<f64>,
    const R: usize,
    const L: usize,
    const FMA: bool,
>(
    x: (&[X], usize, usize),
    wanted: std::ops::Range<usize>,
    panels: &[f64],
    columns: usize,
    to: &mut [f64],
) {
    let (x, stride, first) = x;
    let (rows, features) = (x.len() / stride, to.len() / columns);
    // Rows lie far apart, often in the same cache sets: these features of them are brought together.
    let mut near = [0.0; TASK * DEPTH];
    for (block, x) in x.chunks(DEPTH * stride).enumerate() {
        let len = x.len() / stride;
        for (i, x) in x.chunks_exact(stride).enumerate().take(DEPTH) {
            let x = &x[first..first + features];
            for (near, x) in near.chunks_exact_mut(R * DEPTH).zip(x.chunks(R)) {
                let near = &mut near[i * R..(i + 1) * R];
                near.iter_mut().zip(x).for_each(|(to, &x)| *to = x.into());
            }
        }
        for p in wanted.clone() {
            let panel = &panels[(p * rows + block * DEPTH) * L..][..len * L];
            for (near, to) in near.chunks_exact(R * DEPTH).zip(to.chunks_mut(R * columns)) {
                let x = near.as_chunks::<R>().0.iter().copied();
                add_tile::<R, L, FMA>(x, panel, (to, columns, p * L));
            }
        }
    }
}
