//! Runs a plan on a GPU: the arena, the weights and their gradients are in its memory, and each step of the plan is one or
//! a few kernels of `headstart-gpu`. Images go up; what is asked for, and a step's loss and hits, come down.

mod backward;
mod calls;
mod held;
mod training;
mod weights;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use headstart_gpu::{Context, GpuError, Places, Program, Space, Span, Store};
use headstart_kernels::element::{DType, F16, Slice, Values};
use headstart_kernels::loss::{BatchLoss, Labels, cross_entropy};
use headstart_kernels::table::Compute;

use crate::engine::execute::{
    Execute, Input, SumReplicas, Training, Turn, Weights, check_inputs, check_labels,
};
use crate::engine::gradients::{Gradients, StepResult};
use crate::engine::plan::{Place, Plan};
use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::Parameters;
use crate::net::weights::Tensor;
use calls::Calls;
use held::Held;
use weights::Trained;

/// A GPU, and this machine's threads for what does not run on it.
#[derive(Debug)]
pub struct Gpu {
    /// The open adapter.
    pub context: Arc<Context>,
    /// Threads and instructions of this machine.
    pub compute: Arc<Compute>,
    /// What feature maps and their gradients are stored as: f32, or f16 where the adapter can.
    pub dtype: DType,
}

/// A source of a plan: its values as kernels read them, and room for pixels as bytes.
#[derive(Debug)]
struct Source {
    values: Span,
    bytes: Option<Span>,
    /// Whether the images of the last run were bytes.
    is_bytes: bool,
}

/// A program for a number of images.
#[derive(Debug)]
struct Made {
    count: usize,
    /// Which sources are bytes.
    bytes: Vec<bool>,
    program: Program,
    /// The calls of each step of the plan.
    steps: Vec<Range<usize>>,
    /// Calls whose random numbers follow from the turn.
    seeds: Vec<(usize, NodeId)>,
    /// Calls that may move averages, and whether they do.
    moving: Vec<usize>,
    moves: bool,
    /// Calls and words that have the second label's share, and what it is.
    shares: Vec<(usize, usize)>,
    share: f32,
    /// The call that begins the backward pass, and the scale of the loss there.
    loss: Option<usize>,
    scale: f32,
}

/// A plan with memory and weights on a GPU.
#[derive(Debug)]
pub struct Executor {
    graph: Arc<Graph>,
    plan: Plan,
    context: Arc<Context>,
    arena: Space,
    sources: Vec<Source>,
    held: Held,
    trained: Trained,
    /// For what a step needs between two kernels.
    scratch: Span,
    /// The settings of training, with the optimizer; its state is in `trained`.
    training: Option<Training>,
    labels: training::Memory,
    made: Vec<Made>,
    turn: Turn,
    count: usize,
    seed: u64,
    seconds: Option<Vec<f64>>,
}

/// Programs that are kept: of a whole batch, of the last one, and those of replicas.
const PROGRAMS: usize = 6;

impl Executor {
    /// Takes memory for `plan` and uploads `parameters`.
    ///
    /// # Errors
    /// If `parameters` lack a tensor of the graph or hold one of another size; if the GPU has too little memory, or fails; if
    /// it does not store what the plan asks for.
    pub fn new(
        graph: Arc<Graph>,
        plan: Plan,
        context: Arc<Context>,
        parameters: &Parameters,
        seed: u64,
    ) -> Result<Executor> {
        let found = plan.request.dtype;
        if found == DType::Bf16 || (found == DType::F16 && !context.adapter().half) {
            let expected = if context.adapter().half { "f32 or f16" } else { "f32" };
            let hint = "--precision f32";
            return Err(Error::invalid("precision on a GPU", expected, found.name(), hint));
        }
        let c = &*context;
        let arena = Space::new(c, plan.arena_bytes() as u64).map_err(failed)?;
        let mut sources = Vec::new();
        for &node in &plan.request.sources {
            let elements = graph.nodes[node].shape.elements() * plan.request.batch;
            let pixels = matches!(graph.nodes[node].op, Op::Input(_));
            let bytes = pixels.then(|| room(c, elements as u64)).transpose()?;
            let store = stored(plan.dtypes[node]);
            let values = room(c, store.bytes() * elements as u64)?.storing(store);
            sources.push(Source { values, bytes, is_bytes: false });
        }
        let trained = Trained::new(c, &plan, parameters)?;
        let held = Held::new(c, &graph, &plan, &trained, parameters)?;
        let scratch = room(c, 4 * calls::scratch(&graph, &plan) as u64)?;
        let classes = graph.nodes[graph.output()].shape.elements();
        let labels = training::Memory::new(c, plan.request.batch, classes)?;
        let mut executor = Executor {
            graph,
            plan,
            context,
            arena,
            sources,
            held,
            trained,
            scratch,
            training: None,
            labels,
            made: Vec::new(),
            turn: Turn::default(),
            count: 0,
            seed,
            seconds: None,
        };
        executor.load(parameters)?;
        Ok(executor)
    }

