//! Tiles in plain Rust.

use super::tile::{GradientArgs, TileArgs, Vector, convolve, gradient, peak};
use super::winograd::{self, CollectArgs, SpreadArgs, Transforms};
use super::{GradientTiles, Isa, Record, Tile};

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

unsafe fn wide(t: &TileArgs) {
    // SAFETY: plain Rust runs everywhere; pointers by the caller's contract.
    unsafe { convolve::<F32x4, 4, 2>(t) }
}

unsafe fn gradient_rows<const MR: usize>(t: &GradientArgs) {
    // SAFETY: as above.
    unsafe { gradient::<F32x4, MR, 2>(t) }
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

unsafe fn peak_loop(rounds: u64) -> u64 {
    // SAFETY: plain Rust runs everywhere.
    unsafe { peak::<F32x4, 12>(rounds) }
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Portable,
    wide: Tile { mr: 4, nr: 8, run: wide },
    narrow: Tile { mr: 4, nr: 8, run: wide },
    gradient: &[GradientTiles {
        nr: 8,
        run: &[gradient_rows::<1>, gradient_rows::<2>, gradient_rows::<3>, gradient_rows::<4>],
    }],
    winograd: Transforms {
        input: winograd_input,
        gradient: winograd_gradient,
        output: winograd_output,
    },
    peak: peak_loop,
};
