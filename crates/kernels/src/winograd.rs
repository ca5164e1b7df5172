//! 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): 36 products for a 4x4 tile of outputs where the
//! direct sum needs 144. The transforms of a tile are the instruction set's; blocking, threads and edges
//! are here.
//!
//! A block of tiles goes through three steps: its 6x6 tiles of inputs are transformed, 36 GEMMs over the
//! channels multiply them with the transformed kernel, and the products are transformed to outputs. Where the
//! kernel is small, each task takes a small block through all three, which stays in its core's cache; where it
//! is large, all threads take a large block through one step after the other, so that the kernel is read less often.
//!
//! Which convolutions run so follows from their shape without the batch, so that an image's values
//! do not depend on the images beside it.

use crate::element::{DType, Element};
use crate::gemm::{Finish, pointer};
use crate::isa::{CollectArgs, OUTSIDE, SpreadArgs, TileArgs};
use crate::shape::ConvShape;
use crate::table::Compute;
use crate::threads::Shared;
use std::ops::Range;

mod gradient;
mod pack;
mod tiles;

pub(crate) use gradient::kernel_gradient;
pub(crate) use pack::{pack, packed_len};
use tiles::{BLOCK, PRODUCTS, Tiles, apart, each_tile, floats};

/// The same of a block that one task takes through all steps.
const SMALL: usize = 1 << 16;
/// Input and output channels up to which blocks are small: with more the kernel, read once a block, takes longer than they save.
const CHANNELS: usize = 512;
/// Small blocks that keep the threads busy.
const TASKS: usize = 16;
/// Depth of the reduction kept in the second-level cache at a time, in floats.
const DEPTH: usize = 512;

/// Whether a convolution and its gradients run this way: at least 1.6 times fewer products than the
/// direct sum has, channels that fill every panel, and floats, as the transforms would cost bfloat16 its
/// few digits.
pub(crate) fn suits<E: Element>(s: &ConvShape) -> bool {
    let tiles = s.height().div_ceil(4) * s.width().div_ceil(4);
    let pays = 16 * PRODUCTS * tiles <= 10 * 9 * s.height() * s.width();
    let full = |channels: usize| channels > 0 && channels.is_multiple_of(64);
    E::DTYPE == DType::F32
        && s.kernel() == 3
        && s.stride() == 1
        && s.padding() == 1
        && s.upsample() == 1
        && full(s.in_channels())
        && full(s.out_channels())
        && pays
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
    let pixels = shape.batch() * shape.height() * shape.width();
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
    let (zeros, output) = (vec![0.0; depth], Shared::new(output));
    let Finish { accumulate, bias, relu, .. } = *finish;
    let finish = Finish { accumulate, bias, residual, relu, mask };
    let job = Job { compute, tiles, depth, columns, source, packed, finish, zeros, output };
    let panels = columns / tile.nr;
    let size = tiles.block(depth + columns, SMALL, tile.mr);
    if depth + columns <= CHANNELS && tiles.count.div_ceil(size) >= TASKS {
        compute.threads.run(tiles.count.div_ceil(size), |task| {
            let first = task * size;
            let count = size.min(tiles.count - first);
            job.with_block(size, |block| {
                (0..count).for_each(|i| job.spread(block, first, i));
                (0..PRODUCTS).for_each(|p| job.multiply(block, count, p, 0..panels));
                (0..count).for_each(|i| job.collect(block, first, i));
            });
        });
        return;
    }
    let size = tiles.block(depth + columns, BLOCK, 4 * tile.mr);
    let groups = panels.min(4);
    job.with_block(size, |block| {
        for first in (0..tiles.count).step_by(size) {
            let count = size.min(tiles.count - first);
            each_tile(compute, count, |i| job.spread(block, first, i));
            compute.threads.run(PRODUCTS * groups, |task| {
                let (product, group) = (task / groups, task % groups);
                let panels = group * panels / groups..(group + 1) * panels / groups;
                job.multiply(block, count, product, panels);
            });
            each_tile(compute, count, |i| job.collect(block, first, i));
        }
    });
}

/// A convolution under way.
struct Job<'a> {
    compute: &'a Compute,
    tiles: Tiles,
    depth: usize,
    columns: usize,
    source: &'a [f32],
    packed: &'a [f32],
    finish: Finish<'a, f32>,
    zeros: Vec<f32>,
    output: Shared<'a, f32>,
}

