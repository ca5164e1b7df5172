//! Counts and sizes of a data set: as text and for `--json`.

use std::fmt;

use serde::Serialize;

use super::{Dataset, Skipped, Subset};
use crate::numbers::grouped;

/// Counts and shapes of a [`Dataset`]; `Display` prints a line per part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The data set's name.
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// train, then validation and test where there are such.
    pub parts: Vec<PartSummary>,
    /// Files left out, with the reason.
    pub skipped: Vec<Skipped>,
}

/// One split of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartSummary {
    /// "train", "validation" or "test".
    pub name: &'static str,
    /// Number of images.
    pub images: usize,
    /// Least height and least width.
    pub smallest: (usize, usize),
    /// Greatest height and greatest width.
    pub largest: (usize, usize),
    /// Images per class, in label order.
    pub class_counts: Vec<usize>,
}

impl PartSummary {
    fn of(name: &'static str, subset: &Subset) -> PartSummary {
        let sizes = || (0..subset.len()).map(|i| subset.size(i));
        let of = |side: fn((usize, usize)) -> usize| {
            let sides = || sizes().map(side);
            (sides().min().unwrap_or(0), sides().max().unwrap_or(0))
        };
        let ((h0, h1), (w0, w1)) = (of(|s| s.0), of(|s| s.1));
        PartSummary {
            name,
            images: subset.len(),
            smallest: (h0, w0),
            largest: (h1, w1),
            class_counts: subset.class_counts(),
        }
    }
}

impl Dataset {
    /// Counts and shapes of every part.
    pub fn describe(&self) -> Description {
        let mut parts = vec![PartSummary::of("train", &self.train)];
        parts.extend(self.validation.as_ref().map(|s| PartSummary::of("validation", s)));
        parts.extend(self.test.as_ref().map(|s| PartSummary::of("test", s)));
        Description {
            name: self.name.clone(),
            classes: self.classes.clone(),
            parts,
            skipped: self.skipped.clone(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            let ((h0, w0), (h1, w1)) = (part.smallest, part.largest);
            let images = if part.images == 1 { "image" } else { "images" };
            let separator = if i > 0 { "\n" } else { "" };
            write!(f, "{separator}{}: {} {images} ", part.name, grouped(part.images))?;
            if (h0, w0) == (h1, w1) {
                write!(f, "{h0}x{w0}x3")?;
            } else {
                write!(f, "from {h0}x{w0}x3 to {h1}x{w1}x3")?;
            }
            let present = part.class_counts.iter().filter(|&&count| count > 0).count();
            if present == self.classes.len() {
                write!(f, ", {present} classes")?;
            } else {
                write!(f, ", {present} of {} classes", self.classes.len())?;
            }
        }
        if !self.skipped.is_empty() {
            let files = if self.skipped.len() == 1 { "file" } else { "files" };
            write!(f, "\nskipped: {} {files}", grouped(self.skipped.len()))?;
        }
        Ok(())
    }
}
