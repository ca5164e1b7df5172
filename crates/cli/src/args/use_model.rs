//! Flags of the commands that run images through a model.

use std::path::PathBuf;

use clap::Args;
use headstart::config::DeviceChoice;
use headstart::evaluate::Given;
use headstart::image::Views;
use headstart::range;

use super::cache::CacheFlags;
use super::choices::{Interp, Pre, Prec, Split};
use super::fit::FitFlags;
use super::split::SplitFlags;
use super::values::within;

/// Which images of a data set.
#[derive(Debug, Args)]
pub struct Parts {
    /// Which images; auto: those held out when the model was trained, test before validation
    #[arg(long, value_enum, default_value_t = Split::Auto)]
    pub split: Split,
    /// Fraction held out for validation [default: as in the model's training, else 0.1 where needed]
    #[arg(long, value_name = "FRACTION")]
    pub validation_split: Option<f64>,
    /// Fraction split off for testing [default: as in the model's training, else 0]
    #[arg(long, value_name = "FRACTION")]
    pub test_split: Option<f64>,
    #[command(flatten)]
    pub by: SplitFlags,
    /// Seed of those splits [default: as in the model's training, else 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
}

impl Parts {
    /// How the caller wants images split.
    pub fn given(&self) -> Given {
        let Parts { validation_split, test_split, seed, .. } = *self;
        let (stratify, group) = (self.by.by_class(), self.by.group.clone());
        Given { validation_split, test_split, stratify, group, seed }
    }

    /// Whether these are validation images, or the training images besides.
    pub fn hold_out(&self) -> bool {
        matches!(self.split, Split::Validation | Split::Train)
    }
}

