//! Flags of the commands that show what a net is and does.

use clap::Args;
use headstart::config::DeviceChoice;
use headstart::range;

use super::choices::{PhaseArg, Prec};
use super::values::within;

/// Settings of a listing.
#[derive(Debug, Args)]
pub struct Summary {
    /// Net, or a model file or run folder
    pub model: String,
    /// Freeze the layers before this one, and add upsampling and a head, as the Keras tutorial does
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Add a head for this many classes [default with --fine-tune-at: 10]
    #[arg(long, value_name = "N", value_parser = within::<usize>(range::CLASSES))]
    pub classes: Option<usize>,
    /// Height and width of the images that enter the net [default: what it was trained on]
    #[arg(long, value_name = "PIXELS", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// Upsample images by this factor before the net
    #[arg(long, value_name = "FACTOR", value_parser = within::<usize>(range::UPSAMPLE))]
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
    /// Run it, and add milliseconds and the fraction of the machine's measured peak
    #[arg(long)]
    pub measure: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Settings of a measurement, or of a report of all.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    pub work: Work,
    /// Repetitions, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = within::<usize>(range::REPEAT))]
    pub repeat: usize,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Measure every phase at --batch-size and at 256, on the device and on the CPU, and write it with what this machine is to
    /// a JSON file that can be sent to others
    #[arg(long, value_name = "FILE", conflicts_with_all = ["phase", "cached", "json"])]
    pub report: Option<std::path::PathBuf>,
}

/// Settings of the check of this machine.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the drivers of GPUs, and no more: what doctor has another process do, in case one crashes
    #[arg(long, hide = true)]
    pub drivers: bool,
}

/// What to explain or measure.
#[derive(Clone, Debug, Args)]
pub struct Work {
    /// Net
    #[arg(long, value_name = "NAME", default_value = "resnet50")]
    pub model: String,
    /// What runs
    #[arg(long, value_enum, default_value_t = PhaseArg::Forward)]
    pub phase: PhaseArg,
    /// First layer that trains, in the fine-tune phase [default: 100, as in the Keras tutorial; of nets
    /// without a layer 100 their last stage]
    #[arg(long, value_name = "INDEX|NAME")]
    pub fine_tune_at: Option<String>,
    /// Leave out the frozen layers, as with cached features
    #[arg(long)]
    pub cached: bool,
    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within::<usize>(range::BATCH_SIZE))]
    pub batch_size: usize,
    /// Height and width of images before upsampling
    #[arg(long, value_name = "PIXELS", default_value_t = 32, value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: usize,
    /// Upsampling factor
    #[arg(long, value_name = "FACTOR", default_value_t = 7, value_parser = within::<usize>(range::UPSAMPLE))]
    pub upsample: usize,
    /// Classes of the head
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within::<usize>(range::CLASSES))]
    pub classes: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where it runs: cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Cpu)]
    pub device: DeviceChoice,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
}

/// Settings of a comparison.
#[derive(Debug, Args)]
pub struct Compare {
    /// Run folders
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<std::path::PathBuf>,
    /// Folder for accuracy and loss of all runs as pictures
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}
