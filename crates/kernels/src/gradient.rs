//! The kernel gradient: a GEMM that reduces over pixels.

use std::sync::PoisonError;

use crate::buffer::Buffer;
use crate::element::Element;
use crate::gather::Gather;
use crate::isa::{GradientArgs, Isa};
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

/// Pixels whose input and output gradient are packed and kept in cache at a time.
const PIXELS: usize = 128;
/// Pixels that are worth a partial sum of their own.
const CHUNK: usize = 960;
/// Tasks the work is cut into, where its shape allows.
const TASKS: usize = 16;
/// Shorter parts of a tap spend more on packing the output gradient than on multiplying.
const RUN: usize = 96;

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
    assert_eq!(grad_output.len(), pixels * columns, "output gradient length");
    assert_eq!(grad_kernel.len(), depth * columns, "kernel gradient length");
    if pixels == 0 || grad_kernel.is_empty() {
        grad_kernel.fill(0.0);
        return;
    }
    let kernels = compute.kernels::<E>();
    let (tiles, unit) = (kernels.gradient(columns), kernels.depth);
    let nr = tiles.nr;
    let panels = columns.div_ceil(nr);
    let chunks = (pixels / CHUNK).clamp(1, TASKS);
    // Ranges of the reduction rows, groups of taps or parts of a single tap's run, then groups of panels.
    let ranges = ranges(g, TASKS.div_ceil(chunks));
    let groups = panels.min(TASKS.div_ceil(chunks * ranges.len()));
    let zeros = g.zeros();

    let mut scratch = compute.scratch.lock().unwrap_or_else(PoisonError::into_inner);
    let len = chunks * panels * depth * nr;
    if scratch.len() < len {
        *scratch = Buffer::zeros(len);
    }
    let partial = Shared::new(&mut scratch[..len]);

    compute.threads.run(chunks * ranges.len() * groups, |task| {
        let group = task % groups;
        let range = &ranges[task / groups % ranges.len()];
        let chunk = task / groups / ranges.len();
        let (first, last) = (chunk * pixels / chunks, (chunk + 1) * pixels / chunks);
        let group = group * panels / groups..(group + 1) * panels / groups;
        let taps = range.taps.len();
        let mut rows = Vec::with_capacity(PIXELS * taps);
        let mut input = Interleaved::input(range.run, unit);
        let mut blocks: Vec<Interleaved<E>> =
            group.clone().map(|_| Interleaved::panel(nr, unit)).collect();
        for start in (first..last).step_by(PIXELS) {
            let count = PIXELS.min(last - start);
            for (panel, block) in group.clone().zip(&mut blocks) {
                let part = panel * nr..columns.min((panel + 1) * nr);
                let row = |i: usize| &grad_output[(start + i) * columns..][part.clone()];
                block.fill(compute.isa(), count, row);
            }
            rows.clear();
            g.rows(source, &zeros, start, count, range.taps.clone(), 1, &mut rows);
            for tap in 0..taps {
                let alone = unit == 1 && zeros.is_empty();
                let even = spacing(&rows[tap..], taps).filter(|_| alone);
                if even.is_none() {
                    input.fill(compute.isa(), count, |i| {
                        // SAFETY: `Gather::rows` checked that `g.run` elements from each pointer on are
                        // borrowed, and the range lies within the run.
                        unsafe {
                            std::slice::from_raw_parts(
                                rows[i * taps + tap].add(range.offset),
                                range.run,
                            )
                        }
                    });
                }
                let (start_of_input, stride) = match even {
                    Some(stride) => (rows[tap].wrapping_add(range.offset), stride),
                    None => (input.view().as_ptr(), input.stride),
                };
                for (panel, block) in group.clone().zip(&blocks) {
                    let base = (chunk * panels + panel) * depth;
                    let mut k = 0;
                    while k < range.run {
                        let mr = tiles.run.len().min(range.run - k);
                        let row = base + (range.taps.start + tap) * g.run + range.offset + k;
                        // SAFETY: tasks own disjoint (chunk, panel, rows) parts of the partial sums.
                        let output = unsafe { partial.slice(row * nr, mr * nr) };
                        let args = GradientArgs {
                            steps: count.div_ceil(unit),
                            input: start_of_input.wrapping_add(k * unit),
                            stride,
                            panel: block.view().as_ptr(),
                            output: output.as_mut_ptr(),
                            output_stride: nr,
                            accumulate: start > first,
                        };
                        // SAFETY: `input`, or the checked rows themselves, and `block` hold that many steps
                        // of at least `(k + mr) * unit` and `nr * unit` elements, and `output` `mr * nr`
                        // floats. The record's ISA was found available.
                        unsafe { (tiles.run[mr - 1])(&args) };
                        k += mr;
                    }
                }
            }
        }
    });

    let partial = &scratch[..len];
    let rows = 16384_usize.div_ceil(columns);
    compute.threads.chunks(grad_kernel, rows * columns, |part, output| {
        for (i, row) in output.chunks_exact_mut(columns).enumerate() {
            let k = part * rows + i;
            for (panel, to) in row.chunks_mut(nr).enumerate() {
                for chunk in 0..chunks {
                    let from = &partial[((chunk * panels + panel) * depth + k) * nr..][..to.len()];
                    if chunk == 0 {
                        to.copy_from_slice(from);
                    } else {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                    }
                }
            }
        }
    });
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