/// Settings of an evaluation.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model file, run folder, or the name of a net whose weights --weights gives
    pub model: String,
    /// Weights with their head, where MODEL names a net [default: imagenet, downloaded once; for
    /// resnet20 cifar10, inside the program]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Images, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    #[command(flatten)]
    pub parts: Parts,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Fit a temperature on the validation images and store it in the model file, for calibrated
    /// probabilities
    #[arg(long)]
    pub calibrate: bool,
    /// Test-time augmentation: average the probabilities of each image and its mirror image (mirror, if no
    /// value is given; not for digits and letters), of the image and its corners (corners), or of all these
    /// and the corners' mirror images (all), as predict --tta does
    #[arg(long, value_name = "VIEWS", default_value_t = Views::One, num_args = 0..=1, require_equals = true, default_missing_value = "mirror", hide_default_value = true)]
    pub tta: Views,
    /// Bootstrap resamples for the confidence intervals, 0 for none
    #[arg(long, value_name = "N", default_value_t = headstart::bootstrap::RESAMPLES, value_parser = within::<usize>(range::BOOTSTRAP))]
    pub bootstrap: usize,
    /// Seed of the resamples
    #[arg(long, value_name = "N", default_value_t = headstart::bootstrap::SEED, value_parser = within::<u32>(range::SEED))]
    pub bootstrap_seed: u32,
    /// Write a web page with the worst mistakes and the most confused classes
    #[arg(long, value_name = "FILE.html")]
    pub gallery: Option<PathBuf>,
    /// Number of worst mistakes in the gallery; each of the most confused pairs of classes has a row
    /// besides
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = within::<usize>(range::GALLERY_SIZE))]
    pub gallery_size: usize,
    /// Folder for report.json, report.txt, the confusion matrix and the reliability diagram
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write a row for each image: label, predicted class, probabilities; .csv, .json, .jsonl or .parquet
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a prediction.
#[derive(Debug, Args)]
pub struct Predict {
    /// Model file, run folder, or the name of a net whose weights --weights gives
    pub model: String,
    /// Image files, or folders of them
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<PathBuf>,
    /// Weights with their head, where MODEL names a net [default: imagenet, downloaded once; for
    /// resnet20 cifar10, inside the program]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Classes to name for each image [default: up to 5; as text, those of at least 1%]
    #[arg(long, value_name = "K", value_parser = within::<usize>(range::TOP_K))]
    pub top_k: Option<usize>,
    /// How images are resized [default: as in training]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Test-time augmentation: average the probabilities of each image and its mirror image (mirror, if no
    /// value is given; not for digits and letters), of the image and its corners (corners), or of all these
    /// and the corners' mirror images (all)
    #[arg(long, value_name = "VIEWS", default_value_t = Views::One, num_args = 0..=1, require_equals = true, default_missing_value = "mirror", hide_default_value = true)]
    pub tta: Views,
    /// Predict "unknown" where no class is at least this probable
    #[arg(long, value_name = "P")]
    pub threshold: Option<f32>,
    /// Write the predictions to a file instead: .csv, .json, .jsonl or .parquet
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub output: Option<PathBuf>,
    /// Make only this part of the work, as one of many jobs: the third of sixteen, or auto (auto/16 where the scheduler does not
    /// say how many there are) as Slurm's arrays, Kubernetes's indexed jobs and AWS Batch number them; --output
    /// is then a folder of parts, which `headstart merge` joins
    #[arg(long, value_name = "K/N|auto", requires = "output")]
    pub shard: Option<String>,
    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: usize,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Print one JSON object per image: class, index (its position in the model's list of classes, from 0), probability,
    /// and the same of the --top-k most probable
    #[arg(long)]
    pub json: bool,
}

/// Settings of feature extraction.
#[derive(Debug, Args)]
pub struct Features {
    /// Model file, run folder, or the name of a net
    pub model: String,
    /// Images, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// File to write: .safetensors, .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Weights, where MODEL names a net, as for train [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE|none")]
    pub weights: Option<String>,
    /// Make only this part of the work, as one of many jobs: the third of sixteen, or auto (auto/16 where the scheduler does not
    /// say how many there are) as Slurm's arrays, Kubernetes's indexed jobs and AWS Batch number them; --out is
    /// then a folder of parts, which `headstart merge` joins
    #[arg(long, value_name = "K/N|auto")]
    pub shard: Option<String>,
    /// Layer whose output is written [default: the global average pooling]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Which images
    #[arg(long, value_enum, default_value_t = Split::All)]
    pub split: Split,
    /// Fraction split off for testing, where the data has no test images of its own
    #[arg(long, value_name = "FRACTION")]
    pub test_split: Option<f64>,
    /// Seed of the splits [default: as in the model's training, else 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Upsample images by this factor, where MODEL names a net
    #[arg(long, value_name = "FACTOR", conflicts_with = "image_size", value_parser = within::<usize>(range::UPSAMPLE))]
    pub upsample: Option<usize>,
    /// Resize images to this size, where MODEL names a net [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized, where MODEL names a net [default: bilinear; for sample bicubic]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Pixel normalisation, where MODEL names a net [default: auto, what the weights expect]
    #[arg(long, value_enum)]
    pub preprocess: Option<Pre>,
    /// At most this many images
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a class activation map.
#[derive(Debug, Args)]
pub struct ExplainImage {
    /// Model file, run folder, or the name of a net whose weights --weights gives
    pub model: String,
    /// Image file
    pub image: PathBuf,
    /// Picture to write: the image, where the net saw the class, and the scale
    #[arg(long, value_name = "FILE.png")]
    pub out: PathBuf,
    /// Class to show [default: the predicted class]
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Weights with their head, where MODEL names a net [default: imagenet, downloaded once; for
    /// resnet20 cifar10, inside the program]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Print the map and the probabilities as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a search.
#[derive(Debug, Args)]
pub struct Similar {
    /// Model file, run folder, or the name of a net whose weights --weights gives
    pub model: String,
    /// Image file
    pub image: PathBuf,
    /// Images to search, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// Number of nearest images to name
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = within::<usize>(range::TOP_K))]
    pub top_k: usize,
    /// Weights with their head, where MODEL names a net [default: imagenet, downloaded once; for
    /// resnet20 cifar10, inside the program]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Write a web page with the images
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Settings of a probe.
#[derive(Debug, Args)]
pub struct Probe {
    /// Model file, run folder, or the name of a net
    pub model: String,
    /// Images, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// Weights, where MODEL names a net, as for train [default: imagenet; for resnet20 cifar10]. Several
    /// are compared: a head on the pooled features of each, by five-fold cross-validation
    #[arg(long, value_name = "imagenet|cifar10|FILE|none", num_args = 1..)]
    pub weights: Vec<String>,
    /// Resize images to this size, where MODEL names a net [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized, where MODEL names a net [default: bilinear; for sample bicubic]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Fraction of the images held out to compare the heads of stages on
    #[arg(long, value_name = "FRACTION", default_value_t = 0.2)]
    pub validation_split: f64,
    #[command(flatten)]
    pub split: SplitFlags,
    /// L2 penalty of the heads' kernels
    #[arg(long, value_name = "L2", default_value_t = 3e-4)]
    pub l2: f64,
    /// At most this many training images
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}
