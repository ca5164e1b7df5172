//! The real binary, as one program of tests: each file is a subject.

mod bad_input;
mod cache;
mod damaged;
mod data_check;
mod decode;
mod documents;
mod fit;
mod folds;
mod hub;
mod inspect;
mod knowing;
mod memory_limit;
mod names;
mod on_a_gpu;
mod optimisation;
#[cfg(unix)]
mod outputs;
mod people;
#[cfg(unix)]
mod ranks;
mod recipe;
mod resume;
mod sample;
#[cfg(unix)]
mod serve;
mod settings;
mod shards;
#[cfg(unix)]
mod signals;
mod sizes;
#[cfg(unix)]
mod strange_files;
mod support;
mod tables;
#[cfg(unix)]
mod terminal;
mod tiles;
mod train;
mod way_on;
mod weights;
