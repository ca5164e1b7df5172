//! Flags of the commands about data.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use headstart::config::DeviceChoice;
use headstart::range;

use super::choices::{Interp, Prec};
use super::fit::FitFlags;
use super::values::within;

/// What to do with a data set.
#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What to do with a data set.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Check a data set: unreadable files, duplicates, leaks between splits, tiny and blank images,
    /// uneven classes, suspected label errors
    Check(Box<DataCheck>),
    /// Download a published data set, unless it is on this machine, and print its path
    Get(DataGet),
}

/// Which data set.
#[derive(Debug, Args)]
pub struct DataGet {
    /// Its name: cifar10
    pub name: String,
}

/// What to check.
#[derive(Debug, Args)]
pub struct DataCheck {
    /// Folder of class folders, archive, WebDataset shards, manifest (.csv, .parquet) or synthetic
    pub data: String,
    /// Make only this part of the work, as one of many jobs: the third of sixteen, or auto (auto/16 where the scheduler does not
    /// say how many there are) as Slurm's arrays, Kubernetes's indexed jobs and AWS Batch number them; --out
    /// is a folder of parts, which `headstart merge` joins
    #[arg(long, value_name = "K/N|auto", requires = "out", conflicts_with_all = ["html", "labels", "json"])]
    pub shard: Option<String>,
    /// Folder of the parts
    #[arg(long, value_name = "DIR", requires = "shard")]
    pub out: Option<PathBuf>,
    /// Write a page with thumbnails
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also name training images with suspected label errors, by cross-validated heads over a frozen net
    #[arg(long)]
    pub labels: bool,
    /// Net, or a model file, whose features --labels uses [default: resnet50; for sample resnet20]
    #[arg(long, value_name = "NAME|FILE", requires = "labels")]
    pub model: Option<String>,
    /// Weights, where --model names a net, as for train [default: imagenet; for resnet20 cifar10]
    #[arg(long, value_name = "imagenet|cifar10|FILE", requires = "labels")]
    pub weights: Option<String>,
    /// Resize images to this size, where --model names a net or is left out [default: what the net was
    /// trained on]
    #[arg(long, value_name = "PIXELS", requires = "labels", value_parser = within::<usize>(range::IMAGE_SIZE))]
    pub image_size: Option<usize>,
    /// How images are resized, where --model names a net or is left out [default: bilinear; for sample
    /// bicubic]
    #[arg(long, value_enum, requires = "labels")]
    pub interpolation: Option<Interp>,
    #[command(flatten)]
    pub fits: FitFlags,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5, requires = "labels", value_parser = within::<usize>(range::FOLDS))]
    pub folds: usize,
    /// Seed of the folds
    #[arg(long, value_name = "N", default_value_t = 42, requires = "labels", value_parser = within::<u32>(range::SEED))]
    pub seed: u32,
    /// Arithmetic of the net
    #[arg(long, value_enum, default_value_t = Prec::Auto, requires = "labels")]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Folder of cached features, as for train
    #[arg(long, value_name = "DIR", requires = "labels")]
    pub cache_dir: Option<PathBuf>,
    /// Neither write nor use cached features on disk
    #[arg(long, requires = "labels", conflicts_with = "cache_dir")]
    pub no_cache: bool,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
}

/// Parts to join.
#[derive(Debug, Args)]
pub struct Merge {
    /// Folders of parts, or their files
    #[arg(required = true, value_name = "PARTS")]
    pub parts: Vec<PathBuf>,
    /// File to write: predictions as .csv, .json, .jsonl or .parquet; features as .npy, .csv or .safetensors; a page of findings as
    /// .html
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the findings of data check as JSON
    #[arg(long)]
    pub json: bool,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
}
