//! The kernel gradient: a GEMM that reduces over pixels.

use crate::element::Element;
use crate::gather::Gather;
use crate::isa::GradientArgs;
use crate::prefetch::blocks_of;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

mod interleaved;
mod reduce;
mod whole;

pub(crate) use interleaved::Interleaved;
use reduce::reduce;

/// Pixels that are worth a partial sum of their own; twice as many with several taps, whose sums are larger.
const CHUNK: usize = 960;
/// Tasks the work is cut into, where its shape allows.
const TASKS: usize = 16;
/// Shorter parts of a tap spend more on packing the output gradient than on multiplying.
const RUN: usize = 96;
/// Bytes between the inputs of neighbouring pixels from which on they are packed rather than read in place: further
/// apart they share few cache sets (1024 to 256 channels at 14x14, AVX2: 60% of peak in place, 76% packed).
const APART: usize = 2048;

/// `grad_kernel[tap * run + k][n] = sum over pixels of source row(pixel, tap)[k] * grad_output[pixel][n]`.
///
/// # Panics
/// If a slice has not the length that `g` and `columns` give it.
pub(crate) fn run<E: Element>(
    compute: &Compute,
    g: &Gather,
    source: &[E],
    grad_output: &[E],
    columns: usize,
    grad_kernel: &mut [f32],
) {
    let (pixels, depth) = (g.pixels(), g.depth());
    let [height, width, channels] = g.source;
    assert_eq!(source.len(), g.batch * height * width * channels, "source length");
    assert_eq!(grad_output.len(), pixels * columns, "output gradient length");
    assert_eq!(grad_kernel.len(), depth * columns, "kernel gradient length");
    if pixels == 0 || grad_kernel.is_empty() {
        grad_kernel.fill(0.0);
        return;
    }
    let nr = compute.kernels::<E>().gradient(columns).nr;
    if whole::suits::<E>(compute, g) {
        return whole::run(compute, g, source, grad_output, columns, grad_kernel);
    }
    let panels = columns.div_ceil(nr);
    let chunks = (pixels / (CHUNK * g.taps.len().min(2))).clamp(1, TASKS);
    // Ranges of the reduction rows, groups of taps or parts of a single tap's run, then groups of panels.
    let ranges = ranges(g, cut(TASKS.div_ceil(chunks), depth, columns));
    let groups = panels.min(TASKS.div_ceil(chunks * ranges.len()));
    let zeros = g.zeros();

    let len = chunks * panels * depth * nr;
    let mut scratch = compute.scratch(len);
    let partial = Shared::new(&mut scratch[..len]);

    compute.threads.run(chunks * ranges.len() * groups, |task| {
        let group = task % groups;
        let chunk = task / groups / ranges.len();
        let part = Part {
            compute,
            g,
            source,
            zeros: &zeros,
            grad_output,
            columns,
            range: &ranges[task / groups % ranges.len()],
            panels: group * panels / groups..(group + 1) * panels / groups,
        };
        let pixels = chunk * pixels / chunks..(chunk + 1) * pixels / chunks;
        part.run(pixels, |panel, row, rows| {
            let at = ((chunk * panels + panel) * depth + row) * nr;
            // SAFETY: tasks own disjoint (chunk, panel, rows) parts of the partial sums.
            unsafe { partial.slice(at, rows * nr) }
        });
    });

    reduce(compute, &scratch[..len], [chunks, depth, columns], nr, grad_kernel);
}

/// What one task computes: some rows and panels of the kernel gradient.
struct Part<'a, E: Element> {
    compute: &'a Compute,
    g: &'a Gather,
    source: &'a [E],
    zeros: &'a [E],
    grad_output: &'a [E],
    columns: usize,
    range: &'a Range,
    panels: std::ops::Range<usize>,
}

