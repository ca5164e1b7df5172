//! Tiles for AVX-512F.

use std::arch::x86_64::*;

use super::record::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles, ready};
use super::tile::{
    Arithmetic, GradientArgs, Single, TileArgs, Vector, Widened, convolve, gradient, peak,
};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use crate::bf16::Bf16;

#[derive(Clone, Copy)]
pub(super) struct F32x16(pub(super) __m512);

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
    #[inline(always)]
    unsafe fn load_bf16(from: *const Bf16) -> Self {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            F32x16(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn tile<A: Arithmetic, const MR: usize, const NV: usize>(t: &TileArgs<A::Element>) {
    // SAFETY: the caller's contract; the features are enabled here.
    unsafe { convolve::<A, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn rows<A: Arithmetic, const MR: usize, const NV: usize>(t: &GradientArgs<A::Element>) {
    // SAFETY: as above.
    unsafe { gradient::<A, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn registers<A: Arithmetic>(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<A, 24>(rounds) }
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

type F32 = Single<F32x16>;
type Half = Widened<F32x16>;

/// The kernels for floats, which every set above this one shares.
pub(super) const SINGLE: Kernels<f32> = Kernels {
    depth: 1,
    wide: Tile { mr: 6, nr: 64, run: tile::<F32, 6, 4> },
    narrow: Tile { mr: 14, nr: 16, run: tile::<F32, 14, 1> },
    gradient: &[
        gradient_tiles!(rows, F32, 16 = 1 vectors, rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        gradient_tiles!(rows, F32, 32 = 2 vectors, rows 1 2 3 4 5 6 7 8 9 10 11 12),
        gradient_tiles!(rows, F32, 64 = 4 vectors, rows 1 2 3 4 5 6),
    ],
    pixels: 128,
    peak: registers::<F32>,
    begin: ready,
    end: ready,
};

/// The transforms, which every set above this one shares.
pub(super) const WINOGRAD: Transforms =
    Transforms { input: winograd_input, gradient: winograd_gradient, output: winograd_output };

pub(super) static RECORD: Record = Record {
    isa: Isa::Avx512,
    f32: SINGLE,
    bf16: Kernels {
        depth: 1,
        wide: Tile { mr: 6, nr: 64, run: tile::<Half, 6, 4> },
        narrow: Tile { mr: 14, nr: 16, run: tile::<Half, 14, 1> },
        gradient: &[
            gradient_tiles!(rows, Half, 16 = 1 vectors, rows 1 2 3 4 5 6 7 8 9 10 11 12),
            gradient_tiles!(rows, Half, 64 = 4 vectors, rows 1 2 3 4 5 6),
        ],
        pixels: 128,
        peak: registers::<Half>,
        begin: ready,
        end: ready,
    },
    winograd: WINOGRAD,
};
