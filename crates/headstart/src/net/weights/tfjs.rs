//! TensorFlow.js layers models: `model.json` with the topology and a manifest of weights, whose bytes are
//! one after another in shard files beside it, perhaps quantized (tensorflowjs's `read_weights.py`).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::floats::Stored;
use super::{Format, Listed, Tensor, WeightFile, keras_config, old_names};
use crate::error::{Error, Result};
use crate::memory::{self, Claim};

/// Longest model.json.
const LONGEST: u64 = 8 << 20;

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "modelTopology", default)]
    topology: Value,
    #[serde(rename = "weightsManifest")]
    manifest: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    #[serde(default)]
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
    #[serde(default)]
    scale: Option<f32>,
    #[serde(default)]
    min: Option<f32>,
}

/// How a weight's elements are stored in its shard.
#[derive(Clone, Copy)]
enum Encoding {
    Floats(Stored),
    /// Unsigned whole numbers of this many bytes, times scale, plus minimum.
    Steps {
        bytes: usize,
        scale: f32,
        min: f32,
    },
    /// This many bytes of something that is no weight of these nets.
    Other(usize),
}

impl Encoding {
    fn size(self) -> usize {
        match self {
            Encoding::Floats(stored) => stored.size(),
            Encoding::Steps { bytes, .. } | Encoding::Other(bytes) => bytes,
        }
    }
}

/// Reads `model.json` and the shards beside it.
///
/// # Errors
/// If it is no layers model, a shard is missing, short, long or outside the folder, or the manifest is wrong.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    let mut claim = Claim::default();
    let text = memory::read(path, LONGEST, &mut claim)?;
    claim.parse(text.len()).map_err(|over| over.of(path))?;
    let model: Model = serde_json::from_slice(&text).map_err(|e| {
        let hint = "--weights takes the model.json of a layers model; its shards must be beside it";
        Error::format(path, "a TensorFlow.js layers model", e.to_string(), hint)
    })?;
    let mut out = WeightFile::bare(path, Format::TensorflowJs);
    for group in &model.manifest {
        read_group(path, group, &mut out, &mut claim)?;
    }
    let mut epsilons = Vec::new();
    keras_config::collect(&model.topology, &mut epsilons);
    out.epsilon = epsilons.into_iter().collect();
    old_names::modernise(&mut out);
    Ok(out)
}

fn read_group(path: &Path, group: &Group, out: &mut WeightFile, claim: &mut Claim) -> Result<()> {
    let (mut total, mut values, most) = (0u64, 0u64, memory::limit());
    let mut sizes = Vec::with_capacity(group.weights.len());
    for weight in &group.weights {
        let encoding = encoding(path, weight)?;
        let count = weight.shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
        let bytes = count.and_then(|c| c.checked_mul(encoding.size()));
        let sum = bytes.and_then(|b| total.checked_add(b as u64)).filter(|&t| t <= most);
        let (Some(bytes), Some(sum)) = (bytes, sum) else {
            let found = format!("{} of shape {:?}", weight.name, weight.shape);
            let expected = format!("weights of at most {} MiB (--memory-limit)", most >> 20);
            return Err(Error::format(path, expected, found, ""));
        };
        total = sum;
        values = values.saturating_add(4 * (bytes / encoding.size()) as u64);
        sizes.push((encoding, bytes));
    }
    // There are as many bytes, as `shards` makes sure of before it reads them.
    let data = shards(path, &group.paths, total, claim)?;
    claim.grow(values).map_err(|over| over.of(path))?;
    let mut rest = &data[..];
    for (weight, (encoding, size)) in group.weights.iter().zip(sizes) {
        let (bytes, after) = rest.split_at(size);
        rest = after;
        let (values, dtype) = match encoding {
            Encoding::Other(_) => continue,
            Encoding::Floats(stored) => (stored.read(bytes), stored.name()),
            Encoding::Steps { bytes: 1, scale, min } => {
                (bytes.iter().map(|&b| f32::from(b) * scale + min).collect(), "u8")
            }
            Encoding::Steps { scale, min, .. } => {
                let pairs = bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
                (pairs.map(|v| f32::from(v) * scale + min).collect(), "u16")
            }
        };
        let shape = weight.shape.clone();
        out.listing.push(Listed { name: weight.name.clone(), shape: shape.clone(), dtype });
        // Below a model that is a layer the path has more parts.
        let mut parts = weight.name.rsplit('/');
        let role = parts.next().unwrap_or("");
        let role = role.split(':').next().unwrap_or(role);
        let name = format!("{}/{role}", parts.next().unwrap_or(""));
        out.tensors.push(Tensor { name, shape, values });
    }
    Ok(())
}

fn encoding(path: &Path, weight: &Weight) -> Result<Encoding> {
    let unknown = |what: &str, expected: &str| {
        let expected = format!("{expected} in {}", weight.name);
        Err(Error::format(path, expected, what.to_string(), ""))
    };
    if let Some(q) = &weight.quantization {
        let steps = |bytes| match (q.scale, q.min) {
            (Some(scale), Some(min)) if scale.is_finite() && min.is_finite() && scale > 0.0 => {
                Ok(Encoding::Steps { bytes, scale, min })
            }
            (scale, min) => {
                unknown(&format!("{scale:?} and {min:?}"), "a quantization with scale and min")
            }
        };
        return match (weight.dtype.as_str(), q.dtype.as_str()) {
            ("float32", "uint8") => steps(1),
            ("float32", "uint16") => steps(2),
            ("float32", "float16") => Ok(Encoding::Floats(Stored::F16)),
            ("int32", "uint8") => Ok(Encoding::Other(1)),
            ("int32", "uint16") => Ok(Encoding::Other(2)),
            (_, other) => unknown(other, "floats quantized to uint8, uint16 or float16"),
        };
    }
    match weight.dtype.as_str() {
        "float32" => Ok(Encoding::Floats(Stored::F32)),
        "float16" => Ok(Encoding::Floats(Stored::F16)),
        "int32" => Ok(Encoding::Other(4)),
        "bool" | "uint8" => Ok(Encoding::Other(1)),
        other => unknown(other, "float32"),
    }
}

/// The bytes of all shards, which must be `total`.
fn shards(path: &Path, names: &[String], total: u64, claim: &mut Claim) -> Result<Vec<u8>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files: Vec<(PathBuf, u64)> = Vec::with_capacity(names.len());
    for name in names {
        let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        if name.is_empty() || name.contains('\\') || !inside {
            let hint = "the manifest names a file outside the model's folder; do not trust it";
            return Err(Error::format(path, "shards beside it", format!("{name:?}"), hint));
        }
        let shard = folder.join(name);
        let about = fs::metadata(&shard).map_err(Error::io("read", &shard))?;
        if !about.is_file() {
            return Err(Error::format(shard, "a shard of weights", "no file", ""));
        }
        files.push((shard, about.len()));
    }
    let have = files.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
    if have != total {
        let expected = format!("{total} bytes of weights in {} shards", names.len());
        let hint = "a shard is cut short, or of another model; fetch them again";
        return Err(Error::format(path, expected, format!("{have} bytes"), hint));
    }
    claim.grow(total).map_err(|over| over.of(path))?;
    let mut data = Vec::with_capacity(total as usize);
    for (shard, length) in files {
        let file = File::open(&shard).map_err(Error::io("read", &shard))?;
        let got = file.take(length).read_to_end(&mut data).map_err(Error::io("read", &shard))?;
        if got as u64 != length {
            let expected = format!("{length} bytes");
            return Err(Error::format(shard, expected, format!("{got}"), "it is being written"));
        }
    }
    Ok(data)
}
