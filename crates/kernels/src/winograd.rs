//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): 36 products for a 4x4 tile of outputs where the
//! direct sum needs 144. The transforms of a tile are the instruction set's; blocking, threads and edges
//! are here.
//!
//! A block of tiles goes through three steps: its 6x6 tiles of inputs are transformed, 36 GEMMs over the
//! channels multiply them with the transformed kernel, and the products are transformed to outputs. The
//! kernel gradient runs the same way: 36 GEMMs over the tiles, and the kernel's transform turned round.
//!
//! Which convolutions run so follows from their shape without the batch, so that an image's values
//! do not depend on the images beside it.

use crate::conv::ConvShape;
use crate::element::{DType, Element};
use crate::gemm::{Finish, pointer};
use crate::isa::{CollectArgs, GradientArgs, OUTSIDE, SpreadArgs, TileArgs};
use crate::matrices::Matrices;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;
use std::f64::consts::{FRAC_1_SQRT_2 as P, SQRT_2 as Q};

/// Products of a tile.
const PRODUCTS: usize = 36;
/// Floats of transformed tiles and products that a block holds.
const BLOCK: usize = 3 << 20;
/// Depth of the reduction kept in the second-level cache at a time, in floats.
const DEPTH: usize = 512;
/// Tiles that one task transforms.
const TASK: usize = 8;
/// Tiles of a block whose sum for the kernel gradient stays in registers.
const SUM: usize = 128;

/// Whether a convolution and its gradients run this way: at least 1.6 times fewer products than the
/// direct sum has, channels that fill every panel, and floats, as the transforms would cost bfloat16 its
/// few digits.
pub(crate) fn suits<E: Element>(s: &ConvShape) -> bool {
    let tiles = s.height.div_ceil(4) * s.width.div_ceil(4);
    let pays = 16 * PRODUCTS * tiles <= 10 * 9 * s.height * s.width;
    let full = |channels: usize| channels > 0 && channels.is_multiple_of(64);
    E::DTYPE == DType::F32
        && s.kernel == 3
        && s.stride == 1
        && s.padding == 1
        && s.upsample == 1
        && full(s.in_channels)
        && full(s.out_channels)
        && pays
}

/// The maps a convolution reads and writes, cut into tiles.
#[derive(Clone, Copy)]
struct Tiles {
    height: usize,
    width: usize,
    down: usize,
    across: usize,
    count: usize,
}

impl Tiles {
    fn new(s: &ConvShape) -> Tiles {
        let (down, across) = (s.height.div_ceil(4), s.width.div_ceil(4));
        let count = s.batch * down * across;
        Tiles { height: s.height, width: s.width, down, across, count }
    }

    /// Numbers of the `side x side` pixels of a tile that starts `before` pixels up and left of its
    /// outputs; `None` outside of the map.
    fn pixels(
        self,
        tile: usize,
        before: usize,
        side: usize,
    ) -> impl Iterator<Item = Option<usize>> {
        let (row, x) = (tile / self.across, tile % self.across * 4);
        let (image, y) = (row / self.down, row % self.down * 4);
        (0..side * side).map(move |i| {
            let (y, x) = (y + i / side, x + i % side);
            let inside = y >= before && x >= before;
            let (y, x) = (y.wrapping_sub(before), x.wrapping_sub(before));
            (inside && y < self.height && x < self.width)
                .then(|| (image * self.height + y) * self.width + x)
        })
    }

    /// Pointers to the channels of those pixels, or to `zeros`.
    ///
    /// # Panics
    /// If `source` or `zeros` is too short.
    fn rows(
        self,
        tile: usize,
        before: usize,
        side: usize,
        source: &[f32],
        zeros: &[f32],
    ) -> [*const f32; PRODUCTS] {
        let channels = zeros.len();
        let mut rows = [zeros.as_ptr(); PRODUCTS];
        for (row, pixel) in rows.iter_mut().zip(self.pixels(tile, before, side)) {
            if let Some(pixel) = pixel {
                *row = source[pixel * channels..][..channels].as_ptr();
            }
        }
        rows
    }

    /// Tiles in a block whose tiles take `floats` each in all products: whole register tiles.
    fn block(self, floats: usize, mr: usize) -> usize {
        (BLOCK / (PRODUCTS * floats)).max(4 * mr).min(self.count).next_multiple_of(mr)
    }
}

