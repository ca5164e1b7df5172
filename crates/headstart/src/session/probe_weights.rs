//! Weights of one net compared on a data set: a head over each one's frozen features, judged by cross-validation.

use std::time::Instant;

use serde::Serialize;

use super::config::TrainConfig;
use super::job::build_model_with;
use crate::control::Control;
use crate::data::dataset::Dataset;
use crate::engine::device::Device;
use crate::engine::logistic::team::Team;
use crate::error::{Error, Result};
use crate::hub::Watch;
use crate::measure::events::Event;
use crate::train::cache::{CacheSettings, Part, Whole};
use crate::train::head_fit::{Seen, held_out};
use crate::train::trainer::INFERENCE_BATCH;

/// What a head over the features of some weights reaches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbedWeights {
    /// The weights, as they were given.
    pub weights: String,
    /// Features per image.
    pub features: usize,
    /// Accuracy on images that the head was not fitted on.
    pub accuracy: f64,
    /// Its standard error, `sqrt(a (1 - a) / samples)`.
    pub standard_error: f64,
    /// Mean cross-entropy on the same images.
    pub loss: f64,
    /// L2 penalty of the head, the best one.
    pub l2: f64,
    /// Images that the figures are of.
    pub samples: usize,
    /// Seconds that it took, features included.
    pub seconds: f64,
}

/// Compares `weights` for the net of `config`, each as [`TrainConfig::weights`], by five-fold cross-validation over the training
/// images of `data`; `None` if `emit` stopped it. From 4,000 images on, as many folds as hold out 4,000.
///
/// # Errors
/// If weights cannot be downloaded, read or are of another net, an image cannot be decoded, there is no class of two images, or
/// as `emit`.
pub fn probe_weights(
    config: &TrainConfig,
    weights: &[String],
    data: &Dataset,
    (device, cache): (&Device, &CacheSettings),
    watch: &mut Watch<'_>,
    emit: &mut dyn FnMut(Event) -> Result<Control>,
) -> Result<Option<Vec<ProbedWeights>>> {
    let (labels, classes) = (data.train.labels(), data.classes.len());
    let mut list = Vec::with_capacity(weights.len());
    for name in weights {
        let start = Instant::now();
        let own = TrainConfig { weights: name.clone(), ..config.clone() };
        let (model, _) = build_model_with(&own, data, watch)?;
        let mut whole = Whole::new(&model, &data.name, device, INFERENCE_BATCH, cache);
        let Some(features) = whole.pooled((Part::Train.name(), &data.train), emit)? else {
            return Ok(None);
        };
        let seen = Seen { features, labels: labels.clone() };
        let Some(found) = held_out(&Team::alone(device.compute()), &seen, (classes, &[]), emit)?
        else {
            return Ok(None);
        };
        let Some((found, samples)) = found else {
            let hint = "a head is judged on images that it was not fitted on";
            return Err(Error::invalid("images", "a class of two or more", "none", hint));
        };
        let found = found.held_out;
        let accuracy = found.accuracy;
        list.push(ProbedWeights {
            weights: name.clone(),
            features: seen.features.len() / seen.labels.len().max(1),
            accuracy,
            standard_error: (accuracy * (1.0 - accuracy) / samples as f64).sqrt(),
            loss: found.loss,
            l2: found.l2,
            samples,
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    Ok(Some(list))
}
