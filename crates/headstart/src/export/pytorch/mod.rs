//! A net for PyTorch: its `state_dict` as `.safetensors`, and beside it the Python source of the `torch.nn.Module` that
//! loads it.
//!
//! Nets of torchvision have its names and shapes, so that `torchvision.models.resnet50` loads the file too. Keras's nets
//! compute something else than torchvision's, and their tensors have other names, so that neither passes for the other.

mod source;

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atomic::write_all;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::parameters::{Parameter, Role};
use crate::net::resnet::Naming;
use crate::net::weights::model_file::{self, ModelCard};
use crate::net::weights::torch_names::to_torch;

/// What every written module says of itself; a file without it is not replaced.
const MARK: &str = "Written by `headstart export`";

/// The module beside the weights: `photos.safetensors` has `photos_model.py`, `model.safetensors` has `model.py`. A name
/// that Python can import, and none of its own modules.
pub(super) fn module(weights: &Path) -> PathBuf {
    weights.with_file_name(format!("{}.py", module_name(weights)))
}

fn module_name(weights: &Path) -> String {
    let stem = weights.file_stem().unwrap_or_default().to_string_lossy();
    let mut name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if name != "model" && !name.ends_with("_model") {
        name.push_str("_model");
    }
    name
}

/// Writes both files, or none.
///
/// # Errors
/// If the module would replace a file that is none, or they cannot be written.
pub(super) fn write(model: &Model, path: &Path) -> Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        let found = path.display().to_string();
        return Err(Error::invalid("name of the file", "a name in UTF-8", found, ""));
    };
    let module = module(path);
    if !replaceable(&module) {
        let expected = "no file, or a module that export wrote";
        let hint = "this is where the net's Python goes; choose another name with --out, or move that file";
        return Err(Error::format(module, expected, "another file", hint));
    }
    let card = ModelCard { progress: None, ..model.card.clone() };
    let tensors = model.parameters.tensors.iter();
    let tensors = tensors.map(|t| (name_of(model, t), shape_of(t), bytes_of(t))).collect();
    let weights = model_file::encode(path, &card, tensors)?;
    let source = source::source(model, name, &module_name(path));
    write_all(&[(path, &weights), (&module, source.as_bytes())])
}

fn replaceable(module: &Path) -> bool {
    // Opening a pipe would wait for its other end.
    if module.metadata().is_ok_and(|meta| !meta.is_file()) {
        return false;
    }
    let mut start = Vec::new();
    match File::open(module).map(|file| file.take(1000).read_to_end(&mut start)) {
        Ok(_) => String::from_utf8_lossy(&start).contains(MARK),
        Err(_) => module.symlink_metadata().is_err(),
    }
}

/// The lines of Python that load the files.
pub(super) fn script(model: &Model, path: &Path) -> String {
    let quoted =
        |path: &Path| serde_json::to_string(&path.display().to_string()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut text = String::new();
    if let Some(folder) = folder {
        let _ = write!(text, "import sys\n\nsys.path.insert(0, {})\n", quoted(folder));
    }
    let _ = write!(
        text,
        "from {} import load, predict\n\nmodel = load()  # a torch.nn.Module in eval mode\n\
         print(predict(model, \"photo.jpg\"))\n",
        module_name(path)
    );
    if model.recipe.naming == Naming::Torchvision {
        let _ = write!(
            text,
            "\n# torchvision's own class takes the file too, and leaves pixel normalisation to you:\n\
             # import torchvision\n# from safetensors.torch import load_file\n\
             # model = torchvision.models.{}(num_classes={})\n\
             # model.load_state_dict(load_file({}))\n",
            model.recipe.name.trim_start_matches("torchvision-"),
            model.card.classes.len(),
            quoted(path)
        );
    }
    text
}

fn name_of(model: &Model, t: &Parameter) -> String {
    let kind = match t.role {
        Role::Kernel | Role::Gamma => "weight",
        Role::Bias | Role::Beta => "bias",
        Role::MovingMean => "running_mean",
        Role::MovingVariance => "running_var",
    };
    format!("{}.{kind}", to_torch(&model.net.graph.nodes[t.node].name))
}

/// Out x in x height x width, or out x in.
fn shape_of(t: &Parameter) -> Vec<usize> {
    match t.shape[..] {
        [height, width, inputs, out] => vec![out, inputs, height, width],
        [inputs, out] => vec![out, inputs],
        _ => t.shape.clone(),
    }
}

fn bytes_of(t: &Parameter) -> Vec<u8> {
    let (pixels, inputs, out) = match t.shape[..] {
        [height, width, inputs, out] => (height * width, inputs, out),
        [inputs, out] => (1, inputs, out),
        _ => return model_file::bytes(&t.values),
    };
    let mut bytes = Vec::with_capacity(size_of::<f32>() * t.values.len());
    for (o, c) in (0..out).flat_map(|o| (0..inputs).map(move |c| (o, c))) {
        for pixel in 0..pixels {
            bytes.extend(t.values[(pixel * inputs + c) * out + o].to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_names_that_python_imports() {
        for (weights, name) in [
            ("model.safetensors", "model.py"),
            ("runs/a/photos.safetensors", "runs/a/photos_model.py"),
            ("./types.safetensors", "./types_model.py"),
            ("my-net v1.2.safetensors", "my_net_v1_2_model.py"),
            ("2024.safetensors", "_2024_model.py"),
            ("a_model.safetensors", "a_model.py"),
            ("größe.safetensors", "gr__e_model.py"),
        ] {
            assert_eq!(module(Path::new(weights)), Path::new(name));
        }
    }
}
