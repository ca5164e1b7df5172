//! Random changes of training images.
//!
//! What happens to an image follows from the seed, the epoch and the image's position in its set
//! alone: neither batches nor threads change it. Another change is another [`Augmentation`].
//!
//! ```
//! use headstart::augment::{Augment, Augmentation};
//!
//! let list = vec!["flip".parse::<Augmentation>()?, "crop:2".parse()?];
//! let image: Vec<u8> = (0..8 * 8 * 3).map(|i| i as u8).collect();
//! let mut changed = image.clone();
//! Augment { list, seed: 42, epoch: 3 }.apply(0, 8, 8, &mut changed); // the first image of 8x8 pixels
//! assert_eq!(changed.len(), image.len());
//! # Ok::<(), headstart::Error>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::split::split_mix_64;

/// One random change of an image; its text is what `--augment` and config.toml hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Augmentation {
    /// `flip`: half of the images are mirrored, left and right.
    Flip,
    /// `crop:PIXELS`: the image moves by up to so many pixels in each direction, over black, as
    /// torchvision's `RandomCrop(size, padding=PIXELS)`. `crop` alone is `crop:4`.
    Crop {
        /// The most it moves.
        padding: usize,
    },
}

/// Names that [`Augmentation`]s begin with.
const NAMES: [&str; 2] = ["flip", "crop"];
/// Most pixels that an image moves.
const MOST: usize = 4096;

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Augmentation> {
        let invalid = |expected: &str, hint: String| {
            Err(Error::invalid("augmentation", expected, text, hint))
        };
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match (name, value) {
            ("flip", None) => Ok(Augmentation::Flip),
            ("flip", Some(_)) => invalid("flip, without a number", String::new()),
            ("crop", value) => match value.unwrap_or("4").parse() {
                Ok(padding) if (1..=MOST).contains(&padding) => Ok(Augmentation::Crop { padding }),
                _ => invalid("crop:PIXELS, with 1 to 4096 pixels", String::new()),
            },
            _ => invalid("flip or crop:PIXELS", did_you_mean(name, NAMES)),
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Augmentation::Flip => f.write_str("flip"),
            Augmentation::Crop { padding } => write!(f, "crop:{padding}"),
        }
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

impl TryFrom<String> for Augmentation {
    type Error = Error;

    fn try_from(text: String) -> Result<Augmentation> {
        text.parse()
    }
}

/// Augmentations of one epoch, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// The changes.
    pub list: Vec<Augmentation>,
    /// What the random choices follow from, with the two below.
    pub seed: u64,
    /// The epoch.
    pub epoch: usize,
}

impl Augment {
    /// Changes the image at `position` of its set: RGB bytes, `[height, width, 3]` row-major.
    pub fn apply(&self, position: usize, height: usize, width: usize, image: &mut [u8]) {
        let mut random = Random::new(self.seed, self.epoch as u64, position as u64);
        for augmentation in &self.list {
            match *augmentation {
                Augmentation::Flip => {
                    if random.below(2) == 1 {
                        flip(width, image);
                    }
                }
                Augmentation::Crop { padding } => {
                    let mut offset = || random.below(2 * padding as u64 + 1) as isize;
                    let (down, across) = (offset(), offset());
                    let padding = padding as isize;
                    shift(height, width, down - padding, across - padding, image);
                }
            }
        }
    }
}

/// Numbers that follow from three others.
struct Random {
    state: u64,
}

impl Random {
    fn new(seed: u64, epoch: u64, position: u64) -> Random {
        Random { state: split_mix_64(split_mix_64(split_mix_64(seed) ^ epoch) ^ position) }
    }

    /// A number in `0..n`, each equally often but for one part in 2^64 / n (Lemire 2019).
    fn below(&mut self, n: u64) -> u64 {
        let bits = split_mix_64(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(bits) * u128::from(n)) >> 64) as u64
    }
}

