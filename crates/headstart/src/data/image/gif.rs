//! GIF: the first picture, on the screen that it is shown on. Written here, because a page of code has all that Pillow has: a
//! picture that is smaller or larger than the screen, and files without colours.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// Blocks and stray bytes before the picture that are passed over.
const MAX_BLOCKS: usize = 1 << 20;

/// The first picture of a file.
pub(super) struct Picture {
    /// Size of the screen, which grows to hold the picture.
    pub width: u32,
    pub height: u32,
    /// Where the picture is on it: from the left and from above, width, height.
    place: [usize; 4],
    interlaced: bool,
    palette: Option<Vec<u8>>,
    /// The colour of the rest of the screen.
    around: u8,
    /// Where its codes begin, with their width.
    codes: u64,
}

fn bytes<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut buffer = [0; N];
    source.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// The colours that stand here if these flags say so. Grey from 0 up is what numbers mean without any.
fn palette(source: &mut impl Read, flags: u8) -> io::Result<Option<Vec<u8>>> {
    if flags & 0x80 == 0 {
        return Ok(None);
    }
    let mut colours = vec![0; 3 << ((flags & 7) + 1)];
    source.read_exact(&mut colours)?;
    let grey = |(i, colour): (usize, &[u8; 3])| colour.iter().all(|&v| usize::from(v) == i);
    let all_grey = colours.as_chunks::<3>().0.iter().enumerate().all(grey);
    Ok((!all_grey).then_some(colours))
}

impl Picture {
    /// Finds the picture and reads its size.
    pub fn read(source: &mut (impl Read + Seek)) -> io::Result<Result<Picture, String>> {
        source.seek(SeekFrom::Start(6))?;
        let [w0, w1, h0, h1, flags, _, _] = bytes(source)?;
        let global = palette(source, flags)?;
        let mut around = 0;
        let mut blocks = 0;
        while blocks < MAX_BLOCKS {
            blocks += 1;
            match bytes(source)? {
                [b'!'] => {
                    let [kind] = bytes(source)?;
                    let mut first = true;
                    loop {
                        let [length] = bytes(source)?;
                        blocks += 1;
                        match (kind, length) {
                            (_, 0) => break,
                            (0xf9, 4..) if first => {
                                let [flags, _, _, clear] = bytes(source)?;
                                if flags & 1 == 1 {
                                    around = clear;
                                }
                                source.seek_relative(i64::from(length) - 4)?;
                            }
                            (0xf9, _) if first => {
                                return Ok(Err("a GIF with a bad extension".into()));
                            }
                            _ => source.seek_relative(i64::from(length))?,
                        }
                        first = false;
                    }
                }
                [b','] => {
                    let place: [u8; 8] = bytes(source)?;
                    let [flags] = bytes(source)?;
                    let number = |low, high| u16::from_le_bytes([low, high]);
                    let [x, y, w, h] =
                        [0, 2, 4, 6].map(|i| usize::from(number(place[i], place[i + 1])));
                    if w == 0 || h == 0 {
                        return Ok(Err(format!("a GIF with a picture of {w}x{h} pixels")));
                    }
                    let side = |screen: u16, end: usize| usize::from(screen).max(end) as u32;
                    let local = palette(source, flags)?;
                    return Ok(Ok(Picture {
                        width: side(number(w0, w1), x + w),
                        height: side(number(h0, h1), y + h),
                        place: [x, y, w, h],
                        interlaced: flags & 0x40 != 0,
                        palette: local.or(global),
                        around,
                        codes: source.stream_position()?,
                    }));
                }
                [b';'] => break,
                _ => {}
            }
        }
        Ok(Err("a GIF without a picture".into()))
    }

    /// The colours of all numbers; those that a palette lacks are black.
    fn colours(&self) -> [[u8; 3]; 256] {
        let mut colours = [[0; 3]; 256];
        match &self.palette {
            Some(palette) => {
                let own = palette.as_chunks::<3>().0;
                colours[..own.len()].copy_from_slice(own);
            }
            None => (0..=255).zip(&mut colours).for_each(|(v, colour)| *colour = [v; 3]),
        }
        colours
    }
}

