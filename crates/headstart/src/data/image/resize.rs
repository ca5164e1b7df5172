//! Resizing as Pillow does it: the whole image is stretched to the target size ("squash", the
//! default of Keras's `image_dataset_from_directory`); reductions are antialiased. Results equal
//! Pillow's up to version 12 to the byte; version 13 swaps the passes where the height shrinks
//! most, which moves single counts.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use headstart_kernels::isa::Isa;
use headstart_kernels::resample::{self, PLACES, Span};

use super::{MAX_PIXELS, MAX_SIDE, Rgb8};
use crate::error::{Error, Result};

/// How values between pixels are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// The pixel under the centre; by an integer factor, `numpy.repeat` on both axes.
    Nearest,
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Cubic convolution with a = -0.5 (Keys 1981), as Pillow.
    Bicubic,
}

impl Interpolation {
    /// Every choice, in the order help texts list them.
    pub const ALL: [Interpolation; 3] =
        [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic];

    /// The name as the command line and model files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Interpolation::Nearest => "nearest",
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        }
    }
}

impl std::str::FromStr for Interpolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Interpolation> {
        Interpolation::ALL.into_iter().find(|i| i.name() == text).ok_or_else(|| {
            Error::invalid("interpolation", "nearest, bilinear or bicubic", text, "")
        })
    }
}

/// Resizes images one after another with the same working memory. Use one per thread.
#[derive(Default)]
pub struct Resizer {
    columns: Vec<usize>,
    taps: Taps,
    isa: Option<Isa>,
    middle: Vec<u8>,
}

impl Resizer {
    /// A resizer without working memory yet.
    pub fn new() -> Resizer {
        Resizer::default()
    }

    /// Writes `image` at `width` x `height` to `out`, which must hold `height * width * 3` bytes. No side may be longer than
    /// [`MAX_SIDE`], and what is between the two passes, `width` times the image's height, no more than [`MAX_PIXELS`].
    pub fn resize_into(
        &mut self,
        image: &Rgb8<'_>,
        width: usize,
        height: usize,
        interpolation: Interpolation,
        out: &mut [u8],
    ) -> Result<()> {
        let bytes = |width: usize, height: usize| width.checked_mul(height)?.checked_mul(3);
        let sides = [width, height, image.width, image.height];
        let large = sides.iter().any(|&side| side > MAX_SIDE)
            || bytes(width, image.height).is_none_or(|n| n > 3 * MAX_PIXELS);
        if large {
            let expected = format!("sides of at most {MAX_SIDE} pixels, {MAX_PIXELS} in all");
            let found = format!("{}x{} to {width}x{height}", image.width, image.height);
            return Err(Error::invalid("resize", expected, found, ""));
        }
        let whole = bytes(image.width, image.height) == Some(image.pixels.len());
        if bytes(width, height) != Some(out.len())
            || out.is_empty()
            || !whole
            || image.pixels.is_empty()
        {
            return Err(Error::invalid(
                "resize",
                format!("{width} x {height} x 3 bytes, at least one pixel"),
                format!("{} bytes", out.len()),
                "",
            ));
        }
        if (width, height) == (image.width, image.height) {
            out.copy_from_slice(&image.pixels);
            return Ok(());
        }
        let filter = match interpolation {
            Interpolation::Nearest => {
                self.nearest(image, width, height, out);
                return Ok(());
            }
            Interpolation::Bilinear => Filter { support: 1.0, weight: triangle },
            Interpolation::Bicubic => Filter { support: 2.0, weight: cubic },
        };
        let isa = *self.isa.get_or_insert_with(|| Isa::from_env().unwrap_or_else(|_| Isa::best()));
        let (mut source, mut middle) = (&image.pixels[..], std::mem::take(&mut self.middle));
        if width != image.width {
            self.taps.fill(image.width, width, filter);
            let Taps { spans, weights, .. } = &self.taps;
            if height == image.height {
                resample::horizontal(isa, source, image.width, spans, weights, out);
            } else {
                middle.resize(width * image.height * 3, 0);
                resample::horizontal(isa, source, image.width, spans, weights, &mut middle);
                source = &middle;
            }
        }
        if height != image.height {
            self.taps.fill(image.height, height, filter);
            let Taps { spans, weights, .. } = &self.taps;
            resample::vertical(isa, source, width * 3, spans, weights, out);
        }
        self.middle = middle;
        Ok(())
    }

