//! The kernel gradient: a GEMM that reduces over pixels.

use std::sync::PoisonError;

use crate::buffer::Buffer;
use crate::gather::Gather;
use crate::isa::GradientArgs;
use crate::table::Compute;
use crate::threads::Shared;

/// Pixels whose output gradient is packed and kept in cache at a time.
const PIXELS: usize = 128;
/// Pixels that are worth a partial sum of their own.
const CHUNK: usize = 2048;
/// Tasks the work is cut into, where its shape allows.
const TASKS: usize = 16;

/// `grad_kernel[tap * run + k][n] = sum over pixels of source row(pixel, tap)[k] * grad_output[pixel][n]`.
///
/// # Panics
/// If a slice has not the length that `g` and `columns` give it.
pub(crate) fn run(
    compute: &Compute,
    g: &Gather,
    source: &[f32],
    grad_output: &[f32],
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
    let tiles = compute.record.gradient(columns);
    let nr = tiles.nr;
    let panels = columns.div_ceil(nr);
    let chunks = (pixels / CHUNK).clamp(1, TASKS.div_ceil(panels));
    // Ranges of the reduction rows: groups of taps, or parts of a single tap's run.
    let wanted = TASKS.div_ceil(panels * chunks);
    let ranges = ranges(g, wanted);
    let zeros = g.zeros();

    let mut scratch = compute.scratch.lock().unwrap_or_else(PoisonError::into_inner);
    let len = chunks * panels * depth * nr;
    if scratch.len() < len {
        *scratch = Buffer::zeros(len);
    }
    let partial = Shared::new(&mut scratch[..len]);

    compute.threads.run(chunks * ranges.len() * panels, |task| {
        let panel = task % panels;
        let range = &ranges[task / panels % ranges.len()];
        let chunk = task / panels / ranges.len();
        let (first, last) = (chunk * pixels / chunks, (chunk + 1) * pixels / chunks);
        let column = panel * nr;
        let width = nr.min(columns - column);
        let base = (chunk * panels + panel) * depth;
        let taps = range.taps.len();
        let mut rows = Vec::with_capacity(PIXELS * taps);
        let mut block = Buffer::zeros(PIXELS * nr);
        for start in (first..last).step_by(PIXELS) {
            let count = PIXELS.min(last - start);
            for (to, from) in block
                .chunks_exact_mut(nr)
                .zip(grad_output[start * columns..(start + count) * columns].chunks_exact(columns))
            {
                to[..width].copy_from_slice(&from[column..column + width]);
            }
            rows.clear();
            g.rows(source, &zeros, start, count, range.taps.clone(), 1, &mut rows);
            for tap in 0..taps {
                let mut k = range.offset;
                while k < range.offset + range.run {
                    let mr = tiles.run.len().min(range.offset + range.run - k);
                    let row = base + (range.taps.start + tap) * g.run + k;
                    // SAFETY: tasks own disjoint (chunk, panel, rows) parts of the partial sums.
                    let output = unsafe { partial.slice(row * nr, mr * nr) };
                    let args = GradientArgs {
                        rows: rows[tap..].as_ptr(),
                        stride: taps,
                        offset: k,
                        pixels: count,
                        panel: block.as_ptr(),
                        output: output.as_mut_ptr(),
                        output_stride: nr,
                        accumulate: start > first,
                    };
                    // SAFETY: `rows` holds `count * taps` checked pointers to rows of `g.run`
                    // floats, `k + mr` lies within a row, `block` holds `count * nr` floats and
                    // `output` `mr * nr`. The record's ISA was found available.
                    unsafe { (tiles.run[mr - 1])(&args) };
                    k += mr;
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
    // Parts shorter than this spend more on packing than on multiplying.
    let pieces = wanted.div_ceil(taps).min(g.run.div_ceil(96)).max(1);
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
