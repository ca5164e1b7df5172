//! Flags of the commands that export models and inspect weight files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use headstart::range;

use super::use_model::Parts;
use super::values::within;

/// What each format is for, below the flags.
const FORMATS: &str = "\
Formats, and what loads them:
  pytorch  FILE.safetensors, a state_dict, and FILE_model.py, its
           torch.nn.Module: load() and predict() need torch and Pillow.
           Nets of torchvision also load with torchvision's
           resnet50(num_classes=N).load_state_dict(load_file(FILE)); Keras's
           nets compute something else. `safetensors` is the same.
  keras    FILE.weights.h5, for load_weights of the Keras 3 model that the
           printed lines build
  onnx     FILE.onnx, from the bytes of images to probabilities: onnxruntime,
           OpenVINO, TensorRT";

/// What to export, and as what.
#[derive(Debug, Args)]
#[command(after_help = FORMATS)]
pub struct Export {
    /// Model file, run folder, or the name of a net whose weights --weights gives
    pub model: String,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write: its name ends in .safetensors, .weights.h5 or .onnx
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Weights with their head, where MODEL names a net [default: imagenet, downloaded once; for
    /// resnet20 cifar10, inside the program]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// For onnx: 8-bit arithmetic; its value ranges and its accuracy are measured on --data
    #[arg(long, requires = "data")]
    pub int8: bool,
    /// For --int8: images, as for train
    #[arg(long, value_name = "PATH", requires = "int8")]
    pub data: Option<String>,
    /// For --int8: number of training images that the value ranges are measured on
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = within::<usize>(range::CALIBRATION_IMAGES))]
    pub calibration_images: usize,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten, next_help_heading = "Images that --int8 measures accuracy on")]
    pub parts: Parts,
}

/// File formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A state_dict as .safetensors, and beside it the source of its torch.nn.Module
    #[value(aliases = ["safetensors", "torch"])]
    Pytorch,
    /// Weights for Keras 3, .weights.h5
    Keras,
    /// A graph from the bytes of images to probabilities
    Onnx,
}

/// Which weight file to inspect.
#[derive(Debug, Args)]
pub struct WeightsInspect {
    /// Weight file: .h5, .keras, .pth, .safetensors, or a TensorFlow.js model.json
    pub file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