/// Memory of a block of tiles: transformed inputs and products, 36 parts each.
struct Block<'a> {
    spread: Shared<'a, f32>,
    /// Floats from one part of `spread` to the next.
    ahead: usize,
    products: Shared<'a, f32>,
    /// Floats from one part of `products` to the next.
    behind: usize,
}

impl Job<'_> {
    /// Runs `f` with memory for `size` tiles.
    fn with_block(&self, size: usize, f: impl FnOnce(&Block<'_>)) {
        let [ahead, behind] = [self.depth, self.columns].map(|channels| apart(size * channels));
        let len = PRODUCTS * (ahead + behind);
        let mut scratch = self.compute.scratch(len);
        let (spread, products) = scratch[..len].split_at_mut(PRODUCTS * ahead);
        f(&Block { spread: Shared::new(spread), ahead, products: Shared::new(products), behind });
    }

    /// Transforms the inputs of tile `first + i`, the block's `i`th.
    fn spread(&self, block: &Block<'_>, first: usize, i: usize) {
        let rows = self.tiles.rows(first + i, 1, 6, self.source, &self.zeros);
        let args = SpreadArgs {
            pixels: rows.as_ptr(),
            offset: 0,
            channels: self.depth,
            output: block.spread.pointer().wrapping_add(i * self.depth),
            stride: block.ahead,
        };
        // SAFETY: `rows` holds 36 checked pointers to `depth` floats; a tile of the block has its
        // own row of `depth` floats in each of the 36 parts of `spread`. The record's ISA was found
        // available; so below.
        unsafe { (self.compute.record.winograd.input)(&args) };
    }

    /// `products = spread x kernel` for one of the 36, the block's `count` tiles and some panels of columns.
    fn multiply(&self, block: &Block<'_>, count: usize, product: usize, panels: Range<usize>) {
        let (depth, columns) = (self.depth, self.columns);
        let tile = self.compute.kernels::<f32>().tile(columns);
        let padded = count.next_multiple_of(tile.mr);
        // SAFETY: nothing writes the transformed inputs while they are multiplied.
        let spread = unsafe { block.spread.read(product * block.ahead, padded * depth) };
        let rows: Vec<*const f32> = spread.chunks_exact(depth).map(<[f32]>::as_ptr).collect();
        let starts: Vec<usize> = (0..padded).map(|i| i * columns).collect();
        for panel in panels {
            for offset in (0..depth).step_by(DEPTH) {
                let run = DEPTH.min(depth - offset);
                let start = ((product * (columns / tile.nr) + panel) * depth + offset) * tile.nr;
                let weights = &self.packed[start..][..run * tile.nr];
                for first in (0..count).step_by(tile.mr) {
                    let args = TileArgs {
                        rows: rows[first..][..tile.mr].as_ptr(),
                        taps: 1,
                        offset,
                        run,
                        panel: weights.as_ptr(),
                        output: block
                            .products
                            .pointer()
                            .wrapping_add(product * block.behind + panel * tile.nr),
                        output_rows: starts[first..][..tile.mr].as_ptr(),
                        accumulate: offset > 0,
                        ..TileArgs::default()
                    };
                    // SAFETY: `mr` rows of `depth` floats, `offset + run` of which are read; the block,
                    // a multiple of `mr`, has rows of `columns` floats in each product to be
                    // written, and tasks own disjoint products or columns.
                    unsafe { (tile.run)(&args) };
                }
            }
        }
    }

    /// Transforms the products of tile `first + i`, the block's `i`th, to outputs.
    fn collect(&self, block: &Block<'_>, first: usize, i: usize) {
        let (columns, finish) = (self.columns, &self.finish);
        let mut rows = [OUTSIDE; 16];
        for (row, pixel) in rows.iter_mut().zip(self.tiles.pixels(first + i, 0, 4)) {
            *row = pixel.map_or(OUTSIDE, |p| p * columns);
        }
        let args = CollectArgs {
            products: block.products.pointer().wrapping_add(i * columns),
            stride: block.behind,
            channels: columns,
            output: self.output.pointer(),
            rows: rows.as_ptr(),
            accumulate: finish.accumulate,
            bias: pointer(finish.bias, 0),
            residual: pointer(finish.residual, 0),
            relu: finish.relu,
            mask: pointer(finish.mask, 0),
        };
        // SAFETY: reads the tile's rows of the products; every pixel within the map has
        // `columns` floats in output, residual and mask, and belongs to one tile.
        unsafe { (self.compute.record.winograd.output)(&args) };
    }
}
