//! Standard output, which has nothing but results.

use std::io::{ErrorKind, Write};

use headstart::Error;
use serde::Serialize;

/// Prints a line of text. A reader that stops reading, as `head` does, is no error.
pub fn line(text: impl std::fmt::Display) -> Result<(), Error> {
    self::text(format_args!("{text}\n"))
}

/// Prints text as it is.
pub fn text(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Error::io("write", "standard output")),
    }
}

/// Prints a value as JSON on one line.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::invalid("result", "a value that fits JSON", e.to_string(), ""))?;
    line(text)
}
