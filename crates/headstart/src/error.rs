//! What can go wrong, as one type: the thing, what was expected, what was found, and a hint.
//!
//! ```
//! let error = headstart::Dataset::load("photso").unwrap_err();
//! println!("{error}"); // the thing, what was expected, what was found
//! assert!(error.hint().is_some());
//! ```

use std::path::{Path, PathBuf};

use crate::text::{of_path, shortened};

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure the library reports.
///
/// `Display` names the thing, what was expected and what was found; [`Error::hint`] says
/// what would correct it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {action} {}: {source}", named(path))]
    Io {
        /// What was attempted, as a verb: "read", "create", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// A file exists but does not contain what it should.
    #[error("{}: expected {expected}, found {found}", named(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// What a valid file contains at this place.
        expected: String,
        /// What this one contains.
        found: String,
        /// What would correct it.
        hint: String,
    },
    /// A value the caller gave cannot be used.
    #[error("{what}: expected {expected}, found {found}")]
    Invalid {
        /// The setting, argument or tensor.
        what: String,
        /// What would be accepted.
        expected: String,
        /// What was given.
        found: String,
        /// What would correct it.
        hint: String,
    },
    /// A file could not be downloaded.
    #[error("cannot get {file} from {url}: {reason}")]
    Download {
        /// Name of the file.
        file: String,
        /// Where it was requested.
        url: String,
        /// What went wrong.
        reason: String,
        /// How to get it in another way.
        hint: String,
    },
    /// The caller asked to stop.
    #[error("{0}")]
    Stopped(
        /// What was saved of the work.
        String,
    ),
    /// Training produced a loss that is not a finite number.
    #[error("the loss became {loss} at step {step} of epoch {epoch} ({phase})")]
    Diverged {
        /// The loss as computed.
        loss: f32,
        /// Step within the epoch, from 1.
        step: usize,
        /// Epoch within the run, from 1.
        epoch: usize,
        /// Which phase: "head" or "fine-tune".
        phase: String,
    },
    /// Training produced weights that are not finite numbers.
    #[error(
        "the weights diverged: {tensor} has a value of {value} after step {step} of epoch {epoch} ({phase})"
    )]
    WeightsDiverged {
        /// The first tensor that has such a value.
        tensor: String,
        /// The value.
        value: f32,
        /// Step within the epoch, from 1.
        step: usize,
        /// Epoch within the run, from 1.
        epoch: usize,
        /// Which phase: "head" or "fine-tune".
        phase: String,
    },
}

impl Error {
    /// What the user can do about it, or `None` when the message says everything.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Io { .. } | Error::Stopped(_) => None,
            Error::Format { hint, .. }
            | Error::Invalid { hint, .. }
            | Error::Download { hint, .. } => (!hint.is_empty()).then_some(hint),
            Error::Diverged { epoch, phase, .. } | Error::WeightsDiverged { epoch, phase, .. } => {
                Some(diverged(*epoch, phase))
            }
        }
    }

    /// The same with another hint, if it has one.
    pub(crate) fn with_hint(mut self, other: &str) -> Error {
        if let Error::Format { hint, .. }
        | Error::Invalid { hint, .. }
        | Error::Download { hint, .. } = &mut self
        {
            *hint = other.to_string();
        }
        self
    }

    /// An [`Error::Io`] for `action` on `path`; made for `map_err`.
    pub fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// That `count` threads do not start, for what the system says: there is no room for their stacks, or a limit is
    /// reached.
    pub fn threads(count: usize, why: impl std::fmt::Display) -> Error {
        let expected = "as many as the system can start";
        let hint =
            "memory may be short, or a limit reached (ulimit -v, ulimit -u); give fewer --threads";
        Error::invalid("threads", expected, format!("{count}: {why}"), hint)
    }

    /// An [`Error::Invalid`] from its four parts. Of parts longer than a reader wants the middle is left out.
    pub fn invalid(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Invalid {
            what: short(what),
            expected: short(expected),
            found: short(found),
            hint: short(hint),
        }
    }

    /// An [`Error::Format`] from its four parts, as [`Error::invalid`].
    pub fn format(
        path: impl Into<PathBuf>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Format {
            path: path.into(),
            expected: short(expected),
            found: short(found),
            hint: short(hint),
        }
    }
}

/// A part of a message, which may hold names, cells and lists from outside.
fn short(text: impl Into<String>) -> String {
    let text = text.into();
    match shortened(&text) {
        std::borrow::Cow::Borrowed(_) => text,
        std::borrow::Cow::Owned(short) => short,
    }
}

/// A path in a message.
fn named(path: &Path) -> String {
    short(of_path(path))
}

/// What to do about a run that diverged, and what is left of it: nothing that is not a number is ever saved.
fn diverged(epoch: usize, phase: &str) -> &'static str {
    match (phase.starts_with("fine-tune"), epoch > 1) {
        (true, true) => {
            "lower --fine-tune-learning-rate; weights/best.safetensors of the run has the best epoch before this one"
        }
        (false, true) => {
            "lower --learning-rate; weights/best.safetensors of the run has the best epoch before this one"
        }
        (true, false) => "lower --fine-tune-learning-rate; no epoch of the run was completed",
        (false, false) => "lower --learning-rate; no epoch of the run was completed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_short_whatever_is_in_them() {
        let cell = "x".repeat(1 << 20);
        let found = format!("{cell:?} in row 7");
        let format = Error::format(format!("t/{cell}"), &cell, found.clone(), &cell);
        for error in [format, Error::invalid(&cell, &cell, found, &cell)] {
            let (text, hint) = (error.to_string(), error.hint().unwrap_or_default());
            assert!(text.len() < 4000 && hint.len() < 1000, "{text} {hint}");
            assert!(text.ends_with("x\" in row 7"), "{text}");
        }
        let io =
            Error::io("read", Path::new(&cell).join("a\nb"))(std::io::ErrorKind::NotFound.into());
        assert!(io.to_string().len() < 1000 && io.to_string().contains("a\\u{a}b"), "{io}");
    }
}
