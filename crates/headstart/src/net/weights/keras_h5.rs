//! Keras's legacy HDF5 layout: the root (or its `model_weights` group) lists `layer_names`, each
//! layer's group lists `weight_names`, and each weight is a data set below its layer's group.

use std::path::Path;

use super::hdf5::{Source, damaged, strings, text};
use super::torch::is_weight;
use super::{Format, Listed, Tensor, WeightFile, keras_config, old_names};
use crate::error::{Error, Result};

/// Most layers and weights that a file may list; each is looked for among all of them.
const MANY: usize = 10_000;

/// Reads every weight of the file.
///
/// # Errors
/// If the file is damaged or not of this layout.
pub(super) fn read(path: &Path, mut source: Source<'_>) -> Result<WeightFile> {
    let damaged = damaged(path);
    let mut root = source.root();
    let config = text(&root.attrs().map_err(&damaged)?, "model_config");
    if let Ok(inner) = root.group("model_weights") {
        root = inner;
    }
    let Some(layers) = strings(&root, "layer_names").map_err(&damaged)? else {
        return Err(Error::format(
            path,
            "Keras's weights: an attribute layer_names, or a group layers",
            "neither",
            "save them with save_weights(\"NAME.weights.h5\")",
        ));
    };
    let mut out = WeightFile::bare(path, Format::KerasH5);
    if layers.len() > MANY {
        return Err(Error::format(path, format!("at most {MANY} layers"), "more", ""));
    }
    for layer in &layers {
        let group = root.group(layer).map_err(&damaged)?;
        for weight in strings(&group, "weight_names").map_err(&damaged)?.unwrap_or_default() {
            if out.tensors.len() >= MANY {
                return Err(Error::format(path, format!("at most {MANY} weights"), "more", ""));
            }
            let set = group.dataset(&weight).map_err(&damaged)?;
            let Some(values) = source.read(&set, &weight, is_weight(&weight))? else { continue };
            // `conv1_conv/kernel:0`; below a model that is itself a layer, or in older files, the
            // path has more parts, and the last two are the layer and the variable.
            let mut parts = weight.rsplit('/');
            let role = parts.next().unwrap_or(&weight);
            let role = role.split(':').next().unwrap_or(role);
            let name = format!("{}/{role}", parts.next().unwrap_or(layer));
            let shape = values.shape.clone();
            out.listing.push(Listed {
                name: format!("{layer}/{weight}"),
                shape,
                dtype: values.stored,
            });
            out.tensors.push(Tensor { name, shape: values.shape, values: values.values });
        }
    }
    if let Some(config) = config {
        source.parse(&config)?;
        out.epsilon = keras_config::epsilons(&config).into_iter().collect();
    }
    old_names::modernise(&mut out);
    Ok(out)
}
