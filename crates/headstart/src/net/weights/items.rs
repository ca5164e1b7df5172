//! Pickles in which objects of Python's own are filled with items, as a `defaultdict`, a `deque` or a subclass of a dictionary are,
//! or dictionaries have keys that are neither text nor numbers, such as tuples. The reader of PyTorch's files takes an object for
//! nothing that can be filled, and refuses such keys. In a copy of the pickle the objects are plain dictionaries and lists, and
//! the keys are text.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
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

/// A value on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    value: Value,
    /// Whether the reader takes it for a key.
    is_key: bool,
    /// Where the instructions end that made it.
    end: usize,
}

/// Most keys of a pickle that are made text.
const MOST_KEYS: usize = 100_000;

/// The file, or where its pickles have what the reader does not know, a copy in which that is plain.
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

/// The pickle at the start of `bytes`, with dictionaries and lists for objects that are filled and text for keys, and its length
/// before; `None` where there is none that ends.
fn cleaned(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut machine = Machine::default();
    let mut at = 0;
    for _ in 0..MOST_STEPS {
        let op = OpCode::try_from(*bytes.get(at)?).ok()?;
        let end = end_of(op, bytes, at + 1)?;
        machine.step(op, at..end, &bytes[at + 1..end])?;
        at = end;
        if matches!(op, OpCode::Stop) {
            return Some((machine.written(&bytes[..at]), at));
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
    stack: Vec<Entry>,
    marks: Vec<usize>,
    memo: HashMap<u64, Entry>,
    /// Where the instruction ends that is done.
    end: usize,
    /// Where objects are made that are filled: of how many values, and the instruction that makes an empty one instead.
    filled: BTreeMap<usize, (usize, u8)>,
    /// Where keys end that have to be text.
    keys: BTreeSet<usize>,
}

impl Machine {
    /// The pickle with what was found exchanged.
    fn written(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut text, mut from) = (Vec::new(), 0);
        let places: BTreeSet<usize> = self.filled.keys().chain(&self.keys).copied().collect();
        for place in places {
            text.extend_from_slice(&bytes[from..place]);
            from = place;
            if self.keys.contains(&place) {
                // The key goes, and a text of its own comes.
                let key = format!("key at {place}");
                text.extend_from_slice(b"0X");
                text.extend_from_slice(&(key.len() as u32).to_le_bytes());
                text.extend_from_slice(key.as_bytes());
            }
            if let Some(&(of, empty)) = self.filled.get(&place) {
                text.extend(std::iter::repeat_n(b'0', of));
                text.push(empty);
                from = place + 1;
            }
        }
        text.extend_from_slice(&bytes[from..]);
        text
    }

    fn push(&mut self, value: Value) -> Option<()> {
        self.enter(Entry { value, is_key: false, end: self.end })
    }

    fn enter(&mut self, entry: Entry) -> Option<()> {
        self.stack.push(Entry { end: self.end, ..entry });
        Some(())
    }

    /// Those of `items`, keys and values in turn, that have to be text.
    fn look_at_keys(&mut self, items: usize) -> Option<()> {
        let first = self.stack.len().checked_sub(items)?;
        let odd = self.stack[first..].iter().step_by(2).filter(|key| !key.is_key);
        self.keys.extend(odd.map(|key| key.end));
        (self.keys.len() <= MOST_KEYS).then_some(())
    }

    /// How many values lie above the last mark.
    fn marked(&self) -> Option<usize> {
        self.stack.len().checked_sub(*self.marks.last()?)
    }

    /// The value on top is not complete before this instruction.
    fn goes_on(&mut self) -> Option<()> {
        self.stack.last_mut()?.end = self.end;
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
        if let Value::Object { at, of } = self.stack.last()?.value {
            self.filled.entry(at).or_insert((of, empty));
        }
        self.goes_on()
    }

    /// Calls a class with arguments, or makes its object.
    fn call(&mut self, at: usize, of: usize) -> Option<()> {
        let class = self.stack.get(self.stack.len().checked_sub(of)?)?.value;
        self.pop(of)?;
        self.push(match class {
            Value::Ordered => Value::Other,
            _ => Value::Object { at, of },
        })
    }

    /// Does one instruction, as far as it moves values; `None` where it cannot be done.
    fn step(&mut self, op: OpCode, place: Range<usize>, operand: &[u8]) -> Option<()> {
        let at = place.start;
        self.end = place.end;
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
            OpCode::Dup => self.enter(*self.stack.last()?),
            OpCode::Tuple | OpCode::List | OpCode::FrozenSet => {
                self.pop_to_mark()?;
                self.push(Value::Other)
            }
            OpCode::Dict => {
                self.look_at_keys(self.marked()?)?;
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
                self.look_at_keys(2)?;
                self.pop(2)?;
                self.fill(b'}')
            }
            OpCode::SetItems => {
                self.look_at_keys(self.marked()?)?;
                self.pop_to_mark()?;
                self.fill(b'}')
            }
            OpCode::Build => {
                self.pop(1)?;
                self.goes_on()
            }
            OpCode::Reduce | OpCode::NewObj => self.call(at, 2),
            OpCode::NewObjEx => self.call(at, 3),
            OpCode::Global => self.push(match operand == b"collections\nOrderedDict\n" {
                true => Value::Ordered,
                false => Value::Other,
            }),
            OpCode::StackGlobal => {
                let name = self.stack.last()?.value;
                self.pop(2)?;
                self.push(name)
            }
            OpCode::Get => self.enter(*self.memo.get(&written()?)?),
            OpCode::BinGet | OpCode::LongBinGet => self.enter(*self.memo.get(&index())?),
            OpCode::Put => self.remember(written()?),
            OpCode::BinPut | OpCode::LongBinPut => self.remember(index()),
            OpCode::Memoize => self.remember(self.memo.len() as u64),
            OpCode::ShortBinUnicode if operand.get(1..) == Some(b"OrderedDict") => {
                self.enter(Entry { value: Value::Ordered, is_key: true, end: place.end })
            }
            _ => {
                let is_key = is_key(op, operand);
                self.enter(Entry { value: Value::Other, is_key, end: place.end })
            }
        }
    }

    fn remember(&mut self, index: u64) -> Option<()> {
        self.memo.insert(index, *self.stack.last()?);
        self.goes_on()
    }
}