impl<E: Element> Part<'_, E> {
    /// Sums over some pixels, into `output(panel, first row, rows)`, rows of a panel's columns.
    fn run<'o>(
        &self,
        pixels: std::ops::Range<usize>,
        output: impl Fn(usize, usize, usize) -> &'o mut [f32],
    ) {
        let Part { g, range, .. } = self;
        let _ready = self.compute.ready::<E>();
        let kernels = self.compute.kernels::<E>();
        let (tiles, unit) = (kernels.gradient(self.columns), kernels.depth);
        let taps = range.taps.len();
        let mut input = Interleaved::input(kernels.pixels, range.run, unit);
        let panel = |panel| Interleaved::panel(kernels.pixels, tiles.nr, unit, panel);
        let mut blocks: Vec<Interleaved<E>> = self.panels.clone().map(panel).collect();
        let most = kernels.pixels;
        let (mut rows, mut next, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
        self.rows(pixels.start..pixels.end.min(pixels.start + most), &mut rows);
        for start in pixels.clone().step_by(most) {
            let end = pixels.end.min(start + most);
            self.pack(start..end, &mut blocks);
            let after = end..pixels.end.min(end + most);
            next.clear();
            self.rows(after.clone(), &mut next);
            self.lines(after, &next, &mut ahead);
            let calls = taps * blocks.len() * range.run.div_ceil(tiles.run.len());
            let mut ahead = ahead.chunks(ahead.len().div_ceil(calls).max(1));
            for tap in 0..taps {
                let (input, stride) = self.input(tap, &rows, &mut input);
                for (panel, block) in self.panels.clone().zip(&blocks) {
                    let mut k = 0;
                    while k < range.run {
                        let mr = tiles.run.len().min(range.run - k);
                        let row = (range.taps.start + tap) * g.run + range.offset + k;
                        let soon = ahead.next().unwrap_or_default();
                        let output = output(panel, row, mr).as_mut_ptr();
                        let held = start > pixels.start;
                        let args = GradientArgs {
                            steps: (end - start).div_ceil(unit),
                            input: input.wrapping_add(k * unit),
                            stride,
                            places: std::ptr::null(),
                            panel: block.view().as_ptr(),
                            output,
                            output_stride: tiles.nr,
                            sums: if held { output } else { std::ptr::null_mut() },
                            sums_stride: tiles.nr,
                            ahead: soon.as_ptr(),
                            ahead_len: soon.len(),
                        };
                        // SAFETY: `input`, packed or the checked rows themselves, and `block` hold that
                        // many steps of at least `(k + mr) * unit` and `nr * unit` elements, and the
                        // output `mr * nr` floats. The record's ISA was found available.
                        unsafe { (tiles.run[mr - 1])(&args) };
                        k += mr;
                    }
                }
            }
            std::mem::swap(&mut rows, &mut next);
        }
    }

    /// Pointers to the input's rows at some pixels, pixel by pixel, for the range's taps.
    fn rows(&self, pixels: std::ops::Range<usize>, rows: &mut Vec<*const E>) {
        if !pixels.is_empty() {
            let taps = self.range.taps.clone();
            self.g.rows(self.source, self.zeros, pixels.start, pixels.len(), taps, 1, rows);
        }
    }

    /// Packs the output gradient of some pixels, row by row through memory.
    fn pack(&self, pixels: std::ops::Range<usize>, blocks: &mut [Interleaved<E>]) {
        vectorize!(self.compute.isa(), {
            for (i, pixel) in pixels.clone().step_by(blocks[0].unit).enumerate() {
                for (panel, block) in self.panels.clone().zip(&mut *blocks) {
                    let nr = block.stride / block.unit;
                    let part = panel * nr..self.columns.min((panel + 1) * nr);
                    let row = &self.grad_output[pixel * self.columns..];
                    let second =
                        (pixel + 1 < pixels.end).then(|| &row[self.columns..][part.clone()]);
                    block.put(i, &row[part], second);
                }
            }
        });
    }

    /// Where the input of a tap starts, as the tiles read it, and the elements from one step to the next.
    fn input(
        &self,
        tap: usize,
        rows: &[*const E],
        packed: &mut Interleaved<E>,
    ) -> (*const E, usize) {
        let taps = self.range.taps.len();
        if packed.unit == 1
            && self.zeros.is_empty()
            && let Some(stride) = spacing(&rows[tap..], taps)
            && stride * size_of::<E>() < APART
        {
            return (rows[tap].wrapping_add(self.range.offset), stride);
        }
        packed.fill(self.compute.isa(), rows.len() / taps, |i| {
            // SAFETY: `Gather::rows` checked that `g.run` elements from each pointer on are
            // borrowed, and the range lies within the run.
            unsafe {
                std::slice::from_raw_parts(
                    rows[i * taps + tap].add(self.range.offset),
                    self.range.run,
                )
            }
        });
        (packed.view().as_ptr(), packed.stride)
    }

    /// Where output gradient and input (of one tap; others mostly share it) of some pixels lie, as
    /// [`GradientArgs::ahead`] has it.
    fn lines(&self, pixels: std::ops::Range<usize>, rows: &[*const E], lines: &mut Vec<*const u8>) {
        let nr = self.compute.kernels::<E>().gradient(self.columns).nr;
        let columns = self.panels.start * nr..self.columns.min(self.panels.end * nr);
        let output = &self.grad_output[pixels.start * self.columns..pixels.end * self.columns];
        let output = (0..pixels.len())
            .map(|i| output.as_ptr().wrapping_add(i * self.columns + columns.start));
        let taps = self.range.taps.len();
        let input =
            (0..pixels.len()).map(|i| rows[i * taps + taps / 2].wrapping_add(self.range.offset));
        lines.clear();
        blocks_of(output, columns.len(), lines);
        blocks_of(input, self.range.run, lines);
    }
}

