//! Every setting of a training run, as config.toml holds them.
//!
//! ```
//! use headstart::config::TrainConfig;
//!
//! let config = TrainConfig { data: "photos".into(), epochs: 3, ..TrainConfig::default() };
//! config.check()?;
//! assert!(config.to_toml()?.contains("epochs = 3"));
//! # Ok::<(), headstart::Error>(())
//! ```

mod check;
mod choices;
mod effective;
mod file;
mod flags;
mod job;
mod time;
mod unfreeze;

use serde::{Deserialize, Serialize};

use crate::data::augment::Augmentation;
use crate::data::dataset::{self, Grouping};
use crate::data::image::{Decode, Fit, FitName, Interpolation};
use crate::engine::optimizer::DecayOf;
use crate::measure::monitor::Monitor;
use crate::net::init::HeadInit;
use crate::net::preprocess::Preprocess;
use crate::net::weights::embedded::{CIFAR10, CIFAR10_MODEL};
use crate::train::class_weight::ClassWeight;

pub use choices::{DeviceChoice, HeadSolver, OptimizerName, Precision, ScheduleName};
pub use flags::shell_words;
pub(in crate::session) use flags::word;
pub use job::{precision_of_run, trained_layers};
pub use time::Time;
pub use unfreeze::Unfreeze;

