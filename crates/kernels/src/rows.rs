//! Loops over rows of channels that store elements: rounded a block at a time where the CPU has an instruction for it.

use crate::element::Element;

/// Elements of a block: a cache line of halves.
pub(crate) const BLOCK: usize = 32;

/// How a block of floats is rounded to elements.
pub(crate) trait Rounding: Copy {
    fn store<E: Element>(self, from: &[f32; BLOCK], to: &mut [E; BLOCK]);
}

/// As [`Element::from_f32`] does.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Rounding for Plain {
    #[inline(always)]
    fn store<E: Element>(self, from: &[f32; BLOCK], to: &mut [E; BLOCK]) {
        for (to, &x) in to.iter_mut().zip(from) {
            *to = E::from_f32(x);
        }
    }
}

/// As AVX512-BF16 does: the same but for denormal floats, which become zero.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Native(());

#[cfg(target_arch = "x86_64")]
impl Native {
    /// # Safety
    /// The CPU runs AVX512-BF16.
    pub unsafe fn new() -> Native {
        Native(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Rounding for Native {
    #[inline(always)]
    fn store<E: Element>(self, from: &[f32; BLOCK], to: &mut [E; BLOCK]) {
        // SAFETY: who made `self` knew that the CPU runs the instruction.
        unsafe { E::round_block(from, to) }
    }
}

/// [`vectorize!`](crate::simd::vectorize), with the CPU's way of rounding in the body as `$round`.
macro_rules! vectorize_rounding {
    ($isa:expr, |$round:ident| $body:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Isa::Avx512Bf16 | $crate::isa::Isa::Amx => {
                // SAFETY: a `Compute` exists only for instruction sets that the CPU runs.
                let $round = unsafe { $crate::rows::Native::new() };
                $crate::simd::vectorize!($crate::isa::Isa::Avx512Bf16, $body)
            }
            isa => {
                let $round = $crate::rows::Plain;
                $crate::simd::vectorize!(isa, $body)
            }
        }
    };
}
pub(crate) use vectorize_rounding;

/// `to = f(inputs, parameters, to)` for each element of rows of `channels`: `inputs` laid out as `to`, `parameters` for each
/// channel.
///
/// # Panics
/// If an input or parameter is too short.
#[inline(always)]
pub(crate) fn map<E: Element, const N: usize, const P: usize>(
    round: impl Rounding,
    channels: usize,
    inputs: [&[E]; N],
    parameters: [&[f32]; P],
    to: &mut [E],
    f: impl Fn([f32; N], [f32; P], f32) -> f32,
) {
    let whole = channels / BLOCK;
    for (r, row) in to.chunks_exact_mut(channels).enumerate() {
        let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
        let mut from: [&[E]; N] = inputs;
        for from in &mut from {
            *from = &from[r * channels..][..channels];
        }
        let mut of: [&[[E; BLOCK]]; N] = [&[]; N];
        for (of, from) in of.iter_mut().zip(from) {
            *of = &from.as_chunks().0[..whole];
        }
        let mut by: [&[[f32; BLOCK]]; P] = [&[]; P];
        for (by, parameter) in by.iter_mut().zip(parameters) {
            *by = &parameter.as_chunks().0[..whole];
        }
        for (j, to) in blocks[..whole].iter_mut().enumerate() {
            let mut results = [0.0; BLOCK];
            for (i, result) in results.iter_mut().enumerate() {
                let (mut x, mut p) = ([0.0; N], [0.0; P]);
                for (x, of) in x.iter_mut().zip(of) {
                    *x = of[j][i].to_f32();
                }
                for (p, by) in p.iter_mut().zip(by) {
                    *p = by[j][i];
                }
                *result = f(x, p, to[i].to_f32());
            }
            round.store(&results, to);
        }
        let count = rest.len();
        let from = from.map(
            #[inline(always)]
            |from| &from[channels - count..][..count],
        );
        let parameters = parameters.map(
            #[inline(always)]
            |of| &of[channels - count..][..count],
        );
        for (i, to) in rest.iter_mut().enumerate() {
            let (mut x, mut p) = ([0.0; N], [0.0; P]);
            for (x, from) in x.iter_mut().zip(from) {
                *x = from[i].to_f32();
            }
            for (p, parameter) in p.iter_mut().zip(parameters) {
                *p = parameter[i];
            }
            *to = E::from_f32(f(x, p, to.to_f32()));
        }
    }
}
