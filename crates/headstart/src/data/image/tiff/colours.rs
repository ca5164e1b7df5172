//! From samples to RGB.

use super::super::jpeg::inks_to_rgb;
use super::Meaning;

/// The pixels of `samples`, as many for each pixel as `meaning` uses. `map` has the colours of a palette: all reds, then all
/// greens, then all blues, of 16 bits.
pub(super) fn rgb(
    samples: Vec<u8>,
    meaning: Meaning,
    map: &[u64],
    bits: u8,
) -> Result<Vec<u8>, String> {
    Ok(match meaning {
        Meaning::Rgb | Meaning::Ycc => samples,
        Meaning::Grey | Meaning::WhiteIsZero => {
            let scale = (255 / ((1_u32 << bits) - 1)) as u8;
            let flip = if meaning == Meaning::WhiteIsZero { 255 } else { 0 };
            samples.iter().flat_map(|&v| [(v * scale) ^ flip; 3]).collect()
        }
        Meaning::Palette => {
            let colours = 1 << bits;
            if map.len() < 3 * colours {
                return Err("a TIFF whose palette has too few colours".into());
            }
            let of = |v: u8| [0, 1, 2].map(|c| (map[c * colours + usize::from(v)] >> 8) as u8);
            let palette: Vec<[u8; 3]> = (0..colours).map(|v| of(v as u8)).collect();
            samples.iter().flat_map(|&v| palette[usize::from(v)]).collect()
        }
        Meaning::Cmyk => samples
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&[c, m, y, black]| inks_to_rgb([c, m, y], black))
            .collect(),
        Meaning::Premultiplied => {
            let apart = |&[r, g, b, a]: &[u8; 4]| {
                [r, g, b].map(|v| match a {
                    0 => 0,
                    _ => (u32::from(v) * 255 / u32::from(a)).min(255) as u8,
                })
            };
            samples.as_chunks::<4>().0.iter().flat_map(apart).collect()
        }
    })
}