/// The settings of `headstart train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Where images come from.
    pub data: String,
    /// Name of the net.
    pub model: String,
    /// A weight file, "imagenet", "cifar10" (inside the program) or "none".
    pub weights: String,
    /// Epochs of the head over the frozen net.
    pub epochs: usize,
    /// First layer to fine-tune, by index or name; none to train the head only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tune_at: Option<String>,
    /// Epochs of fine-tuning.
    pub fine_tune_epochs: usize,
    /// All phases, in order, instead of the head's and one of fine-tuning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfreeze: Vec<Unfreeze>,
    /// Whether batch norm stays in inference mode in layers that are fine-tuned.
    pub freeze_bn: bool,
    /// Batch size.
    pub batch_size: usize,
    /// Batches whose gradients are accumulated for one update.
    pub accumulate: usize,
    /// How many replicas a batch is cut into, each with batch norm statistics of its own, as in data-parallel training.
    pub replicas: usize,
    /// "rmsprop", "sgd", "adam" or "adamw".
    pub optimizer: OptimizerName,
    /// RMSprop's decay of the mean square.
    pub rho: f32,
    /// SGD's momentum.
    pub momentum: f32,
    /// Nesterov's variant of momentum.
    pub nesterov: bool,
    /// Adam's decay of the mean gradient.
    pub beta_1: f32,
    /// Adam's decay of the mean square.
    pub beta_2: f32,
    /// Decoupled weight decay: fraction of the learning rate by which weights shrink at each step; none for
    /// the optimizer's own: 0.004 for AdamW, 0 for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f32>,
    /// Which weights have weight decay.
    pub decay_of: DecayOf,
    /// Learning rate of the first phase; with a schedule, the largest.
    pub learning_rate: f32,
    /// Learning rate of fine-tuning; with a schedule, the largest.
    pub fine_tune_learning_rate: f32,
    /// Images of an update for which the learning rates are meant: they are multiplied by those of this run's updates over this
    /// number, with a warm-up (Goyal et al. 2017). None to take them as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_learning_rate: Option<usize>,
    /// Factor between the learning rate of each stage of the net and that of the stage after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f32>,
    /// How the learning rate changes over each phase.
    pub schedule: ScheduleName,
    /// Epochs at the start of each phase in which the learning rate rises from 0; in a one-cycle schedule those
    /// of its rise, where 0 means 3 tenths of the phase.
    pub warmup_epochs: f32,
    /// Where a cosine schedule ends, as a fraction of the largest learning rate.
    pub schedule_alpha: f32,
    /// Factor by which a step or plateau schedule multiplies the learning rate.
    pub schedule_factor: f32,
    /// Epochs between two drops of a step schedule; none for a third of the phase, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_epochs: Option<usize>,
    /// Epochs without improvement of the loss before a plateau schedule drops.
    pub plateau_patience: usize,
    /// Smallest learning rate of a plateau schedule.
    pub min_learning_rate: f32,
    /// The metric by which epochs are compared.
    pub monitor: Monitor,
    /// Differences in that metric up to this one are chance: a phase is represented by the last of its epochs within it of the best.
    #[serde(skip_serializing_if = "is_none")]
    pub best_within: f64,
    /// Epochs without improvement after which a phase ends, with the weights of its best epoch; none for all
    /// of its epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Training ends when the run has taken this long ([`Settings::max_time`]), as `20m`.
    ///
    /// [`Settings::max_time`]: crate::train::trainer::Settings::max_time
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Time>,
    /// By how much the metric must improve on the best to count; none for 0, or 0.0001 in a
    /// plateau schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_delta: Option<f64>,
    /// Decay of the EMA weights, where these are evaluated and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f32>,
    /// Dropout rate of the pooled features before the head.
    pub dropout: f32,
    /// Weight of each class in the training loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weight: Option<ClassWeight>,
    /// Fraction of each training label that is spread over all classes.
    pub label_smoothing: f32,
    /// Largest global norm of the gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Largest element of a gradient, without its sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f32>,
    /// Whether every class is trained on equally often.
    pub balance: bool,
    /// Augmentations of training images, in order.
    pub augment: Vec<Augmentation>,
    /// Parameter of the Beta distribution by which mixup mixes images of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f32>,
    /// Parameter of the Beta distribution by which CutMix does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f32>,
    /// Nearest-neighbour upsampling factor inside the net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
    /// Size to which images are resized before they enter the net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Size of training images in gradient steps, where it is not that of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_size: Option<usize>,
    /// How images are resized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// What becomes of images of other proportions; none to stretch them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitName>,
    /// Part of the shorter side that `fit = "crop"` keeps; none for 0.875.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_share: Option<f64>,
    /// How JPEGs are decoded.
    pub decode: Decode,
    /// Pixel normalisation; none for what the weights expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Whether images are shuffled in every epoch.
    pub shuffle: bool,
    /// Initialisation of the head's kernel.
    pub head_init: HeadInit,
    /// How the head is trained over the frozen net; "lbfgs" takes one epoch, whatever `epochs` says.
    pub head_solver: HeadSolver,
    /// L2 penalty of the head's kernel for "lbfgs"; none for the one with the least validation loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_l2: Option<f64>,
    /// Fraction of the training images held out.
    pub validation_split: f64,
    /// Fraction of the images split off for testing.
    pub test_split: f64,
    /// Whether both splits keep every class in proportion.
    pub stratify: bool,
    /// Which images no split may tear apart: a column of the table that lists them, "folder" or "duplicates".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Grouping>,
    /// Whether the temperature of the model's probabilities is fitted on the validation images at the end.
    pub calibrate: bool,
    /// Whether a head fitted with L-BFGS, where it is the best model, is fitted again at the run's end on the training and
    /// validation images together, for the same L2 penalty; only where there are test images to measure it on.
    pub refit: bool,
    /// Whether a head that L-BFGS fits is fitted on mirror images too.
    pub head_mirror: bool,
    /// Whether such a head is fitted on the corners of images too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub head_crops: bool,
    /// Most training images that a head is fitted on with L-BFGS, of each class in proportion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_images: Option<usize>,
    /// Seed of every random choice.
    pub seed: u32,
    /// Most training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Arithmetic.
    pub precision: Precision,
    /// Where nets run.
    pub device: DeviceChoice,
    /// Threads, 0 for one per core; results do not depend on it.
    pub threads: usize,
    /// Most megabytes for cached features of frozen layers; none for half of the free memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_memory: Option<u64>,
    /// Whether TensorBoard's event files are written beside results.csv.
    pub tensorboard: bool,
}

