//! Which rows of the source each output pixel of a convolution reads, and where it is written.

use crate::element::Element;
use crate::shape::ConvShape;

/// One implicit GEMM: output pixel `p` is the sum over taps of `source row(p, tap) x panel(tap)`.
#[derive(Clone, Debug)]
pub(crate) struct Gather {
    /// Images.
    pub batch: usize,
    /// Rows, columns and channels of the source.
    pub source: [usize; 3],
    /// Source pixels between neighbouring output pixels.
    pub step: isize,
    /// Source row and column of each tap, relative to `step * output pixel`.
    pub taps: Vec<[isize; 2]>,
    /// Elements read per tap; several pixels of the source where taps are neighbours in memory.
    pub run: usize,
    /// Rows and columns this GEMM computes.
    pub grid: [usize; 2],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Output pixels between neighbouring grid pixels.
    pub spread: usize,
    /// Output row and column of the first grid pixel.
    pub origin: [usize; 2],
}

impl Gather {
    /// The forward convolution.
    pub fn forward(s: &ConvShape) -> Gather {
        let grid = [s.out_height(), s.out_width()];
        let pad = s.padding() as isize;
        let (taps, run) = if s.padding() == 0 {
            // Without padding a kernel row is contiguous in memory.
            ((0..s.kernel()).map(|i| [i as isize, 0]).collect(), s.kernel() * s.in_channels())
        } else {
            let taps = (0..s.kernel() * s.kernel())
                .map(|t| [(t / s.kernel()) as isize - pad, (t % s.kernel()) as isize - pad])
                .collect();
            (taps, s.in_channels())
        };
        Gather {
            batch: s.batch(),
            source: [s.height(), s.width(), s.in_channels()],
            step: s.stride() as isize,
            taps,
            run,
            grid,
            output: grid,
            spread: 1,
            origin: [0, 0],
        }
    }

    /// The backward convolution to the input: one GEMM for each class of input pixels modulo the
    /// stride, with the kernel taps (row, column) that reach it.
    pub fn backward(s: &ConvShape) -> Vec<(Gather, Vec<[usize; 2]>)> {
        let mut parts = Vec::new();
        for y in 0..s.stride().min(s.height()) {
            for x in 0..s.stride().min(s.width()) {
                let (mut taps, mut kernel) = (Vec::new(), Vec::new());
                for i in 0..s.kernel() {
                    for j in 0..s.kernel() {
                        let dy = (y + s.padding()) as isize - i as isize;
                        let dx = (x + s.padding()) as isize - j as isize;
                        let stride = s.stride() as isize;
                        if dy.rem_euclid(stride) == 0 && dx.rem_euclid(stride) == 0 {
                            taps.push([dy.div_euclid(stride), dx.div_euclid(stride)]);
                            kernel.push([i, j]);
                        }
                    }
                }
                let gather = Gather {
                    batch: s.batch(),
                    source: [s.out_height(), s.out_width(), s.out_channels()],
                    step: 1,
                    taps,
                    run: s.out_channels(),
                    grid: [
                        (s.height() - y).div_ceil(s.stride()),
                        (s.width() - x).div_ceil(s.stride()),
                    ],
                    output: [s.height(), s.width()],
                    spread: s.stride(),
                    origin: [y, x],
                };
                parts.push((gather, kernel));
            }
        }
        parts
    }

