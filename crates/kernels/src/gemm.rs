//! Loops, blocking, threads and edges above the register tile.

use crate::element::{DType, Element};
use crate::gather::Gather;
use crate::isa::{Tile, TileArgs};
use crate::matrices::Matrices;
use crate::prefetch::blocks_of;
use crate::rows::{self, Rounding, vectorize_rounding};
use crate::table::Compute;
use crate::threads::Shared;

/// Depth of the reduction kept in the second-level cache at a time, in floats. Sums of a part rest
/// in the output meanwhile, which only floats hold without loss: others are summed in one go.
const DEPTH: usize = 512;
/// Tiles along the pixels that one task computes, about.
const TILES: usize = 32;
/// Tasks a GEMM is cut into, where its shape allows, so that threads finish together.
const TASKS: usize = 16;

/// Bytes of packed kernel that stay in the second-level cache beside what else passes through it.
const CACHED: usize = 600 << 10;

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

/// Length of the packed matrix of a GEMM with this many taps of this depth, and `columns` columns.
pub(crate) fn packed_len<E: Element>(
    compute: &Compute,
    [taps, run]: [usize; 2],
    columns: usize,
) -> usize {
    let kernels = compute.kernels::<E>();
    let nr = kernels.tile(columns).nr;
    columns.div_ceil(nr) * nr * taps * run.next_multiple_of(kernels.depth)
}

/// Pairs in a block that is rounded at a time.
const PAIRS: usize = rows::BLOCK / 2;
/// Rows of the reduction that are packed together, so that they stay in cache.
const BLOCK: usize = 16;

/// Packs `kernel` into panels of the tile's columns, zero-padded: in a panel, for each tap, groups of the
/// arithmetic's depth of reduction rows, and in a group column by column.
pub(crate) fn pack<E: Element>(compute: &Compute, kernel: &Matrices<'_>, packed: &mut [E]) {
    let (taps, run, columns) = (kernel.starts.len(), kernel.depth, kernel.columns);
    let len = packed_len::<E>(compute, [taps, run], columns);
    assert_eq!(packed.len(), len, "packed length");
    if packed.is_empty() {
        return;
    }
    let kernels = compute.kernels::<E>();
    let (nr, unit) = (kernels.tile(columns).nr, kernels.depth);
    compute.threads.chunks(packed, run.next_multiple_of(unit) * nr, |part, rows| {
        let (panel, tap) = (part / taps, part % taps);
        let first = panel * nr;
        let width = nr.min(columns - first);
        // What no column or row of the kernel writes stays zero.
        let mut block = vec![0.0f32; BLOCK * nr];
        vectorize_rounding!(compute.isa(), |round| {
            for (i, to) in rows.chunks_mut(BLOCK * nr).enumerate() {
                let start = i * BLOCK;
                let depth = BLOCK.min(run - start);
                kernel.read(tap, start..start + depth, first..first + width, nr, &mut block);
                block[depth * nr..].fill(0.0);
                interleave(round, unit, nr, &block, to);
            }
        });
    });
}

/// Rows of `nr` floats as elements, the values of `unit` rows side by side.
#[inline(always)]
fn interleave<E: Element>(
    round: impl Rounding,
    unit: usize,
    nr: usize,
    rows: &[f32],
    to: &mut [E],
) {
    assert!(unit == 1 || unit == 2, "kernels take single rows or pairs");
    if unit == 1 {
        for (to, &value) in to.iter_mut().zip(rows) {
            *to = E::from_f32(value);
        }
        return;
    }
    for (to, rows) in to.chunks_exact_mut(2 * nr).zip(rows.chunks_exact(2 * nr)) {
        let (first, second) = rows.split_at(nr);
        let (blocks, rest) = to.as_chunks_mut::<{ rows::BLOCK }>();
        let (first, narrow) = first.as_chunks::<PAIRS>();
        let (second, narrow) =
            (second.as_chunks::<PAIRS>().0, narrow.iter().zip(&second[nr - narrow.len()..]));
        for (to, (first, second)) in blocks.iter_mut().zip(first.iter().zip(second)) {
            let mut pairs = [0.0; rows::BLOCK];
            for i in 0..PAIRS {
                pairs[2 * i] = first[i];
                pairs[2 * i + 1] = second[i];
            }
            round.store(&pairs, to);
        }
        for (to, (&a, &b)) in rest.chunks_exact_mut(2).zip(narrow) {
            to[0] = E::from_f32(a);
            to[1] = E::from_f32(b);
        }
    }
}

