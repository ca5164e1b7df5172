//! The kernel gradient of several taps on pairs, for arithmetic that takes two terms of a sum at a time. The two are one
//! place in two images, so that they stand side by side whatever the tap: both operands are packed once, for all
//! taps and tasks.

use std::ops::Range;

use super::interleaved::pair;
use super::reduce::reduce;
use crate::element::Element;
use crate::gather::Gather;
use crate::isa::GradientArgs;
use crate::prefetch::blocks_of;
use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

/// Terms of a pair.
const PAIR: usize = 2;
/// Bytes of packed operands that are made at a time, of as many images: they stay in the last-level cache.
const MOST: usize = 8 << 20;
/// Pixels that are worth a partial sum of their own.
const CHUNK: usize = 3920;
/// Tasks the work is cut into, where its shape allows.
const TASKS: usize = 16;
/// Bytes of sums that a task adds to, which stay in the second-level cache.
const SUMS: usize = 256 << 10;
/// Rows of a task where its columns and taps cannot be cut further.
const ROWS: usize = 96;
/// Lines of an image that one task packs.
const LINES: usize = 8;
/// Elements of two bytes in a cache line.
const LINE: usize = 32;

/// Whether the gradient can be computed so, and a last single image, multiplied as if it were two, is few of them.
pub(super) fn suits<E: Element>(compute: &Compute, g: &Gather) -> bool {
    let single = g.batch % PAIR == 1 && g.batch < 9;
    let wanted = compute.kernels::<E>().depth == PAIR && g.taps.len() > 1 && !single;
    // Places within two images are 32-bit numbers.
    let places = || Layout::new(Gather { batch: PAIR, ..g.clone() }, 1, 1, 1).input_len();
    wanted && g.run == g.source[2] && places() <= u32::MAX as usize
}

/// As [`super::run`].
pub(super) fn run<E: Element>(
    compute: &Compute,
    g: &Gather,
    source: &[E],
    grad_output: &[E],
    columns: usize,
    grad_kernel: &mut [f32],
) {
    let kernels = compute.kernels::<E>();
    let (nr, block) = (kernels.gradient(columns).nr, kernels.pixels / PAIR);
    let of = |batch: usize| Layout::new(Gather { batch, ..g.clone() }, columns, nr, block);
    let size = |layout: &Layout| (layout.input_len() + layout.output_len()) * E::DTYPE.bytes();
    let parts = size(&of(g.batch)).div_ceil(MOST).min(g.batch);
    let images = g.batch.div_ceil(parts).next_multiple_of(PAIR).min(g.batch);
    let layout = of(images);
    let cut = Cut::new(&layout);
    let floats = size(&layout).div_ceil(size_of::<f32>());
    let sums = cut.chunks * layout.panels * g.depth() * nr;
    let mut scratch = compute.scratch(floats + sums);
    let (packed, rest) = scratch.split_at_mut(floats);
    let sums = &mut rest[..sums];
    // The last sums can go straight to the gradient where its panels are whole and nothing is left to add up.
    let direct = cut.chunks == 1 && columns.is_multiple_of(nr);
    let each = |slice: &[E]| slice.len() / g.batch;
    let (inputs, outputs) = (each(source), each(grad_output));
    for first in (0..g.batch).step_by(images) {
        let end = g.batch.min(first + images);
        let job = Job {
            compute,
            layout: of(end - first),
            source: &source[first * inputs..end * inputs],
            grad_output: &grad_output[first * outputs..end * outputs],
            cut,
            goes_on: first > 0,
        };
        job.pack(E::view_mut(packed));
        let direct = (direct && end == g.batch).then_some(&mut *grad_kernel);
        job.multiply(E::view(packed), sums, direct);
    }
    if !direct {
        reduce(compute, sums, [cut.chunks, g.depth(), columns], nr, grad_kernel);
    }
}

/// Where packed operands lie: the input of each pixel of two images and of the zeros around them; the output gradient by
/// block of steps, panel and step.
struct Layout {
    g: Gather,
    columns: usize,
    nr: usize,
    panels: usize,
    /// Rows and columns of zeros before an image.
    before: [usize; 2],
    /// Rows and columns of an image with its zeros.
    padded: [usize; 2],
    /// Elements from one packed input to the next: an odd number of cache lines, as with a power of two all would
    /// share few cache sets.
    stride: usize,
    /// Steps of the reduction.
    steps: usize,
    /// Steps multiplied at a time: this many of a panel stay in cache.
    block: usize,
}

