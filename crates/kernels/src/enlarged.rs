//! Convolutions of images that are enlarged by a whole factor, each pixel repeated. The enlarged image is never made:
//! kernel rows that fall on the same pixel are summed beforehand.
//!
//! With a factor of 7 a 7x7 window sees 2x2 pixels of the source, so 12 products do the work of 147. Which kernel rows
//! meet depends on where the window starts within a pixel, its *phase*; each pair of phases has a kernel of its own.
//! Sums are reordered, which is exact but for rounding.

mod gradient;

use crate::element::Element;
use crate::gemm::{self, Edge, Finish, pointer};
use crate::isa::{Tile, TileArgs};
use crate::matrices::{Inner, Matrices};
use crate::pool;
use crate::shape::{ConvShape, PoolShape};
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

pub(crate) use gradient::kernel_gradient;

/// Tasks the work is cut into, where its shape allows.
const TASKS: usize = 16;

/// Whether a convolution is computed here.
pub(crate) fn suits(s: &ConvShape) -> bool {
    s.upsample() > 1
}

/// Rows or columns: which source pixels an output sees.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    /// Output rows or columns.
    outputs: usize,
    /// Output `o` starts at the same place within a pixel as `o + phases`.
    phases: usize,
    /// Source pixels that an output sees, at most.
    taps: usize,
    /// First source pixel of each phase's first output, counting the zeros before the image.
    first: Vec<usize>,
    /// Source pixels from an output to the next of its phase.
    step: usize,
    /// For each phase, the tap that each kernel row falls on.
    falls: Vec<usize>,
    /// Source pixels of zeros before the image.
    before: usize,
    /// Source pixels with the zeros before and after.
    length: usize,
}

impl Axis {
    fn new(s: &ConvShape, source: usize, outputs: usize) -> Axis {
        let pixel = |output: usize, row: usize| {
            let at = (output * s.stride() + row) as isize - s.padding() as isize;
            at.div_euclid(s.upsample() as isize)
        };
        let common = greatest_common_divisor(s.upsample(), s.stride());
        let phases = s.upsample() / common;
        let before = pixel(0, 0).min(0).unsigned_abs();
        let fall = |phase: usize, row: usize| (pixel(phase, row) - pixel(phase, 0)) as usize;
        let taps = (0..phases).map(|p| fall(p, s.kernel() - 1) + 1).max().unwrap_or(1);
        let last = outputs.checked_sub(1).map_or(0, |o| (pixel(o, 0) + before as isize) as usize);
        Axis {
            outputs,
            phases,
            taps,
            first: (0..phases).map(|p| (pixel(p, 0) + before as isize) as usize).collect(),
            step: s.stride() / common,
            falls: (0..phases).flat_map(|p| (0..s.kernel()).map(move |i| fall(p, i))).collect(),
            before,
            length: (last + taps).max(before + source),
        }
    }

    /// Outputs of a phase.
    fn count(&self, phase: usize) -> usize {
        self.outputs.saturating_sub(phase).div_ceil(self.phases)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A convolution with its kernels summed by source pixel.
struct Folded<'a> {
    shape: &'a ConvShape,
    rows: Axis,
    columns: Axis,
    /// Elements of a source row that an output sees.
    run: usize,
}

impl Folded<'_> {
    fn new(shape: &ConvShape) -> Folded<'_> {
        let rows = Axis::new(shape, shape.height(), shape.out_height());
        let columns = Axis::new(shape, shape.width(), shape.out_width());
        let run = columns.taps * shape.in_channels();
        Folded { shape, rows, columns, run }
    }

    /// Pairs of phases.
    fn phases(&self) -> usize {
        self.rows.phases * self.columns.phases
    }

    /// The reduction of all pairs of phases: taps, and elements of each.
    fn size(&self) -> [usize; 2] {
        [self.phases() * self.rows.taps, self.run]
    }

    /// Calls `f` for every pair of phases and kernel element (row and column): where its row of `in_channels x
    /// out_channels` lies in the kernel, and in the folded kernels.
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        let s = self.shape;
        let (k, matrix) = (s.kernel(), s.in_channels() * s.out_channels());
        for phase in 0..self.phases() {
            let (py, px) = (phase / self.columns.phases, phase % self.columns.phases);
            for i in 0..k {
                let row = phase * self.rows.taps + self.rows.falls[py * k + i];
                for j in 0..k {
                    let column = self.columns.falls[px * k + j];
                    f((i * k + j) * matrix, (row * self.columns.taps + column) * matrix);
                }
            }
        }
    }

    /// An image with the zeros around it that outputs see.
    fn pad<E: Element>(&self, image: &[E]) -> Vec<E> {
        let (c, line) = (self.shape.in_channels(), self.columns.length * self.shape.in_channels());
        let mut padded = vec![E::default(); self.rows.length * line];
        let start = self.rows.before * line + self.columns.before * c;
        let width = self.shape.width() * c;
        for (to, from) in padded[start..].chunks_mut(line).zip(image.chunks_exact(width)) {
            to[..width].copy_from_slice(from);
        }
        padded
    }
}

