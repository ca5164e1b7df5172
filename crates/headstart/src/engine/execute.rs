//! Running a plan: one implementation for each kind of device. Weights, gradients and the optimizer's state
//! stay on the device; the caller sends images and reads results.
//!
//! ```
//! use headstart::execute::{Training, Turn, Weights};
//! use headstart::optimizer::{Optimizer, Rule};
//! use headstart::plan::{Request, sources};
//! use headstart::{Dataset, Device, Model};
//!
//! let data = Dataset::load("sample")?;
//! let mut model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let (device, graph) = (Device::cpu(0)?, model.net.graph.clone());
//! let (outputs, dtype) = (vec![], device.dtype());
//! let trainable = Some(model.net.head_only());
//! let request = Request { batch: 4, sources: vec![0], outputs, trainable, dtype };
//! let mut executor = device.executor(&graph, request, &model.parameters, 0)?;
//! executor.prepare(Training::new(Optimizer::new(Rule::ADAM, 1e-3)?))?;
//!
//! let black = vec![0u8; 4 * 8 * 8 * 3]; // the sample is 8x8 pixels
//! let before = executor.train_step(&[(&black).into()], (&[0; 4]).into(), Turn::default())?;
//! executor.update(1e-3)?;
//! let after = executor.train_step(&[(&black).into()], (&[0; 4]).into(), Turn::default())?;
//! assert!(after.loss < before.loss);
//! executor.download(Weights::Current, &mut model.parameters)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;

use headstart_kernels::element::{Bf16, DType, F16, Slice, Values};
use headstart_kernels::loss::{BatchLoss, Labels, Targets};

use crate::data::batch::Pixels;
use crate::engine::gradients::{Gradients, StepResult};
use crate::engine::optimizer::Optimizer;
use crate::engine::plan::Plan;
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;
use crate::net::weights::Tensor;

