//! Tables as Parquet. What pages claim is looked at before they are read: the reader makes room for a page and for a dictionary
//! as large as their headers say, whatever bytes there are.

use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read};
use std::path::Path;

use ::parquet::basic::Compression;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::schema::types::Type;
use bytes::Bytes;

use super::{HINT, Limits, Room, Row, Table, bad, columns, count, group_column, no_columns};
use crate::error::{Error, Result};
use crate::memory::Claim;
use crate::text::of_path;

/// Longest page, unpacked; a dictionary of it takes eight times as much. Writers make pages of 1 MiB.
const LONGEST_PAGE: u64 = 64 << 20;
/// Pages that are held together for each column: its dictionary and a page of values.
const HELD: u64 = 10;
/// How many times larger than its bytes a page is at most: Snappy copies 64 bytes for 3.
const LARGER: u64 = 24;
/// How many times longer than its file the text of its rows may be, from [`FREE`] bytes on: a row that is repeated takes no
/// bytes at all.
const REPEATED: u64 = 100;
const FREE: u64 = 16 << 20;
/// Longest header of a page.
const LONGEST_HEADER: u64 = 64 << 10;
/// Where a file is shorter, it has no page from here on.
const FOOTER: u64 = 8;

/// What is read.
const EXPECTED: &str = "a Parquet table of images, uncompressed or with Snappy";

/// A file whose pages are checked as they are come to.
struct Checked(File);

impl Length for Checked {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Checked {
    type T = Chain<Cursor<Vec<u8>>, BufReader<File>>;

    /// The reader asks for a place to read a page's header there, and for the last bytes of the file.
    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut source = self.0.get_read(start)?;
        let mut head = Vec::new();
        source.by_ref().take(LONGEST_HEADER).read_to_end(&mut head)?;
        if start.saturating_add(FOOTER) < self.len() {
            check(&head).map_err(|found| ParquetError::General(found.into()))?;
        }
        Ok(Cursor::new(head).chain(source))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        // Room is made for all of it before it is read.
        match start.saturating_add(length as u64) <= self.len() {
            true => self.0.get_bytes(start, length),
            false => Err(ParquetError::General("bytes that are behind the end".into())),
        }
    }
}

/// Fails for the header of a page that claims more than its bytes can hold.
fn check(head: &[u8]) -> std::result::Result<(), &'static str> {
    let page = Page::read(head).ok_or("a page without a header")?;
    let most = page.compressed.saturating_mul(LARGER).saturating_add(1 << 10);
    if page.size > LONGEST_PAGE || page.size > most {
        return Err("a page that is larger than its bytes can hold");
    }
    // Values of a dictionary are 4 bytes or more.
    match page.values.saturating_mul(4) > page.size {
        true => Err("a dictionary of more values than its page can hold"),
        false => Ok(()),
    }
}

/// What the header of a page claims.
#[derive(Debug, Default, PartialEq)]
struct Page {
    /// Bytes, unpacked, and as they are in the file.
    size: u64,
    compressed: u64,
    /// Values of a dictionary.
    values: u64,
}

impl Page {
    /// Reads a header (`PageHeader` of `parquet.thrift`, in Thrift's compact protocol) as programs write it: fields in the order of
    /// their numbers.
    fn read(head: &[u8]) -> Option<Page> {
        let mut page = Page::default();
        let mut walk = Walk(head);
        walk.fields(0, &mut |walk, field| match field {
            (2, I32) => walk.size().map(|n| page.size = n),
            (3, I32) => walk.size().map(|n| page.compressed = n),
            // dictionary_page_header, whose first field is num_values.
            (7, STRUCT) => {
                let values = &mut page.values;
                walk.fields(1, &mut |walk, field| match field {
                    (1, I32) => walk.size().map(|n| *values = n),
                    (_, kind) => walk.skip(kind, 2),
                })
            }
            (_, kind) => walk.skip(kind, 1),
        })?;
        Some(page)
    }
}

/// Types of the compact protocol.
const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;
/// Deepest nesting.
const DEPTH: usize = 8;

/// Reads or passes a field of this number and type.
type ReadField<'r, W> = &'r mut dyn FnMut(&mut W, (u32, u8)) -> Option<()>;

