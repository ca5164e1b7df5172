//! Which source pixels the outputs over an upsampled image see, and the kernels summed by source pixel.

use crate::element::Element;
use crate::shape::ConvShape;

/// Tasks the work is cut into, where its shape allows.
pub(super) const TASKS: usize = 16;

/// Rows or columns: which source pixels an output sees.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// Output rows or columns.
    pub outputs: usize,
    /// Output `o` starts at the same place within a pixel as `o + phases`.
    pub phases: usize,
    /// Source pixels that an output sees, at most.
    pub taps: usize,
    /// First source pixel of each phase's first output, counting the zeros before the image.
    pub first: Vec<usize>,
    /// Source pixels from an output to the next of its phase.
    pub step: usize,
    /// For each phase, the tap that each kernel row falls on.
    pub falls: Vec<usize>,
    /// Source pixels of zeros before the image.
    pub before: usize,
    /// Source pixels with the zeros before and after.
    pub length: usize,
}

impl Axis {
    pub fn new(s: &ConvShape, source: usize, outputs: usize) -> Axis {
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
    pub fn count(&self, phase: usize) -> usize {
        self.outputs.saturating_sub(phase).div_ceil(self.phases)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// A convolution with its kernels summed by source pixel.
pub(super) struct Folded<'a> {
    pub shape: &'a ConvShape,
    pub rows: Axis,
    pub columns: Axis,
    /// Elements of a source row that an output sees.
    pub run: usize,
}

impl Folded<'_> {
    pub fn new(shape: &ConvShape) -> Folded<'_> {
        let rows = Axis::new(shape, shape.height(), shape.out_height());
        let columns = Axis::new(shape, shape.width(), shape.out_width());
        let run = columns.taps * shape.in_channels();
        Folded { shape, rows, columns, run }
    }

    /// Pairs of phases.
    pub fn phases(&self) -> usize {
        self.rows.phases * self.columns.phases
    }

    /// The reduction of all pairs of phases: taps, and elements of each.
    pub fn size(&self) -> [usize; 2] {
        [self.phases() * self.rows.taps, self.run]
    }

    /// Calls `f` for every pair of phases and kernel element (row and column): where its row of `in_channels x
    /// out_channels` lies in the kernel, and in the folded kernels.
    pub fn each(&self, mut f: impl FnMut(usize, usize)) {
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
    pub fn pad<E: Element>(&self, image: &[E]) -> Vec<E> {
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