    /// A buffer of the arena.
    fn buffer(&self, buffer: usize) -> Result<Span> {
        let spec = self.plan.buffers[buffer];
        let bytes = 4 * spec.floats(self.plan.request.batch) as u64;
        let span = self.arena.span(4 * spec.offset as u64, bytes).map_err(failed)?;
        Ok(span.storing(stored(spec.dtype)))
    }

    fn place(&self, place: Option<Place>) -> Result<Span> {
        match place {
            Some(Place::Source(i)) => Ok(self.sources[i].values.clone()),
            Some(Place::Buffer(b)) => self.buffer(b),
            None => Err(Error::invalid("plan", "a place for every value", "none", "")),
        }
    }

    /// Copies images to the GPU.
    fn upload(&mut self, inputs: &[Input<'_>]) -> Result<()> {
        let c = &*self.context;
        for (source, input) in self.sources.iter_mut().zip(inputs) {
            match (*input, &source.bytes) {
                (Input::Bytes(bytes), Some(span)) => {
                    c.write(span, bytes).map_err(failed)?;
                    source.is_bytes = true;
                }
                (Input::Bytes(bytes), None) => {
                    let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
                    c.write_floats(&source.values, &floats).map_err(failed)?;
                    source.is_bytes = false;
                }
                (Input::Values(Slice::F32(values)), _) => {
                    c.write_floats(&source.values, values).map_err(failed)?;
                    source.is_bytes = false;
                }
                (Input::Values(Slice::F16(values)), _) => {
                    write_halves(c, &source.values, values)?;
                    source.is_bytes = false;
                }
                (Input::Values(Slice::Bf16(_)), _) => {
                    return Err(Error::invalid("values", DType::F32.name(), "bf16", ""));
                }
            }
        }
        Ok(())
    }

    /// The program for `count` images, as the last of those that are kept.
    fn program(&mut self, count: usize) -> Result<usize> {
        let bytes: Vec<bool> = self.sources.iter().map(|s| s.is_bytes).collect();
        if let Some(i) = self.made.iter().position(|m| m.count == count && m.bytes == bytes) {
            return Ok(i);
        }
        let made = Calls::of(self, count, bytes)?;
        if self.made.len() == PROGRAMS {
            self.made.remove(0);
        }
        self.made.push(made);
        Ok(self.made.len() - 1)
    }

    /// Runs all steps, one by one where they are measured.
    fn run(&mut self, made: usize) -> Result<()> {
        let (c, made) = (&*self.context, &self.made[made]);
        let Some(seconds) = &mut self.seconds else { return made.program.run(c).map_err(failed) };
        c.wait().map_err(failed)?;
        for (range, seconds) in made.steps.iter().zip(seconds) {
            let start = Instant::now();
            made.program.run_part(c, range.clone()).map_err(failed)?;
            c.wait().map_err(failed)?;
            *seconds = start.elapsed().as_secs_f64();
        }
        Ok(())
    }

    /// The first elements of a span, as they are stored.
    fn values(&self, span: Span, elements: usize) -> Result<Values> {
        let (mut words, store) = (Vec::new(), span.store);
        let count = (elements * store.bytes() as usize).div_ceil(4);
        self.context.read(&[(span, count)], &mut words).map_err(failed)?;
        Ok(match store {
            Store::F32 => Values::F32(words.into_iter().map(f32::from_bits).collect()),
            Store::F16 => {
                let halves = words.into_iter().flat_map(|word| [word as u16, (word >> 16) as u16]);
                Values::F16(halves.take(elements).map(F16).collect())
            }
        })
    }
}

/// How a GPU stores this type; it has no plans for bfloat16.
fn stored(dtype: DType) -> Store {
    match dtype {
        DType::F16 => Store::F16,
        DType::F32 | DType::Bf16 => Store::F32,
    }
}

/// Copies half-precision values to the start of a span.
fn write_halves(c: &Context, to: &Span, values: &[F16]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.0.to_le_bytes()).collect();
    c.write(to, &bytes).map_err(failed)
}