/// Length of the packed kernels.
pub(crate) fn packed_len<E: Element>(compute: &Compute, s: &ConvShape) -> usize {
    gemm::packed_len::<E>(compute, Folded::new(s).size(), s.out_channels())
}

/// Packs `kernel` for [`forward`], each output channel times `scale`.
///
/// # Panics
/// If `packed` has not the length of [`packed_len`].
pub(crate) fn pack<E: Element>(
    compute: &Compute,
    s: &ConvShape,
    kernel: &[f32],
    scale: Option<&[f32]>,
    packed: &mut [E],
) {
    let folded = Folded::new(s);
    let [taps, run] = folded.size();
    let (columns, matrix) = (s.out_channels(), s.in_channels() * s.out_channels());
    let mut sums = vec![0.0f64; taps * run * columns];
    folded.each(|from, to| {
        let to = &mut sums[to..to + matrix];
        to.iter_mut().zip(&kernel[from..]).for_each(|(to, &from)| *to += f64::from(from));
    });
    let values: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
    let starts = (0..taps).map(|tap| tap * run * columns).collect();
    let inner = Inner::Columns;
    let kernel = Matrices { values: &values, starts, depth: run, columns, inner, scale };
    gemm::pack(compute, &kernel, packed);
}

/// As [`crate::conv::forward`]; with `summed` the sums over pixels of what is stored and of its squares, by channel.
///
/// # Panics
/// If a slice has not the length that the shape gives it.
pub(crate) fn forward<E: Element>(
    compute: &Compute,
    s: &ConvShape,
    input: &[E],
    packed: &[E],
    finish: &Finish<'_, E>,
    output: &mut [E],
    summed: bool,
) -> Option<[Vec<f64>; 2]> {
    let (n, [down, across]) = (s.out_channels(), [s.out_height(), s.out_width()]);
    assert_eq!(output.len(), s.out_len(), "output length");
    assert!(finish.residual.is_none_or(|r| r.len() == output.len()), "residual length");
    assert!(finish.mask.is_none_or(|m| m.len() == output.len()), "mask length");
    let job = Job::new(compute, s, input, packed, finish);
    let bands = TASKS.div_ceil(s.batch().max(1)).min(down);
    let mut parts = vec![0.0f64; if summed { s.batch() * bands * 2 * n } else { 0 }];
    let (output, parts_of) = (Shared::new(output), Shared::new(&mut parts));
    compute.threads.run(s.batch() * bands, |task| {
        let (image, band) = (task / bands, task % bands);
        let mut lines = job.lines(image);
        for y in band * down / bands..(band + 1) * down / bands {
            let at = (image * down + y) * across * n;
            // SAFETY: tasks own disjoint rows of the output.
            let row = unsafe { output.slice(at, across * n) };
            lines.compute(y, at, row, summed);
        }
        if summed {
            // SAFETY: each task has sums of its own.
            let part = unsafe { parts_of.slice(task * 2 * n, 2 * n) };
            part.copy_from_slice(&lines.totals);
        }
    });
    summed.then(|| {
        let mut totals = [vec![0.0; n], vec![0.0; n]];
        for part in parts.chunks_exact(2 * n) {
            for (total, part) in totals.iter_mut().zip(part.chunks_exact(n)) {
                total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
            }
        }
        totals
    })
}

/// As [`forward`], followed by a max pooling: rows of the convolution's output live as long as windows see them.
///
/// # Panics
/// If a slice has not the length that the shapes give it, or `pool` does not follow `s`.
pub(crate) fn forward_pooled<E: Element>(
    compute: &Compute,
    s: &ConvShape,
    pool: &PoolShape,
    input: &[E],
    packed: &[E],
    finish: &Finish<'_, E>,
    output: &mut [E],
) {
    let map = [s.batch(), s.out_height(), s.out_width(), s.out_channels()];
    assert_eq!([pool.batch(), pool.height(), pool.width(), pool.channels()], map, "what is pooled");
    assert!(finish.residual.is_none() && finish.mask.is_none(), "epilogue of what is pooled");
    assert_eq!(output.len(), pool.out_len(), "output length");
    let job = Job::new(compute, s, input, packed, finish);
    let (line, row) = (pool.width() * pool.channels(), pool.out_width() * pool.channels());
    let bands = TASKS.div_ceil(s.batch().max(1)).min(pool.out_height());
    let output = Shared::new(output);
    compute.threads.run(s.batch() * bands, |task| {
        let (image, band) = (task / bands, task % bands);
        let mut lines = job.lines(image);
        let mut made = vec![E::default(); pool.pool() * line];
        let mut highest = vec![E::default(); line];
        let mut next = 0;
        for at in band * pool.out_height() / bands..(band + 1) * pool.out_height() / bands {
            let rows = pool.rows(at);
            for y in next.max(rows.start)..rows.end {
                lines.compute(y, 0, &mut made[y % pool.pool() * line..][..line], false);
            }
            next = next.max(rows.end);
            // SAFETY: tasks own disjoint rows of the output.
            let to = unsafe { output.slice((image * pool.out_height() + at) * row, row) };
            vectorize!(
                compute.isa(),
                pool::maxima(
                    pool,
                    at,
                    #[inline(always)]
                    |r| &made[r % pool.pool() * line..][..line],
                    &mut highest,
                    to
                )
            );
        }
    });
}

