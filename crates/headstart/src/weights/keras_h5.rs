//! Keras's legacy HDF5 layout: the root (or its `model_weights` group) lists `layer_names`, each
//! layer's group lists `weight_names`, and each weight is a data set below its layer's group.

use std::path::Path;

use hdf5_pure::{File, Group};

use super::{Tensor, WeightFile};
use crate::error::{Error, Result};

/// Reads every weight of the file.
///
/// # Errors
/// If the file is damaged or not of this layout.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    let damaged = |e: hdf5_pure::Error| {
        Error::format(
            path,
            "a whole HDF5 file of Keras weights",
            e.to_string(),
            "the file may be cut short; fetch it again and compare its size and md5",
        )
    };
    let file = File::open(path).map_err(damaged)?;
    let mut root = file.root();
    if let Ok(inner) = root.group("model_weights") {
        root = inner;
    }
    let Some(layers) = strings(&root, "layer_names").map_err(damaged)? else {
        return Err(Error::format(
            path,
            "an attribute layer_names, as Keras's save_weights(.h5) writes it",
            "none",
            "Keras 3's .weights.h5 layout is not this one: save with the extension .h5",
        ));
    };
    let mut tensors = Vec::new();
    for layer in &layers {
        let group = root.group(layer).map_err(damaged)?;
        for weight in strings(&group, "weight_names").map_err(damaged)?.unwrap_or_default() {
            let set = group.dataset(&weight).map_err(damaged)?;
            let shape: Vec<usize> =
                set.shape().map_err(damaged)?.iter().map(|&d| d as usize).collect();
            let values = set.read_f32().map_err(damaged)?;
            if shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d)) != Some(values.len()) {
                let expected = format!("{weight} of shape {shape:?}");
                return Err(Error::format(path, expected, format!("{} values", values.len()), ""));
            }
            let role = weight.rsplit('/').next().unwrap_or(&weight);
            let role = role.split(':').next().unwrap_or(role);
            tensors.push(Tensor { name: format!("{layer}/{role}"), shape, values });
        }
    }
    Ok(WeightFile { path: path.to_path_buf(), tensors, card: None, optimizer: Vec::new() })
}

/// An attribute of names, which Keras cuts into `name0`, `name1`, ... where it is long.
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, hdf5_pure::Error> {
    let attributes = group.attrs()?;
    let list = |name: &str| attributes.get(name).and_then(|a| a.as_strings()).map(<[_]>::to_vec);
    if let Some(names) = list(name) {
        return Ok(Some(names));
    }
    let parts: Vec<String> = (0..).map_while(|i| list(&format!("{name}{i}"))).flatten().collect();
    let present = attributes.contains_key(name) || !parts.is_empty();
    Ok(present.then_some(parts))
}
