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
//! Images and a small net pretrained on CIFAR-10 are inside the library, so this trains without any file. For your own
//! photos use `Dataset::load("photos")`, and for ImageNet's weights `Model::builder("resnet50")`:
//!
//! ```
//! use headstart::events::Event;
//! use headstart::{Control, Dataset, Device, Model, Phase, Settings, Trainer};
//!
//! // 1,797 handwritten digits; a net without its head, and a new head for ten classes.
//! let data = Dataset::load("sample")?;
//! let mut model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//!
//! // The head is trained over the frozen net, which runs once per image and not once per epoch.
//! let device = Device::cpu(0)?; // a thread per core, the best instructions of this CPU
//! let mut trainer = Trainer::new(&mut model, &data, device.clone(), Settings::default())?;
//! let mut watch = |event: &Event| {
//!     if let Event::Epoch(e) = event {
//!         println!("epoch {}: loss {:.3}, validation {:?}", e.epoch, e.loss, e.val_accuracy);
//!     }
//!     Control::Continue // or Control::Stop
//! };
//! trainer.fit(&Phase::head(5, 1e-2), &mut watch)?;
//!
//! // Fine-tuning would follow, from a layer on: net.freeze_point("100") and Phase::fine_tune.
//! let report = trainer.evaluate(&mut watch)?.unwrap();
//! println!("{report}"); // loss, top-1, top-5, precision, recall and F1 by class
//! assert!(report.accuracy > 0.5);
//!
//! // One file has all that an application needs: weights, classes, image size, preprocessing.
//! let folder = tempfile::tempdir()?;
//! model.save(folder.path().join("digits.safetensors"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An application opens that file, and needs no callback and no device:
//!
//! ```
//! use headstart::{Dataset, Model};
//!
//! # let folder = tempfile::tempdir()?;
//! # let back = std::env::current_dir()?;
//! # std::env::set_current_dir(folder.path())?;
//! # let sample = Dataset::load("sample")?;
//! # Model::builder("resnet20").weights("cifar10").build(&sample)?.save("photos.safetensors")?;
//! # std::fs::write("photo.jpg", headstart::image::picture::png(&sample.train.image(0)?)?)?;
//! # for class in &sample.classes {
//! #     std::fs::create_dir_all(format!("photos/{class}"))?;
//! #     for i in 0..2 {
//! #         let image = headstart::image::picture::png(&sample.train.image(i)?)?;
//! #         std::fs::write(format!("photos/{class}/{i}.png"), image)?;
//! #     }
//! # }
//! let model = Model::open("photos.safetensors")?;
//! for choice in model.predict("photo.jpg")?.iter().take(3) {
//!     println!("{}: {:.1}%", choice.class, 100.0 * choice.probability);
//! }
//! let upload: Vec<u8> = std::fs::read("photo.jpg")?;
//! println!("{}", model.predict_bytes(&upload)?[0].class);
//!
//! let report = model.evaluate(&model.open_data("photos")?)?;
//! println!("{report}"); // loss, accuracy, precision, recall and F1 by class
//! model.save("copy.safetensors")?;
//! # assert_eq!(Model::open("copy.safetensors")?, model);
//! # std::env::set_current_dir(back)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Many files at once are faster with [`classify`]; [`mod@evaluate`] and [`inference`] are the forms with a device, a
//! batch size, and a callback that can stop them.
//!
//! `examples/cifar10.rs` does the whole job of the Keras tutorial "Supercharge Your AI: ResNet50 Transfer Learning
//! Unleashed", line by line beside its Keras code, with pictures and a run folder. `examples/own_photos.rs` makes a
//! classifier from a folder of photos and uses it.
//!
//! # Where to read on
//!
//! | to | see |
//! |---|---|
//! | open images: folders, archives, shards, manifests | [`dataset`] |
//! | make a model, read and write weights | [`builder`], [`model`], [`weights`], [`export`] |
//! | train: phases, optimizers, schedules, early stopping, augmentation | [`trainer`], [`optimizer`], [`schedule`], [`monitor`], [`augment`] |
//! | do a whole run from settings, which can be stopped and resumed | [`config`], [`recipe`], [`run`] |
//! | use a model: probabilities, files, features, similar images | [`Model::predict`], [`source`], [`inference`], [`classify`], [`similar`] |
//! | measure how good it is | [`mod@evaluate`], [`mod@cross_validate`], [`mod@probe_weights`], [`metrics`], [`calibration`], [`bootstrap`], [`gradcam`], [`hard`], [`report`] |
//! | look inside: layers, steps, speed | [`summary`], [`explain`], [`mod@bench`], [`doctor`] |
//! | download what is published | [`hub`] |
//! | write one's own loop over a net | [`graph`], [`plan`], [`execute`] |
//!
//! Nothing here prints: a callback gets what happens, as [`events::Event`]s, and can stop it. Nothing here
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
mod control;
pub mod error;
pub mod export;
mod file_kind;
pub mod hub;
pub mod memory;
pub mod nearest;
mod numbers;
pub mod range;
pub mod report;
pub mod task;
pub mod text;

pub use data::{augment, batches, dataset, image, prints, split};
pub use engine::{inference, logistic, optimizer, plan};
/// Plans with memory and weights on a device, ready to run.
pub mod execute {
    pub use crate::engine::cpu::Executor;
    pub use crate::engine::execute::*;
    pub use crate::engine::gradients::{Gradients, StepResult};
}
pub use measure::{bootstrap, calibration, events, history, metrics, monitor};
pub use net::{graph, imagenet, init, model, parameters, preprocess, resnet, weights};
pub use session::{
    builder, compare, config, cross_validate, evaluate, job, neighbours, next, outcome, page,
    probe_weights, recipe, run, shard, source,
};
pub use study::{
    bench, classify, doctor, explain, gradcam, hard, label_issues, planted, probe, similar, summary,
};

/// What is wrong with a data set: files that cannot be used, duplicates, suspected label errors.
pub mod inspect {
    pub use crate::report::data_check as html;
    pub use crate::study::inspect::*;
}

/// The learning rate range test: over a trainer's phase, and from settings.
pub mod lr_find {
    pub use crate::session::range_test::*;
    pub use crate::train::lr_find::*;
}
pub use train::{cache, class_weight, collective, run_folder, schedule, trainer};

pub use control::Control;
pub use dataset::Dataset;
pub use engine::device::Device;
pub use error::{Error, Result};
pub use export::Choice;
pub use headstart_kernels::element::DType;
pub use headstart_kernels::table::Compute;
pub use model::Model;
pub use task::Task;
pub use trainer::{Phase, Settings, Trainer};
