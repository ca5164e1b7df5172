//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use headstart::config::{OptimizerName, Precision};
use headstart::image::Interpolation;
use headstart::init::HeadInit;
use headstart::preprocess::Preprocess;

/// Transfer learning for image classifiers: train a head on a frozen ResNet, fine-tune it, use it.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier on labelled images: the head first, then the net from a layer on
    Train(Box<Train>),
    /// Evaluate a model file on labelled images
    Evaluate(Evaluate),
    /// Classify images
    Predict(Predict),
    /// Write what the net makes of images, one vector each, to a file
    Features(Features),
    /// List a net's layers
    Summary(Summary),
    /// List the steps that a net runs, with shapes, operations and bytes
    Explain(Explain),
    /// Measure how fast a net runs
    Bench(Bench),
    /// Draw a run's curves and confusion matrix anew
    Plot(Plot),
}

/// Settings of a run. What is not given is taken from --config, then from the defaults.
#[derive(Debug, Args)]
pub struct Train {
    /// Images: a folder or .tar.gz with a folder per class (below train/ and test/, or split by
    /// --test-split), CIFAR-10's binary files, or synthetic:CLASSESxIMAGESxSIZE
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    /// Net [default: resnet50]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from: a Keras .h5 or headstart .safetensors file, or none
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Epochs of the head over the frozen net [default: 5]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// First layer to fine-tune, as `headstart summary` lists them [default: do not fine-tune]
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Epochs of fine-tuning [default: 5]
    #[arg(long, value_name = "N")]
    pub fine_tune_epochs: Option<usize>,
    /// Images a step [default: 20]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Update rule [default: rmsprop]
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// SGD's momentum [default: 0]
    #[arg(long, value_name = "M")]
    pub momentum: Option<f32>,
    /// Nesterov's variant of momentum
    #[arg(long)]
    pub nesterov: bool,
    /// RMSprop's share of the old mean square [default: 0.9]
    #[arg(long, value_name = "RHO")]
    pub rho: Option<f32>,
    /// Step size of the head's epochs [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f32>,
    /// Step size of fine-tuning [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub fine_tune_learning_rate: Option<f32>,
    /// Enlarge images of one size by this factor, by nearest neighbour. --image-size 224
    /// --interpolation bicubic is slower to load and more accurate on small images (CIFAR-10, linear
    /// head on 4,000 images: 0.79 instead of 0.69)
    #[arg(long, value_name = "FACTOR", conflicts_with = "image_size")]
    pub upsample: Option<usize>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// How images are resized [default: bilinear]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    /// Pixel normalisation [default: auto, what the weights expect]
    #[arg(long, value_enum)]
    pub preprocess: Option<Pre>,
    /// Take images in the same order every epoch
    #[arg(long)]
    pub no_shuffle: bool,
    /// How the head's kernel starts [default: glorot-uniform]
    #[arg(long, value_enum)]
    pub head_init: Option<Head>,
    /// Share of the training images held out for validation [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub validation_split: Option<f64>,
    /// Share of the images split off for testing, where the data has no test images [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub test_split: Option<f64>,
    /// What every random choice follows from [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Train on so many images only, every class in proportion
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Threads; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Most megabytes for the kept outputs of frozen layers [default: half of the free memory]
    #[arg(long, value_name = "MB")]
    pub cache_memory: Option<u64>,
    /// Folder for what the run leaves [default: runs/train, then runs/train2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Use the folder even if it has files in it
    #[arg(long, requires = "out")]
    pub exist_ok: bool,
    /// Read settings from a file, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of an evaluation.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model file
    pub model: PathBuf,
    /// Images, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// Which images
    #[arg(long, value_enum, default_value_t = Split::Auto)]
    pub split: Split,
    /// Share that --split validation holds out
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    pub validation_split: f64,
    /// Share that was split off for testing
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub test_split: f64,
    /// Seed of those splits
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u32,
    /// Images that go through the net together
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch_size: usize,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a prediction.
#[derive(Debug, Args)]
pub struct Predict {
    /// Model file, or the name of a net whose ImageNet weights --weights gives
    pub model: String,
    /// Image files, or folders of them
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<PathBuf>,
    /// ImageNet weights, with their 1000-class head
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Classes to print for each image
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top_k: usize,
    /// How images are resized [default: as in training]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// Print one JSON object per image
    #[arg(long)]
    pub json: bool,
}

/// Settings of feature extraction.
#[derive(Debug, Args)]
pub struct Features {
    /// Model file, or the name of a net whose weights --weights gives
    pub model: String,
    /// Images, as for train
    #[arg(long, value_name = "PATH")]
    pub data: String,
    /// File to write: .safetensors, .npy or .csv
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Weights, where MODEL names a net
    #[arg(long, value_name = "FILE|none")]
    pub weights: Option<String>,
    /// Layer whose output is written [default: the global average pooling]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Which images
    #[arg(long, value_enum, default_value_t = Split::All)]
    pub split: Split,
    /// Enlarge images by this factor, where MODEL names a net
    #[arg(long, value_name = "FACTOR", conflicts_with = "image_size")]
    pub upsample: Option<usize>,
    /// Resize images to this size, where MODEL names a net
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// How images are resized, where MODEL names a net
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    /// Pixel normalisation, where MODEL names a net
    #[arg(long, value_enum)]
    pub preprocess: Option<Pre>,
    /// At most so many images
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a listing.
#[derive(Debug, Args)]
pub struct Summary {
    /// Net
    pub model: String,
    /// Freeze the layers before this one, and add enlargement and head as the article does
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Add a head for so many classes [default with --fine-tune-at: 10]
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
    /// Height and width of the images that enter the net [default: what it was trained on]
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Add an enlargement before the net
    #[arg(long, value_name = "FACTOR")]
    pub upsample: Option<usize>,
    /// Print a JSON array of layers
    #[arg(long)]
    pub json: bool,
}

/// Settings of an explanation.
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub work: Work,
    /// Run it and add milliseconds and the share of the machine's measured peak
    #[arg(long)]
    pub measure: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a measurement.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub work: Work,
    /// Repetitions; the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repeat: usize,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which work to explain or measure.
#[derive(Debug, Args)]
pub struct Work {
    /// Net
    #[arg(long, value_name = "NAME", default_value = "resnet50")]
    pub model: String,
    /// Which part of the job
    #[arg(long, value_enum, default_value_t = PhaseArg::Forward)]
    pub phase: PhaseArg,
    /// First layer that trains, in the fine-tune phase
    #[arg(long, value_name = "INDEX|NAME", default_value = "100")]
    pub fine_tune_at: String,
    /// Leave out the frozen layers, as if their outputs were kept
    #[arg(long)]
    pub cached: bool,
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub batch_size: usize,
    /// Height and width of images before enlargement
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    pub image_size: usize,
    /// Enlargement
    #[arg(long, value_name = "FACTOR", default_value_t = 7)]
    pub upsample: usize,
    /// Classes of the head
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub classes: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
}

/// Settings of drawing.
#[derive(Debug, Args)]
pub struct Plot {
    /// Folder of a run
    pub run: PathBuf,
}

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// The test images, or all where there are none.
    Auto,
    /// Training images.
    Train,
    /// Validation images.
    Validation,
    /// Test images.
    Test,
    /// All of them.
    All,
}

/// Which part of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PhaseArg {
    /// Inference.
    Forward,
    /// Frozen net, training head.
    Head,
    /// Training from a layer on.
    FineTune,
    /// Training everything.
    Full,
}