/// Rows of some pixels: single ones, or pairs of pixels with both values of a channel side by side.
struct Interleaved<E> {
    memory: Buffer,
    zeros: Vec<E>,
    unit: usize,
    /// Elements from one pixel or pair to the next.
    stride: usize,
}

impl<E: Element> Interleaved<E> {
    fn new(width: usize, unit: usize, stride: usize) -> Interleaved<E> {
        assert!(unit == 1 || unit == 2, "kernels take single pixels or pairs");
        let elements = PIXELS.div_ceil(unit) * stride;
        let memory = Buffer::zeros((elements * E::DTYPE.bytes()).div_ceil(size_of::<f32>()));
        Interleaved { memory, zeros: vec![E::default(); width], unit, stride }
    }

    /// Room for [`PIXELS`] rows of the output gradient, as the tile reads them.
    fn panel(nr: usize, unit: usize) -> Interleaved<E> {
        Interleaved::new(nr, unit, nr * unit)
    }

    /// Room for [`PIXELS`] rows of `width` elements of the input.
    fn input(width: usize, unit: usize) -> Interleaved<E> {
        // An odd number of cache lines: with a power of two all pixels would share few cache sets.
        let line = 64 / E::DTYPE.bytes();
        Interleaved::new(width, unit, ((width * unit).div_ceil(line) | 1) * line)
    }

    fn view(&self) -> &[E] {
        E::view(&self.memory)
    }

    /// Packs `count` rows; a last single pixel is paired with zeros. Elements beyond a short row keep
    /// their zeros.
    fn fill<'r>(&mut self, isa: Isa, count: usize, row: impl Fn(usize) -> &'r [E])
    where
        E: 'r,
    {
        let Interleaved { memory, zeros, unit, stride } = self;
        let steps = E::view_mut(memory).chunks_exact_mut(*stride).take(count.div_ceil(*unit));
        vectorize!(isa, {
            for (i, to) in steps.enumerate() {
                if *unit == 1 {
                    let row = row(i);
                    to[..row.len()].copy_from_slice(row);
                } else {
                    let first = row(2 * i);
                    let second: &[E] = if 2 * i + 1 < count { row(2 * i + 1) } else { &zeros[..] };
                    for ((to, &a), &b) in to.chunks_exact_mut(2).zip(first).zip(second) {
                        to[0] = a;
                        to[1] = b;
                    }
                }
            }
        });
    }
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