/// Bytes of the compact protocol that are still to be read.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A number that is not negative.
    fn size(&mut self) -> Option<u64> {
        let value = self.varint()?;
        (value % 2 == 0).then_some(value / 2)
    }

    /// The fields of a struct, each for `read` by number and type, in rising order, so that none comes twice.
    fn fields(&mut self, depth: usize, read: ReadField<'_, Self>) -> Option<()> {
        let mut number = 0;
        loop {
            let byte = self.byte()?;
            match (byte >> 4, byte & 15) {
                _ if byte == 0 => return Some(()),
                (0, _) => return None,
                (step, kind) => {
                    number += u32::from(step);
                    (depth < DEPTH).then_some(())?;
                    read(self, (number, kind))?;
                }
            }
        }
    }

    /// Passes over a field's value.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            // A flag is its own type.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    // In a list a flag is a byte.
                    let kind = if matches!(byte & 15, 1 | 2) { 3 } else { byte & 15 };
                    (depth < DEPTH).then_some(())?;
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            STRUCT => self.fields(depth, &mut |walk, (_, kind)| walk.skip(kind, depth + 1)),
            _ => None,
        }
    }
}

/// Rows of a Parquet file, of at most [`Limits::file_bytes`] as a CSV. A short file can claim any number of equal rows.
pub(super) fn rows(path: &Path, limits: &Limits, by: Option<&str>) -> Result<Table> {
    let (most, mut room) = (limits.file_bytes, Room::new(limits));
    let folder = path.parent().unwrap_or(Path::new(""));
    let failed = |e: ParquetError| Error::format(path, EXPECTED, e.to_string(), HINT);
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.len();
    if length > most {
        let expected = format!("at most {} MiB", most >> 20);
        return Err(Error::format(path, expected, format!("{} MiB", length >> 20), HINT));
    }
    let most = most.min(length.saturating_mul(REPEATED).max(FREE));
    let mut claim = Claim::default();
    // What the list of columns and groups at the end says takes several times its bytes.
    let pages = (length.saturating_mul(LARGER)).min(LONGEST_PAGE) * HELD;
    claim.grow(length.saturating_mul(8).saturating_add(pages)).map_err(|over| over.of(path))?;
    let reader = SerializedFileReader::new(Checked(file)).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields();
    let all: Vec<String> = fields.iter().map(|f| f.name().to_string()).collect();
    let columns = columns(&all).ok_or_else(|| no_columns(path, &all))?;
    let group = group_column(path, &all, by)?;
    // Only what is used is read.
    let mut used = columns.split.columns();
    used.extend([Some(columns.path), Some(columns.label), group].into_iter().flatten());
    used.sort_unstable();
    used.dedup();
    let wanted = used.iter().filter_map(|&i| fields.get(i).cloned()).collect();
    let wanted =
        Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(failed)?;
    if let Some(codec) = foreign(reader.metadata(), |name| used.iter().any(|&i| all[i] == name)) {
        let file = of_path(Path::new(path.file_name().unwrap_or_default()));
        let hint = format!(
            "in Python, with pandas, it is converted by read_parquet({file:?}).to_parquet({:?}, compression=\"snappy\")",
            format!("snappy-{file}")
        );
        return Err(Error::format(
            path,
            EXPECTED,
            format!("columns compressed with {codec}"),
            hint,
        ));
    }
    let rows = reader.get_row_iter(Some(wanted)).map_err(failed)?;
    let place = |i: usize| used.iter().position(|&u| u == i).unwrap_or(used.len());
    let (mut out, mut bytes) = (Table::default(), 0);
    for row in rows {
        let row = row.map_err(failed)?;
        let cells: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        let cell = |i: usize| text(cells.get(place(i)).copied().unwrap_or(&Field::Null));
        let wrong = |i: usize| bad(path, format!("a column {} that is not text", all[i]));
        let full = |i: usize| cell(i).ok_or_else(|| wrong(i));
        if let Some(odd) = columns.split.columns().into_iter().find(|&i| cell(i).is_none()) {
            return Err(wrong(odd));
        }
        let flag = |i: usize| cell(i).unwrap_or_default();
        let split = columns.split.of_row(&all, out.rows.len() + 1, &flag);
        let row = Row {
            path: full(columns.path)?,
            label: full(columns.label)?,
            split: split.map_err(|found| bad(path, found))?,
            group: group.map(full).transpose()?.filter(|text| !text.is_empty()),
        };
        let more = |cell: &Option<String>| cell.as_ref().map_or(0, String::len);
        bytes +=
            (row.path.len() + row.label.len() + more(&row.split) + more(&row.group) + 4) as u64;
        if bytes > most {
            let expected = format!("at most {} MiB of text", most >> 20);
            return Err(Error::format(
                path,
                expected,
                format!("more in {} rows", out.rows.len()),
                HINT,
            ));
        }
        count(path, &row, folder, &mut room)?;
        out.rows.push(row);
    }
    columns.split.settle(&all, &mut out);
    out.warnings.extend(columns.warnings(&all));
    out.other_paths = columns.other_paths(&all);
    Ok(out)
}

