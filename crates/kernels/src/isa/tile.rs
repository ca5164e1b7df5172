//! One register tile for the convolutions and one for the kernel gradient, generic over how the
//! instruction set multiplies elements.

// Registers are indexed by constants once the loops are unrolled; iterators hide that.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use crate::bf16::Bf16;
use crate::prefetch::prefetch;

/// Most lanes of any [`Vector`].
const MOST_LANES: usize = 16;

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

    /// # Safety
    /// `LANES` elements can be read at `from`.
    #[inline(always)]
    unsafe fn load_bf16(from: *const Bf16) -> Self {
        let mut floats = [0.0; MOST_LANES];
        for i in 0..Self::LANES {
            // SAFETY: by the caller's contract.
            floats[i] = unsafe { from.add(i).read() }.value();
        }
        // SAFETY: no vector has more lanes than the array.
        unsafe { Self::load(floats.as_ptr()) }
    }

    /// # Safety
    /// `LANES` elements can be written at `to`.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut Bf16) {
        let mut floats = [0.0; MOST_LANES];
        // SAFETY: no vector has more lanes than the array.
        unsafe { self.store(floats.as_mut_ptr()) };
        for i in 0..Self::LANES {
            // SAFETY: by the caller's contract.
            unsafe { to.add(i).write(Bf16::nearest(floats[i])) };
        }
    }
}

/// How elements are multiplied and summed: `DEPTH` of them at a time for each lane of the sum.
pub(super) trait Arithmetic {
    type Element: Copy;
    type Sum: Vector;
    type Operand: Copy;
    /// Neighbours in the reduction that one multiplication takes in.
    const DEPTH: usize;

    /// The nearest element.
    fn element(x: f32) -> Self::Element;
    /// The same `DEPTH` elements in every lane.
    ///
    /// # Safety
    /// The CPU runs the instruction set, and `DEPTH` elements can be read at `from`.
    unsafe fn broadcast(from: *const Self::Element) -> Self::Operand;
    /// The element at `from`, then zeros.
    ///
    /// # Safety
    /// As above, for one element.
    unsafe fn broadcast_one(from: *const Self::Element) -> Self::Operand;
    /// `DEPTH` elements for each lane, lane by lane.
    ///
    /// # Safety
    /// As above, for `Sum::LANES * DEPTH` elements.
    unsafe fn panel(from: *const Self::Element) -> Self::Operand;
    /// Adds the products of `a` and `b` to `sum`.
    ///
    /// # Safety
    /// The CPU runs the instruction set.
    unsafe fn multiply(sum: Self::Sum, a: Self::Operand, b: Self::Operand) -> Self::Sum;
    /// # Safety
    /// As above, and `Sum::LANES` elements can be read at `from`.
    unsafe fn load(from: *const Self::Element) -> Self::Sum;
    /// # Safety
    /// As above, and `Sum::LANES` elements can be written at `to`.
    unsafe fn store(sum: Self::Sum, to: *mut Self::Element);
}

/// Floats, multiplied as they are.
pub(super) struct Single<V>(PhantomData<V>);

// SAFETY of every method: the traits' contracts are the same.
impl<V: Vector> Arithmetic for Single<V> {
    type Element = f32;
    type Sum = V;
    type Operand = V;
    const DEPTH: usize = 1;

