//! Images as RGB bytes: recognising, decoding (JPEG, PNG) and resizing them.

mod header;
mod resize;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::error::{Error, Result};

pub use header::{Format, Header, MAX_PIXELS};
pub(crate) use header::{NotRead, read_header};
pub use resize::{Interpolation, Resizer, resize};

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

/// Decodes a JPEG or PNG, told apart by content; `path` only names it in errors.
///
/// The result is what Pillow's `Image.open(..).convert("RGB")` gives: grey is repeated, alpha
/// is dropped (not composited), palettes and CMYK are converted, EXIF orientation and colour
/// profiles are ignored, APNG yields its first picture. 16-bit samples keep their high byte,
/// also in grey images (where Pillow clips at 255 instead). PNG is exact; baseline JPEG stays within a
/// few counts of libjpeg (see `tests/images.rs` for the measured bounds).
///
/// Fails on anything else, on more than [`MAX_PIXELS`] pixels, and on corrupt or truncated data.
pub fn decode(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Rgb8<'static>> {
    decode_bytes(bytes).map_err(|reason| unreadable(path, reason))
}

/// The error for an image that cannot be decoded for `reason`.
pub(crate) fn unreadable(path: impl Into<PathBuf>, reason: String) -> Error {
    Error::format(
        path,
        "a JPEG or PNG image",
        reason,
        "open and re-save it with an image program, or remove it",
    )
}

/// [`decode`], failing with only the reason.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Rgb8<'static>, String> {
    let header = read_header(&mut &bytes[..])?;
    let decoder = match header.format {
        Format::Jpeg => decode_jpeg,
        Format::Png => decode_png,
    };
    // A defect in a decoder must cost one image, not the process.
    let pixels =
        catch_unwind(AssertUnwindSafe(|| decoder(bytes, &header))).unwrap_or_else(|_| {
            Err(format!("{} data that the decoder cannot handle", header.format))
        })?;
    let Header { width, height, .. } = header;
    if pixels.len() != width * height * 3 {
        return Err(format!("{} bytes of pixels for {width}x{height}", pixels.len()));
    }
    Ok(Rgb8 { width, height, pixels: Cow::Owned(pixels) })
}

fn decode_jpeg(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    use jpeg_decoder::PixelFormat;
    let failed = |error| match error {
        jpeg_decoder::Error::Io(_) => "a JPEG that ends too early".to_string(),
        other => format!("a corrupt JPEG ({other})"),
    };
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(header.width * header.height * 4);
    let data = decoder.decode().map_err(failed)?;
    let info = decoder.info().ok_or("a JPEG without a frame")?;
    if (usize::from(info.width), usize::from(info.height)) != (header.width, header.height) {
        return Err("a JPEG whose frames differ in size".to_string());
    }
    Ok(match info.pixel_format {
        PixelFormat::RGB24 => data,
        PixelFormat::L8 => data.iter().flat_map(|&v| [v; 3]).collect(),
        // Samples are native-endian; their depth is the frame's precision.
        PixelFormat::L16 => {
            let shift = header.precision.saturating_sub(8);
            data.as_chunks::<2>()
                .0
                .iter()
                .flat_map(|&s| [(u16::from_ne_bytes(s) >> shift).min(255) as u8; 3])
                .collect()
        }
        PixelFormat::CMYK32 => {
            data.as_chunks::<4>().0.iter().flat_map(|&ink| cmyk_to_rgb(ink)).collect()
        }
    })
}

/// Pillow's `cmyk2rgb` (`Convert.c`): 255 - K - C (255 - K) / 255, per colour.
fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(k);
    [c, m, y].map(|ink| {
        let t = u32::from(ink) * light + 128;
        light.saturating_sub(((t >> 8) + t) >> 8) as u8
    })
}

fn decode_png(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    use png::{ColorType, Transformations};
    let failed = |error: png::DecodingError| match error {
        png::DecodingError::IoError(_) => "a PNG that ends too early".to_string(),
        other => format!("a corrupt PNG ({other})"),
    };
    // 8 bytes a pixel is the widest PNG there is (RGBA, 16 bits).
    let limits = png::Limits { bytes: header.width * header.height * 8 + (1 << 20) };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().ok_or("a PNG too large for memory")?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    if (frame.width as usize, frame.height as usize) != (header.width, header.height) {
        return Err("an animated PNG whose first picture is smaller than the file says".into());
    }
    data.truncate(frame.buffer_size());
    Ok(match frame.color_type {
        ColorType::Rgb => data,
        ColorType::Rgba => {
            data.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect()
        }
        ColorType::Grayscale => data.iter().flat_map(|&v| [v; 3]).collect(),
        ColorType::GrayscaleAlpha => {
            data.as_chunks::<2>().0.iter().flat_map(|p| [p[0]; 3]).collect()
        }
        ColorType::Indexed => return Err("a PNG with an unexpanded palette".to_string()),
    })
}
