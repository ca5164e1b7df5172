//! Suspected label errors of training images, by cross-validated heads over a net's features.

use std::collections::HashSet;

use serde::Serialize;

use super::{Inspection, Member};
use crate::data::dataset::Dataset;
use crate::data::split::class_counts;
use crate::engine::device::Device;
use crate::engine::logistic::Examples;
use crate::error::{Error, Result};
use crate::measure::events::Event;
use crate::net::model::Model;
use crate::study::label_issues::{LabelOptions, find, most_heads, out_of_fold_with};
use crate::study::planted::wrong_labels_with;
use crate::train::cache::{CacheSettings, Emit, Part, Whole};
use crate::train::trainer::INFERENCE_BATCH;

/// Suspected label errors, and how they were found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelCheck {
    /// The net.
    pub model: String,
    /// The layer whose outputs are the heads' features.
    pub layer: String,
    /// Training images that were checked.
    pub images: usize,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// L2 penalty of the heads' kernels.
    pub l2: f64,
    /// Cross-validated accuracy: fraction of the images whose label is predicted by a head that was not trained on them.
    /// Where it is low, the list is not reliable.
    pub accuracy: f64,
    /// Classes of fewer images than folds, which are left out.
    pub left_out: Vec<String>,
    /// How many of the issues are wrong labels at most, estimated by labels that were changed on purpose
    /// ([`crate::study::planted`]); the others are right, and the images hard.
    pub estimated_wrong: usize,
    /// The most confident first.
    pub issues: Vec<Mislabelled>,
}

/// An image with a suspected label error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mislabelled {
    /// The image, with its label.
    #[serde(flatten)]
    pub image: Member,
    /// The most probable class.
    pub suggested: String,
    /// Its position in the data set's list of classes, from 0.
    pub suggested_index: usize,
    /// Probability of the label.
    pub label_probability: f32,
    /// Probability of the most probable class.
    pub probability: f32,
    /// `(label_probability - probability + 1) / 2`, 0 where the label is certainly wrong.
    pub margin: f32,
}

/// Checks the labels of the training images that `found` does not list as unreadable; `None` if `emit` stopped it. The
/// images go through `model`'s frozen layers up to the pooling. These features are cached on disk as `cache` says: they are
/// those of training's first phase ([`Whole`]).
///
/// # Errors
/// If fewer than two classes have an image a fold, an image cannot be read, or as
/// [`crate::study::label_issues::out_of_fold`].
pub fn check_labels(
    model: &Model,
    data: &Dataset,
    found: &Inspection,
    device: &Device,
    cache: &CacheSettings,
    options: LabelOptions,
    emit: &mut Emit<'_>,
) -> Result<Option<LabelCheck>> {
    let bad: HashSet<&str> = found.unreadable.iter().map(|s| s.name.as_str()).collect();
    let readable = |i: &usize| !bad.contains(&*data.train.path(*i));
    let mut positions: Vec<usize> = (0..data.train.len()).filter(readable).collect();
    let counts = class_counts(positions.iter().map(|&i| data.train.label(i)), data.classes.len());
    positions.retain(|&i| counts[data.train.label(i)] >= options.folds);
    let judged = counts.iter().filter(|&&count| count > 0 && count >= options.folds).count();
    if judged < 2 {
        let expected = format!("two classes of {} images or more", options.folds);
        return Err(Error::invalid("training images", expected, judged.to_string(), ""));
    }
    let subset = data.train.select(&positions);
    let node = model.pooled();
    let mut whole = Whole::new(model, &data.name, device, INFERENCE_BATCH, cache);
    let Some(values) = whole.pooled((Part::Train.name(), &subset), emit)? else {
        return Ok(None);
    };
    let (labels, classes) = (subset.labels(), data.classes.len());
    let width = values.len() / labels.len();
    let examples = Examples::new(&values, width, &labels, classes);
    let (compute, before) = (device.compute(), most_heads(options));
    let total = before + options.folds;
    let mut heads = |done| emit(Event::CrossValidating { done, total });
    let Some(held_out) = out_of_fold_with(compute, examples, options, &mut heads)? else {
        return Ok(None);
    };
    let issues = find(&held_out.probabilities, &labels, classes);
    let mut heads = |done| emit(Event::CrossValidating { done: before + done, total });
    let wrong = wrong_labels_with(compute, examples, &held_out, &issues, options, &mut heads)?;
    let Some(estimated_wrong) = wrong else { return Ok(None) };
    emit(Event::CrossValidating { done: total, total })?;
    let issues = issues.into_iter().map(|issue| {
        let image = Member {
            name: subset.path(issue.image).into_owned(),
            class: data.classes[issue.label].clone(),
            split: Part::Train.name(),
            size: subset.size(issue.image),
            position: positions[issue.image],
        };
        Mislabelled {
            image,
            suggested: data.classes[issue.suggested].clone(),
            suggested_index: issue.suggested,
            label_probability: issue.label_probability,
            probability: issue.probability,
            margin: issue.margin(),
        }
    });
    let few = |&(_, &count): &(&String, &usize)| count < options.folds;
    let left_out = data.classes.iter().zip(&counts).filter(few).map(|(name, _)| name.clone());
    Ok(Some(LabelCheck {
        model: model.card.architecture.clone(),
        layer: model.net.graph.nodes[node].name.clone(),
        images: labels.len(),
        folds: options.folds,
        l2: held_out.l2,
        accuracy: held_out.accuracy,
        left_out: left_out.collect(),
        estimated_wrong,
        issues: issues.collect(),
    }))
}
