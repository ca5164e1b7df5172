//! What the name of an exported file must end in, and what to do instead where another ending was meant.

use std::path::Path;

use crate::error::{Error, Result};

/// What comes after the last dot of a file's name, in lower case; empty where there is none.
pub(super) fn of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Fails unless the file's name is more than `ending` and ends in it.
///
/// # Errors
/// Names the file; the hint is the way to what the name seems to ask for.
pub(super) fn check(path: &Path, ending: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.len() > ending.len() && name.to_lowercase().ends_with(ending) {
        return Ok(());
    }
    let expected = format!("a name that ends in {ending}");
    Err(Error::invalid(path.display().to_string(), expected, &*name, way(&name)))
}

/// How to make a file of that name.
fn way(name: &str) -> &'static str {
    const WAYS: [(&[&str], &str); 6] = [
        (&[".onnx"], "--format onnx writes it"),
        (&[".weights.h5"], "--format keras writes it"),
        (&[".safetensors"], "--format pytorch writes it"),
        (
            &[".pth", ".pt", ".ckpt", ".bin"],
            "take --format pytorch and a name in .safetensors; in Python, torch.save(load().state_dict(), \"NAME.pth\") \
             makes a .pth of it",
        ),
        (
            &[".keras", ".h5"],
            "take --format keras and a name in .weights.h5; in Python, after the lines that it prints, \
             model.save(\"NAME.keras\") makes a whole model of it",
        ),
        (
            &[".engine", ".plan", ".xml", ".ort"],
            "take --format onnx; the tools of TensorRT, OpenVINO and onnxruntime convert its file",
        ),
    ];
    let name = name.to_lowercase();
    let fits = |(endings, _): &&(&[&str], &str)| endings.iter().any(|e| name.ends_with(e));
    WAYS.iter().find(fits).map_or("", |(_, way)| way)
}
