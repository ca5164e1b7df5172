//! Standard output, which has nothing but results, and standard error, which has the rest.
//!
//! Names of files, classes and tensors come from outside: what would control a terminal is replaced.

use std::borrow::Cow;
use std::fmt::{Arguments, Display};
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use headstart::Error;
use headstart::text::is_active;
use serde::Serialize;

/// Prints a line on standard error. One that cannot be written, to a full disk or to a reader that went away, is dropped:
/// what is said there is never worth the work.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::output::to_stderr(format_args!($($text)*))
    };
}
pub(crate) use note;

/// Number of this process among several; those after 0 print errors alone.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// From now on this is process number `rank` of several.
pub fn be(rank: usize) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Whether another process prints what there is to say.
pub fn is_silent() -> bool {
    RANK.load(Ordering::Relaxed) > 0
}

/// What [`note!`] does.
pub fn to_stderr(text: Arguments<'_>) {
    if !is_silent() {
        say(text.to_string());
    }
}

/// Prints a line about a failure on standard error, with the number of the process if it is not the first.
pub fn failure(text: impl Display) {
    match RANK.load(Ordering::Relaxed) {
        0 => say(text.to_string()),
        rank => say(format!("process {rank}: {text}")),
    }
}

fn say(mut text: String) {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(&text));
}

/// Most characters of a line on standard error; names from outside can be of any length.
const LONGEST: usize = 8000;

/// Whether a character does more than stand in a line, or begin one.
fn controls(c: char) -> bool {
    is_active(c) && !matches!(c, '\n' | '\t')
}

/// The text with a mark in place of each control character.
fn plain(text: &str) -> Cow<'_, str> {
    match text.contains(controls) {
        true => text.replace(controls, "\u{fffd}").into(),
        false => text.into(),
    }
}

/// Prints a line of text. A reader that stops reading, as `head` does, is no error.
pub fn line(text: impl Display) -> Result<(), Error> {
    write(&(plain(&text.to_string()).into_owned() + "\n"))
}

/// Prints the program's own text as it is, with colours.
pub fn own(text: impl Display) -> Result<(), Error> {
    write(&text.to_string())
}

/// Prints text that has its own line ends.
pub fn text(text: impl Display) -> Result<(), Error> {
    write(&plain(&text.to_string()))
}

/// Prints a value as JSON on one line.
pub fn json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::invalid("result", "a value that fits JSON", e.to_string(), ""))?;
    // JSON itself escapes only those below a space.
    write(&(headstart::text::json(&text).into_owned() + "\n"))
}

fn write(text: &str) -> Result<(), Error> {
    if is_silent() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Error::io("write", "standard output")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_controls_a_terminal_is_printed() {
        assert_eq!(plain("a\tb\n\u{e9}"), "a\tb\n\u{e9}");
        assert_eq!(
            plain("\u{1b}]0;x\u{7}\u{9b}2J\r\u{7f}"),
            "\u{fffd}]0;x\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}"
        );
    }
}
