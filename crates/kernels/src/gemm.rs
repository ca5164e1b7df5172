//! Loops, blocking, threads and edges above the register tile.

use crate::element::{DType, Element};
use crate::gather::Gather;
use crate::isa::{Tile, TileArgs};
use crate::matrices::Matrices;
use crate::simd::{prefetch, vectorize};
use crate::table::Compute;
use crate::threads::Shared;

/// Depth of the reduction kept in the second-level cache at a time, in floats. Sums of a part rest
/// in the output meanwhile, which only floats hold without loss: others are summed in one go.
const DEPTH: usize = 512;
/// Tiles along the pixels that one task computes.
const TILES: usize = 32;
/// Tasks a GEMM is cut into, where its shape allows, so that threads finish together.
const TASKS: usize = 16;

/// Reductions of no more rows wait for memory rather than for the multipliers.
const SHALLOW: usize = 128;

/// What happens to each output element, in this order.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a, E> {
    /// Add to what the output holds.
    pub accumulate: bool,
    /// Added per column.
    pub bias: Option<&'a [f32]>,
    /// Added element by element.
    pub residual: Option<&'a [E]>,
    /// `max(x, 0)`
    pub relu: bool,
    /// Zero where this is not positive.
    pub mask: Option<&'a [E]>,
}

/// Part of the reduction: some taps, or a part of one.
struct Slab {
    first_tap: usize,
    taps: usize,
    offset: usize,
    run: usize,
    /// Rows of the packed panel before this slab.
    start: usize,
}

fn slabs<E: Element>(g: &Gather, unit: usize) -> Vec<Slab> {
    let most = if E::DTYPE == DType::F32 { DEPTH } else { usize::MAX };
    let padded = g.run.next_multiple_of(unit);
    let mut list = Vec::new();
    if g.run > most {
        let pieces = g.run.div_ceil(most);
        let length = g.run.div_ceil(pieces);
        for tap in 0..g.taps.len() {
            for offset in (0..g.run).step_by(length) {
                let run = length.min(g.run - offset);
                let start = tap * padded + offset;
                list.push(Slab { first_tap: tap, taps: 1, offset, run, start });
            }
        }
    } else {
        let group = (most / g.run.max(1)).max(1);
        for tap in (0..g.taps.len()).step_by(group) {
            let taps = group.min(g.taps.len() - tap);
            let start = tap * padded;
            list.push(Slab { first_tap: tap, taps, offset: 0, run: g.run, start });
        }
    }
    if list.is_empty() {
        list.push(Slab { first_tap: 0, taps: 0, offset: 0, run: 0, start: 0 });
    }
    list
}

/// Length of the packed matrix of a GEMM with `columns` columns.
pub(crate) fn packed_len<E: Element>(compute: &Compute, g: &Gather, columns: usize) -> usize {
    let kernels = compute.kernels::<E>();
    let nr = kernels.tile(columns).nr;
    columns.div_ceil(nr) * nr * g.taps.len() * g.run.next_multiple_of(kernels.depth)
}

/// Rows of the reduction that are packed together, so that they stay in cache.
const BLOCK: usize = 32;

/// Packs `kernel` into panels of the tile's columns, zero-padded: in a panel, for each tap, groups of the
/// arithmetic's depth of reduction rows, and in a group column by column.
pub(crate) fn pack<E: Element>(
    compute: &Compute,
    g: &Gather,
    kernel: &Matrices<'_>,
    packed: &mut [E],
) {
    let columns = kernel.columns;
    assert_eq!(packed.len(), packed_len::<E>(compute, g, columns), "packed length");
    assert!(kernel.depth == g.run && kernel.starts.len() == g.taps.len(), "kernel shape");
    if packed.is_empty() {
        return;
    }
    let kernels = compute.kernels::<E>();
    let (nr, unit) = (kernels.tile(columns).nr, kernels.depth);
    compute.threads.chunks(packed, g.run.next_multiple_of(unit) * nr, |part, rows| {
        let (panel, tap) = (part / g.taps.len(), part % g.taps.len());
        let first = panel * nr;
        let width = nr.min(columns - first);
        // What no column or row of the kernel writes stays zero.
        let mut block = vec![0.0f32; BLOCK * nr];
        vectorize!(compute.isa(), {
            for (i, to) in rows.chunks_mut(BLOCK * nr).enumerate() {
                let start = i * BLOCK;
                let depth = BLOCK.min(g.run - start);
                kernel.read(tap, start..start + depth, first..first + width, nr, &mut block);
                block[depth * nr..].fill(0.0);
                interleave(unit, nr, &block, to);
            }
        });
    });
}

