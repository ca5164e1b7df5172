//! The weights that ship with the program.

use std::path::Path;

use super::{WeightFile, model_file};
use crate::error::Result;

/// What `--weights` calls them: the data they were trained on, as in Keras.
pub const CIFAR10: &str = "cifar10";
/// The net they are of.
pub const CIFAR10_MODEL: &str = "resnet20";

/// A `resnet20` that headstart trained on CIFAR-10 (`tools/sample/README.md`), rounded to half
/// precision: a whole model file, with its head of ten classes.
///
/// # Errors
/// If the program is damaged.
pub fn cifar10() -> Result<WeightFile> {
    let bytes = include_bytes!("../../../assets/resnet20-cifar10.safetensors");
    model_file::parse(Path::new(CIFAR10), bytes)
}
