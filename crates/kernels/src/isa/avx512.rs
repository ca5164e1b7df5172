//! Tiles for AVX-512F.

use std::arch::x86_64::*;

use super::tile::{GradientArgs, TileArgs, Vector, convolve, gradient, peak};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use super::{GradientTiles, Isa, Record, Tile};

#[derive(Clone, Copy)]
struct F32x16(__m512);

// SAFETY of every method: the trait's contract gives the instruction set and the readable or
// writable floats.
impl Vector for F32x16 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { F32x16(_mm512_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { F32x16(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe { F32x16(_mm512_fmadd_ps(a.0, b.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { F32x16(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction returns its second operand when one is NaN.
        unsafe { F32x16(_mm512_max_ps(_mm512_setzero_ps(), self.0)) }
    }
    #[inline(always)]
    unsafe fn keep_where_positive(self, mask: Self) -> Self {
        unsafe {
            F32x16(_mm512_maskz_mov_ps(
                _mm512_cmp_ps_mask::<_CMP_GT_OQ>(mask.0, _mm512_setzero_ps()),
                self.0,
            ))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn wide(t: &TileArgs) {
    // SAFETY: the caller's contract; the features are enabled here.
    unsafe { convolve::<F32x16, 6, 4>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn narrow(t: &TileArgs) {
    // SAFETY: as above.
    unsafe { convolve::<F32x16, 14, 1>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn gradient_rows<const MR: usize, const NV: usize>(t: &GradientArgs) {
    // SAFETY: as above.
    unsafe { gradient::<F32x16, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn winograd_input(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::input::<F32x16>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn winograd_gradient(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::gradient::<F32x16>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn winograd_output(t: &CollectArgs) {
    // SAFETY: as above.
    unsafe { winograd::output::<F32x16>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn peak_loop(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<F32x16, 24>(rounds) }
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Avx512,
    wide: Tile { mr: 6, nr: 64, run: wide },
    narrow: Tile { mr: 14, nr: 16, run: narrow },
    gradient: &[
        GradientTiles {
            nr: 16,
            run: &[
                gradient_rows::<1, 1>,
                gradient_rows::<2, 1>,
                gradient_rows::<3, 1>,
                gradient_rows::<4, 1>,
                gradient_rows::<5, 1>,
                gradient_rows::<6, 1>,
                gradient_rows::<7, 1>,
                gradient_rows::<8, 1>,
                gradient_rows::<9, 1>,
                gradient_rows::<10, 1>,
                gradient_rows::<11, 1>,
                gradient_rows::<12, 1>,
                gradient_rows::<13, 1>,
                gradient_rows::<14, 1>,
                gradient_rows::<15, 1>,
                gradient_rows::<16, 1>,
            ],
        },
        GradientTiles {
            nr: 32,
            run: &[
                gradient_rows::<1, 2>,
                gradient_rows::<2, 2>,
                gradient_rows::<3, 2>,
                gradient_rows::<4, 2>,
                gradient_rows::<5, 2>,
                gradient_rows::<6, 2>,
                gradient_rows::<7, 2>,
                gradient_rows::<8, 2>,
                gradient_rows::<9, 2>,
                gradient_rows::<10, 2>,
                gradient_rows::<11, 2>,
                gradient_rows::<12, 2>,
            ],
        },
        GradientTiles {
            nr: 64,
            run: &[
                gradient_rows::<1, 4>,
                gradient_rows::<2, 4>,
                gradient_rows::<3, 4>,
                gradient_rows::<4, 4>,
                gradient_rows::<5, 4>,
                gradient_rows::<6, 4>,
            ],
        },
    ],
    winograd: Transforms {
        input: winograd_input,
        gradient: winograd_gradient,
        output: winograd_output,
    },
    peak: peak_loop,
};
