//! The real binary, as one program of tests: each file is a subject.

mod bad_input;
mod cache;
mod data_check;
mod documents;
mod fit;
mod folds;
mod hub;
mod inspect;
mod knowing;
mod memory_limit;
mod optimisation;
mod people;
mod recipe;
mod resume;
mod sample;
mod settings;
mod sizes;
mod support;
#[cfg(unix)]
mod terminal;
mod train;
mod way_on;
mod weights;
