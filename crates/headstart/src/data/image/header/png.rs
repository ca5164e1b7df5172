//! Header and metadata of PNG.

use std::io::{Read, Seek};

use flate2::read::ZlibDecoder;

use super::super::orientation::{Evidence, MAX_BLOCK, in_exif, of_hexadecimal};
use super::{Format, Header, Reason, block, bytes, skip};

/// Chunks that are looked at.
const MAX_CHUNKS: usize = 100_000;
const XMP: &[u8] = b"XML:com.adobe.xmp";

/// All chunks are looked at, also behind the pixels: EXIF and text among them have the orientation.
pub(super) fn header(source: &mut (impl Read + Seek)) -> Result<Header, Reason> {
    let chunk: [u8; 25] = bytes(source)?;
    if chunk[4..8] == *b"CgBI" {
        let convert = "pngcrush -revert-iphone-optimizations FILE OUT.png";
        return Err(Reason::Bad(format!("a PNG of an iPhone app (CgBI); `{convert}` converts it")));
    }
    if chunk[..8] != *b"\0\0\0\x0dIHDR" {
        return Err(Reason::Bad("a PNG without its header chunk".to_string()));
    }
    let word = |i: usize| u32::from_be_bytes([chunk[i], chunk[i + 1], chunk[i + 2], chunk[i + 3]]);
    let header = Header { precision: chunk[16], ..Header::new(Format::Png, word(8), word(12)) };
    let mut evidence = Evidence::default();
    let mut pixels = false;
    // A file cut short here has a good header; that it ends is for the decoder to say.
    for _ in 0..MAX_CHUNKS {
        let Ok([l3, l2, l1, l0, kind @ ..]) = bytes::<8>(source) else { break };
        let length = u64::from(u32::from_be_bytes([l3, l2, l1, l0]));
        let mut body = || block(source, length, MAX_BLOCK);
        match &kind {
            b"IEND" => break,
            // The next picture of an animation.
            b"fcTL" if pixels => break,
            b"eXIf" => evidence.exif = Some(in_exif(&body()?)),
            b"tEXt" | b"zTXt" | b"iTXt" => text(&kind, &body()?, &mut evidence),
            _ => {
                pixels |= &kind == b"IDAT";
                skip(source, length)?;
            }
        }
        skip(source, 4)?;
    }
    Ok(header.turned(evidence.orientation()))
}

/// Takes what a chunk of text says of the orientation.
fn text(kind: &[u8; 4], body: &[u8], evidence: &mut Evidence) {
    let Some((name, rest)) = split(body) else { return };
    if !matches!(name, b"exif" | b"Raw profile type exif" | XMP) {
        return;
    }
    let content = match kind {
        b"tEXt" => Some(rest.to_vec()),
        b"zTXt" => rest.strip_prefix(&[0]).map(inflated),
        // Whether it is compressed, how, a language and a translated name.
        _ => match rest {
            [packed, method, rest @ ..] => {
                let rest = split(rest).and_then(|(_, rest)| split(rest)).map(|(_, rest)| rest);
                match (packed, method) {
                    (0, _) => rest.map(<[u8]>::to_vec),
                    (_, 0) => rest.map(inflated),
                    _ => None,
                }
            }
            _ => None,
        },
    };
    let Some(content) = content else { return };
    match name {
        b"exif" if kind == b"tEXt" => evidence.exif = Some(in_exif(&content)),
        b"Raw profile type exif" => {
            evidence.profile = Some(of_hexadecimal(&content).and_then(|block| in_exif(&block)));
        }
        XMP => evidence.add_xmp(&content),
        _ => {}
    }
}

/// What stands before and behind the first zero.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The start of what was compressed; nothing of what is damaged.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match ZlibDecoder::new(bytes).take(MAX_BLOCK).read_to_end(&mut content) {
        Ok(_) => content,
        Err(_) => Vec::new(),
    }
}