fn flip(width: usize, image: &mut [u8]) {
    for row in image.chunks_exact_mut(width * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// `image[y][x] = image[y + down][x + across]`, 0 outside.
fn shift(height: usize, width: usize, down: isize, across: isize, image: &mut [u8]) {
    let row = width * 3;
    let source = |y: usize| y.checked_add_signed(down).filter(|&y| y < height);
    let mut one = |y: usize| {
        let Some(from) = source(y) else {
            image[y * row..][..row].fill(0);
            return;
        };
        image.copy_within(from * row..(from + 1) * row, y * row);
        let gap = across.unsigned_abs().min(width) * 3;
        let line = &mut image[y * row..][..row];
        if across >= 0 {
            line.copy_within(gap.., 0);
            line[row - gap..].fill(0);
        } else {
            line.copy_within(..row - gap, gap);
            line[..gap].fill(0);
        }
    };
    // Rows are read before they are overwritten.
    if down >= 0 {
        (0..height).for_each(&mut one);
    } else {
        (0..height).rev().for_each(&mut one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize) -> Vec<u8> {
        (0..height * width * 3).map(|i| (i % 251) as u8 + 1).collect()
    }

    #[test]
    fn shifting_follows_its_definition() {
        let (height, width) = (5, 4);
        let before = image(height, width);
        for down in -6..=6isize {
            for across in -6..=6isize {
                let mut after = before.clone();
                shift(height, width, down, across, &mut after);
                for (i, &value) in after.iter().enumerate() {
                    let (y, x, c) = (i / (width * 3), i / 3 % width, i % 3);
                    let from = y
                        .checked_add_signed(down)
                        .zip(x.checked_add_signed(across))
                        .filter(|&(y, x)| y < height && x < width);
                    let want = from.map_or(0, |(y, x)| before[(y * width + x) * 3 + c]);
                    assert_eq!(value, want, "down {down} across {across} at {y} {x}");
                }
            }
        }
    }

    #[test]
    fn half_of_the_images_are_flipped_and_twice_is_never() {
        let before = image(3, 5);
        let mut mirrored = before.clone();
        flip(5, &mut mirrored);
        assert_eq!(mirrored[..3], before[12..15]);
        let augment = Augment { list: vec![Augmentation::Flip], seed: 1, epoch: 2 };
        let mut flipped = 0;
        for position in 0..2000 {
            let mut after = before.clone();
            augment.apply(position, 3, 5, &mut after);
            assert!(after == before || after == mirrored);
            flipped += usize::from(after == mirrored);
        }
        // Four deviations of a fair coin.
        assert!((911..=1089).contains(&flipped), "{flipped}");
        flip(5, &mut mirrored);
        assert_eq!(mirrored, before);
    }

    #[test]
    fn crops_move_everywhere_equally_often() {
        let padding = 2;
        let augment = Augment { list: vec![Augmentation::Crop { padding }], seed: 1, epoch: 2 };
        // One bright pixel in the middle shows where the image went.
        let mut counts = [0usize; 25];
        for position in 0..5000 {
            let mut after = vec![0u8; 5 * 5 * 3];
            after[(2 * 5 + 2) * 3] = 255;
            augment.apply(position, 5, 5, &mut after);
            counts[after.iter().position(|&v| v == 255).unwrap() / 3] += 1;
        }
        // 200 each; four deviations are 56.
        assert!(counts.iter().all(|&n| (144..=256).contains(&n)), "{counts:?}");
    }

    #[test]
    fn seed_epoch_and_position_decide_and_nothing_else() {
        let list = vec![Augmentation::Flip, Augmentation::Crop { padding: 4 }];
        let change = |seed, epoch, position| {
            let mut image = image(16, 16);
            Augment { list: list.clone(), seed, epoch }.apply(position, 16, 16, &mut image);
            image
        };
        assert_eq!(change(1, 2, 3), change(1, 2, 3));
        for (seed, epoch) in [(1, 3), (2, 2), (2, 1)] {
            let differ = (0..20).filter(|&i| change(1, 2, i) != change(seed, epoch, i)).count();
            assert!(differ >= 17, "{differ}");
        }
        assert!((1..20).filter(|&i| change(1, 2, 0) != change(1, 2, i)).count() >= 17);
    }

    #[test]
    fn texts_come_back_and_nonsense_is_named() {
        for text in ["flip", "crop:4", "crop:13"] {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        assert_eq!("crop".parse::<Augmentation>().unwrap(), Augmentation::Crop { padding: 4 });
        for bad in ["", "flap", "flip:3", "crop:", "crop:0", "crop:x", "crop:5000", "crop:-1"] {
            assert!(bad.parse::<Augmentation>().is_err(), "{bad}");
        }
        let error = "flop".parse::<Augmentation>().unwrap_err();
        assert!(error.hint().unwrap().contains("flip"), "{error:?}");
    }
}
