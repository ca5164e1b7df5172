//! Manifests: a CSV or Parquet table with a row for each image, `path,label[,split]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::labelled::{self, Labelled};
use super::room::{self, Room};
use super::tree::{Layout, Origin, Part, part_of};
use super::{Limits, Skipped};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::task::Task;

/// Names that each column may have; the first is used in messages.
const PATH: &[&str] = &["path", "file", "filename", "file_name", "filepath", "image"];
const LABEL: &[&str] = &["label", "class", "category"];
const SPLIT: &[&str] = &["split", "subset", "partition"];
const HINT: &str = "a manifest has a header and columns path, label and, if wanted, split (train, validation, test)";
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// A row of the table.
struct Row {
    path: String,
    label: String,
    split: Option<String>,
}

/// Whether the file is a table: Parquet by content, CSV by name.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let csv = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    csv || is_parquet(path)
}

fn is_parquet(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 4];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
        && start == *PARQUET_MAGIC
}

/// Reads the table at `path`. Paths in it are absolute or relative to its folder; files that are not
/// there or are listed twice are skipped.
///
/// # Errors
/// If it is no such table, a cell is empty, a split unknown, or one image has two labels or splits.
pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Layout> {
    let size = fs::metadata(path).map_err(Error::io("open", path))?.len();
    if size > limits.file_bytes {
        let expected = format!("at most {} MiB", limits.file_bytes >> 20);
        return Err(Error::format(path, expected, format!("{} MiB", size >> 20), HINT));
    }
    let rows = if is_parquet(path) {
        // A defect in the reader must not end the process.
        guarded(|| parquet_rows(path, limits))
            .unwrap_or_else(|_| Err(bad(path, "a Parquet file that cannot be read")))?
    } else {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        csv_rows(path, &bytes, &mut Room::new(limits))?
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen: BTreeMap<String, (String, Part)> = BTreeMap::new();
    let mut skipped = Vec::new();
    let mut labelled = Vec::with_capacity(rows.len());
    for (index, Row { path: name, label, split }) in rows.into_iter().enumerate() {
        let at = || format!("row {} ({name:?})", index + 1);
        if name.is_empty() || label.is_empty() {
            return Err(bad(path, format!("no path or no label in {}", at())));
        }
        let part = match split.as_deref() {
            None => Part::Train,
            Some(text) => part_of(text).ok_or_else(|| {
                Error::format(
                    path,
                    "train, validation or test as split",
                    format!("{text:?} in {}", at()),
                    HINT,
                )
            })?,
        };
        match seen.get(&name) {
            Some((other, _)) if *other != label => {
                let found = format!("both {other} and {label} in {}", at());
                return Err(Error::format(path, "one label for each image", found, HINT));
            }
            Some((_, other)) if *other != part => {
                let found = format!("two in {}", at());
                return Err(Error::format(path, "one split for each image", found, HINT));
            }
            Some(_) => {
                skipped.push(Skipped { name, reason: "listed more than once".to_string() });
                continue;
            }
            None => {}
        }
        seen.insert(name.clone(), (label.clone(), part));
        let file = folder.join(&name);
        let reason = match fs::metadata(&file) {
            Ok(meta) if meta.is_file() => None,
            Ok(_) => Some("something other than a file".to_string()),
            Err(e) => Some(format!("a file that cannot be read ({e})")),
        };
        match reason {
            Some(reason) => skipped.push(Skipped { name, reason }),
            None => labelled.push(Labelled { name, label, part, origin: Origin::Disk(file) }),
        }
    }
    if labelled.is_empty() && skipped.is_empty() {
        return Err(bad(path, "no rows"));
    }
    labelled::arrange(Task::default(), path.to_path_buf(), labelled, None, skipped)
}

fn bad(path: &Path, found: impl Into<String>) -> Error {
    Error::format(path, "a table of images", found.into(), HINT)
}

/// Which columns hold path, label and split.
fn columns(path: &Path, names: &[String]) -> Result<(usize, usize, Option<usize>)> {
    let find = |known: &[&str]| {
        known.iter().find_map(|k| names.iter().position(|n| n.trim().eq_ignore_ascii_case(k)))
    };
    match (find(PATH), find(LABEL)) {
        (Some(image), Some(label)) => Ok((image, label, find(SPLIT))),
        (image, _) => {
            let lacks = if image.is_none() { PATH[0] } else { LABEL[0] };
            let expected = format!("a column {lacks}");
            Err(Error::format(path, expected, format!("columns {}", names.join(", ")), HINT))
        }
    }
}

/// Counts a row and what is made of it. Short rows take far more memory than space in their file.
fn count(path: &Path, row: &Row, folder: &Path, room: &mut Room) -> Result<()> {
    let text = 3 * row.path.len() + 2 * row.label.len() + folder.as_os_str().len();
    room.take(2 * room::ENTRY + text as u64).map_err(|found| bad(path, found))
}

fn csv_rows(path: &Path, bytes: &[u8], room: &mut Room) -> Result<Vec<Row>> {
    // Spreadsheets put a byte order mark first.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let failed = |e: csv::Error| bad(path, format!("a CSV that cannot be read ({e})"));
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(String::from).collect();
    let (image, label, split) = columns(path, &names)?;
    let (mut rows, folder) = (Vec::new(), path.parent().unwrap_or(Path::new("")));
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let cell = |i: usize| record.get(i).unwrap_or_default().to_string();
        let split = split.map(cell).filter(|text| !text.is_empty());
        let row = Row { path: cell(image), label: cell(label), split };
        count(path, &row, folder, room)?;
        rows.push(row);
    }
    Ok(rows)
}

