//! Header and metadata of JPEG: the markers up to the first scan (ITU-T T.81, annex B).

use std::io::{self, Read, Seek};

use super::super::orientation::{Evidence, MAX_BLOCK, in_exif};
use super::{Format, Header, Reason, block, bytes, skip};

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

pub(super) fn header(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let (mut evidence, mut exif, mut header) = (Evidence::default(), Vec::new(), None);
    loop {
        match segment(source, &mut evidence, &mut exif, &mut header) {
            Ok(true) => {}
            Ok(false) => break,
            // That a file ends behind its frame header is for the decoder to say.
            Err(Reason::Io(e)) if header.is_some() && e.kind() == io::ErrorKind::UnexpectedEof => {
                break;
            }
            Err(reason) => return Err(reason),
        }
    }
    if !exif.is_empty() {
        evidence.exif = Some(in_exif(&exif));
    }
    let header: Option<Header> = header;
    let header = header.ok_or(Reason::Bad("a JPEG without a frame header".to_string()))?;
    Ok(header.turned(evidence.orientation()))
}

/// Reads a marker and what belongs to it; false at the first scan or the end.
fn segment(
    source: &mut (impl Read + Seek),
    evidence: &mut Evidence,
    exif: &mut Vec<u8>,
    header: &mut Option<Header>,
) -> Result<bool, Reason> {
    let [mut byte] = bytes::<1>(source)?;
    if byte != 0xff {
        return Ok(true);
    }
    while byte == 0xff {
        [byte] = bytes::<1>(source)?;
    }
    // Stuffed zero, TEM and restart markers stand alone.
    if matches!(byte, 0x00 | 0x01 | 0xd0..=0xd8) {
        return Ok(true);
    }
    if matches!(byte, 0xd9 | 0xda) {
        return Ok(false);
    }
    let length = u64::from(u16::from_be_bytes(bytes::<2>(source)?)).saturating_sub(2);
    match byte {
        0xc0..=0xcf if !matches!(byte, 0xc4 | 0xc8 | 0xcc) && header.is_none() => {
            let [precision, h1, h0, w1, w0, components] = bytes::<6>(source)?;
            if !matches!(components, 1 | 3 | 4) {
                return Err(Reason::Bad(format!("a JPEG of {components} components")));
            }
            let [width, height] = [[w1, w0], [h1, h0]].map(|b| u32::from(u16::from_be_bytes(b)));
            *header = Some(Header { precision, ..Header::new(Format::Jpeg, width, height) });
            skip(source, length.saturating_sub(6))?;
        }
        0xe1 => {
            let body = block(source, length, MAX_BLOCK)?;
            if (body.len() as u64) < length {
                return Err(Reason::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            // A block that is too long for one segment goes on in the next.
            if let Some(part) = body.strip_prefix(EXIF) {
                if (exif.len() as u64) < MAX_BLOCK {
                    exif.extend_from_slice(if exif.is_empty() { &body } else { part });
                }
            } else if let Some(text) = body.strip_prefix(XMP) {
                evidence.add_xmp(text);
            }
        }
        _ => skip(source, length)?,
    }
    Ok(true)
}
