//! Tiles in plain Rust.

use super::record::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles, ready};
use super::tile::{Arithmetic, GradientArgs, Single, TileArgs, Vector, convolve, gradient, peak};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use crate::bf16::Bf16;

#[derive(Clone, Copy)]
struct F32x4([f32; 4]);

impl Vector for F32x4 {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        F32x4([x; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: four floats can be read, by the trait's contract.
        F32x4(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: four floats can be written, by the trait's contract.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // `f32::mul_add` would call a library routine where the baseline has no FMA.
        F32x4(std::array::from_fn(|i| a.0[i] * b.0[i] + self.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        F32x4(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        F32x4(self.0.map(|x| if x < 0.0 { 0.0 } else { x }))
    }
    #[inline(always)]
    unsafe fn keep_where_positive(self, mask: Self) -> Self {
        F32x4(std::array::from_fn(|i| if mask.0[i] > 0.0 { self.0[i] } else { 0.0 }))
    }
}

/// bfloat16 taken in pairs, as `VDPBF16PS` takes them, and so packed the same way: on every machine the tests see what
/// pairs bring with them.
struct Pairs;

// SAFETY of every method: the trait's contract is what each access needs.
impl Arithmetic for Pairs {
    type Element = Bf16;
    type Sum = F32x4;
    type Operand = [F32x4; 2];
    const DEPTH: usize = 2;

    #[inline(always)]
    fn element(x: f32) -> Bf16 {
        Bf16::nearest(x)
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const Bf16) -> [F32x4; 2] {
        unsafe { [F32x4([(*from).value(); 4]), F32x4([(*from.add(1)).value(); 4])] }
    }
    #[inline(always)]
    unsafe fn broadcast_one(from: *const Bf16) -> [F32x4; 2] {
        unsafe { [F32x4([(*from).value(); 4]), F32x4([0.0; 4])] }
    }
    #[inline(always)]
    unsafe fn panel(from: *const Bf16) -> [F32x4; 2] {
        let pairs = unsafe { from.cast::<[Bf16; 8]>().read_unaligned() };
        [0, 1].map(|k| F32x4(std::array::from_fn(|lane| pairs[2 * lane + k].value())))
    }
    #[inline(always)]
    unsafe fn multiply(sum: F32x4, a: [F32x4; 2], b: [F32x4; 2]) -> F32x4 {
        unsafe { sum.fma(a[0], b[0]).fma(a[1], b[1]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const Bf16) -> F32x4 {
        unsafe { F32x4::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store(sum: F32x4, to: *mut Bf16) {
        unsafe { sum.store_bf16(to) }
    }
}

unsafe fn tile<A: Arithmetic, const MR: usize, const NV: usize>(t: &TileArgs<A::Element>) {
    // SAFETY: plain Rust runs everywhere; pointers by the caller's contract.
    unsafe { convolve::<A, MR, NV>(t) }
}

unsafe fn rows<A: Arithmetic, const MR: usize, const NV: usize>(t: &GradientArgs<A::Element>) {
    // SAFETY: as above.
    unsafe { gradient::<A, MR, NV>(t) }
}

unsafe fn registers<A: Arithmetic>(rounds: u64) -> u64 {
    // SAFETY: plain Rust runs everywhere.
    unsafe { peak::<A, 12>(rounds) }
}

unsafe fn winograd_input(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::input::<F32x4>(t) }
}

unsafe fn winograd_gradient(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::gradient::<F32x4>(t) }
}

unsafe fn winograd_output(t: &CollectArgs) {
    // SAFETY: as above.
    unsafe { winograd::output::<F32x4>(t) }
}

type F32 = Single<F32x4>;

const WINOGRAD: Transforms =
    Transforms { input: winograd_input, gradient: winograd_gradient, output: winograd_output };

pub(super) static RECORD: Record = Record {
    isa: Isa::Portable,
    f32: Kernels {
        depth: 1,
        wide: Tile { mr: 4, nr: 8, run: tile::<F32, 4, 2> },
        narrow: Tile { mr: 4, nr: 8, run: tile::<F32, 4, 2> },
        gradient: &[gradient_tiles!(rows, F32, 8 = 2 vectors, rows 1 2 3 4)],
        pixels: 128,
        peak: registers::<F32>,
        begin: ready,
        end: ready,
    },
    bf16: Kernels {
        depth: 2,
        wide: Tile { mr: 4, nr: 8, run: tile::<Pairs, 4, 2> },
        narrow: Tile { mr: 6, nr: 4, run: tile::<Pairs, 6, 1> },
        gradient: &[
            gradient_tiles!(rows, Pairs, 4 = 1 vectors, rows 1 2 3 4 5 6),
            gradient_tiles!(rows, Pairs, 8 = 2 vectors, rows 1 2 3 4),
        ],
        pixels: 128,
        peak: registers::<Pairs>,
        begin: ready,
        end: ready,
    },
    winograd: WINOGRAD,
};