/// Length of a packed kernel from `depth` to `columns` channels.
pub(crate) fn packed_len(depth: usize, columns: usize) -> usize {
    PRODUCTS * depth * columns
}

/// Reduction rows that are transformed together.
const ROWS: usize = 4;

/// `G g G^T`, packed into panels product by product.
///
/// # Panics
/// If `packed` has not the length [`packed_len`] says.
pub(crate) fn pack(compute: &Compute, kernel: &Matrices<'_>, packed: &mut [f32]) {
    let (depth, columns) = (kernel.depth, kernel.columns);
    let nr = compute.kernels::<f32>().tile(columns).nr;
    assert_eq!(packed.len(), packed_len(depth, columns), "packed length");
    assert!(columns.is_multiple_of(nr), "channels");
    let panels = columns / nr;
    let packed = Shared::new(packed);
    compute.threads.run(panels * depth.div_ceil(ROWS), |task| {
        let (panel, first) = (task % panels, task / panels * ROWS);
        let rows = ROWS.min(depth - first);
        let size = rows * nr;
        let mut block = vec![0.0f32; size];
        let (mut taps, mut half) = (vec![0.0f64; 9 * size], vec![0.0f64; 18 * size]);
        // Products lie far apart in `packed`, in the same cache sets: a run of each is written in one go.
        let mut products = vec![0.0f32; PRODUCTS * size];
        vectorize!(compute.isa(), {
            for (tap, to) in taps.chunks_exact_mut(size).enumerate() {
                kernel.read(tap, first..first + rows, panel * nr..(panel + 1) * nr, nr, &mut block);
                for (to, &value) in to.iter_mut().zip(&block) {
                    *to = f64::from(value);
                }
            }
            let tap = |i: usize| &taps[i * size..][..size];
            for (x, half) in half.chunks_exact_mut(6 * size).enumerate() {
                spread_kernel(
                    [tap(x), tap(3 + x), tap(6 + x)],
                    half,
                    #[inline(always)]
                    |v| v,
                );
            }
            let half = |x: usize, y: usize| &half[(x * 6 + y) * size..][..size];
            for (y, products) in products.chunks_exact_mut(6 * size).enumerate() {
                let line = [half(0, y), half(1, y), half(2, y)];
                spread_kernel(
                    line,
                    products,
                    #[inline(always)]
                    |v| v as f32,
                );
            }
        });
        for (product, values) in products.chunks_exact(size).enumerate() {
            let at = ((product * panels + panel) * depth + first) * nr;
            // SAFETY: tasks own disjoint (panel, rows) parts of every product.
            unsafe { packed.slice(at, size) }.copy_from_slice(values);
        }
    });
}

/// `to = make(factors[0] of[0] + factors[1] of[1] + ...)`, element by element.
#[inline(always)]
fn combine<T, O, const N: usize>(
    factors: [T; N],
    of: [&[T]; N],
    to: &mut [O],
    make: impl Fn(T) -> O,
) where
    T: Copy + Default + std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
{
    let mut rows = of;
    for row in &mut rows {
        *row = &row[..to.len()];
    }
    for j in 0..to.len() {
        let mut sum = T::default();
        for i in 0..N {
            sum = sum + factors[i] * rows[i][j];
        }
        to[j] = make(sum);
    }
}

/// `G g`, six rows, with the factors that `B^T` leaves out.
#[inline(always)]
fn spread_kernel<O>(g: [&[f64]; 3], to: &mut [O], make: impl Fn(f64) -> O + Copy) {
    let (p, q) = (-1.0 / 1.5, 1.0 / 6.0);
    let lines = [
        [1.0, 0.0, 0.0],
        [p, p * P, p * 0.5],
        [p, -p * P, p * 0.5],
        [q, q * Q, q * 2.0],
        [q, -q * Q, q * 2.0],
        [0.0, 0.0, 1.0],
    ];
    let size = to.len() / lines.len();
    for (factors, to) in lines.into_iter().zip(to.chunks_exact_mut(size)) {
        combine(factors, g, to, make);
    }
}

