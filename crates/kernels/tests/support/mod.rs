//! Noise and comparison for the contract tests.
#![allow(dead_code)]

use headstart_kernels::element::{DType, Element};
use headstart_kernels::isa::Isa;
use headstart_kernels::table::Compute;

/// Uniform in -1..1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Fails unless every element is within `tolerance` of `want`; NaN is never close.
#[track_caller]
pub fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let ok = (f64::from(g) - w).abs() <= tolerance;
        assert!(ok, "{what}: element {i} is {g}, expected {w} within {tolerance:e}");
    }
}

/// Noise as elements, and what they stand for.
pub fn elements<E: Element>(len: usize, seed: u64) -> (Vec<E>, Vec<f32>) {
    let stored: Vec<E> = noise(len, seed).into_iter().map(E::from_f32).collect();
    let values = stored.iter().map(|x| x.to_f32()).collect();
    (stored, values)
}

/// Fails unless every element is within `tolerance` of `want`, and what rounding to an element adds.
#[track_caller]
pub fn near<E: Element>(what: &str, got: &[E], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g.to_f32());
        let bound = tolerance + (w.abs() + tolerance) * unit_roundoff::<E>();
        let dtype = E::DTYPE.name();
        assert!(
            (g - w).abs() <= bound,
            "{what} {dtype}: element {i} is {g}, expected {w} within {bound:e}"
        );
    }
}

/// Largest relative error of rounding to an element: half the distance of 1 to its successor. Rounding
/// a float to a float adds nothing.
pub fn unit_roundoff<E: Element>() -> f64 {
    match E::DTYPE {
        DType::F32 => 0.0,
        DType::Bf16 => 1.0 / 256.0,
    }
}

/// Runs `test` on every instruction set of this CPU, with one, two and three threads.
pub fn each_compute(test: impl Fn(&Compute)) {
    let mut ran = 0;
    for isa in Isa::ALL {
        if !isa.available() {
            println!("skipped: this CPU does not run {isa}");
            continue;
        }
        for threads in [1, 2, 3] {
            test(&Compute::with_isa(threads, isa).unwrap());
        }
        ran += 1;
    }
    assert!(ran > 0, "no instruction set was tested");
}

/// The bits of `f`'s result must be those of one thread for any number of threads.
#[track_caller]
pub fn same_bits(f: impl Fn(&Compute) -> Vec<f32>) {
    let bits = |threads| {
        let result = f(&Compute::new(threads).unwrap());
        result.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let one = bits(1);
    assert!(one == bits(2) && one == bits(3), "bits depend on the number of threads");
}
