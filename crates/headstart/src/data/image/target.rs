//! The size of a net's images.

use super::Interpolation;

/// The size that images are resized to, by stretching; images that have it are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
}