    fn nearest(&mut self, image: &Rgb8<'_>, width: usize, height: usize, out: &mut [u8]) {
        self.columns.clear();
        self.columns.extend(centres(image.width, width).map(|x| 3 * x));
        let mut last = usize::MAX;
        for (y, row) in centres(image.height, height).enumerate() {
            let (done, rest) = out.split_at_mut(y * width * 3);
            let target = &mut rest[..width * 3];
            if row == last {
                target.copy_from_slice(&done[(y - 1) * width * 3..]);
                continue;
            }
            last = row;
            let source = &image.pixels[row * image.width * 3..][..image.width * 3];
            for (pixel, &from) in target.as_chunks_mut::<3>().0.iter_mut().zip(&self.columns) {
                pixel.copy_from_slice(&source[from..from + 3]);
            }
        }
    }
}

/// The source position under the centre of each of `to` output positions.
///
/// Summed step by step as Pillow's `ImagingScaleAffine` does, whose rounding decides ties.
fn centres(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let step = from as f64 / to as f64;
    let mut next = step * 0.5;
    (0..to).map(move |_| {
        let here = (next as usize).min(from - 1);
        next += step;
        here
    })
}

#[derive(Clone, Copy)]
struct Filter {
    /// Half the width, in source pixels, when not reducing.
    support: f64,
    weight: fn(f64) -> f64,
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys (1981) with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// For each output position, the first source position and the fixed-point weights from there.
///
/// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` (`Resample.c`), so that results are
/// equal to the byte.
#[derive(Default)]
struct Taps {
    spans: Vec<Span>,
    weights: Vec<i32>,
    exact: Vec<f64>,
}

impl Taps {
    fn fill(&mut self, from: usize, to: usize, filter: Filter) {
        self.spans.clear();
        self.weights.clear();
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        for i in 0..to {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            self.exact.clear();
            self.exact.extend((first..end).map(|x| {
                let distance = x as f64 - center + 0.5;
                (filter.weight)(distance * (1.0 / stretch))
            }));
            let total: f64 = self.exact.iter().sum();
            self.weights.extend(self.exact.iter().map(|w| {
                let fixed = w / total * f64::from(1 << PLACES);
                (fixed + 0.5f64.copysign(fixed)) as i32
            }));
            self.spans.push((first, self.weights.len()));
        }
    }
}

/// `image` at `width` x `height`; fails when either is zero.
pub fn resize(
    image: &Rgb8<'_>,
    width: usize,
    height: usize,
    interpolation: Interpolation,
) -> Result<Rgb8<'static>> {
    let size = width.checked_mul(height).and_then(|n| n.checked_mul(3));
    let mut out = vec![0; size.filter(|&n| n <= 3 * MAX_PIXELS).unwrap_or(0)];
    Resizer::new().resize_into(image, width, height, interpolation, &mut out)?;
    Ok(Rgb8 { width, height, pixels: Cow::Owned(out) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Rgb8<'static> {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
        Rgb8::new(width, height, pixels).unwrap()
    }

    #[test]
    fn nearest_by_an_integer_factor_repeats() {
        let image = picture(5, 3);
        for factor in 1..8 {
            let big = resize(&image, 5 * factor, 3 * factor, Interpolation::Nearest).unwrap();
            for y in 0..3 * factor {
                for x in 0..5 * factor {
                    let at = |w: usize, x: usize, y: usize| (y * w + x) * 3;
                    let (to, from) = (at(5 * factor, x, y), at(5, x / factor, y / factor));
                    assert_eq!(big.pixels[to..to + 3], image.pixels[from..from + 3]);
                }
            }
        }
    }

    #[test]
    fn the_same_size_changes_nothing_and_zero_is_refused() {
        let image = picture(7, 4);
        for interpolation in Interpolation::ALL {
            assert_eq!(resize(&image, 7, 4, interpolation).unwrap(), image);
            assert!(resize(&image, 0, 4, interpolation).is_err());
            assert!(resize(&image, 4, usize::MAX, interpolation).is_err());
            assert_eq!(interpolation.name().parse::<Interpolation>().unwrap(), interpolation);
            let flat = Rgb8::new(3, 2, vec![200; 18]).unwrap();
            let big = resize(&flat, 17, 1, interpolation).unwrap();
            assert!(big.pixels.iter().all(|&v| v == 200));
        }
        assert!("lanczos".parse::<Interpolation>().is_err());
    }
}
