//! From an encoded image to upright RGB bytes, one function per encoding.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::ico::{self, Inside};
use super::{Format, Header, bmp, gif, jpeg, jpeg_xl, png, qoi, read_header, tga, tiff};

/// Bytes of memory that decoding takes at most, with those of the result.
pub(super) fn memory(bytes: &[u8], header: &Header) -> u64 {
    let pixels = header.pixels() as u64;
    let own = match header.format {
        Format::Jpeg => jpeg::memory(bytes),
        // Up to 4 samples a pixel, and what becomes of them; a file that is mended is copied twice.
        Format::Png => 7 * pixels + 2 * bytes.len() as u64,
        // Numbers of pixels, in a vector that doubles, and their colours.
        Format::Gif => 5 * pixels,
        // Floats of each colour, before and after its filters.
        Format::JpegXl => 48 * pixels,
        Format::Bmp => alloc(header).saturating_add(bytes.len() as u64),
        _ => alloc(header),
    };
    let turned = if header.orientation == Orientation::NoTransforms { 0 } else { 3 * pixels };
    own.saturating_add(turned).saturating_add(SMALL)
}

/// Room for rows, tables and palettes.
const SMALL: u64 = 1 << 20;

/// What the `image` crate's decoders may take: they hold the picture, a previous frame and rows of their own.
fn alloc(header: &Header) -> u64 {
    header.pixels() as u64 * 16 + SMALL
}

/// Decodes `bytes`, whose header is `header`, to `height * width * 3` bytes; of a JPEG both sides become `scale` times smaller.
pub(super) fn pixels(bytes: &[u8], header: &Header, scale: usize) -> Result<Vec<u8>, String> {
    let stored = match header.format {
        Format::Jpeg => jpeg::decode(bytes, header.stored(), scale),
        Format::Png => png::decode(bytes, header),
        Format::WebP => decode_webp(bytes, header),
        Format::Gif => gif::decode(bytes),
        Format::Bmp => decode_bmp(bytes, header),
        Format::Pnm => decode_other(bytes, header, ImageFormat::Pnm),
        Format::Tiff => tiff::decode(bytes),
        Format::Tga => tga::decode(bytes),
        Format::Ico => decode_ico(bytes, header),
        Format::Qoi => qoi::decode(bytes, header.stored()),
        // The decoder turns it.
        Format::JpegXl => return jpeg_xl::decode(bytes, (header.width, header.height)),
    }?;
    if header.orientation == Orientation::NoTransforms {
        return Ok(stored);
    }
    let (width, height) = header.stored();
    let (width, height) = (width.div_ceil(scale), height.div_ceil(scale));
    let short = || format!("fewer pixels than {width}x{height}");
    let image = RgbImage::from_raw(width as u32, height as u32, stored).ok_or_else(short)?;
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(header.orientation);
    Ok(image.into_rgb8().into_raw())
}

/// The first picture of a file in one of the `image` crate's formats.
fn decode_other(bytes: &[u8], header: &Header, format: ImageFormat) -> Result<Vec<u8>, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(alloc(header));
    reader.limits(limits);
    let name = header.format;
    let image = reader.decode().map_err(|error| match error {
        ImageError::IoError(_) => format!("a {name} that ends too early"),
        ImageError::Limits(_) => format!("a {name} that takes more memory than its size says"),
        other => format!("a corrupt {name} ({other})"),
    })?;
    let size = (image.width() as usize, image.height() as usize);
    if size != header.stored() {
        return Err(format!("a {name} of {}x{} pixels in a larger frame", size.0, size.1));
    }
    Ok(image.into_rgb8().into_raw())
}

fn decode_bmp(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let bytes = &*bmp::mended(bytes);
    if let Some(decoded) = bmp::of_runs(bytes) {
        return decoded;
    }
    let mut rgb = decode_other(bytes, header, ImageFormat::Bmp)?;
    bmp::exact(bytes, &mut rgb);
    Ok(rgb)
}

/// A WebP is as long as it says; what follows is no part of it (libwebp's `demux.c`).
fn decode_webp(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let length = match bytes {
        [_, _, _, _, l0, l1, l2, l3, ..] => u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize,
        _ => 0,
    };
    let whole = length.checked_add(8).and_then(|end| bytes.get(..end)).filter(|_| length >= 8);
    let whole = whole.ok_or("a WebP that ends too early, or has a wrong length")?;
    decode_other(whole, header, ImageFormat::WebP)
}

/// The picture of an icon, whose header this is.
fn decode_ico(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let inside = |format| Header { format, ..*header };
    match ico::inside(bytes)? {
        Inside::Png(png) => {
            let own = read_header(&mut Cursor::new(png))?;
            match own.stored() == header.stored() {
                true => png::decode(png, &own),
                false => Err("an ICO whose PNG has another size".into()),
            }
        }
        Inside::Bmp(bmp) => decode_bmp(&bmp, &inside(Format::Bmp)),
    }
}
