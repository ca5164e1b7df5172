//! Views of an image: the image as a net sees it, its corners, and the mirror images of these.

use std::fmt;
use std::str::FromStr;

use super::target::{CROP_SHARE, Fit, Target};
use crate::error::{Error, Result};

/// A corner of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// Upper left.
    TopLeft,
    /// Upper right.
    TopRight,
    /// Lower left.
    BottomLeft,
    /// Lower right.
    BottomRight,
}

impl Corner {
    /// Every corner, in the order of torchvision's `FiveCrop`.
    pub const ALL: [Corner; 4] =
        [Corner::TopLeft, Corner::TopRight, Corner::BottomLeft, Corner::BottomRight];

    /// Whether it is on the right.
    pub(super) fn is_right(self) -> bool {
        matches!(self, Corner::TopRight | Corner::BottomRight)
    }

    /// Whether it is below.
    pub(super) fn is_lower(self) -> bool {
        matches!(self, Corner::BottomLeft | Corner::BottomRight)
    }
}

/// What of an image enters a net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// A corner of the image, enlarged, and not the image.
    pub corner: Option<Corner>,
    /// Whether it is mirrored, left and right.
    pub mirrored: bool,
}

impl View {
    /// What progress calls this view of the images of a part.
    pub fn title(self, part: &'static str) -> &'static str {
        let others = match part {
            "train" => ["train, mirrored", "train, corners", "train, corners mirrored"],
            "validation" => {
                ["validation, mirrored", "validation, corners", "validation, corners mirrored"]
            }
            "test" => ["test, mirrored", "test, corners", "test, corners mirrored"],
            _ => ["mirror images", "corners", "corners mirrored"],
        };
        match (self.corner.is_some(), self.mirrored) {
            (false, false) => part,
            (false, true) => others[0],
            (true, mirrored) => others[1 + usize::from(mirrored)],
        }
    }
}

/// Which views of each image count.
///
/// ```
/// use headstart::image::{View, Views};
///
/// let views: Views = "all".parse()?;
/// assert_eq!((views.list().len(), views.list()[0]), (10, View::default()));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// The image alone.
    #[default]
    One,
    /// The image and its mirror image.
    Mirror,
    /// The image and its four corners. Of nets that crop the middle, they and the image are torchvision's `FiveCrop`.
    Corners,
    /// These and the mirror images of all: `TenCrop`.
    All,
}

impl Views {
    /// Every choice.
    pub const ALL: [Views; 4] = [Views::One, Views::Mirror, Views::Corners, Views::All];

    /// Those with corners or mirror images.
    pub fn of(mirrored: bool, corners: bool) -> Views {
        match (mirrored, corners) {
            (false, false) => Views::One,
            (true, false) => Views::Mirror,
            (false, true) => Views::Corners,
            (true, true) => Views::All,
        }
    }

    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Views::One => "none",
            Views::Mirror => "mirror",
            Views::Corners => "corners",
            Views::All => "all",
        }
    }

    /// Whether a mirror image follows each view.
    pub fn mirrored(self) -> bool {
        matches!(self, Views::Mirror | Views::All)
    }

    /// The image, and its corners if they count.
    pub fn corners(self) -> &'static [Option<Corner>] {
        const ALL: [Option<Corner>; 5] = [
            None,
            Some(Corner::TopLeft),
            Some(Corner::TopRight),
            Some(Corner::BottomLeft),
            Some(Corner::BottomRight),
        ];
        match self {
            Views::One | Views::Mirror => &ALL[..1],
            Views::Corners | Views::All => &ALL,
        }
    }

    /// The views, the image itself first, a mirror image after each.
    pub fn list(self) -> Vec<View> {
        let mirrored: &[bool] = if self.mirrored() { &[false, true] } else { &[false] };
        let of = |&corner| mirrored.iter().map(move |&mirrored| View { corner, mirrored });
        self.corners().iter().flat_map(of).collect()
    }
}

impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Views {
    type Err = Error;

    fn from_str(text: &str) -> Result<Views> {
        Views::ALL
            .into_iter()
            .find(|views| views.name() == text)
            .ok_or_else(|| Error::invalid("views", "none, mirror, corners or all", text, ""))
    }
}

