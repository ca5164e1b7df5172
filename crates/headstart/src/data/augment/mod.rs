//! Augmentation of training images.
//!
//! What happens to an image follows only from the seed, the epoch and the image's position in its
//! set: batches and threads do not matter. Each kind of change is one [`Augmentation`].
//!
//! ```
//! use headstart::augment::{Augment, List};
//! use headstart::batches::Target;
//! use headstart::image::{Interpolation, Resizer, Rgb8};
//!
//! let List(list) = "resized-crop,flip,jitter:0.4,0.4,0.4,erase".parse()?;
//! let image = Rgb8::new(8, 8, (0..8 * 8 * 3).map(|i| i as u8).collect::<Vec<u8>>())?;
//! let target = Target::square(16);
//! let mut augmented = vec![0; 16 * 16 * 3];
//! // The first image of its set, in the third epoch.
//! let augment = Augment { list, seed: 42, epoch: 3, ..Augment::default() };
//! augment.apply(0, &image, target, &mut Resizer::new(), &mut augmented)?;
//! assert!(augmented.iter().any(|&v| v > 0));
//! # Ok::<(), headstart::Error>(())
//! ```

mod colour;
mod geometry;
mod mix;
mod policy;
mod random;
mod text;

use serde::{Deserialize, Serialize};

use crate::data::image::Target;
use crate::data::image::{Resizer, Rgb8};
use crate::error::Result;

use geometry::Part;
pub use mix::Mixing;
use random::Random;
pub use text::List;

/// One augmentation of an image; its text is that of `--augment` and config.toml.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Augmentation {
    /// `flip`: half of the images are mirrored, left and right.
    Flip,
    /// `vflip`: half of the images are mirrored, top and bottom.
    VerticalFlip,
    /// `crop:PIXELS`: the image moves by up to this many pixels in each direction, with black borders, as
    /// torchvision's `RandomCrop(size, padding=PIXELS)`. `crop` alone is `crop:4`.
    Crop {
        /// The largest move.
        padding: usize,
    },
    /// `resized-crop:LEAST`: a rectangle of the original image, of at least this fraction of its area and 3/4 to 4/3 as
    /// wide as high, is resized to the target size, as by torchvision's `RandomResizedCrop`. It replaces resizing and is
    /// applied first, wherever it is in the list. `resized-crop` alone is `resized-crop:0.08`.
    ResizedCrop {
        /// Least fraction of the area.
        least: f32,
    },
    /// `rotate:DEGREES`: rotates by up to this many degrees either way about the centre, with black borders, bilinearly, as
    /// torchvision's `RandomRotation(DEGREES, InterpolationMode.BILINEAR)` (Keras's reflects at the edge).
    Rotate {
        /// The largest angle.
        degrees: f32,
    },
    /// `jitter:BRIGHTNESS,CONTRAST,SATURATION[,HUE]`: torchvision's `ColorJitter`, each factor from `max(0, 1 - x)` to `1 + x`, the
    /// hue turned by `-x` to `x` of the colour circle, in random order. `jitter` alone is `jitter:0.4,0.4,0.4`.
    Jitter {
        /// Of the way from black to the image.
        brightness: f32,
        /// Of the way from its mean grey.
        contrast: f32,
        /// Of the way from the image in grey.
        saturation: f32,
        /// Fraction of the colour circle, up to 0.5.
        hue: f32,
    },
    /// `randaugment:COUNT,MAGNITUDE`: torchvision's `RandAugment`: COUNT of its 14 operations, with a magnitude of 0 to 30.
    /// `randaugment` alone is `randaugment:2,9`.
    RandAugment {
        /// Operations an image.
        count: usize,
        /// Their magnitude.
        magnitude: usize,
    },
    /// `erase:PROBABILITY`: a rectangle of 2 to 33% of the image becomes ImageNet's mean colour, as by `RandomErasing` after
    /// normalisation in torchvision's and timm's recipes. It is applied last, wherever it is in the list. `erase` alone is `erase:0.5`.
    Erase {
        /// Probability for each image.
        probability: f32,
    },
}