/// Decodes a file to `height * width * 3` bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let short = || "a GIF that ends too early".to_string();
    let picture = Picture::read(&mut Cursor::new(bytes)).map_err(|_| short())??;
    let [x, y, w, h] = picture.place;
    let codes = bytes.get(picture.codes as usize..).ok_or_else(short)?;
    let numbers = unpack(codes, w * h)?;
    let colours = picture.colours();
    let (width, height) = (picture.width as usize, picture.height as usize);
    let mut rgb = match colours[usize::from(picture.around)] {
        [0, 0, 0] => vec![0; width * height * 3],
        colour => colour.repeat(width * height),
    };
    let order: Vec<usize> = match picture.interlaced {
        true => [(0, 8), (4, 8), (2, 4), (1, 2)]
            .into_iter()
            .flat_map(|(first, step)| (first..h).step_by(step))
            .collect(),
        false => (0..h).collect(),
    };
    for (row, line) in numbers.chunks_exact(w).zip(order) {
        let to = ((y + line) * width + x) * 3;
        let to = rgb[to..to + w * 3].as_chunks_mut::<3>().0;
        to.iter_mut().zip(row).for_each(|(pixel, &v)| *pixel = colours[usize::from(v)]);
    }
    Ok(rgb)
}

/// Codes that LZW knows at most.
const CODES: usize = 4096;

/// The numbers of `needed` pixels, of the blocks that are whole. `weezl` refuses what Pillow's decoder (`GifDecode.c`) reads of
/// codes that are cleared twice or have fewer than 2 bits.
fn unpack(codes: &[u8], needed: usize) -> Result<Vec<u8>, String> {
    let short = || "a GIF that ends too early".to_string();
    let bad = || "a corrupt GIF (LZW codes that cannot be)".to_string();
    let (&width, mut rest) = codes.split_first().ok_or_else(short)?;
    if width > 8 {
        return Err(bad());
    }
    let mut blocks = std::iter::from_fn(|| {
        let (&length, after) = rest.split_first().filter(|block| *block.0 > 0)?;
        let (block, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        Some(block)
    })
    .flatten();
    let clear = 1_usize << width;
    // Of each code the code without its last number, and that number.
    let (mut links, mut lasts) = ([0_u16; CODES], [0_u8; CODES]);
    let (mut next, mut bits, mut fresh) = (clear + 2, u32::from(width) + 1, true);
    let (mut before, mut first) = (0, 0);
    let (mut buffer, mut count) = (0_u32, 0);
    let (mut out, mut string) = (Vec::new(), Vec::new());
    while out.len() < needed {
        while count < bits {
            buffer |= u32::from(*blocks.next().ok_or_else(short)?) << count;
            count += 8;
        }
        let mask = (1 << bits) - 1;
        let code = buffer as usize & mask;
        buffer >>= bits;
        count -= bits;
        if code == clear {
            (next, bits, fresh) = (clear + 2, u32::from(width) + 1, true);
            continue;
        }
        if code == clear + 1 {
            return Err(short());
        }
        if fresh {
            if code > clear {
                return Err(bad());
            }
            first = code as u8;
            out.push(first);
            (before, fresh) = (code, false);
            continue;
        }
        if code > next {
            return Err(bad());
        }
        string.clear();
        let mut at = code;
        if code == next {
            string.push(first);
            at = before;
        }
        while at >= clear {
            if at >= CODES || string.len() >= CODES {
                return Err(bad());
            }
            string.push(lasts[at]);
            at = usize::from(links[at]);
        }
        first = at as u8;
        string.push(first);
        out.extend(string.iter().rev().take(needed - out.len()));
        if next < CODES {
            (lasts[next], links[next]) = (first, before as u16);
            if next == mask && bits < 12 {
                bits += 1;
            }
            next += 1;
        }
        before = code;
    }
    Ok(out)
}
