//! One file per command.

mod bench;
mod cache;
mod compare;
mod cross_validate;
mod data;
mod doctor;
mod evaluate;
mod explain;
mod explain_image;
mod export;
mod features;
mod generate;
mod guide;
mod hub;
mod images;
mod inspect;
mod lr_find;
mod merge;
mod plot;
mod predict;
mod probe;
mod recipe;
mod report;
mod serve;
mod shard;
mod similar;
mod summary;
mod train;
mod unused;

#[cfg(unix)]
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use headstart::atomic;
use headstart::config::{DeviceChoice, Precision, TrainConfig};
use headstart::dataset::Dataset;
use headstart::job::{self, build_model_with};
use headstart::model::Model;
use headstart::source::ModelSource;
use headstart::weights::file_of;
use headstart::{Device, Error, memory, range};

use crate::args::Command;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::note;
use crate::ranks::{self, Part};

/// Runs a command; reading files may take `memory_limit` megabytes.
pub fn run(command: Command, memory_limit: Option<u64>) -> Result<(), Failure> {
    let limit = match memory_limit {
        Some(megabytes) => Some(range::bytes(megabytes)),
        None => memory::limit_of_environment().map_err(Failure::Usage)?,
    };
    if let Some(bytes) = limit {
        memory::set_limit(bytes);
    }
    if let Part::Leave = ranks::enter(&command)? {
        return Ok(());
    }
    match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Features(args) => features::run(&args),
        Command::ExplainImage(args) => explain_image::run(&args),
        Command::Similar(args) => similar::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::CrossValidate(args) => cross_validate::run(&args),
        Command::LrFind(args) => lr_find::run(&args),
        Command::Recipe(args) => recipe::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Weights(args) => hub::weights(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

/// Threads, kernels and what they store; 0 threads are one per core.
fn device(threads: usize, precision: Precision, choice: DeviceChoice) -> Result<Device, Failure> {
    job::check_threads(threads).map_err(Failure::Usage)?;
    Ok(job::device(threads, precision, choice)?)
}

/// What `--device auto` comes to for this model, said where there is a choice.
fn settled(
    device: Device,
    (choice, precision): (DeviceChoice, Precision),
    model: &Model,
    batch: usize,
) -> Result<Device, Failure> {
    let work = (headstart::bench::Part::Forward, batch);
    let (device, why) = job::settle(device, choice, precision, model, work)?;
    if let Some(why) = why {
        note!("{why}");
    }
    Ok(device)
}

/// Fails if a file that is to be written cannot be, or is one of those that are read, by whatever name: before the work, not
/// after it.
fn check_output(
    out: Option<&Path>,
    inputs: impl IntoIterator<Item = impl AsRef<Path>>,
) -> Result<(), Failure> {
    let Some(out) = out else { return Ok(()) };
    if let Some(real) = out.canonicalize().ok().filter(|real| real.is_file()) {
        for input in inputs {
            let path = file_of(input.as_ref());
            if path.canonicalize().is_ok_and(|path| path == real) {
                let what = real.display().to_string();
                let hint = "choose another name";
                let error = Error::invalid(what, "a file to write", "one that is read", hint);
                return Err(Failure::Usage(error));
            }
        }
    }
    // Writing to a pipe waits for its reader.
    #[cfg(unix)]
    if std::fs::metadata(out).is_ok_and(|meta| FileTypeExt::is_fifo(&meta.file_type())) {
        interrupt::end_at_once();
    }
    Ok(atomic::check(out)?)
}

/// Fails for settings that cannot be meant; where a model file is given, nothing is made from them but data.
fn check(config: &TrainConfig, model: Option<&str>) -> Result<(), Failure> {
    match model {
        Some(_) => config.check(),
        None => job::check(config),
    }
    .map_err(Failure::Usage)
}

/// The model of a file that was opened, or the one that `config` makes for `data`.
fn model_for(
    opened: Option<Model>,
    config: &TrainConfig,
    data: &Dataset,
) -> Result<Model, Failure> {
    match opened {
        Some(model) => Ok(model),
        None => {
            let (model, report) = hub::watched(|watch| build_model_with(config, data, watch))?;
            if let Some(report) = report {
                note!("weights {}: {report}", config.weights);
            }
            Ok(model)
        }
    }
}

/// The classifier that MODEL and --weights mean: a model file, or a net by name with its published
/// weights, those of a file, or those inside the program.
fn open_model(model: &str, given: Option<&str>) -> Result<Model, Failure> {
    let source = ModelSource::new(model, given).map_err(Failure::Usage)?;
    let (model, loaded) = hub::watched(|watch| source.open(watch))?;
    if let Some(loaded) = loaded {
        note!("weights {}: {}", loaded.path.display(), loaded.report);
    }
    Ok(model)
}
