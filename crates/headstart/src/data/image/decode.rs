//! From an encoded image to upright RGB bytes, one function per encoding.

use std::io::Cursor;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::ico::{self, Inside};
use super::{Format, Header, bmp, gif, jpeg, jpeg_xl, qoi, read_header, tga, tiff};

/// Bytes of memory that decoding takes at most, with those of the result.
pub(super) fn memory(bytes: &[u8], header: &Header) -> u64 {
    let pixels = header.pixels() as u64;
    let own = match header.format {
        Format::Jpeg => jpeg::memory(bytes),
        // Up to 4 samples a pixel, and what becomes of them; a file that lacks its end is copied.
        Format::Png => 7 * pixels + bytes.len() as u64,
        // Numbers of pixels, in a vector that doubles, and their colours.
        Format::Gif => 5 * pixels,
        // Floats of each colour, before and after its filters.
        Format::JpegXl => 48 * pixels,
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
        Format::Png => decode_png(bytes, header),
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
                true => decode_png(png, &own),
                false => Err("an ICO whose PNG has another size".into()),
            }
        }
        Inside::Bmp(bmp) => decode_bmp(&bmp, &inside(Format::Bmp)),
    }
}

/// The chunk that ends a PNG.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

/// A PNG that lacks nothing but its end has all its pixels, and is read, as by Pillow.
fn decode_png(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    decode_whole_png(bytes, header).or_else(|error| match error {
        PngError::Short => decode_whole_png(&[bytes, PNG_END].concat(), header)
            .map_err(|_| "a PNG that ends too early".to_string()),
        PngError::Bad(text) => Err(text),
    })
}

enum PngError {
    Short,
    Bad(String),
}

impl From<&str> for PngError {
    fn from(text: &str) -> PngError {
        PngError::Bad(text.into())
    }
}

fn decode_whole_png(bytes: &[u8], header: &Header) -> Result<Vec<u8>, PngError> {
    use png::{ColorType, Transformations};
    let failed = |error: png::DecodingError| match error {
        png::DecodingError::IoError(_) => PngError::Short,
        other => PngError::Bad(format!("a corrupt PNG ({other})")),
    };
    // 8 bytes a pixel is the widest PNG there is (RGBA, 16 bits).
    let limits = png::Limits { bytes: header.pixels() * 8 + (1 << 20) };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().ok_or("a PNG too large for memory")?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    if (frame.width as usize, frame.height as usize) != header.stored() {
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
        ColorType::Indexed => return Err("a PNG with an unexpanded palette".into()),
    })
}
