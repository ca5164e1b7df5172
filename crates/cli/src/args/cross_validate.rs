//! Flags of a cross-validation.

use std::path::PathBuf;

use clap::Args;
use headstart::config::DeviceChoice;
use headstart::range;

use super::cache::CacheFlags;
use super::choices::{Interp, Optimizer, Prec};
use super::fit::FitFlags;
use super::split::SplitFlags;
use super::values::within;

/// What is cross-validated. A head is fitted with L-BFGS on features of the frozen net, unless --epochs,
/// --fine-tune-at or --config ask for training; then every fold is a run.
#[derive(Debug, Args)]
pub struct CrossValidate {
    /// Images, as for train; the data's own validation and test images take no part
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: Option<String>,
    /// Number of folds [default: 5, or as many as the images of the largest class, or groups, allow]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::FOLDS))]
    pub folds: Option<usize>,
    #[command(flatten)]
    pub split: SplitFlags,
    /// Seed of the folds, scikit-learn's random_state, and of every other random choice [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Fraction of the other folds' images that give the temperature or the best epoch [default: 0.1]
    #[arg(long, value_name = "FRACTION")]
    pub validation_split: Option<f64>,
    /// Use at most this many images, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from, as for train [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE|none")]
    pub weights: Option<String>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized [default: bilinear]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// L2 penalty of the fitted head [default: the one of least loss by cross-validation within each
    /// fold's training images]
    #[arg(long, value_name = "L2")]
    pub head_l2: Option<f64>,
    /// Train the head for this many epochs instead of fitting it
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::EPOCHS))]
    pub epochs: Option<usize>,
    /// Also fine-tune in every fold, from this layer on
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Epochs of fine-tuning [default: 5]
    #[arg(long, value_name = "N", requires = "fine_tune_at", value_parser = within::<usize>(range::FINE_TUNE_EPOCHS))]
    pub fine_tune_epochs: Option<usize>,
    /// Learning rate of fine-tuning [default: 1e-4]
    #[arg(long, value_name = "RATE", requires = "fine_tune_at")]
    pub fine_tune_learning_rate: Option<f32>,
    /// Learning rate of --epochs [default: 1e-4]
    #[arg(long, value_name = "RATE", requires = "epochs")]
    pub learning_rate: Option<f32>,
    /// Optimizer [default: rmsprop]
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// Batch size [default: 20]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: Option<usize>,
    /// Read all settings from a file, such as a run's config.toml; the flags here override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the out-of-fold predictions: file, label, predicted, fold, probability of each class
    #[arg(long, value_name = "FILE.csv")]
    pub output: Option<PathBuf>,
    /// Keep the run folders of folds that are trained, below this one, as fold1, fold2, ...
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists [default: auto]
    #[arg(long, value_name = "NAME")]
    pub device: Option<DeviceChoice>,
    /// Threads; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
