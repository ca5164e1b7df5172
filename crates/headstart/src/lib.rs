//! Transfer learning for image classifiers.
#![forbid(unsafe_code)]

pub mod batches;
pub mod dataset;
pub mod error;
pub mod execute;
pub mod graph;
pub mod image;
pub mod parameters;
pub mod plan;
pub mod preprocess;
pub mod split;

pub use error::{Error, Result};
