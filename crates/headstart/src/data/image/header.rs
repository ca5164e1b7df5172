//! Kind and size of an image, read from its first bytes without decoding.

use std::fmt;
use std::io::{self, Read};

use ::image::metadata::Orientation;

/// Images with more pixels than this are refused before any memory is taken for them.
pub const MAX_PIXELS: usize = 100_000_000;

/// Images that are wider or higher than this are refused, too, as none of JPEG are: what resizing needs grows with each side.
pub const MAX_SIDE: usize = 65_535;

/// The encodings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JFIF, EXIF or bare JPEG: baseline, extended or progressive, 1, 3 or 4 components.
    Jpeg,
    /// PNG of any colour type and depth.
    Png,
    /// WebP, lossy or lossless; the first picture of an animation.
    WebP,
    /// The first picture of a GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// Netpbm's PBM, PGM and PPM, as text or binary.
    Pnm,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Pnm => "PNM",
        })
    }
}

/// An image's kind and size as its header states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Encoding, by content.
    pub format: Format,
    /// Pixels across, at least 1, of the upright image.
    pub width: usize,
    /// Pixels down, at least 1, of the upright image.
    pub height: usize,
    /// Bits per sample.
    pub precision: u8,
    /// How the stored image is turned to stand upright.
    pub(super) orientation: Orientation,
}

impl Header {
    fn new(format: Format, width: u32, height: u32) -> Header {
        let (width, height) = (width as usize, height as usize);
        let orientation = Orientation::NoTransforms;
        Header { format, width, height, precision: 8, orientation }
    }

    /// Takes over an orientation, once.
    fn turned(mut self, orientation: Orientation) -> Header {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        self.orientation = orientation;
        if matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH) {
            (self.width, self.height) = (self.height, self.width);
        }
        self
    }

    /// Width and height before turning.
    pub(super) fn stored(&self) -> (usize, usize) {
        let Header { width, height, .. } = self.turned(self.orientation);
        (width, height)
    }

    /// Number of pixels.
    pub(super) fn pixels(&self) -> usize {
        self.width * self.height
    }
}

/// Most bytes of an EXIF block that are searched for the orientation, which stands at its start.
const MAX_EXIF: u64 = 64 << 10;
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
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => webp_header(&mut rest(12)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => gif_header(&mut rest(6)),
        [b'B', b'M', ..] => bmp_header(&mut rest(2)),
        [b'P', kind @ b'1'..=b'6', next, ..] if next.is_ascii_whitespace() || *next == b'#' => {
            pnm_header(*kind, &mut rest(2))
        }
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
        Some(pixels) if pixels <= MAX_PIXELS && width.max(height) <= MAX_SIDE => Ok(header),
        Some(pixels) if pixels <= MAX_PIXELS => Err(bad(format!(
            "a {format} of {width}x{height} pixels (the limit is {MAX_SIDE} on each side)"
        ))),
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
        _ if at(0, b"II*\0") || at(0, b"MM\0*") => "TIFF or camera raw",
        _ if at(4, b"ftypavi") => "AVIF",
        _ if at(4, b"ftypcrx") => "camera raw",
        _ if at(4, b"ftyp") => "HEIC",
        _ if at(0, b"\xff\x0a") || at(4, b"JXL ") => "JPEG XL",
        _ if at(4, b"jP  ") || at(0, b"\xff\x4f\xff\x51") => "JPEG 2000",
        _ if at(0, b"<svg") || at(0, b"<?xml") => "SVG",
        _ if at(0, b"8BPS") => "Photoshop",
        _ if at(0, b"qoif") => "QOI",
        _ if at(0, b"\0\0\x01\0") => "icon",
        _ if at(0, b"\x76\x2f\x31\x01") => "OpenEXR",
        _ => return None,
    })
}

