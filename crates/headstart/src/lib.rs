//! Transfer learning for image classifiers: an ImageNet ResNet, a new head trained over its frozen
//! features, then fine-tuning from a chosen layer.
//!
//! Start with [`dataset::open`] (labelled images), [`model::Model`] (a net with its weights) and
//! [`trainer::Trainer`] (both phases); [`inference`] uses the result. `examples/cifar10.rs` does the whole
//! job, `examples/own_photos.rs` makes a classifier of a folder of photos and uses it. Nothing here prints:
//! [`trainer::Trainer::fit`] tells a callback what happens, as [`events::Event`]s.
//!
//! ```
//! use std::sync::Arc;
//!
//! use headstart::config::TrainConfig;
//! use headstart::inference::Control;
//! use headstart::job::{build_model, open_data};
//! use headstart::trainer::{Phase, Settings, Trainer};
//! use headstart::Compute;
//!
//! // Made-up images of two classes, and a small net without weights.
//! let config = TrainConfig {
//!     data: "synthetic:2x40x32".into(),
//!     model: "resnet20".into(),
//!     weights: "none".into(),
//!     ..TrainConfig::default()
//! };
//! let data = open_data(&config)?;
//! let (mut model, _) = build_model(&config, &data)?;
//! let compute = Arc::new(Compute::new(0)?);
//! let mut trainer = Trainer::new(&mut model, &data, compute, Settings::default())?;
//! trainer.fit(&Phase::head(3, 1e-3), &mut |_event| Control::Continue)?;
//! let report = trainer.evaluate(&mut |_event| Control::Continue)?.unwrap();
//! assert_eq!(report.samples, 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod atomic;
pub mod augment;
pub mod batches;
pub mod bench;
pub mod bootstrap;
pub mod cache;
pub mod calibration;
pub mod classify;
pub mod compare;
pub mod config;
pub mod dataset;
pub mod doctor;
pub mod error;
pub mod events;
pub mod execute;
pub mod explain;
pub mod export;
pub mod gradcam;
pub mod graph;
pub mod history;
pub mod hub;
pub mod image;
pub mod imagenet;
pub mod inference;
pub mod init;
pub mod inspect;
pub mod job;
pub mod logistic;
pub mod metrics;
pub mod model;
pub mod nearest;
pub mod optimizer;
pub mod parameters;
pub mod plan;
pub mod preprocess;
pub mod probe;
pub mod report;
pub mod resnet;
pub mod run_folder;
pub mod schedule;
pub mod similar;
pub mod split;
pub mod summary;
pub mod trainer;
pub mod weights;

pub use error::{Error, Result};
pub use headstart_kernels::element::DType;
pub use headstart_kernels::table::Compute;
