//! Tiles for NEON (Advanced SIMD), which every 64-bit Arm has.

use std::arch::aarch64::*;

use super::record::{GradientTiles, Isa, Kernels, Record, Tile, gradient_tiles, ready};
use super::tile::{
    Arithmetic, GradientArgs, Single, TileArgs, Vector, Widened, convolve, gradient, peak,
};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};

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
unsafe fn tile<A: Arithmetic, const MR: usize, const NV: usize>(t: &TileArgs<A::Element>) {
    // SAFETY: the caller's contract; the feature is enabled here.
    unsafe { convolve::<A, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn rows<A: Arithmetic, const MR: usize, const NV: usize>(t: &GradientArgs<A::Element>) {
    // SAFETY: as above.
    unsafe { gradient::<A, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn registers<A: Arithmetic>(rounds: u64) -> u64 {
    // SAFETY: as above.
    unsafe { peak::<A, 24>(rounds) }
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

type F32 = Single<F32x4>;
type Half = Widened<F32x4>;

const WINOGRAD: Transforms =
    Transforms { input: winograd_input, gradient: winograd_gradient, output: winograd_output };

pub(super) static RECORD: Record = Record {
    isa: Isa::Neon,
    f32: Kernels {
        depth: 1,
        wide: Tile { mr: 6, nr: 16, run: tile::<F32, 6, 4> },
        narrow: Tile { mr: 6, nr: 16, run: tile::<F32, 6, 4> },
        gradient: &[gradient_tiles!(rows, F32, 16 = 4 vectors, rows 1 2 3 4 5 6)],
        pixels: 128,
        peak: registers::<F32>,
        begin: ready,
        end: ready,
    },
    bf16: Kernels {
        depth: 1,
        wide: Tile { mr: 6, nr: 16, run: tile::<Half, 6, 4> },
        narrow: Tile { mr: 6, nr: 16, run: tile::<Half, 6, 4> },
        gradient: &[gradient_tiles!(rows, Half, 16 = 4 vectors, rows 1 2 3 4 5 6)],
        pixels: 128,
        peak: registers::<Half>,
        begin: ready,
        end: ready,
    },
    winograd: WINOGRAD,
};