/// Rows of a Parquet file, of at most [`Limits::file_bytes`] as a CSV. A short file can claim any number of equal rows.
fn parquet_rows(path: &Path, limits: &Limits) -> Result<Vec<Row>> {
    let (most, mut room) = (limits.file_bytes, Room::new(limits));
    let folder = path.parent().unwrap_or(Path::new(""));
    let failed = |e: parquet::errors::ParquetError| {
        Error::format(
            path,
            "a Parquet table of images, uncompressed or with Snappy",
            e.to_string(),
            HINT,
        )
    };
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let rows = reader.get_row_iter(None).map_err(failed)?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let names: Vec<String> = fields.iter().map(|f| f.name().to_string()).collect();
    let (image, label, split) = columns(path, &names)?;
    let (mut out, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row.map_err(failed)?;
        let cells: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        let cell = |i: usize| text(cells.get(i).copied().unwrap_or(&Field::Null));
        let wrong = |i: usize| bad(path, format!("a column {} that is not text", names[i]));
        let row = Row {
            path: cell(image).ok_or_else(|| wrong(image))?,
            label: cell(label).ok_or_else(|| wrong(label))?,
            split: split
                .map(|i| cell(i).ok_or_else(|| wrong(i)))
                .transpose()?
                .filter(|text| !text.is_empty()),
        };
        let split = row.split.as_ref().map_or(0, String::len);
        bytes += (row.path.len() + row.label.len() + split + 3) as u64;
        if bytes > most {
            let expected = format!("at most {} MiB of text", most >> 20);
            return Err(Error::format(path, expected, format!("more in {} rows", out.len()), HINT));
        }
        count(path, &row, folder, &mut room)?;
        out.push(row);
    }
    Ok(out)
}

/// Text and whole numbers as text, nothing as empty; `None` for what is neither.
fn text(field: &Field) -> Option<String> {
    Some(match field {
        Field::Null => String::new(),
        Field::Str(text) => text.trim().to_string(),
        Field::Bytes(data) => String::from_utf8_lossy(data.data()).trim().to_string(),
        Field::Byte(v) => v.to_string(),
        Field::Short(v) => v.to_string(),
        Field::Int(v) => v.to_string(),
        Field::Long(v) => v.to_string(),
        Field::UByte(v) => v.to_string(),
        Field::UShort(v) => v.to_string(),
        Field::UInt(v) => v.to_string(),
        Field::ULong(v) => v.to_string(),
        _ => return None,
    })
}
