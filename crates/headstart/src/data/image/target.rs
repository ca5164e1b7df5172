//! The size of a net's images, and how images of other sizes and proportions come to it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Corner, Decode, Interpolation, Resizer, Rgb8, decode, decode_draft, read};
use crate::error::{Error, Result};

/// Part of an image's shorter side that [`Fit::Crop`] keeps where nothing else is said: 224 of 256 pixels, as nets are
/// evaluated on ImageNet.
pub const CROP_SHARE: f64 = 0.875;
/// The least share: the whole image would be ten times as large as the net's.
const LEAST_SHARE: f64 = 0.1;
/// The colour around a padded image: ImageNet's mean, 255 times (0.485, 0.456, 0.406), rounded.
pub const PADDING: [u8; 3] = [124, 116, 104];

/// What becomes of an image that is not as high as wide, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitName {
    /// [`Fit::Stretch`]
    #[default]
    Stretch,
    /// [`Fit::Crop`]
    Crop,
    /// [`Fit::Pad`]
    Pad,
}

impl FitName {
    /// Every choice, in the order help texts list them.
    pub const ALL: [FitName; 3] = [FitName::Stretch, FitName::Crop, FitName::Pad];

    /// The name as the command line and settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            FitName::Stretch => "stretch",
            FitName::Crop => "crop",
            FitName::Pad => "pad",
        }
    }

    /// With the part of the shorter side that a crop keeps, [`CROP_SHARE`] if none is given.
    pub fn with(self, share: Option<f64>) -> Fit {
        match self {
            FitName::Stretch => Fit::Stretch,
            FitName::Crop => Fit::Crop { share: share.unwrap_or(CROP_SHARE) },
            FitName::Pad => Fit::Pad,
        }
    }
}

/// What becomes of an image that is not as high as wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Both sides become the net's: the whole image is seen, its proportions are lost.
    #[default]
    Stretch,
    /// The shorter side becomes the net's divided by `share`, rounded down, and the middle is kept: what torchvision's
    /// `Resize` and `CenterCrop` do to a PIL image, byte for byte.
    Crop {
        /// From 0.1 to 1.
        share: f64,
    },
    /// The longer side becomes the net's, and the rest is filled with [`PADDING`]: Pillow's `ImageOps.pad`, byte for byte.
    Pad,
}

impl Fit {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Stretch => FitName::Stretch.name(),
            Fit::Crop { .. } => FitName::Crop.name(),
            Fit::Pad => FitName::Pad.name(),
        }
    }

    /// Its name, and the share of a crop, as settings have them; no name for the default.
    pub fn parts(self) -> (Option<FitName>, Option<f64>) {
        match self {
            Fit::Stretch => (None, None),
            Fit::Crop { share } => (Some(FitName::Crop), Some(share)),
            Fit::Pad => (Some(FitName::Pad), None),
        }
    }

    /// Whether it is the one that cards leave out.
    pub fn is_stretch(&self) -> bool {
        *self == Fit::Stretch
    }

    /// Whether it suits nets whose images are `height` x `width`.
    ///
    /// # Errors
    /// If a crop keeps nothing or more than there is, or is to be no square.
    pub fn check(&self, height: usize, width: usize) -> Result<()> {
        let Fit::Crop { share } = *self else { return Ok(()) };
        if !(LEAST_SHARE..=1.0).contains(&share) {
            let expected = "a number from 0.1 to 1";
            let hint = "0.875 keeps the middle 224 of 256 pixels";
            return Err(Error::invalid("crop share", expected, share.to_string(), hint));
        }
        if height != width {
            let found = format!("{width}x{height}");
            return Err(Error::invalid("fit crop", "square images", found, "use stretch or pad"));
        }
        Ok(())
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fit::Crop { share } => write!(f, "crop {share}"),
            other => f.write_str(other.name()),
        }
    }
}

/// What a net's images are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
    /// What becomes of other proportions.
    pub fit: Fit,
    /// How JPEGs are decoded.
    pub decode: Decode,
    /// The corner that enters, where it is not the whole image or its middle.
    pub corner: Option<Corner>,
}

/// A rectangle of an image whose corners are (0, 0) and (1, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its left side.
    pub left: f32,
    /// Its upper side.
    pub top: f32,
    /// Its width.
    pub width: f32,
    /// Its height.
    pub height: f32,
}

