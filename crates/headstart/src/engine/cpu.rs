//! Runs a plan on this machine's processor: owns the arena, the packed weights and those that train, and calls
//! one kernel per step.
//!
//! ```
//! use std::sync::Arc;
//! use headstart::execute::{Execute, Executor};
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
//! let black = vec![0u8; 4 * 8 * 8 * 3]; // the sample is 8x8 pixels
//! executor.forward(&[(&black).into()], 4)?;
//! assert_eq!(executor.output(0, 4).len(), 4 * 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arena;
mod backward;
mod buckets;
mod forward;
mod load;
mod optimizer;
mod training;

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::buffer::Buffer;
use headstart_kernels::conv::{ConvShape, Packed};
use headstart_kernels::element::{DType, Element, Slice, Values};
use headstart_kernels::elementwise::{Affine, FrameShape};
use headstart_kernels::loss::{BatchLoss, Labels, cross_entropy};
use headstart_kernels::norm::NormState;
use headstart_kernels::pool::PoolShape;
use headstart_kernels::table::Compute;

use crate::engine::execute::{
    Execute, InBuckets, Input, SumReplicas, Training, Turn, Weights, check_inputs, check_labels,
};
use crate::engine::gradients::{Accumulated, Gradients, StepResult};
use crate::engine::plan::{Main, Place, Plan, Step};
use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::Parameters;
use crate::net::weights::Tensor;
use arena::{At, Source, Split};
use buckets::Tensors;

/// What a group stores between steps.
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
    /// The weights that the plan trains; the values of all others are left out.
    parameters: Parameters,
    /// The optimizer and its settings.
    training: Option<Training>,
    /// Their EMA, if wanted, in the order of `parameters`.
    average: Option<Parameters>,
    /// Of the last step, and the sums of each replica since the last update.
    gradients: Gradients,
    sums: Vec<Accumulated>,
    /// What is summed together over processes, in the order in which it is complete.
    buckets: Vec<Tensors>,
    /// Which step the gradients are of, and of how many images.
    turn: Turn,
    /// Images of the last run.
    count: usize,
    /// Seed of dropout.
    seed: u64,
    /// Pixels as floats, for sources that others than frames read.
    staged: Vec<Vec<f32>>,
    /// Seconds of each step of the last run, if measured.
    seconds: Option<Vec<f64>>,
}

impl Executor {
    /// Takes memory for `plan` and packs `parameters`.
    ///
    /// # Errors
    /// If `parameters` lack a tensor of the graph or hold one of another size; if the plan stores what no processor computes
    /// with.
    pub fn new(
        graph: Arc<Graph>,
        plan: Plan,
        compute: Arc<Compute>,
        parameters: &Parameters,
        seed: u64,
    ) -> Result<Executor> {
        if plan.request.dtype == DType::F16 {
            return Err(on_a_processor());
        }
        plan.check_memory(&graph)?;
        let arena = Buffer::zeros(plan.arena);
        let states = plan.groups.iter().map(|_| State::default()).collect();
        let staged = vec![Vec::new(); plan.request.sources.len()];
        let mut executor = Executor {
            graph,
            plan,
            compute,
            arena,
            states,
            packed: Packed::default(),
            parameters: Parameters::default(),
            training: None,
            average: None,
            gradients: Gradients::default(),
            sums: Vec::new(),
            buckets: Vec::new(),
            turn: Turn::default(),
            count: 0,
            seed,
            staged,
            seconds: None,
        };
        executor.load(parameters)?;
        Ok(executor)
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
                    // `new` refuses it.
                    DType::F16 => Slice::F16(&[]),
                }
            }
            _ => Slice::F32(&[]),
        }
    }

    fn note(&mut self, step: usize, start: Option<Instant>) {
        if let (Some(seconds), Some(start)) = (&mut self.seconds, start) {
            seconds[step] = start.elapsed().as_secs_f64();
        }
    }

    /// In debug builds, fills the buffers whose life begins at a step with NaN, so that a result
    /// that depends on earlier contents cannot pass a test.
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

    /// The sources as kernels read them: bytes as they are where frames alone read them, else as floats in `staged`.
    fn sources<'a>(&self, inputs: &[Input<'a>], staged: &'a mut [Vec<f32>]) -> Vec<Source<'a>> {
        let sources = &self.plan.request.sources;
        let each = inputs.iter().zip(sources).zip(staged);
        let read = each.map(|((input, &node), staged)| match *input {
            Input::Values(values) => Source { values, bytes: None },
            Input::Bytes(bytes) if self.plan.frames(node) => {
                Source { values: Slice::F32(&[]), bytes: Some(bytes) }
            }
            Input::Bytes(bytes) => {
                staged.clear();
                staged.extend(bytes.iter().map(|&b| f32::from(b)));
                Source { values: Slice::F32(&*staged), bytes: None }
            }
        });
        read.collect()
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
        inputs: &[Source<'a>],
        count: usize,
    ) -> &'a [E] {
        match self.locate(self.plan.kept(node), count) {
            Err(source) => E::of(inputs[source].values),
            Ok(at) => at.of(&self.arena),
        }
    }

    fn conv_shape(&self, group: usize, count: usize) -> Option<ConvShape> {
        self.plan.shapes[group].conv.map(|shape| shape.first(count))
    }

    fn pool_shape(&self, group: usize, count: usize) -> Option<PoolShape> {
        self.plan.shapes[group].pool.map(|shape| shape.first(count))
    }

    fn frame_shape(&self, group: usize, count: usize) -> Option<(FrameShape, Option<Affine>)> {
        let Main::Frame { map, .. } = self.plan.groups[group].main else { return None };
        let affine = map.map(|m| Affine { source: m.source, scale: m.scale, offset: m.offset });
        self.plan.shapes[group].frame.map(|shape| (shape.first(count), affine))
    }

    fn dropout_seed(&self, node: NodeId) -> u64 {
        let Turn { step, replica } = self.turn;
        self.seed ^ (step << 20) ^ (replica as u64).rotate_right(12) ^ node as u64
    }
}