/// Whether an instruction makes what the reader takes for a key: text, or a number of 64 bits.
fn is_key(op: OpCode, operand: &[u8]) -> bool {
    match op {
        OpCode::ShortBinUnicode | OpCode::BinUnicode | OpCode::BinUnicode8 | OpCode::Unicode => {
            true
        }
        OpCode::ShortBinString | OpCode::BinString => true,
        OpCode::BinInt | OpCode::BinInt1 | OpCode::BinInt2 => true,
        // These two are `True` and `False`.
        OpCode::Int => operand != b"01\n" && operand != b"00\n",
        OpCode::Long => operand.len() <= 20,
        OpCode::Long1 => operand.len() <= 1 + 8,
        OpCode::Long4 => operand.len() <= 4 + 8,
        _ => false,
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
        // pickle.dumps({(1, 2): "a", "b": 3}, 2), and with the tuple again as a value and a key.
        let tuple = b"\x80\x02}q\0(K\x01K\x02\x86q\x01X\x01\0\0\0aX\x01\0\0\0bK\x03u.";
        let wanted =
            b"\x80\x02}q\0(K\x01K\x02\x86q\x010X\x09\0\0\0key at 13X\x01\0\0\0aX\x01\0\0\0bK\x03u.";
        assert_eq!(cleaned(tuple).unwrap().0, wanted);
        let again = b"\x80\x02}(K\x01\x85q\x01K\x05X\x01\0\0\0bh\x01h\x01K\x06u.";
        let wanted = b"\x80\x02}(K\x01\x85q\x010X\x08\0\0\0key at 9K\x05X\x01\0\0\0bh\x01h\x010X\x09\0\0\0key at 21K\x06u.";
        assert_eq!(cleaned(again).unwrap().0, wanted);
        // None, True of either protocol, a number with a point, bytes; an object with a state; one in a dictionary of protocol 0.
        for (odd, end) in [
            (&b"}NK\x01s."[..], 2),
            (b"}\x88K\x01s.", 2),
            (b"}I01\nK\x01s.", 5),
            (b"}G\0\0\0\0\0\0\0\0K\x01s.", 10),
            (b"}C\x01aK\x01s.", 4),
            (b"}cm\nC\n)\x81}bK\x01s.", 10),
            (b"(NK\x01d.", 2),
        ] {
            let key = format!("key at {end}");
            let mut wanted = odd[..end].to_vec();
            wanted.extend_from_slice(b"0X");
            wanted.extend_from_slice(&(key.len() as u32).to_le_bytes());
            wanted.extend_from_slice(key.as_bytes());
            wanted.extend_from_slice(&odd[end..]);
            assert_eq!(cleaned(odd).unwrap().0, wanted, "{odd:?}");
        }
        // Numbers and text are keys as they are.
        for same in
            [&b"}K\x01Ns."[..], b"}I10\nNs.", b"}L10L\nNs.", b"}\x8a\x01\x07Ns.", b"}U\x01aNs."]
        {
            assert_eq!(cleaned(same).unwrap().0, same);
        }
        for bad in [&b"\x80\x02(K\x01"[..], b"R.", b"\x80\x02h\x05.", b"X\xff\xff\xff\x7fa.", b""] {
            assert!(cleaned(bad).is_none(), "{bad:?}");
        }
    }
}