impl Window {
    /// The whole image.
    pub const WHOLE: Window = Window { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
}

/// One axis: the length of the whole image once resized, and where the net's pixels begin in it; below 0 with a border.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    scaled: usize,
    start: isize,
}

/// The pixels of an axis that are resized: how long the whole axis becomes, and the first and the number of those made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub scaled: usize,
    pub first: usize,
    pub count: usize,
}

impl Target {
    /// Images of that size, stretched bilinearly, of JPEGs that are decoded in full.
    pub fn square(side: usize) -> Target {
        let (interpolation, fit) = (Interpolation::Bilinear, Fit::Stretch);
        let decode = Decode::Full;
        Target { height: side, width: side, interpolation, fit, decode, corner: None }
    }

    /// The length that the shorter side of a JPEG keeps at least when it is decoded; none where it is decoded in full, as it
    /// is for resizing by nearest neighbour, which takes single pixels.
    pub fn least_side(&self) -> Option<usize> {
        if self.interpolation == Interpolation::Nearest {
            return None;
        }
        let whole = if self.corner.is_some() { self.around() } else { *self };
        self.decode.side(match whole.fit {
            Fit::Stretch | Fit::Pad => whole.height.max(whole.width),
            Fit::Crop { share } => whole.resized(share),
        })
    }

