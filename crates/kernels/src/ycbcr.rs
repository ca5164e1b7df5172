//! Colours of JPEG files (ITU-R BT.601, full range) in whole numbers.

use crate::isa::Isa;
use crate::simd::{vectorize, words_of};

/// Fractional bits.
const PLACES: u32 = 20;
/// What sums begin with, so that shifting rounds.
const HALF: i32 = 1 << (PLACES - 1);
/// Pixels converted at a time, whose words stay in the first-level cache.
const BLOCK: usize = 256;

/// A factor with its fractional bits.
const fn fixed(factor: f32) -> i32 {
    (factor * (1 << PLACES) as f32 + 0.5) as i32
}

/// Turns pixels of Y, Cb and Cr into red, green and blue: `r = y + 1.402 cr`, `g = y - 0.34414 cb - 0.71414 cr`,
/// `b = y + 1.772 cb` with `cb` and `cr` less 128, rounded and clamped, to the bits of the `jpeg-decoder` crate. What is left of
/// a last pixel stays.
///
/// # Panics
/// If the CPU has not the instruction set.
pub fn to_rgb(isa: Isa, pixels: &mut [u8]) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    let mut words = [0; BLOCK];
    for pixels in pixels.as_chunks_mut::<3>().0.chunks_mut(BLOCK) {
        let words = &mut words[..pixels.len()];
        words_of(pixels.as_flattened(), words.iter_mut());
        vectorize!(isa, words.iter_mut().for_each(convert));
        let bytes = pixels.as_flattened_mut();
        let last = bytes.len() - 3;
        for (word, at) in words.iter().zip((0..last).step_by(3)) {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[last..].copy_from_slice(&words[words.len() - 1].to_le_bytes()[..3]);
    }
}

/// Converts a pixel, the lowest byte first; the highest means nothing.
#[inline(always)]
fn convert(word: &mut u32) {
    let part = |shift: u32| (*word >> shift & 255) as i32;
    let y = (part(0) << PLACES) + HALF;
    let (cb, cr) = (part(8) - 128, part(16) - 128);
    let byte = |sum: i32| (sum >> PLACES).clamp(0, 255) as u32;
    let red = byte(y + fixed(1.402) * cr);
    let green = byte(y - fixed(0.34414) * cb - fixed(0.71414) * cr);
    let blue = byte(y + fixed(1.772) * cb);
    *word = red | green << 8 | blue << 16;
}
