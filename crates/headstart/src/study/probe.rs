//! How good each stage of a net is for a task: a linear head on each stage's pooled outputs (Alain and Bengio
//! 2016, "Understanding intermediate layers using linear classifier probes").
//!
//! ```
//! use headstart::cache::{CacheSettings, Whole};
//! use headstart::{Control, Dataset, Device, Model, probe};
//!
//! let data = Dataset::load("synthetic:3x40x32")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let device = Device::cpu(0)?;
//! let cache = CacheSettings::none();
//! let mut whole = Whole::new(&model, &data.name, &device, 32, &cache);
//! let mut stages = |part, subset| whole.stages((part, subset), &mut |_event| Ok(Control::Continue));
//! let validation = data.validation.unwrap();
//! let fitted = stages("train", &data.train)?.unwrap();
//! let held_out = stages("validation", &validation)?.unwrap();
//! let (train, test) = ((&fitted[..], &data.train.labels()[..]), (&held_out[..], &validation.labels()[..]));
//! let probed = probe::probe(&model, &device, train, test, 3, 1e-3)?;
//! assert_eq!(probed.stages.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::Serialize;

use crate::engine::device::Device;
use crate::engine::logistic::{Examples, Scaler, SolveOptions, solve};
use crate::error::{Error, Result};
use crate::measure::rank::argmax;
use crate::net::model::Model;

/// A stage's head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageProbe {
    /// The stage's last layer.
    pub layer: String,
    /// Its index in Keras's numbering.
    pub index: usize,
    /// Features per image after pooling.
    pub features: usize,
    /// Accuracy on the images the head was fitted on.
    pub train_accuracy: f64,
    /// Accuracy on the other images.
    pub accuracy: f64,
    /// Where fine-tuning would start if all up to this stage stays frozen; none after the last, where only the
    /// head trains.
    pub fine_tune_at: Option<String>,
}

/// All stages, from the first to the last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probed {
    /// The stages.
    pub stages: Vec<StageProbe>,
    /// Number of images the heads are compared on.
    pub samples: usize,
    /// The best stage's accuracy.
    pub best: f64,
    /// Its standard error, `sqrt(a (1 - a) / samples)`.
    pub standard_error: f64,
    /// The layer from which to train: the one after the last stage that is within a standard error of the best, or
    /// the last stage's first layer where that is the last stage.
    pub suggested: String,
}

/// Fits a linear head on the standardised pooled outputs of each stage on `train` and compares the heads on
/// `validation`, both `[stage][images * channels]` as [`Whole::stages`] gives them, with their labels.
///
/// # Errors
/// If there are no images, and as [`solve`].
///
/// [`Whole::stages`]: crate::train::cache::Whole::stages
pub fn probe(
    model: &Model,
    device: &Device,
    train: (&[Vec<f32>], &[usize]),
    validation: (&[Vec<f32>], &[usize]),
    classes: usize,
    l2: f64,
) -> Result<Probed> {
    let (samples, nodes) = (validation.1.len(), model.net.stages(&model.recipe));
    if samples == 0 || nodes.is_empty() {
        return Err(Error::invalid("probe", "stages and images to compare them on", "none", ""));
    }
    let layers = &model.net.graph.nodes;
    let mut list = Vec::with_capacity(nodes.len());
    for (i, &node) in nodes.iter().enumerate() {
        let features = layers[node].shape.channels();
        let scaler = Scaler::new(&train.0[i], features);
        let seen = scaler.apply(&train.0[i]);
        let examples = Examples::new(&seen, features, train.1, classes);
        let options = SolveOptions { l2, tolerance: 1e-3, iterations: 300 };
        let compute = device.compute();
        let head = solve(compute, examples, options)?;
        let hits = |features: &[f32], labels: &[usize]| {
            let p = head.probabilities(compute, features);
            let rows = p.chunks_exact(classes).zip(labels);
            rows.filter(|(p, label)| argmax(p) == **label).count() as f64 / labels.len() as f64
        };
        let next = (node < model.net.base_output()).then(|| layers[node + 1].name.clone());
        list.push(StageProbe {
            layer: layers[node].name.clone(),
            index: model.net.base_index[node].unwrap_or(0),
            features,
            train_accuracy: hits(&seen, train.1),
            accuracy: hits(&scaler.apply(&validation.0[i]), validation.1),
            fine_tune_at: next,
        });
    }
    Ok(suggest(list, samples))
}

fn suggest(stages: Vec<StageProbe>, samples: usize) -> Probed {
    let best = stages.iter().fold(0.0, |best: f64, s| best.max(s.accuracy));
    let standard_error = (best * (1.0 - best) / samples as f64).sqrt();
    let good = stages.iter().rposition(|s| s.accuracy >= best - standard_error).unwrap_or(0);
    let at = if stages[good].fine_tune_at.is_some() { good } else { good.saturating_sub(1) };
    let suggested = stages[at].fine_tune_at.clone().unwrap_or_else(|| "0".into());
    Probed { stages, samples, best, standard_error, suggested }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_starts_after_the_last_stage_that_is_as_good_as_the_best() {
        let stage = |accuracy, next: Option<&str>| StageProbe {
            layer: "x".into(),
            index: 1,
            features: 8,
            train_accuracy: 1.0,
            accuracy,
            fine_tune_at: next.map(String::from),
        };
        let suggested = |a: [f64; 3]| {
            let list = vec![stage(a[0], Some("b")), stage(a[1], Some("c")), stage(a[2], None)];
            suggest(list, 100).suggested
        };
        // The last stage is the best: it alone adapts.
        assert_eq!(suggested([0.5, 0.6, 0.9]), "c");
        // The last stage spoils what the second has.
        assert_eq!(suggested([0.5, 0.9, 0.7]), "c");
        assert_eq!(suggested([0.9, 0.7, 0.5]), "b");
    }

    #[test]
    fn every_net_has_its_stages() {
        for name in ["resnet20", "resnet50", "resnet50v2", "torchvision-resnet18"] {
            let mut model = Model::imagenet(name).unwrap();
            model.card.classes.truncate(10);
            let nodes = model.net.stages(&model.recipe);
            assert_eq!(nodes.len(), model.recipe.stages.len(), "{name}");
            assert_eq!(nodes.last(), Some(&model.net.base_output()));
            assert!(nodes.is_sorted());
        }
    }
}