    /// Output pixels this GEMM computes.
    pub fn pixels(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Taps, and elements of each.
    pub fn size(&self) -> [usize; 2] {
        [self.taps.len(), self.run]
    }

    /// Length of the reduction.
    pub fn depth(&self) -> usize {
        self.taps.len() * self.run
    }

    /// Splits a pixel number into image, row and column of the grid.
    fn locate(&self, pixel: usize) -> (usize, usize, usize) {
        let (row, x) = (pixel / self.grid[1], pixel % self.grid[1]);
        (row / self.grid[0], row % self.grid[0], x)
    }

    /// Numbers of the output pixels that the grid's pixels from `first` on are written to.
    pub fn output_pixels(&self, first: usize, count: usize) -> impl Iterator<Item = usize> {
        let [height, width] = self.grid;
        let (mut b, mut line, mut column) = self.locate(first);
        (0..count).map(move |_| {
            let (y, x) =
                (line * self.spread + self.origin[0], column * self.spread + self.origin[1]);
            let pixel = (b * self.output[0] + y) * self.output[1] + x;
            (column, line) = if column + 1 < width { (column + 1, line) } else { (0, line + 1) };
            (line, b) = if line < height { (line, b) } else { (0, b + 1) };
            pixel
        })
    }

    /// Appends pointers to the source rows of `count` pixels from `first` on, for taps
    /// `taps.start..taps.end`, in the order `[pixel / mr][tap][pixel % mr]`; a last incomplete
    /// group repeats its last pixel. Rows outside of the source point to `zeros`.
    ///
    /// # Panics
    /// If a row would not lie within `source`, or `zeros` is shorter than a row.
    #[allow(clippy::too_many_arguments)]
    pub fn rows<E>(
        &self,
        source: &[E],
        zeros: &[E],
        first: usize,
        count: usize,
        taps: std::ops::Range<usize>,
        mr: usize,
        rows: &mut Vec<*const E>,
    ) {
        let [height, width, channels] = self.source;
        assert_eq!(source.len(), self.batch * height * width * channels, "source length");
        assert!(first + count <= self.pixels(), "pixels outside of the grid");
        let taps = &self.taps[taps];
        let groups = count.div_ceil(mr);
        if *taps == [[0, 0]] && self.step == 1 && self.grid == [height, width] && count > 0 {
            let at = |pixel: usize| pixel * channels;
            let from = source[at(first)..at(first + count - 1) + self.run].as_ptr();
            rows.extend((0..groups * mr).map(|i| from.wrapping_add(at(i.min(count - 1)))));
            return;
        }
        let base = rows.len();
        rows.resize(base + groups * taps.len() * mr, std::ptr::null());
        if count == 0 || taps.is_empty() {
            return;
        }
        let [height, width] = [height as isize, width as isize];
        let reach = |axis: usize| {
            let of = taps.iter().map(|tap| tap[axis]);
            (of.clone().min().unwrap_or(0), of.max().unwrap_or(0))
        };
        let (down, across) = (reach(0), reach(1));
        // Elements from the first tap of all to each tap.
        let top =
            |[dy, dx]: [isize; 2]| ((dy - down.0) * width + dx - across.0) as usize * channels;
        let places: Vec<usize> = taps.iter().map(|&tap| top(tap)).collect();
        let span = top([down.1, across.1]) + self.run;
        let first_tap = down.0 * width + across.0;
        let (mut b, mut line, mut column) = self.locate(first);
        for i in 0..groups * mr {
            let (y, x) = (line as isize * self.step, column as isize * self.step);
            let pixel = (b as isize * height + y) * width + x;
            let group = base + i / mr * taps.len() * mr + i % mr;
            let to = rows[group..].iter_mut().step_by(mr);
            if y + down.0 >= 0 && y + down.1 < height && x + across.0 >= 0 && x + across.1 < width {
                let from = source[(pixel + first_tap) as usize * channels..][..span].as_ptr();
                for (to, &at) in to.zip(&places) {
                    *to = from.wrapping_add(at);
                }
            } else {
                for (to, &[dy, dx]) in to.zip(taps) {
                    let (r, c) = (y + dy, x + dx);
                    // A choice of values, not of ways: which it is no processor can foresee.
                    let inside = (r >= 0) & (c >= 0) & (r < height) & (c < width);
                    let at = ((pixel + dy * width + dx) as usize).wrapping_mul(channels);
                    let (from, at) = if inside { (source, at) } else { (zeros, 0) };
                    *to = from[at..][..self.run].as_ptr();
                }
            }
            if i + 1 < count {
                column += 1;
                if column == self.grid[1] {
                    (line, column) = (line + 1, 0);
                }
                if line == self.grid[0] {
                    (b, line) = (b + 1, 0);
                }
            }
        }
    }

    /// Zeros for [`Gather::rows`]; empty when every tap lies inside of the source.
    pub fn zeros<E: Element>(&self) -> Vec<E> {
        let reach = |axis: usize| {
            let last = (self.grid[axis] as isize - 1) * self.step;
            self.taps.iter().any(|t| t[axis] < 0 || last + t[axis] >= self.source[axis] as isize)
        };
        if reach(0) || reach(1) { vec![E::default(); self.run] } else { Vec::new() }
    }
}