/// The name of a compression that is not read, if a column whose name is `used` has one.
fn foreign(table: &ParquetMetaData, used: impl Fn(&str) -> bool) -> Option<&'static str> {
    let chunks = table.row_groups().iter().flat_map(|group| group.columns());
    let own = chunks.filter(|chunk| chunk.column_path().parts().first().is_some_and(|n| used(n)));
    own.into_iter().find_map(|chunk| match chunk.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY => None,
        Compression::GZIP(_) => Some("gzip"),
        Compression::LZO => Some("LZO"),
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZ4 | Compression::LZ4_RAW => Some("LZ4"),
        Compression::ZSTD(_) => Some("zstd"),
    })
}

/// Text and whole numbers as text, nothing as empty; `None` for what is neither.
fn text(field: &Field) -> Option<String> {
    Some(match field {
        Field::Null => String::new(),
        Field::Bool(flag) => flag.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A header's bytes: type, size, compressed size, and values of a dictionary, as programs write them.
    fn header(kind: u64, size: u64, compressed: u64, values: Option<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut number = |tag: u8, value: u64| {
            bytes.push(tag);
            let mut rest = value * 2;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        };
        number(0x15, kind);
        number(0x15, size);
        number(0x15, compressed);
        if let Some(values) = values {
            number(0x4c, 0);
            number(0x15, values);
        }
        bytes
    }

    #[test]
    fn pages_may_not_claim_more_than_they_hold() {
        // The struct's tag has no number behind it.
        let dictionary = |size, compressed, values| {
            let mut bytes = header(2, size, compressed, Some(values));
            let at = bytes.iter().position(|&b| b == 0x4c).unwrap();
            bytes.remove(at + 1);
            [&bytes[..], &[0x15, 0, 0, 0]].concat()
        };
        assert_eq!(check(&dictionary(4000, 900, 1000)), Ok(()));
        assert!(check(&dictionary(4000, 900, 1001)).unwrap_err().contains("dictionary"));
        assert!(check(&dictionary(4000, 900, 1 << 31)).unwrap_err().contains("dictionary"));
        let data = |size, compressed| [&header(0, size, compressed, None)[..], &[0]].concat();
        assert_eq!(check(&data(1 << 20, 1 << 16)), Ok(()));
        assert!(check(&data(1 << 31, 100)).unwrap_err().contains("larger"));
        assert!(check(&data((64 << 20) + 1, 64 << 20)).unwrap_err().contains("larger"));
        // A field that comes again, cut short, negative, nested without end.
        let good = data(100, 100);
        let again = [&good[..good.len() - 1], &[0x05, 2, 2]].concat();
        let negative = [0x15, 0, 0x15, 1, 0x15, 2, 0];
        for bad in [&good[..good.len() - 1], &again, &negative, &[0x1c; 100]] {
            assert!(check(bad).unwrap_err().contains("header"), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_used_is_passed_over() {
        let head =
            [&header(0, 8, 8, None)[..], &[0x29, 0x38, 1, 7, 1, 8, 1, 9, 0x18, 2, 1, 2, 0x11, 0]];
        let page = Page { size: 8, compressed: 8, values: 0 };
        assert_eq!(Page::read(&head.concat()), Some(page));
    }
}
