use crate::isa::Isa;
use crate::simd::vectorize;

/// Fractional bits.
const PLACES: u32 = 16;
const HALF: i32 = 1 << (PLACES - 1);
/// Pixels converted at a time, whose words stay in the first-level cache.
const BLOCK: usize = 256;

/// A factor with its fractional bits.
const fn fixed(factor: f64) -> i32 {
    (factor * (1 << PLACES) as f64 + 0.5) as i32
}

/// Turns a row of Y, Cb and Cr into RGB pixels (ITU-R BT.601, full range): `r = y + 1.402 cr`,
/// `g = y - 0.34414 cb - 0.71414 cr`, `b = y + 1.772 cb` with `cb` and `cr` less 128. What is added to `y` is rounded, then the
/// sum clamped, as in libjpeg's `ycc_rgb_convert`.
///
/// # Panics
/// If the CPU has not the instruction set, or the lengths are not `n`, `n`, `n` and `3 n`.
pub fn ycc_to_rgb(isa: Isa, [y, cb, cr]: [&[u8]; 3], rgb: &mut [u8]) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert!(y.len() == cb.len() && y.len() == cr.len(), "lengths of Y, Cb and Cr");
    assert!(rgb.len() / 3 == y.len() && rgb.len().is_multiple_of(3), "output length");
    let mut words = [0; BLOCK];
    let planes = y.chunks(BLOCK).zip(cb.chunks(BLOCK)).zip(cr.chunks(BLOCK));
    for (((y, cb), cr), rgb) in planes.zip(rgb.chunks_mut(3 * BLOCK)) {
        let words = &mut words[..y.len()];
        vectorize!(isa, {
            for (((word, &y), &cb), &cr) in words.iter_mut().zip(y).zip(cb).zip(cr) {
                *word = convert(y, cb, cr);
            }
        });
        // Words overlap, so that each is one store; the last must end with its pixel.
        let last = rgb.len() - 3;
        for (word, at) in words.iter().zip((0..last).step_by(3)) {
            rgb[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        rgb[last..].copy_from_slice(&words[words.len() - 1].to_le_bytes()[..3]);
    }
}

/// A pixel, red in the lowest byte; the highest means nothing.
#[inline(always)]
fn convert(y: u8, cb: u8, cr: u8) -> u32 {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let byte = |sum: i32| (y + (sum >> PLACES)).clamp(0, 255) as u32;
    let red = byte(fixed(1.402) * cr + HALF);
    let green = byte(HALF - fixed(0.34414) * cb - fixed(0.71414) * cr);
    let blue = byte(fixed(1.772) * cb + HALF);
    red | green << 8 | blue << 16
}
