//! Windows icons: a list of pictures, each a PNG or a bitmap without its file header. The one that Pillow shows is read: the
//! largest, and of several of that size the one of fewest colours.

use std::io::{self, Read, Seek, SeekFrom};

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The picture of an icon.
pub(super) struct Picture {
    pub width: u32,
    pub height: u32,
    /// Where it begins.
    offset: u64,
    png: bool,
}

impl Picture {
    /// Finds the picture and reads its size.
    pub fn read(source: &mut (impl Read + Seek)) -> io::Result<Result<Picture, String>> {
        source.seek(SeekFrom::Start(0))?;
        let mut head = [0; 6];
        source.read_exact(&mut head)?;
        let mut best: Option<(u32, u32, u64)> = None;
        for _ in 0..u16::from_le_bytes([head[4], head[5]]) {
            let mut entry = [0; 16];
            source.read_exact(&mut entry)?;
            let side = |byte| if byte == 0 { 256 } else { u32::from(byte) };
            let area = side(entry[0]) * side(entry[1]);
            let colours = match (u16::from_le_bytes([entry[6], entry[7]]), entry[2]) {
                (0, 0) => 256,
                // As many bits as number the colours.
                (0, count) => u32::from(count).next_power_of_two().trailing_zeros(),
                (bits, _) => u32::from(bits),
            };
            let colours = if colours == 0 { 256 } else { colours };
            let [.., o0, o1, o2, o3] = entry;
            let offset = u64::from(u32::from_le_bytes([o0, o1, o2, o3]));
            if best.is_none_or(|b| area > b.0 || (area == b.0 && colours < b.1)) {
                best = Some((area, colours, offset));
            }
        }
        let Some((.., offset)) = best else { return Ok(Err("an ICO without a picture".into())) };
        source.seek(SeekFrom::Start(offset))?;
        let mut start = [0; 24];
        source.read_exact(&mut start)?;
        let [.., a0, a1, a2, a3, b0, b1, b2, b3] = start;
        if start.starts_with(PNG_MAGIC) {
            let [width, height] = [[a0, a1, a2, a3], [b0, b1, b2, b3]].map(u32::from_be_bytes);
            return Ok(Ok(Picture { width, height, offset, png: true }));
        }
        let word = |at: usize| i32::from_le_bytes([0, 1, 2, 3].map(|i| start[at + i]));
        let (size, width, height) = (word(0), word(4), word(8));
        if size != 40 || width < 0 || height < 0 {
            let found =
                format!("an ICO with a bitmap of {width}x{height} and {size} bytes of header");
            return Ok(Err(found));
        }
        // Below the picture is its mask.
        let (width, height) = (width as u32, height as u32 / 2);
        Ok(Ok(Picture { width, height, offset, png: false }))
    }
}

/// The picture as a file: of PNG or of BMP.
pub(super) enum Inside<'a> {
    Png(&'a [u8]),
    Bmp(Vec<u8>),
}

/// Takes the picture out of an icon. The mask of a bitmap is left out, as transparency is everywhere.
pub(super) fn inside(bytes: &[u8]) -> Result<Inside<'_>, String> {
    let short = || "an ICO that ends too early".to_string();
    let picture = Picture::read(&mut io::Cursor::new(bytes)).map_err(|_| short())??;
    let data = bytes.get(picture.offset as usize..).ok_or_else(short)?;
    if picture.png {
        return Ok(Inside::Png(data));
    }
    let header = data.first_chunk::<40>().ok_or_else(short)?;
    let bits = u16::from_le_bytes([header[14], header[15]]);
    let [compression, used] =
        [16, 32].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i])));
    let colours = match bits {
        1..=8 if used == 0 => 1 << bits,
        _ => used.min(256),
    };
    let masks = if compression == 3 { 12 } else { 0 };
    let start = 14 + 40 + masks + 4 * colours;
    let mut file = b"BM".to_vec();
    file.extend((data.len() as u32).wrapping_add(14).to_le_bytes());
    file.extend([0; 4]);
    file.extend(start.to_le_bytes());
    file.extend_from_slice(data);
    file[14 + 8..14 + 12].copy_from_slice(&picture.height.to_le_bytes());
    Ok(Inside::Bmp(file))
}
