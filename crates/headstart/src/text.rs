//! Text from outside: its encoding, and the form of its letters.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};
use serde::{Deserialize, Deserializer};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::numbers::grouped;

/// The same text with letters and their accents in one character each (Unicode's form NFC), as most systems write it; macOS
/// takes them apart.
pub(crate) fn composed(text: &str) -> Cow<'_, str> {
    match is_nfc(text) {
        true => text.into(),
        false => text.nfc().collect::<String>().into(),
    }
}

/// Whether two names are one, whichever way their letters are composed.
pub fn is_same(a: &str, b: &str) -> bool {
    a == b || composed(a) == composed(b)
}

/// Whether a character changes what is around it: control characters, line ends, and those that turn the direction of text.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name in one line whose characters are all shown: `\u{202e}` stands for one that turns the text around.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        match is_active(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out.into()
}

/// JSON of the same value in which nothing controls a terminal or turns text around: such characters are escaped. What is only
/// between values, a line end, stays.
pub fn json(text: &str) -> Cow<'_, str> {
    // Inside of strings, JSON itself escapes line ends.
    let active = |c: char| is_active(c) && c != '\n';
    if !text.contains(active) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // None of them needs two code units.
        match active(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out.into()
}

/// Writes JSON as [`json`] has it.
pub(crate) struct JsonWriter<W>(pub W);

impl<W: Write> Write for JsonWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What serde_json hands on are whole texts.
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(json(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// For serde: reads a name as [`visible`].
pub(crate) fn read_visible<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| visible(&text).into_owned())
}

/// For serde: reads names as [`visible`].
pub(crate) fn read_all_visible<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<String>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    Ok(all.into_iter().map(|text| visible(&text).into_owned()).collect())
}

/// The name of a file as text, [`composed`] and [`visible`]. Bytes that are no text stand there as `\xE9`, and the backslash of
/// a name that has this text itself as `\x5C`, so that different names stay apart.
pub(crate) fn of_name(name: &OsStr) -> String {
    of_bytes(name.as_encoded_bytes())
}

/// [`of_name`] for the bytes of a name.
pub(crate) fn of_bytes(name: &[u8]) -> String {
    escaped(name, |text| plain_backslashes(&composed(text)).into_owned())
}

/// The path of a file as text: itself where it is a text in one line, so that it opens, else with escapes as in the names of
/// data sets. Different files have different texts.
pub fn of_path(path: &Path) -> String {
    // Elsewhere a backslash stands between folders.
    escaped(path.as_os_str().as_encoded_bytes(), |text| match cfg!(unix) {
        true => plain_backslashes(text).into_owned(),
        false => text.to_string(),
    })
}

/// Bytes as text: what is text by `as_text`, and escapes for the rest.
fn escaped(bytes: &[u8], as_text: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&visible(&as_text(chunk.valid())));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// Characters of a message's part that are shown: at its beginning, and at its end.
const SHOWN: (usize, usize) = (600, 200);

/// The text, and where it is longer than a reader wants, its beginning and its end: cells, names and lists from outside can be
/// of any length.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    let (first, last) = SHOWN;
    let count = if text.len() <= first + last { 0 } else { text.chars().count() };
    let left_out = count.saturating_sub(first + last);
    if left_out < 50 {
        return text.into();
    }
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let (start, end) = (&text[..at(first)], &text[at(count - last)..]);
    format!("{start} ... ({} characters left out) ... {end}", grouped(left_out)).into()
}

/// The text with `\x5C` for each backslash that begins what an escape of [`of_bytes`] looks like.
fn plain_backslashes(text: &str) -> Cow<'_, str> {
    let escapes = |rest: &str| {
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        match rest.strip_prefix('x') {
            Some(code) => code.get(..2).is_some_and(hex),
            None => {
                rest.strip_prefix("u{").and_then(|c| c.split_once('}')).is_some_and(|c| hex(c.0))
            }
        }
    };
    let mut out = String::new();
    let mut parts = text.split('\\');
    out.push_str(parts.next().unwrap_or_default());
    let mut changed = false;
    for part in parts {
        let escape = escapes(part);
        changed |= escape;
        out.push_str(if escape { "\\x5C" } else { "\\" });
        out.push_str(part);
    }
    if changed { out.into() } else { text.into() }
}

/// Text for a cell of a CSV, [`visible`]: what a spreadsheet would take for a formula begins with an apostrophe, which makes it text. Numbers
/// stay numbers.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    let formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = visible(text);
    if formula { format!("'{text}").into() } else { text }
}

