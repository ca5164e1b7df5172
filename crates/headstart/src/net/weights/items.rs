//! Pickles in which objects of Python's own are filled with items, as a `defaultdict`, a `deque` or a subclass of a dictionary are.
//! The reader of PyTorch's files takes an object for nothing that can be filled. In a copy of the pickle such objects are
//! plain dictionaries and lists.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use pytorch_reader::OpCode;
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::pickle::{LONGEST, MOST_STEPS, PICKLES};
use super::zip64::Readable;
use crate::error::{Error, Result};
use crate::memory::Claim;

/// A value of a pickle, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// An object that the instruction at this position makes of so many values.
    Object {
        at: usize,
        of: usize,
    },
    /// The text or the class `OrderedDict`, which the reader knows.
    Ordered,
    Other,
}

/// The file, or where its pickles fill objects with items, a copy in which these are dictionaries and lists.
///
/// # Errors
/// If `path`, which is read there, cannot be read or copied, or its pickles are more than the memory for reading.
pub(super) fn plain(path: &Path, readable: Readable) -> Result<Readable> {
    // The pickle, and the copy of it.
    let mut claim = Claim::default();
    claim.grow(2 * pickled(&readable).min(LONGEST)).map_err(|over| over.of(path))?;
    copied(readable).map_err(Error::io("copy", path))
}

/// Bytes of a file's longest pickle, or of all of a file that is no archive.
fn pickled(readable: &Readable) -> u64 {
    let length = std::fs::metadata(readable.path()).map_or(0, |meta| meta.len());
    let archive = File::open(readable.path())
        .ok()
        .and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    let Some(mut archive) = archive else { return length };
    let sizes = (0..archive.len()).filter_map(|index| {
        let entry = archive.by_index_raw(index).ok()?;
        entry.name_raw().ends_with(b"data.pkl").then(|| entry.size())
    });
    sizes.max().unwrap_or(0)
}

fn copied(readable: Readable) -> io::Result<Readable> {
    let mut file = BufReader::new(File::open(readable.path())?);
    let mut start = [0; 2];
    let is_archive = file.read_exact(&mut start).is_ok() && &start == b"PK";
    file.seek(SeekFrom::Start(0))?;
    let copy = match is_archive {
        true => archive(file)?,
        false => pickles(file)?,
    };
    Ok(copy.map_or(readable, Readable::Copy))
}

fn archive(file: BufReader<File>) -> io::Result<Option<NamedTempFile>> {
    let Ok(mut archive) = ZipArchive::new(file) else { return Ok(None) };
    let mut texts = BTreeMap::new();
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index(index) else { return Ok(None) };
        if entry.name_raw().ends_with(b"data.pkl") {
            let mut bytes = Vec::new();
            io::copy(&mut entry.take(LONGEST), &mut bytes)?;
            if let Some((text, _)) = cleaned(&bytes).filter(|(text, _)| *text != bytes) {
                texts.insert(index, text);
            }
        }
    }
    if texts.is_empty() {
        return Ok(None);
    }
    let mut copy = ZipWriter::new(NamedTempFile::new()?);
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        match texts.get(&index) {
            None => copy.raw_copy_file(entry)?,
            Some(text) => {
                let options =
                    SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
                let name = entry.name().map_err(io::Error::other)?.into_owned();
                copy.start_file(name, options)?;
                copy.write_all(text)?;
            }
        }
    }
    Ok(Some(copy.finish()?))
}

/// A file of pickles, after which come the tensors' bytes.
fn pickles(mut file: BufReader<File>) -> io::Result<Option<NamedTempFile>> {
    let mut bytes = Vec::new();
    io::copy(&mut (&mut file).take(LONGEST), &mut bytes)?;
    let (mut text, mut at) = (Vec::new(), 0);
    for _ in 0..PICKLES {
        let Some((one, length)) = cleaned(&bytes[at..]) else { break };
        text.extend(one);
        at += length;
    }
    if text == bytes[..at] {
        return Ok(None);
    }
    let mut copy = NamedTempFile::new()?;
    copy.write_all(&text)?;
    file.seek(SeekFrom::Start(at as u64))?;
    io::copy(&mut file, &mut copy)?;
    copy.flush()?;
    Ok(Some(copy))
}

