//! From settings to a finished run.

pub mod builder;
pub mod compare;
pub mod config;
pub mod cross_validate;
mod easy;
pub mod evaluate;
pub mod job;
#[cfg(feature = "gpu")]
mod kept;
mod known;
pub mod neighbours;
pub mod next;
pub mod outcome;
pub mod page;
pub mod probe_weights;
pub mod range_test;
pub mod recipe;
pub mod run;
mod settle;
pub mod shard;
pub mod source;
mod stopped;
#[cfg(feature = "gpu")]
mod tiles;
