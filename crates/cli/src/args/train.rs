//! Flags of the commands that train and draw what was trained.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use headstart::augment::List;
use headstart::config::DeviceChoice;
use headstart::config::{Time, Unfreeze};
use headstart::range;
use headstart::recipe::RecipeName;

use super::cache::CacheFlags;
use super::choices::{Decay, Head, Interp, Optimizer, Pre, Prec, Sched, Solver, Watched};
use super::fit::FitFlags;
use super::split::SplitFlags;
use super::values::{BatchSize, batch_size, budget, pause, within};

/// Settings of a run. What is not given is taken from --config, then from the defaults. Without
/// --data and --model the defaults are made for the digits inside the program, which train in about
/// a minute.
#[derive(Debug, Args)]
pub struct Train {
    /// Images: a folder or .tar.gz with a folder per class (below train/ and test/, or split by
    /// --test-split), CIFAR-10's binary files, cifar10 (downloaded once),
    /// synthetic:CLASSESxIMAGESxSIZE, or sample: handwritten digits inside the program [default: sample]
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: Option<String>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from: imagenet, downloaded once (torchvision's nets have imagenet-v1 and
    /// imagenet-v2, its resnet50 imagenet-a1), cifar10 (of resnet20, inside the program), a Keras .h5, PyTorch .pth or .safetensors
    /// file, or none for a random initialisation [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE|none")]
    pub weights: Option<String>,
    /// Epochs of the head over the frozen net, or of everything with --weights none and no
    /// --fine-tune-at [default: 5]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::EPOCHS))]
    pub epochs: Option<usize>,
    /// First layer to fine-tune, as `headstart summary` lists them [default: do not fine-tune]
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Epochs of fine-tuning [default: 5]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::FINE_TUNE_EPOCHS))]
    pub fine_tune_epochs: Option<usize>,
    /// List all phases instead: head or the first layer that trains (a layer, block or stage of
    /// `headstart summary`), with epochs; each phase starts at an earlier layer than the one before
    #[arg(long, value_name = "head:3,conv5:3,conv4:5", value_delimiter = ',',
          conflicts_with_all = ["epochs", "fine_tune_at", "fine_tune_epochs"])]
    pub unfreeze: Option<Vec<Unfreeze>>,
    /// Keep batch norm in inference mode in the layers that are fine-tuned
    #[arg(long)]
    pub freeze_bn: bool,
    /// Batch size; auto: the largest of 1, 2, 4, ... 256 images that fits the memory [default: 20]
    #[arg(long, value_name = "N|auto", value_parser = batch_size)]
    pub batch_size: Option<BatchSize>,
    /// Accumulate gradients over this many batches for one update, which takes their mean [default: 1]
    #[arg(long, value_name = "STEPS", value_parser = within::<usize>(range::ACCUMULATE))]
    pub accumulate: Option<usize>,
    /// Cut every batch into this many replicas, whose gradients are averaged; each has its own batch norm
    /// statistics, as in data-parallel training [default: 1; under mpirun the number of processes]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::REPLICAS))]
    pub replicas: Option<usize>,
    /// Multiply the learning rates by the images of an update over this number, for which they are meant, and warm up over five
    /// epochs or a quarter of the phase (Goyal et al. 2017) [without a number: 20]
    #[arg(long, value_name = "IMAGES", num_args = 0..=1, require_equals = true, default_missing_value = "20",
          value_parser = within::<usize>(range::SCALE_LEARNING_RATE))]
    pub scale_learning_rate: Option<usize>,
    /// Optimizer [default: rmsprop]
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// SGD's momentum [default: 0]
    #[arg(long, value_name = "M")]
    pub momentum: Option<f32>,
    /// Nesterov's variant of momentum
    #[arg(long)]
    pub nesterov: bool,
    /// RMSprop's decay of the mean square [default: 0.9]
    #[arg(long, value_name = "RHO")]
    pub rho: Option<f32>,
    /// Adam's decay of the mean gradient [default: 0.9]
    #[arg(long = "beta-1", value_name = "BETA")]
    pub beta_1: Option<f32>,
    /// Adam's decay of the mean square [default: 0.999]
    #[arg(long = "beta-2", value_name = "BETA")]
    pub beta_2: Option<f32>,
    /// Decoupled weight decay: at each step weights shrink by this fraction of the learning rate, as in
    /// Keras's optimizers [default: 0.004 for adamw, else 0]
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f32>,
    /// What weight decay applies to [default: all]
    #[arg(long, value_enum)]
    pub decay_of: Option<Decay>,
    /// Learning rate of the first phase [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f32>,
    /// Learning rate of fine-tuning [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub fine_tune_learning_rate: Option<f32>,
    /// Multiply the learning rate of each stage of the net by this factor relative to the stage after it;
    /// the head has the full learning rate [default: 1]
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f32>,
    /// How the learning rate changes over each phase, from its largest value [default: constant]
    #[arg(long, value_enum)]
    pub schedule: Option<Sched>,
    /// Epochs at the start of each phase in which the learning rate rises from 0 [default: 0; for
    /// one-cycle 0.3 of the phase]
    #[arg(long, value_name = "N")]
    pub warmup_epochs: Option<f32>,
    /// Where a cosine schedule ends, as a fraction of the largest learning rate [default: 0]
    #[arg(long, value_name = "FRACTION")]
    pub schedule_alpha: Option<f32>,
    /// Factor by which a step or plateau schedule multiplies the learning rate [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    pub schedule_factor: Option<f32>,
    /// Epochs between two drops of a step schedule [default: a third of each phase]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::STEP_EPOCHS))]
    pub step_epochs: Option<usize>,
    /// Epochs without a lower loss before a plateau schedule drops [default: 10]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::PLATEAU_PATIENCE))]
    pub plateau_patience: Option<usize>,
    /// Smallest learning rate of a plateau schedule [default: 0]
    #[arg(long, value_name = "RATE")]
    pub min_learning_rate: Option<f32>,
    /// The metric by which epochs are compared: on the validation images, or on the training images
    /// where none are held out [default: accuracy]
    #[arg(long, value_enum)]
    pub monitor: Option<Watched>,
    /// Differences in that metric up to this one are chance: a phase is represented by the last of its
    /// epochs within it of the best; not with --patience [default: 0; recipes: the standard error]
    #[arg(long, value_name = "D")]
    pub best_within: Option<f64>,
    /// End a phase after this many epochs without improvement, and restore the weights of its best epoch
    /// [default: train all epochs and continue from the last]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::PATIENCE))]
    pub patience: Option<usize>,
    /// End training when the run has taken this long: the learning rate's schedule ends with it, and the
    /// last epoch may be a short one. A recipe's --budget sets it
    #[arg(long, value_name = "TIME")]
    pub max_time: Option<Time>,
    /// By how much the metric must improve on the best to count [default: 0; for plateau 0.0001]
    #[arg(long, value_name = "D")]
    pub min_delta: Option<f64>,
    /// Evaluate and write EMA weights (exponential moving average), with this decay, such as 0.999
    /// [default: no EMA]
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f32>,
    /// Dropout rate of the pooled features before the head [default: 0]
    #[arg(long, value_name = "RATE")]
    pub dropout: Option<f32>,
    /// Weight of an image's loss by its class: balanced (every class counts the same), a list, or a JSON
    /// file of class names and weights [default: 1]
    #[arg(long, value_name = "balanced|CLASS=WEIGHT,...|FILE")]
    pub class_weight: Option<String>,
    /// Spread this fraction of each training label over all classes [default: 0]
    #[arg(long, value_name = "FRACTION")]
    pub label_smoothing: Option<f32>,
    /// Scale gradients down if their global norm is larger [default: off]
    #[arg(long, value_name = "NORM")]
    pub clip_norm: Option<f32>,
    /// Clip every element of a gradient to plus or minus this value [default: off]
    #[arg(long, value_name = "SIZE")]
    pub clip_value: Option<f32>,
    /// Train on every class equally often: images of small classes occur several times in an epoch
    #[arg(long)]
    pub balance: bool,
    /// Augment training images, in this order: flip (left and right), vflip (top and bottom), crop:PIXELS
    /// (move by up to this many pixels, black border), resized-crop[:LEAST] (a part of at least this
    /// fraction of the area, 0.08), rotate:DEGREES (up to this many, either way),
    /// jitter[:BRIGHTNESS,CONTRAST,SATURATION[,HUE]] (0.4,0.4,0.4), randaugment[:COUNT,MAGNITUDE] (2,9),
    /// erase[:PROBABILITY] (0.5; always last). All are torchvision's. Frozen layers then run in every
    /// epoch [default: none]
    #[arg(long, value_name = "resized-crop,flip,...")]
    pub augment: Vec<List>,
    /// Mix each training image with another of its batch, pixels and labels, by a fraction from
    /// Beta(ALPHA, ALPHA); 0.2 is usual. Frozen layers then run in every epoch, and training accuracy
    /// counts the label with the larger fraction
    #[arg(long, value_name = "ALPHA")]
    pub mixup: Option<f32>,
    /// Replace a rectangle of each training image by that of another image of its batch, with an area
    /// from Beta(ALPHA, ALPHA); 1 is usual. With --mixup, each is used for half of the batches
    #[arg(long, value_name = "ALPHA")]
    pub cutmix: Option<f32>,
    /// Write the first training batch, augmented as in training, as a picture, and stop
    #[arg(long, value_name = "FILE.png", conflicts_with_all = ["json", "resume"])]
    pub show_batch: Option<PathBuf>,
    /// Upsample images by this factor inside the net, by nearest neighbour; all images must have one
    /// size. --image-size 224 --interpolation bicubic is slower to load and more accurate on small
    /// images (CIFAR-10, linear head on 4,000 images: 0.79 instead of 0.69)
    #[arg(long, value_name = "FACTOR", conflicts_with = "image_size", value_parser = within::<usize>(range::UPSAMPLE))]
    pub upsample: Option<usize>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// Height and width of training images in gradient steps, as torchvision's --train-crop-size. With
    /// --augment resized-crop, four fifths of --image-size are right, and faster [default: as
    /// --image-size]
    #[arg(long, value_name = "PIXELS", conflicts_with = "upsample", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub train_size: Option<usize>,
    /// How images are resized [default: bilinear]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Pixel normalisation [default: auto, what the weights expect]
    #[arg(long, value_enum)]
    pub preprocess: Option<Pre>,
    /// Do not fit the temperature of the model's probabilities on the validation images at the end
    #[arg(long)]
    pub no_calibrate: bool,
    /// At the end, fit a head of --head-solver lbfgs again with the validation images too, where it is
    /// the best model and there are test images to measure it on
    #[arg(long)]
    pub refit: bool,
    /// With --head-solver lbfgs, fit the head on each image and its mirror image; the penalty is found on
    /// the images alone. Not for digits and letters
    #[arg(long)]
    pub head_mirror: bool,
    /// With --head-solver lbfgs, fit the head on each image and its four corners, enlarged; with
    /// --head-mirror on the mirror images of these too
    #[arg(long)]
    pub head_crops: bool,
    /// With --head-solver lbfgs, fit the head on so many training images at most, of each class in
    /// proportion: enough for a head from which everything is fine-tuned
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::HEAD_IMAGES))]
    pub head_images: Option<usize>,
    /// Do not shuffle: use the images in the same order in every epoch
    #[arg(long)]
    pub no_shuffle: bool,
    /// Initialisation of the head's kernel [default: glorot-uniform]
    #[arg(long, value_enum)]
    pub head_init: Option<Head>,
    /// How the head is trained over the frozen net: by the optimizer, or fitted with L-BFGS, which needs
    /// no epochs [default: gradient]
    #[arg(long, value_enum)]
    pub head_solver: Option<Solver>,
    /// L2 penalty of the head's kernel for --head-solver lbfgs [default: the one with the least loss by
    /// five-fold cross-validation over the training images]
    #[arg(long, value_name = "L2")]
    pub head_l2: Option<f64>,
    /// Fraction of the training images held out for validation [default: 0.1]
    #[arg(long, value_name = "FRACTION")]
    pub validation_split: Option<f64>,
    /// Fraction of the images split off for testing, where the data has no test images [default: 0]
    #[arg(long, value_name = "FRACTION")]
    pub test_split: Option<f64>,
    #[command(flatten)]
    pub split: SplitFlags,
    /// Seed of every random choice [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on at most this many images, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists [default: auto]
    #[arg(long, value_name = "NAME")]
    pub device: Option<DeviceChoice>,
    /// Threads; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Most megabytes of memory for cached features of the frozen layers [default: half of the free memory]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_MEMORY))]
    pub cache_memory: Option<u64>,
    /// Folder of the features that are cached for later runs [default: features in headstart's cache
    /// folder, $HEADSTART_CACHE]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Most megabytes of that folder; the least recently used features are removed first [default: 32768]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_DISK))]
    pub cache_disk: Option<u64>,
    /// Neither write nor use cached features on disk
    #[arg(long, conflicts_with_all = ["cache_dir", "cache_disk"])]
    pub no_cache: bool,
    /// Also write TensorBoard's event files, below tensorboard in the run folder
    #[arg(long)]
    pub tensorboard: bool,
    /// Run folder [default: runs/train, then runs/train2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Use the run folder even if it has files in it
    #[arg(long, requires = "out")]
    pub exist_ok: bool,
    /// Resume an interrupted run, given its run folder, and reach the same weights
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "exist_ok", "config"])]
    pub resume: Option<PathBuf>,
    /// Resume although flags or an edited config.toml change settings, or this machine's instructions are other ones: the
    /// weights will be others than without the interruption
    #[arg(long, requires = "resume")]
    pub allow_changes: bool,
    /// Write a checkpoint for --resume this often, such as 300 (seconds) or 5m, besides the one after each epoch
    /// [default: 60, or less often where that would take more than a fiftieth of the time]
    #[arg(long, value_name = "TIME", value_parser = pause)]
    pub save_every: Option<Duration>,
    /// Read settings from a file, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Choose settings by data, net, this machine's speed and --budget, as `headstart recipe` shows them;
    /// other flags override it
    #[arg(long, value_name = "auto|article|quick|best", conflicts_with_all = ["config", "resume", "upsample"])]
    pub recipe: Option<RecipeName>,
    /// How long a run by --recipe may take, such as 20m or 1h30m [default: 20m; for best 2h]
    #[arg(long, value_name = "TIME", requires = "recipe", value_parser = budget)]
    pub budget: Option<Duration>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What learning rates are tried on.
