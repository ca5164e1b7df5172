//! Loops, blocking, threads and edges above the register tile.

use crate::gather::Gather;
use crate::isa::{Tile, TileArgs};
use crate::table::Compute;
use crate::threads::Shared;

/// Depth of the reduction kept in the second-level cache at a time, in floats.
const DEPTH: usize = 512;
/// Tiles along the pixels that one task computes.
const TILES: usize = 32;
/// Tasks a GEMM is cut into, where its shape allows, so that threads finish together.
const TASKS: usize = 16;

/// What happens to each output element, in this order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// Add to what the output holds.
    pub accumulate: bool,
    /// Added per column.
    pub bias: Option<&'a [f32]>,
    /// Added element by element.
    pub residual: Option<&'a [f32]>,
    /// `max(x, 0)`
    pub relu: bool,
    /// Zero where this is not positive.
    pub mask: Option<&'a [f32]>,
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

fn slabs(g: &Gather) -> Vec<Slab> {
    let mut list = Vec::new();
    if g.run > DEPTH {
        let pieces = g.run.div_ceil(DEPTH);
        let length = g.run.div_ceil(pieces);
        for tap in 0..g.taps.len() {
            for offset in (0..g.run).step_by(length) {
                let run = length.min(g.run - offset);
                let start = tap * g.run + offset;
                list.push(Slab { first_tap: tap, taps: 1, offset, run, start });
            }
        }
    } else {
        let group = (DEPTH / g.run.max(1)).max(1);
        for tap in (0..g.taps.len()).step_by(group) {
            let taps = group.min(g.taps.len() - tap);
            let start = tap * g.run;
            list.push(Slab { first_tap: tap, taps, offset: 0, run: g.run, start });
        }
    }
    if list.is_empty() {
        list.push(Slab { first_tap: 0, taps: 0, offset: 0, run: 0, start: 0 });
    }
    list
}

/// Length of a packed matrix of `depth` rows and `columns` columns.
pub(crate) fn packed_len(tile: Tile, depth: usize, columns: usize) -> usize {
    columns.div_ceil(tile.nr) * tile.nr * depth
}

/// Packs the `depth x columns` matrix `at(row, column)` into panels of `nr` columns, zero-padded.
pub(crate) fn pack(
    compute: &Compute,
    tile: Tile,
    depth: usize,
    columns: usize,
    at: impl Fn(usize, usize) -> f32 + Sync,
    packed: &mut [f32],
) {
    assert_eq!(packed.len(), packed_len(tile, depth, columns), "packed length");
    if packed.is_empty() {
        return;
    }
    compute.threads.chunks(packed, depth * tile.nr, |panel, part| {
        let first = panel * tile.nr;
        let width = tile.nr.min(columns - first);
        for (k, row) in part.chunks_exact_mut(tile.nr).enumerate() {
            for (j, to) in row[..width].iter_mut().enumerate() {
                *to = at(k, first + j);
            }
            row[width..].fill(0.0);
        }
    });
}

#[allow(clippy::too_many_arguments)]
/// Computes every pixel of `g`: `output row = finish(sum over taps of source row x packed)`.
///
/// # Panics
/// If a slice has not the length that `g` and `columns` give it.
pub(crate) fn run(
    compute: &Compute,
    tile: Tile,
    g: &Gather,
    source: &[f32],
    packed: &[f32],
    columns: usize,
    finish: &Finish<'_>,
    output: &mut [f32],
) {
    let depth = g.depth();
    let out_len = g.batch * g.output[0] * g.output[1] * columns;
    assert_eq!(packed.len(), packed_len(tile, depth, columns), "packed kernel length");
    assert_eq!(output.len(), out_len, "output length");
    assert!(finish.bias.is_none_or(|b| b.len() == columns), "bias length");
    assert!(finish.residual.is_none_or(|r| r.len() == out_len), "residual length");
    assert!(finish.mask.is_none_or(|m| m.len() == out_len), "mask length");
    let pixels = g.pixels();
    if pixels == 0 || columns == 0 {
        return;
    }
    let zeros = g.zeros();
    let slabs = slabs(g);
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
                    [..slab.taps * slab.run * tile.nr];
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
                    if height == tile.mr && width == tile.nr {
                        // SAFETY: the rows were checked by `Gather::rows` and stay borrowed;
                        // slab offsets and runs lie within a row. Output rows are pixels of the
                        // output, whose length was checked, and `width == nr` columns from
                        // `column` on exist in it, in residual, mask and bias. Tasks own disjoint
                        // pixels or columns. The record's ISA was found available.
                        unsafe { (tile.run)(&args) };
                    } else {
                        let starts = &starts[t * tile.mr..][..height];
                        edge.run(&args, starts, width, column, finish, end, &output);
                    }
                }
            }
        }
    });
}

pub(crate) fn pointer(slice: Option<&[f32]>, column: usize) -> *const f32 {
    slice.map_or(std::ptr::null(), |s| s.as_ptr().wrapping_add(column))
}

/// Computes tiles that stick out of the output, through a buffer of one whole tile.
struct Edge {
    tile: Tile,
    buffer: Vec<f32>,
    rows: Vec<usize>,
}

impl Edge {
    fn new(tile: Tile) -> Edge {
        Edge {
            tile,
            buffer: vec![0.0; tile.mr * tile.nr],
            rows: (0..tile.mr).map(|r| r * tile.nr).collect(),
        }
    }

    /// As the tile would for the output rows in `starts` and `width` columns.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &mut self,
        args: &TileArgs,
        starts: &[usize],
        width: usize,
        column: usize,
        finish: &Finish<'_>,
        end: bool,
        output: &Shared<'_, f32>,
    ) {
        let whole = TileArgs {
            output: self.buffer.as_mut_ptr(),
            output_rows: self.rows.as_ptr(),
            accumulate: false,
            bias: std::ptr::null(),
            residual: std::ptr::null(),
            relu: false,
            mask: std::ptr::null(),
            ..*args
        };
        // SAFETY: reads as in `run`; writes go to the buffer, which holds a whole tile.
        unsafe { (self.tile.run)(&whole) };
        for (r, &start) in starts.iter().enumerate() {
            let at = start + column;
            // SAFETY: this task owns these columns of this pixel.
            let row = unsafe { output.slice(at, width) };
            for (j, to) in row.iter_mut().enumerate() {
                let mut x = self.buffer[r * self.tile.nr + j];
                if args.accumulate {
                    x += *to;
                }
                if end {
                    x += finish.bias.map_or(0.0, |b| b[column + j]);
                    x += finish.residual.map_or(0.0, |r| r[at + j]);
                    if finish.relu && x < 0.0 {
                        x = 0.0;
                    }
                    if finish.mask.is_some_and(|m| m[at + j].is_nan() || m[at + j] <= 0.0) {
                        x = 0.0;
                    }
                }
                *to = x;
            }
        }
    }
}
