//! What can go wrong on a GPU.

use std::fmt;

/// An error: the thing, what was expected, what was found, and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuError {
    /// What it is about.
    pub thing: String,
    /// What would be accepted.
    pub expected: String,
    /// What there is.
    pub found: String,
    /// What mends it; may be empty.
    pub hint: String,
}

/// Result of what a GPU does.
pub type Result<T> = std::result::Result<T, GpuError>;

impl GpuError {
    /// An error of these four parts.
    pub fn new(
        thing: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> GpuError {
        let (thing, expected) = (thing.into(), expected.into());
        GpuError { thing, expected, found: found.into(), hint: hint.into() }
    }
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.thing, self.expected, self.found)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for GpuError {}