/// A tensor that a plan reads, `[images, elements]` row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// Pixels.
    Bytes(&'a [u8]),
    /// Values of any layer; of pixels, in 0..=255.
    Values(Slice<'a>),
}

impl<'a> Input<'a> {
    /// Number of elements.
    pub fn len(self) -> usize {
        match self {
            Input::Bytes(v) => v.len(),
            Input::Values(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The values as the net computes with them: bytes become floats.
    pub fn dtype(self) -> DType {
        match self {
            Input::Bytes(_) => DType::F32,
            Input::Values(v) => v.dtype(),
        }
    }

    /// Some of `count` images, each with the same number of elements.
    ///
    /// # Panics
    /// If `images` ends after `count`.
    #[must_use]
    pub fn part(self, count: usize, images: Range<usize>) -> Input<'a> {
        let each = self.len() / count.max(1);
        let range = images.start * each..images.end * each;
        match self {
            Input::Bytes(v) => Input::Bytes(&v[range]),
            Input::Values(Slice::F32(v)) => Input::Values(Slice::F32(&v[range])),
            Input::Values(Slice::Bf16(v)) => Input::Values(Slice::Bf16(&v[range])),
            Input::Values(Slice::F16(v)) => Input::Values(Slice::F16(&v[range])),
        }
    }
}

impl<'a> From<&'a [u8]> for Input<'a> {
    fn from(bytes: &'a [u8]) -> Input<'a> {
        Input::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Input<'a> {
    fn from(bytes: &'a Vec<u8>) -> Input<'a> {
        Input::Bytes(bytes)
    }
}

impl<'a> From<&'a Pixels> for Input<'a> {
    fn from(pixels: &'a Pixels) -> Input<'a> {
        match pixels {
            Pixels::Bytes(bytes) => bytes.into(),
            Pixels::Floats(values) => values.into(),
        }
    }
}

impl<'a> From<Slice<'a>> for Input<'a> {
    fn from(values: Slice<'a>) -> Input<'a> {
        Input::Values(values)
    }
}

macro_rules! input_from {
    ($($element:ty),*) => {$(
        impl<'a> From<&'a [$element]> for Input<'a> {
            fn from(values: &'a [$element]) -> Input<'a> {
                Input::Values(values.into())
            }
        }

        impl<'a> From<&'a Vec<$element>> for Input<'a> {
            fn from(values: &'a Vec<$element>) -> Input<'a> {
                Input::Values(values.into())
            }
        }
    )*};
}

input_from!(f32, Bf16, F16);

impl<'a> From<&'a Values> for Input<'a> {
    fn from(values: &'a Values) -> Input<'a> {
        Input::Values(values.as_slice())
    }
}

/// How a plan for training is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// The optimizer, with its state.
    pub optimizer: Optimizer,
    /// Weights of classes and smoothing of labels in the loss: Keras's `class_weight` (the loss of a batch is the sum over the
    /// number of images) and `label_smoothing`.
    pub targets: Targets,
    /// Largest element of a gradient, without its sign (Keras's `clipvalue`), applied before `clip_norm`.
    pub clip_value: Option<f32>,
    /// Largest global norm of the gradients (Keras's `global_clipnorm`).
    pub clip_norm: Option<f32>,
    /// Decay of an exponential moving average (EMA) of all that trains.
    pub average: Option<f32>,
}

impl Training {
    /// With this optimizer, and nothing else.
    pub fn new(optimizer: Optimizer) -> Training {
        let targets = Targets::default();
        Training { optimizer, targets, clip_value: None, clip_norm: None, average: None }
    }

    /// Fails unless the settings suit a net with this many classes.
    ///
    /// # Errors
    /// If there is not a weight for each class, or none, or smoothing is not a number from 0 to below 1.
    pub fn check(&self, classes: usize) -> Result<()> {
        let Targets { weights, smoothing } = &self.targets;
        if !weights.is_empty() && weights.len() != classes {
            let found = weights.len().to_string();
            return Err(Error::invalid("class weights", classes.to_string(), found, ""));
        }
        if !(0.0..1.0).contains(smoothing) {
            let expected = "a number from 0 to below 1";
            return Err(Error::invalid("label smoothing", expected, smoothing.to_string(), ""));
        }
        Ok(())
    }
}

/// The number of a training pass, from which dropout's random numbers follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Number of the step, from 0.
    pub step: u64,
    /// Number of the replica, from 0.
    pub replica: usize,
}

/// Which of an executor's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// The current ones, with batch norm's moving statistics.
    Current,
    /// The EMA weights; the current ones without EMA.
    Average,
}

/// Sums the replicas' gradients: `own` are this process's, in replica order, and `sum` receives the sum
/// over the replicas of all processes, taken in replica order.
pub type SumReplicas<'s> = dyn FnMut(&[&[f32]], &mut [f32]) -> Result<()> + 's;

/// Gradients that are summed together over processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Number, from 0; all executors of the same plan have the same ones.
    pub number: usize,
    /// Those of this process: a vector for each of its replicas, in replica order.
    pub own: Vec<Vec<f32>>,
    /// Elements of each.
    pub elements: usize,
}

/// Gets buckets in order, each as soon as it is complete.
pub type Ready<'r> = dyn FnMut(Bucket) + Send + 'r;

/// Gradients that can be summed while the backward pass goes on. The results are those of [`Execute::train_step`],
/// [`Execute::accumulate`] and [`Execute::reduce`], bit for bit.
pub trait InBuckets {
    /// A step of the last replica of this process before an update, accumulated; `ready` gets every bucket.
    ///
    /// # Errors
    /// As [`Execute::train_step`]; no bucket may come then.
    fn step_in_buckets(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
        ready: &mut Ready<'_>,
    ) -> Result<StepResult>;

    /// The buckets of a process that has no images in the last batch before an update.
    ///
    /// # Errors
    /// Without [`Execute::prepare`].
    fn all_buckets(&mut self, ready: &mut Ready<'_>) -> Result<()>;

    /// Replaces the gradients by the buckets' `sums` over all replicas, divided by `images`, and starts new sums.
    ///
    /// # Errors
    /// If there are no images, or the sums are others' than these buckets'.
    fn take_sums(&mut self, images: usize, sums: &[Vec<f32>]) -> Result<()>;
}

/// A plan with memory and weights on a device.
pub trait Execute: std::fmt::Debug + Send {
    /// The plan.
    fn plan(&self) -> &Plan;

    /// Loads all weights; EMA weights start again from them.
    ///
    /// # Errors
    /// If `parameters` lack a tensor of the graph or hold one of another size.
    fn load(&mut self, parameters: &Parameters) -> Result<()>;

    /// Computes the outputs of a plan for inference for `count` images; `inputs` in the order of the plan's sources.
    ///
    /// # Errors
    /// If `count` is 0 or above the plan's batch, an input has a wrong length or type, or the
    /// plan is for training.
    fn forward(&mut self, inputs: &[Input<'_>], count: usize) -> Result<()>;

    /// Copies the value of the `output`th output for the images of the last run into `into`, replacing its contents.
    ///
    /// # Errors
    /// If there is no such output.
    fn read(&mut self, output: usize, into: &mut Values) -> Result<()>;

    /// Sum of the losses of images with these labels, and number of correct predictions, of a plan for inference whose only output is the
    /// net's probabilities.
    ///
    /// # Errors
    /// As [`Execute::forward`]; if a label is out of range.
    fn evaluate(&mut self, inputs: &[Input<'_>], labels: &[u32]) -> Result<BatchLoss>;

    /// Sets the optimizer and its settings. Before the first call every training step fails.
    ///
    /// # Errors
    /// If the plan is for inference, or [`Training::check`] fails.
    fn prepare(&mut self, training: Training) -> Result<()>;

    /// Forward and backward for images of one replica, which have one label each, or two with fractions. The mean
    /// gradient stays on the device. Batch norm's moving statistics follow replica 0, as PyTorch's DDP broadcasts
    /// the buffers of rank 0.
    ///
    /// # Errors
    /// As [`Execute::forward`]; if the plan is not for training; if a label or its fraction is out of range.
    fn train_step(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
    ) -> Result<StepResult>;

    /// Adds the gradients of the last [`Execute::train_step`], times its images, to the sum of its replica.
    ///
    /// # Errors
    /// If there was no step.
    fn accumulate(&mut self) -> Result<()>;

    /// Replaces the gradients by the replicas' sums, which `sum` adds up tensor by tensor, divided by `images`, and
    /// starts new sums.
    ///
    /// # Errors
    /// The errors of `sum`; if there are no images.
    fn reduce(&mut self, images: usize, sum: &mut SumReplicas<'_>) -> Result<()>;

    /// This executor, if gradients can be summed while its backward pass goes on.
    fn in_buckets(&mut self) -> Option<&mut dyn InBuckets> {
        None
    }

    /// Clips the gradients, and updates the weights and their EMA. In half precision, where a gradient is not finite, it halves
    /// the scale of the loss instead, as Keras's `LossScaleOptimizer` does.
    ///
    /// # Errors
    /// If there are no gradients; if they are not finite however the loss is scaled.
    fn update(&mut self, learning_rate: f32) -> Result<()>;

    /// Copies the gradients of the last step, or those that replaced them in [`Execute::reduce`].
    ///
    /// # Errors
    /// If the device cannot be read.
    fn gradients(&mut self, into: &mut Gradients) -> Result<()>;

    /// Copies the weights that the plan trains, moving statistics included, into the same net's `parameters`.
    ///
    /// # Errors
    /// If `parameters` are another net's.
    fn download(&mut self, which: Weights, parameters: &mut Parameters) -> Result<()>;

    /// Copies the moving statistics that the plan trains, one after the other into `into`, replacing its contents.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn statistics(&mut self, into: &mut Vec<f32>) -> Result<()>;

    /// Loads what [`Execute::statistics`] returned in another process.
    ///
    /// # Errors
    /// If their number is that of another net.
    fn set_statistics(&mut self, values: &[f32]) -> Result<()>;

    /// Loads the EMA of the weights that the plan trains, if there is one.
    ///
    /// # Errors
    /// If `parameters` are another net's.
    fn set_average(&mut self, parameters: &Parameters) -> Result<()>;

    /// The optimizer's state, to be stored.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn optimizer_state(&mut self) -> Result<Vec<Tensor>>;

    /// Loads what [`Execute::optimizer_state`] returned.
    ///
    /// # Errors
    /// If a tensor is not of this net, or not of the optimizer.
    fn set_optimizer_state(&mut self, tensors: &[Tensor]) -> Result<()>;

    /// From now on every run measures its steps.
    fn measure(&mut self);

    /// Seconds of each step of the last run; empty unless [`Execute::measure`] was called.
    fn seconds(&self) -> &[f64];
}

/// Fails unless `inputs` are what `plan` reads for `count` images of a net with these nodes' names and sizes.
pub(super) fn check_inputs(
    graph: &crate::net::graph::Graph,
    plan: &Plan,
    inputs: &[Input<'_>],
    count: usize,
) -> Result<()> {
    let request = &plan.request;
    if count == 0 || count > request.batch {
        let expected = format!("1 to {} images", request.batch);
        return Err(Error::invalid("batch", expected, count.to_string(), ""));
    }
    if inputs.len() != request.sources.len() {
        let expected = format!("{} inputs", request.sources.len());
        return Err(Error::invalid("batch", expected, inputs.len().to_string(), ""));
    }
    for (input, &id) in inputs.iter().zip(&request.sources) {
        let node = &graph.nodes[id];
        if input.dtype() != plan.dtypes[id] {
            let (expected, found) = (plan.dtypes[id].name(), input.dtype().name());
            return Err(Error::invalid(format!("value of {}", node.name), expected, found, ""));
        }
        let expected = node.shape.elements() * count;
        if input.len() != expected {
            let expected = format!("{expected} values ({count} x {})", node.shape);
            let found = format!("{} values", input.len());
            return Err(Error::invalid(format!("value of {}", node.name), expected, found, ""));
        }
    }
    Ok(())
}

/// Fails unless every image has a class below `classes`, or two and a fraction from 0 to 1.
pub(super) fn check_labels(labels: Labels<'_>, classes: usize) -> Result<()> {
    let (second, share) = labels.second.unwrap_or((labels.first, 0.0));
    if let Some(label) = labels.first.iter().chain(second).find(|&&l| l as usize >= classes) {
        let expected = format!("below {classes}");
        return Err(Error::invalid("label", expected, label.to_string(), ""));
    }
    if second.len() != labels.first.len() || !(0.0..=1.0).contains(&share) {
        let expected = format!("{}, with a fraction from 0 to 1", labels.first.len());
        let found = format!("{}, with {share}", second.len());
        return Err(Error::invalid("second labels", expected, found, ""));
    }
    Ok(())
}
