//! HDF5 files, as far as Keras's weights need them, with what a file claims checked against its size.

use std::path::Path;

use hdf5_pure::{AttrValue, DType, Dataset, Error as H5Error, File, Group};

use super::floats::Stored;
use crate::error::{Error, Result};

/// What deflate can make of a byte, at most.
const DEFLATE: u64 = 1032;

/// An open file and how many bytes of values may still be read from it.
pub(super) struct Source<'a> {
    path: &'a Path,
    file: File,
    /// Bytes of values that plain data sets may still take, and compressed ones.
    left: (u64, u64),
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
        Source::from_bytes(path, std::fs::read(path).map_err(Error::io("read", path))?)
    }

    /// Opens a file that lies inside `path`.
    pub fn from_bytes(path: &'a Path, bytes: Vec<u8>) -> Result<Source<'a>> {
        let length = bytes.len() as u64;
        let file = File::from_bytes(bytes).map_err(damaged(path))?;
        Ok(Source { path, file, left: (length, length.saturating_mul(DEFLATE).min(8 << 30)) })
    }

    /// The outermost group.
    pub fn root(&self) -> Group {
        self.file.root()
    }

    /// Reads a data set of floats.
    ///
    /// # Errors
    /// If it is not of floats, or the file is too short for what it claims.
    pub fn read(&mut self, set: &Dataset, name: &str) -> Result<Values> {
        let damaged = damaged(self.path);
        let (dtype, size) = (set.dtype().map_err(&damaged)?, set.element_size().map_err(&damaged)?);
        let brain = text(&set.attrs().map_err(&damaged)?, "dtype").as_deref() == Some("bfloat16");
        let stored = match (dtype, size) {
            _ if brain && size == 2 => Stored::Bf16,
            (DType::F32, 4) => Stored::F32,
            (DType::F64, 8) => Stored::F64,
            (DType::Other(kind), 2) if format!("{kind:?}").starts_with("FloatingPoint") => {
                Stored::F16
            }
            (other, _) => {
                let expected = format!("floats in {name}");
                return Err(Error::format(self.path, expected, other.to_string(), ""));
            }
        };
        let claimed = set.shape().map_err(&damaged)?;
        let bytes = claimed.iter().try_fold(size, |product, &d| product.checked_mul(d));
        let left = if set.is_chunked() { &mut self.left.1 } else { &mut self.left.0 };
        let Some(rest) = bytes.and_then(|b| left.checked_sub(b)) else {
            let expected = format!("a shape of {name} that the file has room for");
            let hint = "the file is damaged, or made to look larger than it is";
            return Err(Error::format(self.path, expected, format!("{claimed:?}"), hint));
        };
        *left = rest;
        let values = match stored {
            Stored::Bf16 => Stored::Bf16.read(&set.read_raw().map_err(&damaged)?),
            _ => set.read_f32().map_err(&damaged)?,
        };
        let shape: Vec<usize> = claimed.iter().map(|&d| d as usize).collect();
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("{name} of shape {shape:?}");
            return Err(Error::format(self.path, expected, format!("{} values", values.len()), ""));
        }
        Ok(Values { shape, stored: stored.name(), values })
    }
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
    let parts: Vec<String> = (0..).map_while(|i| list(&format!("{name}{i}"))).flatten().collect();
    let present = attributes.contains_key(name) || !parts.is_empty();
    Ok(present.then_some(parts))
}
