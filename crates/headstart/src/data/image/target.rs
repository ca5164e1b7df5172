//! The size of the images that a net takes.

use super::Interpolation;

/// The size images are brought to, by stretching; none that has it already is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
}