impl Target {
    /// The same for a corner of the image. Where the net crops the middle, the corners are those of the resized image, as of
    /// torchvision's `FiveCrop`; else they are those of the image at a size at which the net's is 0.875 of it.
    #[must_use]
    pub fn at(self, corner: Option<Corner>) -> Target {
        Target { corner, ..self }
    }

    /// The target for the image of which a corner is seen.
    pub(super) fn around(self) -> Target {
        let larger = |side: usize| (side as f64 / CROP_SHARE).floor() as usize;
        match self.fit {
            Fit::Crop { share } if share < 1.0 => self.at(None),
            Fit::Crop { .. } => Target { fit: Fit::Crop { share: CROP_SHARE }, ..self.at(None) },
            Fit::Stretch | Fit::Pad => {
                let (height, width) = (larger(self.height), larger(self.width));
                Target { height, width, ..self.at(None) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{Interpolation, Resizer, Rgb8, resize};

    fn picture(width: usize, height: usize) -> Rgb8<'static> {
        let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
        Rgb8::new(width, height, pixels).unwrap()
    }

    /// `side` x `side` pixels of an image, from a column and a row on.
    fn part(image: &Rgb8<'_>, side: usize, (left, top): (usize, usize)) -> Vec<u8> {
        let rows = image.pixels.chunks_exact(image.width * 3).skip(top).take(side);
        rows.flat_map(|row| &row[left * 3..][..side * 3]).copied().collect()
    }

    fn corner_of(image: &Rgb8<'_>, side: usize, corner: Corner) -> Vec<u8> {
        let left = if corner.is_right() { image.width - side } else { 0 };
        let top = if corner.is_lower() { image.height - side } else { 0 };
        part(image, side, (left, top))
    }

    #[test]
    fn corners_are_those_of_the_whole_image_resized() {
        let entered =
            |target: Target, image: &Rgb8<'_>| target.enter(&mut Resizer::new(), image).unwrap();
        for (width, height) in [(40, 30), (30, 40), (31, 31), (9, 77), (200, 16), (16, 16)] {
            let image = picture(width, height);
            for interpolation in Interpolation::ALL {
                let plain = Target { interpolation, ..Target::square(16) };
                for corner in Corner::ALL {
                    let seen = |fit| entered(Target { fit, ..plain }.at(Some(corner)), &image);
                    // 16 / 0.875 is 18 and a bit.
                    let stretched = resize(&image, 18, 18, interpolation).unwrap();
                    assert_eq!(seen(Fit::Stretch), corner_of(&stretched, 16, corner));
                    for (share, short) in [(0.8, 20), (1.0, 18)] {
                        let of = |n: usize| short * n / width.min(height);
                        let whole = resize(&image, of(width), of(height), interpolation).unwrap();
                        let expected = corner_of(&whole, 16, corner);
                        assert_eq!(seen(Fit::Crop { share }), expected, "{width}x{height} {share}");
                    }
                    let padded = Target { fit: Fit::Pad, ..plain };
                    let larger = Target { height: 18, width: 18, ..padded };
                    let whole = Rgb8::new(18, 18, entered(larger, &image)).unwrap();
                    let expected = corner_of(&whole, 16, corner);
                    assert_eq!(seen(Fit::Pad), expected, "{width}x{height} {corner:?}");
                }
            }
        }
    }

    #[test]
    fn views_begin_with_the_image_itself() {
        for views in Views::ALL {
            assert_eq!(views.name().parse::<Views>().unwrap(), views);
            let list = views.list();
            assert_eq!(list[0], View::default());
            assert_eq!(list.len(), [1, 2, 5, 10][views as usize]);
            let corners = list.iter().any(|view| view.corner.is_some());
            assert_eq!(Views::of(views.mirrored(), corners), views);
            for (i, view) in list.iter().enumerate() {
                assert!(!list[..i].contains(view));
            }
            for part in ["train", "validation", "test"] {
                let mut titles: Vec<_> = list.iter().map(|view| view.title(part)).collect();
                assert!(titles[0] == part && titles.iter().all(|title| title.starts_with(part)));
                titles.sort_unstable();
                titles.dedup();
                assert_eq!(titles.len(), [1, 2, 2, 4][views as usize]);
            }
        }
        let error = "mirrors".parse::<Views>().unwrap_err().to_string();
        assert!(error.contains("none, mirror, corners or all"), "{error}");
    }
}
