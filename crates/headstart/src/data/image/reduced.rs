//! Whether large JPEGs are decoded smaller than they are, and how small.

use serde::{Deserialize, Serialize};

/// How many times as long as the net needs it the shorter side of a reduced JPEG is at least: resizing to half the size or
/// less leaves little of how the pixels were made.
const MARGIN: usize = 2;
/// The shorter side of a reduced JPEG is at least this long, whatever the net needs.
const LEAST: usize = 256;

/// How JPEGs are decoded for a net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decode {
    /// Every pixel.
    #[default]
    Full,
    /// Large ones at 1/2, 1/4 or 1/8 of their size, as Pillow's `Image.draft` does: as small as leaves the shorter side at
    /// least twice as long as what it is resized to, and at 256 pixels. So images whose shorter side is below 512 are
    /// decoded in full; so is everything that is resized by nearest neighbour.
    Reduced,
}

impl Decode {
    /// Every choice, in the order help texts list them.
    pub const ALL: [Decode; 2] = [Decode::Full, Decode::Reduced];

    /// The name as the command line and settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Decode::Full => "full",
            Decode::Reduced => "reduced",
        }
    }

    /// Whether it is the one that cards leave out.
    pub fn is_full(&self) -> bool {
        *self == Decode::Full
    }

    /// The length that the shorter side of a JPEG keeps at least where `needed` pixels of it are wanted; none where it is
    /// decoded in full.
    pub(crate) fn side(self, needed: usize) -> Option<usize> {
        match self {
            Decode::Full => None,
            Decode::Reduced => Some(needed.saturating_mul(MARGIN).max(LEAST)),
        }
    }
}

/// Whether a JPEG of this size can be reduced at all.
pub(crate) fn is_large(width: usize, height: usize) -> bool {
    scale(width, height, LEAST) > 1
}

/// How many times smaller a JPEG of this size is decoded so that both sides stay at least `side`: Pillow's `draft`.
pub(crate) fn scale(width: usize, height: usize, side: usize) -> usize {
    let times = width.min(height) / side.max(1);
    [8, 4, 2].into_iter().find(|&scale| scale <= times).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_side_stays_twice_as_long_as_needed_and_at_least_256() {
        for (needed, side) in
            [(1, 256), (128, 256), (129, 258), (224, 448), (usize::MAX, usize::MAX)]
        {
            assert_eq!(Decode::Reduced.side(needed), Some(side));
            assert_eq!(Decode::Full.side(needed), None);
        }
        for (size, side, want) in [
            ((4000, 3000), 448, 4),
            ((3000, 4000), 448, 4),
            ((2048, 1536), 448, 2),
            ((895, 5000), 448, 1),
            ((896, 5000), 448, 2),
            ((65_500, 1500), 256, 4),
            ((10_000, 10_000), 256, 8),
            ((100, 100), 0, 8),
        ] {
            assert_eq!(scale(size.0, size.1, side), want, "{size:?} {side}");
        }
        assert!(!is_large(5000, 511) && is_large(512, 5000));
    }
}