impl Execute for Executor {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn load(&mut self, parameters: &Parameters) -> Result<()> {
        self.load_all(parameters)
    }

    fn forward(&mut self, inputs: &[Input<'_>], count: usize) -> Result<()> {
        check_inputs(&self.graph, &self.plan, inputs, count)?;
        if self.plan.request.trainable.is_some() {
            return Err(Error::invalid("plan", "one made for inference", "one for training", ""));
        }
        let compute = Arc::clone(&self.compute);
        let mut staged = std::mem::take(&mut self.staged);
        let sources = self.sources(inputs, &mut staged);
        compute.threads.enter(|| {
            for i in 0..self.plan.steps.len() {
                self.poison(i);
                let start = self.seconds.is_some().then(Instant::now);
                if let Step::Forward { group } = self.plan.steps[i] {
                    self.run_forward(group, &sources, count, None);
                }
                self.note(i, start);
            }
        });
        self.staged = staged;
        self.count = count;
        Ok(())
    }

    fn read(&mut self, output: usize, into: &mut Values) -> Result<()> {
        let node = self.plan.request.outputs.get(output).copied();
        let Some(Place::Buffer(_)) = node.and_then(|node| self.plan.values[node]) else {
            let expected = format!("one of {} values of layers", self.plan.request.outputs.len());
            return Err(Error::invalid("output", expected, output.to_string(), ""));
        };
        into.replace(self.stored_output(output, self.count));
        Ok(())
    }

    fn evaluate(&mut self, inputs: &[Input<'_>], labels: &[u32]) -> Result<BatchLoss> {
        let (count, output) = (labels.len(), self.graph.output());
        if self.plan.request.outputs != [output] || self.graph.nodes[output].op != Op::Softmax {
            let expected = "one whose only output are the net's probabilities";
            return Err(Error::invalid("plan", expected, "another", ""));
        }
        let classes = self.graph.nodes[output].shape.elements();
        check_labels(labels.into(), classes)?;
        self.forward(inputs, count)?;
        Ok(cross_entropy(classes, self.output(0, count), labels))
    }

    fn prepare(&mut self, training: Training) -> Result<()> {
        self.prepare_training(training)
    }

    fn train_step(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
    ) -> Result<StepResult> {
        self.run_step(inputs, labels, turn, None)
    }

    fn accumulate(&mut self) -> Result<()> {
        self.add_gradients()
    }

    fn reduce(&mut self, images: usize, sum: &mut SumReplicas<'_>) -> Result<()> {
        self.sum_replicas(images, sum)
    }

    fn in_buckets(&mut self) -> Option<&mut dyn InBuckets> {
        Some(self)
    }

    fn update(&mut self, learning_rate: f32) -> Result<()> {
        self.update_weights(learning_rate)
    }

    fn gradients(&mut self, into: &mut Gradients) -> Result<()> {
        into.clone_from(&self.gradients);
        Ok(())
    }

    fn download(&mut self, which: Weights, parameters: &mut Parameters) -> Result<()> {
        self.copy_weights(which, parameters)
    }

    fn statistics(&mut self, into: &mut Vec<f32>) -> Result<()> {
        into.clear();
        let tensors = self.parameters.tensors.iter().filter(|t| !t.role.has_gradient());
        tensors.for_each(|t| into.extend_from_slice(&t.values));
        Ok(())
    }

    fn set_statistics(&mut self, values: &[f32]) -> Result<()> {
        let tensors = self.parameters.tensors.iter_mut().filter(|t| !t.role.has_gradient());
        let tensors: Vec<&mut Vec<f32>> = tensors.map(|t| &mut t.values).collect();
        let expected: usize = tensors.iter().map(|t| t.len()).sum();
        if values.len() != expected {
            let (expected, found) = (expected.to_string(), values.len().to_string());
            return Err(Error::invalid("moving statistics", expected, found, ""));
        }
        let mut rest = values;
        for tensor in tensors {
            let (own, others) = rest.split_at(tensor.len());
            tensor.copy_from_slice(own);
            rest = others;
        }
        Ok(())
    }

    fn set_average(&mut self, parameters: &Parameters) -> Result<()> {
        self.average = match self.average {
            Some(_) => Some(self.trained(parameters)?),
            None => None,
        };
        Ok(())
    }

    fn optimizer_state(&mut self) -> Result<Vec<Tensor>> {
        let training = self.training.as_ref();
        Ok(training.map_or_else(Vec::new, |t| t.optimizer.tensors(&self.parameters)))
    }

    fn set_optimizer_state(&mut self, tensors: &[Tensor]) -> Result<()> {
        match &mut self.training {
            Some(training) => training.optimizer.restore(&self.parameters, tensors),
            None => Err(not_prepared()),
        }
    }

    fn measure(&mut self) {
        self.seconds = Some(vec![0.0; self.plan.steps.len()]);
    }

    fn seconds(&self) -> &[f64] {
        self.seconds.as_deref().unwrap_or_default()
    }
}

/// The error of half precision, which no kernel for processors computes with.
pub(crate) fn on_a_processor() -> Error {
    let (expected, hint) = ("f32 or bf16 on a processor", "give --precision bf16, or --device gpu");
    Error::invalid("--precision", expected, DType::F16.name(), hint)
}

/// The error of training without [`Execute::prepare`].
fn not_prepared() -> Error {
    Error::invalid("executor", "one that is prepared for training", "one that is not", "")
}
