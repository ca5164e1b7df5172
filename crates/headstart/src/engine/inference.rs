//! A model's predictions and inner values for many images.
//!
//! ```
//! use headstart::{Control, Dataset, Device, Model, inference};
//!
//! let data = Dataset::load("synthetic:3x20x32")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let device = Device::cpu(0)?;
//! let (mut go_on, pooled) = (|_done: usize| Control::Continue, [model.pooled()]);
//! let features = inference::features(&model, &data.train, &pooled, &device, 32, &mut go_on)?;
//! assert_eq!(features.unwrap().elements, [64]); // features per image
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use headstart_kernels::element::Values;

pub use crate::control::Control;
use crate::data::batches::{Loader, LoaderOptions};
use crate::data::dataset::Subset;
use crate::engine::device::Device;
use crate::engine::execute::{Execute, Input};
use crate::engine::plan::Request;
use crate::error::{Error, Result};
use crate::measure::calibration::Uncalibrated;
use crate::measure::metrics::Report;
use crate::measure::rank::softmax;
use crate::memory::room_for;
use crate::net::graph::NodeId;
use crate::net::model::Model;

/// Values of some nodes for every image of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Elements per image of each node.
    pub elements: Vec<usize>,
    /// One tensor per node, `[images, elements]` row-major.
    pub tensors: Vec<Values>,
    /// Number of images.
    pub count: usize,
}

impl Features {
    /// Copies the rows of some images, one tensor per node.
    pub fn gather(&self, indices: &[usize], rows: &mut Vec<Values>) {
        rows.resize(self.tensors.len(), Values::default());
        for ((out, tensor), &n) in rows.iter_mut().zip(&self.tensors).zip(&self.elements) {
            tensor.gather(n, indices, out);
        }
    }
}

/// A plan for inference of some nodes of a model, on a device.
///
/// # Errors
/// If the plan cannot be made.
pub fn executor(
    model: &Model,
    device: &Device,
    batch: usize,
    sources: &[NodeId],
    outputs: &[NodeId],
) -> Result<Box<dyn Execute>> {
    let request = Request {
        batch,
        sources: sources.to_vec(),
        outputs: outputs.to_vec(),
        trainable: None,
        dtype: device.dtype(),
    };
    device.executor(&model.net.graph, request, &model.parameters, 0)
}

/// What `make` makes for a batch of `most` images, or for half as many, and so on, where the memory does not allow it; and for
/// how many images. Which batch an image is in changes nothing in its values.
///
/// # Errors
/// That of `most`, if not even one image can be.
pub(crate) fn with_fewer<T>(
    most: usize,
    mut make: impl FnMut(usize) -> Result<T>,
) -> Result<(T, usize)> {
    let first = match make(most) {
        Ok(made) => return Ok((made, most)),
        Err(error) => error,
    };
    let mut batch = most / 2;
    while batch > 0 {
        if let Ok(made) = make(batch) {
            return Ok((made, batch));
        }
        batch /= 2;
    }
    Err(first)
}

/// An output of an executor's last run as floats.
///
/// # Errors
/// As [`Execute::read`].
pub fn read_floats(executor: &mut dyn Execute, output: usize) -> Result<Vec<f32>> {
    let mut values = Values::default();
    executor.read(output, &mut values)?;
    Ok(match values {
        Values::F32(values) => values,
        values => values.as_slice().to_f32(),
    })
}

/// Computes the values of `nodes` for every image, in order, `batch` at a time, or fewer where that is more than the device's
/// memory. `progress` gets how many images are done; `None` if it stopped it.
///
/// # Errors
/// If an image cannot be decoded or the plan cannot be made.
pub fn features(
    model: &Model,
    subset: &Subset,
    nodes: &[NodeId],
    device: &Device,
    batch: usize,
    progress: &mut dyn FnMut(usize) -> Control,
) -> Result<Option<Features>> {
    let batch = batch.min(subset.len()).max(1);
    let (mut executor, batch) =
        with_fewer(batch, |batch| executor(model, device, batch, &[0], nodes))?;
    let elements: Vec<usize> =
        nodes.iter().map(|&n| model.net.graph.nodes[n].shape.elements()).collect();
    let count = subset.len();
    let all = elements.iter().fold(0u64, |sum, &n| sum.saturating_add(n as u64));
    let bytes = all.saturating_mul(count as u64).saturating_mul(size_of::<f32>() as u64);
    let hint = "take fewer images, or a later layer";
    room_for(&format!("outputs of {count} images"), bytes, hint)?;
    let mut features = Features {
        tensors: nodes
            .iter()
            .zip(&elements)
            .map(|(&node, n)| Values::with_capacity(executor.plan().dtypes[node], n * count))
            .collect(),
        elements,
        count,
    };
    let mut values = Values::default();
    let mut run = |images: Input<'_>, count: usize| {
        executor.forward(&[images], count)?;
        for (i, tensor) in features.tensors.iter_mut().enumerate() {
            executor.read(i, &mut values)?;
            tensor.extend(values.as_slice());
        }
        Ok(())
    };
    let control = each_batch(model, subset, batch, &mut run, progress)?;
    Ok((control == Control::Continue).then_some(features))
}

/// Calls `run` with the pixels of every batch and its number of images, in order; `progress` gets how many images
/// are done.
pub(crate) fn each_batch(
    model: &Model,
    subset: &Subset,
    batch: usize,
    run: &mut dyn FnMut(Input<'_>, usize) -> Result<()>,
    progress: &mut dyn FnMut(usize) -> Control,
) -> Result<Control> {
    let order = (0..subset.len()).collect();
    let mut loader = Loader::new(subset, order, LoaderOptions::new(batch, model.target()))?;
    let mut done = 0;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        run((&batch.images).into(), batch.count)?;
        done += batch.count;
        loader.recycle(batch);
        if progress(done) == Control::Stop {
            return Ok(Control::Stop);
        }
    }
    Ok(Control::Continue)
}

