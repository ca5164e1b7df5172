//! What `image`'s decoder of BMP makes otherwise than Pillow: runs that leave pixels out or cross rows, and colours of 5 and 6
//! bits, which it rounds.

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
        let word =
            |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
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
