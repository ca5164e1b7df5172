//! Tiles for AVX2 with FMA.

use std::arch::x86_64::*;

use super::record::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles, ready};
use super::tile::{
    Arithmetic, GradientArgs, Single, TileArgs, Vector, Widened, convolve, gradient, peak,
};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};

#[derive(Clone, Copy)]
struct F32x8(__m256);

// SAFETY of every method: the trait's contract gives the instruction set and the readable or
// writable floats.
impl Vector for F32x8 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { F32x8(_mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { F32x8(_mm256_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe { F32x8(_mm256_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { F32x8(_mm256_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction returns its second operand when one is NaN.
        unsafe { F32x8(_mm256_max_ps(_mm256_setzero_ps(), self.0)) }
    }
    #[inline(always)]
    unsafe fn keep_where_positive(self, mask: Self) -> Self {
        unsafe {
            F32x8(_mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(mask.0, _mm256_setzero_ps()), self.0))
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<A: Arithmetic, const MR: usize, const NV: usize>(t: &TileArgs<A::Element>) {
    // SAFETY: the caller's contract; the features are enabled here.
    unsafe { convolve::<A, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn rows<A: Arithmetic, const MR: usize, const NV: usize>(t: &GradientArgs<A::Element>) {
    // SAFETY: as above.
    unsafe { gradient::<A, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn registers<A: Arithmetic>(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<A, 12>(rounds) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn winograd_input(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::input::<F32x8>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn winograd_gradient(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::gradient::<F32x8>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn winograd_output(t: &CollectArgs) {
    // SAFETY: as above.
    unsafe { winograd::output::<F32x8>(t) }
}

type F32 = Single<F32x8>;
type Half = Widened<F32x8>;

const WINOGRAD: Transforms =
    Transforms { input: winograd_input, gradient: winograd_gradient, output: winograd_output };

pub(super) static RECORD: Record = Record {
    isa: Isa::Avx2,
    f32: Kernels {
        depth: 1,
        wide: Tile { mr: 6, nr: 16, run: tile::<F32, 6, 2> },
        narrow: Tile { mr: 6, nr: 16, run: tile::<F32, 6, 2> },
        gradient: &[gradient_tiles!(rows, F32, 16 = 2 vectors, rows 1 2 3 4 5 6)],
        pixels: 128,
        peak: registers::<F32>,
        begin: ready,
        end: ready,
    },
    bf16: Kernels {
        depth: 1,
        wide: Tile { mr: 6, nr: 16, run: tile::<Half, 6, 2> },
        narrow: Tile { mr: 6, nr: 16, run: tile::<Half, 6, 2> },
        gradient: &[gradient_tiles!(rows, Half, 16 = 2 vectors, rows 1 2 3 4 5 6)],
        pixels: 128,
        peak: registers::<Half>,
        begin: ready,
        end: ready,
    },
    winograd: WINOGRAD,
};