/// The matrices of a GEMM: every pixel of the gather times a packed kernel.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, E> {
    /// Which rows of the source a pixel takes, and where it is written.
    pub gather: &'a Gather,
    /// What the gather reads.
    pub source: &'a [E],
    /// The kernel, as [`pack`] leaves it.
    pub packed: &'a [E],
    /// Its columns.
    pub columns: usize,
}

/// Computes every pixel: `output row = finish(sum over taps of source row x packed)`.
///
/// # Panics
/// If a slice has not the length that the gather and the columns give it.
pub(crate) fn run<E: Element>(
    compute: &Compute,
    operands: Operands<'_, E>,
    finish: &Finish<'_, E>,
    output: &mut [E],
) {
    Job::new(compute, operands, finish, None, output).run();
}

/// As [`run`]; returns what the outputs sum to over the pixels, by column, and their products with `factor`, laid
/// out as the output, or their squares. Sums are of what is stored, before it is rounded: in f32 over the
/// pixels of a task, in f64 from task to task.
pub(crate) fn run_summed<E: Element>(
    compute: &Compute,
    operands: Operands<'_, E>,
    finish: &Finish<'_, E>,
    factor: Option<&[E]>,
    output: &mut [E],
) -> [Vec<f64>; 2] {
    assert!(factor.is_none_or(|f| f.len() == output.len()), "factor length");
    let columns = operands.columns;
    let tile = compute.kernels::<E>().tile(columns);
    let (chunks, nr) = (chunks(tile, operands.gather.pixels()), tile.nr);
    let width = columns.div_ceil(nr) * 2 * nr;
    let mut parts = vec![0.0f32; chunks * width];
    let sums = Sums { factor, parts: Shared::new(&mut parts) };
    Job::new(compute, operands, finish, Some(sums), output).run();
    let mut totals = [vec![0.0; columns], vec![0.0; columns]];
    for chunk in parts.chunks_exact(width.max(1)) {
        for (panel, part) in chunk.chunks_exact(2 * nr).enumerate() {
            for (total, part) in totals.iter_mut().zip(part.chunks_exact(nr)) {
                let total = total[panel * nr..].iter_mut();
                total.zip(part).for_each(|(t, &p)| *t += f64::from(p));
            }
        }
    }
    totals
}

/// Parts that `pixels` pixels are cut into, with equal counts of tiles to within one: by fours where there are several, so that
/// threads finish together.
fn chunks<E>(tile: &Tile<E>, pixels: usize) -> usize {
    match pixels.div_ceil(tile.mr).div_ceil(TILES) {
        parts @ 0..=2 => parts,
        parts => (parts + 1) / 4 * 4,
    }
}

/// Column sums that tiles gather.
struct Sums<'a, E> {
    factor: Option<&'a [E]>,
    /// For each chunk of pixels and panel, a row of sums and one of products.
    parts: Shared<'a, f32>,
}

/// A GEMM whose operands were checked, cut into tasks.
struct Job<'a, E: Element> {
    compute: &'a Compute,
    operands: Operands<'a, E>,
    finish: &'a Finish<'a, E>,
    sums: Option<Sums<'a, E>>,
    output: Shared<'a, E>,
    tile: &'static Tile<E>,
    /// Neighbours in the reduction that stand together in packed operands.
    unit: usize,
    slabs: Vec<Slab>,
    zeros: Vec<E>,
    /// Parts of the pixels, each a task of its own.
    chunks: usize,
    /// Groups of panels, likewise.
    groups: usize,
}

