//! Header and metadata of WebP.

use std::io::{Read, Seek};

use super::super::orientation::{Evidence, MAX_BLOCK, in_exif};
use super::{Format, Header, Reason, block, bytes, skip};

const HAS_XMP: u8 = 1 << 2;
const HAS_EXIF: u8 = 1 << 3;
/// Chunks that are looked at.
const MAX_CHUNKS: usize = 100_000;

/// Reads the first chunk, and all others of an extended file that says it has EXIF or XMP.
pub(super) fn header(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let [kind @ .., l0, l1, l2, l3] = bytes::<8>(source)?;
    let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let bad = || Reason::Bad("a WebP without a picture".to_string());
    let size = |low: u16| u32::from(low & 0x3fff);
    match &kind {
        b"VP8 " => {
            let [_, _, _, s0, s1, s2, w0, w1, h0, h1] = bytes(source)?;
            if [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
                return Err(bad());
            }
            let size = [[w0, w1], [h0, h1]].map(|b| size(u16::from_le_bytes(b)));
            Ok(Header::new(Format::WebP, size[0], size[1]))
        }
        b"VP8L" => {
            let [signature, b0, b1, b2, b3] = bytes(source)?;
            if signature != 0x2f {
                return Err(bad());
            }
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            Ok(Header::new(Format::WebP, (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [flags, _, _, _, w0, w1, w2, h0, h1, h2] = bytes(source)?;
            let size = [[w0, w1, w2, 0], [h0, h1, h2, 0]].map(|b| u32::from_le_bytes(b) + 1);
            let header = Header::new(Format::WebP, size[0], size[1]);
            skip(source, length.saturating_sub(10))?;
            metadata(header, flags, source)
        }
        _ => Err(bad()),
    }
}

fn metadata(header: Header, flags: u8, source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let mut evidence = Evidence::default();
    if flags & (HAS_EXIF | HAS_XMP) == 0 {
        return Ok(header);
    }
    for _ in 0..MAX_CHUNKS {
        let Ok([kind @ .., l0, l1, l2, l3]) = bytes::<8>(source) else { break };
        let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
        match &kind {
            // Of several the first counts, as with libwebp.
            b"EXIF" if flags & HAS_EXIF != 0 && evidence.exif.is_none() => {
                evidence.exif = Some(in_exif(&block(source, length, MAX_BLOCK)?));
            }
            b"XMP " if flags & HAS_XMP != 0 && evidence.xmp.is_none() => {
                evidence.add_xmp(&block(source, length, MAX_BLOCK)?);
            }
            _ => skip(source, length)?,
        }
        skip(source, length % 2)?;
    }
    Ok(header.turned(evidence.orientation()))
}
