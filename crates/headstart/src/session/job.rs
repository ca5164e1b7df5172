//! From settings to data and model, the start of every training run and of other commands.
//!
//! ```
//! use headstart::config::TrainConfig;
//! use headstart::job::{build_model, open_data};
//!
//! let config = TrainConfig::sample(); // or TrainConfig::read("config.toml")?
//! let data = open_data(&config)?;
//! let (model, loaded) = build_model(&config, &data)?;
//! println!("{}", loaded.unwrap());
//! assert_eq!(model.card.architecture, "resnet20");
//! # Ok::<(), headstart::Error>(())
//! ```

use std::path::{Path, PathBuf};

use headstart_kernels::isa::Isa;
use headstart_kernels::table::Compute;

use crate::control::Control;
use crate::data::augment::Augment;
use crate::data::dataset::{self, DataOptions, Dataset, Subset};
use crate::data::image::{Decode, Fit, Interpolation, Target};
use crate::engine::cpu::on_a_processor;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::hub::{Hub, Watch, objects, sources};
use crate::nearest::{did_you_mean, one_of};
use crate::net::model::Model;
use crate::net::resnet::{Net, Recipe, Surroundings};
use crate::net::weights::embedded::CIFAR10;
use crate::net::weights::model_file::{ModelCard, VERSION};
use crate::net::weights::{self, LoadReport, Scope, WeightFile};
use crate::session::config::{DeviceChoice, Precision, TrainConfig};
use crate::text::is_same;

#[cfg(feature = "gpu")]
pub use crate::session::settle::rates;
pub use crate::session::settle::{busiest, settle};

/// Most threads.
const THREADS: usize = 1024;

/// Fails for impossible settings, before anything is read or downloaded: those that contradict each other, too many
/// threads, published weights that do not exist, misspelt names of weights.
///
/// # Errors
/// In these cases.
pub fn check(config: &TrainConfig) -> Result<()> {
    config.check()?;
    check_threads(config.threads)?;
    match sources::is_variant(&config.weights) {
        true => sources::weights(&config.model, &config.weights, false).map(drop),
        false => check_name(&config.weights),
    }
}

/// Fails for a word that is neither the name of weights nor a file: a misspelt name.
fn check_name(name: &str) -> Result<()> {
    let known = name == CIFAR10 || name == "none" || Path::new(name).exists();
    if known || name.contains(['.', '/', '\\']) {
        return Ok(());
    }
    let hint = did_you_mean(name, sources::VARIANTS.into_iter().chain([CIFAR10, "none"]));
    let expected = "imagenet, cifar10, none or a weight file";
    Err(Error::invalid("weights", expected, name, hint))
}

/// Fails for more than 1024 threads.
///
/// # Errors
/// In that case.
pub fn check_threads(threads: usize) -> Result<()> {
    match threads {
        0..=THREADS => Ok(()),
        _ => {
            let expected = format!("at most {THREADS}");
            Err(Error::invalid("--threads", expected, threads.to_string(), ""))
        }
    }
}

/// The net that `config` names, by which its layers can be looked up before any images are read.
///
/// # Errors
/// If there is no such net.
pub fn bare_net(config: &TrainConfig) -> Result<Net> {
    let recipe = Recipe::named(&config.model)?;
    let size = recipe.image_size;
    let around =
        Surroundings { height: size, width: size, preprocess: None, upsample: 1, classes: None };
    Net::new(&recipe, &around)
}

/// Where nets run: threads, kernels and their element type; 0 threads means one per core. What `auto` comes to is known once
/// there is a model, by [`settle`]; until then it is the processor, or for f16 the first GPU that has it.
///
/// # Errors
/// If threads cannot start, or there is no such GPU; if the device does not compute with this precision.
pub fn device(threads: usize, precision: Precision, choice: DeviceChoice) -> Result<Device> {
    let isa = Isa::from_env().map_err(|message| {
        Error::invalid("compute", "kernels that this CPU runs", message, "unset HEADSTART_ISA")
    })?;
    let compute = Compute::with_isa(threads, isa).map_err(|e| Error::threads(threads, e))?;
    match (choice, precision) {
        (DeviceChoice::Gpu(number), _) => on_gpu(number, compute, precision),
        (DeviceChoice::Auto, Precision::F16) => on_gpu(None, compute, precision).map_err(|error| {
            let hint = error.hint().filter(|hint| !hint.is_empty());
            let mend = hint.map_or(String::new(), |hint| format!("{hint}; "));
            error.with_hint(&format!("{mend}without a GPU give --precision f32 or bf16"))
        }),
        (DeviceChoice::Cpu, Precision::F16) => Err(on_a_processor()),
        _ => {
            let dtype = precision.dtype(&compute);
            Ok(compute.storing(dtype).into())
        }
    }
}