#[derive(Debug, Args)]
pub struct LrFind {
    /// Read settings from a file, such as a run's config.toml; the flags below override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Images, as for train [default: sample]
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: Option<String>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from, as for train [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE|none")]
    pub weights: Option<String>,
    /// Try fine-tuning from this layer, after the head is fitted with L-BFGS [default: try the head over
    /// the frozen net]
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Batch size [default: 20]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: Option<usize>,
    /// Optimizer [default: rmsprop]
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized [default: bilinear]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Seed of every random choice [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on at most this many images, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists [default: auto]
    #[arg(long, value_name = "NAME")]
    pub device: Option<DeviceChoice>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Learning rate of the first step
    #[arg(long, value_name = "RATE", default_value_t = 1e-7)]
    pub start: f32,
    /// Learning rate of the last step
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    pub end: f32,
    /// Number of steps; the test ends earlier if the loss diverges
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within::<usize>(range::TEST_STEPS))]
    pub steps: usize,
    /// Picture of the loss by learning rate
    #[arg(long, value_name = "FILE", default_value = "lr_find.png")]
    pub out: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What settings are chosen for.
#[derive(Debug, Args)]
pub struct Recipe {
    /// Images, as for train
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: String,
    /// What to aim at: auto (fine-tune all of the net on random crops, or its last stage, as the budget
    /// allows), article (5 epochs of the
    /// head and 5 of fine-tuning, as in the Keras tutorial "Supercharge Your AI: ResNet50 Transfer
    /// Learning Unleashed"), quick (the head only), best (up to twice the epochs)
    #[arg(long, value_name = "auto|article|quick|best", default_value_t)]
    pub recipe: RecipeName,
    /// How long training may take, such as 20m or 1h30m [default: 20m; for best 2h, for quick no limit]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    pub budget: Option<Duration>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from, as for train [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Height and width of images before the net [default: chosen]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// Fraction of the training images held out for validation [default: 0.1]
    #[arg(long, value_name = "FRACTION")]
    pub validation_split: Option<f64>,
    /// Fraction of the images split off for testing, where the data has no test images [default: 0.2]
    #[arg(long, value_name = "FRACTION")]
    pub test_split: Option<f64>,
    #[command(flatten)]
    pub split: SplitFlags,
    /// Seed of every random choice [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on at most this many images, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists [default: auto]
    #[arg(long, value_name = "NAME")]
    pub device: Option<DeviceChoice>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Most megabytes of memory for cached features of the frozen layers [default: half of the free memory]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_MEMORY))]
    pub cache_memory: Option<u64>,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to draw.
#[derive(Debug, Args)]
pub struct Plot {
    /// Run folder
    pub run: PathBuf,
}

/// Which run to report on.
#[derive(Debug, Args)]
pub struct Report {
    /// Run folder
    pub run: PathBuf,
    /// Where the net runs: auto, cpu, gpu or gpu:N, the Nth that doctor lists [default: as in the run, or cpu without its
    /// GPU]
    #[arg(long, value_name = "NAME")]
    pub device: Option<DeviceChoice>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    #[command(flatten)]
    pub cache: CacheFlags,
}