/// The pickle at the start of `bytes`, with dictionaries and lists for objects that are filled, and its length before; `None`
/// where there is none that ends.
fn cleaned(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut machine = Machine::default();
    let mut at = 0;
    for _ in 0..MOST_STEPS {
        let op = OpCode::try_from(*bytes.get(at)?).ok()?;
        let end = end_of(op, bytes, at + 1)?;
        machine.step(op, at, &bytes[at + 1..end])?;
        at = end;
        if matches!(op, OpCode::Stop) {
            let (mut text, mut from) = (Vec::new(), 0);
            for (place, (of, empty)) in machine.filled {
                text.extend_from_slice(&bytes[from..place]);
                text.extend(std::iter::repeat_n(b'0', of));
                text.push(empty);
                from = place + 1;
            }
            text.extend_from_slice(&bytes[from..at]);
            return Some((text, at));
        }
    }
    None
}

/// Where the operand of an instruction ends that begins at `at`.
fn end_of(op: OpCode, bytes: &[u8], at: usize) -> Option<usize> {
    let number = |size: usize| {
        let mut all = [0; 8];
        all[..size].copy_from_slice(bytes.get(at..at + size)?);
        usize::try_from(u64::from_le_bytes(all)).ok()
    };
    let line = |from: usize| {
        let rest = bytes.get(from..)?;
        Some(from + rest.iter().position(|&b| b == b'\n')? + 1)
    };
    let counted = |size: usize| at.checked_add(size)?.checked_add(number(size)?);
    let end = match op {
        OpCode::Int | OpCode::Long | OpCode::Float | OpCode::Unicode => line(at)?,
        OpCode::Get | OpCode::Put | OpCode::PersId => line(at)?,
        OpCode::Global => line(line(at)?)?,
        OpCode::Proto | OpCode::BinInt1 | OpCode::BinGet | OpCode::BinPut | OpCode::Ext1 => at + 1,
        OpCode::BinInt2 | OpCode::Ext2 => at + 2,
        OpCode::BinInt | OpCode::LongBinGet | OpCode::LongBinPut | OpCode::Ext4 => at + 4,
        OpCode::BinFloat | OpCode::Frame => at + 8,
        OpCode::ShortBinString
        | OpCode::ShortBinBytes
        | OpCode::ShortBinUnicode
        | OpCode::Long1 => counted(1)?,
        OpCode::BinString | OpCode::BinUnicode | OpCode::BinBytes | OpCode::Long4 => counted(4)?,
        OpCode::BinUnicode8 | OpCode::BinBytes8 | OpCode::ByteArray8 => counted(8)?,
        _ => at,
    };
    (end <= bytes.len()).then_some(end)
}

/// What a pickle's instructions work on.
#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    /// Where objects are made that are filled: of how many values, and the instruction that makes an empty one instead.
    filled: BTreeMap<usize, (usize, u8)>,
}

impl Machine {
    fn push(&mut self, value: Value) -> Option<()> {
        self.stack.push(value);
        Some(())
    }

    fn pop(&mut self, count: usize) -> Option<()> {
        let left = self.stack.len().checked_sub(count)?;
        self.stack.truncate(left);
        Some(())
    }

    fn pop_to_mark(&mut self) -> Option<()> {
        let mark = self.marks.pop()?;
        self.stack.truncate(mark);
        Some(())
    }

    /// The value on top gets items.
    fn fill(&mut self, empty: u8) -> Option<()> {
        if let Value::Object { at, of } = *self.stack.last()? {
            self.filled.entry(at).or_insert((of, empty));
        }
        Some(())
    }

    /// Calls a class with arguments, or makes its object.
    fn call(&mut self, at: usize, of: usize) -> Option<()> {
        let class = *self.stack.get(self.stack.len().checked_sub(of)?)?;
        self.pop(of)?;
        self.push(match class {
            Value::Ordered => Value::Other,
            _ => Value::Object { at, of },
        })
    }