/// Memory of a GPU.
fn room(c: &Context, bytes: u64) -> Result<Span> {
    let mut places = Places::new(c.page());
    let at = places.place(bytes).map_err(failed)?;
    Space::new(c, places.end()).and_then(|space| space.span(at, bytes)).map_err(failed)
}

/// A GPU's error as the library's.
pub(super) fn failed(error: GpuError) -> Error {
    Error::invalid(error.thing, error.expected, error.found, error.hint)
}

impl Execute for Executor {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn load(&mut self, parameters: &Parameters) -> Result<()> {
        self.trained.load(&self.context, &self.plan, parameters)?;
        self.held.load(&self.context, &self.graph, &self.plan, parameters)
    }

    fn forward(&mut self, inputs: &[Input<'_>], count: usize) -> Result<()> {
        check_inputs(&self.graph, &self.plan, inputs, count)?;
        if self.plan.request.trainable.is_some() {
            return Err(Error::invalid("plan", "one made for inference", "one for training", ""));
        }
        self.upload(inputs)?;
        let made = self.program(count)?;
        self.run(made)?;
        self.count = count;
        Ok(())
    }

    fn read(&mut self, output: usize, into: &mut Values) -> Result<()> {
        let node = self.plan.request.outputs.get(output).copied();
        let place = node.and_then(|node| self.plan.values[node]);
        let (Some(Place::Buffer(buffer)), Some(node)) = (place, node) else {
            let expected = format!("one of {} values of layers", self.plan.request.outputs.len());
            return Err(Error::invalid("output", expected, output.to_string(), ""));
        };
        let elements = self.graph.nodes[node].shape.elements() * self.count;
        *into = self.values(self.buffer(buffer)?, elements)?;
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
        let mut probabilities = Values::default();
        self.read(0, &mut probabilities)?;
        Ok(cross_entropy(classes, probabilities.as_slice().f32(), labels))
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
        self.run_step(inputs, labels, turn)
    }

    fn accumulate(&mut self) -> Result<()> {
        self.add_gradients()
    }

    fn reduce(&mut self, images: usize, sum: &mut SumReplicas<'_>) -> Result<()> {
        self.sum_replicas(images, sum)
    }

    fn update(&mut self, learning_rate: f32) -> Result<()> {
        self.update_weights(learning_rate)
    }

    fn gradients(&mut self, into: &mut Gradients) -> Result<()> {
        into.tensors = self.trained.read_gradients(&self.context)?;
        Ok(())
    }

    fn download(&mut self, which: Weights, parameters: &mut Parameters) -> Result<()> {
        self.trained.download(&self.context, which, parameters)
    }

    fn statistics(&mut self, into: &mut Vec<f32>) -> Result<()> {
        *into = self.trained.statistics(&self.context)?;
        Ok(())
    }

    fn set_statistics(&mut self, values: &[f32]) -> Result<()> {
        self.trained.set_statistics(&self.context, values)
    }

    fn set_average(&mut self, parameters: &Parameters) -> Result<()> {
        self.trained.set_average(&self.context, parameters)
    }

    fn optimizer_state(&mut self) -> Result<Vec<Tensor>> {
        let Some(training) = &mut self.training else { return Ok(Vec::new()) };
        self.trained.read_memory(&self.context, &mut training.optimizer)?;
        let tensors = training.optimizer.tensors(&self.trained.parameters);
        training.optimizer.state.clear();
        Ok(tensors)
    }

    fn set_optimizer_state(&mut self, tensors: &[Tensor]) -> Result<()> {
        let Some(training) = &mut self.training else { return Err(training::not_prepared()) };
        training.optimizer.restore(&self.trained.parameters, tensors)?;
        self.trained.write_memory(&self.context, &training.optimizer)?;
        training.optimizer.state.clear();
        Ok(())
    }

    fn measure(&mut self) {
        self.seconds = Some(vec![0.0; self.plan.steps.len()]);
    }

    fn seconds(&self) -> &[f64] {
        self.seconds.as_deref().unwrap_or_default()
    }
}
