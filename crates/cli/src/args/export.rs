//! Flags of the commands that turn models into other programs' files, and look at weight files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use headstart::export::WeightFormat;

/// What to export, and as what.
#[derive(Debug, Args)]
pub struct Export {
    /// Model file, or the name of a net for its ImageNet weights
    pub model: String,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// File to write: its name ends in .safetensors or .weights.h5
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// ImageNet weights with their 1000-class head, where MODEL names a net [default: imagenet]
    #[arg(long, value_name = "imagenet|FILE")]
    pub weights: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Other programs' files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// For PyTorch, with torchvision's names for its nets; Keras's names for the others
    Safetensors,
    /// Keras 3's .weights.h5
    Keras,
}

impl From<ExportFormat> for WeightFormat {
    fn from(format: ExportFormat) -> WeightFormat {
        match format {
            ExportFormat::Safetensors => WeightFormat::Safetensors,
            ExportFormat::Keras => WeightFormat::Keras,
        }
    }
}

/// Which weight file to look at.
#[derive(Debug, Args)]
pub struct WeightsInspect {
    /// Weight file: .h5, .keras, .pth, .safetensors, or a TensorFlow.js model.json
    pub file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