fn describe_foreign(head: &[u8]) -> String {
    match foreign_format(head) {
        Some(name) => {
            format!("a file of {name}, which is not supported; convert it: magick FILE FILE.png")
        }
        None => {
            let hex: Vec<String> = head.iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("no image of a known kind (it starts with bytes {})", hex.join(" "))
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

/// Chunks are read up to the pixels; an eXIf chunk among them has the orientation.
fn png_header(source: &mut impl Read) -> Result<Header, Reason> {
    let chunk: [u8; 25] = bytes(source)?;
    if chunk[..8] != *b"\0\0\0\x0dIHDR" {
        return Err(Reason::Bad("a PNG without its header chunk".to_string()));
    }
    let word = |i: usize| u32::from_be_bytes([chunk[i], chunk[i + 1], chunk[i + 2], chunk[i + 3]]);
    let header = Header { precision: chunk[16], ..Header::new(Format::Png, word(8), word(12)) };
    // A file cut short here has a good header; that it ends is for the decoder to say.
    while let Ok([l3, l2, l1, l0, kind @ ..]) = bytes::<8>(source) {
        let length = u32::from_be_bytes([l3, l2, l1, l0]);
        match &kind {
            b"IDAT" | b"IEND" => break,
            b"eXIf" => return Ok(header.turned(exif(source, u64::from(length))?)),
            _ => {
                skip(source, u64::from(length) + 4)?;
            }
        }
    }
    Ok(header)
}

/// The orientation in an EXIF block of this many bytes; upright where it has none.
fn exif(source: &mut impl Read, length: u64) -> io::Result<Orientation> {
    let mut block = Vec::new();
    source.take(length.min(MAX_EXIF)).read_to_end(&mut block)?;
    skip(source, length.saturating_sub(MAX_EXIF))?;
    let start = if block.starts_with(b"Exif\0\0") { 6 } else { 0 };
    Ok(Orientation::from_exif_chunk(&block[start..]).unwrap_or(Orientation::NoTransforms))
}

/// Passes over `length` bytes, or to the end.
fn skip(source: &mut impl Read, length: u64) -> io::Result<u64> {
    io::copy(&mut source.take(length), &mut io::sink())
}

/// Numbers in text, between spaces and comments: width, height and, but in bitmaps, the greatest value.
fn pnm_header(kind: u8, source: &mut impl Read) -> Result<Header, Reason> {
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

fn gif_header(source: &mut impl Read) -> Result<Header, Reason> {
    let [w0, w1, h0, h1] = bytes(source)?;
    let size = [[w0, w1], [h0, h1]].map(|b| u32::from(u16::from_le_bytes(b)));
    Ok(Header::new(Format::Gif, size[0], size[1]))
}

fn bmp_header(source: &mut impl Read) -> Result<Header, Reason> {
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

/// Reads the first chunk, and all others of an extended file that says it has EXIF.
fn webp_header(source: &mut impl Read) -> Result<Header, Reason> {
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
            const HAS_EXIF: u8 = 1 << 3;
            if flags & HAS_EXIF == 0 {
                return Ok(header);
            }
            while let Ok([kind @ .., l0, l1, l2, l3]) = bytes::<8>(source) {
                let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
                if &kind == b"EXIF" {
                    return Ok(header.turned(exif(source, length)?));
                }
                skip(source, length + length % 2)?;
            }
            Ok(header)
        }
        _ => Err(bad()),
    }
}

/// Scans the markers (ITU-T T.81, annex B) up to the frame header.
fn jpeg_header(source: &mut impl Read) -> Result<Header, Reason> {
    let mut orientation = Orientation::NoTransforms;
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
                let [width, height] =
                    [[w1, w0], [h1, h0]].map(|b| u32::from(u16::from_be_bytes(b)));
                let header = Header::new(Format::Jpeg, width, height).turned(orientation);
                return Ok(Header { precision, ..header });
            }
            // APP1; the first with an orientation counts.
            0xe1 if orientation == Orientation::NoTransforms => {
                let length = u64::from(u16::from_be_bytes(bytes::<2>(source)?));
                orientation = exif(source, length.saturating_sub(2))?;
            }
            _ => {
                let length = u64::from(u16::from_be_bytes(bytes::<2>(source)?));
                let body = length.saturating_sub(2);
                if skip(source, body)? < body {
                    return Err(Reason::Io(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}