/// A convolution whose operands were checked.
struct Job<'a, E: Element> {
    compute: &'a Compute,
    folded: Folded<'a>,
    input: &'a [E],
    packed: &'a [E],
    finish: &'a Finish<'a, E>,
}

impl<'a, E: Element> Job<'a, E> {
    fn new(
        compute: &'a Compute,
        s: &'a ConvShape,
        input: &'a [E],
        packed: &'a [E],
        finish: &'a Finish<'a, E>,
    ) -> Job<'a, E> {
        let folded = Folded::new(s);
        let len = gemm::packed_len::<E>(compute, folded.size(), s.out_channels());
        assert_eq!(input.len(), s.in_len(), "input length");
        assert_eq!(packed.len(), len, "packed kernel length");
        assert!(finish.bias.is_none_or(|b| b.len() == s.out_channels()), "bias length");
        Job { compute, folded, input, packed, finish }
    }

    /// What computes output rows of an image.
    fn lines(&self, image: usize) -> Lines<'_, E> {
        let s = self.folded.shape;
        let tile = self.compute.kernels::<E>().tile(s.out_channels());
        let len = s.height() * s.width() * s.in_channels();
        let panels = s.out_channels().div_ceil(tile.nr);
        Lines {
            job: self,
            tile,
            padded: self.folded.pad(&self.input[image * len..][..len]),
            edge: Edge::new(tile),
            rows: vec![std::ptr::null(); self.folded.rows.taps * tile.mr],
            starts: vec![0; tile.mr],
            sums: vec![0.0; panels * 2 * tile.nr],
            totals: vec![0.0; 2 * s.out_channels()],
        }
    }
}

/// Computes output rows of one image.
struct Lines<'a, E: Element> {
    job: &'a Job<'a, E>,
    tile: &'static Tile<E>,
    padded: Vec<E>,
    edge: Edge<E>,
    rows: Vec<*const E>,
    starts: Vec<usize>,
    /// Of one output row: for each panel, a row of sums and one of squares.
    sums: Vec<f32>,
    /// Of all output rows so far: sums, then squares.
    totals: Vec<f64>,
}

