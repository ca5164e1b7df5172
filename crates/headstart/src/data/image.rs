//! Images as RGB bytes: recognising, decoding (JPEG, PNG, WebP, GIF, BMP, PNM, TIFF, TGA, ICO, QOI, JPEG XL), turning
//! upright and resizing them. `docs/formats.md` says what is read of each format.
//!
//! ```
//! use headstart::image::{Interpolation, Rgb8, resize};
//!
//! let checker = Rgb8::new(2, 2, vec![0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0])?;
//! let large = resize(&checker, 224, 224, Interpolation::Bicubic)?;
//! assert_eq!((large.height, large.width, large.pixels.len()), (224, 224, 224 * 224 * 3));
//! # Ok::<(), headstart::Error>(())
//! ```

mod bmp;
mod decode;
mod directory;
mod formats;
mod gif;
mod header;
mod ico;
mod jpeg;
mod jpeg_writer;
mod jpeg_xl;
mod mirror;
mod orientation;
pub mod picture;
mod png;
mod qoi;
mod reduced;
mod resize;
mod target;
mod tga;
mod tiff;
mod view;

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::memory::{self, Claim};
use crate::numbers::grouped;

pub use formats::{FORMATS, Format, is_image_name};
pub(crate) use formats::{has_image_extension, suits};
pub use header::{Header, MAX_PIXELS, MAX_SIDE};
pub(crate) use header::{NotRead, read_header, read_named};
pub use jpeg_writer::jpeg;
pub(crate) use mirror::mirror;
pub use reduced::Decode;
pub(crate) use reduced::{is_large, scale};
pub use resize::{Interpolation, Resizer, resize};
pub use target::{CROP_SHARE, Fit, FitName, PADDING, Target, Window};
pub use view::{Corner, View, Views};

/// An image of 8-bit RGB pixels: `pixels` is height x width x 3, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8<'a> {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// `height * width * 3` bytes, R then G then B.
    pub pixels: Cow<'a, [u8]>,
}

impl<'a> Rgb8<'a> {
    /// An image from its bytes; fails unless there are exactly `width * height * 3`, at least one
    /// pixel's worth.
    pub fn new(width: usize, height: usize, pixels: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let pixels = pixels.into();
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(pixels.len()) || pixels.is_empty() {
            return Err(Error::invalid(
                "image",
                format!("{width} x {height} x 3 bytes, at least one pixel"),
                format!("{} bytes", pixels.len()),
                "",
            ));
        }
        Ok(Rgb8 { width, height, pixels })
    }

    /// The same image, owning its bytes.
    pub fn into_owned(self) -> Rgb8<'static> {
        let Rgb8 { width, height, pixels } = self;
        Rgb8 { width, height, pixels: Cow::Owned(pixels.into_owned()) }
    }
}

/// Longest file that is read as an image.
pub const MAX_FILE: u64 = 256 << 20;

/// Reads an image file, as [`decode`] does its bytes.
///
/// # Errors
/// If it cannot be read, is longer than [`MAX_FILE`] bytes, and as [`decode`].
pub fn open(path: impl AsRef<Path>) -> Result<Rgb8<'static>> {
    let path = path.as_ref();
    decode(path, &read(path)?)
}

/// The bytes of an image file, to be decoded.
///
/// # Errors
/// If it cannot be read, or is longer than [`MAX_FILE`] bytes.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut claim = Claim::default();
    // One byte too many says that there are more.
    let mut file = memory::open(path)?.take(MAX_FILE + 1);
    let length = file.get_ref().metadata().map_err(Error::io("read", path))?.len();
    let long = || unreadable(path, format!("a file of more than {} MiB", MAX_FILE >> 20));
    if length > MAX_FILE {
        return Err(long());
    }
    let bytes = memory::read_from(&mut file, path, length, u64::MAX, &mut claim)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(long());
    }
    // The decoder counts them with what it needs.
    drop(claim);
    Ok(bytes)
}

/// Decodes a file of any [`Format`], told apart by content; `path` only names it in errors.
///
/// The result is what Pillow's `ImageOps.exif_transpose(Image.open(..)).convert("RGB")` gives: the picture
/// stands as its EXIF or XMP orientation says, grey is
/// repeated, alpha is dropped (not composited), palettes and CMYK are converted, colour profiles
/// are ignored, animations yield their first picture. 16-bit samples keep their high byte in PNG and are rounded in PNM, also in
/// grey images (where Pillow clips at 255 instead). JPEG is exact, also where it is damaged, and what Pillow
/// refuses of it is refused, but for arithmetic codes of more than 64 KiB. All others are exact, too, but lossy WebP and
/// JPEG XL, which stay within a few counts of libwebp and libjxl (see `tests/suite/images.rs` and `formats.rs` for the measured bounds).
///
/// Keras's `load_img` ignores the orientation; photos from telephones need it.
///
/// # Errors
/// On anything else, on more than [`MAX_PIXELS`] pixels or [`MAX_SIDE`] on a side, and on corrupt or truncated data.
pub fn decode(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Rgb8<'static>> {
    let path = path.into();
    let name = path.to_string_lossy();
    let header = read_named(&name, &mut Cursor::new(bytes)).map_err(String::from);
    header.and_then(|header| pixels(bytes, header, 1)).map_err(|reason| unreadable(&path, reason))
}

