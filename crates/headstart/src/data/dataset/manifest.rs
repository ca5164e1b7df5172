//! Manifests: a table with a row for each image, `path,label[,split]`, as Parquet or as text: separated by commas,
//! semicolons, tabs or spaces, in any of the encodings that spreadsheets write.

mod columnar;
mod columns;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use columns::{LABEL, PATH, Unused, columns, position};

use super::grouping::{Grouping, Keys};
use super::labelled::{self, Labelled};
use super::room::{self, Room};
use super::shown::Place;
use super::tree::{Layout, Origin, Part, has_image_extension, part_of};
use super::{Limits, Skipped};
use crate::error::{Error, Result};
use crate::file_kind;
use crate::guard::guarded;
use crate::memory::{self, Claim};
use crate::nearest::did_you_mean;
use crate::task::Task;
use crate::text::{composed, decode, is_same, visible};

const HINT: &str = "a manifest has a header and columns path, label and, if wanted, split (train, validation, test), \
                    separated by commas, semicolons or tabs";
/// Most columns and bytes of a line.
const MOST_COLUMNS: usize = 10_000;
const LONGEST_LINE: usize = 4 << 20;
/// Files of a folder that are looked at for one of a name like a missing one's.
const LOOKED_AT: usize = 100_000;
const SEPARATORS: [(u8, &str); 4] =
    [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs"), (b' ', "spaces")];
const PARQUET_MAGIC: &[u8] = b"PAR1";

/// A row of the table.
pub(super) struct Row {
    pub path: String,
    pub label: String,
    split: Option<String>,
    /// The cell of the column that groups images, if one does and it is not empty.
    group: Option<String>,
}

/// A table, and what is unusual about it.
#[derive(Default)]
pub(super) struct Table {
    pub rows: Vec<Row>,
    warnings: Vec<String>,
    /// Columns that may hold the paths, beside the one that does.
    other_paths: String,
}

/// Whether the file is a table: Parquet by content, text by name.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let is = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    ["csv", "tsv", "tab", "txt"].into_iter().any(is) || is_parquet(path)
}

fn is_parquet(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 4];
    memory::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == *PARQUET_MAGIC
}

