//! Weight files: reading them, and loading their tensors into a net.
//!
//! ```
//! use headstart::weights::{self, Format};
//!
//! // The weights inside the library; a path is read the same way, whatever its format.
//! let file = weights::open("cifar10")?;
//! assert_eq!(file.format, Format::Model);
//! assert!(file.tensors.iter().any(|t| t.name == "conv1_conv/kernel"));
//! # Ok::<(), headstart::Error>(())
//! ```

mod apply;
pub mod embedded;
mod floats;
mod hdf5;
mod inspect;
mod items;
mod keras3;
mod keras_config;
mod keras_h5;
pub(crate) mod kinds;
pub mod model_file;
mod old_names;
mod pickle;
mod state_names;
mod tfjs;
mod torch;
pub(crate) mod torch_names;
mod zip64;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::memory;
use model_file::ModelCard;

pub use apply::{LoadReport, Scope, apply};
pub use inspect::{Fit, Inspection, inspect};

/// A tensor as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// `layer/role`, with Keras's layer and variable names.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// Kinds of weight files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Keras's `.h5`: `save_weights` before Keras 3, or a whole model saved as `.h5`.
    KerasH5,
    /// Keras 3's `.weights.h5`.
    Keras3,
    /// Keras 3's `.keras`.
    KerasArchive,
    /// `.safetensors` of any names.
    Safetensors,
    /// headstart's own `.safetensors`.
    Model,
    /// PyTorch's `.pth` or `.pt`.
    Pytorch,
    /// TensorFlow.js's `model.json` with its shards.
    TensorflowJs,
}

impl Format {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Format::KerasH5 => "Keras .h5",
            Format::Keras3 => "Keras 3 .weights.h5",
            Format::KerasArchive => "Keras 3 .keras",
            Format::Safetensors => "safetensors",
            Format::Model => "headstart model (safetensors)",
            Format::Pytorch => "PyTorch state dict",
            Format::TensorflowJs => "TensorFlow.js layers model",
        }
    }
}

/// How a file's tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By their layer's name: `conv1_conv/kernel`.
    Layers,
    /// By their layer's class and number, as Keras 3 saves them: `conv2d_3/kernel`.
    Kinds,
}

/// A tensor under the name and with the shape that its file gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name there.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// How its numbers are stored: f32, f16, bf16, f64, or quantized u8, u16.
    pub dtype: &'static str,
}

/// What a weight file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFile {
    /// Its path.
    pub path: PathBuf,
    /// The weights.
    pub tensors: Vec<Tensor>,
    /// What to use them for, in headstart's own model files.
    pub card: Option<ModelCard>,
    /// What resuming a run needs beside the weights, in headstart's own model files.
    pub optimizer: Vec<Tensor>,
    /// Its kind.
    pub format: Format,
    /// How its tensors are called.
    pub naming: Naming,
    /// Its tensors as the file itself lists them.
    pub listing: Vec<Listed>,
    /// Batch norm layers' epsilons, by the layers' names in `tensors`, where the file says them.
    pub epsilon: HashMap<String, f32>,
    /// Where the file has several copies of the net, the name of the one that `tensors` are of: a moving average (EMA)
    /// if there is one.
    pub copy: Option<String>,
    /// Tensors of a state dict that are beside the net, such as other copies, heads of other tasks.
    pub outside: Vec<String>,
    /// The other copies of the net, and other nets, that a state dict has: the first of them that fits is loaded where this one does
    /// not.
    pub spares: Vec<WeightFile>,
}

impl WeightFile {
    /// Whether its tensors have the names of a PyTorch `state_dict`, as in exports for PyTorch.
    pub fn is_state_dict(&self) -> bool {
        torch::is_state_dict(self.listing.iter().map(|t| t.name.as_str()))
    }

    /// A file without tensors yet.
    fn bare(path: &Path, format: Format) -> WeightFile {
        WeightFile {
            path: path.to_path_buf(),
            tensors: Vec::new(),
            card: None,
            optimizer: Vec::new(),
            format,
            naming: Naming::Layers,
            listing: Vec::new(),
            epsilon: HashMap::new(),
            copy: None,
            outside: Vec::new(),
            spares: Vec::new(),
        }
    }
}

/// The weights that a name or path means: those inside the program by their name ([`embedded::CIFAR10`]), or
/// a file's.
///
/// # Errors
/// As [`read`].
pub fn open(name: &str) -> Result<WeightFile> {
    match name {
        embedded::CIFAR10 => embedded::cifar10(),
        path => read(path),
    }
}

/// Where a run's folder has the model that it ships.
pub const SHIPPED: &str = "weights/best.safetensors";

/// The file that `path` means: the model that a run ships where it is a run's folder, or the folder of its weights;
/// else itself.
pub fn file_of(path: &Path) -> PathBuf {
    let places = [SHIPPED, "best.safetensors"].map(|place| path.join(place));
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| path.to_path_buf())
}

/// Reads a weight file, or that of a run's folder; its first bytes say which kind it is.
///
/// # Errors
/// If it cannot be read, is of no known kind, or is damaged.
pub fn read(path: impl AsRef<Path>) -> Result<WeightFile> {
    let path = &file_of(path.as_ref());
    without_panic(path, || read_as_it_is(path))
}