impl PhaseArg {
    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            PhaseArg::Forward => "forward",
            PhaseArg::Head => "head",
            PhaseArg::FineTune => "fine-tune",
            PhaseArg::Full => "full",
        }
    }
}

/// Declares a flag's choices and what they stand for in the library.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident => $target:ty { $($(#[$item:meta])* $variant:ident => $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl From<$name> for $target {
            fn from(choice: $name) -> $target {
                match choice { $($name::$variant => $value,)* }
            }
        }
    };
}

choices! {
    /// Update rules.
    Optimizer => OptimizerName {
        Rmsprop => OptimizerName::Rmsprop,
        Sgd => OptimizerName::Sgd,
    }
}
choices! {
    /// How images are resized.
    Interp => Interpolation {
        Nearest => Interpolation::Nearest,
        Bilinear => Interpolation::Bilinear,
        Bicubic => Interpolation::Bicubic,
    }
}
choices! {
    /// Pixel normalisations.
    Pre => Option<Preprocess> {
        /// What the weights expect.
        Auto => None,
        /// BGR minus the ImageNet means, as Keras's v1 nets.
        Caffe => Some(Preprocess::Caffe),
        /// RGB minus mean over deviation, as torchvision.
        Torch => Some(Preprocess::Torch),
        /// -1 to 1, as Keras's v2 nets.
        Tf => Some(Preprocess::Tf),
        /// 0 to 1, as the article.
        Unit => Some(Preprocess::Unit),
    }
}
choices! {
    /// How the head's kernel starts.
    Head => HeadInit {
        GlorotUniform => HeadInit::GlorotUniform,
        Zeros => HeadInit::Zeros,
    }
}
choices! {
    /// Arithmetic.
    Prec => Precision {
        /// The best for this machine.
        Auto => Precision::Auto,
        /// 32-bit floats.
        F32 => Precision::F32,
    }
}