impl<'a, E: Element> Job<'a, E> {
    fn new(
        compute: &'a Compute,
        operands: Operands<'a, E>,
        finish: &'a Finish<'a, E>,
        sums: Option<Sums<'a, E>>,
        output: &'a mut [E],
    ) -> Job<'a, E> {
        let Operands { gather: g, packed, columns, .. } = operands;
        let kernels = compute.kernels::<E>();
        let (tile, unit) = (kernels.tile(columns), kernels.depth);
        let len = g.batch * g.output[0] * g.output[1] * columns;
        let [height, width, channels] = g.source;
        assert_eq!(operands.source.len(), g.batch * height * width * channels, "source length");
        assert_eq!(
            packed.len(),
            packed_len::<E>(compute, g.size(), columns),
            "packed kernel length"
        );
        assert_eq!(output.len(), len, "output length");
        assert!(finish.bias.is_none_or(|b| b.len() == columns), "bias length");
        assert!(finish.residual.is_none_or(|r| r.len() == len), "residual length");
        assert!(finish.mask.is_none_or(|m| m.len() == len), "mask length");
        let chunks = chunks(tile, g.pixels());
        let groups = columns.div_ceil(tile.nr).min(TASKS.div_ceil(chunks.max(1)));
        let output = Shared::new(output);
        let (slabs, zeros) = (slabs::<E>(g, unit), g.zeros());
        Job { compute, operands, finish, sums, output, tile, unit, slabs, zeros, chunks, groups }
    }

    fn run(self) {
        self.compute.threads.run(self.chunks * self.groups, |task| {
            self.task(task / self.groups, task % self.groups);
        });
    }

    /// Computes the pixels of a chunk and the columns of a group of panels.
    fn task(&self, chunk: usize, group: usize) {
        let Job { tile, unit, operands, .. } = self;
        let _ready = self.compute.ready::<E>();
        let Operands { gather: g, source, packed, columns } = *operands;
        let tiles = g.pixels().div_ceil(tile.mr);
        let start = |chunk: usize| g.pixels().min(chunk * tiles / self.chunks * tile.mr);
        let first = start(chunk);
        let count = start(chunk + 1) - first;
        let tiles = count.div_ceil(tile.mr);
        let mut rows = Vec::new();
        g.rows(source, &self.zeros, first, count, 0..g.taps.len(), tile.mr, &mut rows);
        let mut starts: Vec<usize> = g.output_pixels(first, count).map(|p| p * columns).collect();
        starts.resize(tiles * tile.mr, starts.last().copied().unwrap_or(0));
        let depth = g.taps.len() * g.run.next_multiple_of(*unit);
        let panels = columns.div_ceil(tile.nr);
        let mut edge = Edge::new(tile);
        let panels = group * panels / self.groups..(group + 1) * panels / self.groups;
        let strip = self.strip(panels.len() * depth * tile.nr).unwrap_or(tiles).max(1);
        let mut ahead = Vec::new();
        for (index, slab) in self.slabs.iter().enumerate() {
            let shared: Vec<TileArgs<E>> = panels
                .clone()
                .map(|panel| TileArgs {
                    taps: slab.taps,
                    offset: slab.offset,
                    run: slab.run,
                    panel: packed[(panel * depth + slab.start) * tile.nr..]
                        [..slab.taps * slab.run.next_multiple_of(*unit) * tile.nr]
                        .as_ptr(),
                    ..self.args(index, chunk, panel)
                })
                .collect();
            for first in (0..tiles).step_by(strip) {
                for (panel, shared) in panels.clone().zip(&shared) {
                    let width = tile.nr.min(columns - panel * tile.nr);
                    for t in first..tiles.min(first + strip) {
                        ahead.clear();
                        self.outputs(shared, &starts[t * tile.mr..], &mut ahead);
                        if g.taps.len() == 1 && panel == panels.start {
                            self.inputs(slab, &rows[t * tile.mr..], &mut ahead);
                        }
                        let args = TileArgs {
                            rows: rows[(t * g.taps.len() + slab.first_tap) * tile.mr..]
                                [..slab.taps * tile.mr]
                                .as_ptr(),
                            output_rows: starts[t * tile.mr..][..tile.mr].as_ptr(),
                            ahead: ahead.as_ptr(),
                            ahead_len: ahead.len(),
                            ..*shared
                        };
                        let height = tile.mr.min(count - t * tile.mr);
                        if height == tile.mr && width == tile.nr {
                            // SAFETY: the rows were checked by `Gather::rows` and stay borrowed;
                            // slab offsets and runs lie within a row. Output rows are pixels of the
                            // output, whose length was checked, and `width == nr` columns from
                            // `column` on exist in it, in what is laid out as it, and in the bias.
                            // Tasks own disjoint pixels or columns. The record's ISA was found available.
                            unsafe { (tile.run)(&args) };
                        } else {
                            // SAFETY: as above, for `height` rows and `width` columns.
                            unsafe { edge.run(&args, &starts[t * tile.mr..][..height], width) };
                        }
                    }
                }
            }
        }
    }

    /// What all tiles of a panel share in a slab.
    fn args(&self, slab: usize, chunk: usize, panel: usize) -> TileArgs<E> {
        let (finish, nr) = (self.finish, self.tile.nr);
        let (column, end) = (panel * nr, slab + 1 == self.slabs.len());
        let sums = self.sums.as_ref().filter(|_| end);
        let panels = self.operands.columns.div_ceil(nr);
        TileArgs {
            output: self.output.pointer().wrapping_add(column),
            accumulate: finish.accumulate || slab > 0,
            bias: pointer(finish.bias.filter(|_| end), column),
            residual: pointer(finish.residual.filter(|_| end), column),
            relu: finish.relu && end,
            mask: pointer(finish.mask.filter(|_| end), column),
            sums: sums.map_or(std::ptr::null_mut(), |sums| {
                // SAFETY: one task owns the sums of a chunk's panel.
                unsafe { sums.parts.slice((chunk * panels + panel) * 2 * nr, 2 * nr) }.as_mut_ptr()
            }),
            factor: pointer(sums.and_then(|sums| sums.factor), column),
            ..TileArgs::default()
        }
    }

    /// Tiles that take one panel before they take the next, where not all of them do. What a tile adds lies in memory row
    /// by row: read by panels it arrives at half the speed.
    fn strip(&self, packed: usize) -> Option<usize> {
        let Finish { accumulate, residual, mask, .. } = self.finish;
        let adds = *accumulate || residual.is_some() || mask.is_some();
        (adds && packed * size_of::<E>() <= CACHED).then_some(1)
    }

    /// Where in memory the tile after that of `starts` writes, and reads what it adds.
    fn outputs(&self, args: &TileArgs<E>, starts: &[usize], ahead: &mut Vec<*const u8>) {
        let Tile { mr, nr, .. } = *self.tile;
        let next = starts.get(mr..2 * mr).unwrap_or_default();
        for start in [args.output.cast_const(), args.residual, args.mask, args.factor] {
            if !start.is_null() {
                blocks_of(next.iter().map(|&row| start.wrapping_add(row)), nr, ahead);
            }
        }
    }

    /// Where in memory the tile after that of `rows` reads its input of a single tap.
    fn inputs(&self, slab: &Slab, rows: &[*const E], ahead: &mut Vec<*const u8>) {
        let mr = self.tile.mr;
        let next = rows.get(mr..2 * mr).unwrap_or_default();
        blocks_of(next.iter().map(|row| row.wrapping_add(slab.offset)), slab.run, ahead);
    }
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
pub(crate) struct Edge<E: Element> {
    tile: &'static Tile<E>,
    output: Vec<E>,
    residual: Vec<E>,
    mask: Vec<E>,
    bias: Vec<f32>,
    rows: Vec<usize>,
}