/// Runs a reader of the file at `path`, most of which is other crates' code; a panic in it is an error.
fn without_panic<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(read).unwrap_or_else(|panic| {
        let found = format!("one that the reader fails on ({panic})");
        Err(Error::format(path, "a whole weight file", found, "fetch it again, or save it again"))
    })
}

fn read_as_it_is(path: &Path) -> Result<WeightFile> {
    let io = || Error::io("read", path);
    if path.is_dir() {
        let expected = format!("a weight file, or a run's folder with {SHIPPED}");
        let found = match path.join("config.toml").is_file() {
            true => "the folder of a run that has no epoch yet",
            false => "a folder without that",
        };
        return Err(Error::format(path, expected, found, ""));
    }
    let mut start = [0u8; 16];
    let mut file = memory::open(path)?;
    let length = file.metadata().map_err(io())?.len();
    let mut have = 0;
    while have < start.len() {
        match file.read(&mut start[have..]).map_err(io())? {
            0 => break,
            n => have += n,
        }
    }
    drop(file);
    let start = &start[..have];
    if start.starts_with(b"\x89HDF\r\n\x1a\n") {
        let source = hdf5::Source::open(path)?;
        return match keras3::is(&source) {
            true => keras3::read(path, source, None),
            false => keras_h5::read(path, source),
        };
    }
    // JSON has no zeros in it, a safetensors file's length has.
    if start.starts_with(b"{") && !start.contains(&0) {
        return tfjs::read(path);
    }
    // A safetensors file starts with the length of its JSON header.
    if start.len() > 8 && start[8] == b'{' {
        return model_file::read(path);
    }
    if start.starts_with(b"PK\x03\x04") && keras3::is_archive(path) {
        return keras3::read_archive(path);
    }
    // A zip archive, or a pickle of protocol 2 as torch.save wrote before 1.6.
    if start.starts_with(b"PK\x03\x04") || start.starts_with(&[0x80, 0x02]) {
        return torch::read(path);
    }
    let (found, hint) = other_kind(start, length);
    let expected =
        "Keras .h5 or .keras, PyTorch .pth, .safetensors or TensorFlow.js model.json weights";
    Err(Error::format(path, expected, found, hint))
}

/// What a file is that has no weights that are read, by its first bytes, and what to do about it.
fn other_kind(start: &[u8], length: u64) -> (String, &'static str) {
    const UNPACK: &str = "unpack it and give the file inside";
    const FOREIGN: &str =
        "it is for other programs; take the model file or the run that it was made from";
    const KINDS: [(&[u8], &str, &str); 13] = [
        (b"version https://", "a pointer of Git LFS", "`git lfs pull` fetches the file itself"),
        (b"<!DOCTYPE", "a web page", "the address is not that of the file, or asks to log in"),
        (b"<!doctype", "a web page", "the address is not that of the file, or asks to log in"),
        (b"<html", "a web page", "the address is not that of the file, or asks to log in"),
        (
            b"<?xml",
            "an XML text",
            "the address is not that of the file: this may be its error message",
        ),
        (
            b"<Error",
            "an XML text",
            "the address is not that of the file: this may be its error message",
        ),
        (b"\x1f\x8b", "a gzip file", UNPACK),
        (b"\xfd7zXZ", "an xz file", UNPACK),
        (b"\x28\xb5\x2f\xfd", "a Zstandard file", UNPACK),
        (b"BZh", "a bzip2 file", UNPACK),
        (b"GGUF", "a GGUF file, of a language model", ""),
        (b"\x89PNG", "a picture", ""),
        (b"\xff\xd8\xff", "a picture", ""),
    ];
    if let Some((_, what, hint)) = KINDS.iter().find(|(magic, _, _)| start.starts_with(magic)) {
        return (what.to_string(), hint);
    }
    if start.get(4..8) == Some(b"TFL3") {
        return ("a TensorFlow Lite model".to_string(), FOREIGN);
    }
    match length {
        0 => (
            "an empty file".to_string(),
            "a file cut short by a broken download looks like this too",
        ),
        // The fields 1 and 2 of its protocol buffer: the version, and who made it.
        _ if start.starts_with(&[0x08]) && start.get(2) == Some(&0x12) => {
            ("an ONNX model".to_string(), FOREIGN)
        }
        n => (
            format!("{n} bytes of something else"),
            "a file cut short by a broken download looks like this too",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_kinds_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pth");
        for (bytes, said) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..], "git lfs pull"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied", "an XML text"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip file"),
            (b"\x1c\0\0\0TFL3\0\0", "a TensorFlow Lite model"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
            (b"", "an empty file"),
            (b"something", "9 bytes of something else"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            let text = format!("{error} ({})", error.hint().unwrap_or_default());
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn a_reader_that_panics_is_an_error_that_names_the_file() {
        let none: Vec<u8> = Vec::new();
        let error = without_panic(Path::new("x.h5"), || Ok(none[none.len()])).unwrap_err();
        let text = error.to_string();
        for part in ["x.h5: expected a whole weight file", "reader fails on", "out of bounds"] {
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
        assert_eq!(without_panic(Path::new("x.h5"), || Ok(1)).unwrap(), 1);
    }
}
