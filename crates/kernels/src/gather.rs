//! Which rows of the source each output pixel of a convolution reads, and where it is written.

use crate::conv::ConvShape;
use crate::element::Element;

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
        let pad = s.padding as isize;
        let (taps, run) = if s.padding == 0 {
            // Without padding a kernel row is contiguous in memory.
            ((0..s.kernel).map(|i| [i as isize, 0]).collect(), s.kernel * s.in_channels)
        } else {
            let taps = (0..s.kernel * s.kernel)
                .map(|t| [(t / s.kernel) as isize - pad, (t % s.kernel) as isize - pad])
                .collect();
            (taps, s.in_channels)
        };
        Gather {
            batch: s.batch,
            source: [s.height, s.width, s.in_channels],
            step: s.stride as isize,
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
        for y in 0..s.stride.min(s.height) {
            for x in 0..s.stride.min(s.width) {
                let (mut taps, mut kernel) = (Vec::new(), Vec::new());
                for i in 0..s.kernel {
                    for j in 0..s.kernel {
                        let dy = (y + s.padding) as isize - i as isize;
                        let dx = (x + s.padding) as isize - j as isize;
                        let stride = s.stride as isize;
                        if dy.rem_euclid(stride) == 0 && dx.rem_euclid(stride) == 0 {
                            taps.push([dy.div_euclid(stride), dx.div_euclid(stride)]);
                            kernel.push([i, j]);
                        }
                    }
                }
                let gather = Gather {
                    batch: s.batch,
                    source: [s.out_height(), s.out_width(), s.out_channels],
                    step: 1,
                    taps,
                    run: s.out_channels,
                    grid: [(s.height - y).div_ceil(s.stride), (s.width - x).div_ceil(s.stride)],
                    output: [s.height, s.width],
                    spread: s.stride,
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

    /// Number of the output pixel that grid pixel `pixel` is written to.
    pub fn output_pixel(&self, pixel: usize) -> usize {
        let (b, y, x) = self.locate(pixel);
        let (y, x) = (y * self.spread + self.origin[0], x * self.spread + self.origin[1]);
        (b * self.output[0] + y) * self.output[1] + x
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
        let base = rows.len();
        rows.resize(base + groups * taps.len() * mr, std::ptr::null());
        let [height, width] = [height as isize, width as isize];
        let reach = |axis: usize| {
            let of = taps.iter().map(|tap| tap[axis]);
            (of.clone().min().unwrap_or(0), of.max().unwrap_or(0))
        };
        let (down, across) = (reach(0), reach(1));
        if count == 0 {
            return;
        }
        let (mut b, mut line, mut column) = self.locate(first);
        for i in 0..groups * mr {
            let (y, x) = (line as isize * self.step, column as isize * self.step);
            let pixel = (b as isize * height + y) * width + x;
            let inside =
                y + down.0 >= 0 && y + down.1 < height && x + across.0 >= 0 && x + across.1 < width;
            let group = base + i / mr * taps.len() * mr + i % mr;
            for (t, &[dy, dx]) in taps.iter().enumerate() {
                let (r, c) = (y + dy, x + dx);
                let row = if inside || r >= 0 && c >= 0 && r < height && c < width {
                    let at = (pixel + dy * width + dx) as usize * channels;
                    &source[at..at + self.run]
                } else {
                    &zeros[..self.run]
                };
                rows[group + t * mr] = row.as_ptr();
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
