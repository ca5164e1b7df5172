//! Flags of the commands that get weights.

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
    /// Get published weights, from this machine or by download, and print the path
    Get(WeightsGet),
    /// Show what a weight file holds and which nets it fits
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
    /// Which training they come from, as `headstart weights list` names it
    #[arg(long, value_name = "NAME", default_value = headstart::hub::sources::IMAGENET)]
    pub variant: String,
    /// With the head of ImageNet's 1000 classes, where there is a file without
    #[arg(long)]
    pub top: bool,
}
