//! What a PyTorch file would make its reader do, counted before it is read: its pickles are walked from end to end and no
//! value of them is kept. The reader makes a value of up to 170 bytes for a byte of a pickle, and a copy of it for each
//! name it remembers; a pickle inside an archive may be deflated a thousandfold.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use pytorch_reader::{OpCode, PickleValue};
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Error, Result};

/// Most instructions of all pickles of a file. A ResNet-152 with its optimizer's state has about 60,000.
pub(super) const MOST_STEPS: usize = 1_000_000;
/// Longest pickle inside an archive.
pub(super) const LONGEST: u64 = 64 << 20;
/// Most tensors that are read, and most bytes of the names of all.
pub(super) const MOST_TENSORS: usize = 10_000;
const MOST_NAMES: usize = 16 << 20;
/// Most bytes of a storage that an archive holds compressed: to read a part of it, all before it is inflated.
const MOST_INFLATED: u64 = 64 << 20;
/// Pickles of a file that is no archive: magic number, protocol, system, weights, keys of storages.
pub(super) const PICKLES: usize = 5;

/// The error for the file at `path`, read at `place`, that cannot be read for what it says: an archive has its list of contents at its end, so that one
/// that is cut short has none.
pub(super) fn damaged(path: &Path, place: &Path, why: &dyn std::fmt::Display) -> Error {
    let file = || File::open(place).ok();
    let archive = file().is_some_and(|mut file| {
        let mut start = [0; 2];
        file.read_exact(&mut start).is_ok() && &start == b"PK"
    });
    if archive && file().is_some_and(|file| ZipArchive::new(BufReader::new(file)).is_err()) {
        let bytes = file().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        let found = format!("{bytes} bytes of one, without its end ({why})");
        let hint = "it is cut short or damaged: fetch it or copy it again, and compare its size with the original's";
        return Error::format(
            path,
            "a whole archive of weights, as PyTorch and Keras write them",
            found,
            hint,
        );
    }
    let hint = "if it is cut short, fetch it or copy it again; else save the weights alone: torch.save(net.state_dict(), path)";
    Error::format(path, "a whole PyTorch file of weights", why.to_string(), hint)
}

const HINT: &str = "save the weights alone: torch.save(net.state_dict(), path)";

/// The number of instructions in a file's pickles; fails where they are more than any net's weights need, and on a file of a
/// kind that is not read.
pub(super) fn check(path: &Path) -> Result<usize> {
    let io = |e: io::Error| Error::io("read", path)(e);
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut steps = 0;
    if !file.fill_buf().map_err(io)?.starts_with(b"PK") {
        if file.fill_buf().map_err(io)?.get(257..262) == Some(b"ustar") {
            let found = "an archive of PyTorch before 0.1.10";
            return Err(Error::format(path, "weights that a later PyTorch saved", found, HINT));
        }
        for _ in 0..PICKLES {
            if !walk(&mut file, &mut steps).map_err(io)? {
                break;
            }
        }
        return few(path, steps).map(|()| steps);
    }
    let damaged = |e: &dyn std::fmt::Display| damaged(path, path, e);
    let mut archive = ZipArchive::new(file).map_err(|e| damaged(&e))?;
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index(index) else { continue };
        let too_long = |name: &str, most: u64| {
            let expected = format!("at most {} MiB in {name}", most >> 20);
            Err(Error::format(path, expected, "more", "the archive is made to swell"))
        };
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if name.ends_with("data.pkl") {
            let mut capped = BufReader::new(entry.take(LONGEST + 1));
            walk(&mut capped, &mut steps).map_err(|e| damaged(&e))?;
            few(path, steps)?;
            if capped.buffer().is_empty() && capped.get_ref().limit() == 0 {
                return too_long(&name, LONGEST);
            }
        } else if entry.compression() != CompressionMethod::Stored && entry.size() > MOST_INFLATED {
            return too_long(&name, MOST_INFLATED);
        }
    }
    Ok(steps)
}

fn few(path: &Path, steps: usize) -> Result<()> {
    match steps {
        0..=MOST_STEPS => Ok(()),
        _ => {
            let expected = format!("pickles of at most {MOST_STEPS} instructions");
            Err(Error::format(path, expected, "more", HINT))
        }
    }
}