/// Reads the table at `path`. Paths in it are absolute or relative to its folder; files that are not
/// there or are listed twice are skipped. `known` classes are those of a model; `group` may name a column.
///
/// # Errors
/// If it is no such table, a cell is empty, a split unknown, one image has two labels or splits, or no file is there.
pub(crate) fn read(
    path: &Path,
    limits: &Limits,
    known: Option<&[String]>,
    group: Option<&Grouping>,
) -> Result<Layout> {
    let by = match group {
        Some(Grouping::Column(name)) => Some(name.as_str()),
        _ => None,
    };
    let mut claim = Claim::default();
    let Table { rows, warnings, other_paths } = if is_parquet(path) {
        // A defect in the reader must not end the process.
        guarded(|| columnar::rows(path, limits, by))
            .unwrap_or_else(|_| Err(bad(path, "a Parquet file that cannot be read")))?
    } else {
        let bytes = memory::read(path, limits.file_bytes, &mut claim)?;
        // In UTF-8 it can be three times as long; the fields of a row, each with its place, are two times theirs.
        claim.grow(5 * bytes.len() as u64).map_err(|over| over.of(path))?;
        text_rows(path, &bytes, by, &mut Room::new(limits))?
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen: BTreeMap<String, (String, Part)> = BTreeMap::new();
    let mut skipped = Vec::new();
    let mut labelled = Vec::with_capacity(rows.len());
    let mut cells = HashMap::new();
    let (mut listed, mut lost) = (Vec::new(), Vec::new());
    let base = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let mut missing: Option<String> = None;
    for (index, Row { path: name, label, split, group }) in rows.into_iter().enumerate() {
        let at = || format!("row {} ({name:?})", index + 1);
        let part = checked(path, index, [&name, &label], split.as_deref())?;
        let label = visible(&composed(&label)).into_owned();
        let found = located(folder, &name);
        let own = found
            .as_ref()
            .map_or(Path::new(&name), |file| file.strip_prefix(folder).unwrap_or(file));
        let key = plain_path(&base.join(own));
        match seen.get(&key) {
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
        seen.insert(key, (label.clone(), part));
        if !listed.contains(&part) {
            listed.push(part);
        }
        match found {
            Err(reason) => {
                missing.get_or_insert_with(|| name.clone());
                lost.push((name.clone(), part, label));
                skipped.push(Skipped { name, reason });
            }
            Ok(file) => {
                cells.extend(group.map(|group| (name.clone(), group)));
                labelled.push(Labelled { name, label, part, origin: Origin::Disk(file) });
            }
        }
    }
    if labelled.is_empty() && skipped.is_empty() {
        return Err(bad(path, "no rows"));
    }
    if let (Some(first), true) = (missing, labelled.is_empty()) {
        return Err(no_file(path, folder, &first, skipped.len(), &other_paths));
    }
    let root = (path.to_path_buf(), Place::Folder(folder.to_path_buf()));
    let of_train = lost.iter().filter(|(_, part, _)| *part == Part::Train);
    let others = of_train.map(|(_, _, label)| label.as_str()).collect();
    let rows = (labelled, others);
    let mut layout = labelled::arrange(Task::default(), root, rows, None, known, skipped)?;
    // A split without any file is an error, as a folder without any image is.
    if known.is_none() {
        layout.has_validation |= listed.contains(&Part::Validation);
        layout.has_test |= listed.contains(&Part::Test);
    }
    layout.warnings.splice(0..0, warnings);
    layout.keys = Keys::Table(cells);
    let number = |label: &String| layout.classes.iter().position(|class| is_same(class, label));
    let lost = lost.into_iter();
    layout.lost = lost
        .map(|(name, part, label)| (name, (part, number(&label).unwrap_or(usize::MAX))))
        .collect();
    Ok(layout)
}

/// The split that a row is of; fails for a row without path or label, with several lines in one of them, or with an unknown split.
fn checked(
    table: &Path,
    index: usize,
    [name, label]: [&String; 2],
    split: Option<&str>,
) -> Result<Part> {
    let at = || format!("row {} ({name:?})", index + 1);
    if name.is_empty() || label.is_empty() {
        let what = if name.is_empty() { "path" } else { "label" };
        return Err(bad(table, format!("no {what} in {}", at())));
    }
    if let Some(cell) = [name, label].into_iter().find(|cell| cell.contains(['\n', '\r'])) {
        let lines = cell.lines().count();
        let hint = "is a quotation mark (\") left open in that row?";
        let found = format!("{lines} lines of text in one cell of row {}", index + 1);
        return Err(Error::format(table, "a path and a label of one line each", found, hint));
    }
    let Some(text) = split else { return Ok(Part::Train) };
    part_of(text).ok_or_else(|| {
        let expected = "train, validation or test as split";
        Error::format(table, expected, format!("{text:?} in {}", at()), HINT)
    })
}

/// The file that a row names; why not, where there is none.
fn located(folder: &Path, name: &str) -> std::result::Result<PathBuf, String> {
    let mut file = folder.join(name);
    let mut found = fs::metadata(&file);
    if found.is_err() && name.contains('\\') {
        // Windows wrote the table.
        file = folder.join(name.replace('\\', "/"));
        found = fs::metadata(&file);
    }
    match found {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(meta) => Err(file_kind::kind(meta.file_type()).to_string()),
        Err(e) => Err(format!("a file that cannot be read ({e})")),
    }
}

/// The path of a file without `.` and with each `..` taken: two spellings of one path are one image.
fn plain_path(file: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let path = file.to_string_lossy();
    for (at, part) in path.split('/').enumerate() {
        match (part, parts.last()) {
            (".", _) => {}
            ("", _) if at > 0 => {}
            ("..", Some(&last)) if !last.is_empty() && last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The error where no path of a table leads to a file: what paths are relative to, and where the first one's file seems to be.
fn no_file(table: &Path, folder: &Path, first: &str, count: usize, other_columns: &str) -> Error {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let slashed = first.replace('\\', "/");
    let parts: Vec<&str> = slashed.split('/').filter(|part| !part.is_empty()).collect();
    let below = fs::read_dir(here).into_iter().flatten().flatten().take(1000);
    let mut places: Vec<PathBuf> = below.map(|e| e.path()).filter(|p| p.is_dir()).collect();
    places.sort();
    places.insert(0, here.to_path_buf());
    let ends = (0..parts.len()).map(|from| parts[from..].iter().collect::<PathBuf>());
    let near = ends.clone().flat_map(|end| places.iter().map(move |place| place.join(&end)));
    let ends: Vec<PathBuf> = ends.collect();
    let near = near.into_iter().find(|file| file.is_file()).or_else(|| {
        let all = ends.iter().flat_map(|end| places.iter().map(move |place| place.join(end)));
        all.into_iter().find_map(|file| alike(&file))
    });
    let hint = match near {
        Some(file) => format!("the nearest file that is there is {}", file.display()),
        None => "move the table beside its images, or write absolute paths".to_string(),
    };
    let hint = match other_columns {
        "" => hint,
        others => format!("{hint}; other columns that may hold the paths: {others}"),
    };
    let expected = format!("paths relative to the folder of the table, {}", here.display());
    Error::format(
        table,
        expected,
        format!(
            "{}, such as {first}",
            match count {
                1 => "1 path without a file".to_string(),
                n => format!("{n} paths without a file"),
            }
        ),
        hint,
    )
}

/// A file beside `missing` whose name differs in case, by quotation marks or by its extension alone.
fn alike(missing: &Path) -> Option<PathBuf> {
    let plain = |name: &str| name.trim_matches(['\'', '"', ' ']).to_lowercase();
    let name = plain(&missing.file_name()?.to_string_lossy());
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string();
    let inside = fs::read_dir(missing.parent()?).ok()?.flatten().take(LOOKED_AT);
    let mut found: Vec<PathBuf> = inside
        .map(|entry| entry.path())
        .filter(|path| {
            let Some(own) = path.file_name().and_then(|own| own.to_str()) else { return false };
            let same =
                plain(own) == name || stem(&plain(own)) == name || stem(&plain(own)) == stem(&name);
            same && has_image_extension(own) && path.is_file()
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

fn bad(path: &Path, found: impl Into<String>) -> Error {
    Error::format(path, "a table of images", found.into(), HINT)
}

/// Where the column `by` is, if images are grouped by one.
///
/// # Errors
/// If there is no such column.
fn group_column(path: &Path, names: &[String], by: Option<&str>) -> Result<Option<usize>> {
    let Some(by) = by else { return Ok(None) };
    let exact = names.iter().position(|name| name.trim() == by);
    if let Some(at) =
        exact.or_else(|| names.iter().position(|name| name.trim().eq_ignore_ascii_case(by)))
    {
        return Ok(Some(at));
    }
    let found = format!("columns {}", shortened(names));
    let hint = did_you_mean(by, names.iter().map(String::as_str));
    Err(Error::format(path, format!("a column {by}, for --group"), found, hint))
}

/// Names of columns. Not the table's own bytes: a file that is no table could have anything there.
fn shortened(names: &[String]) -> String {
    let names = names.iter().take(8).map(|name| name.chars().take(30).collect::<String>());
    names.collect::<Vec<_>>().join(", ")
}

fn no_columns(path: &Path, names: &[String]) -> Error {
    let lacks = match PATH.iter().any(|name| position(names, name).is_some()) {
        true => LABEL[0],
        false => PATH[0],
    };
    let found = format!("columns {}", shortened(names));
    Error::format(path, format!("a column {lacks}"), found, HINT)
}

/// Counts a row and what is made of it. Short rows take far more memory than space in their file.
fn count(path: &Path, row: &Row, folder: &Path, room: &mut Room) -> Result<()> {
    let group = row.group.as_ref().map_or(0, |group| 2 * group.len() + row.path.len());
    let text = 3 * row.path.len() + 2 * row.label.len() + folder.as_os_str().len() + group;
    room.take(2 * room::ENTRY + text as u64).map_err(|found| bad(path, found))
}

/// What is wrong with a text whose lines are longer than those of tables: a row may have a place for each byte of it.
fn overlong(text: &str) -> Option<String> {
    let longest = text.as_bytes().split(|b| matches!(b, b'\n' | b'\r')).map(<[u8]>::len).max();
    longest.filter(|&bytes| bytes > LONGEST_LINE).map(|bytes| format!("a line of {bytes} bytes"))
}

pub(super) fn text_rows(
    path: &Path,
    bytes: &[u8],
    by: Option<&str>,
    room: &mut Room,
) -> Result<Table> {
    let (text, encoding) = decode(bytes);
    let mut table = Table::default();
    if let Some(encoding) = encoding.filter(|name| *name == "windows-1252") {
        table.warnings.push(format!(
            "the table is not UTF-8 and is read as {encoding} (Latin-1); if names look wrong, save it as UTF-8"
        ));
    }
    if let Some(found) = overlong(&text) {
        return Err(bad(path, found));
    }
    let failed = |e: csv::Error| bad(path, format!("a CSV that cannot be read ({e})"));
    let reader = |separator: u8| {
        let mut builder = csv::ReaderBuilder::new();
        builder.trim(csv::Trim::All).delimiter(separator).from_reader(text.as_bytes())
    };
    let header = |separator: u8| -> Result<Vec<String>> {
        let mut reader = reader(separator);
        let names = reader.headers().map_err(failed)?;
        match names.len() {
            0..=MOST_COLUMNS => Ok(names.iter().map(String::from).collect()),
            n => Err(bad(path, format!("{n} columns, where {MOST_COLUMNS} are read"))),
        }
    };
    let (mut found, mut most) = (None, 0);
    for (separator, _) in SEPARATORS {
        // Names of columns may have spaces in them.
        if separator == b' ' && most > 1 {
            break;
        }
        let names = header(separator)?;
        most = most.max(names.len());
        if let Some(columns) = columns(&names) {
            found = Some((separator, names, columns));
            break;
        }
    }
    let Some((separator, names, columns)) = found else {
        return Err(no_columns(path, &header(b',')?));
    };
    let group = group_column(path, &names, by)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut splits = Unused::new(&names, &columns, group);
    for record in reader(separator).records() {
        let record = record.map_err(failed)?;
        // Spreadsheets leave such rows at the end.
        if record.iter().all(str::is_empty) {
            continue;
        }
        let cell = |i: usize| record.get(i).unwrap_or_default().to_string();
        let group = group.map(cell).filter(|text| !text.is_empty());
        let split = columns.split.of_row(&names, table.rows.len() + 1, &cell);
        let split = split.map_err(|found| bad(path, found))?;
        let row = Row { path: cell(columns.path), label: cell(columns.label), split, group };
        count(path, &row, folder, room)?;
        table.rows.push(row);
        splits.look(&cell);
    }
    table.warnings.extend(splits.warning(&names));
    columns.split.settle(&names, &mut table);
    table.warnings.extend(columns.warnings(&names));
    table.other_paths = columns.other_paths(&names);
    Ok(table)
}