    /// Does one instruction, as far as it moves values; `None` where it cannot be done.
    fn step(&mut self, op: OpCode, at: usize, operand: &[u8]) -> Option<()> {
        let index = || operand.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let written = || std::str::from_utf8(operand).ok()?.trim().parse::<u64>().ok();
        match op {
            OpCode::Proto | OpCode::Frame | OpCode::Stop | OpCode::ReadonlyBuffer => Some(()),
            OpCode::Mark => {
                self.marks.push(self.stack.len());
                Some(())
            }
            OpCode::Pop if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop().map(drop)
            }
            OpCode::Pop => self.pop(1),
            OpCode::PopMark => self.pop_to_mark(),
            OpCode::Dup => self.push(*self.stack.last()?),
            OpCode::Tuple | OpCode::List | OpCode::Dict | OpCode::FrozenSet => {
                self.pop_to_mark()?;
                self.push(Value::Other)
            }
            OpCode::Tuple1 | OpCode::BinPersId => {
                self.pop(1)?;
                self.push(Value::Other)
            }
            OpCode::Tuple2 => {
                self.pop(2)?;
                self.push(Value::Other)
            }
            OpCode::Tuple3 => {
                self.pop(3)?;
                self.push(Value::Other)
            }
            OpCode::Append => {
                self.pop(1)?;
                self.fill(b']')
            }
            OpCode::Appends | OpCode::AddItems => {
                self.pop_to_mark()?;
                self.fill(b']')
            }
            OpCode::SetItem => {
                self.pop(2)?;
                self.fill(b'}')
            }
            OpCode::SetItems => {
                self.pop_to_mark()?;
                self.fill(b'}')
            }
            OpCode::Build => self.pop(1),
            OpCode::Reduce | OpCode::NewObj => self.call(at, 2),
            OpCode::NewObjEx => self.call(at, 3),
            OpCode::Global => self.push(match operand == b"collections\nOrderedDict\n" {
                true => Value::Ordered,
                false => Value::Other,
            }),
            OpCode::StackGlobal => {
                let name = *self.stack.last()?;
                self.pop(2)?;
                self.push(name)
            }
            OpCode::Get => self.push(*self.memo.get(&written()?)?),
            OpCode::BinGet | OpCode::LongBinGet => self.push(*self.memo.get(&index())?),
            OpCode::Put => self.remember(written()?),
            OpCode::BinPut | OpCode::LongBinPut => self.remember(index()),
            OpCode::Memoize => self.remember(self.memo.len() as u64),
            OpCode::ShortBinUnicode if operand.get(1..) == Some(b"OrderedDict") => {
                self.push(Value::Ordered)
            }
            _ => self.push(Value::Other),
        }
    }

    fn remember(&mut self, index: u64) -> Option<()> {
        self.memo.insert(index, *self.stack.last()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::cleaned;

    #[test]
    fn objects_that_get_items_are_dictionaries_and_lists() {
        // pickle.dumps(defaultdict(list, {"a": 1}), 2)
        let dict = b"\x80\x02ccollections\ndefaultdict\nq\0c__builtin__\nlist\nq\x01\x85q\x02Rq\x03X\x01\0\0\0aq\x04K\x01s.";
        let (text, length) = cleaned(dict).unwrap();
        assert_eq!(length, dict.len());
        let wanted = b"\x80\x02ccollections\ndefaultdict\nq\0c__builtin__\nlist\nq\x01\x85q\x0200}q\x03X\x01\0\0\0aq\x04K\x01s.";
        assert_eq!(text, wanted);
        // pickle.dumps(deque([1, 2]), 2)
        let list = b"\x80\x02ccollections\ndeque\nq\0)Rq\x01(K\x01K\x02e.rest";
        let (text, length) = cleaned(list).unwrap();
        assert_eq!(length, list.len() - 4);
        assert_eq!(text, b"\x80\x02ccollections\ndeque\nq\0)00]q\x01(K\x01K\x02e.");
        // What the reader knows stays, and so do objects that get nothing.
        for same in [
            &b"\x80\x02ccollections\nOrderedDict\nq\0)Rq\x01X\x01\0\0\0aK\x01s."[..],
            b"\x80\x02cdatetime\ndate\nq\0U\x04\x07\xea\x01\x01\x85q\x01Rq\x02.",
            b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94\x8c\x01aK\x01s.",
        ] {
            assert_eq!(cleaned(same).unwrap().0, same);
        }
        for bad in [&b"\x80\x02(K\x01"[..], b"R.", b"\x80\x02h\x05.", b"X\xff\xff\xff\x7fa.", b""] {
            assert!(cleaned(bad).is_none(), "{bad:?}");
        }
    }
}