/// Width and height of an image file, upright, as its first bytes say; `path` only names it in errors.
///
/// # Errors
/// If it is no image that is read, or too large a one.
pub fn size(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<(usize, usize)> {
    let header = header(path, bytes)?;
    Ok((header.width, header.height))
}

/// What the first bytes of an image file say; `path` only names it in errors.
///
/// ```
/// use headstart::image::{Format, Rgb8, header, picture};
///
/// let file = picture::png(&Rgb8::new(2, 1, vec![0; 6])?)?;
/// let header = header("dot.png", &file)?;
/// assert_eq!((header.format, header.width, header.height), (Format::Png, 2, 1));
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// As [`size`].
pub fn header(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Header> {
    let path = path.into();
    let header = read_named(&path.to_string_lossy(), &mut Cursor::new(bytes));
    header.map_err(|reason| unreadable(&path, String::from(reason)))
}

/// As [`decode`], but a JPEG is made smaller while it is decoded, by 2, 4 or 8, where both its sides stay at least `side`: what
/// Pillow's `Image.draft(None, (side, side))` does, byte for byte. Each pixel is about the mean of those it stands for.
/// It takes a half to a quarter of the time. `side` twice as long as the image is needed leaves no trace of it.
///
/// ```
/// use headstart::image::{Rgb8, decode_draft, jpeg};
///
/// let large = jpeg(&Rgb8::new(1000, 800, vec![90; 1000 * 800 * 3])?, 90)?;
/// let small = decode_draft("large.jpg", &large, 2 * 128)?;
/// assert_eq!((small.width, small.height), (500, 400));
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// As [`decode`].
pub fn decode_draft(path: impl Into<PathBuf>, bytes: &[u8], side: usize) -> Result<Rgb8<'static>> {
    let path = path.into();
    let name = path.to_string_lossy();
    let header = read_named(&name, &mut Cursor::new(bytes)).map_err(String::from);
    let read = header.and_then(|header| pixels(bytes, header, header.draft(side)));
    read.map_err(|reason| unreadable(&path, reason))
}

/// The error for an image that cannot be decoded for `reason`.
pub(crate) fn unreadable(path: impl Into<PathBuf>, reason: String) -> Error {
    Error::format(
        path,
        format!("an image that is read: {FORMATS}"),
        reason,
        "open and re-save it with an image program, or remove it",
    )
}

/// [`decode`], failing with only the reason.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Rgb8<'static>, String> {
    decode_scaled(bytes, 1)
}

/// The same, with both sides of a JPEG made `scale` times smaller, which is 1, 2, 4 or 8.
pub(crate) fn decode_scaled(bytes: &[u8], scale: usize) -> Result<Rgb8<'static>, String> {
    let header = read_header(&mut Cursor::new(bytes))?;
    let scale = if header.format == Format::Jpeg { scale } else { 1 };
    pixels(bytes, header, scale)
}

/// Pixels that a file of any length may have, and how many more for each of its bytes: what Deflate makes of one at most, where
/// each is a bit. A file of some formats tells any number of pixels of one colour in a few bytes.
const FREE_PIXELS: u64 = 1 << 24;
const PIXELS_PER_BYTE: u64 = 8 * 1032;

/// Decodes a file of this header; of a JPEG both sides become `scale` times smaller.
fn pixels(bytes: &[u8], header: Header, scale: usize) -> Result<Rgb8<'static>, String> {
    let Header { format, width, height, .. } = header;
    let most = FREE_PIXELS.saturating_add((bytes.len() as u64).saturating_mul(PIXELS_PER_BYTE));
    if header.pixels() as u64 > most {
        let length = grouped(bytes.len());
        return Err(format!(
            "a {format} of {width}x{height} pixels in {length} bytes, which is too few for a picture"
        ));
    }
    let need = decode::memory(bytes, &header).saturating_add(bytes.len() as u64);
    let _claim = memory::passing(need)
        .map_err(|over| format!("a {format} of {width}x{height} pixels that takes {over}"))?;
    let pixels = without_panic(header.format, || decode::pixels(bytes, &header, scale))?;
    let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
    if pixels.len() != width * height * 3 {
        return Err(format!("{} bytes of pixels for {width}x{height}", pixels.len()));
    }
    Ok(Rgb8 { width, height, pixels: Cow::Owned(pixels) })
}

/// Runs a decoder. A defect in one must cost one image, not the process.
fn without_panic(
    format: Format,
    decoder: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    guarded(decoder)
        .unwrap_or_else(|_| Err(format!("{format} data that the decoder cannot handle")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_costs_one_image() {
        let reason = without_panic(Format::Gif, || panic!("a defect")).unwrap_err();
        assert_eq!(reason, "GIF data that the decoder cannot handle");
        assert_eq!(without_panic(Format::Gif, || Ok(vec![1])), Ok(vec![1]));
    }
}
