//! Tiles for AVX-512 with BF16: `VDPBF16PS` adds the products of two pairs of bfloat16 to each float.
//! It takes denormals as zero and writes none.

use std::arch::x86_64::*;

use super::avx512::{F32x16, SINGLE, WINOGRAD};
use super::record::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles, ready};
use super::tile::{Arithmetic, GradientArgs, TileArgs, Vector, convolve, gradient, peak};
use crate::bf16::Bf16;

/// Pairs of bfloat16, multiplied and summed by one instruction.
pub(super) struct Pairs;

// SAFETY of every method: the trait's contract gives the instruction set and the readable or
// writable elements. The two vector types are the same 64 bytes.
impl Arithmetic for Pairs {
    type Element = Bf16;
    type Sum = F32x16;
    type Operand = __m512i;
    const DEPTH: usize = 2;

    #[inline(always)]
    fn element(x: f32) -> Bf16 {
        Bf16::nearest(x)
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const Bf16) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn broadcast_one(from: *const Bf16) -> __m512i {
        unsafe { _mm512_set1_epi32(i32::from((*from).0)) }
    }
    #[inline(always)]
    unsafe fn panel(from: *const Bf16) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn multiply(sum: F32x16, a: __m512i, b: __m512i) -> F32x16 {
        unsafe {
            let pairs = std::mem::transmute::<__m512i, __m512bh>;
            let (a, b) = (pairs(a), pairs(b));
            F32x16(_mm512_dpbf16_ps(sum.0, a, b))
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const Bf16) -> F32x16 {
        unsafe { F32x16::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store(sum: F32x16, to: *mut Bf16) {
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sum.0));
            _mm256_storeu_si256(to.cast(), halves);
        }
    }
}

/// Rounds floats to the nearest bfloat16.
///
/// # Safety
/// The CPU runs AVX512-BF16.
#[inline(always)]
pub(crate) unsafe fn round_block(from: &[f32; 32], to: &mut [Bf16; 32]) {
    // SAFETY: by the caller's contract; the arrays are as long as two registers and one.
    unsafe {
        let [low, high] = [0, 16].map(|at| _mm512_loadu_ps(from.as_ptr().add(at)));
        let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(to.as_mut_ptr().cast(), halves);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn tile<const MR: usize, const NV: usize>(t: &TileArgs<Bf16>) {
    // SAFETY: the caller's contract; the features are enabled here.
    unsafe { convolve::<Pairs, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn rows<A: Arithmetic, const MR: usize, const NV: usize>(t: &GradientArgs<A::Element>) {
    // SAFETY: as above.
    unsafe { gradient::<A, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn registers(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<Pairs, 24>(rounds) }
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Avx512Bf16,
    f32: SINGLE,
    bf16: Kernels {
        depth: Pairs::DEPTH,
        wide: Tile { mr: 6, nr: 64, run: tile::<6, 4> },
        narrow: Tile { mr: 14, nr: 16, run: tile::<14, 1> },
        gradient: &[
            gradient_tiles!(rows, Pairs, 16 = 1 vectors, rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            gradient_tiles!(rows, Pairs, 32 = 2 vectors, rows 1 2 3 4 5 6 7 8 9 10 11 12),
            gradient_tiles!(rows, Pairs, 64 = 4 vectors, rows 1 2 3 4 5 6),
        ],
        pixels: 128,
        peak: registers,
        begin: ready,
        end: ready,
    },
    winograd: WINOGRAD,
};