/// Rows of `nr` floats as elements, the values of `unit` rows side by side.
#[inline(always)]
fn interleave<E: Element>(unit: usize, nr: usize, rows: &[f32], to: &mut [E]) {
    assert!(unit == 1 || unit == 2, "kernels take single rows or pairs");
    if unit == 1 {
        for (to, &value) in to.iter_mut().zip(rows) {
            *to = E::from_f32(value);
        }
        return;
    }
    for (to, rows) in to.chunks_exact_mut(2 * nr).zip(rows.chunks_exact(2 * nr)) {
        let (first, second) = rows.split_at(nr);
        for ((to, &a), &b) in to.chunks_exact_mut(2).zip(first).zip(second) {
            to[0] = E::from_f32(a);
            to[1] = E::from_f32(b);
        }
    }
}

#[allow(clippy::too_many_arguments)]
/// Computes every pixel of `g`: `output row = finish(sum over taps of source row x packed)`.
///
/// # Panics
/// If a slice has not the length that `g` and `columns` give it.
pub(crate) fn run<E: Element>(
    compute: &Compute,
    g: &Gather,
    source: &[E],
    packed: &[E],
    columns: usize,
    finish: &Finish<'_, E>,
    output: &mut [E],
) {
    let kernels = compute.kernels::<E>();
    let (tile, unit) = (kernels.tile(columns), kernels.depth);
    let depth = g.taps.len() * g.run.next_multiple_of(unit);
    let out_len = g.batch * g.output[0] * g.output[1] * columns;
    assert_eq!(packed.len(), packed_len::<E>(compute, g, columns), "packed kernel length");
    assert_eq!(output.len(), out_len, "output length");
    assert!(finish.bias.is_none_or(|b| b.len() == columns), "bias length");
    assert!(finish.residual.is_none_or(|r| r.len() == out_len), "residual length");
    assert!(finish.mask.is_none_or(|m| m.len() == out_len), "mask length");
    let pixels = g.pixels();
    if pixels == 0 || columns == 0 {
        return;
    }
    let zeros = g.zeros();
    let slabs = slabs::<E>(g, unit);
    let span = TILES * tile.mr;
    let chunks = pixels.div_ceil(span);
    let panels = columns.div_ceil(tile.nr);
    let groups = panels.min(TASKS.div_ceil(chunks));
    let output = Shared::new(output);

    compute.threads.run(chunks * groups, |task| {
        let (chunk, group) = (task / groups, task % groups);
        let first = chunk * span;
        let count = span.min(pixels - first);
        let tiles = count.div_ceil(tile.mr);
        let mut rows = Vec::new();
        g.rows(source, &zeros, first, count, 0..g.taps.len(), tile.mr, &mut rows);
        let starts: Vec<usize> = (0..tiles * tile.mr)
            .map(|i| g.output_pixel(first + i.min(count - 1)) * columns)
            .collect();
        let mut edge = Edge::new(tile);
        for (index, slab) in slabs.iter().enumerate() {
            let (begin, end) = (index == 0, index + 1 == slabs.len());
            for panel in group * panels / groups..(group + 1) * panels / groups {
                let column = panel * tile.nr;
                let width = tile.nr.min(columns - column);
                let weights = &packed[(panel * depth + slab.start) * tile.nr..]
                    [..slab.taps * slab.run.next_multiple_of(unit) * tile.nr];
                for t in 0..tiles {
                    let height = tile.mr.min(count - t * tile.mr);
                    let args = TileArgs {
                        rows: rows[(t * g.taps.len() + slab.first_tap) * tile.mr..]
                            [..slab.taps * tile.mr]
                            .as_ptr(),
                        taps: slab.taps,
                        offset: slab.offset,
                        run: slab.run,
                        panel: weights.as_ptr(),
                        output: output.pointer().wrapping_add(column),
                        output_rows: starts[t * tile.mr..][..tile.mr].as_ptr(),
                        accumulate: finish.accumulate || !begin,
                        bias: pointer(finish.bias.filter(|_| end), column),
                        residual: pointer(finish.residual.filter(|_| end), column),
                        relu: finish.relu && end,
                        mask: pointer(finish.mask.filter(|_| end), column),
                    };
                    // While this tile multiplies, what the next one writes and adds is brought near.
                    if depth <= SHALLOW {
                        for &row in starts.iter().skip((t + 1) * tile.mr).take(tile.mr) {
                            let at = row + column;
                            prefetch(output.pointer().wrapping_add(at), width);
                            if let Some(other) = finish.residual.or(finish.mask) {
                                prefetch(other.as_ptr().wrapping_add(at), width);
                            }
                        }
                    }
                    if height == tile.mr && width == tile.nr {
                        // SAFETY: the rows were checked by `Gather::rows` and stay borrowed;
                        // slab offsets and runs lie within a row. Output rows are pixels of the
                        // output, whose length was checked, and `width == nr` columns from
                        // `column` on exist in it, in residual, mask and bias. Tasks own disjoint
                        // pixels or columns. The record's ISA was found available.
                        unsafe { (tile.run)(&args) };
                    } else {
                        let starts = &starts[t * tile.mr..][..height];
                        let finish = if end { *finish } else { Finish::nothing() };
                        edge.run(&args, starts, width, column, &finish, &output);
                    }
                }
            }
        }
    });
}

