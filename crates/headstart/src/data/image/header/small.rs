//! Headers of formats whose sizes stand at their start.

use std::io::{ErrorKind, Read, Seek};

use super::super::formats::RAW;
use super::{Format, Header, Reason, bytes, gif, ico, tiff};

/// Numbers in text, between spaces and comments: width, height and, but in bitmaps, the greatest value.
pub(super) fn pnm(kind: u8, source: &mut impl Read) -> Result<Header, Reason> {
    let mut number = || -> Result<u32, Reason> {
        let (mut value, mut digits, mut comment) = (0u32, 0, false);
        // As many characters as comments of a sane header have.
        for _ in 0..4096 {
            let [c] = bytes(source)?;
            match c {
                b'\n' | b'\r' if comment => comment = false,
                _ if comment => {}
                b'#' => comment = true,
                b'0'..=b'9' => {
                    value = value.saturating_mul(10).saturating_add(u32::from(c - b'0'));
                    digits += 1;
                }
                c if c.is_ascii_whitespace() && digits > 0 => return Ok(value),
                c if c.is_ascii_whitespace() => {}
                _ => break,
            }
        }
        Err(Reason::Bad("a PNM without a size".to_string()))
    };
    let (width, height) = (number()?, number()?);
    let most = if matches!(kind, b'1' | b'4') { 1 } else { number()? };
    let precision = if most > 255 { 16 } else { 8 };
    Ok(Header { precision, ..Header::new(Format::Pnm, width, height) })
}

pub(super) fn gif(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let picture = gif::Picture::read(source).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Reason::Bad("a GIF that ends before its picture".to_string()),
        _ => Reason::Io(error),
    })?;
    let picture = picture.map_err(Reason::Bad)?;
    Ok(Header::new(Format::Gif, picture.width, picture.height))
}

pub(super) fn bmp(source: &mut impl Read) -> Result<Header, Reason> {
    let start: [u8; 16] = bytes(source)?;
    let size = u32::from_le_bytes([start[12], start[13], start[14], start[15]]);
    if size == 12 {
        let [w0, w1, h0, h1] = bytes(source)?;
        let size = [[w0, w1], [h0, h1]].map(|b| u32::from(u16::from_le_bytes(b)));
        return Ok(Header::new(Format::Bmp, size[0], size[1]));
    }
    if !(16..=256).contains(&size) {
        return Err(Reason::Bad(format!("a BMP with a header of {size} bytes")));
    }
    let [w0, w1, w2, w3, h0, h1, h2, h3] = bytes(source)?;
    let width = i32::from_le_bytes([w0, w1, w2, w3]);
    // Rows from the top down have a negative height.
    let height = i32::from_le_bytes([h0, h1, h2, h3]);
    if width < 0 {
        return Err(Reason::Bad(format!("a BMP of {width}x{height} pixels")));
    }
    Ok(Header::new(Format::Bmp, width.unsigned_abs(), height.unsigned_abs()))
}

pub(super) fn qoi(source: &mut impl Read) -> Result<Header, Reason> {
    let [w3, w2, w1, w0, h3, h2, h1, h0] = bytes(source)?;
    let [width, height] = [[w3, w2, w1, w0], [h3, h2, h1, h0]].map(u32::from_be_bytes);
    Ok(Header::new(Format::Qoi, width, height))
}

pub(super) fn ico(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let picture = ico::Picture::read(source)?.map_err(Reason::Bad)?;
    Ok(Header::new(Format::Ico, picture.width, picture.height))
}

/// The first picture of a TIFF, unless this is a camera's raw file, whose first picture is a small preview.
pub(super) fn tiff(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let picture = tiff::Picture::read(source)?.map_err(|fault| match fault {
        tiff::Fault::Raw => Reason::Foreign(RAW.to_string()),
        tiff::Fault::Bad(text) => Reason::Bad(text),
    })?;
    let header = Header::new(Format::Tiff, picture.width, picture.height);
    Ok(Header { precision: picture.bits, ..header.turned(picture.orientation) })
}
