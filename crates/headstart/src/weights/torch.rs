//! PyTorch's state dicts, from `.pth`/`.pt` files (parsed, never executed) and from safetensors files
//! with PyTorch's names, in headstart's names and layouts.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader};

use super::{Tensor, WeightFile};
use crate::error::{Error, Result};

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
    let damaged = |e: &dyn std::fmt::Display| {
        Error::format(
            path,
            "a whole PyTorch file of weights",
            e.to_string(),
            "save the weights alone: torch.save(net.state_dict(), path)",
        )
    };
    let reader = PytorchReader::new(path).map_err(|e| damaged(&e))?;
    let mut names = reader.keys();
    names.sort();
    let mut raw = Vec::with_capacity(names.len());
    for name in names {
        let Some(tensor) = reader.get(&name) else { continue };
        // Counters of batches, which nothing here uses.
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let bytes = tensor.read().map_err(|e| damaged(&e))?;
        let values = floats(tensor.dtype(), &bytes).ok_or_else(|| {
            let found = format!("{:?}", tensor.dtype());
            Error::format(path, format!("floats in {name}"), found, "")
        })?;
        raw.push(Raw { name, shape: tensor.shape().to_vec(), values });
    }
    let tensors = convert(path, raw)?;
    Ok(WeightFile { path: path.to_path_buf(), tensors, card: None, optimizer: Vec::new() })
}

fn floats(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    let four = |f: fn([u8; 4]) -> f32| {
        bytes.chunks_exact(4).map(|b| f([b[0], b[1], b[2], b[3]])).collect()
    };
    match dtype {
        DType::F32 => Some(four(f32::from_le_bytes)),
        DType::F64 => {
            let eight = bytes.chunks_exact(8).map(|b| {
                f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
            });
            Some(eight.collect())
        }
        DType::F16 => Some(bytes.chunks_exact(2).map(|b| half([b[0], b[1]])).collect()),
        DType::BF16 => Some(bytes.chunks_exact(2).map(|b| brain([b[0], b[1]])).collect()),
        _ => None,
    }
}

/// bfloat16.
pub(super) fn brain(bytes: [u8; 2]) -> f32 {
    f32::from_le_bytes([0, 0, bytes[0], bytes[1]])
}

/// IEEE 754 half precision.
pub(super) fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 31, bits & 0x3ff);
    let magnitude = match exponent {
        0 => mantissa as f32 * 2f32.powi(-24),
        31 if mantissa == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits(((exponent + 112) << 23) | (mantissa << 13)),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// Whether names look like a state dict's.
pub(super) fn is_state_dict<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|n| n.ends_with(".weight") || n.ends_with(".running_mean"))
}

/// Renames `layer.weight` and its like to `layer/kernel` and its like, and turns kernels from
/// out x in x height x width to height x width x in x out, dense ones from out x in to in x out.
///
/// # Errors
/// If a weight has a number of axes that no layer of these nets has.
pub(super) fn convert(path: &Path, raw: Vec<Raw>) -> Result<Vec<Tensor>> {
    let strip = |name: &str| {
        let mut name = name;
        for prefix in ["state_dict.", "model.", "module."] {
            name = name.strip_prefix(prefix).unwrap_or(name);
        }
        name.to_string()
    };
    let names: Vec<String> = raw.iter().map(|r| strip(&r.name)).collect();
    let normalizes = |layer: &str| names.contains(&format!("{layer}.running_mean"));
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, Raw { shape, values, .. }) in names.iter().zip(raw) {
        let Some((layer, kind)) = name.rsplit_once('.') else { continue };
        let role = match (kind, shape.len()) {
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
        tensors.push(Tensor { name: format!("{layer}/{role}"), shape, values });
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_exactly() {
        for (bits, value) in [
            (0x3c00u16, 1.0f32),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits.to_le_bytes()), value);
        }
        assert!(half(0x7e00u16.to_le_bytes()).is_nan());
    }

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
        let tensors = convert(Path::new("x.pth"), list).unwrap();
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
