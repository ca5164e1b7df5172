//! PyTorch's state dicts, from `.pth`/`.pt` files (parsed, never executed) and from safetensors files
//! with PyTorch's names, in headstart's names and layouts.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader};

use super::floats::Stored;
use super::pickle;
use super::torch_names::from_torch;
use super::{Format, Listed, Tensor, WeightFile, state_names, zip64};
use crate::error::{Error, Result};
use crate::memory::{Claim, Over};

/// How many times larger than the file its tensors may be; compressed ones are smaller than they.
const LARGER: u64 = 64;
/// Bytes that an instruction of a pickle takes at most: its value, twice over, in lists that double.
const STEP: u64 = 700;

/// A tensor as PyTorch names and lays it out.
pub(super) struct Raw {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Reads a `.pth` or `.pt` file.
///
/// # Errors
/// If it is damaged, holds anything but tensors and plain containers, or a tensor that is not of floats.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    let readable = zip64::readable(path)?;
    let damaged = |e: &dyn std::fmt::Display| pickle::damaged(path, readable.path(), e);
    let steps = pickle::check(readable.path())?;
    let mut claim = Claim::default();
    let over = |over: Over| over.of(path);
    claim.grow(steps as u64 * STEP).map_err(over)?;
    let value = PytorchReader::read_pickle_data(readable.path(), None).map_err(|e| damaged(&e))?;
    if let Some(stranger) = stranger(&value) {
        let hint =
            "do not open it in other programs unless you trust it; nothing in it was run here";
        let expected = "tensors and plain containers";
        return Err(Error::format(path, expected, format!("an object of {stranger}"), hint));
    }
    pickle::check_names(path, &value)?;
    drop(value);
    let reader = PytorchReader::new(readable.path()).map_err(|e| damaged(&e))?;
    let mut names = reader.keys();
    names.sort();
    let (mut raw, mut listing) = (Vec::with_capacity(names.len()), Vec::new());
    // A tensor's shape can claim more than its storage holds, by steps of zero.
    let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
    let mut left = length.saturating_mul(LARGER);
    for name in names {
        let Some(tensor) = reader.get(&name) else { continue };
        let Some(stored) = stored(tensor.dtype()) else {
            if is_weight(&name) {
                let found = format!("{:?}", tensor.dtype());
                return Err(Error::format(path, format!("floats in {name}"), found, ""));
            }
            continue;
        };
        left = left.checked_sub(tensor.byte_len() as u64).ok_or_else(|| {
            let expected = format!("a shape of {name} that the file has room for");
            Error::format(path, expected, format!("{:?}", tensor.shape()), "")
        })?;
        // The values, and the bytes that they are made of.
        let count = (tensor.byte_len() / stored.size()) as u64;
        claim.grow(count.saturating_mul(4)).map_err(over)?;
        claim.grow(2 * tensor.byte_len() as u64).map_err(over)?;
        let values = stored.read(&tensor.read().map_err(|e| damaged(&e))?);
        claim.shrink(2 * tensor.byte_len() as u64);
        let shape = tensor.shape().to_vec();
        listing.push(Listed { name: name.clone(), shape: shape.clone(), dtype: stored.name() });
        raw.push(Raw { name, shape, values });
    }
    if raw.is_empty() {
        return Err(damaged(&"no tensors"));
    }
    let file = WeightFile { listing, ..WeightFile::bare(path, Format::Pytorch) };
    Ok(convert(path, raw)?.into_file(file))
}

fn stored(dtype: DType) -> Option<Stored> {
    match dtype {
        DType::F32 => Some(Stored::F32),
        DType::F64 => Some(Stored::F64),
        DType::F16 => Some(Stored::F16),
        DType::BF16 => Some(Stored::Bf16),
        _ => None,
    }
}

/// A Python object in a pickle that is none of those that come with weights: settings and numbers.
fn stranger(value: &PickleValue) -> Option<&str> {
    const KNOWN: [&str; 5] = ["torch", "numpy", "collections", "argparse", "datetime"];
    const BUILTINS: [&str; 6] = ["set", "frozenset", "complex", "slice", "range", "bytearray"];
    match value {
        PickleValue::Unsupported(name) => {
            let known = match name.split_once('.') {
                None => true,
                Some(("builtins" | "__builtin__", name)) => BUILTINS.contains(&name),
                Some((module, _)) => KNOWN.contains(&module),
            };
            (!known).then_some(name)
        }
        PickleValue::List(items) => items.iter().find_map(stranger),
        PickleValue::Dict(items) => items.values().find_map(stranger),
        _ => None,
    }
}

/// Whether a tensor is a layer's own, which must be of floats; whole numbers beside these are counters (of batches,
/// epochs, averaged models), which nothing here uses.
pub(super) fn is_weight(name: &str) -> bool {
    const ROLES: [&str; 9] = [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "kernel",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    ];
    let last = name.rsplit(['.', '/']).next().unwrap_or(name);
    ROLES.contains(&last.strip_suffix(":0").unwrap_or(last))
}