impl Layout {
    fn new(g: Gather, columns: usize, nr: usize, block: usize) -> Layout {
        // Zeros before and after an image along an axis.
        let [down, right] = [0, 1].map(|axis| {
            let taps = || g.taps.iter().map(|tap| tap[axis]);
            let last = (g.grid[axis] as isize - 1) * g.step + taps().max().unwrap_or(0);
            let before = taps().min().unwrap_or(0).min(0).unsigned_abs();
            (before, usize::try_from(last + 1 - g.source[axis] as isize).unwrap_or(0))
        });
        Layout {
            columns,
            nr,
            panels: columns.div_ceil(nr),
            before: [down.0, right.0],
            padded: [down.0 + g.source[0] + down.1, right.0 + g.source[1] + right.1],
            stride: ((g.run * PAIR).div_ceil(LINE) | 1) * LINE,
            steps: g.batch.div_ceil(PAIR) * g.grid[0] * g.grid[1],
            block,
            g,
        }
    }

    /// Elements of the packed input.
    fn input_len(&self) -> usize {
        self.g.batch.div_ceil(PAIR) * self.padded[0] * self.padded[1] * self.stride
    }

    /// Elements of the packed output gradient.
    fn output_len(&self) -> usize {
        self.steps.div_ceil(self.block) * self.panels * self.block * self.nr * PAIR
    }

    /// Where a block of steps starts in a panel of the output gradient.
    fn panel(&self, block: usize, panel: usize) -> usize {
        (block * self.panels + panel) * self.block * self.nr * PAIR
    }

    /// The two output pixels of a step, the second of which may not exist.
    fn pixels(&self, step: usize) -> (usize, Option<usize>) {
        let image = self.g.grid[0] * self.g.grid[1];
        let first = step / image * PAIR * image + step % image;
        (first, (first + image < self.g.pixels()).then_some(first + image))
    }

    /// Where the packed input of each of some steps starts, for a tap without displacement.
    fn places(&self, steps: Range<usize>, places: &mut Vec<u32>) {
        let ([height, width], step) = (self.g.grid, self.g.step.unsigned_abs());
        places.clear();
        places.extend(steps.map(|at| {
            let (line, x) = (at / width, at % width);
            let line = line / height * self.padded[0] + line % height * step + self.before[0];
            ((line * self.padded[1] + x * step + self.before[1]) * self.stride) as u32
        }));
    }

    /// How many elements further than without displacement the packed input of a tap is.
    fn displacement(&self, tap: usize) -> isize {
        let [down, right] = self.g.taps[tap];
        (down * self.padded[1] as isize + right) * self.stride as isize
    }
}

/// How the kernel gradient is cut into tasks, whatever the number of threads: parts of the steps, ranges of taps, parts of a
/// tap and groups of panels.
#[derive(Clone, Copy)]
struct Cut {
    chunks: usize,
    ranges: usize,
    pieces: usize,
    groups: usize,
}

impl Cut {
    fn new(layout: &Layout) -> Cut {
        let Layout { g, panels, nr, steps, .. } = layout;
        let chunks = (steps * PAIR / CHUNK).clamp(1, TASKS);
        let mut cut = Cut { chunks, ranges: 1, pieces: 1, groups: 1 };
        loop {
            let Cut { ranges, pieces, groups, .. } = cut;
            let rows = g.taps.len().div_ceil(ranges) * g.run.div_ceil(pieces);
            let sums = rows * panels.div_ceil(groups) * nr * size_of::<f32>();
            if sums <= SUMS && chunks * ranges * pieces * groups >= TASKS {
                return cut;
            }
            if ranges < g.taps.len() {
                cut.ranges = (3 * ranges).min(g.taps.len());
            } else if groups < *panels {
                cut.groups = (2 * groups).min(*panels);
            } else if g.run.div_ceil(pieces) > ROWS {
                cut.pieces *= 2;
            } else {
                return cut;
            }
        }
    }

    fn tasks(&self) -> usize {
        self.chunks * self.ranges * self.pieces * self.groups
    }
}

/// The `i`th of `parts` even parts of `count`.
fn part(i: usize, parts: usize, count: usize) -> Range<usize> {
    i * count / parts..(i + 1) * count / parts
}