impl<E: Element> Lines<'_, E> {
    /// Computes output row `y`, which begins at `at` in what is laid out as the whole output; with `summed` adds its
    /// sums to the totals.
    ///
    /// # Panics
    /// If `output` is not as long as an output row, or what the epilogue reads does not reach so far.
    fn compute(&mut self, y: usize, at: usize, output: &mut [E], summed: bool) {
        let Job { folded, finish, packed, compute, .. } = self.job;
        let (mr, nr) = (self.tile.mr, self.tile.nr);
        let (n, columns) = (folded.shape.out_channels(), &folded.columns);
        assert_eq!(output.len(), columns.outputs * n, "length of an output row");
        let len = output.len();
        let like = |other: Option<&[E]>| pointer(other.map(|o| &o[at..][..len]), 0);
        let whole = TileArgs {
            taps: folded.rows.taps,
            run: folded.run,
            output: output.as_mut_ptr(),
            residual: like(finish.residual),
            mask: like(finish.mask),
            relu: finish.relu,
            ..TileArgs::default()
        };
        let depth = folded.run.next_multiple_of(compute.kernels::<E>().depth);
        let taps = folded.phases() * folded.rows.taps;
        for px in 0..columns.phases {
            let phase = y % folded.rows.phases * columns.phases + px;
            let count = columns.count(px);
            for tile in 0..count.div_ceil(mr) {
                // A last tile that sticks out computes some pixels again, unless they would be summed twice.
                let first = match tile * mr {
                    first if first + mr > count && count >= mr && !summed => count - mr,
                    first => first,
                };
                self.place(y, px, first, count);
                let height = mr.min(count - first);
                for panel in 0..n.div_ceil(nr) {
                    let column = panel * nr;
                    let start = (panel * taps + phase * folded.rows.taps) * depth * nr;
                    let shift = |p: *const E| if p.is_null() { p } else { p.wrapping_add(column) };
                    let args = TileArgs {
                        rows: self.rows.as_ptr(),
                        panel: packed[start..][..folded.rows.taps * depth * nr].as_ptr(),
                        output: whole.output.wrapping_add(column),
                        output_rows: self.starts.as_ptr(),
                        bias: pointer(finish.bias, column),
                        residual: shift(whole.residual),
                        mask: shift(whole.mask),
                        sums: match summed {
                            true => self.sums[panel * 2 * nr..][..2 * nr].as_mut_ptr(),
                            false => std::ptr::null_mut(),
                        },
                        ..whole
                    };
                    let width = nr.min(n - column);
                    if height == mr && width == nr {
                        // SAFETY: `place` checked the rows; the panel holds the reduction of `nr` columns.
                        // Output rows are pixels of `output`, in which, as in what is laid out like it and in
                        // the bias, `nr` columns from `column` on exist; sums are a panel's. The record's ISA
                        // was found available.
                        unsafe { (self.tile.run)(&args) };
                    } else {
                        // SAFETY: as above, for `height` rows and `width` columns.
                        unsafe { self.edge.run(&args, &self.starts[..height], width) };
                    }
                }
            }
        }
        if summed {
            self.add_up(n);
        }
    }

    /// Where the pixels of a tile, from the `first`th of a phase's `count` on, are read and written; the last one is
    /// repeated.
    fn place(&mut self, y: usize, phase: usize, first: usize, count: usize) {
        let Folded { shape, rows, columns, run } = &self.job.folded;
        let channels = shape.in_channels();
        let top = rows.first[y % rows.phases] + y / rows.phases * rows.step;
        let mr = self.tile.mr;
        for r in 0..mr {
            let pixel = (first + r).min(count - 1);
            let left = columns.first[phase] + pixel * columns.step;
            for tap in 0..rows.taps {
                let at = ((top + tap) * columns.length + left) * channels;
                self.rows[tap * mr + r] = self.padded[at..][..*run].as_ptr();
            }
            self.starts[r] = (phase + columns.phases * pixel) * shape.out_channels();
        }
    }

    /// Adds the sums of a row to the totals.
    fn add_up(&mut self, n: usize) {
        let nr = self.tile.nr;
        for (panel, sums) in self.sums.chunks_exact_mut(2 * nr).enumerate() {
            for (half, sums) in sums.chunks_exact_mut(nr).enumerate() {
                let totals = &mut self.totals[half * n..][panel * nr..n.min((panel + 1) * nr)];
                totals.iter_mut().zip(&*sums).for_each(|(t, &s)| *t += f64::from(s));
                sums.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ConvSizes;

    fn axis(
        outputs: usize,
        source: usize,
        [kernel, stride, padding, upsample]: [usize; 4],
    ) -> Axis {
        let sizes = ConvSizes { height: source, width: source, ..ConvSizes::default() };
        let s = ConvShape::new(ConvSizes { kernel, stride, padding, upsample, ..sizes }).unwrap();
        Axis::new(&s, source, outputs)
    }

    #[test]
    fn the_stem_over_images_enlarged_seven_times_sees_two_pixels_at_most() {
        let a = axis(112, 32, [7, 2, 3, 7]);
        assert_eq!((a.phases, a.taps, a.step, a.before, a.length), (7, 2, 2, 1, 34));
        // Windows begin at -3, -1, 1, 3, 5, 7 and 9.
        assert_eq!(a.first, [0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(a.falls[..7], [0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(a.falls[5 * 7..6 * 7], [0; 7]);
        assert_eq!((0..7).map(|p| a.count(p)).sum::<usize>(), 112);
    }

    #[test]
    fn every_window_falls_on_the_pixels_it_covers() {
        for geometry in [[7, 2, 3, 7], [7, 2, 3, 2], [3, 1, 1, 4], [3, 2, 0, 3], [5, 3, 2, 6]] {
            let [kernel, stride, padding, upsample] = geometry;
            let source = 5;
            let outputs = (source * upsample + 2 * padding - kernel) / stride + 1;
            let a = axis(outputs, source, geometry);
            for o in 0..outputs {
                let first = a.first[o % a.phases] + o / a.phases * a.step;
                for i in 0..kernel {
                    let at = (o * stride + i) as isize - padding as isize;
                    let want = at.div_euclid(upsample as isize) + a.before as isize;
                    let got = first + a.falls[o % a.phases * kernel + i];
                    assert_eq!(got as isize, want, "{geometry:?} output {o} row {i}");
                    assert!(first + a.taps <= a.length, "{geometry:?} output {o}");
                }
            }
        }
    }
}