/// The text of a file: UTF-8, UTF-16 with a byte order mark or recognised by its zeros, else Windows-1252, which is what
/// spreadsheets write where they do not write Unicode; and the encoding's name where it is not UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> (Cow<'_, str>, Option<&'static str>) {
    if let Some((encoding, length)) = Encoding::for_bom(bytes) {
        let (text, _) = encoding.decode_without_bom_handling(&bytes[length..]);
        return (text, (encoding != encoding_rs::UTF_8).then(|| encoding.name()));
    }
    let start = &bytes[..bytes.len().min(1000)];
    let zeros = |at: usize| start.iter().skip(at).step_by(2).filter(|&&b| b == 0).count();
    let most = start.len() / 2;
    let encoding = match (zeros(0), zeros(1)) {
        (0, odd) if odd > 0 && odd * 2 >= most => UTF_16LE,
        (even, 0) if even > 0 && even * 2 >= most => UTF_16BE,
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => return (text.into(), None),
            Err(_) => WINDOWS_1252,
        },
    };
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    (text, Some(encoding.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_the_same_however_they_are_composed() {
        assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
        assert!(is_same("caf\u{e9}", "cafe\u{301}") && !is_same("cafe", "caf\u{e9}"));
        // Hangul, and a sign that has no composed form.
        assert!(is_same("\u{ac00}", "\u{1100}\u{1161}"));
        assert_eq!(composed("x\u{301}"), "x\u{301}");
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;

        let name = |bytes: &[u8]| of_name(OsStr::from_bytes(bytes));
        assert_eq!(name(b"caf\xe9"), "caf\\xE9");
        assert_ne!(name(b"caf\xe9"), name(b"caf\xe8"));
        // A name that has the text of an escape is another one, and can be told from it.
        let all: [&[u8]; 7] = [
            b"a\x80",
            b"a\\x80",
            b"a\\x5Cx80",
            b"a\\\x80",
            b"a\\x8\x80",
            "a\u{202e}".as_bytes(),
            b"a\\u{202e}",
        ];
        let shown = all.map(name);
        for (i, one) in shown.iter().enumerate() {
            assert!(!shown[..i].contains(one), "{shown:?}");
        }
        assert_eq!(name(b"a\\x80"), "a\\x5Cx80");
        // Other backslashes are as they were.
        assert_eq!(name(b"C:\\xml\\u{"), "C:\\xml\\u{");
        assert_eq!(name("cafe\u{301}".as_bytes()), "caf\u{e9}");
        // So are paths, whose letters stay as they are.
        let path = |bytes: &[u8]| of_path(Path::new(OsStr::from_bytes(bytes)));
        let shown = all.map(path);
        for (i, one) in shown.iter().enumerate() {
            assert!(!shown[..i].contains(one), "{shown:?}");
        }
        assert_eq!(path("a/cafe\u{301}.png".as_bytes()), "a/cafe\u{301}.png");
        assert_eq!(path(b"a\nb/\xff.png"), "a\\u{a}b/\\xFF.png");
    }

    #[test]
    fn long_texts_are_cut_in_the_middle() {
        let text = format!("a{}z", "\u{e9}".repeat(1 << 20));
        let short = shortened(&text);
        assert!(short.starts_with("a\u{e9}") && short.ends_with("\u{e9}z"), "{short}");
        assert!(short.contains(" ... (1,047,778 characters left out) ... "), "{short}");
        assert!(short.chars().count() < 900);
        for whole in ["", "rose", &"\u{e9}".repeat(840)] {
            assert_eq!(shortened(whole), whole);
        }
    }

    #[test]
    fn names_are_one_visible_line() {
        assert_eq!(visible("a\nb\u{202e}c"), "a\\u{a}b\\u{202e}c");
        assert_eq!(of_bytes(b"tab\there"), "tab\\u{9}here");
        assert_eq!(visible("caf\u{e9} \u{1f600}"), "caf\u{e9} \u{1f600}");
    }

    #[test]
    fn json_is_the_same_value_without_what_controls_a_terminal() {
        let value =
            vec!["\u{1b}]0;x\u{7}", "\u{7f}\u{9b}31m", "\u{202e}gpj\u{2069}", "caf\u{e9}\n\"\\"];
        for text in
            [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()]
        {
            let safe = json(&text);
            assert!(!safe.contains(|c: char| is_active(c) && c != '\n'), "{safe}");
            assert!(safe.contains("\\u009b31m") && safe.contains("\\u202egpj\\u2069"), "{safe}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), value);
        }
        let mut written = Vec::new();
        serde_json::to_writer_pretty(JsonWriter(&mut written), &value).unwrap();
        assert_eq!(written, json(&serde_json::to_string_pretty(&value).unwrap()).as_bytes());
    }

    #[test]
    fn names_of_files_of_others_are_read_as_visible_lines() {
        #[derive(Deserialize)]
        struct Names {
            #[serde(deserialize_with = "read_visible")]
            one: String,
            #[serde(deserialize_with = "read_all_visible")]
            all: Vec<String>,
        }
        let text = r#"{"one": "a\u001b[1m", "all": ["\u202eb", "c"]}"#;
        let names: Names = serde_json::from_str(text).unwrap();
        assert_eq!(names.one, "a\\u{1b}[1m");
        assert_eq!(names.all, ["\\u{202e}b", "c"]);
    }

    #[test]
    fn cells_are_no_formulas() {
        for (text, safe) in [
            ("=HYPERLINK(\"x\")", "'=HYPERLINK(\"x\")"),
            ("@SUM(1)", "'@SUM(1)"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-1", "-1"),
            ("rose", "rose"),
            ("a=b", "a=b"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\t=1", "'\\u{9}=1"),
        ] {
            assert_eq!(cell(text), safe);
        }
    }

    #[test]
    fn encodings_are_recognised() {
        let text = "path,label\nr\u{f6}sti.png,caf\u{e9}\n";
        let utf_16 = |text: &str, big: bool| {
            let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
        };
        let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
        for (bytes, name) in [
            (text.as_bytes().to_vec(), None),
            (["\u{feff}", text].concat().into_bytes(), None),
            (utf_16(&["\u{feff}", text].concat(), false), Some("UTF-16LE")),
            (utf_16(&["\u{feff}", text].concat(), true), Some("UTF-16BE")),
            (utf_16(text, false), Some("UTF-16LE")),
            (utf_16(text, true), Some("UTF-16BE")),
            (latin, Some("windows-1252")),
        ] {
            assert_eq!(decode(&bytes), (text.into(), name));
        }
        assert_eq!(decode(b""), ("".into(), None));
    }
}
