//! Runs a plan: owns the arena and the packed weights, and calls one kernel per step.
//!
//! ```
//! use std::sync::Arc;
//! use headstart::execute::Executor;
//! use headstart::plan::{Plan, Request};
//! use headstart::{Compute, Dataset, Model};
//!
//! let model = Model::builder("resnet20").weights("cifar10").build(&Dataset::load("sample")?)?;
//! let compute = Arc::new(Compute::new(0)?);
//! let (graph, dtype) = (model.net.graph.clone(), compute.dtype);
//! let outputs = vec![model.output()];
//! let request = Request { batch: 4, sources: vec![0], outputs, trainable: None, dtype };
//! let plan = Plan::new(&graph, request)?;
//! let mut executor = Executor::new(graph, plan, compute, &model.parameters, 0)?;
//! let black = vec![0.0f32; 4 * 8 * 8 * 3]; // the sample is 8x8 pixels
//! executor.forward(&[&black], 4)?;
//! assert_eq!(executor.output(0, 4).len(), 4 * 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::buffer::Buffer;
use headstart_kernels::conv::{self, ConvShape, Epilogue, Packed};
use headstart_kernels::element::{Bf16, DType, Element, Slice};
use headstart_kernels::elementwise::{self, Affine, FrameShape};
use headstart_kernels::loss::{self, Labels, Targets};
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::pool::{self, Normalize, PoolShape};
use headstart_kernels::table::Compute;

use crate::engine::plan::{Group, Main, Place, Plan, Pool, Step};
use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op, Shape};
use crate::net::parameters::{Parameters, Role};

/// What a group keeps between steps.
#[derive(Debug, Default)]
struct State {
    forward: Packed,
    backward: Packed,
    bias: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl State {
    /// What the backward pass of a batch norm needs.
    fn of_norm(&self, op: Op) -> NormState<'_> {
        let epsilon = match op {
            Op::BatchNorm { epsilon, .. } => epsilon,
            _ => 0.0,
        };
        NormState { mean: &self.mean, variance: &self.variance, gamma: &self.gamma, epsilon }
    }
}

/// A plan with memory and weights, ready to run.
#[derive(Debug)]
pub struct Executor {
    graph: Arc<Graph>,
    plan: Plan,
    compute: Arc<Compute>,
    arena: Buffer,
    states: Vec<State>,
    /// A kernel that is trained, packed for the step that uses it.
    packed: Packed,
    /// Number of training steps done, which seeds dropout.
    steps: u64,
    /// Seed of dropout.
    seed: u64,
    /// What training images are compared with.
    targets: Targets,
    /// Seconds of each step of the last run, where they are asked for.
    seconds: Option<Vec<f64>>,
}