/// The settings of the Keras tutorial "Supercharge Your AI: ResNet50 Transfer Learning Unleashed", for other data.
/// Whether nothing counts as chance.
fn is_none(within: &f64) -> bool {
    *within == 0.0
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            data: "sample".into(),
            model: "resnet50".into(),
            weights: "imagenet".into(),
            epochs: 5,
            fine_tune_at: None,
            fine_tune_epochs: 5,
            unfreeze: Vec::new(),
            freeze_bn: false,
            batch_size: 20,
            accumulate: 1,
            replicas: 1,
            scale_learning_rate: None,
            optimizer: OptimizerName::Rmsprop,
            rho: 0.9,
            momentum: 0.0,
            nesterov: false,
            beta_1: 0.9,
            beta_2: 0.999,
            weight_decay: None,
            decay_of: DecayOf::All,
            learning_rate: 1e-4,
            fine_tune_learning_rate: 1e-4,
            layer_decay: None,
            schedule: ScheduleName::Constant,
            warmup_epochs: 0.0,
            schedule_alpha: 0.0,
            schedule_factor: 0.1,
            step_epochs: None,
            plateau_patience: 10,
            min_learning_rate: 0.0,
            monitor: Monitor::Accuracy,
            best_within: 0.0,
            patience: None,
            max_time: None,
            min_delta: None,
            ema: None,
            dropout: 0.0,
            class_weight: None,
            label_smoothing: 0.0,
            clip_norm: None,
            clip_value: None,
            balance: false,
            augment: Vec::new(),
            mixup: None,
            cutmix: None,
            upsample: None,
            image_size: None,
            train_size: None,
            interpolation: None,
            fit: None,
            crop_share: None,
            decode: Decode::Reduced,
            preprocess: None,
            shuffle: true,
            head_init: HeadInit::GlorotUniform,
            head_solver: HeadSolver::Gradient,
            head_l2: None,
            validation_split: 0.1,
            test_split: 0.0,
            stratify: false,
            group: None,
            calibrate: true,
            refit: false,
            head_mirror: false,
            head_crops: false,
            head_images: None,
            seed: 42,
            limit: None,
            precision: Precision::Auto,
            device: DeviceChoice::Auto,
            threads: 0,
            cache_memory: None,
            tensorboard: false,
        }
    }
}

impl TrainConfig {
    /// Settings that need no network: the digits and the net inside the program, first a head, then everything
    /// from the net's second stage on, in about a minute on two cores.
    pub fn sample() -> TrainConfig {
        TrainConfig {
            data: dataset::SAMPLE.into(),
            model: CIFAR10_MODEL.into(),
            weights: CIFAR10.into(),
            epochs: 30,
            fine_tune_at: Some("conv3_block1_1_conv".into()),
            fine_tune_epochs: 8,
            batch_size: 32,
            optimizer: OptimizerName::Adam,
            learning_rate: 1e-2,
            fine_tune_learning_rate: 1e-3,
            schedule: ScheduleName::Cosine,
            image_size: Some(32),
            interpolation: Some(Interpolation::Bicubic),
            ..TrainConfig::default()
        }
    }

    /// What becomes of images of other proportions.
    pub fn fit(&self) -> Fit {
        self.fit.unwrap_or_default().with(self.crop_share)
    }

    /// The defaults for a given data set and net: [`TrainConfig::sample`] where both are its own or left out, else
    /// the Keras tutorial's settings (with the weights inside the program for their net).
    pub fn defaults(data: Option<&str>, model: Option<&str>) -> TrainConfig {
        let sample = TrainConfig::sample();
        let own = |given: Option<&str>, own: &str| given.is_none_or(|text| text == own);
        if own(data, &sample.data) && own(model, &sample.model) {
            return sample;
        }
        let article = TrainConfig::default();
        match model {
            Some(CIFAR10_MODEL) => TrainConfig { weights: CIFAR10.into(), ..article },
            _ => article,
        }
    }
}
