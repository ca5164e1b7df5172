//! Passes over memory that no other kernel absorbed. Lengths are in elements; spans are padded to fours.

use super::{flag, kernel, pass, source, stored};
use crate::memory::Span;
use crate::program::Call;

#[derive(Clone, Copy, Default)]
struct Of {
    add: bool,
    accumulate: bool,
    mask: bool,
    relu: bool,
}

fn call(of: Of, len: usize, factor: f32, spans: &[&Span]) -> Call {
    let settings = vec![
        ("ADD", flag(of.add)),
        ("ACCUMULATE", flag(of.accumulate)),
        ("MASK", flag(of.mask)),
        ("RELU", flag(of.relu)),
        ("x", stored(spans[0])),
        ("y", stored(spans[1])),
    ];
    pass(kernel(source!("elementwise"), settings), len.div_ceil(4), &[factor.to_bits()], spans)
}

/// `y = x`, rounded to what `y` is stored as, then `max(y, 0)` with `relu`.
pub fn copy(len: usize, x: &Span, relu: bool, y: &Span) -> Call {
    call(Of { relu, ..Of::default() }, len, 1.0, &[x, y])
}

/// `y = a + b`, then `max(y, 0)` with `relu`.
pub fn add(len: usize, a: &Span, b: &Span, relu: bool, y: &Span) -> Call {
    call(Of { add: true, relu, ..Of::default() }, len, 1.0, &[a, y, b])
}

/// `y += factor x`
pub fn accumulate(len: usize, factor: f32, x: &Span, y: &Span) -> Call {
    call(Of { accumulate: true, ..Of::default() }, len, factor, &[x, y])
}

/// Zeroes `dy` where the ReLU output `y` is not positive.
pub fn relu_gradient(len: usize, y: &Span, dy: &Span) -> Call {
    call(Of { mask: true, ..Of::default() }, len, 1.0, &[y, dy])
}

/// Sets all words to the number with these bits.
pub fn fill(len: usize, bits: u32, y: &Span) -> Call {
    pass(kernel(source!("fill"), vec![]), len, &[bits], &[y])
}

/// Dropout with `seed`; the gradient is the same call on the gradient. The words of the seed are the parameters from
/// [`DROPOUT_SEED`] on.
pub fn dropout(len: usize, rate: f32, seed: u64, x: &Span, y: &Span) -> Call {
    let scale = 1.0 / (1.0 - rate);
    let rest = [rate.to_bits(), scale.to_bits(), seed as u32, (seed >> 32) as u32];
    pass(kernel(source!("dropout"), vec![("x", stored(x))]), len, &rest, &[x, y])
}

/// Where the parameters of [`dropout`] have its seed, the low half first.
pub const DROPOUT_SEED: usize = 4;
