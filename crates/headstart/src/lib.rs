//! Transfer learning for image classifiers.
#![forbid(unsafe_code)]

pub mod atomic;
pub mod batches;
pub mod bench;
pub mod config;
pub mod dataset;
pub mod error;
pub mod events;
pub mod execute;
pub mod explain;
pub mod export;
pub mod graph;
pub mod history;
pub mod image;
pub mod imagenet;
pub mod inference;
pub mod init;
pub mod job;
pub mod metrics;
pub mod model;
pub mod nearest;
pub mod optimizer;
pub mod parameters;
pub mod plan;
pub mod preprocess;
pub mod report;
pub mod resnet;
pub mod run_folder;
pub mod split;
pub mod summary;
pub mod trainer;
pub mod weights;

pub use error::{Error, Result};
pub use headstart_kernels::table::Compute;