/// Values of one node for every image, `[images, elements]` row-major.
///
/// # Errors
/// As [`features`].
pub fn values(
    model: &Model,
    subset: &Subset,
    node: NodeId,
    device: &Device,
    batch: usize,
    progress: &mut dyn FnMut(usize) -> Control,
) -> Result<Option<Vec<f32>>> {
    let features = features(model, subset, &[node], device, batch, progress)?;
    Ok(features.map(|f| f.tensors[0].as_slice().to_f32()))
}

/// The node that [`to_probabilities`] reads.
pub fn answer_node(model: &Model) -> NodeId {
    if model.card.temperature.is_some() { model.logits() } else { model.output() }
}

/// Class probabilities, at the model's temperature, from the values of [`answer_node`].
pub fn to_probabilities(model: &Model, values: Vec<f32>) -> Vec<f32> {
    match model.card.temperature {
        Some(t) => softmax(model.card.classes.len(), &values, t),
        None => values,
    }
}

/// Class probabilities, at the model's temperature, and their metrics, from the values of [`answer_node`] for the images
/// of `labels`, indices of the model's classes; `split` names the images in the report.
///
/// # Errors
/// If the model's predictions are not numbers.
pub fn assess(
    model: &Model,
    split: &str,
    values: Vec<f32>,
    labels: &[usize],
) -> Result<(Report, Vec<f32>)> {
    assess_views(model, split, vec![values], labels)
}

/// The same with the values for several views of each image, of which there is one at least: the mean of their probabilities
/// counts.
///
/// # Errors
/// As [`assess`].
pub(crate) fn assess_views(
    model: &Model,
    split: &str,
    views: Vec<Vec<f32>>,
    labels: &[usize],
) -> Result<(Report, Vec<f32>)> {
    let n = model.card.classes.len();
    let plain = |values: &Vec<f32>| softmax(n, values, 1.0);
    let plain = model.card.temperature.map(|_| mean(views.iter().map(plain)));
    let p = mean(views.into_iter().map(|values| to_probabilities(model, values)));
    let mut report = report(model, split, &p, labels)?;
    if let (Some(plain), Some(calibration)) = (plain, &mut report.calibration) {
        calibration.temperature = model.card.temperature;
        calibration.uncalibrated = Some(Uncalibrated::new(n, &plain, labels));
    }
    Ok((report, p))
}

/// The mean of several views' probabilities.
pub(crate) fn mean(views: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    let (mut sum, mut count) = (Vec::new(), 0.0);
    for view in views {
        count += 1.0;
        match sum.is_empty() {
            true => sum = view,
            false => sum.iter_mut().zip(view).for_each(|(a, b): (&mut f32, f32)| *a += b),
        }
    }
    sum.iter_mut().for_each(|a| *a /= count);
    sum
}

/// Class probabilities of every image at the model's temperature, `[images, classes]` row-major.
///
/// # Errors
/// As [`features`].
pub fn probabilities(
    model: &Model,
    subset: &Subset,
    device: &Device,
    batch: usize,
    progress: &mut dyn FnMut(usize) -> Control,
) -> Result<Option<Vec<f32>>> {
    let answers = values(model, subset, answer_node(model), device, batch, progress)?;
    Ok(answers.map(|values| to_probabilities(model, values)))
}

/// Evaluates a model on images with `labels`, indices of the model's classes; `split` names the
/// images in the report.
///
/// # Errors
/// As [`features`], and if the model's predictions are not numbers.
pub fn evaluate(
    model: &Model,
    subset: &Subset,
    labels: &[usize],
    split: &str,
    device: &Device,
    batch: usize,
    progress: &mut dyn FnMut(usize) -> Control,
) -> Result<Option<Report>> {
    let values = values(model, subset, answer_node(model), device, batch, progress)?;
    values.map(|values| Ok(assess(model, split, values, labels)?.0)).transpose()
}

/// Metrics of class probabilities `p`, `[images, classes]` row-major.
///
/// # Errors
/// If they are not numbers.
fn report(model: &Model, split: &str, p: &[f32], labels: &[usize]) -> Result<Report> {
    let card = &model.card;
    let report = Report::of(card.task, split, &card.classes, p, labels);
    if !report.loss.is_finite() {
        return Err(Error::invalid(
            format!("loss on the {split} images"),
            "a finite number",
            report.loss.to_string(),
            "the weights are damaged or training diverged",
        ));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_halved_until_it_fits() {
        let fitting = |most: usize| {
            let mut tried = Vec::new();
            let made = with_fewer(32, |batch| {
                tried.push(batch);
                let too_many = || Error::invalid("batch", most.to_string(), batch.to_string(), "");
                if batch <= most { Ok(()) } else { Err(too_many()) }
            });
            (made.map(|((), batch)| batch), tried)
        };
        assert_eq!(fitting(40).0.unwrap(), 32);
        assert_eq!(fitting(40).1, [32]);
        assert_eq!(fitting(9).0.unwrap(), 8);
        assert_eq!(fitting(1).0.unwrap(), 1);
        let (none, tried) = fitting(0);
        assert!(none.unwrap_err().to_string().contains("found 32"));
        assert_eq!(tried, [32, 16, 8, 4, 2, 1]);
    }
}
