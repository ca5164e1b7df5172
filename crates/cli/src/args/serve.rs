//! Flags of the server.

use std::path::PathBuf;

use clap::Args;
use headstart::config::DeviceChoice;
use headstart::range;

use super::cache::CacheFlags;
use super::choices::Prec;
use super::values::within;

/// Settings of the server.
#[derive(Debug, Args)]
pub struct Serve {
    /// Model files, run folders or names of nets, each with the name that requests use, or without: the file's or folder's;
    /// with none, the page makes one
    #[arg(value_name = "[NAME=]MODEL")]
    pub models: Vec<String>,
    /// Images, as for train, of which the page shows those most like a photo
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    #[command(flatten)]
    pub cache: CacheFlags,
    /// Folder of runs that the page shows and resumes
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
    /// Folder of data sets that the page makes, which is made with the first of them
    #[arg(long, value_name = "DIR", default_value = "photos")]
    pub photos: PathBuf,
    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,
    /// Name or address to listen on; anything but this machine needs --token-file
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Port, 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 8000, value_parser = within::<u16>(range::PORT))]
    pub port: u16,
    /// Another name by which the server is called, as behind a proxy; can be given several times
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// File with a token that each request must have: Authorization: Bearer TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Predict "unknown" where no class is at least this probable, unless a request says another
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub threshold: f32,
    /// Most images that are computed together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = within::<usize>(range::MAX_BATCH))]
    pub max_batch: usize,
    /// Milliseconds that an image waits for others, where nothing is being computed
    #[arg(long, value_name = "MS", default_value_t = 2, value_parser = within::<u64>(range::MAX_DELAY))]
    pub max_delay: u64,
    /// Images that wait; beyond them requests are answered with 503
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = within::<usize>(range::QUEUE))]
    pub queue: usize,
    /// Longest body of a request
    #[arg(long, value_name = "MB", default_value_t = 64, value_parser = within::<u64>(range::MAX_BODY))]
    pub max_body: u64,
    /// Most pixels of an image, in millions
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = within::<usize>(range::MAX_PIXELS))]
    pub max_pixels: usize,
    /// Seconds in which a request must come, and in which an image must be decoded
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = within::<u64>(range::TIMEOUT))]
    pub timeout: u64,
    /// Most open connections
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = within::<usize>(range::MAX_CONNECTIONS))]
    pub max_connections: usize,
    /// Arithmetic
    #[arg(long, value_enum, default_value_t = Prec::Auto)]
    pub precision: Prec,
    /// Where nets run: auto, cpu, gpu or gpu:N, the Nth that doctor lists
    #[arg(long, value_name = "NAME", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = within::<usize>(range::THREADS))]
    pub threads: usize,
}
