//! Colours of JPEG files (ITU-R BT.601, full range) in whole numbers.

use crate::isa::Isa;
use crate::simd::vectorize;

/// Fractional bits.
const PLACES: u32 = 20;
/// What sums begin with, so that shifting rounds.
const HALF: i32 = 1 << (PLACES - 1);
/// Pixels converted at a time.
const BLOCK: usize = 32;

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
    vectorize!(isa, {
        let (blocks, rest) = pixels.as_chunks_mut::<{ 3 * BLOCK }>();
        for block in blocks {
            convert(block);
        }
        let mut last = [0; 3 * BLOCK];
        let whole = rest.len() / 3 * 3;
        last[..whole].copy_from_slice(&rest[..whole]);
        convert(&mut last);
        rest[..whole].copy_from_slice(&last[..whole]);
    });
}

#[inline(always)]
fn convert(pixels: &mut [u8; 3 * BLOCK]) {
    let mut planes = [[0i32; BLOCK]; 3];
    for i in 0..BLOCK {
        for (c, plane) in planes.iter_mut().enumerate() {
            plane[i] = i32::from(pixels[3 * i + c]);
        }
    }
    let mut bytes = [[0u8; BLOCK]; 3];
    for i in 0..BLOCK {
        let y = (planes[0][i] << PLACES) + HALF;
        let (cb, cr) = (planes[1][i] - 128, planes[2][i] - 128);
        let byte = |sum: i32| (sum >> PLACES).clamp(0, 255) as u8;
        bytes[0][i] = byte(y + fixed(1.402) * cr);
        bytes[1][i] = byte(y - fixed(0.34414) * cb - fixed(0.71414) * cr);
        bytes[2][i] = byte(y + fixed(1.772) * cb);
    }
    for i in 0..BLOCK {
        for (c, bytes) in bytes.iter().enumerate() {
            pixels[3 * i + c] = bytes[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_the_rounded_sum_on_every_instruction_set() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for y in 0..=255u8 {
                let pair = |i: u32| [y, (i >> 8) as u8, i as u8];
                let mut pixels: Vec<u8> = (0..65536).flat_map(pair).collect();
                to_rgb(isa, &mut pixels);
                for (i, got) in (0..65536).zip(pixels.as_chunks::<3>().0) {
                    let [y, cb, cr] = pair(i).map(f64::from);
                    let (cb, cr) = (cb - 128.0, cr - 128.0);
                    let sums = [y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb];
                    for (got, sum) in got.iter().zip(sums) {
                        let away = (f64::from(*got) - sum.clamp(0.0, 255.0)).abs();
                        assert!(away <= 0.501, "{isa}: {y} {cb} {cr}: {got}, not {sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_number_of_pixels_is_converted() {
        for count in [0, 1, 31, 32, 33, 70] {
            let mut pixels = vec![128; 3 * count + 2];
            pixels.iter_mut().step_by(3).for_each(|y| *y = 7);
            let mut want = vec![7; 3 * count];
            want.extend([7, 128]);
            to_rgb(Isa::best(), &mut pixels);
            assert_eq!(pixels, want);
        }
    }
}
