//! Flags of the commands that train and draw what was trained.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use headstart::augment::List;
use headstart::config::Unfreeze;
use headstart::range;
use headstart::recipe::RecipeName;

use super::choices::{Decay, Head, Interp, Optimizer, Pre, Prec, Sched, Solver, Watched};
use super::values::{budget, within};

/// Settings of a run. What is not given is taken from --config, then from the defaults. Without
/// --data and --model these are settings of their own for the digits inside the program, which train in
/// about a minute.
#[derive(Debug, Args)]
pub struct Train {
    /// Images: a folder or .tar.gz with a folder per class (below train/ and test/, or split by
    /// --test-split), CIFAR-10's binary files, cifar10, which is downloaded once,
    /// synthetic:CLASSESxIMAGESxSIZE, or sample: handwritten digits inside the program [default: sample]
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: Option<String>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from: imagenet, which is downloaded once (torchvision's nets have imagenet-v1 and
    /// imagenet-v2), cifar10 (of resnet20, inside the program), a Keras .h5, PyTorch .pth or .safetensors
    /// file, or none [default: imagenet; for resnet20 cifar10]
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
    /// All phases instead: head or the first layer that trains (a layer, block or stage of `headstart summary`) and
    /// epochs, each from an earlier layer on than the one before
    #[arg(long, value_name = "head:3,conv5:3,conv4:5", value_delimiter = ',',
          conflicts_with_all = ["epochs", "fine_tune_at", "fine_tune_epochs"])]
    pub unfreeze: Option<Vec<Unfreeze>>,
    /// Leave batch norm in inference mode in layers that are fine-tuned
    #[arg(long)]
    pub freeze_bn: bool,
    /// Images a step [default: 20]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: Option<usize>,
    /// Make one update of so many steps, from the mean of their gradients [default: 1]
    #[arg(long, value_name = "STEPS", value_parser = within::<usize>(range::ACCUMULATE))]
    pub accumulate: Option<usize>,
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
    /// Adam's share of the old mean gradient [default: 0.9]
    #[arg(long = "beta-1", value_name = "BETA")]
    pub beta_1: Option<f32>,
    /// Adam's share of the old mean square [default: 0.999]
    #[arg(long = "beta-2", value_name = "BETA")]
    pub beta_2: Option<f32>,
    /// Share of the step size by which weights shrink at each step, as Keras's optimizers have it
    /// [default: 0.004 for adamw, else 0]
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f32>,
    /// What weight decay shrinks [default: all]
    #[arg(long, value_enum)]
    pub decay_of: Option<Decay>,
    /// Step size of the first phase [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f32>,
    /// Step size of fine-tuning [default: 1e-4]
    #[arg(long, value_name = "RATE")]
    pub fine_tune_learning_rate: Option<f32>,
    /// Give each stage of the net this share of the step size of the stage after it; the head has all of it [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub layer_decay: Option<f32>,
    /// How the step size changes over each phase, from that largest one [default: constant]
    #[arg(long, value_enum)]
    pub schedule: Option<Sched>,
    /// Epochs of each phase in which the step size goes up from 0 [default: 0; for one-cycle 0.3 of them]
    #[arg(long, value_name = "N")]
    pub warmup_epochs: Option<f32>,
    /// Where a cosine schedule ends, as a share of the largest step size [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub schedule_alpha: Option<f32>,
    /// By what a step or plateau schedule multiplies [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    pub schedule_factor: Option<f32>,
    /// Epochs after which a step schedule does [default: a third of each phase]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::STEP_EPOCHS))]
    pub step_epochs: Option<usize>,
    /// Epochs without a lower loss after which a plateau schedule does [default: 10]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::PLATEAU_PATIENCE))]
    pub plateau_patience: Option<usize>,
    /// Where a plateau schedule ends [default: 0]
    #[arg(long, value_name = "RATE")]
    pub min_learning_rate: Option<f32>,
    /// The figure by which epochs are compared: of the validation images, or of the training images where none are
    /// held out [default: accuracy]
    #[arg(long, value_enum)]
    pub monitor: Option<Watched>,
    /// End a phase after so many epochs without improvement, with the weights of its best epoch [default: train all
    /// epochs and go on from the last]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::PATIENCE))]
    pub patience: Option<usize>,
    /// By how much a figure must be better than the best to count [default: 0; for plateau 0.0001]
    #[arg(long, value_name = "D")]
    pub min_delta: Option<f64>,
    /// Evaluate and write averaged weights: share of the old average that is kept at each update, such as 0.999
    /// [default: the weights themselves]
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f32>,
    /// Drop this share of the pooled features before the head in training [default: 0]
    #[arg(long, value_name = "RATE")]
    pub dropout: Option<f32>,
    /// How much an image's loss counts by its class: balanced (all classes as much as each other), a list, or a JSON file
    /// of class names and weights [default: 1]
    #[arg(long, value_name = "balanced|CLASS=WEIGHT,...|FILE")]
    pub class_weight: Option<String>,
    /// Spread this share of each training label over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f32>,
    /// Scale gradients down whose norm, of all together, is larger [default: do not]
    #[arg(long, value_name = "NORM")]
    pub clip_norm: Option<f32>,
    /// Cut every element of a gradient to this size [default: do not]
    #[arg(long, value_name = "SIZE")]
    pub clip_value: Option<f32>,
    /// Train on every class equally often: images of small classes come several times an epoch
    #[arg(long)]
    pub balance: bool,
    /// Change training images at random, in this order: flip (left and right), vflip (top and bottom),
    /// crop:PIXELS (move by up to so many pixels, over black), resized-crop[:LEAST] (a part of at least this share,
    /// 0.08, instead of the whole), rotate:DEGREES (up to so many, either way), jitter[:BRIGHTNESS,CONTRAST,SATURATION[,HUE]]
    /// (0.4,0.4,0.4), randaugment[:COUNT,MAGNITUDE] (2,9), erase[:PROBABILITY] (0.5; always last). All are torchvision's.
    /// Frozen layers then run in every epoch [default: none]
    #[arg(long, value_name = "resized-crop,flip,...")]
    pub augment: Vec<List>,
    /// Mix each training image with another of its batch, pixels and labels, by a share from Beta(ALPHA, ALPHA); 0.2 is
    /// usual. Frozen layers then run in every epoch, and training accuracy counts the label with the larger share
    #[arg(long, value_name = "ALPHA")]
    pub mixup: Option<f32>,
    /// Replace a rectangle of each training image by that of another of its batch, of an area from Beta(ALPHA, ALPHA);
    /// 1 is usual. With --mixup, either happens to half of the batches
    #[arg(long, value_name = "ALPHA")]
    pub cutmix: Option<f32>,
    /// Write the first batch of training images, changed as in training, as a picture, and stop
    #[arg(long, value_name = "FILE.png", conflicts_with_all = ["json", "resume"])]
    pub show_batch: Option<PathBuf>,
    /// Enlarge images of one size by this factor, by nearest neighbour. --image-size 224
    /// --interpolation bicubic is slower to load and more accurate on small images (CIFAR-10, linear
    /// head on 4,000 images: 0.79 instead of 0.69)
    #[arg(long, value_name = "FACTOR", conflicts_with = "image_size", value_parser = within::<usize>(range::UPSAMPLE))]
    pub upsample: Option<usize>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
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
    /// How the head is trained over the frozen net; lbfgs takes no epochs [default: gradient]
    #[arg(long, value_enum)]
    pub head_solver: Option<Solver>,
    /// Weight of the head's squared kernel for --head-solver lbfgs [default: the power of ten with the
    /// least loss on the validation images]
    #[arg(long, value_name = "L2")]
    pub head_l2: Option<f64>,
    /// Share of the training images held out for validation [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub validation_split: Option<f64>,
    /// Share of the images split off for testing, where the data has no test images [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub test_split: Option<f64>,
    /// What every random choice follows from [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on so many images only, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Threads; results do not depend on it [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Most megabytes for the kept outputs of frozen layers [default: half of the free memory]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_MEMORY))]
    pub cache_memory: Option<u64>,
    /// Folder where outputs of frozen layers are kept for later runs [default: features in headstart's
    /// cache folder, $HEADSTART_CACHE]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Most megabytes of that folder; what was not used for longest makes room [default: 32768]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_DISK))]
    pub cache_disk: Option<u64>,
    /// Keep nothing on disk for later runs, and use nothing that is there
    #[arg(long, conflicts_with_all = ["cache_dir", "cache_disk"])]
    pub no_cache: bool,
    /// Also write TensorBoard's event files, below tensorboard in the run folder
    #[arg(long)]
    pub tensorboard: bool,
    /// Folder for what the run leaves [default: runs/train, then runs/train2, ...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Use the folder even if it has files in it
    #[arg(long, requires = "out")]
    pub exist_ok: bool,
    /// Go on with a run that was cut off, to what it would have reached: the folder it left
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "exist_ok", "config"])]
    pub resume: Option<PathBuf>,
    /// Write what --resume needs every so many seconds, not only after each epoch [default: 60, or less
    /// often where that would take more than a fiftieth of the time]
    #[arg(long, value_name = "SECONDS", value_parser = within::<u64>(range::SAVE_EVERY))]
    pub save_every: Option<u64>,
    /// Read settings from a file, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Choose settings by data, net, this machine's speed and --budget, as `headstart recipe` shows them; flags given beside it
    /// go before it
    #[arg(long, value_name = "auto|article|quick|best", conflicts_with_all = ["config", "resume", "upsample"])]
    pub recipe: Option<RecipeName>,
    /// How long a run by --recipe may take, such as 20m or 1h30m [default: 20m; for best 2h]
    #[arg(long, value_name = "TIME", requires = "recipe", value_parser = budget)]
    pub budget: Option<Duration>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// What step sizes are tried on.
