//! HDF5 files, as far as Keras's weights need them, with what a file claims checked against its size.

use std::path::Path;

use hdf5_pure::{AttrValue, DType, Dataset, Error as H5Error, File, Group};

use super::floats::Stored;
use crate::error::{Error, Result};
use crate::memory::{self, Claim};

/// What deflate can make of a byte, at most.
const DEFLATE: u64 = 1032;
/// How many times larger than the file its chunked data sets may be together, from [`SMALL`] bytes on: zeros shrink to nothing,
/// weights do not.
const LARGER: u64 = 64;
const SMALL: u64 = 16 << 20;
/// Longest attribute of names that is put together of pieces.
const MANY: usize = 10_000;

/// An open file and what may still be read from it. Time is bounded by the same: no byte of the file is counted twice, and
/// who walks the groups bounds their number.
pub(super) struct Source<'a> {
    path: &'a Path,
    file: File,
    left: Left,
    /// The memory of the file and of all values that are read.
    claim: Claim,
}

/// Bytes that may still be read.
struct Left {
    /// Of the values of data sets that lie in the file as they are.
    plain: u64,
    /// Of the file, by the chunks of the others.
    stored: u64,
    /// Of those others' values.
    chunked: u64,
}

/// A tensor as the file has it.
pub(super) struct Values {
    pub shape: Vec<usize>,
    pub stored: &'static str,
    pub values: Vec<f32>,
}

