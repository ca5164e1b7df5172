//! From settings to a finished run.

pub mod builder;
pub mod config;
pub mod job;
pub mod recipe;