/// Augmentations of one epoch, in the order in which they are applied, except for the two that say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    /// The augmentations.
    pub list: Vec<Augmentation>,
    /// Seed of the random choices, together with the epoch and `batches`.
    pub seed: u64,
    /// The epoch.
    pub epoch: usize,
    /// How the images of a batch are mixed.
    pub mixing: Mixing,
    /// Number of the epoch's batches before the first, which the mixing of each follows from.
    pub step: usize,
}

impl Augment {
    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        self.list.is_empty() && self.mixing.is_none()
    }

    /// Least fraction of the area that a random crop has, where there is one.
    fn least_crop(&self) -> Option<f64> {
        self.list.iter().find_map(|augmentation| match *augmentation {
            Augmentation::ResizedCrop { least } => Some(f64::from(least)),
            _ => None,
        })
    }

    /// The length that the shorter side of a JPEG keeps at least before it is brought to `target`; none where it is decoded
    /// in full. Of a square, the smallest random crop, which is 4/3 as wide as high or as high as wide, has both sides at
    /// least as long as the net's, so that reducing the JPEG first does not make it be enlarged.
    pub(crate) fn least_side(&self, target: Target) -> Option<usize> {
        let whole = target.least_side()?;
        let side = target.height.max(target.width) as f64;
        let of_crop = |least: f64| (side / (0.75 * least).sqrt()).ceil() as usize;
        Some(whole.max(self.least_crop().map_or(0, of_crop)))
    }

    /// Brings the image at `position` of its set to the size of `target`, as it fits images, and augments it: `out` becomes
    /// RGB bytes, `[height, width, 3]` row-major. A random crop is of the whole image, and is stretched.
    ///
    /// # Errors
    /// If the target or `out` has another number of bytes than the image would, or none.
    pub fn apply(
        &self,
        position: usize,
        image: &Rgb8<'_>,
        target: Target,
        resizer: &mut Resizer,
        out: &mut [u8],
    ) -> Result<()> {
        let mut random = Random::new(self.seed, self.epoch as u64, position as u64);
        let Target { height, width, interpolation, .. } = target;
        match self.least_crop() {
            Some(least) => {
                let part = Part::resized_crop(&mut random, image.height, image.width, least);
                let pixels = part.of(image.width, &image.pixels);
                let part = Rgb8::new(part.width, part.height, pixels)?;
                resizer.resize_into(&part, width, height, interpolation, out)?;
            }
            None => target.fit_into(resizer, image, out)?,
        }
        let last = |a: &Augmentation| matches!(a, Augmentation::Erase { .. });
        let (before, after) =
            (self.list.iter().filter(|a| !last(a)), self.list.iter().filter(|a| last(a)));
        for augmentation in before.chain(after) {
            change(*augmentation, &mut random, height, width, out);
        }
        Ok(())
    }
}