impl<'a> Source<'a> {
    /// Opens a file.
    pub fn open(path: &'a Path) -> Result<Source<'a>> {
        let mut claim = Claim::default();
        let bytes = memory::read(path, u64::MAX, &mut claim)?;
        Source::from_bytes(path, bytes, claim)
    }

    /// Opens a file that lies inside `path`, and whose bytes are counted in `claim`.
    pub fn from_bytes(path: &'a Path, bytes: Vec<u8>, claim: Claim) -> Result<Source<'a>> {
        let length = bytes.len() as u64;
        let file = File::from_bytes(bytes).map_err(damaged(path))?;
        let chunked = length.saturating_mul(LARGER).max(SMALL);
        Ok(Source { path, file, left: Left { plain: length, stored: length, chunked }, claim })
    }

    /// Counts the memory that parsing `config`, which the file has, takes.
    ///
    /// # Errors
    /// If it is too much.
    pub fn parse(&mut self, config: &str) -> Result<()> {
        self.claim.parse(config.len()).map_err(|over| over.of(self.path))
    }

    /// The outermost group.
    pub fn root(&self) -> Group {
        self.file.root()
    }

    /// Reads a data set of floats; `None` for one of something else, which is a counter, unless it is a layer's `own`.
    ///
    /// # Errors
    /// If a layer's own is not of floats, or the file is too short for what it claims.
    pub fn read(&mut self, set: &Dataset, name: &str, own: bool) -> Result<Option<Values>> {
        let damaged = damaged(self.path);
        let (dtype, size) = (set.dtype().map_err(&damaged)?, set.element_size().map_err(&damaged)?);
        let brain = text(&set.attrs().map_err(&damaged)?, "dtype").as_deref() == Some("bfloat16");
        let mut swapped = false;
        let stored = match (dtype, size) {
            _ if brain && size == 2 => Stored::Bf16,
            (DType::F32, 4) => Stored::F32,
            (DType::F64, 8) => Stored::F64,
            (DType::Other(kind), 2) if format!("{kind:?}").starts_with("FloatingPoint") => {
                // The library has no name for these.
                swapped = format!("{kind:?}").contains("BigEndian");
                Stored::F16
            }
            _ if !own => return Ok(None),
            (other, _) => {
                let expected = format!("floats in {name}");
                return Err(Error::format(self.path, expected, other.to_string(), ""));
            }
        };
        let claimed = set.shape().map_err(&damaged)?;
        let room = match set.is_chunked() {
            true => self.chunks(set, &claimed, size).map_err(&damaged)?,
            false => product(size, &claimed).and_then(|bytes| take(&mut self.left.plain, bytes)),
        };
        if room.is_none() {
            let expected = format!("a shape of {name} that the file has room for");
            let hint = "the file is damaged, or made to look larger than it is";
            return Err(Error::format(self.path, expected, format!("{claimed:?}"), hint));
        }
        // The values, and the bytes that they are made of.
        let need = product(size + size_of::<f32>() as u64, &claimed).unwrap_or(u64::MAX);
        self.claim.grow(need).map_err(|over| over.of(self.path))?;
        let values = match stored {
            Stored::Bf16 | Stored::F16 => {
                let mut bytes = set.read_raw().map_err(&damaged)?;
                if swapped {
                    bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
                }
                stored.read(&bytes)
            }
            _ => set.read_f32().map_err(&damaged)?,
        };
        self.claim.shrink(product(size, &claimed).unwrap_or(0));
        let shape: Vec<usize> = claimed.iter().map(|&d| d as usize).collect();
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("{name} of shape {shape:?}");
            return Err(Error::format(self.path, expected, format!("{} values", values.len()), ""));
        }
        Ok(Some(Values { shape, stored: stored.name(), values }))
    }

    /// Counts a chunked data set of elements of `size` bytes; `None` if the chunks that are there cannot be its values.
    fn chunks(&mut self, set: &Dataset, shape: &[u64], size: u64) -> Result<Option<()>, H5Error> {
        let Some(chunk) = set.chunk_shape()?.filter(|c| c.len() == shape.len() && !c.contains(&0))
        else {
            return Ok(None);
        };
        // Chunks at the edges reach beyond the data set, and are inflated whole.
        let grid: Vec<u64> = shape.iter().zip(&chunk).map(|(&d, &c)| d.div_ceil(c)).collect();
        let (each, number) = (product(size, &chunk), product(1, &grid));
        let Some((each, number)) = each.zip(number).filter(|(_, n)| *n <= self.left.stored) else {
            return Ok(None);
        };
        let chunks = set.chunks()?;
        let stored = chunks.iter().try_fold(0u64, |sum, c| sum.checked_add(c.storage_size));
        let most = if set.filters().is_empty() { 1 } else { DEFLATE };
        let bytes = number.checked_mul(each);
        let claimed = bytes.filter(|&b| stored.is_some_and(|s| b <= s.saturating_mul(most)));
        let room = claimed.zip(stored).and_then(|(claimed, stored)| {
            take(&mut self.left.stored, stored)?;
            take(&mut self.left.chunked, claimed)
        });
        Ok(room)
    }
}

/// `factor` times all of `sizes`, where that is a number of 64 bits.
fn product(factor: u64, sizes: &[u64]) -> Option<u64> {
    sizes.iter().try_fold(factor, |product, &size| product.checked_mul(size))
}

fn take(left: &mut u64, bytes: u64) -> Option<()> {
    *left = left.checked_sub(bytes)?;
    Some(())
}

/// What a failure of the library means for the user.
pub(super) fn damaged(path: &Path) -> impl Fn(H5Error) -> Error + '_ {
    move |e| {
        Error::format(
            path,
            "a whole HDF5 file of Keras weights",
            e.to_string(),
            "the file may be cut short; fetch it again and compare its size and md5",
        )
    }
}

/// An attribute that is one string.
pub(super) fn text(
    attributes: &std::collections::HashMap<String, AttrValue>,
    name: &str,
) -> Option<String> {
    attributes.get(name).and_then(AttrValue::as_str).map(str::to_string)
}

/// An attribute of names, which Keras cuts into `name0`, `name1`, ... where it is long.
pub(super) fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, H5Error> {
    let attributes = group.attrs()?;
    let list = |name: &str| attributes.get(name).and_then(|a| a.as_strings()).map(<[_]>::to_vec);
    if let Some(names) = list(name) {
        return Ok(Some(names));
    }
    let parts: Vec<String> =
        (0..MANY).map_while(|i| list(&format!("{name}{i}"))).flatten().collect();
    let present = attributes.contains_key(name) || !parts.is_empty();
    Ok(present.then_some(parts))
}