/// `output = finish(source convolved with the packed kernel)`; `shape` gives batch and map.
///
/// # Panics
/// If a slice has not the length that the sizes give it.
pub(crate) fn run<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    [depth, columns]: [usize; 2],
    source: &[E],
    packed: &[E],
    finish: &Finish<'_, E>,
    output: &mut [E],
) {
    let (source, packed) = (floats(source), floats(packed));
    let residual = finish.residual.map(floats);
    let (mask, output) = (finish.mask.map(floats), E::floats_mut(output).unwrap_or_default());
    let tile = compute.kernels::<f32>().tile(columns);
    let pixels = shape.batch * shape.height * shape.width;
    assert_eq!(source.len(), pixels * depth, "source length");
    assert_eq!(packed.len(), packed_len(depth, columns), "packed kernel length");
    assert_eq!(output.len(), pixels * columns, "output length");
    assert!(finish.bias.is_none_or(|b| b.len() == columns), "bias length");
    assert!(residual.is_none_or(|r| r.len() == output.len()), "residual length");
    assert!(mask.is_none_or(|m| m.len() == output.len()), "mask length");
    assert!(columns.is_multiple_of(tile.nr) && depth.is_multiple_of(16), "channels");
    let tiles = Tiles::new(shape);
    if tiles.count == 0 {
        return;
    }
    let block = tiles.block(depth + columns, tile.mr);
    let zeros = vec![0.0; depth];
    let (spread, products) = (PRODUCTS * block * depth, PRODUCTS * block * columns);
    let mut scratch = compute.scratch(spread + products);
    let (spread, products) = scratch[..spread + products].split_at_mut(spread);
    let (spread, products) = (Shared::new(spread), Shared::new(products));
    let output = Shared::new(output);
    for first in (0..tiles.count).step_by(block) {
        let count = block.min(tiles.count - first);
        spread_tiles(compute, count, |i| {
            let rows = tiles.rows(first + i, 1, 6, source, &zeros);
            let args = SpreadArgs {
                pixels: rows.as_ptr(),
                offset: 0,
                channels: depth,
                output: spread.pointer().wrapping_add(i * depth),
                stride: block * depth,
            };
            // SAFETY: `rows` holds 36 checked pointers to `depth` floats; tile `i < block` has its
            // own row of `depth` floats in each of the 36 parts of `spread`, whose length `halves`
            // gave. The record's ISA was found available; so below.
            unsafe { (compute.record.winograd.input)(&args) };
        });
        // SAFETY: nothing writes `spread` until the next block.
        let transformed = unsafe { spread.slice(0, PRODUCTS * block * depth) };
        multiply(compute, [depth, columns], [block, count], transformed, packed, &products);
        spread_tiles(compute, count, |i| {
            let mut rows = [OUTSIDE; 16];
            for (row, pixel) in rows.iter_mut().zip(tiles.pixels(first + i, 0, 4)) {
                *row = pixel.map_or(OUTSIDE, |p| p * columns);
            }
            let args = CollectArgs {
                products: products.pointer().wrapping_add(i * columns),
                stride: block * columns,
                channels: columns,
                output: output.pointer(),
                rows: rows.as_ptr(),
                accumulate: finish.accumulate,
                bias: pointer(finish.bias, 0),
                residual: pointer(residual, 0),
                relu: finish.relu,
                mask: pointer(mask, 0),
            };
            // SAFETY: reads tile `i`'s rows of the products; every pixel within the map has
            // `columns` floats in output, residual and mask, and belongs to one tile.
            unsafe { (compute.record.winograd.output)(&args) };
        });
    }
}

/// Elements that [`suits`] found to be floats.
fn floats<E: Element>(values: &[E]) -> &[f32] {
    E::floats(values).unwrap_or_default()
}

/// Runs `f` for each tile of a block.
fn spread_tiles(compute: &Compute, count: usize, f: impl Fn(usize) + Sync) {
    compute.threads.run(count.div_ceil(TASK), |task| {
        (task * TASK..count.min((task + 1) * TASK)).for_each(&f);
    });
}

