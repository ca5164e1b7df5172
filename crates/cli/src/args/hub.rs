//! Flags of the commands about weights.

use clap::{Args, Subcommand};

use super::export::WeightsInspect;

/// What to do with weights.
#[derive(Debug, Args)]
pub struct Weights {
    #[command(subcommand)]
    pub command: WeightsCommand,
}

/// What to do with weights.
#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List the published weights, and where they are on this machine
    List(WeightsList),
    /// Download published weights, unless they are on this machine, and print their path
    Get(WeightsGet),
    /// Show what a weight file contains and which nets it fits
    Inspect(WeightsInspect),
}

/// Settings of a listing.
#[derive(Debug, Args)]
pub struct WeightsList {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Which weights.
#[derive(Debug, Args)]
pub struct WeightsGet {
    /// Net
    pub model: String,
    /// Variant, as `headstart weights list` names it
    #[arg(long, value_name = "NAME", default_value = headstart::hub::sources::IMAGENET)]
    pub variant: String,
    /// The file with the head of ImageNet's 1000 classes
    #[arg(long)]
    pub top: bool,
}