/// Counts the instructions of one pickle into `steps`, to its end or up to one too many. `false` where it does not end as
/// a pickle does; what is wrong with it is for its reader to say.
fn walk(source: &mut impl BufRead, steps: &mut usize) -> io::Result<bool> {
    while *steps <= MOST_STEPS {
        let Some(byte) = number::<1>(source)? else { return Ok(false) };
        let Ok(op) = OpCode::try_from(byte as u8) else { return Ok(false) };
        *steps += 1;
        let follows = match op {
            OpCode::Stop => return Ok(true),
            OpCode::Int | OpCode::Long | OpCode::Float | OpCode::Unicode => Follows::Lines(1),
            OpCode::Get | OpCode::Put | OpCode::PersId => Follows::Lines(1),
            OpCode::Global => Follows::Lines(2),
            OpCode::Proto | OpCode::BinInt1 | OpCode::BinGet | OpCode::BinPut | OpCode::Ext1 => {
                Follows::Bytes(1)
            }
            OpCode::BinInt2 | OpCode::Ext2 => Follows::Bytes(2),
            OpCode::BinInt | OpCode::LongBinGet | OpCode::LongBinPut | OpCode::Ext4 => {
                Follows::Bytes(4)
            }
            OpCode::BinFloat | OpCode::Frame => Follows::Bytes(8),
            OpCode::ShortBinString
            | OpCode::ShortBinBytes
            | OpCode::ShortBinUnicode
            | OpCode::Long1 => Follows::Counted(number::<1>(source)?),
            OpCode::BinString | OpCode::BinUnicode | OpCode::BinBytes | OpCode::Long4 => {
                Follows::Counted(number::<4>(source)?)
            }
            OpCode::BinUnicode8 | OpCode::BinBytes8 | OpCode::ByteArray8 => {
                Follows::Counted(number::<8>(source)?)
            }
            _ => Follows::Bytes(0),
        };
        let whole = match follows {
            Follows::Bytes(count) | Follows::Counted(Some(count)) => {
                io::copy(&mut source.by_ref().take(count), &mut io::sink())? == count
            }
            Follows::Counted(None) => false,
            Follows::Lines(count) => {
                let mut whole = true;
                for _ in 0..count {
                    whole &= source.skip_until(b'\n')? > 0;
                }
                whole
            }
        };
        if !whole {
            return Ok(false);
        }
    }
    Ok(false)
}

/// What comes after an instruction.
enum Follows {
    Bytes(u64),
    /// As many bytes as a number before them says, if it is there.
    Counted(Option<u64>),
    Lines(usize),
}

/// A number of `N` bytes, the lowest first; `None` at the end.
fn number<const N: usize>(source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = [0; 8];
    match source.read_exact(&mut bytes[..N]) {
        Ok(()) => Ok(Some(u64::from_le_bytes(bytes))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Fails where values named by their way through `value`'s dictionaries are too many, or their names too long together:
/// a long name around many values comes once for each of them.
pub(super) fn check_names(path: &Path, value: &PickleValue) -> Result<()> {
    let (mut count, mut bytes) = (0usize, 0usize);
    let mut open = vec![(value, 0usize)];
    while let Some((value, above)) = open.pop() {
        match value {
            PickleValue::Dict(items) => {
                open.extend(items.iter().map(|(key, value)| (value, above + key.len() + 1)));
            }
            PickleValue::Unsupported(kind) if kind == "torch.Tensor" => {
                (count, bytes) = (count + 1, bytes.saturating_add(above));
            }
            _ => {}
        }
        if count > MOST_TENSORS || bytes > MOST_NAMES {
            let most = MOST_NAMES >> 20;
            let expected = format!("at most {MOST_TENSORS} tensors with {most} MiB of names");
            return Err(Error::format(path, expected, "more", HINT));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_counted_whatever_follows_them() {
        let count = |bytes: &[u8]| {
            let mut steps = 0;
            let whole = walk(&mut &bytes[..], &mut steps).unwrap();
            (whole, steps)
        };
        let all = b"\x80\x02(I12\nccollections\nOrderedDict\nX\x03\0\0\0abcU\x01.q\x00h\x00j\0\0\0\0J\x01\0\0\0N\x88t.rest";
        assert_eq!(count(all), (true, 14));
        // Cut short, of a length that is not there, and no instruction.
        for bad in [&b"\x80"[..], b"I12", b"X\xff\xff\xff\x7fabc", b"\x8d\xff", b"\xff."] {
            assert!(!count(bad).0, "{bad:?}");
        }
        let many = vec![b'N'; MOST_STEPS + 10];
        assert_eq!(count(&many), (false, MOST_STEPS + 1));
    }
}