impl<E: Element> Edge<E> {
    pub fn new(tile: &'static Tile<E>) -> Edge<E> {
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

    /// As the tile would, for the output rows that begin at `starts` and `width` columns.
    ///
    /// # Safety
    /// What `args` points to is valid for these rows and columns, and nobody else writes there.
    pub unsafe fn run(&mut self, args: &TileArgs<E>, starts: &[usize], width: usize) {
        let nr = self.tile.nr;
        // SAFETY: by the caller's contract.
        let row =
            |from: *const E, at: usize| unsafe { std::slice::from_raw_parts(from.add(at), width) };
        for (r, &start) in starts.iter().enumerate() {
            let here = r * nr..r * nr + width;
            if args.accumulate {
                self.output[here.clone()].copy_from_slice(row(args.output, start));
            }
            if !args.residual.is_null() {
                self.residual[here.clone()].copy_from_slice(row(args.residual, start));
            }
            if !args.mask.is_null() {
                self.mask[here].copy_from_slice(row(args.mask, start));
            }
        }
        let mut whole = TileArgs {
            output: self.output.as_mut_ptr(),
            output_rows: self.rows.as_ptr(),
            sums: std::ptr::null_mut(),
            ..*args
        };
        if !args.bias.is_null() {
            // SAFETY: by the caller's contract.
            let bias = unsafe { std::slice::from_raw_parts(args.bias, width) };
            self.bias[..width].copy_from_slice(bias);
            whole.bias = self.bias.as_ptr();
        }
        if !args.residual.is_null() {
            whole.residual = self.residual.as_ptr();
        }
        if !args.mask.is_null() {
            whole.mask = self.mask.as_ptr();
        }
        // SAFETY: reads of rows and panel by the caller's contract; everything else lies in buffers that
        // hold a whole tile.
        unsafe { (self.tile.run)(&whole) };
        for (r, &start) in starts.iter().enumerate() {
            let values = &self.output[r * nr..][..width];
            // SAFETY: by the caller's contract.
            let to = unsafe { std::slice::from_raw_parts_mut(args.output.add(start), width) };
            to.copy_from_slice(values);
            if args.sums.is_null() {
                continue;
            }
            // SAFETY: as above; there are two rows of `nr` sums.
            let sums = unsafe { std::slice::from_raw_parts_mut(args.sums, 2 * nr) };
            let (sums, products) = sums.split_at_mut(nr);
            let factors = if args.factor.is_null() { values } else { row(args.factor, start) };
            for (((sum, product), y), f) in sums.iter_mut().zip(products).zip(values).zip(factors) {
                *sum += y.to_f32();
                *product += y.to_f32() * f.to_f32();
            }
        }
    }
}
