//! Weights for other frameworks: a `state_dict` with its module for PyTorch, `.weights.h5` for Keras, and the lines of
//! Python that load them.

use std::path::{Path, PathBuf};

use hdf5_pure::{AttrValue, FileBuilder};

use super::{ending, keras_script, pytorch};
use crate::atomic::write_bytes;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::weights::kinds;

/// What weights are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// `.safetensors`, a `state_dict`, and beside it a `.py` with the `torch.nn.Module` that loads it; see
    /// [`WeightFormat::files`]. `torchvision.models.resnet50(...).load_state_dict` takes the weights of torchvision's nets
    /// too. The `.safetensors` is also a headstart model file.
    Pytorch,
    /// `.weights.h5`, as Keras 3's `load_weights` takes it for the model that [`script`] builds.
    Keras,
}

impl WeightFormat {
    /// How its files must end.
    pub fn ending(self) -> &'static str {
        match self {
            WeightFormat::Pytorch => ".safetensors",
            WeightFormat::Keras => ".weights.h5",
        }
    }

    /// Checks a file's name.
    ///
    /// # Errors
    /// If it ends otherwise: Keras and PyTorch's loaders go by it.
    pub fn check_ending(self, path: &Path) -> Result<()> {
        ending::check(path, self.ending())
    }

    /// The files that [`write_weights`] writes for `path`, itself first.
    pub fn files(self, path: &Path) -> Vec<PathBuf> {
        match self {
            WeightFormat::Pytorch => vec![path.to_path_buf(), pytorch::module(path)],
            WeightFormat::Keras => vec![path.to_path_buf()],
        }
    }
}

/// Writes a model's weights, and what goes with them, completely or not at all.
///
/// # Errors
/// If the file's name does not suit the format, a file that is no export's would be replaced beside it, or it cannot be
/// written.
pub fn write_weights(model: &Model, format: WeightFormat, path: &Path) -> Result<()> {
    format.check_ending(path)?;
    match format {
        WeightFormat::Keras => write_bytes(path, &keras(model, path)?),
        WeightFormat::Pytorch => pytorch::write(model, path),
    }
}

/// The lines of Python that load the written files.
pub fn script(model: &Model, format: WeightFormat, path: &Path) -> String {
    match format {
        WeightFormat::Keras => {
            let file = serde_json::to_string(&path.display().to_string()).unwrap_or_default();
            keras_script::script(model, &file)
        }
        WeightFormat::Pytorch => pytorch::script(model, path),
    }
}

/// The groups that Keras 3's `save_weights` writes for the model of the script: `layers/conv2d_3/vars/0`.
fn keras(model: &Model, path: &Path) -> Result<Vec<u8>> {
    let graph = &model.net.graph;
    let names = kinds::names(graph);
    let mut file = FileBuilder::new();
    let mut layers = file.create_group("layers");
    for (id, node) in graph.nodes.iter().enumerate() {
        let (Some(kind), Some(class)) = (names.get(&id), kinds::class(node.op)) else { continue };
        let mut layer = layers.create_group(kind);
        let mut variables = layer.create_group("vars");
        variables.set_attr("name", AttrValue::String(node.name.clone()));
        for (i, &role) in kinds::roles(class).iter().enumerate() {
            let Some(t) = model.parameters.get(id, role) else { continue };
            let shape: Vec<u64> = t.shape.iter().map(|&d| d as u64).collect();
            // A softmax layer has no temperature: its scores, which are linear in its weights, come divided by it.
            let values: Vec<f32> = match model.card.temperature {
                Some(by) if id == model.logits() => {
                    t.values.iter().map(|&v| (f64::from(v) / by) as f32).collect()
                }
                _ => t.values.to_vec(),
            };
            variables.create_dataset(&i.to_string()).with_f32_data(&values).with_shape(&shape);
        }
        layer.add_group(variables.finish());
        layers.add_group(layer.finish());
    }
    file.add_group(layers.finish());
    let root = file.create_group("vars");
    file.add_group(root.finish());
    file.finish().map_err(|e| Error::format(path, "weights that can be written", e.to_string(), ""))
}
