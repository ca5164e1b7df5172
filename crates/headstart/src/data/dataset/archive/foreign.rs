//! What a file is that was given as a data set and is no archive that is read, and what to do about it.

use std::io::{self, Read};
use std::path::Path;

use crate::data::image::{Format, read_header};
use crate::error::Error;

const UNPACK: &str = "unpack it and give the folder";
const SAVE_AS_CSV: &str = "save its table as CSV, with columns path and label, and give that";
const EXPORT: &str = "write its images as files, in a folder for each class, and give the folder";

/// Kinds by their first bytes, and what to do.
const KINDS: [(&[u8], &str, &str); 14] = [
    (b"BZh", "a bzip2 file", UNPACK),
    (b"\xfd7zXZ", "an xz file", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file", UNPACK),
    (b"Rar!\x1a\x07", "a RAR file", UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 file", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Office file", SAVE_AS_CSV),
    (b"SQLite format 3\0", "an SQLite database", SAVE_AS_CSV),
    (b"ARROW1", "an Arrow (Feather) table", "save it as CSV or Parquet and give that"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", EXPORT),
    (b"\x93NUMPY", "a NumPy array", EXPORT),
    (b"\x80\x04\x95", "a Python pickle", EXPORT),
    (b"%PDF-", "a PDF", EXPORT),
    (b"\x7fELF", "a program", "is it the file that is meant?"),
];

/// Bytes of a block of a .tar.
const BLOCK: usize = 512;
/// Bytes by which a file is known: headers of images may have colours and text before their size.
pub(super) const START: u64 = 1 << 16;

/// The error for a file that is known to be something else, by its [`start`]; `packed` if gzip has unpacked it.
pub(super) fn not_an_archive(path: &Path, start: &[u8], packed: bool) -> Option<Error> {
    if is_tar(start) {
        return None;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if packed && start.is_empty() {
        // Damaged, or empty: the reader says which.
        return None;
    }
    let (found, hint) = kind(&name, start)?;
    let (found, hint) = match packed {
        true if hint == SAVE_AS_CSV => {
            (format!("{found}, compressed by gzip"), format!("unpack it with gunzip, {hint}"))
        }
        true => (
            format!("{found}, compressed by gzip"),
            "unpack it with gunzip and give what comes out".to_string(),
        ),
        false => (found.to_string(), hint.to_string()),
    };
    Some(Error::format(path, "an image folder, a .tar or a .tar.gz, or a table", found, hint))
}

/// What a file of this name, in small letters, is that is no .tar; `None` for a damaged one.
fn kind(name: &str, start: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Some(&(_, found, hint)) = KINDS.iter().find(|kind| start.starts_with(kind.0)) {
        return Some((found, hint));
    }
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let ends = |endings: &[&str]| endings.iter().any(|ending| plain.ends_with(ending));
    Some(match start {
        [] => ("an empty file", UNPACK),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => match start.get(30..).unwrap_or_default() {
            _ if ends(&[".xlsx", ".xlsm", ".xltx", ".ods"]) => ("a spreadsheet", SAVE_AS_CSV),
            inside if starts_office(inside) => ("a spreadsheet or other document", SAVE_AS_CSV),
            inside if ends(&[".npz"]) || inside.starts_with(b"arr_0.npy") => {
                ("NumPy arrays", EXPORT)
            }
            _ => ("a zip file", UNPACK),
        },
        _ if read_header(&mut io::Cursor::new(start)).is_ok_and(|h| h.format != Format::Tga) => {
            ("a single image", "give the folder that it is in")
        }
        _ => match text(start)? {
            _ if ends(&[".tar", ".tgz"]) => return None,
            _ if ends(&[".jsonl", ".ndjson"]) => ("lines of JSON", SAVE_AS_CSV),
            b'{' | b'[' => ("JSON", SAVE_AS_CSV),
            b'<' => ("XML or a web page", "is it the file that is meant? A table is given as CSV"),
            _ if ends(&[".csv", ".tsv", ".tab", ".txt"]) => ("a table of text", UNPACK),
            _ => ("a text file", "a table of images is given as .csv, .tsv or .txt"),
        },
    })
}

/// Whether a zip file that begins with this name is a document.
fn starts_office(inside: &[u8]) -> bool {
    let all: [&[u8]; 6] = [
        b"[Content_Types].xml",
        b"_rels/",
        b"docProps/",
        b"xl/",
        b"mimetypeapplication/vnd.oasis.opendocument",
        b"Index/",
    ];
    all.iter().any(|name| inside.starts_with(name))
}

/// The first letter of what is text.
fn text(start: &[u8]) -> Option<u8> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    // The last character may be cut.
    let whole = |error: std::str::Utf8Error| error.error_len().is_none();
    let readable = std::str::from_utf8(start).map_or_else(whole, |_| true);
    let control = |&b: &u8| b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c);
    let first = start.iter().find(|b| !b.is_ascii_whitespace()).copied();
    first.filter(|_| readable && !start.iter().any(control))
}

/// Whether a block begins a .tar: its sum is right, or it is the end of an empty one.
fn is_tar(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<BLOCK>() else { return false };
    let header = tar::Header::from_byte_slice(block);
    let sum = |(i, &b): (usize, &u8)| if (148..156).contains(&i) { 32 } else { u32::from(b) };
    let sum: u32 = block.iter().enumerate().map(sum).sum();
    block.iter().all(|&b| b == 0) || header.cksum().is_ok_and(|said| said == sum)
}

/// The first bytes of what `source` has, fewer where it ends or is damaged.
pub(super) fn start(source: impl Read) -> Vec<u8> {
    let mut start = Vec::new();
    // What is wrong with it is found again when it is read.
    let _ = source.take(START).read_to_end(&mut start);
    start
}
