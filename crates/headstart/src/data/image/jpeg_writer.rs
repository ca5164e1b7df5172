//! A JPEG file of an image: baseline, Huffman coded, colours at full resolution.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::Rgb8;
use crate::error::{Error, Result};

/// A baseline JPEG file of `image` at a `quality` from 1 to 100, as libjpeg counts it.
///
/// # Errors
/// If a side has no pixels, or more than 65,535.
pub fn jpeg(image: &Rgb8<'_>, quality: u8) -> Result<Vec<u8>> {
    let failed = |found: String| Error::invalid("JPEG", "1 to 65535 pixels a side", found, "");
    let side = |n: usize| {
        u16::try_from(n).map_err(|_| failed(format!("{}x{}", image.width, image.height)))
    };
    let (width, height) = (side(image.width)?, side(image.height)?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    encoder
        .encode(&image.pixels, width, height, ColorType::Rgb)
        .map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::decode;

    /// Mean square error against `image` after decoding.
    fn error(image: &Rgb8<'_>, quality: u8) -> f64 {
        let again = decode("x.jpg", &jpeg(image, quality).unwrap()).unwrap();
        assert_eq!((again.width, again.height), (image.width, image.height));
        let pairs = again.pixels.iter().zip(image.pixels.iter());
        let sum: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        sum / image.pixels.len() as f64
    }

    #[test]
    fn a_decoder_gives_the_image_back() {
        for (width, height) in [(1, 1), (8, 8), (17, 5), (40, 64), (200, 3)] {
            let smooth = |i: usize| {
                let (p, c) = (i / 3, i % 3);
                let (x, y) = ((p % width) as f64 / 9.0, (p / width) as f64 / 7.0);
                (127.5 + 100.0 * (x + c as f64).sin() * (y - c as f64).cos()) as u8
            };
            let image =
                Rgb8::new(width, height, (0..width * height * 3).map(smooth).collect::<Vec<_>>());
            let image = image.unwrap();
            let (best, usual) = (error(&image, 100), error(&image, 80));
            assert!(best <= 1.5 && usual <= 12.0, "{width}x{height}: {best} {usual}");
        }
    }

    #[test]
    fn the_worst_of_noise_can_be_coded() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 0 { 0 } else { 255 }
        };
        let noise =
            Rgb8::new(64, 48, (0..64 * 48 * 3).map(|_| next()).collect::<Vec<u8>>()).unwrap();
        assert!(error(&noise, 100) <= 3.0);
        assert!(error(&noise, 1) <= 20_000.0);
        let (low, high) = (jpeg(&noise, 40).unwrap().len(), jpeg(&noise, 95).unwrap().len());
        assert!(low < high);
    }

    #[test]
    fn sides_beyond_the_format_are_refused() {
        let long = Rgb8::new(65_536, 1, vec![0; 65_536 * 3]).unwrap();
        assert!(jpeg(&long, 80).unwrap_err().to_string().contains("65535"));
    }
}
