//! Weights for other frameworks: `.safetensors` for PyTorch, `.weights.h5` for Keras, and the lines of
//! Python that load them.

use std::fmt::Write;
use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder};

use super::keras_script;
use crate::atomic::write_bytes;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::parameters::{Parameter, Role};
use crate::net::resnet::Naming;
use crate::net::weights::{kinds, model_file};

/// What weights are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// `.safetensors`. Nets of torchvision get PyTorch's names and layouts, as
    /// `torchvision.models.resnet50(...).load_state_dict` takes them; other nets keep Keras's. Both are also
    /// headstart model files.
    Safetensors,
    /// `.weights.h5`, as Keras 3's `load_weights` takes it for the model that [`script`] builds.
    Keras,
}

impl WeightFormat {
    /// How its files must end.
    pub fn ending(self) -> &'static str {
        match self {
            WeightFormat::Safetensors => ".safetensors",
            WeightFormat::Keras => ".weights.h5",
        }
    }

    /// Checks a file's name.
    ///
    /// # Errors
    /// If it ends otherwise: Keras and PyTorch's loaders go by it.
    pub fn check_ending(self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.len() > self.ending().len() && name.ends_with(self.ending()) {
            return Ok(());
        }
        let expected = format!("a name that ends in {}", self.ending());
        Err(Error::invalid(path.display().to_string(), expected, name, ""))
    }
}

/// Writes a model's weights, completely or not at all.
///
/// # Errors
/// If the file's name does not suit the format, or it cannot be written.
pub fn write_weights(model: &Model, format: WeightFormat, path: &Path) -> Result<()> {
    format.check_ending(path)?;
    match format {
        WeightFormat::Keras => write_bytes(path, &keras(model, path)?),
        WeightFormat::Safetensors => {
            let card = model_file::ModelCard { progress: None, ..model.card.clone() };
            let torch = model.recipe.naming == Naming::Torchvision;
            let tensors = model.parameters.tensors.iter().map(|t| match torch {
                true => (torch_name(model, t), torch_shape(t), torch_bytes(t)),
                false => (t.name.clone(), t.shape.clone(), model_file::bytes(&t.values)),
            });
            model_file::write_tensors(path, &card, tensors.collect())
        }
    }
}

/// The lines of Python that load the written file.
pub fn script(model: &Model, format: WeightFormat, path: &Path) -> String {
    let file = serde_json::to_string(&path.display().to_string()).unwrap_or_default();
    let torch = model.recipe.naming == Naming::Torchvision;
    let mut text = String::new();
    let _ = match (format, torch) {
        (WeightFormat::Keras, _) => write!(text, "{}", keras_script::script(model, &file)),
        (WeightFormat::Safetensors, true) => write!(
            text,
            "import torchvision\nfrom safetensors.torch import load_file\n\n\
             model = torchvision.models.{}(num_classes={})\nmodel.load_state_dict(load_file({file}))\n\
             model.eval()\n",
            model.recipe.name.trim_start_matches("torchvision-"),
            model.card.classes.len(),
        ),
        (WeightFormat::Safetensors, false) => write!(
            text,
            "from safetensors.numpy import load_file\n\n\
             weights = load_file({file})  # \"conv1_conv/kernel\" and so on, in Keras's layouts\n",
        ),
    };
    text
}

fn torch_name(model: &Model, t: &Parameter) -> String {
    let kind = match t.role {
        Role::Kernel | Role::Gamma => "weight",
        Role::Bias | Role::Beta => "bias",
        Role::MovingMean => "running_mean",
        Role::MovingVariance => "running_var",
    };
    format!("{}.{kind}", model.net.graph.nodes[t.node].name)
}

/// Out x in x height x width, or out x in.
fn torch_shape(t: &Parameter) -> Vec<usize> {
    match t.shape[..] {
        [height, width, inputs, out] => vec![out, inputs, height, width],
        [inputs, out] => vec![out, inputs],
        _ => t.shape.clone(),
    }
}

fn torch_bytes(t: &Parameter) -> Vec<u8> {
    let (pixels, inputs, out) = match t.shape[..] {
        [height, width, inputs, out] => (height * width, inputs, out),
        [inputs, out] => (1, inputs, out),
        _ => return model_file::bytes(&t.values),
    };
    let source = |i: usize| {
        let (o, rest) = (i / (inputs * pixels), i % (inputs * pixels));
        let (c, pixel) = (rest / pixels, rest % pixels);
        t.values[(pixel * inputs + c) * out + o]
    };
    model_file::bytes(&(0..t.values.len()).map(source).collect::<Vec<f32>>())
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
            variables.create_dataset(&i.to_string()).with_f32_data(&t.values).with_shape(&shape);
        }
        layer.add_group(variables.finish());
        layers.add_group(layer.finish());
    }
    file.add_group(layers.finish());
    let root = file.create_group("vars");
    file.add_group(root.finish());
    file.finish().map_err(|e| Error::format(path, "weights that can be written", e.to_string(), ""))
}
