//! One file per command.

mod bench;
mod cache;
mod compare;
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
mod inspect;
mod lr_find;
mod plot;
mod predict;
mod probe;
mod recipe;
mod resume;
mod similar;
mod summary;
mod train;

use std::path::Path;
use std::sync::Arc;

use headstart::config::Precision;
use headstart::dataset::{Dataset, Subset};
use headstart::hub::sources;
use headstart::model::Model;
use headstart::range;
use headstart::resnet::Recipe;
use headstart::weights::embedded::{CIFAR10, CIFAR10_MODEL};
use headstart::weights::{self, Scope};
use headstart::{Compute, Error};

use crate::args::{Command, Split};
use crate::failure::Failure;

/// Runs a command.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Features(args) => features::run(&args),
        Command::ExplainImage(args) => explain_image::run(&args),
        Command::Similar(args) => similar::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::LrFind(args) => lr_find::run(&args),
        Command::Recipe(args) => recipe::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Weights(args) => hub::weights(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

/// Threads, kernels and what they store; 0 threads are one per core.
fn compute(threads: usize, precision: Precision) -> Result<Arc<Compute>, Failure> {
    range::THREADS.check(threads as u64).map_err(Failure::Usage)?;
    let compute = Compute::new(threads).map_err(|message| {
        let expected = "threads and kernels that can start";
        Failure::Failed(Error::invalid("compute", expected, message, "unset HEADSTART_ISA"))
    })?;
    let dtype = precision.dtype(compute.isa());
    Ok(Arc::new(compute.storing(dtype)))
}

/// Whether a MODEL argument means a file: it is one, or has a folder or a model file's ending in it.
fn is_file(text: &str) -> bool {
    let path = Path::new(text);
    path.is_file() || path.components().count() > 1 || path.extension().is_some()
}

/// The classifier that MODEL and --weights mean: a model file, or a net by name with its published
/// weights, a file's, or those inside the program.
fn open_model(model: &str, given: Option<&str>) -> Result<Model, Failure> {
    if is_file(model) {
        if given.is_none() {
            return Ok(Model::open(model)?);
        }
        return Err(Failure::Usage(Error::invalid(
            "--weights",
            "the name of a net before it",
            format!("the model file {model}, which has weights"),
            "leave --weights out",
        )));
    }
    Recipe::named(model).map_err(Failure::Usage)?;
    let own = if model == CIFAR10_MODEL { CIFAR10 } else { sources::IMAGENET };
    let name = given.unwrap_or(own);
    let file = match sources::is_variant(name) {
        true => weights::read(hub::fetch(&hub::published(model, name, true)?)?)?,
        false => weights::open(name)?,
    };
    if let Some(card) = file.card.clone() {
        if card.architecture != model {
            let expected = format!("weights of {model}");
            let found = format!("weights of {}", card.architecture);
            return Err(Error::invalid(name, expected, found, "").into());
        }
        return Ok(Model::from_file(file)?);
    }
    let mut model = Model::imagenet(model).map_err(Failure::Usage)?;
    let report = model.load(&file, Scope::All)?;
    eprintln!("weights {}: {report}", file.path.display());
    Ok(model)
}

/// The parts of a data set that `--split` means, with their names.
fn parts(data: &Dataset, split: Split) -> Result<Vec<(&'static str, &Subset)>, Error> {
    let (validation, test) = (data.validation.as_ref(), data.test.as_ref());
    let one = |name: &'static str, subset: Option<&'static str>| {
        Error::invalid(
            format!("{name} images of {}", data.name),
            "some",
            "none",
            subset.unwrap_or("choose others with --split"),
        )
    };
    match split {
        Split::Train => Ok(vec![("train", &data.train)]),
        Split::Validation => {
            let hint = "hold some out with --validation-split";
            let part = validation.ok_or_else(|| one("validation", Some(hint)))?;
            Ok(vec![("validation", part)])
        }
        Split::Test => Ok(vec![("test", test.ok_or_else(|| one("test", None))?)]),
        Split::Auto if test.is_some() => parts(data, Split::Test),
        Split::Auto | Split::All => {
            let mut list = vec![("train", &data.train)];
            list.extend(validation.map(|s| ("validation", s)));
            list.extend(test.map(|s| ("test", s)));
            Ok(list)
        }
    }
}
