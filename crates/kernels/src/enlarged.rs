//! Convolutions of images that are upsampled by a whole factor, each pixel repeated. The upsampled image is never made:
//! kernel rows that fall on the same pixel are summed beforehand.
//!
//! With a factor of 7 a 7x7 window sees 2x2 pixels of the source, so 12 products do the work of 147. Which kernel rows
//! meet depends on where the window starts within a pixel, its *phase*; each pair of phases has a kernel of its own.
//! Sums are reordered, which is exact but for rounding.

mod folded;
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

use folded::{Folded, TASKS};
pub(crate) use gradient::kernel_gradient;

/// Whether a convolution is computed here.
pub(crate) fn suits(s: &ConvShape) -> bool {
    s.upsample() > 1
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
        let _ready = compute.ready::<E>();
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
