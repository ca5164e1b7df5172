//! The weights inside the program.

use std::path::Path;

use super::{WeightFile, model_file};
use crate::error::Result;

/// Their name for `--weights`: the data they were trained on, as in Keras.
pub const CIFAR10: &str = "cifar10";
/// Their net.
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
