//! What `image`'s decoder of BMP makes otherwise than Pillow: runs that leave pixels out or cross rows, and colours of 5 and 6
//! bits, which it rounds. And files that it does not read for what pixels do not need.

use std::borrow::Cow;

/// What a file's header says, but for the short one (OS/2), which has neither runs nor 16 bits.
struct Facts {
    /// Bytes of the header.
    size: usize,
    width: usize,
    height: usize,
    /// Rows from the bottom up.
    up: bool,
    bits: u16,
    compression: u32,
    /// Where the pixels are.
    offset: usize,
    /// Colours of the palette, 0 for as many as can be numbered.
    used: usize,
    /// Bits of red, green and blue.
    masks: [u32; 3],
}

const RUNS_OF_8: u32 = 1;
const RUNS_OF_4: u32 = 2;
const BITFIELDS: u32 = 3;

impl Facts {
    fn read(bytes: &[u8]) -> Option<Facts> {
        let word = |at: usize| word(bytes, at);
        let size = word(14)? as usize;
        if size < 40 {
            return None;
        }
        let compression = word(30)?;
        let masks = match compression {
            BITFIELDS => [word(54)?, word(58)?, word(62)?],
            _ => [0x7c00, 0x3e0, 0x1f],
        };
        Some(Facts {
            size,
            width: word(18)? as usize,
            height: (word(22)? as i32).unsigned_abs() as usize,
            up: word(22)? as i32 >= 0,
            bits: (word(28)? & 0xffff) as u16,
            compression,
            offset: word(10)? as usize,
            used: word(46)? as usize,
            masks,
        })
    }

    fn colours(&self) -> usize {
        match self.used {
            0 => 1 << self.bits,
            used => used.min(1 << 16),
        }
    }
}

/// The file as the decoder reads it, where only that is amiss which Pillow passes over: the number of planes, a place of 0 for the
/// pixels, the longer header of OS/2, and a last row without the bytes that fill it up.
pub(super) fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(bytes);
    let Some(&[size, ..]) = bytes.get(14..18) else { return out };
    if size == OS2 && bytes.len() >= 14 + usize::from(OS2) && bytes[30] <= RUNS_OF_4 as u8 {
        let header = [&bytes[..14 + 40], &bytes[14 + usize::from(OS2)..]].concat();
        out = Cow::Owned(header);
        out.to_mut()[14] = 40;
        let offset = word(bytes, 10).unwrap_or(0).saturating_sub(u32::from(OS2) - 40);
        out.to_mut()[10..14].copy_from_slice(&offset.to_le_bytes());
    }
    let planes = if size == SHORT { 22 } else { 26 };
    if out.get(planes..planes + 2).is_some_and(|planes| *planes != [1, 0]) {
        out.to_mut()[planes..planes + 2].copy_from_slice(&[1, 0]);
    }
    if word(&out, 10) == Some(0)
        && let Some(offset) = behind_palette(&out)
    {
        out.to_mut()[10..14].copy_from_slice(&offset.to_le_bytes());
    }
    let lacking = lacking(&out);
    if lacking > 0 {
        let length = out.len() + lacking;
        out.to_mut().resize(length, 0);
    }
    out
}

/// Bytes of the longest header of OS/2, and of the shortest.
const OS2: u8 = 64;
const SHORT: u8 = 12;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Where a file's palette ends.
fn behind_palette(bytes: &[u8]) -> Option<u32> {
    if bytes.get(14) == Some(&SHORT) {
        let bits = u32::from(*bytes.get(24)?);
        return Some(14 + 12 + if bits <= 8 { 3 << bits } else { 0 });
    }
    let facts = Facts::read(bytes)?;
    let palette = if facts.bits <= 8 { 4 * facts.colours().min(256) } else { 0 };
    let masks = if facts.size == 40 && facts.compression == BITFIELDS { 12 } else { 0 };
    u32::try_from(14 + facts.size + masks + palette).ok()
}

/// How many bytes are missing, where these only fill up the last row.
fn lacking(bytes: &[u8]) -> usize {
    let Some(facts) = Facts::read(bytes).filter(|f| matches!(f.compression, 0 | BITFIELDS)) else {
        return 0;
    };
    let row = facts.width.saturating_mul(usize::from(facts.bits)).div_ceil(8);
    let filled = row.next_multiple_of(4);
    let whole = filled.checked_mul(facts.height).and_then(|all| all.checked_add(facts.offset));
    let lacking = whole.and_then(|whole| whole.checked_sub(bytes.len())).unwrap_or(0);
    if lacking <= filled - row { lacking } else { 0 }
}