/// Augments an image that has its final size.
fn change(
    augmentation: Augmentation,
    random: &mut Random,
    height: usize,
    width: usize,
    image: &mut [u8],
) {
    match augmentation {
        Augmentation::ResizedCrop { .. } => {}
        Augmentation::Flip => {
            if random.below(2) == 1 {
                geometry::flip(width, image);
            }
        }
        Augmentation::VerticalFlip => {
            if random.below(2) == 1 {
                geometry::vertical_flip(width, image);
            }
        }
        Augmentation::Crop { padding } => {
            let mut offset = || random.below(2 * padding as u64 + 1) as isize;
            let (down, across) = (offset(), offset());
            let padding = padding as isize;
            geometry::shift(height, width, down - padding, across - padding, image);
        }
        Augmentation::Rotate { degrees } => {
            let most = f64::from(degrees);
            let turn = geometry::rotation(height, width, random.between(-most, most));
            geometry::transform_bilinear(height, width, turn, image);
        }
        Augmentation::Jitter { brightness, contrast, saturation, hue } => {
            policy::jitter(random, [brightness, contrast, saturation, hue], image);
        }
        Augmentation::RandAugment { count, magnitude } => {
            policy::rand_augment(random, [count, magnitude], height, width, image);
        }
        Augmentation::Erase { probability } => {
            policy::erase(random, f64::from(probability), height, width, image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{Decode, Interpolation};

    #[test]
    fn random_crops_of_reduced_jpegs_keep_the_nets_pixels() {
        let target = Target { decode: Decode::Reduced, ..Target::square(224) };
        for (text, side) in [
            ("flip,crop:4", 448),
            ("resized-crop:1", 448),
            ("resized-crop:0.35", 448),
            ("flip,resized-crop", 915),
            ("resized-crop:0.01", 2587),
        ] {
            let List(list) = text.parse().unwrap();
            let augment = Augment { list, ..Augment::default() };
            assert_eq!(augment.least_side(target), Some(side), "{text}");
            assert_eq!(augment.least_side(Target::square(224)), None);
        }
        // The smallest crops of a square of that side.
        for position in 0..2000 {
            let mut random = Random::new(1, 0, position);
            let part = Part::resized_crop(&mut random, 915, 915, 0.08);
            assert!(part.width.min(part.height) >= 224, "{} {}", part.width, part.height);
        }
    }

    fn picture(height: usize, width: usize) -> Rgb8<'static> {
        let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * 7 % 251) as u8 + 1).collect();
        Rgb8::new(width, height, pixels).unwrap()
    }

    fn changed(augment: &Augment, position: usize, image: &Rgb8<'_>, side: usize) -> Vec<u8> {
        let target = Target::square(side);
        let mut out = vec![0; side * side * 3];
        augment.apply(position, image, target, &mut Resizer::new(), &mut out).unwrap();
        out
    }

    fn augment(text: &str) -> Augment {
        let List(list) = text.parse().unwrap();
        Augment { list, seed: 1, epoch: 2, ..Augment::default() }
    }

    #[test]
    fn half_of_the_images_are_mirrored() {
        let image = picture(5, 5);
        for text in ["flip", "vflip"] {
            let mut mirrored = image.pixels.to_vec();
            match text {
                "flip" => geometry::flip(5, &mut mirrored),
                _ => geometry::vertical_flip(5, &mut mirrored),
            }
            let mut count = 0;
            for position in 0..2000 {
                let after = changed(&augment(text), position, &image, 5);
                assert!(after == image.pixels.as_ref() || after == mirrored);
                count += usize::from(after == mirrored);
            }
            // Four deviations of a fair coin.
            assert!((911..=1089).contains(&count), "{text} {count}");
        }
    }

    #[test]
    fn crops_move_everywhere_equally_often() {
        // One bright pixel in the middle shows where the image went.
        let mut pixels = vec![0u8; 5 * 5 * 3];
        pixels[(2 * 5 + 2) * 3] = 255;
        let image = Rgb8::new(5, 5, pixels).unwrap();
        let mut counts = [0usize; 25];
        for position in 0..5000 {
            let after = changed(&augment("crop:2"), position, &image, 5);
            counts[after.iter().position(|&v| v == 255).unwrap() / 3] += 1;
        }
        // 200 each; four deviations are 56.
        assert!(counts.iter().all(|&n| (144..=256).contains(&n)), "{counts:?}");
    }

    #[test]
    fn seed_epoch_and_position_decide_and_nothing_else() {
        let image = picture(24, 20);
        for text in [
            "flip,crop:4",
            "resized-crop",
            "rotate:30",
            "jitter:0.4,0.4,0.4,0.1",
            "randaugment",
            "erase:1",
            "flip,vflip,resized-crop,rotate:10,jitter,randaugment:1,15,erase",
        ] {
            let change = |seed, epoch, position| {
                changed(&Augment { seed, epoch, ..augment(text) }, position, &image, 16)
            };
            assert_eq!(change(1, 2, 3), change(1, 2, 3));
            for (seed, epoch) in [(1, 3), (2, 2), (2, 1)] {
                let differ = (0..20).filter(|&i| change(1, 2, i) != change(seed, epoch, i)).count();
                assert!(differ >= 17, "{text} {differ}");
            }
            let differ = (1..20).filter(|&i| change(1, 2, 0) != change(1, 2, i)).count();
            assert!(differ >= 17, "{text} {differ}");
        }
    }

    #[test]
    fn resized_crops_are_of_the_image_before_it_is_resized() {
        // A fine pattern: brought to a quarter first, it would be grey everywhere.
        let pixels = (0..64 * 64)
            .flat_map(|i| [255 * ((i % 64 / 2 + i / 128) % 2) as u8; 3])
            .collect::<Vec<u8>>();
        let image = Rgb8::new(64, 64, pixels).unwrap();
        let spread = |text: &str| {
            let all =
                (0..40).flat_map(|i| changed(&augment(text), i, &image, 16)).collect::<Vec<u8>>();
            all.iter().max().unwrap() - all.iter().min().unwrap()
        };
        assert!(spread("flip") < 10, "{}", spread("flip"));
        assert!(spread("flip,resized-crop") > 200);
        // The least share is heeded: all of the image is only its other shapes' middle.
        assert!(spread("resized-crop:1") < 20);
    }

    #[test]
    fn turns_leave_the_middle_and_blacken_corners() {
        let image = Rgb8::new(21, 21, vec![200; 21 * 21 * 3]).unwrap();
        let mut black = 0;
        for position in 0..200 {
            let after = changed(&augment("rotate:45"), position, &image, 21);
            assert_eq!(after[(10 * 21 + 10) * 3], 200);
            assert!(after.iter().all(|&v| v == 0 || v == 200));
            black += usize::from(after[0] == 0);
        }
        // A corner leaves the image at turns of more than some 2 degrees of the 45.
        assert!(black > 170, "{black}");
    }

    #[test]
    fn erasing_is_last_and_as_often_and_as_large_as_it_should_be() {
        let image = Rgb8::new(40, 40, vec![250; 40 * 40 * 3]).unwrap();
        let (mut count, mut least, mut most) = (0, 1.0, 0.0);
        for position in 0..2000 {
            let after = changed(&augment("erase:0.25,jitter:0,0,0,0.5"), position, &image, 40);
            let erased = after.as_chunks::<3>().0.iter().filter(|p| **p == [124, 116, 104]).count();
            // White has no hue to turn; a rectangle that was there before would be of another colour.
            let white = after.iter().filter(|&&v| v == 250).count() / 3;
            assert_eq!(white + erased, 1600);
            if erased > 0 {
                count += 1;
                least = f64::min(least, erased as f64 / 1600.0);
                most = f64::max(most, erased as f64 / 1600.0);
            }
        }
        // Four deviations of 2000 throws.
        assert!((423..=577).contains(&count), "{count}");
        assert!((0.015..0.04).contains(&least) && (0.30..0.35).contains(&most), "{least} {most}");
    }

    #[test]
    fn any_size_down_to_one_pixel_is_changed() {
        let all = augment(
            "resized-crop,flip,vflip,crop:2,rotate:180,jitter:1,1,1,0.5,randaugment:14,30,erase:1",
        );
        for (height, width) in [(1, 1), (1, 9), (9, 1), (2, 3)] {
            for position in 0..60 {
                let image = picture(height, width);
                for (height, width) in [(1, 1), (1, 7), (7, 1), (2, 2)] {
                    let interpolation = Interpolation::Bicubic;
                    let target = Target { height, width, interpolation, ..Target::square(1) };
                    let mut out = vec![0; height * width * 3];
                    all.apply(position, &image, target, &mut Resizer::new(), &mut out).unwrap();
                }
            }
        }
        let target = Target::square(2);
        let mut short = vec![0; 5];
        assert!(all.apply(0, &picture(3, 3), target, &mut Resizer::new(), &mut short).is_err());
    }
}
