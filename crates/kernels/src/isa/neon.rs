//! Tiles for NEON (Advanced SIMD), which every 64-bit Arm has.

use std::arch::aarch64::*;

use super::tile::{GradientArgs, TileArgs, Vector, convolve, gradient, peak};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use super::{GradientTiles, Isa, Record, Tile};

#[derive(Clone, Copy)]
struct F32x4(float32x4_t);

// SAFETY of every method: the trait's contract gives the instruction set and the readable or
// writable floats.
impl Vector for F32x4 {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { F32x4(vdupq_n_f32(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { F32x4(vld1q_f32(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe { F32x4(vfmaq_f32(self.0, a.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { F32x4(vaddq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // FMAX returns NaN when an operand is NaN; FMAXNM would not.
        unsafe { F32x4(vmaxq_f32(self.0, vdupq_n_f32(0.0))) }
    }
    #[inline(always)]
    unsafe fn keep_where_positive(self, mask: Self) -> Self {
        unsafe {
            let positive = vcgtq_f32(mask.0, vdupq_n_f32(0.0));
            F32x4(vreinterpretq_f32_u32(vandq_u32(positive, vreinterpretq_u32_f32(self.0))))
        }
    }
}

// 24 of the 32 registers hold sums, 4 the panel's row, 1 the input's float.
#[target_feature(enable = "neon")]
unsafe fn wide(t: &TileArgs) {
    // SAFETY: the caller's contract; the feature is enabled here.
    unsafe { convolve::<F32x4, 6, 4>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn gradient_rows<const MR: usize>(t: &GradientArgs) {
    // SAFETY: as above.
    unsafe { gradient::<F32x4, MR, 4>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn winograd_input(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::input::<F32x4>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn winograd_gradient(t: &SpreadArgs) {
    // SAFETY: as above.
    unsafe { winograd::gradient::<F32x4>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn winograd_output(t: &CollectArgs) {
    // SAFETY: as above.
    unsafe { winograd::output::<F32x4>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn peak_loop(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<F32x4, 24>(rounds) }
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Neon,
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