/// Decodes a file of runs to `height * width * 3` bytes, as Pillow does (`BmpRleDecoder`); `None` if this is a file of another
/// kind. Pixels that runs leave out are of the first colour; runs that end before the last pixel are an error.
pub(super) fn of_runs(bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let facts = Facts::read(bytes)?;
    let is = matches!((facts.compression, facts.bits), (RUNS_OF_8, 8) | (RUNS_OF_4, 4));
    is.then(|| {
        let short = || "a BMP that ends too early".to_string();
        let map = 14 + facts.size;
        let end = map + 4 * facts.colours();
        let map = bytes.get(map..end.min(bytes.len())).ok_or_else(short)?.as_chunks::<4>().0;
        let from = match facts.offset {
            0 => end,
            offset if offset == 14 + facts.size => end,
            offset => offset,
        };
        let mut numbers = unpack(bytes, from, &facts);
        numbers.truncate(facts.width * facts.height);
        if numbers.len() < facts.width * facts.height {
            return Err(short());
        }
        let colour = |&v: &u8| map.get(usize::from(v)).map_or([0; 3], |&[b, g, r, _]| [r, g, b]);
        let rows = numbers.chunks_exact(facts.width);
        Ok(match facts.up {
            true => rows.rev().flatten().flat_map(colour).collect(),
            false => rows.flatten().flat_map(colour).collect(),
        })
    })
}

/// The numbers of pixels that runs tell, up to as many as the picture has.
fn unpack(bytes: &[u8], from: usize, facts: &Facts) -> Vec<u8> {
    let (width, all) = (facts.width, facts.width * facts.height);
    let halves = facts.compression == RUNS_OF_4;
    let (mut at, mut x) = (from, 0);
    // The size is only a claim until that much data has come.
    let mut out: Vec<u8> = Vec::new();
    while out.len() < all {
        let Some(&[count, value]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
            break;
        };
        at += 2;
        match (usize::from(count), value) {
            (0, 0) => {
                out.resize(out.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else {
                    break;
                };
                at += 2;
                let moved = usize::from(right) + usize::from(up) * width;
                out.resize(all.min(out.len() + moved), 0);
                x = out.len() % width;
            }
            (0, count) => {
                let taken = usize::from(count).min(all - out.len());
                let stored = if halves { taken.div_ceil(2) } else { taken };
                let Some(data) = bytes.get(at..at + stored) else { break };
                let before = out.len();
                match halves {
                    true => out.extend(data.iter().flat_map(|v| [v >> 4, v & 15])),
                    false => out.extend_from_slice(data),
                }
                out.truncate(before + taken);
                x += usize::from(count);
                // Up to an even place of the file.
                at = (at + stored).next_multiple_of(2);
            }
            (count, value) => {
                let count = count.min(width.saturating_sub(x));
                let both = if halves { [value >> 4, value & 15] } else { [value; 2] };
                out.extend((0..count).map(|i| both[i % 2]));
                x += count;
            }
        }
    }
    out
}

/// Makes of colours of 16 bits, which were rounded to 8 each, what Pillow does: it rounds down.
pub(super) fn exact(bytes: &[u8], rgb: &mut [u8]) {
    let Some(facts) = Facts::read(bytes).filter(|facts| facts.bits == 16) else { return };
    let tables = facts.masks.map(|mask| {
        let most = (1_u32 << mask.count_ones().min(8)) - 1;
        let mut table = [0_u8; 256];
        (0..=255).zip(&mut table).for_each(|(v, to)| {
            *to = match most {
                31 | 63 => ((v * most + 127) / 255 * 255 / most) as u8,
                _ => v as u8,
            };
        });
        table
    });
    for pixel in rgb.as_chunks_mut::<3>().0 {
        pixel.iter_mut().zip(&tables).for_each(|(v, table)| *v = table[usize::from(*v)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x 2 pixels of 8 bits with a palette of greys, as Pillow writes them.
    fn example() -> Vec<u8> {
        let mut file = b"BM".to_vec();
        let offset = 14 + 40 + 4 * 256u32;
        file.extend((offset + 8).to_le_bytes());
        file.extend([0; 4]);
        file.extend(offset.to_le_bytes());
        for word in [40, 3, 2, 1 | 8 << 16, 0, 8, 0, 0, 256, 256u32] {
            file.extend(word.to_le_bytes());
        }
        (0..=255u8).for_each(|v| file.extend([v, v, v, 0]));
        file.extend([40, 50, 60, 0, 10, 20, 30, 0]);
        file
    }

    #[test]
    fn what_pixels_do_not_need_may_be_missing_or_wrong() {
        let file = example();
        assert!(matches!(mended(&file), Cow::Borrowed(_)));
        let with = |at: usize, bytes: &[u8]| {
            let mut file = file.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            file
        };
        let os2 = [&with(14, &[64])[..54], &[0; 24], &file[54..]].concat();
        let mut os2_offset = os2.clone();
        os2_offset[10..14].copy_from_slice(&(14 + 64 + 4 * 256u32).to_le_bytes());
        for (what, changed) in [
            ("planes", with(26, &[0, 0])),
            ("place", with(10, &[0; 4])),
            ("end", file[..file.len() - 1].to_vec()),
            ("header", os2_offset),
        ] {
            assert_eq!(*mended(&changed), file, "{what}");
        }
        // A pixel is missing.
        let cut = &file[..file.len() - 2];
        assert_eq!(*mended(cut), *cut);
        for length in 0..file.len() {
            mended(&file[..length]);
            mended(&os2[..length]);
        }
    }
}
