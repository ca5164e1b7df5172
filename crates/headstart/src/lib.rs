//! Transfer learning for image classifiers: an ImageNet ResNet, a new head trained over its frozen
//! features, then fine-tuning from a chosen layer.
//!
//! # Five minutes
//!
//! In `Cargo.toml`, with the path of a clone (no C compiler, no system library, no features to choose):
//!
//! ```toml
//! [dependencies]
//! headstart = { path = "../headstart/crates/headstart" }
//! ```
//!
//! Images and a small net that knows CIFAR-10 are inside the library, so this trains without any file. In its place
//! stand a folder of photos, `Dataset::load("photos")`, and ImageNet's weights, `Model::builder("resnet50")`:
//!
//! ```
//! use std::sync::Arc;
//!
//! use headstart::events::Event;
//! use headstart::{Compute, Control, Dataset, Model, Phase, Settings, Trainer};
//!
//! // 1,797 handwritten digits; a net without its head, and a new head for ten classes.
//! let data = Dataset::load("sample")?;
//! let mut model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//!
//! // The head learns over the frozen net, which runs once per image and not once per epoch.
//! let compute = Arc::new(Compute::new(0)?); // a thread per core, the best instructions of this CPU
//! let mut trainer = Trainer::new(&mut model, &data, compute.clone(), Settings::default())?;
//! let mut watch = |event: &Event| {
//!     if let Event::Epoch(e) = event {
//!         println!("epoch {}: loss {:.3}, validation {:?}", e.epoch, e.loss, e.val_accuracy);
//!     }
//!     Control::Continue // or Control::Stop
//! };
//! trainer.fit(&Phase::head(5, 1e-2), &mut watch)?;
//!
//! // Fine-tuning would go on from a layer: net.freeze_point("100") and Phase::fine_tune.
//! let report = trainer.evaluate(&mut watch)?.unwrap();
//! println!("{report}"); // loss, top-1, top-5, precision, recall and F1 by class
//! assert!(report.accuracy > 0.5);
//!
//! // One file holds all that an application needs: weights, classes, image size, preprocessing.
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("digits.safetensors");
//! model.save(&path, None, &[])?;
//! let model = Model::open(&path)?;
//! let (images, mut go_on) = (data.test.unwrap(), |_done: usize| Control::Continue);
//! let p = headstart::inference::probabilities(&model, &images, &compute, 32, &mut go_on)?.unwrap();
//! assert!((p[..10].iter().sum::<f32>() - 1.0).abs() < 1e-5); // ten probabilities an image
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/cifar10.rs` does the whole article, line by line beside its Keras, with pictures and a run folder;
//! `examples/own_photos.rs` makes a classifier of a folder of photos and uses it.
//!
//! # Where to go on
//!
//! | to | see |
//! |---|---|
//! | open images: folders, archives, shards, manifests | [`dataset`] |
//! | make a model, read and write weights | [`builder`], [`model`], [`weights`], [`export`] |
//! | train: phases, update rules, schedules, early stopping, augmentation | [`trainer`], [`optimizer`], [`schedule`], [`monitor`], [`augment`] |
//! | use a model: probabilities, files, features, neighbours | [`inference`], [`classify`], [`similar`] |
//! | know how good it is | [`metrics`], [`calibration`], [`bootstrap`], [`gradcam`], [`report`] |
//! | look inside: layers, steps, speed | [`summary`], [`explain`], [`mod@bench`], [`doctor`] |
//! | download what is published | [`hub`] |
//! | write one's own loop over a net | [`graph`], [`plan`], [`execute`] |
//!
//! Nothing here prints: a callback is told what happens, as [`events::Event`]s, and its answer stops what runs. Nothing here
//! panics on input: every [`Error`] names the thing, what was expected, what was found, and a hint. Results are the same, bit for
//! bit, for any number of threads.
#![forbid(unsafe_code)]

mod data;
mod engine;
mod guard;
mod measure;
mod net;
mod session;
mod study;
mod train;

pub mod atomic;
pub mod error;
pub mod export;
pub mod hub;
pub mod memory;
pub mod nearest;
pub mod range;
pub mod report;

pub use data::{augment, batches, dataset, image, split};
pub use engine::{execute, inference, logistic, optimizer, plan};
pub use measure::{bootstrap, calibration, events, history, metrics, monitor};
pub use net::{graph, imagenet, init, model, parameters, preprocess, resnet, weights};
pub use session::{builder, config, job, recipe};
pub use study::{
    bench, classify, compare, doctor, explain, gradcam, inspect, label_issues, probe, similar,
    summary,
};
pub use train::{cache, class_weight, lr_find, run_folder, schedule, trainer};

pub use dataset::Dataset;
pub use error::{Error, Result};
pub use headstart_kernels::element::DType;
pub use headstart_kernels::table::Compute;
pub use inference::Control;
pub use model::Model;
pub use trainer::{Phase, Settings, Trainer};