/// Some images' part of the gradient.
struct Job<'a, E> {
    compute: &'a Compute,
    layout: Layout,
    source: &'a [E],
    grad_output: &'a [E],
    cut: Cut,
    /// Whether sums hold other images' share already.
    goes_on: bool,
}

impl<E: Element> Job<'_, E> {
    /// Packs both operands, the output gradient after the input.
    fn pack(&self, packed: &mut [E]) {
        let l = &self.layout;
        let (input, rest) = packed.split_at_mut(l.input_len());
        let output = Shared::new(&mut rest[..l.output_len()]);
        let length = LINES * l.padded[1] * l.stride;
        let (inputs, input_len) = (input.len().div_ceil(length), input.len());
        let input = Shared::new(input);
        let zeros = vec![E::default(); l.g.run.max(l.columns)];
        self.compute.threads.run(inputs + l.steps.div_ceil(l.block), |task| {
            if task < inputs {
                let start = task * length;
                // SAFETY: every task has a part of the input of its own.
                let to = unsafe { input.slice(start, length.min(input_len - start)) };
                self.lines(task * LINES, &zeros, to);
            } else {
                let block = task - inputs;
                let start = l.panel(block, 0);
                // SAFETY: every task has a block of the output gradient of its own.
                let to = unsafe { output.slice(start, l.panel(block + 1, 0) - start) };
                self.outputs(block, &zeros, to);
            }
        });
    }

    /// Packs whole lines of pairs of images, zeros around them too.
    fn lines(&self, first: usize, zeros: &[E], to: &mut [E]) {
        let Layout { g, before, padded, stride, .. } = &self.layout;
        let [height, width, run] = g.source;
        vectorize!(self.compute.isa(), {
            for (i, line) in to.chunks_exact_mut(padded[1] * stride).enumerate() {
                let (pair_of, y) = ((first + i) / padded[0], (first + i) % padded[0]);
                let y = y.wrapping_sub(before[0]);
                if y >= height {
                    line.fill(E::default());
                    continue;
                }
                let row = |image: usize| match image < g.batch {
                    true => Some(&self.source[(image * height + y) * width * run..][..width * run]),
                    false => None,
                };
                let (a, b) = (row(PAIR * pair_of), row(PAIR * pair_of + 1));
                for (x, to) in line.chunks_exact_mut(*stride).enumerate() {
                    let x = x.wrapping_sub(before[1]);
                    if x >= width {
                        to.fill(E::default());
                        continue;
                    }
                    let a = a.map_or(zeros, |a| &a[x * run..][..run]);
                    let b = b.map_or(zeros, |b| &b[x * run..][..run]);
                    pair(a, b, &mut to[..PAIR * run]);
                }
            }
        });
    }

    /// Packs a block of the output gradient.
    fn outputs(&self, block: usize, zeros: &[E], to: &mut [E]) {
        let l = &self.layout;
        let n = l.columns;
        let steps = block * l.block..l.steps.min((block + 1) * l.block);
        vectorize!(self.compute.isa(), {
            for (i, step) in steps.enumerate() {
                let (a, b) = l.pixels(step);
                let a = &self.grad_output[a * n..][..n];
                let b = b.map_or(zeros, |b| &self.grad_output[b * n..][..n]);
                for (panel, (a, b)) in a.chunks(l.nr).zip(b.chunks(l.nr)).enumerate() {
                    let at = (panel * l.block + i) * l.nr * PAIR;
                    pair(a, b, &mut to[at..][..PAIR * a.len()]);
                }
            }
        });
    }

    /// Multiplies what was packed and adds it to `sums`; with `gradient` the last sums go there instead.
    fn multiply(&self, packed: &[E], sums: &mut [f32], gradient: Option<&mut [f32]>) {
        let l = &self.layout;
        let sums = Shared::new(sums);
        let gradient = gradient.map(Shared::new);
        let (input, output) = packed.split_at(l.input_len());
        self.compute.threads.run(self.cut.tasks(), |task| {
            let Cut { chunks, ranges, pieces, groups } = self.cut;
            let (rest, group) = (task / groups, task % groups);
            let (rest, piece) = (rest / pieces, rest % pieces);
            let (chunk, range) = (rest / ranges, rest % ranges);
            let task = Task {
                chunk,
                blocks: part(chunk, chunks, l.steps.div_ceil(l.block)),
                taps: part(range, ranges, l.g.taps.len()),
                rows: part(piece, pieces, l.g.run),
                panels: part(group, groups, l.panels),
            };
            self.task(&task, [input, output], &sums, gradient.as_ref());
        });
    }

    fn task(
        &self,
        task: &Task,
        [input, output]: [&[E]; 2],
        sums: &Shared<'_, f32>,
        gradient: Option<&Shared<'_, f32>>,
    ) {
        let Layout { g, columns, nr, panels, steps, block, .. } = &self.layout;
        let tiles = self.compute.kernels::<E>().gradient(*columns);
        let _ready = self.compute.ready::<E>();
        let [depth, height] = [g.depth(), tiles.run.len()];
        let block_steps = |i: usize| i * block..(*steps).min((i + 1) * block);
        let (mut places, mut next, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
        self.layout.places(block_steps(task.blocks.start), &mut places);
        let calls = task.taps.len() * task.panels.len() * task.rows.len().div_ceil(height);
        for block in task.blocks.clone() {
            let after = block + 1;
            ahead.clear();
            if after < task.blocks.end {
                self.layout.places(block_steps(after), &mut next);
                self.lines_of(task, after, [input, output], &next, &mut ahead);
            }
            let mut ahead = ahead.chunks(ahead.len().div_ceil(calls).max(1));
            for tap in task.taps.clone() {
                let input = input.as_ptr().wrapping_offset(self.layout.displacement(tap));
                for panel in task.panels.clone() {
                    for k in task.rows.clone().step_by(height) {
                        let mr = height.min(task.rows.end - k);
                        let row = tap * g.run + k;
                        let at = ((task.chunk * panels + panel) * depth + row) * nr;
                        // SAFETY: tasks own disjoint (chunk, panel, rows) parts of the sums.
                        let held = unsafe { sums.slice(at, mr * nr) }.as_mut_ptr();
                        let (to, stride) = match gradient.filter(|_| after == task.blocks.end) {
                            Some(gradient) => {
                                let at = row * columns + panel * nr;
                                (gradient.pointer().wrapping_add(at), *columns)
                            }
                            None => (held, *nr),
                        };
                        let adds = self.goes_on || block > task.blocks.start;
                        let soon = ahead.next().unwrap_or_default();
                        let args = GradientArgs {
                            steps: places.len(),
                            input: input.wrapping_add(k * PAIR),
                            stride: 0,
                            places: places.as_ptr(),
                            panel: output[self.layout.panel(block, panel)..].as_ptr(),
                            output: to,
                            output_stride: stride,
                            sums: if adds { held } else { std::ptr::null() },
                            sums_stride: *nr,
                            ahead: soon.as_ptr(),
                            ahead_len: soon.len(),
                        };
                        // SAFETY: each place, displaced by a tap of the gather, is that of a packed pixel, of which
                        // `g.run` pairs follow; the block holds as many steps of `nr` pairs. `held` is as long as
                        // the tile; the gradient has `mr` rows of `columns` from `row` on, of which whole
                        // panels exist, and tasks own disjoint rows or panels of it. The record's ISA was
                        // found available.
                        unsafe { (tiles.run[mr - 1])(&args) };
                    }
                }
            }
            std::mem::swap(&mut places, &mut next);
        }
    }

    /// Where a block's operands lie, as [`GradientArgs::ahead`] has it; the input of the middle tap, which others share.
    fn lines_of(
        &self,
        task: &Task,
        block: usize,
        [input, output]: [&[E]; 2],
        places: &[u32],
        lines: &mut Vec<*const u8>,
    ) {
        let l = &self.layout;
        for panel in task.panels.clone() {
            let from = &output[l.panel(block, panel)..][..places.len() * l.nr * PAIR];
            blocks_of(std::iter::once(from.as_ptr()), from.len(), lines);
        }
        let tap = (task.taps.start + task.taps.end) / 2;
        let input = input.as_ptr().wrapping_offset(l.displacement(tap));
        let input = input.wrapping_add(task.rows.start * PAIR);
        let input = places.iter().map(|&place| input.wrapping_add(place as usize));
        blocks_of(input, task.rows.len() * PAIR, lines);
    }
}

/// What one task multiplies.
struct Task {
    chunk: usize,
    /// Of steps.
    blocks: Range<usize>,
    taps: Range<usize>,
    /// Of each tap.
    rows: Range<usize>,
    panels: Range<usize>,
}
