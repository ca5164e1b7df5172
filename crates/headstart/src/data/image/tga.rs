//! Truevision's Targa, written here: the format has no magic bytes, so that its header has to be judged anyway, and
//! the rest is short. What is in a file means what it means to Pillow.

/// Where the pixels of a file are, and how they are stored.
pub(super) struct Picture {
    pub width: u32,
    pub height: u32,
    kind: Kind,
    packed: bool,
    /// Bytes of a pixel.
    depth: usize,
    /// Rows from the bottom up; columns from right to left.
    up: bool,
    mirrored: bool,
    /// Where the palette begins, the number of its first colour, how many it has and bytes of each.
    palette: (usize, usize, usize, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Palette,
    /// In the order of BMP.
    Colours,
    Grey,
    /// Black and white, eight in a byte.
    Bits,
}

impl Picture {
    /// Reads the header; `None` if these are no bytes that a file begins with.
    pub fn read(head: &[u8]) -> Option<Picture> {
        let &[id, mapped, kind, s0, s1, n0, n1, bits, _, _, _, _, w0, w1, h0, h1, depth, flags] =
            head.first_chunk::<18>()?;
        let number = |low, high| usize::from(u16::from_le_bytes([low, high]));
        let (start, count) = (number(s0, s1), number(n0, n1));
        let sound = mapped <= 1 && flags & 0xc0 == 0 && flags & 15 <= 8;
        let (kind, packed) = match (kind & 7, kind & !7) {
            (1, packed @ (0 | 8)) if mapped == 1 && count > 0 => (Kind::Palette, packed > 0),
            (2, packed @ (0 | 8)) => (Kind::Colours, packed > 0),
            (3, packed @ (0 | 8)) => (Kind::Grey, packed > 0),
            _ => return None,
        };
        let (kind, depth) = match (kind, depth) {
            (Kind::Grey, 1) if !packed => (Kind::Bits, 1),
            (Kind::Palette | Kind::Grey, 8) => (kind, 1),
            (Kind::Grey | Kind::Colours, 16) => (kind, 2),
            (Kind::Colours, 24) => (kind, 3),
            (Kind::Colours, 32) => (kind, 4),
            _ => return None,
        };
        let size = match (mapped, bits) {
            (0, _) => 0,
            (_, 16) => 2,
            (_, 24) => 3,
            (_, 32) => 4,
            _ => return None,
        };
        let [width, height] = [number(w0, w1), number(h0, h1)].map(|side| side as u32);
        let picture = Picture {
            width,
            height,
            kind,
            packed,
            depth,
            up: flags & 0x20 == 0,
            mirrored: flags & 0x10 != 0,
            palette: (18 + usize::from(id), start, count, size),
        };
        (sound && width > 0 && height > 0).then_some(picture)
    }
}

/// Decodes a file to `height * width * 3` bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let short = || "a TGA that ends too early".to_string();
    let picture = Picture::read(bytes).ok_or("a TGA without a header")?;
    let (at, start, count, size) = picture.palette;
    let end = at + if size > 0 { count * size } else { 0 };
    let map = bytes.get(at..end).ok_or_else(short)?;
    let mut data = bytes.get(end..).ok_or_else(short)?;
    let (width, height) = (picture.width as usize, picture.height as usize);
    let unpacked;
    let needed = width * height * picture.depth;
    if picture.packed {
        unpacked = unpack(data, needed, picture.depth).ok_or_else(short)?;
        data = &unpacked;
    }
    let spread;
    if picture.kind == Kind::Bits {
        let row = width.div_ceil(8);
        let rows = data.get(..row * height).ok_or_else(short)?.chunks_exact(row);
        let bit = |row: &[u8], x: usize| if row[x / 8] >> (7 - x % 8) & 1 == 1 { 255 } else { 0 };
        spread = rows.flat_map(|row| (0..width).map(move |x| bit(row, x))).collect::<Vec<u8>>();
        data = &spread;
    }
    let data = data.get(..needed).ok_or_else(short)?;
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let y = if picture.up { height - 1 - y } else { y };
        let row = data[y * width * picture.depth..][..width * picture.depth].chunks(picture.depth);
        let colour = |pixel: &[u8]| match (picture.kind, pixel) {
            (Kind::Grey | Kind::Bits, _) => [pixel[0]; 3],
            (Kind::Colours, _) => colour(pixel),
            (Kind::Palette, _) => {
                let number = usize::from(pixel[0]);
                let place = number.checked_sub(start).filter(|&place| place < count);
                // Colours that a palette lacks are black.
                place.map_or([0; 3], |place| colour(&map[place * size..][..size]))
            }
        };
        match picture.mirrored {
            true => rgb.extend(row.rev().flat_map(colour)),
            false => rgb.extend(row.flat_map(colour)),
        }
    }
    Ok(rgb)
}

/// A colour of 2, 3 or 4 bytes.
fn colour(bytes: &[u8]) -> [u8; 3] {
    match *bytes {
        [low, high] => {
            let all = u16::from_le_bytes([low, high]);
            [10, 5, 0].map(|bit| ((all >> bit & 31) * 255 / 31) as u8)
        }
        [blue, green, red, ..] => [red, green, blue],
        _ => [0; 3],
    }
}

/// Pixels of `depth` bytes from packets of runs and of single ones, up to `needed` bytes; `None` if there are fewer.
fn unpack(mut data: &[u8], needed: usize, depth: usize) -> Option<Vec<u8>> {
    // The size is only a claim until that much data has come.
    let mut out = Vec::with_capacity(needed.min(128 * data.len()));
    while out.len() < needed {
        let (&packet, rest) = data.split_first()?;
        let count = usize::from(packet & 127) + 1;
        let taken = if packet & 128 != 0 { depth } else { depth * count };
        let (pixels, rest) = rest.split_at_checked(taken)?;
        match packet & 128 {
            0 => out.extend_from_slice(pixels),
            _ => (0..count).for_each(|_| out.extend_from_slice(pixels)),
        }
        data = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_header_is_one() {
        let header = |kind, mapped, depth, flags| {
            [0, mapped, kind, 0, 0, 4, 0, 24, 0, 0, 0, 0, 9, 0, 7, 0, depth, flags]
        };
        for (kind, mapped, depth) in
            [(1, 1, 8), (2, 0, 24), (2, 0, 32), (10, 1, 16), (3, 0, 8), (11, 0, 16), (9, 1, 8)]
        {
            let picture = Picture::read(&header(kind, mapped, depth, 0x28)).unwrap();
            assert_eq!((picture.width, picture.height), (9, 7));
        }
        for (kind, mapped, depth, flags) in [
            (0, 0, 8, 0),
            (1, 0, 8, 0),
            (2, 0, 8, 0),
            (2, 2, 24, 0),
            (3, 0, 24, 0),
            (11, 0, 1, 0),
            (4, 0, 24, 0),
            (18, 0, 24, 0),
            (2, 0, 24, 0x40),
            (2, 0, 24, 0x0f),
        ] {
            assert!(Picture::read(&header(kind, mapped, depth, flags)).is_none());
        }
        assert!(Picture::read(b"hello, this is a text file").is_none());
        assert!(Picture::read(&[0; 18]).is_none() && Picture::read(&[]).is_none());
    }
}