    /// Reads an image file and decodes it as this net has its images, not yet at the net's size.
    ///
    /// # Errors
    /// As [`open`](super::open).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Rgb8<'static>> {
        let path = path.as_ref();
        self.decoded(path, &read(path)?)
    }

    /// Decodes an image file as this net has its images, not yet at the net's size; `path` only names it in errors.
    ///
    /// ```
    /// use headstart::image::{Decode, Rgb8, Target, jpeg};
    ///
    /// let photo = jpeg(&Rgb8::new(4000, 3000, vec![90; 4000 * 3000 * 3])?, 90)?;
    /// let target = Target { decode: Decode::Reduced, ..Target::square(224) };
    /// let image = target.decoded("photo.jpg", &photo)?;
    /// assert_eq!((image.width, image.height), (1000, 750)); // 1/8 would leave less than 448
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`decode`](super::decode()).
    pub fn decoded(&self, path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Rgb8<'static>> {
        match self.least_side() {
            Some(side) => decode_draft(path, bytes, side),
            None => decode(path, bytes),
        }
    }

    /// The shorter side of an image of which a crop keeps `share`, once resized.
    fn resized(&self, share: f64) -> usize {
        (self.width as f64 / share).floor().max(self.width as f64) as usize
    }

    /// Whether an image of that size enters as it is.
    pub fn keeps(&self, width: usize, height: usize) -> bool {
        (width, height) == (self.width, self.height)
            && self.corner.is_none()
            && matches!(self.fit, Fit::Stretch | Fit::Pad | Fit::Crop { share: 1.0 })
    }

    /// The part of an image of that size that the net sees; it reaches over the image's sides where there is a border.
    pub fn window(&self, width: usize, height: usize) -> Window {
        let (across, down) = self.axes(width, height);
        let part = |axis: Axis, n: usize| {
            let scaled = axis.scaled as f32;
            (axis.start as f32 / scaled, n as f32 / scaled)
        };
        let ((left, width), (top, height)) = (part(across, self.width), part(down, self.height));
        Window { left, top, width, height }
    }

    /// Both axes for an image of that size.
    fn axes(&self, width: usize, height: usize) -> (Axis, Axis) {
        let Some(corner) = self.corner else { return self.middle(width, height) };
        let around = self.around();
        let (across, down) = around.middle(width, height);
        let at = |axis: Axis, far: bool, larger: usize, own: usize| {
            let (start, spare) = match self.fit {
                Fit::Crop { .. } => (0, axis.scaled.saturating_sub(own)),
                Fit::Stretch | Fit::Pad => (axis.start, larger - own),
            };
            Axis { start: if far { start + spare as isize } else { start }, ..axis }
        };
        (
            at(across, corner.is_right(), around.width, self.width),
            at(down, corner.is_lower(), around.height, self.height),
        )
    }

    /// Both axes for an image of that size, whose middle enters where not all of it does.
    fn middle(&self, width: usize, height: usize) -> (Axis, Axis) {
        let whole = |scaled| Axis { scaled, start: 0 };
        match self.fit {
            Fit::Stretch => (whole(self.width), whole(self.height)),
            Fit::Crop { share } => {
                // torchvision: `int(size * long / short)`, and `int(round((side - size) / 2.0))`.
                let size = self.resized(share) as f64;
                let short = width.min(height).max(1) as f64;
                let axis = |side: usize| {
                    let scaled = (size * side as f64 / short) as usize;
                    let spare = scaled.saturating_sub(self.width) as f64;
                    Axis { scaled, start: (spare / 2.0).round_ties_even() as isize }
                };
                (axis(width), axis(height))
            }
            Fit::Pad => {
                // Pillow's `ImageOps.contain` and `pad`.
                let (w, h) = (width as f64, height as f64);
                let (ratio, own) = (w / h, self.width as f64 / self.height as f64);
                let shorter = |part: f64, n: usize| {
                    let scaled = ((part * n as f64).round_ties_even() as usize).max(1);
                    (scaled, n)
                };
                let bordered = |scaled: usize, n: usize| {
                    let spare = (n as f64 - scaled as f64) * 0.5;
                    Axis { scaled, start: -(spare.round_ties_even() as isize) }
                };
                if ratio > own {
                    let (scaled, _) = shorter(h / w, self.width);
                    (whole(self.width), bordered(scaled, self.height))
                } else if ratio < own {
                    let (scaled, _) = shorter(w / h, self.height);
                    (bordered(scaled, self.width), whole(self.height))
                } else {
                    (whole(self.width), whole(self.height))
                }
            }
        }
    }

    /// Writes `image` as the net sees it to `out`, which must hold `height * width * 3` bytes.
    ///
    /// # Errors
    /// As [`Resizer::resize_into`].
    pub fn fit_into(&self, resizer: &mut Resizer, image: &Rgb8<'_>, out: &mut [u8]) -> Result<()> {
        let Target { height, width, interpolation, .. } = *self;
        let (across, down) = self.axes(image.width, image.height);
        let border = |axis: Axis| axis.start.min(0).unsigned_abs();
        let side = |axis: Axis, n: usize| {
            let first = axis.start.max(0) as usize;
            let count = (axis.scaled - first).min(n - border(axis));
            Side { scaled: axis.scaled, first, count }
        };
        let sides = [side(across, width), side(down, height)];
        if across.start >= 0 && down.start >= 0 && self.fit != Fit::Pad {
            return resizer.part_into(image, sides, interpolation, out);
        }
        let (left, top) = (border(across), border(down));
        let [w, h] = sides.map(|side| side.count);
        if (w, h) == (width, height) {
            return resizer.part_into(image, sides, interpolation, out);
        }
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(out.len()) {
            let expected = format!("{width} x {height} x 3 bytes");
            return Err(Error::invalid("resize", expected, format!("{} bytes", out.len()), ""));
        }
        let mut inner = vec![0; w * h * 3];
        resizer.part_into(image, sides, interpolation, &mut inner)?;
        out.as_chunks_mut::<3>().0.fill(PADDING);
        for (row, line) in out.chunks_exact_mut(width * 3).skip(top).zip(inner.chunks_exact(w * 3))
        {
            row[left * 3..(left + w) * 3].copy_from_slice(line);
        }
        Ok(())
    }

    /// `image` as the net sees it: `height * width * 3` bytes, RGB.
    ///
    /// # Errors
    /// As [`Target::fit_into`].
    pub fn enter(&self, resizer: &mut Resizer, image: &Rgb8<'_>) -> Result<Vec<u8>> {
        let mut out = vec![0; self.height * self.width * 3];
        self.fit_into(resizer, image, &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{MAX_SIDE, resize};

    fn picture(width: usize, height: usize) -> Rgb8<'static> {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
        Rgb8::new(width, height, pixels).unwrap()
    }

    fn target(side: usize, fit: Fit) -> Target {
        Target { fit, ..Target::square(side) }
    }

    fn entered(target: Target, image: &Rgb8<'_>) -> Vec<u8> {
        target.enter(&mut Resizer::new(), image).unwrap()
    }

    #[test]
    fn a_crop_is_the_middle_of_the_whole_image_resized() {
        for (width, height) in [(40, 30), (30, 40), (31, 31), (9, 77), (200, 16), (16, 16)] {
            let image = picture(width, height);
            for interpolation in Interpolation::ALL {
                for (side, share, short) in [(16, 0.8, 20), (16, 1.0, 16), (15, 0.875, 17)] {
                    let fit = Fit::Crop { share };
                    let target = Target { interpolation, ..target(side, fit) };
                    let of = |n: usize| short * n / width.min(height);
                    let (w, h) = (of(width), of(height));
                    let whole = resize(&image, w, h, interpolation).unwrap();
                    let start = |n: usize| ((n - side) as f64 / 2.0).round_ties_even() as usize;
                    let rows = whole.pixels.chunks_exact(w * 3).skip(start(h)).take(side);
                    let want: Vec<u8> =
                        rows.flat_map(|row| &row[start(w) * 3..][..side * 3]).copied().collect();
                    assert_eq!(entered(target, &image), want, "{width}x{height} {side} {share}");
                }
            }
        }
    }

    #[test]
    fn a_padded_image_is_whole_inside_the_mean_colour() {
        for (width, height, w, h) in [(40, 30, 16, 12), (30, 40, 12, 16), (31, 31, 16, 16)] {
            let image = picture(width, height);
            let out = entered(target(16, Fit::Pad), &image);
            let inner = resize(&image, w, h, Interpolation::Bilinear).unwrap();
            let (left, top) = ((16 - w) / 2, (16 - h) / 2);
            for (i, pixel) in out.as_chunks::<3>().0.iter().enumerate() {
                let (x, y) = ((i % 16).wrapping_sub(left), (i / 16).wrapping_sub(top));
                let want = match x < w && y < h {
                    true => &inner.pixels[(y * w + x) * 3..][..3],
                    false => &PADDING,
                };
                assert_eq!(pixel, want, "{width}x{height} {i}");
            }
        }
    }

    #[test]
    fn images_of_the_nets_size_are_kept_but_by_a_crop() {
        let image = picture(16, 16);
        for (fit, kept) in [
            (Fit::Stretch, true),
            (Fit::Pad, true),
            (Fit::Crop { share: 1.0 }, true),
            (Fit::Crop { share: 0.875 }, false),
        ] {
            let target = target(16, fit);
            assert_eq!(target.keeps(16, 16), kept, "{fit:?}");
            assert_eq!(entered(target, &image) == *image.pixels, kept, "{fit:?}");
            assert!(!target.keeps(17, 16));
        }
    }

    #[test]
    fn the_longest_images_enter() {
        for (width, height) in [(MAX_SIDE, 1), (1, MAX_SIDE)] {
            let image = picture(width, height);
            for fit in [Fit::Stretch, Fit::Pad, Fit::Crop { share: 0.875 }] {
                assert_eq!(entered(target(224, fit), &image).len(), 224 * 224 * 3);
            }
        }
    }

    #[test]
    fn what_is_resized_most_says_how_small_jpegs_are_decoded() {
        let wide = Target { height: 100, width: 300, ..Target::square(1) };
        for (target, side) in [
            (target(64, Fit::Stretch), 256),
            (target(224, Fit::Stretch), 448),
            (target(224, Fit::Pad), 448),
            (target(224, Fit::Crop { share: 0.875 }), 512),
            (target(224, Fit::Crop { share: 1.0 }), 448),
            (wide, 600),
        ] {
            assert_eq!(target.least_side(), None);
            let reduced = Target { decode: Decode::Reduced, ..target };
            assert_eq!(reduced.least_side(), Some(side), "{target:?}");
            let nearest = Target { interpolation: Interpolation::Nearest, ..reduced };
            assert_eq!(nearest.least_side(), None);
        }
    }

    #[test]
    fn the_window_is_what_is_seen() {
        let window = |fit| target(224, fit).window(400, 200);
        assert_eq!(window(Fit::Stretch), Window::WHOLE);
        // 512x256, of which columns 144 to 368 and rows 16 to 240 are seen.
        let Window { left, top, width, height } = window(Fit::Crop { share: 0.875 });
        assert_eq!((left, top, width, height), (0.28125, 0.0625, 0.4375, 0.875));
        // 224x112 with 56 rows above and below.
        let padded = Window { left: 0.0, top: -0.5, width: 1.0, height: 2.0 };
        assert_eq!(window(Fit::Pad), padded);
    }

    #[test]
    fn a_share_that_keeps_nothing_or_too_much_is_refused() {
        for share in [0.0, -1.0, 0.09, 1.01, f64::NAN, f64::INFINITY] {
            assert!(Fit::Crop { share }.check(8, 8).is_err(), "{share}");
        }
        assert!(Fit::Crop { share: 0.5 }.check(8, 8).is_ok());
        assert!(Fit::Crop { share: 0.5 }.check(8, 9).is_err());
        assert!(Fit::Pad.check(8, 9).is_ok());
    }
}
