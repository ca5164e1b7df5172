//! Images as pictures: thumbnails, magnified images, PNG files.

use super::{Interpolation, Rgb8, resize};
use crate::error::{Error, Result};

/// `image` made to fit a square of `side` pixels, with its proportions; small ones are left as they are
/// unless they are less than half of it.
///
/// # Errors
/// If it cannot be resized.
pub fn thumbnail(image: &Rgb8<'_>, side: usize) -> Result<Rgb8<'static>> {
    let longest = image.width.max(image.height);
    let scale = side as f64 / longest as f64;
    let to = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    let how = if scale > 1.0 { Interpolation::Nearest } else { Interpolation::Bilinear };
    if (0.5..=1.0).contains(&(longest as f64 / side as f64)) {
        return Ok(image.clone().into_owned());
    }
    Ok(resize(image, to(image.width), to(image.height), how)?.into_owned())
}

/// `image` upsampled by nearest neighbour, by the least whole factor that gives its longer side `least` pixels.
///
/// # Errors
/// If it has no pixels.
pub fn enlarged<'a>(image: &'a Rgb8<'_>, least: usize) -> Result<Rgb8<'a>> {
    let factor = least.div_ceil(image.width.max(image.height).max(1)).max(1);
    let (width, height) = (image.width * factor, image.height * factor);
    resize(image, width, height, Interpolation::Nearest)
}

/// A PNG file of an image.
///
/// # Errors
/// If it cannot be encoded.
pub fn png(image: &Rgb8<'_>) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::invalid("PNG", "an image", e.to_string(), "");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&image.pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}
