//! Images as RGB bytes: recognising, decoding (JPEG, PNG, WebP, GIF, BMP), turning upright and
//! resizing them.
//!
//! ```
//! use headstart::image::{Interpolation, Rgb8, resize};
//!
//! let checker = Rgb8::new(2, 2, vec![0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0])?;
//! let large = resize(&checker, 224, 224, Interpolation::Bicubic)?;
//! assert_eq!((large.height, large.width, large.pixels.len()), (224, 224, 224 * 224 * 3));
//! # Ok::<(), headstart::Error>(())
//! ```

mod decode;
mod header;
pub mod picture;
mod resize;
mod target;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::error::{Error, Result};

pub use header::{Format, Header, MAX_PIXELS};
pub(crate) use header::{NotRead, read_header};
pub use resize::{Interpolation, Resizer, resize};
pub use target::Target;

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

/// Decodes a JPEG, PNG, WebP, GIF or BMP, recognised by content; `path` only names it in errors.
///
/// The result is what Pillow's `ImageOps.exif_transpose(Image.open(..)).convert("RGB")` gives: the picture
/// stands as its EXIF orientation says (in a PNG only an eXIf chunk before the pixels counts), grey is
/// repeated, alpha is dropped (not composited), palettes and CMYK are converted, colour profiles
/// are ignored, animations yield their first picture. 16-bit samples keep their high byte, also in
/// grey images (where Pillow clips at 255 instead). PNG, GIF, BMP and lossless WebP are exact; JPEG and lossy
/// WebP stay within a few counts of libjpeg and libwebp (see `tests/images.rs` for the measured bounds).
///
/// Keras's `load_img` ignores the orientation; photos from telephones need it.
///
/// # Errors
/// On anything else, on more than [`MAX_PIXELS`] pixels, and on corrupt or truncated data.
pub fn decode(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Rgb8<'static>> {
    decode_bytes(bytes).map_err(|reason| unreadable(path, reason))
}

/// The error for an image that cannot be decoded for `reason`.
pub(crate) fn unreadable(path: impl Into<PathBuf>, reason: String) -> Error {
    Error::format(
        path,
        "a JPEG, PNG, WebP, GIF or BMP image",
        reason,
        "open and re-save it with an image program, or remove it",
    )
}

/// [`decode`], failing with only the reason.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Rgb8<'static>, String> {
    let header = read_header(&mut &bytes[..])?;
    let pixels = guarded(header.format, || decode::pixels(bytes, &header))?;
    let Header { width, height, .. } = header;
    if pixels.len() != width * height * 3 {
        return Err(format!("{} bytes of pixels for {width}x{height}", pixels.len()));
    }
    Ok(Rgb8 { width, height, pixels: Cow::Owned(pixels) })
}

/// Runs a decoder. A defect in one must cost one image, not the process.
fn guarded(
    format: Format,
    decoder: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    catch_unwind(AssertUnwindSafe(decoder))
        .unwrap_or_else(|_| Err(format!("{format} data that the decoder cannot handle")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_costs_one_image() {
        let reason = guarded(Format::Gif, || panic!("a defect")).unwrap_err();
        assert_eq!(reason, "GIF data that the decoder cannot handle");
        assert_eq!(guarded(Format::Gif, || Ok(vec![1])), Ok(vec![1]));
    }
}
