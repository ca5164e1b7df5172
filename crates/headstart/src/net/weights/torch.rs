//! PyTorch's state dicts, from `.pth`/`.pt` files (parsed, never executed) and from safetensors files
//! with PyTorch's names, in headstart's names and layouts.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchReader};

use super::floats::Stored;
use super::pickle;
use super::torch_names::from_torch;
use super::{Format, Listed, Tensor, WeightFile, items, state_names, zip64};
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
    let steps = pickle::check(readable.path())?;
    let mut claim = Claim::default();
    let over = |over: Over| over.of(path);
    claim.grow(steps as u64 * STEP).map_err(over)?;
    let readable = items::plain(path, readable)?;
    let damaged = |e: &dyn std::fmt::Display| pickle::damaged(path, readable.path(), e);
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
    convert(path, raw, file)
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

/// A Python object in a pickle that would run something, or reach for files or other machines, if Python opened it. Others, such
/// as settings and paths, lie beside weights; nothing of either is made here.
fn stranger(value: &PickleValue) -> Option<&str> {
    const MODULES: [&str; 30] = [
        "os",
        "posix",
        "nt",
        "posixpath",
        "ntpath",
        "subprocess",
        "_posixsubprocess",
        "sys",
        "shutil",
        "socket",
        "ssl",
        "runpy",
        "pty",
        "ctypes",
        "_ctypes",
        "importlib",
        "pickle",
        "_pickle",
        "marshal",
        "code",
        "codeop",
        "commands",
        "webbrowser",
        "urllib",
        "http",
        "ftplib",
        "smtplib",
        "asyncio",
        "multiprocessing",
        "tempfile",
    ];
    // Of Python itself, these only make values.
    const PLAIN: [&str; 22] = [
        "set",
        "frozenset",
        "complex",
        "slice",
        "range",
        "xrange",
        "bytearray",
        "bytes",
        "str",
        "unicode",
        "int",
        "long",
        "float",
        "bool",
        "list",
        "tuple",
        "dict",
        "object",
        "type",
        "print",
        "len",
        "Ellipsis",
    ];
    match value {
        PickleValue::Unsupported(name) => {
            let (module, object) = name.split_once('.')?;
            let runs = match module {
                "builtins" | "__builtin__" => !PLAIN.contains(&object) || object == "print",
                "operator" => true,
                "types" => ["CodeType", "FunctionType"].contains(&object),
                module => MODULES.contains(&module),
            };
            runs.then_some(name)
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

/// Finds the nets' tensors, renames `layer.weight` and its like to `layer/kernel` and its like, blocks of Keras's nets as
/// export writes them to Keras's layers, and turns kernels from
/// out x in x height x width to height x width x in x out, dense ones from out x in to in x out. `file` gets those of the net that is
/// to be taken first, and the others as its spares.
///
/// # Errors
/// If a weight has a number of axes that no layer of these nets has.
pub(super) fn convert(path: &Path, raw: Vec<Raw>, file: WeightFile) -> Result<WeightFile> {
    let places = state_names::find(raw.iter().map(|r| r.name.as_str()));
    let names: Vec<String> = raw.iter().map(|r| r.name.clone()).collect();
    let (mut nets, mut beside): (Vec<Vec<Raw>>, Vec<Raw>) = Default::default();
    nets.resize_with(places.len(), Vec::new);
    for r in raw {
        let own = (0..places.len()).filter(|&at| places[at].name(&r.name).is_some());
        match own.max_by_key(|&at| places[at].prefix.len()) {
            Some(at) => nets[at].push(r),
            None => beside.push(r),
        }
    }
    let mut files = Vec::with_capacity(places.len());
    for (place, mut own) in places.iter().zip(nets) {
        own.extend(head_beside(&own, &beside));
        let own_names: HashSet<&str> = own.iter().map(|r| r.name.as_str()).collect();
        let outside = names.iter().filter(|name| !own_names.contains(name.as_str()));
        let outside = outside.cloned().collect();
        let tensors = tensors(path, place, own)?;
        let name = match place.prefix.trim_end_matches('.') {
            "" => "the outermost",
            prefix => prefix,
        };
        let kind = if place.ema { ", a moving average (EMA)" } else { "" };
        let copy = place.copies.then(|| format!("{name}{kind}"));
        files.push((tensors, copy, outside));
    }
    let mut files = files.into_iter();
    let (tensors, copy, outside) = files.next().unwrap_or_default();
    let spare = files.map(|(tensors, copy, outside)| WeightFile {
        tensors,
        copy,
        outside,
        ..WeightFile::bare(path, file.format)
    });
    let spares = spare.collect();
    Ok(WeightFile { tensors, copy, outside, spares, ..file })
}

/// The head of a net whose tensors have none, where it is the only dense layer beside all nets.
fn head_beside(own: &[Raw], beside: &[Raw]) -> Vec<Raw> {
    let dense = |r: &&Raw| r.shape.len() == 2 && r.name.ends_with(".weight");
    let mut others = beside.iter().filter(dense);
    let (None, Some(weight), None) = (own.iter().find(dense), others.next(), others.next()) else {
        return Vec::new();
    };
    let bias = format!("{}bias", weight.name.trim_end_matches("weight"));
    let of = |r: &&Raw| r.name == weight.name || r.name == bias;
    let copy =
        |r: &Raw| Raw { name: r.name.clone(), shape: r.shape.clone(), values: r.values.clone() };
    beside.iter().filter(of).map(copy).collect()
}

/// A net's tensors in headstart's names and layouts.
fn tensors(path: &Path, place: &state_names::Place, own: Vec<Raw>) -> Result<Vec<Tensor>> {
    let names: Vec<(String, String)> = own
        .iter()
        .map(|r| match place.name(&r.name) {
            Some((layer, role)) => (layer, role.to_string()),
            // A head from elsewhere.
            None => {
                let (layer, role) = r.name.rsplit_once('.').unwrap_or((&r.name, ""));
                (layer.to_string(), role.to_string())
            }
        })
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
    Ok(tensors)
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
        let file = WeightFile::bare(Path::new("x.pth"), Format::Pytorch);
        let tensors = convert(Path::new("x.pth"), list, file).unwrap().tensors;
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
