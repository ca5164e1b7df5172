//! Phases of training, from cached features to the run folder.

pub mod cache;
pub mod class_weight;
pub mod collective;
pub(crate) mod head_fit;
pub mod lr_find;
pub mod run_folder;
pub mod schedule;
pub mod trainer;
