//! A TIFF directory: the list of tags that TIFF files and EXIF blocks begin with (TIFF 6.0, section 2, and
//! BigTIFF).

use std::io::{self, Read, Seek, SeekFrom};

/// Entries that are read of a directory; the sane ones have a few dozen.
const MAX_ENTRIES: u64 = 4096;

/// Numbers and tags of one directory.
pub(super) struct Directory {
    little: bool,
    /// BigTIFF: offsets of 8 bytes.
    big: bool,
    entries: Vec<Entry>,
}

/// A tag with its type, how many values it has, and these or where they are.
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    value: [u8; 8],
}

/// Bytes of a value of a type, 0 for unknown ones.
fn width(kind: u16) -> u64 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}

impl Directory {
    /// Whether a file that begins so has directories.
    pub fn begins(head: &[u8]) -> bool {
        matches!(head, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..])
    }

    /// Reads the first directory of a file or block, `None` if it does not begin as one. A directory that is cut short
    /// has the entries up to there.
    pub fn read(source: &mut (impl Read + Seek)) -> io::Result<Option<Directory>> {
        source.seek(SeekFrom::Start(0))?;
        let mut head = [0; 8];
        source.read_exact(&mut head)?;
        if !Directory::begins(&head) {
            return Ok(None);
        }
        let little = head[0] == b'I';
        let big = head[2] == 43 || head[3] == 43;
        let mut new = Directory { little, big, entries: Vec::new() };
        let first = match big {
            true => {
                let mut offset = [0; 8];
                source.read_exact(&mut offset)?;
                new.number(&offset)
            }
            false => new.number(&head[4..]),
        };
        source.seek(SeekFrom::Start(first))?;
        let mut count = [0; 8];
        let count = &mut count[..if big { 8 } else { 2 }];
        source.read_exact(count)?;
        for _ in 0..new.number(count).min(MAX_ENTRIES) {
            match new.entry(source) {
                Ok(entry) => new.entries.push(entry),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e),
            }
        }
        Ok(Some(new))
    }

    fn entry(&self, source: &mut impl Read) -> io::Result<Entry> {
        let mut bytes = [0; 20];
        let bytes = &mut bytes[..if self.big { 20 } else { 12 }];
        source.read_exact(bytes)?;
        let (count, inline) = bytes[4..].split_at(if self.big { 8 } else { 4 });
        let mut value = [0; 8];
        value[..inline.len()].copy_from_slice(inline);
        let short = |at: usize| self.number(&bytes[at..at + 2]) as u16;
        Ok(Entry { tag: short(0), kind: short(2), count: self.number(count), value })
    }

    /// The number in up to 8 bytes, in the file's order.
    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |n: u64, &byte: &u8| n << 8 | u64::from(byte);
        match self.little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        }
    }

    /// Whether there is this tag.
    pub fn has(&self, tag: u16) -> bool {
        self.entries.iter().any(|entry| entry.tag == tag)
    }

    /// The bytes of a tag's values, of which there may be `most`, and its type.
    fn raw(
        &self,
        source: &mut (impl Read + Seek),
        tag: u16,
        most: u64,
    ) -> io::Result<Option<(Vec<u8>, u16)>> {
        // Of entries of one tag the first with values counts.
        let found = self.entries.iter().filter(|entry| entry.tag == tag);
        for entry in found {
            let Some(size) = entry.count.checked_mul(width(entry.kind)).filter(|&size| size > 0)
            else {
                continue;
            };
            if size > most {
                return Err(io::Error::other("a tag with too many values"));
            }
            let inline = if self.big { 8 } else { 4 };
            if size <= inline {
                return Ok(Some((entry.value[..size as usize].to_vec(), entry.kind)));
            }
            source.seek(SeekFrom::Start(self.number(&entry.value[..inline as usize])))?;
            let mut bytes = Vec::new();
            if source.take(size).read_to_end(&mut bytes)? as u64 == size {
                return Ok(Some((bytes, entry.kind)));
            }
        }
        Ok(None)
    }

    /// The bytes of a tag's values, at most `most`; `None` without the tag.
    pub fn bytes(
        &self,
        source: &mut (impl Read + Seek),
        tag: u16,
        most: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        Ok(self.raw(source, tag, most)?.map(|(bytes, _)| bytes))
    }

    /// The values of a tag of whole numbers, of which there may be `most` bytes; `None` without the tag or where it has
    /// another type. Negative numbers become very large ones.
    pub fn integers(
        &self,
        source: &mut (impl Read + Seek),
        tag: u16,
        most: u64,
    ) -> io::Result<Option<Vec<u64>>> {
        Ok(self.raw(source, tag, most)?.and_then(|(bytes, kind)| {
            let values = bytes.chunks_exact((width(kind) as usize).max(1));
            match kind {
                1 | 3 | 4 | 13 | 16 | 18 => Some(values.map(|v| self.number(v)).collect()),
                // Sign bits fill the number.
                6 | 8 | 9 | 17 => {
                    let shift = 64 - 8 * width(kind);
                    let signed = |v| (((self.number(v) << shift) as i64) >> shift) as u64;
                    Some(values.map(signed).collect())
                }
                _ => None,
            }
        }))
    }

    /// The first of a tag's whole numbers.
    pub fn integer(&self, source: &mut (impl Read + Seek), tag: u16) -> io::Result<Option<u64>> {
        Ok(self.integers(source, tag, 64 << 10)?.and_then(|values| values.first().copied()))
    }
}
