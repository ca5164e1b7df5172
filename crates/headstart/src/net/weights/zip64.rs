//! PyTorch's archives that the reader of zip files takes for damaged.
//!
//! PyTorch ends every archive with the records of ZIP64, which say nothing that the plain record does not where an archive is
//! small. The `zip` crate refuses some of these archives by them, depending on the lengths of the names inside. Without the
//! records they are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zip::ZipArchive;

use crate::error::{Error, Result};

/// The plain record at an archive's end, without a comment; the records of ZIP64 before it.
const END: &[u8] = b"PK\x05\x06";
const END_BYTES: u64 = 22;
const RECORD: &[u8] = b"PK\x06\x06";
const RECORD_BYTES: u64 = 56;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;

/// A file that is read in place of another, gone when this is.
#[derive(Debug)]
pub(super) enum Readable {
    Itself(PathBuf),
    Copy(NamedTempFile),
}

impl Readable {
    pub fn path(&self) -> &Path {
        match self {
            Readable::Itself(path) => path,
            Readable::Copy(file) => file.path(),
        }
    }
}

/// The file itself, or where only the records of ZIP64 keep it from being read, a copy without them.
///
/// # Errors
/// If it cannot be read, or the copy not written.
pub(super) fn readable(path: &Path) -> Result<Readable> {
    let itself = || Ok(Readable::Itself(path.to_path_buf()));
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let Some((length, end)) = plain_end(&mut file).map_err(Error::io("read", path))? else {
        return itself();
    };
    if ZipArchive::new(io::BufReader::new(&file)).is_ok() {
        return itself();
    }
    let copied = || -> io::Result<NamedTempFile> {
        let mut copy = NamedTempFile::new()?;
        file.seek(SeekFrom::Start(0))?;
        io::copy(&mut file.take(length), &mut copy)?;
        copy.write_all(&end)?;
        copy.flush()?;
        Ok(copy)
    };
    let copy = copied().map_err(Error::io("copy", path))?;
    let opens = File::open(copy.path()).is_ok_and(|file| ZipArchive::new(file).is_ok());
    if opens { Ok(Readable::Copy(copy)) } else { itself() }
}

/// Where the records of ZIP64 begin, and the plain record after them, in an archive that does not need them.
fn plain_end(file: &mut File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let length = file.metadata()?.len();
    let Some(start) = length.checked_sub(END_BYTES + LOCATOR_BYTES + RECORD_BYTES) else {
        return Ok(None);
    };
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut tail)?;
    let (record, rest) = tail.split_at(RECORD_BYTES as usize);
    let (locator, end) = rest.split_at(LOCATOR_BYTES as usize);
    let whole = record.starts_with(RECORD) && locator.starts_with(LOCATOR) && end.starts_with(END);
    // Numbers of entries, size and place of their list: none may be the sign that ZIP64 has it.
    let plain = end.get(8..20).is_some_and(|numbers| {
        numbers[..2] != [0xff; 2] && numbers[4..8] != [0xff; 4] && numbers[8..] != [0xff; 4]
    });
    Ok((whole && plain).then(|| (start, end.to_vec())))
}
