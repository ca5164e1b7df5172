//! Tiles in plain Rust.

use super::tile::{
    Arithmetic, GradientArgs, Single, TileArgs, Vector, Widened, convolve, gradient, peak,
};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use super::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles};

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
type Half = Widened<F32x4>;

const WINOGRAD: Transforms =
    Transforms { input: winograd_input, gradient: winograd_gradient, output: winograd_output };

pub(super) static RECORD: Record = Record {
    isa: Isa::Portable,
    f32: Kernels {
        depth: 1,
        wide: Tile { mr: 4, nr: 8, run: tile::<F32, 4, 2> },
        narrow: Tile { mr: 4, nr: 8, run: tile::<F32, 4, 2> },
        gradient: &[gradient_tiles!(rows, F32, 8 = 2 vectors, rows 1 2 3 4)],
        peak: registers::<F32>,
    },
    bf16: Kernels {
        depth: 1,
        wide: Tile { mr: 4, nr: 8, run: tile::<Half, 4, 2> },
        narrow: Tile { mr: 4, nr: 8, run: tile::<Half, 4, 2> },
        gradient: &[gradient_tiles!(rows, Half, 8 = 2 vectors, rows 1 2 3 4)],
        peak: registers::<Half>,
    },
    winograd: WINOGRAD,
};
