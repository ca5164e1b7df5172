//! Names of data sets and classes: folders' names on every system, which people can tell apart.

use headstart::dataset::{CORRECTIONS, no_class};
use headstart::text::{is_active, is_same};
use headstart::{Error, Result};

use crate::models::check_name;

/// Longest name of a class, in bytes: a folder's, everywhere.
const LONGEST: usize = 100;
/// Characters that no folder's name has on some system.
const NOT_IN_FILES: &str = "/\\:*?\"<>|";
/// Characters that nobody sees, besides white space.
const UNSEEN: [char; 5] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{feff}'];

/// Whether Windows takes it for a device, whatever its ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |word: &str| {
        stem.strip_prefix(word).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    ["CON", "PRN", "AUX", "NUL"].contains(&&*stem) || numbered("COM") || numbered("LPT")
}

/// Whether nobody sees it and no picture needs it, so that two names look the same; joiners and variations make emoji.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_seen(c: char) -> bool {
    let joiner =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}');
    !c.is_whitespace() && !joiner && !UNSEEN.contains(&c)
}

/// Fails unless a data set can have that name: it is also the run's and the model's.
///
/// # Errors
/// If it cannot.
pub fn check_set(name: &str) -> Result<()> {
    if check_name(name).is_ok()
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !is_device(name)
    {
        return Ok(());
    }
    let (expected, hint) = match () {
        () if is_device(name) => {
            ("a folder's name on every system", "Windows takes it for a device")
        }
        () if name.len() > LONGEST => ("at most 100 letters", ""),
        () => (
            "a name that suits folders and addresses",
            "as my-photos: letters from a to z, digits, '.', '_' and '-', without spaces",
        ),
    };
    Err(Error::invalid("data set", expected, name, hint))
}

/// Fails unless a class can have that name.
///
/// # Errors
/// If it cannot.
pub fn check_class(name: &str) -> Result<()> {
    let bad = |c: char| is_active(c) || NOT_IN_FILES.contains(c);
    if name.is_empty() || name.contains(bad) {
        let expected = format!("a name without {NOT_IN_FILES}");
        return Err(Error::invalid("class name", expected, name, ""));
    }
    if name.contains(is_hidden) {
        let expected = "letters that can be seen";
        return Err(Error::invalid(
            "class name",
            expected,
            name,
            "it has a character without width",
        ));
    }
    if name.len() > LONGEST {
        let expected = format!("at most {LONGEST} bytes: a letter has one to four");
        return Err(Error::invalid("class name", expected, format!("{} bytes", name.len()), ""));
    }
    if name != name.trim() || name.starts_with('.') || name.ends_with('.') {
        let expected = "no space at its ends, no dot at its ends";
        return Err(Error::invalid("class name", expected, name, ""));
    }
    if !name.contains(is_seen) {
        return Err(Error::invalid("class name", "something that can be seen", name, ""));
    }
    if is_device(name) {
        let expected = "a folder's name on every system";
        return Err(Error::invalid("class name", expected, name, "Windows takes it for a device"));
    }
    if are_same(name, CORRECTIONS) {
        let hint = "the table of corrected labels has this name";
        return Err(Error::invalid("class name", "one that is a class", name, hint));
    }
    if let Some(what) = no_class(name) {
        let hint = format!("a folder of this name is taken for {what}; add a word to it");
        return Err(Error::invalid("class name", "one that is a class", name, hint));
    }
    Ok(())
}

/// Whether a system may take two names for one.
pub fn are_same(a: &str, b: &str) -> bool {
    let plain = |name: &str| name.to_uppercase().to_lowercase();
    is_same(a, b) || is_same(&plain(a), &plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_every_system_have_these_names() {
        for good in [
            "cat",
            "Äpfel & Birnen",
            "😀",
            "👩\u{200d}🔬",
            "❤\u{fe0f}",
            "c'est",
            "no. 1",
            "trainer",
            "valley",
            "日本",
        ] {
            check_class(good).unwrap();
        }
        for bad in [
            "",
            "..",
            "a/b",
            "a\\b",
            "a\n",
            "a\u{202e}b",
            ".a",
            "a.",
            " a",
            "a\u{a0}",
            "\u{200b}",
            "\u{3164}",
            "CON",
            "nul.txt",
            "com1",
            "train",
            "val_images",
            "__MACOSX",
            "<b>",
            "a\u{200b}b",
            "a\u{200f}b",
            "Corrections.CSV",
        ] {
            assert!(check_class(bad).is_err(), "{bad:?}");
        }
        assert!(check_class(&"x".repeat(101)).is_err());
        check_set("my-photos.2").unwrap();
        for bad in
            ["", ".", "..", "a/b", ".hidden", "a b", "ä", "-", "--help", "x.", "con", "NUL.a"]
        {
            assert!(check_set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_one_folder_would_have_are_the_same() {
        for (a, b) in [("caf\u{e9}", "cafe\u{301}"), ("Cat", "cAT"), ("STRASSE", "straße")] {
            assert!(are_same(a, b), "{a} {b}");
        }
        assert!(!are_same("cat", "cats"));
    }
}
