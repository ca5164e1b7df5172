//! Flags of the command for cached features.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The cache of frozen layers' features.
#[derive(Debug, Args)]
pub struct Cache {
    /// What to do.
    #[command(subcommand)]
    pub action: CacheAction,
    /// Its folder [default: features in headstart's cache folder, $HEADSTART_CACHE]
    #[arg(long, value_name = "DIR", global = true)]
    pub cache_dir: Option<PathBuf>,
}

/// Which cache of frozen layers' features a command reads and adds to.
#[derive(Debug, Args)]
pub struct CacheFlags {
    /// Folder of cached features, as for train
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Neither write nor use cached features on disk
    #[arg(long, conflicts_with = "cache_dir")]
    pub no_cache: bool,
}

/// What to do with the cache.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum CacheAction {
    /// List the cached features, the last used first
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Remove all cached features
    Clear,
}
