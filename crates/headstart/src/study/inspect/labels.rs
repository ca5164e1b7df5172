//! Labels of training images that are likely wrong, by heads over what a net makes of the images.

use std::collections::HashSet;
use std::sync::Arc;

use headstart_kernels::table::Compute;
use serde::Serialize;

use super::{Inspection, Member};
use crate::data::dataset::Dataset;
use crate::engine::inference::Control;
use crate::engine::logistic::Examples;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::study::label_issues::{LabelOptions, find, out_of_fold};
use crate::train::cache::{CacheSettings, Emit, Frozen, Keeping, Part, Rows};
use crate::train::trainer::INFERENCE_BATCH;

/// Which labels are likely wrong, and what says so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelCheck {
    /// The net.
    pub model: String,
    /// The layer whose outputs the heads read.
    pub layer: String,
    /// Training images that were judged.
    pub images: usize,
    /// Parts that were predicted in turn from the others.
    pub folds: usize,
    /// Weight of the heads' squared kernel.
    pub l2: f64,
    /// Share of the images whose most probable class, by a head that did not see them, is their label: where this is low,
    /// so is the worth of the list.
    pub accuracy: f64,
    /// Classes of fewer images than folds, which are left out.
    pub left_out: Vec<String>,
    /// The likeliest errors first.
    pub issues: Vec<Mislabelled>,
}

/// An image whose label is likely wrong.
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
    /// `(label_probability - probability + 1) / 2`, 0 where the label is surely wrong.
    pub margin: f32,
}

/// Judges the labels of the training images that `found` does not list as unreadable; `None` if `emit` said to stop. The
/// images go through `model`'s frozen layers up to the pooling, whose outputs are kept as `cache` says: those of
/// training's first phase.
///
/// # Errors
/// If fewer than two classes have an image a fold, an image cannot be read, or as [`out_of_fold`].
pub fn check_labels(
    model: &Model,
    data: &Dataset,
    found: &Inspection,
    compute: &Arc<Compute>,
    cache: &CacheSettings,
    options: LabelOptions,
    emit: &mut Emit<'_>,
) -> Result<Option<LabelCheck>> {
    let bad: HashSet<&str> = found.unreadable.iter().map(|s| s.name.as_str()).collect();
    let readable = |i: &usize| !bad.contains(data.train.name(*i));
    let mut positions: Vec<usize> = (0..data.train.len()).filter(readable).collect();
    let mut counts = vec![0; data.classes.len()];
    positions.iter().for_each(|&i| counts[data.train.label(i)] += 1);
    positions.retain(|&i| counts[data.train.label(i)] >= options.folds);
    let judged = counts.iter().filter(|&&count| count > 0 && count >= options.folds).count();
    if judged < 2 {
        let expected = format!("two classes of {} images or more", options.folds);
        return Err(Error::invalid("training images", expected, judged.to_string(), ""));
    }
    let subset = data.train.select(&positions);
    let node = model.pooled();
    let mut frozen = Frozen::new(model, &[node], compute, INFERENCE_BATCH, cache)?;
    let part = (Part::Train, &subset);
    if frozen.keep(model, &data.name, part, Keeping::Memory, emit)? == Control::Stop {
        return Ok(None);
    }
    let Some(Rows::Memory(features)) = frozen.rows(Part::Train) else {
        return Err(Error::invalid("features", "in memory", "elsewhere", ""));
    };
    let (values, labels) = (features.tensors[0].as_slice().to_f32(), subset.labels());
    let (width, classes) = (features.elements[0], data.classes.len());
    let examples = Examples { features: &values, width, labels: &labels, classes };
    let held_out = out_of_fold(compute, examples, options)?;
    let issues = find(&held_out.probabilities, &labels, classes).into_iter().map(|issue| {
        let image = Member {
            name: subset.name(issue.image).to_string(),
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
        issues: issues.collect(),
    }))
}
