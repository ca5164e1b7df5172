//! What tiles are checked with: numbers at random, and whether two results are the same. Lengths are in words of 32 bits.

use super::{kernel, pass, source};
use crate::memory::Span;
use crate::program::Call;

/// Numbers at random, which follow from `seed`.
pub fn noise(len: usize, seed: u32, y: &Span) -> Call {
    pass(kernel(source!("noise"), vec![]), len, &[seed], &[y])
}

/// Adds to `count` how many words of `a` are not those of `b`.
pub fn differ(len: usize, a: &Span, b: &Span, count: &Span) -> Call {
    pass(kernel(source!("differ"), vec![]), len, &[], &[a, b, count])
}
