//! Weight files: reading them, and putting what they hold into a net.

pub mod embedded;
mod keras_h5;
pub mod model_file;
mod torch;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::parameters::Parameters;
use crate::resnet::Net;
use model_file::ModelCard;

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

/// What a weight file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The weights.
    pub tensors: Vec<Tensor>,
    /// What to use them for, in headstart's own model files.
    pub card: Option<ModelCard>,
    /// What resuming a run needs beside the weights, in headstart's own model files.
    pub optimizer: Vec<Tensor>,
}

/// Which tensors a load must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the net without its head; the head is left as it is.
    Base,
    /// All.
    All,
}

/// What a load did, tensor by tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names found in the file and copied.
    pub applied: Vec<String>,
    /// Names the net has and the load left alone: those of the head, in [`Scope::Base`].
    pub missing: Vec<String>,
    /// Names the file has and the net has no use for.
    pub unused: Vec<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => String::new(),
            [.., _] if names.len() > 4 => {
                format!(" ({}, ... {})", names[..3].join(", "), names[names.len() - 1])
            }
            _ => format!(" ({})", names.join(", ")),
        };
        write!(
            f,
            "{} tensors applied, {} missing{}, {} unused{}",
            self.applied.len(),
            self.missing.len(),
            list(&self.missing),
            self.unused.len(),
            list(&self.unused)
        )
    }
}

/// The weights that a user means: those inside the program by their name ([`embedded::CIFAR10`]), or
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

/// Reads a weight file, whose kind its first bytes tell.
///
/// # Errors
/// If it cannot be read, is of no known kind, or is damaged.
pub fn read(path: impl AsRef<Path>) -> Result<WeightFile> {
    let path = path.as_ref();
    let io = || Error::io("read", path);
    if path.is_dir() {
        return Err(Error::format(path, "a weight file", "a folder", ""));
    }
    let mut start = [0u8; 16];
    let mut file = File::open(path).map_err(io())?;
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
        return keras_h5::read(path);
    }
    // A safetensors file starts with the length of its JSON header.
    if start.len() > 8 && start[8] == b'{' {
        return model_file::read(path);
    }
    // A zip archive, or a pickle of protocol 2 as torch.save wrote before 1.6.
    if start.starts_with(b"PK\x03\x04") || start.starts_with(&[0x80, 0x02]) {
        return torch::read(path);
    }
    let found = match length {
        0 => "an empty file".to_string(),
        n => format!("{n} bytes of something else"),
    };
    Err(Error::format(
        path,
        "Keras .h5, PyTorch .pth or .safetensors weights",
        found,
        "a file cut short by a broken download looks like this too",
    ))
}

/// Copies `file`'s tensors into `parameters` of `net`.
///
/// # Errors
/// If a tensor in scope is missing from the file or has another shape there; `parameters` are then
/// unchanged.
pub fn apply(
    file: &WeightFile,
    net: &Net,
    parameters: &mut Parameters,
    scope: Scope,
) -> Result<LoadReport> {
    let (copies, report) = matching(file, net, parameters, scope)?;
    for (i, at) in copies {
        parameters.tensors[i].values.copy_from_slice(&file.tensors[at].values);
    }
    Ok(report)
}

/// As [`apply`] of all tensors, taking them out of the file instead of copying.
///
/// # Errors
/// As [`apply`].
pub(crate) fn adopt(mut file: WeightFile, net: &Net, parameters: &mut Parameters) -> Result<()> {
    let (moves, _) = matching(&file, net, parameters, Scope::All)?;
    for (i, at) in moves {
        parameters.tensors[i].values = std::mem::take(&mut file.tensors[at].values);
    }
    Ok(())
}

/// Which tensor of `parameters` is which of the file.
fn matching(
    file: &WeightFile,
    net: &Net,
    parameters: &Parameters,
    scope: Scope,
) -> Result<(Vec<(usize, usize)>, LoadReport)> {
    let last = net.base_output();
    let mut report = LoadReport::default();
    let mut copies = Vec::new();
    let mut used = vec![false; file.tensors.len()];
    for (i, want) in parameters.tensors.iter().enumerate() {
        if scope == Scope::Base && want.node > last {
            report.missing.push(want.name.clone());
            continue;
        }
        let Some(at) = file.tensors.iter().position(|t| t.name == want.name) else {
            return Err(absent(file, &want.name, &want.shape));
        };
        let have = &file.tensors[at];
        if have.shape != want.shape || have.values.len() != want.values.len() {
            return Err(Error::format(
                &file.path,
                format!("{} of shape {:?}", want.name, want.shape),
                format!("shape {:?}", have.shape),
                "the weights are of another architecture or another number of classes",
            ));
        }
        if let Some(bad) = have.values.iter().find(|v| !v.is_finite()) {
            let expected = format!("finite numbers in {}", want.name);
            return Err(Error::format(&file.path, expected, bad.to_string(), ""));
        }
        used[at] = true;
        copies.push((i, at));
        report.applied.push(want.name.clone());
    }
    let rest = file.tensors.iter().zip(used).filter(|(_, used)| !used);
    report.unused = rest.map(|(t, _)| t.name.clone()).collect();
    Ok((copies, report))
}

fn absent(file: &WeightFile, name: &str, shape: &[usize]) -> Error {
    let names = || file.tensors.iter().map(|t| t.name.as_str());
    let near = nearest(name, names(), 1);
    let found = match near.first().and_then(|n| file.tensors.iter().find(|t| t.name == **n)) {
        Some(t) => format!("no such tensor; the nearest is {} of shape {:?}", t.name, t.shape),
        None if file.tensors.is_empty() => "no tensors".into(),
        None => format!("no such tensor among {}", file.tensors.len()),
    };
    Error::format(
        &file.path,
        format!("{name} of shape {shape:?}"),
        found,
        "the weights are of another architecture; choose it with --model",
    )
}