impl Executor {
    /// Takes memory for `plan` and packs `parameters`.
    ///
    /// # Errors
    /// If `parameters` lack a tensor of the graph or hold one of another size.
    pub fn new(
        graph: Arc<Graph>,
        plan: Plan,
        compute: Arc<Compute>,
        parameters: &Parameters,
        seed: u64,
    ) -> Result<Executor> {
        plan.check_memory(&graph)?;
        let arena = Buffer::zeros(plan.arena);
        let states = plan.groups.iter().map(|_| State::default()).collect();
        let mut executor = Executor {
            graph,
            plan,
            compute,
            arena,
            states,
            packed: Packed::default(),
            steps: 0,
            seed,
            targets: Targets::default(),
            seconds: None,
        };
        executor.load(parameters)?;
        Ok(executor)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// From now on every run measures its steps.
    pub fn measure(&mut self) {
        self.seconds = Some(vec![0.0; self.plan.steps.len()]);
    }

    /// Seconds of each step of the last run; empty unless [`Self::measure`] was called.
    pub fn seconds(&self) -> &[f64] {
        self.seconds.as_deref().unwrap_or_default()
    }

    fn note(&mut self, step: usize, start: Option<Instant>) {
        if let (Some(seconds), Some(start)) = (&mut self.seconds, start) {
            seconds[step] = start.elapsed().as_secs_f64();
        }
    }

    /// Counts as if so many training steps were done, from which dropout's random numbers follow.
    pub fn skip_to(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Compares training images with these targets from now on: Keras's `class_weight` (the loss of a batch is the
    /// sum over the number of images) and `label_smoothing`.
    ///
    /// # Errors
    /// If there is not a weight for each class, or none, or smoothing is not a number from 0 to below 1.
    pub fn set_targets(&mut self, targets: Targets) -> Result<()> {
        let classes = self.graph.nodes[self.graph.output()].shape.elements();
        let Targets { weights, smoothing } = &targets;
        if !weights.is_empty() && weights.len() != classes {
            let found = weights.len().to_string();
            return Err(Error::invalid("class weights", classes.to_string(), found, ""));
        }
        if !(0.0..1.0).contains(smoothing) {
            let expected = "a number from 0 to below 1";
            return Err(Error::invalid("label smoothing", expected, smoothing.to_string(), ""));
        }
        self.targets = targets;
        Ok(())
    }

    /// Computes the outputs for `count` images; `inputs` in the order of the plan's sources.
    ///
    /// # Errors
    /// If `count` is 0 or above the plan's batch, an input has not the length or type it should, or the
    /// plan is for training.
    pub fn forward<'a, S>(&mut self, inputs: &[S], count: usize) -> Result<()>
    where
        S: Copy + Into<Slice<'a>>,
    {
        let inputs: &[Slice<'_>] = &inputs.iter().map(|&s| s.into()).collect::<Vec<_>>();
        self.check(inputs, count)?;
        if self.plan.request.trainable.is_some() {
            return Err(Error::invalid("plan", "one made for inference", "one for training", ""));
        }
        let compute = Arc::clone(&self.compute);
        compute.threads.enter(|| {
            for i in 0..self.plan.steps.len() {
                self.poison(i);
                let start = self.seconds.is_some().then(Instant::now);
                if let Step::Forward { group } = self.plan.steps[i] {
                    self.run_forward(group, inputs, count, None);
                }
                self.note(i, start);
            }
        });
        Ok(())
    }

    /// Value of the `index`th output for the `count` images of the last run, where it is stored as floats;
    /// an empty slice where it is not, or is a source.
    pub fn output(&self, index: usize, count: usize) -> &[f32] {
        self.stored_output(index, count).f32()
    }

    /// As [`Self::output`], of any type.
    pub fn stored_output(&self, index: usize, count: usize) -> Slice<'_> {
        let node = self.plan.request.outputs.get(index).copied();
        match node.and_then(|n| self.plan.values[n]) {
            Some(Place::Buffer(buffer)) => {
                let (at, spec) = (self.at(buffer, count), self.plan.buffers[buffer]);
                match spec.dtype {
                    DType::F32 => Slice::F32(at.of(&self.arena)),
                    DType::Bf16 => Slice::Bf16(at.of(&self.arena)),
                }
            }
            _ => Slice::F32(&[]),
        }
    }

    /// Forward and backward for one batch, whose images have a label each, or two that share them: fills `gradients` and updates the moving statistics in
    /// `parameters`; the weights themselves are the optimizer's to change (see [`Self::refresh`]).
    ///
    /// # Errors
    /// As [`Executor::forward`]; if the plan is not for training; if a label or its share is out of range.
    pub fn train_step<'a, 'l, S>(
        &mut self,
        inputs: &[S],
        labels: impl Into<Labels<'l>>,
        parameters: &mut Parameters,
        gradients: &mut Gradients,
    ) -> Result<StepResult>
    where
        S: Copy + Into<Slice<'a>>,
    {
        let inputs: &[Slice<'_>] = &inputs.iter().map(|&s| s.into()).collect::<Vec<_>>();
        let labels: Labels<'_> = labels.into();
        let count = labels.first.len();
        self.check(inputs, count)?;
        if self.plan.request.trainable.is_none() {
            return Err(Error::invalid("plan", "one made for training", "one for inference", ""));
        }
        let output = self.graph.output();
        let classes = self.graph.nodes[output].shape.elements();
        check_labels(labels, classes)?;
        self.prepare(parameters, gradients)?;
        let mut total = None;
        let compute = Arc::clone(&self.compute);
        compute.threads.enter(|| {
            for i in 0..self.plan.steps.len() {
                self.poison(i);
                let start = self.seconds.is_some().then(Instant::now);
                match self.plan.steps[i] {
                    Step::Forward { group } => {
                        self.run_forward(group, inputs, count, Some(parameters));
                        if self.plan.groups[group].output == output {
                            let p = self.value::<f32>(output, inputs, count);
                            total = Some(self.targets.loss(classes, p, labels));
                        }
                    }
                    step => self.run_backward(step, inputs, labels, parameters, gradients),
                }
                self.note(i, start);
            }
        });
        self.steps += 1;
        let total = total.unwrap_or_default();
        let loss = (total.loss / count as f64) as f32;
        Ok(StepResult { loss, correct: total.correct, count })
    }

    /// In debug builds, fills the buffers whose life begins at a step with NaN, so that a result
    /// that depends on what lay there before cannot pass a test.
    fn poison(&mut self, step: usize) {
        if cfg!(debug_assertions) {
            for i in 0..self.plan.buffers.len() {
                if self.plan.buffers[i].first == step {
                    let at = self.at(i, self.plan.request.batch);
                    // Each half of this NaN is a bfloat16 NaN.
                    self.arena[at.floats].fill(f32::from_bits(0x7fc0_7fc0));
                }
            }
        }
    }

    fn prepare(&self, parameters: &Parameters, gradients: &mut Gradients) -> Result<()> {
        for (group, g) in self.plan.groups.iter().enumerate() {
            if let Main::Conv { node, .. } = g.main
                && self.plan.trains(node)
            {
                let expected = self.conv_shape(group, node, 1).kernel_len();
                let found = parameters.get(node, Role::Kernel).map_or(0, |t| t.values.len());
                if found != expected {
                    let what = format!("kernel of {}", self.graph.nodes[node].name);
                    let (expected, found) = (format!("{expected} values"), found.to_string());
                    return Err(Error::invalid(what, expected, found, ""));
                }
            }
        }
        gradients.tensors.resize(parameters.tensors.len(), Vec::new());
        for (g, p) in gradients.tensors.iter_mut().zip(&parameters.tensors) {
            let trains = self.plan.trains(p.node) && p.role.has_gradient();
            g.resize(if trains { p.values.len() } else { 0 }, 0.0);
        }
        Ok(())
    }

    fn check(&self, inputs: &[Slice<'_>], count: usize) -> Result<()> {
        let request = &self.plan.request;
        if count == 0 || count > request.batch {
            let expected = format!("1 to {} images", request.batch);
            return Err(Error::invalid("batch", expected, count.to_string(), ""));
        }
        if inputs.len() != request.sources.len() {
            let expected = format!("{} inputs", request.sources.len());
            return Err(Error::invalid("batch", expected, inputs.len().to_string(), ""));
        }
        for (input, &id) in inputs.iter().zip(&request.sources) {
            let node = &self.graph.nodes[id];
            if input.dtype() != self.plan.dtypes[id] {
                let (expected, found) = (self.plan.dtypes[id].name(), input.dtype().name());
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

    fn at(&self, buffer: usize, count: usize) -> At {
        let spec = self.plan.buffers[buffer];
        let floats = spec.offset..spec.offset + spec.floats(count);
        At { floats, elements: spec.elements * count }
    }

    /// Where a node's value is: a source, or a part of the arena.
    fn find(&self, node: NodeId, count: usize) -> Result<At, usize> {
        self.locate(self.plan.values[node], count)
    }

    fn locate(&self, place: Option<Place>, count: usize) -> Result<At, usize> {
        match place {
            Some(Place::Source(i)) => Err(i),
            Some(Place::Buffer(b)) => Ok(self.at(b, count)),
            None => Ok(At { floats: 0..0, elements: 0 }),
        }
    }

    /// A node's value in the backward pass, where nothing is written at the same time.
    fn value<'a, E: Element>(
        &'a self,
        node: NodeId,
        inputs: &[Slice<'a>],
        count: usize,
    ) -> &'a [E] {
        match self.locate(self.plan.kept(node), count) {
            Err(source) => E::of(inputs[source]),
            Ok(at) => at.of(&self.arena),
        }
    }

    /// What a group computes on: bfloat16 if it reads or writes any.
    fn dtype(&self, group: usize) -> DType {
        let g = &self.plan.groups[group];
        let half = |n: NodeId| self.plan.dtypes[n] == DType::Bf16;
        if half(g.output) || g.inputs.iter().any(|&n| half(n)) { DType::Bf16 } else { DType::F32 }
    }

    fn conv_shape(&self, group: usize, node: NodeId, batch: usize) -> ConvShape {
        let input = self.graph.nodes[self.plan.groups[group].inputs[0]].shape;
        let (upsample, extra) = match self.plan.groups[group].main {
            Main::Conv { upsample, padding, .. } => (upsample, padding),
            _ => (1, 0),
        };
        match (self.graph.nodes[node].op, input) {
            (
                Op::Conv2D { filters, kernel, stride, padding, .. },
                Shape::Map { height, width, channels },
            ) => ConvShape {
                batch,
                height,
                width,
                in_channels: channels,
                out_channels: filters,
                kernel,
                stride,
                padding: padding + extra,
                upsample,
            },
            (_, input) => {
                let outputs = self.graph.nodes[node].shape.elements();
                ConvShape::dense(batch, input.elements(), outputs)
            }
        }
    }

    /// The max pooling that a group is or ends in.
    fn pool_shape(&self, g: &Group, batch: usize) -> Option<PoolShape> {
        let (Pool { node, padding }, pooled) = match (g.main, g.pool) {
            (Main::MaxPool(pool), _) => (pool, g.inputs[0]),
            (Main::Conv { node, .. } | Main::Norm { node, .. }, Some(pool)) => (pool, node),
            _ => return None,
        };
        let Op::MaxPool { pool, stride } = self.graph.nodes[node].op else { return None };
        let shape = self.graph.nodes[pooled].shape;
        let ((height, width), channels) = (shape.spatial(), shape.channels());
        Some(PoolShape { batch, height, width, channels, pool, stride, padding })
    }

    fn frame_shape(&self, g: &Group, batch: usize) -> Option<(FrameShape, Option<Affine>)> {
        let Main::Frame { map, factor, padding } = g.main else { return None };
        let shape = self.graph.nodes[g.inputs[0]].shape;
        let ((height, width), channels) = (shape.spatial(), shape.channels());
        let affine = map.map(|m| Affine { source: m.source, scale: m.scale, offset: m.offset });
        Some((FrameShape { batch, height, width, channels, factor, padding }, affine))
    }

    fn dropout_seed(&self, node: NodeId) -> u64 {
        self.seed ^ (self.steps << 20) ^ node as u64
    }
}

/// Part of the arena.
#[derive(Clone, Debug)]
struct At {
    floats: Range<usize>,
    /// Elements of its type.
    elements: usize,
}

impl At {
    fn of<'a, E: Element>(&self, arena: &'a [f32]) -> &'a [E] {
        &E::view(&arena[self.floats.clone()])[..self.elements]
    }
}

/// The part of the arena that a step writes, and the rest to read from.
struct Split<'a> {
    before: &'a [f32],
    write: &'a mut [f32],
    /// Elements of the part that is written.
    elements: usize,
    after: &'a [f32],
    /// Where `after` starts.
    end: usize,
}

impl<'a> Split<'a> {
    fn new(arena: &'a mut [f32], write: At) -> Split<'a> {
        let At { floats, elements } = write;
        let (before, rest) = arena.split_at_mut(floats.start);
        let (part, after) = rest.split_at_mut(floats.end - floats.start);
        Split { before, write: part, elements, after, end: floats.end }
    }

    /// A part that does not overlap what is written.
    fn read<E: Element>(&self, at: &At) -> &'a [E] {
        if at.floats.end <= self.before.len() {
            at.of(self.before)
        } else {
            let floats = at.floats.start - self.end..at.floats.end - self.end;
            At { floats, elements: at.elements }.of(self.after)
        }
    }

    /// A value found by [`Executor::find`].
    fn value<E: Element>(&self, inputs: &[Slice<'a>], place: &Result<At, usize>) -> &'a [E] {
        match place {
            Err(source) => E::of(inputs[*source]),
            Ok(at) => self.read(at),
        }
    }

    /// The part that is written.
    fn write<E: Element>(self) -> &'a mut [E] {
        &mut E::view_mut(self.write)[..self.elements]
    }
}

mod backward;
mod forward;
mod gradients;
mod load;

pub use gradients::{Accumulated, Gradients, StepResult};

/// Fails unless every image has a class below `classes`, or two and a share from 0 to 1.
fn check_labels(labels: Labels<'_>, classes: usize) -> Result<()> {
    let (second, share) = labels.second.unwrap_or((labels.first, 0.0));
    if let Some(label) = labels.first.iter().chain(second).find(|&&l| l as usize >= classes) {
        let expected = format!("below {classes}");
        return Err(Error::invalid("label", expected, label.to_string(), ""));
    }
    if second.len() != labels.first.len() || !(0.0..=1.0).contains(&share) {
        let expected = format!("{}, with a share from 0 to 1", labels.first.len());
        let found = format!("{}, with {share}", second.len());
        return Err(Error::invalid("second labels", expected, found, ""));
    }
    Ok(())
}