#[derive(Debug, Args)]
pub struct LrFind {
    /// Read settings from a file, such as a run's config.toml; the flags below go before it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Images, as for train [default: sample]
    #[arg(long, value_name = "sample|cifar10|PATH")]
    pub data: Option<String>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from, as for train
    #[arg(long, value_name = "imagenet|cifar10|FILE|none")]
    pub weights: Option<String>,
    /// Try fine-tuning from this layer, after the head is solved [default: try the head over the frozen net]
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Images a step [default: 20]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: Option<usize>,
    /// Update rule [default: rmsprop]
    #[arg(long, value_enum)]
    pub optimizer: Option<Optimizer>,
    /// Resize images to this height and width [default: what the net was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized [default: bilinear]
    #[arg(long, value_enum)]
    pub interpolation: Option<Interp>,
    /// What every random choice follows from [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on so many images only, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Step size of the first step
    #[arg(long, value_name = "RATE", default_value_t = 1e-7)]
    pub start: f32,
    /// Step size of the last
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    pub end: f32,
    /// Steps; the test ends earlier where the loss runs away
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within::<usize>(range::TEST_STEPS))]
    pub steps: usize,
    /// Picture of the loss by step size
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
    /// What to aim at: auto (as much of the net as the budget allows), article (its five and five epochs), quick (the head
    /// alone), best (images change at random)
    #[arg(long, value_name = "auto|article|quick|best", default_value_t)]
    pub recipe: RecipeName,
    /// How long training may take, such as 20m or 1h30m [default: 20m; for best 2h, for quick any time]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    pub budget: Option<Duration>,
    /// Net [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Weights to start from, as for train
    #[arg(long, value_name = "imagenet|cifar10|FILE")]
    pub weights: Option<String>,
    /// Height and width of images before the net [default: chosen]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// Share of the training images held out for validation [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub validation_split: Option<f64>,
    /// Share of the images split off for testing, where the data has no test images [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    pub test_split: Option<f64>,
    /// What every random choice follows from [default: 42]
    #[arg(long, value_name = "N", value_parser = within::<u32>(range::SEED))]
    pub seed: Option<u32>,
    /// Train on so many images only, every class in proportion
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::LIMIT))]
    pub limit: Option<usize>,
    /// Arithmetic [default: auto]
    #[arg(long, value_enum)]
    pub precision: Option<Prec>,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::THREADS))]
    pub threads: Option<usize>,
    /// Most megabytes for the kept outputs of frozen layers [default: half of the free memory]
    #[arg(long, value_name = "MB", value_parser = within::<u64>(range::CACHE_MEMORY))]
    pub cache_memory: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of drawing.
#[derive(Debug, Args)]
pub struct Plot {
    /// Folder of a run
    pub run: PathBuf,
}
