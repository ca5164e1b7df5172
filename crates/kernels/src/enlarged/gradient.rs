//! The kernel gradient of a convolution over an upsampled image: that of the summed kernels, handed back to every
//! kernel element that they are sums of.

use super::folded::{Folded, TASKS};
use crate::element::Element;
use crate::gradient::Interleaved;
use crate::isa::GradientArgs;
use crate::shape::ConvShape;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

/// As [`crate::conv::backward_kernel`].
///
/// # Panics
/// If a slice has not the length that the shape gives it.
pub(crate) fn kernel_gradient<E: Element>(
    compute: &Compute,
    s: &ConvShape,
    input: &[E],
    grad_output: &[E],
    grad_kernel: &mut [f32],
) {
    let folded = &Folded::new(s);
    assert_eq!(input.len(), s.in_len(), "input length");
    assert_eq!(grad_output.len(), s.out_len(), "output gradient length");
    assert_eq!(grad_kernel.len(), s.kernel_len(), "kernel gradient length");
    let (n, nr) = (s.out_channels(), compute.kernels::<E>().gradient(s.out_channels()).nr);
    let phases = folded.rows.phases;
    let chunks = TASKS.div_ceil(phases).min(s.batch());
    // Of one task: for each column phase and panel the rows of a folded kernel.
    let depth = folded.rows.taps * folded.run;
    let len = folded.columns.phases * n.div_ceil(nr) * depth * nr;
    let mut scratch = compute.scratch(chunks * phases * len);
    let partial = Shared::new(&mut scratch[..chunks * phases * len]);
    compute.threads.run(chunks * phases, |task| {
        let (chunk, phase) = (task / phases, task % phases);
        // SAFETY: each task has sums of its own.
        let sums = unsafe { partial.slice(task * len, len) };
        sums.fill(0.0);
        let mut part = Part::new(compute, folded, phase);
        for image in chunk * s.batch() / chunks..(chunk + 1) * s.batch() / chunks {
            let (x, dy) = (s.in_len() / s.batch(), s.out_len() / s.batch());
            let padded = folded.pad(&input[image * x..][..x]);
            part.image(&padded, &grad_output[image * dy..][..dy], sums);
        }
    });

    let mut totals = vec![0.0f64; phases * folded.columns.phases * depth * n];
    for part in scratch[..chunks * phases * len].chunks_exact((phases * len).max(1)) {
        for (total, panels) in
            totals.chunks_exact_mut(depth * n).zip(part.chunks_exact(n.div_ceil(nr) * depth * nr))
        {
            for (panel, rows) in panels.chunks_exact(depth * nr).enumerate() {
                for (row, total) in rows.chunks_exact(nr).zip(total.chunks_exact_mut(n)) {
                    let total = total[panel * nr..].iter_mut();
                    total.zip(row).for_each(|(t, &p)| *t += f64::from(p));
                }
            }
        }
    }
    let matrix = s.in_channels() * n;
    let mut sums = vec![0.0f64; grad_kernel.len()];
    folded.each(|kernel, at| {
        let from = &totals[at..at + matrix];
        sums[kernel..].iter_mut().zip(from).for_each(|(to, from)| *to += from);
    });
    grad_kernel.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
}

/// Sums over the output rows of one phase.
struct Part<'a, E: Element> {
    compute: &'a Compute,
    folded: &'a Folded<'a>,
    phase: usize,
    /// For each column phase, what its outputs see.
    inputs: Vec<Interleaved<E>>,
    /// For each column phase and panel, the output gradient.
    gradients: Vec<Interleaved<E>>,
    /// What one output, or two, see.
    seen: [Vec<E>; 2],
    /// Stands for outputs that a phase lacks.
    zeros: Vec<E>,
}

