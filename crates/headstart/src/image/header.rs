//! What a file says it is, read from its first bytes without decoding.

use std::fmt;
use std::io::{self, Read};

/// Images with more pixels than this are refused before any memory is taken for them.
pub const MAX_PIXELS: usize = 100_000_000;

/// The encodings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JFIF, EXIF or bare JPEG: baseline, extended or progressive, 1, 3 or 4 components.
    Jpeg,
    /// PNG of any colour type and depth.
    Png,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
        })
    }
}

/// An image's kind and size as its header states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Encoding, by content.
    pub format: Format,
    /// Pixels across, at least 1.
    pub width: usize,
    /// Pixels down, at least 1.
    pub height: usize,
    /// Bits per sample.
    pub precision: u8,
}

const PNG_MAGIC: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Why there is no header.
pub(crate) struct NotRead {
    /// What was found, worded to follow "found".
    pub reason: String,
    /// Whether the file is none of the formats that are read, rather than a bad one of them.
    pub alien: bool,
}

impl From<NotRead> for String {
    fn from(error: NotRead) -> String {
        error.reason
    }
}

/// Reads as much of `source` as tells the size.
pub(crate) fn read_header(source: &mut impl Read) -> Result<Header, NotRead> {
    let alien = |reason: String| NotRead { reason, alien: true };
    let mut start = [0; 12];
    let got = read_up_to(source, &mut start).map_err(|e| alien(format!("a read error ({e})")))?;
    let rest = |from: usize| start[from..got].chain(source);
    let header = match &start[..got] {
        [] => return Err(alien("an empty file".to_string())),
        [0xff, 0xd8, 0xff, ..] => jpeg_header(&mut rest(2)),
        head if head.starts_with(PNG_MAGIC) => png_header(&mut rest(8)),
        head => return Err(alien(describe_foreign(head))),
    };
    let bad = |reason: String| NotRead { reason, alien: false };
    let header = header.map_err(|reason| match reason {
        Reason::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            bad("a file that ends within its header".to_string())
        }
        Reason::Io(e) => bad(format!("a read error ({e})")),
        Reason::Bad(text) => bad(text),
    })?;
    let Header { format, width, height, .. } = header;
    match width.checked_mul(height) {
        Some(0) => Err(bad(format!("a {format} of {width}x{height} pixels"))),
        Some(pixels) if pixels <= MAX_PIXELS => Ok(header),
        _ => Err(bad(format!(
            "a {format} of {width}x{height} pixels (the limit is {} million)",
            MAX_PIXELS / 1_000_000
        ))),
    }
}

/// The name of a well-known image format that is not read, if `head` starts a file of it.
fn foreign_format(head: &[u8]) -> Option<&'static str> {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|t| t.starts_with(magic));
    Some(match head {
        _ if at(0, b"GIF8") => "GIF",
        _ if at(0, b"RIFF") && at(8, b"WEBP") => "WebP",
        _ if at(0, b"BM") => "BMP",
        _ if at(0, b"II*\0") || at(0, b"MM\0*") => "TIFF",
        _ if at(4, b"ftyp") => "HEIC or AVIF",
        _ => return None,
    })
}

fn describe_foreign(head: &[u8]) -> String {
    match foreign_format(head) {
        Some(name) => format!("a {name} file, which is not supported; convert it to PNG"),
        None => {
            let hex: Vec<String> = head.iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("neither (it starts with bytes {})", hex.join(" "))
        }
    }
}

enum Reason {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for Reason {
    fn from(e: io::Error) -> Reason {
        Reason::Io(e)
    }
}

fn read_up_to(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match source.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

fn bytes<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut buffer = [0; N];
    source.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn png_header(source: &mut impl Read) -> Result<Header, Reason> {
    let chunk: [u8; 17] = bytes(source)?;
    if chunk[..8] != *b"\0\0\0\x0dIHDR" {
        return Err(Reason::Bad("a PNG without its header chunk".to_string()));
    }
    let word = |i: usize| u32::from_be_bytes([chunk[i], chunk[i + 1], chunk[i + 2], chunk[i + 3]]);
    Ok(Header {
        format: Format::Png,
        width: word(8) as usize,
        height: word(12) as usize,
        precision: chunk[16],
    })
}

/// Scans the markers (ITU-T T.81, annex B) up to the frame header.
fn jpeg_header(source: &mut impl Read) -> Result<Header, Reason> {
    loop {
        let [mut byte] = bytes::<1>(source)?;
        if byte != 0xff {
            continue;
        }
        while byte == 0xff {
            [byte] = bytes::<1>(source)?;
        }
        match byte {
            // Stuffed zero, TEM and restart markers stand alone.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            0xd9 | 0xda => return Err(Reason::Bad("a JPEG without a frame header".to_string())),
            0xc0..=0xcf if !matches!(byte, 0xc4 | 0xc8 | 0xcc) => {
                let [_, _, precision, h1, h0, w1, w0, components] = bytes::<8>(source)?;
                if !matches!(components, 1 | 3 | 4) {
                    return Err(Reason::Bad(format!("a JPEG of {components} components")));
                }
                return Ok(Header {
                    format: Format::Jpeg,
                    width: usize::from(u16::from_be_bytes([w1, w0])),
                    height: usize::from(u16::from_be_bytes([h1, h0])),
                    precision,
                });
            }
            _ => {
                let length = u64::from(u16::from_be_bytes(bytes::<2>(source)?));
                let body = length.saturating_sub(2);
                if io::copy(&mut source.take(body), &mut io::sink())? < body {
                    return Err(Reason::Io(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}
