//! Resizing as Pillow does it: reductions are antialiased. Results equal Pillow's up to version 12 to the byte; version 13
//! swaps the passes where the height shrinks most, which moves single counts.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use headstart_kernels::isa::Isa;
use headstart_kernels::resample::{self, PLACES, Span};

use super::target::Side;
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
    places: Vec<usize>,
    rows: Taps,
    columns: Taps,
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
        let sides = [width, height].map(|n| Side { scaled: n, first: 0, count: n });
        self.part_into(image, sides, interpolation, out)
    }

    /// Writes a part of `image` at another size to `out`: of the columns and of the rows, which the first and second of
    /// `sides` are about, those that are to be made. The limits are those of [`Resizer::resize_into`], but the whole
    /// image, of which a part is made, may be of any size.
    pub(super) fn part_into(
        &mut self,
        image: &Rgb8<'_>,
        sides: [Side; 2],
        interpolation: Interpolation,
        out: &mut [u8],
    ) -> Result<()> {
        let [across, down] = sides;
        check(image, across, down, out)?;
        let whole = |side: Side, n: usize| side.scaled == n && side.count == n;
        let (same_width, same_height) = (whole(across, image.width), whole(down, image.height));
        if same_width && same_height {
            out.copy_from_slice(&image.pixels);
            return Ok(());
        }
        let filter = match interpolation {
            Interpolation::Nearest => {
                self.nearest(image, across, down, out);
                return Ok(());
            }
            Interpolation::Bilinear => Filter { support: 1.0, weight: triangle },
            Interpolation::Bicubic => Filter { support: 2.0, weight: cubic },
        };
        let isa = *self.isa.get_or_insert_with(|| Isa::from_env().unwrap_or_else(|_| Isa::best()));
        let (rows, columns) = (&mut self.rows, &mut self.columns);
        // The rows of the image that are needed.
        let mut needed = 0..image.height;
        if !same_height {
            needed = rows.fill(image.height, down, filter);
        }
        let row = image.width * 3;
        let (mut source, mut middle) =
            (&image.pixels[needed.start * row..needed.end * row], std::mem::take(&mut self.middle));
        if !same_width {
            columns.fill(image.width, across, filter);
            let Taps { spans, weights, .. } = columns;
            if same_height {
                resample::horizontal(isa, source, image.width, spans, weights, out);
            } else {
                middle.resize(across.count * needed.len() * 3, 0);
                resample::horizontal(isa, source, image.width, spans, weights, &mut middle);
                source = &middle;
            }
        }
        if !same_height {
            rows.shift(needed.start);
            let Taps { spans, weights, .. } = rows;
            resample::vertical(isa, source, across.count * 3, spans, weights, out);
        }
        self.middle = middle;
        Ok(())
    }

    fn nearest(&mut self, image: &Rgb8<'_>, across: Side, down: Side, out: &mut [u8]) {
        let width = across.count;
        self.places.clear();
        self.places.extend(centres(image.width, across).map(|x| 3 * x));
        let mut last = usize::MAX;
        for (y, row) in centres(image.height, down).enumerate() {
            let (done, rest) = out.split_at_mut(y * width * 3);
            let target = &mut rest[..width * 3];
            if row == last {
                target.copy_from_slice(&done[(y - 1) * width * 3..]);
                continue;
            }
            last = row;
            let source = &image.pixels[row * image.width * 3..][..image.width * 3];
            for (pixel, &from) in target.as_chunks_mut::<3>().0.iter_mut().zip(&self.places) {
                pixel.copy_from_slice(&source[from..from + 3]);
            }
        }
    }
}

/// Whether sizes are within the limits, and suit the slices.
fn check(image: &Rgb8<'_>, across: Side, down: Side, out: &[u8]) -> Result<()> {
    let bytes = |width: usize, height: usize| width.checked_mul(height)?.checked_mul(3);
    let (width, height) = (across.count, down.count);
    let sides = [width, height, image.width, image.height];
    let large = sides.iter().any(|&side| side > MAX_SIDE)
        || bytes(width, image.height).is_none_or(|n| n > 3 * MAX_PIXELS);
    if large {
        let expected = format!("sides of at most {MAX_SIDE} pixels, {MAX_PIXELS} in all");
        let found = format!("{}x{} to {width}x{height}", image.width, image.height);
        return Err(Error::invalid("resize", expected, found, ""));
    }
    let inside = |side: Side| side.first + side.count <= side.scaled;
    let whole = bytes(image.width, image.height) == Some(image.pixels.len());
    let fits = bytes(width, height) == Some(out.len()) && inside(across) && inside(down);
    if !fits || out.is_empty() || !whole || image.pixels.is_empty() {
        return Err(Error::invalid(
            "resize",
            format!("{width} x {height} x 3 bytes, at least one pixel"),
            format!("{} bytes", out.len()),
            "",
        ));
    }
    Ok(())
}

/// The source position under the centre of each output position of `to`.
///
/// Summed step by step as Pillow's `ImagingScaleAffine` does, whose rounding decides ties.
fn centres(from: usize, to: Side) -> impl Iterator<Item = usize> {
    let step = from as f64 / to.scaled as f64;
    let mut next = step * 0.5;
    let all = (0..to.first + to.count).map(move |_| {
        let here = (next as usize).min(from - 1);
        next += step;
        here
    });
    all.skip(to.first)
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
    /// Fills it for an axis of `from` positions, and says which of them are read.
    fn fill(&mut self, from: usize, to: Side, filter: Filter) -> Range<usize> {
        self.spans.clear();
        self.weights.clear();
        let (mut least, mut most) = (from, 0);
        let scale = from as f64 / to.scaled as f64;
        let stretch = scale.max(1.0);
        let support = filter.support * stretch;
        for i in to.first..to.first + to.count {
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
            (least, most) = (least.min(first), most.max(end));
        }
        least.min(most)..most
    }

    /// Counts positions from `first` on.
    fn shift(&mut self, first: usize) {
        self.spans.iter_mut().for_each(|span| span.0 -= first);
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