#[cfg(feature = "gpu")]
fn on_gpu(number: Option<usize>, compute: Compute, precision: Precision) -> Result<Device> {
    if precision == Precision::Bf16 {
        let (expected, hint) = ("f32 or f16 on a GPU", "give --precision f32, or --device cpu");
        return Err(Error::invalid("--precision", expected, "bf16", hint));
    }
    let compute = compute.storing(headstart_kernels::element::DType::F32);
    let compute = std::sync::Arc::new(compute);
    let device = match precision {
        Precision::F16 => Device::half_gpu(number, compute),
        _ => Device::gpu_with(number, compute),
    }?;
    if let Device::Gpu(gpu) = &device {
        super::tiles::tune(&gpu.context)?;
    }
    Ok(device)
}

#[cfg(not(feature = "gpu"))]
fn on_gpu(_: Option<usize>, _: Compute, _: Precision) -> Result<Device> {
    let hint = "build with the feature `gpu`, which is on by default";
    Err(Error::invalid("--device", "cpu: this build has no code for GPUs", "gpu", hint))
}

/// The data set that `config` names, split as it says. A published one is downloaded, unless it is on this machine.
///
/// # Errors
/// If it cannot be downloaded, read or split.
pub fn open_data(config: &TrainConfig) -> Result<Dataset> {
    open_data_with(config, &mut |_| Control::Continue)
}

/// The same, with a download watched.
///
/// # Errors
/// As there; [`Error::Stopped`].
pub fn open_data_with(config: &TrainConfig, watch: &mut Watch<'_>) -> Result<Dataset> {
    open_data_for(config, None, watch)
}

/// The same for a model that is there already, rather than for the net that `config` names.
///
/// # Errors
/// As there.
pub fn open_data_for(
    config: &TrainConfig,
    model: Option<&Model>,
    watch: &mut Watch<'_>,
) -> Result<Dataset> {
    let least_side = model.map_or(least_side(config), |model| model.target().least_side());
    let options = DataOptions {
        validation_split: config.validation_split,
        test_split: config.test_split,
        stratify: config.stratify,
        group: config.group.clone(),
        seed: config.seed,
        limit: config.limit,
        threads: config.threads,
        least_side,
        ..DataOptions::default()
    };
    open_with(&config.data, &options, watch)
}

/// The length that training needs the shorter side of large JPEGs to keep, as far as that is known before they are opened.
fn least_side(config: &TrainConfig) -> Option<usize> {
    let size = config.image_size.or(Recipe::named(&config.model).ok().map(|r| r.image_size))?;
    let interpolation = config.interpolation.unwrap_or_default();
    let (fit, decode) = (config.fit(), config.decode);
    let target = Target { interpolation, fit, decode, ..Target::square(size) };
    let augment = Augment { list: config.augment.clone(), ..Augment::default() };
    augment.least_side(target).filter(|_| config.upsample.is_none())
}

/// The data set of that name or path. A published one is downloaded, unless it is on this machine.
///
/// # Errors
/// If it cannot be downloaded, read or split.
pub fn open(source: &str, options: &DataOptions) -> Result<Dataset> {
    open_with(source, options, &mut |_| Control::Continue)
}

/// The same, with a download watched.
///
/// # Errors
/// As there; [`Error::Stopped`].
pub fn open_with(source: &str, options: &DataOptions, watch: &mut Watch<'_>) -> Result<Dataset> {
    dataset::open(local(source, watch)?, options)
}

/// Where a data set is on this machine: a published one is downloaded, unless it is there already, and of what is below a URL the
/// copy in the cache is brought up to date. Others are where they are.
///
/// # Errors
/// If it cannot be downloaded; [`Error::Stopped`].
pub fn local(source: &str, watch: &mut Watch<'_>) -> Result<PathBuf> {
    match sources::data(source) {
        Some(asset) => Hub::from_env()?.fetch(&asset, watch),
        None if objects::is_url(source) => objects::mirror(source, watch),
        None => Ok(source.into()),
    }
}

/// How images enter a net.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Height of images before the net.
    pub height: usize,
    /// Width of images before the net.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
    /// What becomes of other proportions.
    pub fit: Fit,
    /// How JPEGs are decoded.
    pub decode: Decode,
    /// Upsampling factor inside the net.
    pub upsample: usize,
}

