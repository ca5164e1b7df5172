//! Flags of the commands about data.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with data sets.
#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Look a data set over: unreadable files, duplicates, leaks, tiny and blank images, uneven classes
    Check(DataCheck),
    /// Get a published data set, from this machine or by download, and print the path
    Get(DataGet),
}

/// Which data set.
#[derive(Debug, Args)]
pub struct DataGet {
    /// Its name: cifar10
    pub name: String,
}

/// What to look over.
#[derive(Debug, Args)]
pub struct DataCheck {
    /// Folder of class folders, archive, WebDataset shards, manifest (.csv, .parquet) or synthetic
    pub data: String,
    /// Write a page with thumbnails
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
}
