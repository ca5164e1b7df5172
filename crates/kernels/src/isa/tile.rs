//! One register tile for the convolutions and one for the kernel gradient, generic over the vector.

// Registers are indexed by constants once the loops are unrolled; iterators hide that.
#![allow(clippy::needless_range_loop)]

/// A register of floats. Its methods are inlined into functions compiled for its instruction set.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// # Safety
    /// The CPU runs this instruction set; so for every method here.
    unsafe fn splat(x: f32) -> Self;
    /// # Safety
    /// `LANES` floats can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `LANES` floats can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// `a * b + self`
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// `max(self, 0)`, NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// `self` where `mask > 0`, else zero.
    unsafe fn keep_where_positive(self, mask: Self) -> Self;
}

/// What one convolution tile reads and writes.
pub(crate) struct TileArgs {
    /// `taps x MR` pointers to rows of the input.
    pub rows: *const *const f32,
    /// Kernel taps.
    pub taps: usize,
    /// Floats skipped at the start of every row.
    pub offset: usize,
    /// Floats read from every row.
    pub run: usize,
    /// Packed kernel panel, `taps * run x NR`.
    pub panel: *const f32,
    /// Start of the output, and of `residual` and `mask`, at the tile's first column.
    pub output: *mut f32,
    /// Where each of the MR output rows starts, counted from `output`.
    pub output_rows: *const usize,
    /// Whether the tile adds to what the output holds.
    pub accumulate: bool,
    /// NR values added to every row, or null.
    pub bias: *const f32,
    /// Added element by element, laid out as the output, or null.
    pub residual: *const f32,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Results become zero where this is not positive; laid out as the output, or null.
    pub mask: *const f32,
}

/// What one tile of the kernel gradient reads and writes.
pub(crate) struct GradientArgs {
    /// One pointer per pixel to its input row, `stride` apart.
    pub rows: *const *const f32,
    /// Distance between the pointers of consecutive pixels.
    pub stride: usize,
    /// First float of the row that this tile uses.
    pub offset: usize,
    /// Pixels.
    pub pixels: usize,
    /// Output gradient, `pixels x NR`.
    pub panel: *const f32,
    /// The tile's first row in the kernel gradient.
    pub output: *mut f32,
    /// Distance between rows of the kernel gradient.
    pub output_stride: usize,
    /// Whether the tile adds to what the output holds.
    pub accumulate: bool,
}

/// `MR x (NV * LANES)` outputs: `epilogue(rows * panel)`.
///
/// # Safety
/// The CPU runs V's instruction set; every pointer of `t` is valid for what its field says.
#[inline(always)]
pub(super) unsafe fn convolve<V: Vector, const MR: usize, const NV: usize>(t: &TileArgs) {
    // SAFETY: all accesses are those the fields of `TileArgs` promise; see the caller's contract.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; MR];
        let mut panel = t.panel;
        for tap in 0..t.taps {
            let rows: [*const f32; MR] =
                std::array::from_fn(|r| (*t.rows.add(tap * MR + r)).add(t.offset));
            for k in 0..t.run {
                let b: [V; NV] = std::array::from_fn(|v| V::load(panel.add(v * V::LANES)));
                for r in 0..MR {
                    let a = V::splat(*rows[r].add(k));
                    for v in 0..NV {
                        acc[r][v] = acc[r][v].fma(a, b[v]);
                    }
                }
                panel = panel.add(NV * V::LANES);
            }
        }
        // Each register takes the same branches; unrolled, so that none of them is ever indexed.
        macro_rules! each {
            (|$x:ident, $at:ident, $v:ident| $body:expr) => {
                for r in 0..MR {
                    let row = *t.output_rows.add(r);
                    for $v in 0..NV {
                        let $at = row + $v * V::LANES;
                        let $x = acc[r][$v];
                        acc[r][$v] = $body;
                    }
                }
            };
        }
        if t.accumulate {
            each!(|x, at, v| x.add(V::load(t.output.add(at))));
        }
        if !t.bias.is_null() {
            let bias: [V; NV] = std::array::from_fn(|v| V::load(t.bias.add(v * V::LANES)));
            each!(|x, _at, v| x.add(bias[v]));
        }
        if !t.residual.is_null() {
            each!(|x, at, v| x.add(V::load(t.residual.add(at))));
        }
        if t.relu {
            each!(|x, _at, v| x.relu());
        }
        if !t.mask.is_null() {
            each!(|x, at, v| x.keep_where_positive(V::load(t.mask.add(at))));
        }
        for (r, acc) in acc.iter().enumerate() {
            let row = *t.output_rows.add(r);
            for (v, acc) in acc.iter().enumerate() {
                acc.store(t.output.add(row + v * V::LANES));
            }
        }
    }
}

/// `MR x (NV * LANES)` elements of the kernel gradient: the sum over pixels of row times panel.
///
/// # Safety
/// As for [`convolve`].
#[inline(always)]
pub(super) unsafe fn gradient<V: Vector, const MR: usize, const NV: usize>(t: &GradientArgs) {
    // SAFETY: all accesses are those the fields of `GradientArgs` promise.
    unsafe {
        let mut acc = [[V::splat(0.0); NV]; MR];
        let mut panel = t.panel;
        let mut rows = t.rows;
        for _ in 0..t.pixels {
            let row = (*rows).add(t.offset);
            let b: [V; NV] = std::array::from_fn(|v| V::load(panel.add(v * V::LANES)));
            for r in 0..MR {
                let a = V::splat(*row.add(r));
                for v in 0..NV {
                    acc[r][v] = acc[r][v].fma(a, b[v]);
                }
            }
            panel = panel.add(NV * V::LANES);
            rows = rows.add(t.stride);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                let to = t.output.add(r * t.output_stride + v * V::LANES);
                let x = if t.accumulate { acc.add(V::load(to)) } else { acc };
                x.store(to);
            }
        }
    }
}

/// Rounds of `N` independent multiply-adds; returns the floating-point operations done.
///
/// # Safety
/// The CPU runs V's instruction set.
#[inline(always)]
pub(super) unsafe fn peak<V: Vector, const N: usize>(rounds: u64) -> u64 {
    // SAFETY: by the caller's contract.
    unsafe {
        let mut acc: [V; N] = std::array::from_fn(|i| V::splat(i as f32 * 1e-3));
        let a = V::splat(std::hint::black_box(0.999_9));
        let b = V::splat(std::hint::black_box(1e-4));
        for _ in 0..rounds {
            for x in &mut acc {
                *x = b.fma(*x, a);
            }
        }
        let mut sum = acc[0];
        for &x in &acc[1..] {
            sum = sum.add(x);
        }
        let mut out = [0.0; 64];
        sum.store(out.as_mut_ptr());
        std::hint::black_box(out);
    }
    rounds * (N * V::LANES * 2) as u64
}
