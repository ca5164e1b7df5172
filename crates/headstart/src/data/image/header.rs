//! Kind and size of an image, read from its first bytes without decoding.

mod jpeg;
mod jpeg_xl;
mod png;
mod small;
mod webp;

use std::io::{self, Read, Seek, SeekFrom};

use ::image::metadata::Orientation;

use super::directory::Directory;
use super::formats::{Foreign, Format, RAW, foreign_by_content, foreign_by_name};
use super::{gif, ico, reduced, tga, tiff};

/// Images with more pixels than this are refused before any memory is taken for them.
pub const MAX_PIXELS: usize = 100_000_000;

/// Images that are wider or higher than this are refused, too, as none of JPEG are: what resizing needs grows with each side.
pub const MAX_SIDE: usize = 65_535;

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

    /// How many times smaller the image may be decoded so that both sides stay at least `side`: Pillow's `draft`.
    pub(super) fn draft(&self, side: usize) -> usize {
        match self.format {
            Format::Jpeg => reduced::scale(self.width, self.height, side),
            _ => 1,
        }
    }

    /// Number of pixels.
    pub(super) fn pixels(&self) -> usize {
        self.width * self.height
    }
}

const PNG_MAGIC: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
const JPEG_XL_MAGIC: &[u8; 12] = b"\0\0\0\x0cJXL \r\n\x87\n";
/// As much of a file as tells its kind.
const HEAD: usize = 256;

/// Why there is no header.
#[derive(Debug)]
pub(crate) struct NotRead {
    /// What was found, worded to follow "found".
    pub reason: String,
    /// Whether the file is none of the formats that are read, rather than a bad one of them.
    pub alien: bool,
    /// Whether what it is cannot even be named.
    pub unknown: bool,
}

impl From<NotRead> for String {
    fn from(error: NotRead) -> String {
        error.reason
    }
}

/// [`read_header`] of a file of this name, which counts where the content says nothing, and tells a camera's raw file from a
/// TIFF: many begin as one, with a small preview.
pub(crate) fn read_named(name: &str, source: &mut (impl Read + Seek)) -> Result<Header, NotRead> {
    let named = foreign_by_name(name);
    let foreign =
        |kind: &Foreign| NotRead { reason: kind.to_string(), alien: true, unknown: false };
    match (read_header(source), named) {
        (Ok(Header { format: Format::Tiff, .. }), Some(kind)) => Err(foreign(kind)),
        (Err(error), Some(kind)) if error.unknown || (!error.alien && *kind == RAW) => {
            Err(foreign(kind))
        }
        (other, _) => other,
    }
}

/// Reads as much of `source`, which begins with the file, as tells the size.
pub(crate) fn read_header(source: &mut (impl Read + Seek)) -> Result<Header, NotRead> {
    let alien = |reason: String| NotRead { reason, alien: true, unknown: false };
    let unreadable = |e: io::Error| alien(format!("a read error ({e})"));
    let mut start = [0; HEAD];
    source.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let got = read_up_to(source, &mut start).map_err(unreadable)?;
    let head = &start[..got];
    let mut from = |at: u64| source.seek(SeekFrom::Start(at));
    let header = match head {
        [] => return Err(alien("an empty file".to_string())),
        [0xff, 0xd8, 0xff, ..] => from(2).map_err(Reason::Io).and_then(|_| jpeg::header(source)),
        _ if head.starts_with(PNG_MAGIC) => {
            from(8).map_err(Reason::Io).and_then(|_| png::header(source))
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            from(12).map_err(Reason::Io).and_then(|_| webp::header(source))
        }
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => small::gif(source),
        [b'B', b'M', ..] => small::bmp(&mut &head[2..]),
        [b'P', kind @ b'1'..=b'6', next, ..] if next.is_ascii_whitespace() || *next == b'#' => {
            from(2).map_err(Reason::Io).and_then(|_| small::pnm(*kind, source))
        }
        _ if head.starts_with(b"qoif") => small::qoi(&mut &head[4..]),
        [0xff, 0x0a, ..] => jpeg_xl::bare(&head[2..]),
        _ if head.starts_with(JPEG_XL_MAGIC) => jpeg_xl::in_container(source),
        [0, 0, 1, 0, ..] => small::ico(source),
        _ => match foreign_by_content(head) {
            Some(kind) => return Err(alien(kind.to_string())),
            None if Directory::begins(head) => small::tiff(source),
            None => match tga::Picture::read(head) {
                Some(picture) => Ok(Header::new(Format::Tga, picture.width, picture.height)),
                None => return Err(NotRead { unknown: true, ..alien(describe_unknown(head)) }),
            },
        },
    };
    let bad = |reason: String| NotRead { reason, alien: false, unknown: false };
    let header = header.map_err(|reason| match reason {
        Reason::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            bad("a file that ends within its header".to_string())
        }
        Reason::Io(e) => bad(format!("a read error ({e})")),
        Reason::Bad(text) => bad(text),
        Reason::Foreign(text) => alien(text),
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

fn describe_unknown(head: &[u8]) -> String {
    let hex: Vec<String> = head.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("no image of a known kind (it starts with bytes {})", hex.join(" "))
}

/// Why a header of a known format cannot be read.
enum Reason {
    Io(io::Error),
    Bad(String),
    /// It is of a kind that is not read after all.
    Foreign(String),
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

/// The next `length` bytes, at most `most`; it stands behind all of them then.
fn block(source: &mut (impl Read + Seek), length: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    source.take(length.min(most)).read_to_end(&mut block)?;
    skip(source, length.saturating_sub(most))?;
    Ok(block)
}

/// Passes over `length` bytes, also beyond the end.
fn skip(source: &mut impl Seek, length: u64) -> io::Result<()> {
    source.seek_relative(i64::try_from(length).unwrap_or(i64::MAX))
}
