//! The library as its users call it, as one program of tests: each file is a subject.

mod batches;
mod battery;
mod cached;
mod checkpoints;
mod corrections;
mod datasets;
mod devices;
mod formats;
mod fuzz;
#[cfg(feature = "gpu")]
mod gpu;
mod grouped;
#[cfg(feature = "gpu")]
mod half;
mod head_images;
mod hostile_runs;
mod hostile_weights;
mod hub;
mod images;
mod jpeg;
mod keras_golden;
mod library;
mod limits;
mod max_time;

mod nets;
mod one_model;
mod onnx;
mod oracle;
mod pytorch;
mod recipes;
mod reduced;
mod replicas;
mod room;
mod shard_names;
mod shared_data;
mod sources;
mod splits;
mod stops;
mod support;
mod torch_golden;
mod torch_zip;
mod train_size;
mod unclear;
mod views;
mod weight_formats;
mod weights;
mod wings;