/// Decides how images enter `recipe`: as `config` says, or else small images of one size are upsampled by a
/// whole factor to the size that the net was trained on, and others are resized to it.
///
/// # Errors
/// If images of several sizes should be upsampled by a factor.
pub fn entry(config: &TrainConfig, recipe: &Recipe, images: &Subset) -> Result<Entry> {
    let (known, fit, decode) = (recipe.image_size, config.fit(), config.decode);
    let resized = |size| Entry {
        height: size,
        width: size,
        interpolation: config.interpolation.unwrap_or_default(),
        fit,
        decode,
        upsample: 1,
    };
    let enlarged = |(height, width), upsample| Entry {
        height,
        width,
        interpolation: Interpolation::Nearest,
        fit,
        decode,
        upsample,
    };
    match (config.image_size, config.upsample, images.uniform_size()) {
        (Some(size), _, _) => Ok(resized(size)),
        (None, Some(factor), Some(size)) => Ok(enlarged(size, factor)),
        (None, Some(factor), None) => Err(Error::invalid(
            format!("--upsample {factor}"),
            "images of one size",
            "images of several sizes",
            format!("use --image-size {known}"),
        )),
        (None, None, Some((h, w)))
            if h == w
                && known.is_multiple_of(h)
                && config.interpolation.is_none_or(is_nearest)
                && fit.is_stretch() =>
        {
            Ok(enlarged((h, w), known / h))
        }
        (None, None, _) => Ok(resized(known)),
    }
}

fn is_nearest(interpolation: Interpolation) -> bool {
    interpolation == Interpolation::Nearest
}

/// The weight file that `config` names; `None` for no weights. Published weights are downloaded, unless they are on
/// this machine.
///
/// # Errors
/// If it cannot be downloaded or read; [`Error::Stopped`].
pub fn open_weights(config: &TrainConfig, watch: &mut Watch<'_>) -> Result<Option<WeightFile>> {
    match config.weights.as_str() {
        "none" => Ok(None),
        name if sources::is_variant(name) => {
            let assets = sources::weights(&config.model, name, false)?;
            let path = Hub::from_env()?.fetch_any(&assets, watch)?;
            weights::read(path).map(Some)
        }
        name => {
            check_name(name)?;
            weights::open(name).map(Some)
        }
    }
}

/// A model for `data` as `config` wants it, with its weights; the report is `None` without weights.
///
/// # Errors
/// If the weights are not of the net, or the images do not suit it.
pub fn build_model(config: &TrainConfig, data: &Dataset) -> Result<(Model, Option<LoadReport>)> {
    build_model_with(config, data, &mut |_| Control::Continue)
}

/// The same, with a download watched.
///
/// # Errors
/// As there; [`Error::Stopped`].
pub fn build_model_with(
    config: &TrainConfig,
    data: &Dataset,
    watch: &mut Watch<'_>,
) -> Result<(Model, Option<LoadReport>)> {
    let recipe = Recipe::named(&config.model)?;
    let file = open_weights(config, watch)?;
    let Entry { height, width, interpolation, fit, decode, upsample } =
        entry(config, &recipe, &data.train)?;
    let of_file = file.as_ref().and_then(|f| f.card.as_ref());
    let card = ModelCard {
        task: data.task,
        version: VERSION,
        architecture: recipe.name.clone(),
        classes: data.classes.clone(),
        height,
        width,
        interpolation,
        fit,
        decode,
        upsample,
        preprocess: config
            .preprocess
            .or(of_file.map(|c| c.preprocess))
            .unwrap_or(recipe.preprocess),
        temperature: None,
        calibration: None,
        trained: of_file.and_then(|c| c.trained.clone()),
        progress: None,
    };
    if let Some(card) = of_file
        && card.architecture != recipe.name
    {
        return Err(Error::invalid(
            config.weights.clone(),
            format!("weights of {}", recipe.name),
            format!("weights of {}", card.architecture),
            format!("add --model {}", card.architecture),
        ));
    }
    let mut model = Model::new(card, config.seed)?;
    let report = match &file {
        Some(file) => Some(model.load(file, Scope::Base)?),
        None => None,
    };
    model.reset_head(config.head_init, config.seed);
    Ok((model, report))
}

/// Labels of `subset` as indices of `model`'s classes, by class name.
///
/// # Errors
/// If `data` has images of a class that the model does not have.
pub fn labels_for(model: &Model, data: &Dataset, subset: &Subset) -> Result<Vec<usize>> {
    let known = &model.card.classes;
    let map: Vec<Option<usize>> =
        data.classes.iter().map(|c| known.iter().position(|k| is_same(k, c))).collect();
    subset
        .labels()
        .into_iter()
        .map(|label| {
            map[label].ok_or_else(|| {
                let name = &data.classes[label];
                Error::invalid(
                    format!("class {name} of {}", data.name),
                    format!("one of the model's {} classes", known.len()),
                    "a class it was not trained on",
                    one_of("the model's classes", name, known),
                )
            })
        })
        .collect()
}
