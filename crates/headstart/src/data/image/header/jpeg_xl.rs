//! Header of JPEG XL (ISO/IEC 18181-1, annex D): size and orientation.

use std::io::{Read, Seek, SeekFrom};

use ::image::metadata::Orientation;

use super::{Format, Header, Reason, bytes, read_up_to, skip};

/// Boxes that are looked at.
const MAX_BOXES: usize = 10_000;

/// In a container the codestream is in a box, or its first part is.
pub(super) fn in_container(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    source.seek(SeekFrom::Start(0))?;
    for _ in 0..MAX_BOXES {
        let [l3, l2, l1, l0, kind @ ..] = bytes::<8>(source)?;
        let (length, taken) = match u32::from_be_bytes([l3, l2, l1, l0]) {
            1 => (u64::from_be_bytes(bytes(source)?), 16),
            length => (u64::from(length), 8),
        };
        match &kind {
            b"jxlc" | b"jxlp" => {
                // Parts are numbered.
                skip(source, if &kind == b"jxlp" { 4 } else { 0 })?;
                let mut start = [0; 64];
                let got = read_up_to(source, &mut start)?;
                return match &start[..got] {
                    [0xff, 0x0a, rest @ ..] => bare(rest),
                    _ => Err(Reason::Bad("a JPEG XL without a codestream".to_string())),
                };
            }
            // Up to the end of the file.
            _ if length == 0 => break,
            _ => skip(source, length.saturating_sub(taken))?,
        }
    }
    Err(Reason::Bad("a JPEG XL without a codestream".to_string()))
}

/// The header behind the two bytes that a codestream begins with.
pub(super) fn bare(bytes: &[u8]) -> Result<Header, Reason> {
    let mut bits = Bits { bytes, at: 0 };
    let (width, height) = size(&mut bits)?;
    let header = Header::new(Format::JpegXl, width, height);
    // Without more all is as usual; else it may have more fields, of which the first is the orientation.
    if bits.take(1)? == 1 || bits.take(1)? == 0 {
        return Ok(header);
    }
    let orientation = Orientation::from_exif(bits.take(3)? as u8 + 1);
    Ok(header.turned(orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Width and height (D.2).
fn size(bits: &mut Bits<'_>) -> Result<(u32, u32), Reason> {
    let small = bits.take(1)? == 1;
    let side = |bits: &mut Bits<'_>| -> Result<u32, Reason> {
        if small {
            return Ok(8 * (bits.take(5)? + 1));
        }
        let wide = [9, 13, 18, 30][bits.take(2)? as usize & 3];
        Ok(bits.take(wide)? + 1)
    };
    let height = side(bits)?;
    let (over, under) = match bits.take(3)? {
        0 => return Ok((side(bits)?, height)),
        1 => (1, 1),
        2 => (12, 10),
        3 => (4, 3),
        4 => (3, 2),
        5 => (16, 9),
        6 => (5, 4),
        _ => (2, 1),
    };
    let width = u64::from(height) * over / under;
    Ok((u32::try_from(width).unwrap_or(u32::MAX), height))
}

/// Bits of a file, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// A number of up to 30 bits.
    fn take(&mut self, count: usize) -> Result<u32, Reason> {
        let mut number = 0;
        for i in 0..count {
            let ended = || Reason::Io(std::io::ErrorKind::UnexpectedEof.into());
            let byte = self.bytes.get(self.at / 8).ok_or_else(ended)?;
            number |= u32::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Ok(number)
    }
}
