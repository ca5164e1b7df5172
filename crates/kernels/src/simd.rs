//! Compiles loops once per instruction set, so that the compiler vectorises each for its own.

use crate::isa::Isa;

/// Runs a block, compiled for an instruction set. Closures in it, and functions it calls, are compiled for it
/// only where they are `#[inline(always)]`; the others keep the baseline's narrow registers.
macro_rules! vectorize {
    ($isa:expr, $body:expr) => {
        $crate::simd::run_for(
            $isa,
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use vectorize;

/// What [`vectorize`] does; `f` must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn run_for<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Compute` exists only for instruction sets that the CPU runs.
        Isa::Avx2 => unsafe { avx2(f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512(f) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Bf16 | Isa::Amx => unsafe { avx512bf16(f) },
        // The baseline of 64-bit Arm has NEON.
        _ => f(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn avx512bf16<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Writes RGB pixels as words, red in the lowest byte; the highest means nothing. Each is read with the byte after it, as single
/// bytes would be moved one by one. Not to be compiled for an instruction set, whose gathers are slower.
pub(crate) fn words_of<'a>(pixels: &[u8], mut to: impl Iterator<Item = &'a mut u32>) {
    for pixel in pixels.windows(4).step_by(3) {
        let Some(to) = to.next() else { return };
        *to = u32::from_le_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]);
    }
    // The last has no byte after it.
    if let (Some(to), [.., red, green, blue]) = (to.next(), pixels) {
        *to = u32::from_le_bytes([*red, *green, *blue, 0]);
    }
}