/// `products[p] = transformed[p] x packed[p]` for every product `p` and the `count` tiles of a block.
fn multiply(
    compute: &Compute,
    [depth, columns]: [usize; 2],
    [block, count]: [usize; 2],
    transformed: &[f32],
    packed: &[f32],
    products: &Shared<'_, f32>,
) {
    let tile = compute.kernels::<f32>().tile(columns);
    let panels = columns / tile.nr;
    let groups = panels.min(4);
    let starts: Vec<usize> = (0..block).map(|i| i * columns).collect();
    compute.threads.run(PRODUCTS * groups, |task| {
        let (product, group) = (task / groups, task % groups);
        let part = &transformed[product * block * depth..][..block * depth];
        let rows: Vec<*const f32> = part.chunks_exact(depth).map(<[f32]>::as_ptr).collect();
        for panel in group * panels / groups..(group + 1) * panels / groups {
            for offset in (0..depth).step_by(DEPTH) {
                let run = DEPTH.min(depth - offset);
                let start = ((product * panels + panel) * depth + offset) * tile.nr;
                let weights = &packed[start..][..run * tile.nr];
                for first in (0..count).step_by(tile.mr) {
                    let args = TileArgs {
                        rows: rows[first..][..tile.mr].as_ptr(),
                        taps: 1,
                        offset,
                        run,
                        panel: weights.as_ptr(),
                        output: products
                            .pointer()
                            .wrapping_add(product * block * columns + panel * tile.nr),
                        output_rows: starts[first..][..tile.mr].as_ptr(),
                        accumulate: offset > 0,
                        ..TileArgs::default()
                    };
                    // SAFETY: `mr` rows of `depth` floats, `offset + run` of which are read; `block`,
                    // a multiple of `mr`, rows of `columns` floats in each product are there to be
                    // written, and tasks own disjoint products or columns.
                    unsafe { (tile.run)(&args) };
                }
            }
        }
    });
}

/// `grad_kernel[tap][k][n]`, as `gradient::run` computes it.
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
    let (depth, columns) = (shape.in_channels, shape.out_channels);
    assert_eq!(source.len(), shape.in_len(), "source length");
    assert_eq!(grad_output.len(), shape.out_len(), "output gradient length");
    assert_eq!(grad_kernel.len(), shape.kernel_len(), "kernel gradient length");
    let tiles = Tiles::new(shape);
    if tiles.count == 0 {
        grad_kernel.fill(0.0);
        return;
    }
    let nr = compute.kernels::<f32>().gradient(columns).nr;
    assert!(columns.is_multiple_of(nr) && depth.is_multiple_of(16), "channels");
    let panels = columns / nr;
    let block = tiles.block(depth + columns, 1);
    let (zeros, no_gradient) = (vec![0.0; depth], vec![0.0; columns]);
    let (work, sums) = (PRODUCTS * block * (depth + columns), PRODUCTS * depth * columns);
    let mut scratch = compute.scratch(work + sums);
    let (work, sums) = scratch[..work + sums].split_at_mut(work);
    let (spread, gradients) = work.split_at_mut(PRODUCTS * block * depth);
    let (spread, gradients) = (Shared::new(spread), Shared::new(gradients));
    let sums = Shared::new(sums);
    for first in (0..tiles.count).step_by(block) {
        let count = block.min(tiles.count - first);
        spread_tiles(compute, count, |i| {
            let rows = tiles.rows(first + i, 1, 6, source, &zeros);
            let args = SpreadArgs {
                pixels: rows.as_ptr(),
                offset: 0,
                channels: depth,
                output: spread.pointer().wrapping_add(i * depth),
                stride: block * depth,
            };
            // SAFETY: as in `run`.
            unsafe { (compute.record.winograd.input)(&args) };
            let rows = tiles.rows(first + i, 0, 4, grad_output, &no_gradient);
            for panel in 0..panels {
                let args = SpreadArgs {
                    pixels: rows.as_ptr(),
                    offset: panel * nr,
                    channels: nr,
                    output: gradients.pointer().wrapping_add((panel * block + i) * nr),
                    stride: block * columns,
                };
                // SAFETY: 16 checked pointers to `columns` floats; a product's part is
                // `panels x block x nr`, in which tile `i` has its own `nr` floats in each panel.
                unsafe { (compute.record.winograd.gradient)(&args) };
            }
        });
        // SAFETY: nothing writes these until the next block.
        let (transformed, gradients) = unsafe {
            let lengths = [depth, columns].map(|channels| PRODUCTS * block * channels);
            (spread.slice(0, lengths[0]), gradients.slice(0, lengths[1]))
        };
        let sizes = [depth, columns, block, count];
        sum(compute, sizes, first > 0, transformed, gradients, &sums);
    }
    // SAFETY: all tasks that write it are done.
    let sums = unsafe { sums.slice(0, PRODUCTS * depth * columns) };
    collect_kernel(compute, depth, columns, sums, grad_kernel);
}