/// Elements between the rows of consecutive pixels, every `taps`th of `rows`, where it is always the same.
fn spacing<E>(rows: &[*const E], taps: usize) -> Option<usize> {
    let mut of_tap = rows.iter().step_by(taps).map(|row| row.addr());
    let first = of_tap.next()?;
    let Some(second) = of_tap.next() else { return Some(0) };
    let bytes = second.checked_sub(first)?;
    let even = bytes % size_of::<E>() == 0
        && of_tap.zip(2..).all(|(at, i)| at.checked_sub(first) == Some(bytes * i));
    even.then_some(bytes / size_of::<E>())
}

/// Into how many ranges of rows to cut `rows x columns` of the kernel gradient, so that `tasks` tasks pack least: each
/// range packs all columns of the output gradient, and each group of columns all rows of the input.
fn cut(tasks: usize, rows: usize, columns: usize) -> usize {
    let packed = |ranges: usize| tasks.div_ceil(ranges) * rows + ranges * columns;
    (1..=tasks).min_by_key(|&ranges| packed(ranges)).unwrap_or(1)
}

/// A part of the rows of the kernel gradient.
struct Range {
    taps: std::ops::Range<usize>,
    offset: usize,
    run: usize,
}

/// Cuts the rows of the kernel gradient into about `wanted` parts.
fn ranges(g: &Gather, wanted: usize) -> Vec<Range> {
    let taps = g.taps.len();
    if wanted <= taps {
        return (0..wanted)
            .map(|i| Range {
                taps: i * taps / wanted..(i + 1) * taps / wanted,
                offset: 0,
                run: g.run,
            })
            .collect();
    }
    let pieces = wanted.div_ceil(taps).min(g.run.div_ceil(RUN)).max(1);
    let length = g.run.div_ceil(pieces);
    (0..taps)
        .flat_map(|tap| {
            (0..g.run).step_by(length).map(move |offset| Range {
                taps: tap..tap + 1,
                offset,
                run: length.min(g.run - offset),
            })
        })
        .collect()
}
