//! Numbers for the contract tests.
#![allow(dead_code)]

use headstart_kernels::element::Element;

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

/// Noise as elements, and what they stand for.
pub fn elements<E: Element>(len: usize, seed: u64) -> (Vec<E>, Vec<f32>) {
    let stored: Vec<E> = noise(len, seed).into_iter().map(E::from_f32).collect();
    let values = stored.iter().map(|x| x.to_f32()).collect();
    (stored, values)
}
