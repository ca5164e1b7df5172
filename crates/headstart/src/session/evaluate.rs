//! A classifier evaluated on the images of a data set, and calibrated on some of them.
//!
//! ```
//! use headstart::dataset::Split;
//! use headstart::{Control, Dataset, Device, Model, evaluate};
//!
//! let data = Dataset::load("synthetic:2x20x32")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let parts = data.parts(Split::Auto)?;
//! let mut watch = |_part: &str, _done: usize, _images: usize| Control::Continue;
//! let evaluated = evaluate::evaluate(&model, &data, &parts, &Device::cpu(0)?, 32, &mut watch)?;
//! println!("{}", evaluated.unwrap().report);
//! # Ok::<(), headstart::Error>(())
//! ```

use std::path::Path;

use crate::control::Control;
use crate::data::dataset::{Dataset, Split, Subset};
use crate::data::image::Views;
use crate::engine::device::Device;
use crate::engine::inference::{answer_node, assess_views};
use crate::error::{Error, Result};
use crate::measure::calibration::{self, TemperatureFit};
use crate::measure::events::Event;
use crate::measure::metrics::Report;
use crate::net::model::Model;
use crate::net::weights;
use crate::session::job::labels_for;
pub use crate::session::known::{Given, Opened, Seen, open_for, seen, tuned_on};
use crate::train::cache::{CacheSettings, Emit, Whole};

/// Gets the name of a part, how many of its images are done, and how many it has; returns whether to continue.
pub type Watch<'w> = dyn FnMut(&'static str, usize, usize) -> Control + 'w;

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The metrics.
    pub report: Report,
    /// Class probabilities, `[images, classes]` row-major, part after part.
    pub probabilities: Vec<f32>,
    /// Labels of the same images, as indices of the model's classes.
    pub labels: Vec<usize>,
}

/// Tells `watch` of the images that are done.
fn progress(watch: &mut Watch<'_>) -> impl FnMut(Event) -> Result<Control> {
    |event| {
        Ok(match event {
            Event::Features { split, done, total, .. } => watch(split, done, total),
            _ => Control::Continue,
        })
    }
}

/// Classifies the images of `parts` of `data`, `batch` of them at a time; `None` if `watch` said to stop.
///
/// # Errors
/// If the data has classes that the model does not have, an image cannot be decoded, or probabilities are not numbers.
pub fn evaluate(
    model: &Model,
    data: &Dataset,
    parts: &[(&'static str, &Subset)],
    device: &Device,
    batch: usize,
    watch: &mut Watch<'_>,
) -> Result<Option<Evaluated>> {
    let (cache, emit) = (CacheSettings::none(), &mut progress(watch));
    let options = EvaluateOptions { batch, tta: Views::One, cache: &cache };
    evaluate_with(model, data, parts, device, options, emit)
}

/// How images are evaluated.
#[derive(Clone, Copy, Debug)]
pub struct EvaluateOptions<'c> {
    /// Batch size.
    pub batch: usize,
    /// Test-time augmentation: the mean of the probabilities of these views of an image.
    pub tta: Views,
    /// Where features are read and written.
    pub cache: &'c CacheSettings,
}

/// The same through cached features, as [`Whole`] reads and writes them: the same result, bit for bit. `emit` gets
/// [`Event::Features`] of the images that have to be computed, and what there is to say of the cache.
///
/// # Errors
/// As [`fn@evaluate`]; the errors of `emit`.
pub fn evaluate_with(
    model: &Model,
    data: &Dataset,
    parts: &[(&'static str, &Subset)],
    device: &Device,
    options: EvaluateOptions<'_>,
    emit: &mut Emit<'_>,
) -> Result<Option<Evaluated>> {
    let EvaluateOptions { batch, tta, cache } = options;
    let (views, mut labels) = (tta.list(), Vec::new());
    let mut answers = vec![Vec::new(); views.len()];
    let mut whole = Whole::new(model, &data.name, device, batch, cache);
    let node = answer_node(model);
    for &(name, subset) in parts {
        labels.extend(labels_for(model, data, subset)?);
        for (view, all) in views.iter().zip(&mut answers) {
            match whole.values((view.title(name), &subset.seen_as(*view)), node, emit)? {
                Some(some) => all.extend(some),
                None => return Ok(None),
            }
        }
    }
    let name = if let [(name, _)] = parts { *name } else { "all" };
    let (mut report, probabilities) = assess_views(model, name, answers, &labels)?;
    report.trained_on = seen(model, parts, &device.compute().threads)?.map(|seen| seen.count);
    Ok(Some(Evaluated { report, probabilities, labels }))
}

/// Fits a temperature on the validation images of `data`, takes it where it helps on images that it was not fitted on
/// ([`calibration::calibrate`]), and stores it, or none, in the model's card and in that of its file at `path`, or in the run's folder there, where it changes nothing else; `None` if `watch` said to stop. Images are classified `batch` at a time.
///
/// # Errors
/// If there are no validation images, as [`evaluate`], or if the file cannot be read or written.
pub fn calibrate(
    model: &mut Model,
    path: &Path,
    data: &Dataset,
    device: &Device,
    batch: usize,
    watch: &mut Watch<'_>,
) -> Result<Option<TemperatureFit>> {
    let (cache, emit) = (CacheSettings::none(), &mut progress(watch));
    calibrate_with(model, path, data, device, batch, &cache, emit)
}

/// The same through cached features, as [`evaluate_with`].
///
/// # Errors
/// As [`calibrate`]; the errors of `emit`.
pub fn calibrate_with(
    model: &mut Model,
    path: &Path,
    data: &Dataset,
    device: &Device,
    batch: usize,
    cache: &CacheSettings,
    emit: &mut Emit<'_>,
) -> Result<Option<TemperatureFit>> {
    let (name, subset) = data.parts(Split::Validation)?[0];
    let labels = labels_for(model, data, subset)?;
    if let Some(trained) = model.card.trained.as_ref().filter(|t| !t.refit.is_empty()) {
        let hashes = subset.image_hashes(&device.compute().threads)?;
        let count = hashes.iter().filter(|hash| trained.refit.contains(hash)).count();
        if count > 0 {
            let expected = "images that the model was not trained on";
            let found = format!("{count} of {} that its head was fitted on", subset.len());
            let hint = "train without --refit, or take other images";
            return Err(Error::invalid("validation images", expected, found, hint));
        }
    }
    let mut whole = Whole::new(model, &data.name, device, batch, cache);
    let Some(logits) = whole.values((name, subset), model.logits(), emit)? else {
        return Ok(None);
    };
    let fit = calibration::calibrate(model.card.classes.len(), &logits, &labels)?;
    let file = weights::read(path)?;
    if file.is_state_dict() {
        let expected = "a model file of a run, whose tensors have Keras's names";
        let hint = "calibrate the run's model, then export it again";
        return Err(Error::format(&file.path, expected, "an export for PyTorch", hint));
    }
    let (path, optimizer) = (file.path.clone(), file.optimizer.clone());
    let mut stored = Model::from_file(file)?;
    if stored.parameters != model.parameters {
        let expected = "the weights that the temperature was fitted on";
        let hint = "a run writes to it: wait until it ends";
        return Err(Error::format(&path, expected, "others by now", hint));
    }
    (stored.card.temperature, stored.card.calibration) = (fit.stored(), Some(fit));
    let progress = stored.card.progress.clone();
    stored.save_with(path, progress, &optimizer)?;
    (model.card.temperature, model.card.calibration) = (fit.stored(), Some(fit));
    Ok(Some(fit))
}
