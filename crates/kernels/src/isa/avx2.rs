//! Tiles for AVX2 with FMA.

use std::arch::x86_64::*;

use super::tile::{GradientArgs, TileArgs, Vector, convolve, gradient, peak};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use super::{GradientTiles, Isa, Record, Tile};

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
unsafe fn wide(t: &TileArgs) {
    // SAFETY: the caller's contract; the features are enabled here.
    unsafe { convolve::<F32x8, 6, 2>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn gradient_rows<const MR: usize>(t: &GradientArgs) {
    // SAFETY: as above.
    unsafe { gradient::<F32x8, MR, 2>(t) }
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

#[target_feature(enable = "avx2,fma")]
unsafe fn peak_loop(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<F32x8, 12>(rounds) }
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Avx2,
    wide: Tile { mr: 6, nr: 16, run: wide },
    narrow: Tile { mr: 6, nr: 16, run: wide },
    gradient: &[GradientTiles {
        nr: 16,
        run: &[
            gradient_rows::<1>,
            gradient_rows::<2>,
            gradient_rows::<3>,
            gradient_rows::<4>,
            gradient_rows::<5>,
            gradient_rows::<6>,
        ],
    }],
    winograd: Transforms {
        input: winograd_input,
        gradient: winograd_gradient,
        output: winograd_output,
    },
    peak: peak_loop,
};