/// `sums[p][k][n] (+)= sum over tiles of transformed[p][tile][k] * gradients[p][tile][n]`
fn sum(
    compute: &Compute,
    [depth, columns, block, count]: [usize; 4],
    accumulate: bool,
    transformed: &[f32],
    gradients: &[f32],
    sums: &Shared<'_, f32>,
) {
    let tiles = compute.kernels::<f32>().gradient(columns);
    let nr = tiles.nr;
    let panels = columns / nr;
    compute.threads.run(PRODUCTS * panels, |task| {
        let (product, panel) = (task / panels, task % panels);
        let part = &transformed[product * block * depth..][..block * depth];
        for first in (0..count).step_by(SUM) {
            let pixels = SUM.min(count - first);
            let at = ((product * panels + panel) * block + first) * nr;
            let gradients = &gradients[at..][..pixels * nr];
            let mut k = 0;
            while k < depth {
                let mr = tiles.run.len().min(depth - k);
                let row = (product * depth + k) * columns + panel * nr;
                let output = sums.pointer().wrapping_add(row);
                let args = GradientArgs {
                    steps: pixels,
                    input: part[first * depth + k..].as_ptr(),
                    stride: depth,
                    places: std::ptr::null(),
                    panel: gradients.as_ptr(),
                    output,
                    output_stride: columns,
                    sums: if accumulate || first > 0 { output } else { std::ptr::null_mut() },
                    sums_stride: columns,
                    ahead: std::ptr::null(),
                    ahead_len: 0,
                };
                // SAFETY: `pixels` rows of `depth` floats, of which `k + mr` exist, and as many of
                // `nr` gradients; `mr` rows of `nr` floats, `columns` apart, exist in the product's
                // sums, and tasks own disjoint products or columns.
                unsafe { (tiles.run[mr - 1])(&args) };
                k += mr;
            }
        }
    });
}

/// `G^T u`, three rows, with the factors that `B^T` leaves out.
#[inline(always)]
fn collect_line(u: [&[f32]; 6], to: &mut [f32]) {
    let (p, q) = (P as f32, Q as f32);
    let (third, sixth) = (1.0 / 3.0, 1.0 / 6.0);
    let lines = [
        [1.0, -2.0 * third, -2.0 * third, sixth, sixth, 0.0],
        [0.0, -2.0 * third * p, 2.0 * third * p, sixth * q, -sixth * q, 0.0],
        [0.0, -third, -third, third, third, 1.0],
    ];
    let size = to.len() / lines.len();
    for (factors, to) in lines.into_iter().zip(to.chunks_exact_mut(size)) {
        combine(
            factors,
            u,
            to,
            #[inline(always)]
            |v| v,
        );
    }
}

/// `G^T sums G` for every pair of channels.
fn collect_kernel(
    compute: &Compute,
    depth: usize,
    columns: usize,
    sums: &[f32],
    grad_kernel: &mut [f32],
) {
    let grad_kernel = Shared::new(grad_kernel);
    compute.threads.run(depth, |k| {
        // Products, and taps, lie far apart, in the same cache sets: a run of each is moved in one go.
        let mut products = vec![0.0f32; PRODUCTS * columns];
        for (product, to) in products.chunks_exact_mut(columns).enumerate() {
            to.copy_from_slice(&sums[(product * depth + k) * columns..][..columns]);
        }
        let (mut half, mut taps) = (vec![0.0f32; 18 * columns], vec![0.0f32; 9 * columns]);
        vectorize!(compute.isa(), {
            for (x, half) in half.chunks_exact_mut(3 * columns).enumerate() {
                let mut column = [&products[..0]; 6];
                for (y, column) in column.iter_mut().enumerate() {
                    *column = &products[(y * 6 + x) * columns..][..columns];
                }
                collect_line(column, half);
            }
            for (y, taps) in taps.chunks_exact_mut(3 * columns).enumerate() {
                let mut line = [&half[..0]; 6];
                for (x, line) in line.iter_mut().enumerate() {
                    *line = &half[(x * 3 + y) * columns..][..columns];
                }
                collect_line(line, taps);
            }
        });
        for (tap, values) in taps.chunks_exact(columns).enumerate() {
            // SAFETY: tasks own disjoint rows of every tap.
            let to = unsafe { grad_kernel.slice((tap * depth + k) * columns, columns) };
            to.copy_from_slice(values);
        }
    });
}