/// Whether names look like a state dict's.
pub(super) fn is_state_dict<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|n| n.ends_with(".weight") || n.ends_with(".running_mean"))
}

/// The net's tensors of a state dict.
pub(super) struct Converted {
    pub tensors: Vec<Tensor>,
    /// As in [`WeightFile`].
    pub copy: Option<String>,
    pub outside: Vec<String>,
}

impl Converted {
    /// Puts them into a file.
    pub fn into_file(self, file: WeightFile) -> WeightFile {
        let Converted { tensors, copy, outside } = self;
        WeightFile { tensors, copy, outside, ..file }
    }
}

/// Finds the net's tensors, renames `layer.weight` and its like to `layer/kernel` and its like, blocks of Keras's nets as
/// export writes them to Keras's layers, and turns kernels from
/// out x in x height x width to height x width x in x out, dense ones from out x in to in x out.
///
/// # Errors
/// If a weight has a number of axes that no layer of these nets has.
pub(super) fn convert(path: &Path, raw: Vec<Raw>) -> Result<Converted> {
    let place = state_names::find(raw.iter().map(|r| r.name.as_str()));
    let own: Vec<Raw> = Vec::with_capacity(raw.len());
    let (own, outside) = raw.into_iter().fold((own, Vec::new()), |(mut own, mut outside), r| {
        match place.name(&r.name) {
            Some(_) => own.push(r),
            None => outside.push(r.name),
        }
        (own, outside)
    });
    let names: Vec<(String, String)> = own
        .iter()
        .filter_map(|r| place.name(&r.name).map(|(layer, role)| (layer, role.to_string())))
        .collect();
    let normalized: HashSet<&str> = names
        .iter()
        .filter(|(_, role)| role == "running_mean")
        .map(|(layer, _)| layer.as_str())
        .collect();
    let normalizes = |layer: &str| normalized.contains(layer);
    let mut tensors = Vec::with_capacity(own.len());
    for ((layer, kind), Raw { name, shape, values }) in names.iter().zip(own) {
        let role = match (kind.as_str(), shape.len()) {
            ("weight", 1) => "gamma",
            ("weight", _) => "kernel",
            ("bias", _) if normalizes(layer) => "beta",
            ("bias", _) => "bias",
            ("running_mean", _) => "moving_mean",
            ("running_var", _) => "moving_variance",
            _ => continue,
        };
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("{name} of shape {shape:?}");
            return Err(Error::format(path, expected, format!("{} values", values.len()), ""));
        }
        let (shape, values) = match (role, &shape[..]) {
            ("kernel", &[out, inputs, height, width]) => {
                let source = |i: usize| {
                    let (o, rest) = (i % out, i / out);
                    let (c, pixel) = (rest % inputs, rest / inputs);
                    values[(o * inputs + c) * height * width + pixel]
                };
                let turned = (0..values.len()).map(source).collect();
                (vec![height, width, inputs, out], turned)
            }
            ("kernel", &[out, inputs]) => {
                let turned =
                    (0..values.len()).map(|i| values[i % out * inputs + i / out]).collect();
                (vec![inputs, out], turned)
            }
            ("kernel", _) => {
                let expected = format!("{name} of a convolution or dense layer");
                return Err(Error::format(path, expected, format!("shape {shape:?}"), ""));
            }
            _ => (shape, values),
        };
        tensors.push(Tensor { name: format!("{}/{role}", from_torch(layer)), shape, values });
    }
    let name = match place.prefix.trim_end_matches('.') {
        "" => "the outermost",
        prefix => prefix,
    };
    let kind = if place.ema { ", a moving average (EMA)" } else { "" };
    let copy = place.copies.then(|| format!("{name}{kind}"));
    Ok(Converted { tensors, copy, outside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_turned_and_roles_follow_from_neighbours() {
        let raw = |name: &str, shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|i| i as f32).collect();
            Raw { name: name.into(), shape: shape.to_vec(), values }
        };
        let list = vec![
            raw("module.conv1.weight", &[2, 3, 1, 2]),
            raw("module.bn1.weight", &[2]),
            raw("module.bn1.bias", &[2]),
            raw("module.bn1.running_mean", &[2]),
            raw("module.fc.weight", &[2, 3]),
            raw("module.fc.bias", &[2]),
        ];
        let tensors = convert(Path::new("x.pth"), list).unwrap().tensors;
        let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        let expected =
            ["conv1/kernel", "bn1/gamma", "bn1/beta", "bn1/moving_mean", "fc/kernel", "fc/bias"];
        assert_eq!(names, expected);
        assert_eq!(tensors[0].shape, [1, 2, 3, 2]);
        // [x = 0][c = 1][o = 1] is [o = 1][c = 1][x = 0] of out x in x 1 x 2.
        assert_eq!(tensors[0].values[3], 8.0);
        assert_eq!(tensors[4].values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