    #[inline(always)]
    fn element(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const f32) -> V {
        unsafe { V::splat(*from) }
    }
    #[inline(always)]
    unsafe fn broadcast_one(from: *const f32) -> V {
        unsafe { V::splat(*from) }
    }
    #[inline(always)]
    unsafe fn panel(from: *const f32) -> V {
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn multiply(sum: V, a: V, b: V) -> V {
        unsafe { sum.fma(a, b) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> V {
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn store(sum: V, to: *mut f32) {
        unsafe { sum.store(to) }
    }
}

/// bfloat16 made floats before it is multiplied, for CPUs without an instruction for it.
pub(super) struct Widened<V>(PhantomData<V>);

// SAFETY of every method: the traits' contracts are the same.
impl<V: Vector> Arithmetic for Widened<V> {
    type Element = Bf16;
    type Sum = V;
    type Operand = V;
    const DEPTH: usize = 1;

    #[inline(always)]
    fn element(x: f32) -> Bf16 {
        Bf16::nearest(x)
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const Bf16) -> V {
        unsafe { V::splat((*from).value()) }
    }
    #[inline(always)]
    unsafe fn broadcast_one(from: *const Bf16) -> V {
        unsafe { V::splat((*from).value()) }
    }
    #[inline(always)]
    unsafe fn panel(from: *const Bf16) -> V {
        unsafe { V::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn multiply(sum: V, a: V, b: V) -> V {
        unsafe { sum.fma(a, b) }
    }
    #[inline(always)]
    unsafe fn load(from: *const Bf16) -> V {
        unsafe { V::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store(sum: V, to: *mut Bf16) {
        unsafe { sum.store_bf16(to) }
    }
}

/// What one convolution tile reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct TileArgs<E> {
    /// `taps x MR` pointers to rows of the input.
    pub rows: *const *const E,
    /// Kernel taps.
    pub taps: usize,
    /// Elements skipped at the start of every row.
    pub offset: usize,
    /// Elements read from every row.
    pub run: usize,
    /// Packed kernel panel: for each tap, `run` rounded up to the arithmetic's depth, times `NR`.
    pub panel: *const E,
    /// Start of the output at the tile's first column, as of `residual`, `mask` and `factor`.
    pub output: *mut E,
    /// Where each of the MR output rows starts, counted from `output`.
    pub output_rows: *const usize,
    /// Whether the tile adds to what the output holds.
    pub accumulate: bool,
    /// NR values added to every row, or null.
    pub bias: *const f32,
    /// Added element by element, laid out as the output, or null.
    pub residual: *const E,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Results become zero where this is not positive; laid out as the output, or null.
    pub mask: *const E,
    /// Receives NR column sums of the results, then NR of the results times `factor`, as they are before
    /// they are rounded; or null.
    pub sums: *mut f32,
    /// Laid out as the output, or null for the results themselves.
    pub factor: *const E,
    /// Where [`blocks`](crate::prefetch::blocks_of) of memory lie, which need not exist, to ask for while this tile
    /// multiplies: one at every step of the reduction, as asking for more at a time makes the tile wait.
    pub ahead: *const *const u8,
    /// How many of them.
    pub ahead_len: usize,
}

impl<E> Default for TileArgs<E> {
    /// No reduction, and nothing but sums in the output.
    fn default() -> TileArgs<E> {
        TileArgs {
            rows: std::ptr::null(),
            taps: 0,
            offset: 0,
            run: 0,
            panel: std::ptr::null(),
            output: std::ptr::null_mut(),
            output_rows: std::ptr::null(),
            accumulate: false,
            bias: std::ptr::null(),
            residual: std::ptr::null(),
            relu: false,
            mask: std::ptr::null(),
            sums: std::ptr::null_mut(),
            factor: std::ptr::null(),
            ahead: std::ptr::null(),
            ahead_len: 0,
        }
    }
}

/// What one tile of the kernel gradient reads and writes.
pub(crate) struct GradientArgs<E> {
    /// Steps of the reduction: pixels, or groups of the arithmetic's depth of them.
    pub steps: usize,
    /// Input of the first step at the tile's first row; for each row the step's pixels are neighbours.
    pub input: *const E,
    /// Elements between the inputs of two steps.
    pub stride: usize,
    /// Elements from `input` to that of each step, or null where `stride` says it.
    pub places: *const u32,
    /// Output gradient, `steps x NR`; for each column the step's pixels are neighbours.
    pub panel: *const E,
    /// The tile's first row in the kernel gradient.
    pub output: *mut f32,
    /// Distance between rows of the kernel gradient.
    pub output_stride: usize,
    /// What to add to, which may be the output; or null.
    pub sums: *const f32,
    /// Distance between their rows.
    pub sums_stride: usize,
    /// As [`TileArgs::ahead`].
    pub ahead: *const *const u8,
    /// How many of them.
    pub ahead_len: usize,
}

/// `MR x (NV * LANES)` outputs: `epilogue(rows * panel)`.
///
/// # Safety
/// The CPU runs the instruction set; every pointer of `t` is valid for what its field says.
#[inline(always)]
pub(super) unsafe fn convolve<A: Arithmetic, const MR: usize, const NV: usize>(
    t: &TileArgs<A::Element>,
) {
    // SAFETY: all accesses are those the fields of `TileArgs` promise; see the caller's contract.
    unsafe {
        let lanes = A::Sum::LANES;
        let mut acc = [[A::Sum::splat(0.0); NV]; MR];
        let mut panel = t.panel;
        let mut ahead = t.ahead;
        let end = ahead.add(t.ahead_len);
        for tap in 0..t.taps {
            let rows: [*const A::Element; MR] =
                std::array::from_fn(|r| (*t.rows.add(tap * MR + r)).add(t.offset));
            for k in 0..t.run / A::DEPTH {
                if ahead < end {
                    prefetch(*ahead);
                    ahead = ahead.add(1);
                }
                let b: [A::Operand; NV] =
                    std::array::from_fn(|v| A::panel(panel.add(v * lanes * A::DEPTH)));
                for r in 0..MR {
                    let a = A::broadcast(rows[r].add(k * A::DEPTH));
                    for v in 0..NV {
                        acc[r][v] = A::multiply(acc[r][v], a, b[v]);
                    }
                }
                panel = panel.add(NV * lanes * A::DEPTH);
            }
            if t.run % A::DEPTH != 0 {
                let b: [A::Operand; NV] =
                    std::array::from_fn(|v| A::panel(panel.add(v * lanes * A::DEPTH)));
                for r in 0..MR {
                    let a = A::broadcast_one(rows[r].add(t.run - 1));
                    for v in 0..NV {
                        acc[r][v] = A::multiply(acc[r][v], a, b[v]);
                    }
                }
                panel = panel.add(NV * lanes * A::DEPTH);
            }
        }
        finish::<A, MR, NV>(t, 0, acc);
    }
}

/// The epilogue of `MR` rows of a tile from the `first`th on: adds, rectifies, masks, sums and writes what was
/// multiplied.
///
/// # Safety
/// As for [`convolve`].
#[inline(always)]
pub(super) unsafe fn finish<A: Arithmetic, const MR: usize, const NV: usize>(
    t: &TileArgs<A::Element>,
    first: usize,
    mut acc: [[A::Sum; NV]; MR],
) {
    // SAFETY: as there.
    unsafe {
        let lanes = A::Sum::LANES;
        // Each register takes the same branches; unrolled, so that none of them is ever indexed.
        macro_rules! each {
            (|$x:ident, $at:ident, $v:ident| $body:expr) => {
                for r in 0..MR {
                    let row = *t.output_rows.add(first + r);
                    for $v in 0..NV {
                        let $at = row + $v * lanes;
                        let $x = acc[r][$v];
                        acc[r][$v] = $body;
                    }
                }
            };
        }
        if t.accumulate {
            each!(|x, at, v| x.add(A::load(t.output.add(at))));
        }
        if !t.bias.is_null() {
            let bias: [A::Sum; NV] = std::array::from_fn(|v| A::Sum::load(t.bias.add(v * lanes)));
            each!(|x, _at, v| x.add(bias[v]));
        }
        if !t.residual.is_null() {
            each!(|x, at, v| x.add(A::load(t.residual.add(at))));
        }
        if t.relu {
            each!(|x, _at, v| x.relu());
        }
        if !t.mask.is_null() {
            each!(|x, at, v| x.keep_where_positive(A::load(t.mask.add(at))));
        }
        if !t.sums.is_null() {
            for v in 0..NV {
                let (low, high) = (t.sums.add(v * lanes), t.sums.add((NV + v) * lanes));
                let (mut sum, mut product) = (A::Sum::load(low), A::Sum::load(high));
                for r in 0..MR {
                    sum = sum.add(acc[r][v]);
                }
                if t.factor.is_null() {
                    for r in 0..MR {
                        product = product.fma(acc[r][v], acc[r][v]);
                    }
                } else {
                    for r in 0..MR {
                        let at = *t.output_rows.add(first + r) + v * lanes;
                        product = product.fma(acc[r][v], A::load(t.factor.add(at)));
                    }
                }
                sum.store(low);
                product.store(high);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            let row = *t.output_rows.add(first + r);
            for (v, &acc) in acc.iter().enumerate() {
                A::store(acc, t.output.add(row + v * lanes));
            }
        }
    }
}

/// `MR x (NV * LANES)` elements of the kernel gradient: the sum over pixels of row times panel.
///
/// # Safety
/// As for [`convolve`].
#[inline(always)]
pub(super) unsafe fn gradient<A: Arithmetic, const MR: usize, const NV: usize>(
    t: &GradientArgs<A::Element>,
) {
    // SAFETY: all accesses are those the fields of `GradientArgs` promise.
    unsafe {
        let lanes = A::Sum::LANES;
        let mut acc = [[A::Sum::splat(0.0); NV]; MR];
        let (mut panel, mut input, mut ahead) = (t.panel, t.input, t.ahead);
        let end = ahead.add(t.ahead_len);
        macro_rules! step {
            ($input:expr) => {
                if ahead < end {
                    prefetch(*ahead);
                    ahead = ahead.add(1);
                }
                let b: [A::Operand; NV] =
                    std::array::from_fn(|v| A::panel(panel.add(v * lanes * A::DEPTH)));
                for r in 0..MR {
                    let a = A::broadcast($input.add(r * A::DEPTH));
                    for v in 0..NV {
                        acc[r][v] = A::multiply(acc[r][v], a, b[v]);
                    }
                }
                panel = panel.add(NV * lanes * A::DEPTH);
            };
        }
        if t.places.is_null() {
            for _ in 0..t.steps {
                step!(input);
                // Past the last step the pointer may leave the input; it is not read there.
                input = input.wrapping_add(t.stride);
            }
        } else {
            for step in 0..t.steps {
                let input = input.wrapping_add(*t.places.add(step) as usize);
                step!(input);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, &acc) in acc.iter().enumerate() {
                let (held, to) = (r * t.sums_stride + v * lanes, r * t.output_stride + v * lanes);
                let x = match t.sums.is_null() {
                    true => acc,
                    false => acc.add(A::Sum::load(t.sums.add(held))),
                };
                x.store(t.output.add(to));
            }
        }
    }
}

/// Rounds of `N` independent multiply-adds; returns the floating-point operations done.
///
/// # Safety
/// The CPU runs the instruction set.
#[inline(always)]
pub(super) unsafe fn peak<A: Arithmetic, const N: usize>(rounds: u64) -> u64 {
    let elements = |x: f32| std::hint::black_box([A::element(x); 2 * MOST_LANES]);
    let (a, b) = (elements(1.0), elements(1e-4));
    // SAFETY: by the caller's contract; no operand has more elements than these arrays.
    unsafe {
        let (a, b) = (A::broadcast(a.as_ptr()), A::panel(b.as_ptr()));
        let mut acc = [A::Sum::splat(0.0); N];
        for _ in 0..rounds {
            for x in &mut acc {
                *x = A::multiply(*x, a, b);
            }
        }
        let mut sum = acc[0];
        for &x in &acc[1..] {
            sum = sum.add(x);
        }
        let mut out = [0.0; MOST_LANES];
        sum.store(out.as_mut_ptr());
        std::hint::black_box(out);
    }
    rounds * (N * A::Sum::LANES * A::DEPTH * 2) as u64
}