pub(crate) fn pointer<T>(slice: Option<&[T]>, column: usize) -> *const T {
    slice.map_or(std::ptr::null(), |s| s.as_ptr().wrapping_add(column))
}

impl<E> Finish<'_, E> {
    /// The sums alone.
    pub fn nothing() -> Self {
        Finish { accumulate: false, bias: None, residual: None, relu: false, mask: None }
    }
}

/// Computes tiles that stick out of the output, through buffers of one whole tile.
struct Edge<E: Element> {
    tile: &'static Tile<E>,
    output: Vec<E>,
    residual: Vec<E>,
    mask: Vec<E>,
    bias: Vec<f32>,
    rows: Vec<usize>,
}

impl<E: Element> Edge<E> {
    fn new(tile: &'static Tile<E>) -> Edge<E> {
        let whole = || vec![E::default(); tile.mr * tile.nr];
        Edge {
            tile,
            output: whole(),
            residual: whole(),
            mask: whole(),
            bias: vec![0.0; tile.nr],
            rows: (0..tile.mr).map(|r| r * tile.nr).collect(),
        }
    }

    /// As the tile would for the output rows in `starts` and `width` columns.
    fn run(
        &mut self,
        args: &TileArgs<E>,
        starts: &[usize],
        width: usize,
        column: usize,
        finish: &Finish<'_, E>,
        output: &Shared<'_, E>,
    ) {
        let nr = self.tile.nr;
        if let Some(bias) = finish.bias {
            self.bias[..width].copy_from_slice(&bias[column..column + width]);
        }
        for (r, &start) in starts.iter().enumerate() {
            let (here, there) = (r * nr..r * nr + width, start + column..start + column + width);
            if args.accumulate {
                // SAFETY: this task owns these columns of this pixel.
                let held = unsafe { output.slice(there.start, width) };
                self.output[here.clone()].copy_from_slice(held);
            }
            if let Some(residual) = finish.residual {
                self.residual[here.clone()].copy_from_slice(&residual[there.clone()]);
            }
            if let Some(mask) = finish.mask {
                self.mask[here].copy_from_slice(&mask[there]);
            }
        }
        let whole = TileArgs {
            output: self.output.as_mut_ptr(),
            output_rows: self.rows.as_ptr(),
            bias: pointer(finish.bias.and(Some(&self.bias[..])), 0),
            residual: pointer(finish.residual.and(Some(&self.residual[..])), 0),
            mask: pointer(finish.mask.and(Some(&self.mask[..])), 0),
            ..*args
        };
        // SAFETY: reads of rows and panel as in `run`; everything else lies in buffers that hold a
        // whole tile.
        unsafe { (self.tile.run)(&whole) };
        for (r, &start) in starts.iter().enumerate() {
            // SAFETY: this task owns these columns of this pixel.
            let row = unsafe { output.slice(start + column, width) };
            row.copy_from_slice(&self.output[r * nr..][..width]);
        }
    }
}