impl<'a, E: Element> Part<'a, E> {
    fn new(compute: &'a Compute, folded: &'a Folded<'a>, phase: usize) -> Part<'a, E> {
        let kernels = compute.kernels::<E>();
        let nr = kernels.gradient(folded.shape.out_channels()).nr;
        let panels = folded.shape.out_channels().div_ceil(nr);
        let (columns, depth) = (folded.columns.phases, folded.rows.taps * folded.run);
        Part {
            compute,
            folded,
            phase,
            inputs: (0..columns)
                .map(|_| Interleaved::input(kernels.pixels, depth, kernels.depth))
                .collect(),
            gradients: (0..columns * panels)
                .map(|i| Interleaved::panel(kernels.pixels, nr, kernels.depth, i))
                .collect(),
            seen: [vec![E::default(); depth], vec![E::default(); depth]],
            zeros: vec![E::default(); depth.max(nr)],
        }
    }

    /// Adds what an image contributes, for each column phase and panel.
    fn image(&mut self, padded: &[E], grad_output: &[E], sums: &mut [f32]) {
        let kernels = self.compute.kernels::<E>();
        let (unit, columns) = (kernels.depth, &self.folded.columns);
        // Steps of the reduction in an output row, of which one block takes this many rows or only a part of one.
        let most = kernels.pixels / unit;
        let steps = columns.count(0).div_ceil(unit);
        let rows = (most / steps.max(1)).max(1);
        let count = self.folded.rows.count(self.phase);
        for first in (0..count).step_by(rows) {
            for start in (0..steps).step_by(most) {
                let steps = start..steps.min(start + most);
                let rows = first..count.min(first + rows);
                self.pack(padded, grad_output, rows.clone(), steps.clone());
                self.multiply(rows.len() * steps.len(), sums);
            }
        }
    }

    /// Packs the given steps of some rows of the phase, row by row through memory.
    fn pack(
        &mut self,
        padded: &[E],
        grad_output: &[E],
        rows: std::ops::Range<usize>,
        steps: std::ops::Range<usize>,
    ) {
        let Folded { shape, rows: down, columns, run } = self.folded;
        let unit = self.compute.kernels::<E>().depth;
        let (n, channels) = (shape.out_channels(), shape.in_channels());
        let panels = self.gradients.len() / columns.phases;
        let nr = self.compute.kernels::<E>().gradient(n).nr;
        vectorize!(self.compute.isa(), {
            let mut to = 0;
            for row in rows {
                let y = self.phase + row * down.phases;
                let line = &grad_output[y * columns.outputs * n..][..columns.outputs * n];
                let top = down.first[self.phase] + row * down.step;
                for step in steps.clone() {
                    for px in 0..columns.phases {
                        let pixel = step * unit;
                        let there = [pixel, pixel + 1].map(|p| p < columns.count(px));
                        let there = [there[0], there[1] && unit == 2];
                        for (k, seen) in self.seen.iter_mut().enumerate() {
                            if !there[k] {
                                continue;
                            }
                            let left = columns.first[px] + (pixel + k) * columns.step;
                            for (tap, seen) in seen.chunks_exact_mut(*run).enumerate() {
                                let at = ((top + tap) * columns.length + left) * channels;
                                seen.copy_from_slice(&padded[at..][..*run]);
                            }
                        }
                        let [first, second] = &self.seen;
                        let first = if there[0] { first } else { &self.zeros[..first.len()] };
                        self.inputs[px].put(to, first, there[1].then_some(&second[..]));
                        for panel in 0..panels {
                            let part = panel * nr..n.min((panel + 1) * nr);
                            let at = |k: usize| &line[(px + columns.phases * (pixel + k)) * n..];
                            let none = &self.zeros[..part.len()];
                            let first = if there[0] { &at(0)[part.clone()] } else { none };
                            let second = there[1].then(|| &at(1)[part.clone()]);
                            self.gradients[px * panels + panel].put(to, first, second);
                        }
                    }
                    to += 1;
                }
            }
        });
    }

    /// Adds the products of this many packed steps.
    fn multiply(&self, steps: usize, sums: &mut [f32]) {
        let kernels = self.compute.kernels::<E>();
        let _ready = self.compute.ready::<E>();
        let (tiles, unit) = (kernels.gradient(self.folded.shape.out_channels()), kernels.depth);
        let depth = self.folded.rows.taps * self.folded.run;
        let panels = self.gradients.len() / self.inputs.len();
        for (i, gradient) in self.gradients.iter().enumerate() {
            let input = &self.inputs[i / panels];
            let sums = &mut sums[i * depth * tiles.nr..][..depth * tiles.nr];
            for (part, sums) in sums.chunks_mut(tiles.run.len() * tiles.nr).enumerate() {
                let rows = sums.len() / tiles.nr;
                let sums = sums.as_mut_ptr();
                let args = GradientArgs {
                    steps,
                    input: input.view()[part * tiles.run.len() * unit..].as_ptr(),
                    stride: input.stride(),
                    places: std::ptr::null(),
                    panel: gradient.view().as_ptr(),
                    output: sums,
                    output_stride: tiles.nr,
                    sums,
                    sums_stride: tiles.nr,
                    ahead: std::ptr::null(),
                    ahead_len: 0,
                };
                // SAFETY: both operands hold that many steps, of `depth * unit` and `nr * unit` elements, and the
                // sums `rows * nr` floats. The record's ISA was found available.
                unsafe { (tiles.run[rows - 1])(&args) };
            }
        }
    }
}
