//! How a net will be run: fused groups of nodes, the steps over them, and one arena for all of
//! their buffers.
//!
//! A plan is made once from a graph, what is trainable and the batch size, by small passes:
//! `fold` fuses nodes into groups, `backward` derives the gradients that trainable weights need,
//! `sums` gives batch norms' sums to convolutions, `memory` turns lifetimes into offsets.
//!
//! ```
//! use std::sync::Arc;
//!
//! use headstart::{Compute, DType};
//! use headstart::execute::{Execute, Executor};
//! use headstart::init;
//! use headstart::plan::{Plan, Request};
//! use headstart::resnet::{Net, Recipe, Surroundings};
//!
//! let recipe = Recipe::named("resnet20")?;
//! let around =
//!     Surroundings { height: 32, width: 32, preprocess: None, upsample: 1, classes: Some(10) };
//! let net = Net::new(&recipe, &around)?;
//! let graph = Arc::clone(&net.graph);
//! let (outputs, dtype) = (vec![graph.output()], DType::F32);
//! let request = Request { batch: 4, sources: vec![0], outputs, trainable: None, dtype };
//! let plan = Plan::new(&graph, request)?;
//! println!("{} steps in {} bytes", plan.steps.len(), plan.arena_bytes());
//!
//! let parameters = init::initial(&graph, recipe.init, 42);
//! let compute = Arc::new(Compute::new(0)?);
//! let mut executor = Executor::new(graph, plan, compute, &parameters, 0)?;
//! executor.forward(&[(&vec![128u8; 2 * 32 * 32 * 3]).into()], 2)?;
//! let probabilities = executor.output(0, 2);
//! assert!((probabilities[..10].iter().sum::<f32>() - 1.0).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backward;
mod fold;
mod folded;
mod frontier;
mod memory;
mod shapes;
mod sums;

pub use fold::{Group, Main, Pool};
pub use folded::{Folded, tensor};
pub use frontier::{frontier, is_cut, prefix, sources};
pub use shapes::Shapes;

use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op, Shape};
use crate::task::{Loss, Task};
use headstart_kernels::buffer::LINE;
use headstart_kernels::conv::Onto;
use headstart_kernels::element::DType;

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Most images in a batch.
    pub batch: usize,
    /// Nodes whose values the caller gives, in order.
    pub sources: Vec<NodeId>,
    /// Nodes whose values can be read afterwards, in order.
    pub outputs: Vec<NodeId>,
    /// Which nodes' weights are trained; `None` for inference. A training plan also computes the
    /// categorical cross-entropy of the graph's last node, a softmax, and gradients.
    pub trainable: Option<Vec<bool>>,
    /// What feature maps and their gradients are stored as. Images, and vectors from the global average
    /// pooling on, are floats.
    pub dtype: DType,
}

/// Where a step finds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The caller's tensor for this entry of [`Request::sources`].
    Source(usize),
    /// A buffer of the arena.
    Buffer(usize),
}

/// A buffer of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// Elements per image.
    pub elements: usize,
    /// What they are stored as.
    pub dtype: DType,
    /// First step that uses it.
    pub first: usize,
    /// Last step that uses it; `usize::MAX` when it is read after the run.
    pub last: usize,
    /// Where it starts in the arena, in floats.
    pub offset: usize,
}

impl BufferSpec {
    /// Floats of the arena that `count` images take.
    pub fn floats(&self, count: usize) -> usize {
        (self.elements * count * self.dtype.bytes()).div_ceil(size_of::<f32>())
    }
}

/// One thing to do. `group` indexes [`Plan::groups`]; `gradient` is a buffer that holds the
/// gradient of the group's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Computes a group.
    Forward {
        /// The group.
        group: usize,
    },
    /// Computes a batch norm group again, from its input and the statistics of the forward pass.
    Again {
        /// The group.
        group: usize,
        /// Receives its value.
        output: usize,
    },
    /// Gradient of the mean cross-entropy with respect to the logits.
    Loss {
        /// The softmax group.
        group: usize,
        /// Receives the gradient of the logits.
        output: usize,
    },
    /// Zeroes a gradient where the group's ReLU output is not positive.
    Mask {
        /// The group that ends in the ReLU.
        group: usize,
        /// Changed in place.
        gradient: usize,
    },
    /// Adds one gradient to another.
    Accumulate {
        /// What is added.
        from: usize,
        /// What it is added to.
        to: usize,
    },
    /// Copies a gradient.
    Copy {
        /// The gradient.
        from: usize,
        /// Its copy.
        to: usize,
    },
    /// Gradients of a convolution's or dense layer's kernel and bias.
    Kernel {
        /// The group.
        group: usize,
        /// Gradient of its output.
        gradient: usize,
    },
    /// Gradient of what a batch norm group's pooling reads, made from its input again; of the batch norm's output, where a
    /// ReLU is between.
    Unpool {
        /// The group.
        group: usize,
        /// Gradient of its output.
        gradient: usize,
        /// Receives the gradient.
        output: usize,
    },
    /// Gradients of batch norm's gamma and beta where it is trainable, and the gradient of its input.
    Norm {
        /// The group.
        group: usize,
        /// Gradient of its output.
        gradient: usize,
        /// Receives the gradient of the input where it is needed; may be `gradient` itself.
        output: Option<usize>,
        /// Whether the step that completed `gradient` has gathered the gradients of gamma and beta.
        summed: bool,
    },
    /// Gradient of a group's first input.
    Input {
        /// The group.
        group: usize,
        /// Gradient of its output.
        gradient: usize,
        /// Receives the gradient of the input.
        output: usize,
        /// What of `output` it is added to (convolutions only).
        onto: Onto,
        /// Whether the result is masked by the input, a ReLU output (convolutions and poolings only).
        mask: bool,
        /// The batch norm group before whose gamma's and beta's gradients this gathers (convolutions only).
        sums: Option<usize>,
    },
}

/// The steps that will run, in order, and the arena in which every buffer has a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was made for.
    pub request: Request,
    /// Fused nodes, in the order of the forward pass.
    pub groups: Vec<Group>,
    /// What each group's kernels compute on, for a whole batch.
    pub shapes: Vec<Shapes>,
    /// What runs.
    pub steps: Vec<Step>,
    /// The arena's buffers.
    pub buffers: Vec<BufferSpec>,
    /// Where each node's value is; `None` for nodes fused away or not computed.
    pub values: Vec<Option<Place>>,
    /// The buffer of the values that are computed again for the backward pass instead of being stored.
    pub again: Vec<Option<usize>>,
    /// For a group that is a convolution, the batch norm group whose statistics it gathers; for that group, the
    /// convolution.
    pub statistics: Vec<Option<usize>>,
    /// What each node's value and its gradient are stored as.
    pub dtypes: Vec<DType>,
    /// Floats of the arena.
    pub arena: usize,
    /// Alignment: every buffer's offset is a multiple of this many bytes.
    pub alignment: usize,
    /// Bytes of the arena's parts, of which no buffer lies in two; the largest number for an arena in one part.
    pub page: usize,
    /// What a plan for training minimises; none for inference.
    pub loss: Option<Loss>,
}

/// Bytes to which buffers are aligned in memory: a cache line.
pub const HOST_ALIGNMENT: usize = LINE * size_of::<f32>();

impl Plan {
    /// Plans `request` on `graph`, for buffers in this machine's memory.
    ///
    /// # Errors
    /// If the batch is empty, a node does not exist, an output does not follow from the sources, a training plan's
    /// graph does not end in a softmax, or a size is larger than addresses reach.
    pub fn new(graph: &Graph, request: Request) -> Result<Plan> {
        Plan::aligned(graph, request, HOST_ALIGNMENT)
    }

    /// The same with buffers at multiples of `alignment` bytes, a power of two from 4 on.
    ///
    /// # Errors
    /// As [`Plan::new`]; if there is no such alignment.
    pub fn aligned(graph: &Graph, request: Request, alignment: usize) -> Result<Plan> {
        Plan::paged(graph, request, alignment, usize::MAX)
    }

    /// The same for an arena of several parts of `page` bytes, of which no buffer lies in two.
    ///
    /// # Errors
    /// As [`Plan::aligned`]; if a buffer is larger than a page, or a page is no multiple of the alignment.
    pub fn paged(graph: &Graph, request: Request, alignment: usize, page: usize) -> Result<Plan> {
        let loss = check(graph, &request)?;
        if !alignment.is_power_of_two() || alignment < size_of::<f32>() {
            let expected = "a power of two, 4 or more";
            return Err(Error::invalid("alignment", expected, alignment.to_string(), ""));
        }
        if page != usize::MAX && (page == 0 || !page.is_multiple_of(alignment)) {
            let expected = format!("a multiple of {alignment}");
            return Err(Error::invalid("page", expected, page.to_string(), ""));
        }
        let groups = fold::groups(graph, &request)?;
        let shapes = groups.iter().map(|g| Shapes::new(graph, g, request.batch));
        let dtypes = graph.nodes.iter().map(|node| match (node.op, node.shape) {
            (Op::Input(_), _) | (_, Shape::Vector(_)) => DType::F32,
            (_, Shape::Map { .. }) => request.dtype,
        });
        let mut plan = Plan {
            dtypes: dtypes.collect(),
            values: vec![None; graph.nodes.len()],
            again: vec![None; graph.nodes.len()],
            statistics: vec![None; groups.len()],
            steps: (0..groups.len()).map(|group| Step::Forward { group }).collect(),
            buffers: Vec::new(),
            arena: 0,
            alignment,
            page,
            loss,
            shapes: shapes.collect::<Result<_>>()?,
            groups,
            request,
        };
        for (i, &node) in plan.request.sources.iter().enumerate() {
            plan.values[node] = Some(Place::Source(i));
        }
        for i in 0..plan.groups.len() {
            let node = plan.groups[i].output;
            let buffer = plan.buffer(graph, node);
            plan.values[node] = Some(Place::Buffer(buffer));
        }
        if plan.request.trainable.is_some() {
            backward::append(&mut plan, graph);
            sums::gather(&mut plan);
        }
        memory::check(&plan, graph)?;
        memory::assign(&mut plan);
        memory::check_page(&plan, graph)?;
        Ok(plan)
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena * size_of::<f32>()
    }

    /// Whether the gradient of a group's input needs the input itself.
    pub fn reads_input(&self, group: usize, mask: bool) -> bool {
        mask || matches!(self.groups[group].main, Main::MaxPool(_))
    }

    /// Where a node's value is in the backward pass.
    pub fn kept(&self, node: NodeId) -> Option<Place> {
        self.again[node].map(Place::Buffer).or(self.values[node])
    }

    /// Whether a node's weights are trained by this plan.
    pub fn trains(&self, node: NodeId) -> bool {
        self.request.trainable.as_ref().is_some_and(|t| t[node])
    }

    /// What a group computes on: the type of feature maps if it reads or writes any, else floats.
    pub fn dtype(&self, group: usize) -> DType {
        let g = &self.groups[group];
        let mut nodes = g.inputs.iter().chain([&g.output]).map(|&n| self.dtypes[n]);
        nodes.find(|&dtype| dtype != DType::F32).unwrap_or_default()
    }

    /// Whether the weights of a group's layer are trained by this plan.
    pub fn trains_group(&self, group: usize) -> bool {
        match self.groups[group].main {
            Main::Conv { node, .. } | Main::Norm { node, .. } => self.trains(node),
            _ => false,
        }
    }

    /// Whether every group that reads a source is a frame, which takes pixels as bytes.
    pub fn frames(&self, source: NodeId) -> bool {
        let mut readers =
            self.groups.iter().filter(|g| g.residual == Some(source) || g.inputs.contains(&source));
        readers.all(|g| matches!(g.main, Main::Frame { .. }))
    }

    /// A buffer for a node's value or its gradient.
    fn buffer(&mut self, graph: &Graph, node: NodeId) -> usize {
        let (elements, dtype) = (graph.nodes[node].shape.elements(), self.dtypes[node]);
        self.buffers.push(BufferSpec { elements, dtype, first: usize::MAX, last: 0, offset: 0 });
        self.buffers.len() - 1
    }
}

fn check(graph: &Graph, request: &Request) -> Result<Option<Loss>> {
    let count = graph.nodes.len();
    if request.batch == 0 {
        return Err(Error::invalid("batch size", "at least 1", "0", ""));
    }
    for &node in request.sources.iter().chain(&request.outputs) {
        if node >= count {
            let expected = format!("a node below {count}");
            return Err(Error::invalid("plan", expected, node.to_string(), ""));
        }
    }
    let mut loss = None;
    if let Some(trainable) = &request.trainable {
        if trainable.len() != count {
            let expected = format!("one trainable flag for each of {count} nodes");
            return Err(Error::invalid("plan", expected, trainable.len().to_string(), ""));
        }
        let last = graph.nodes.last().map(|n| n.op);
        let ends = |task: &&Task| last == Some(Op::of(task.activation()));
        loss = Task::ALL.iter().find(ends).map(|task| task.loss());
        if loss.is_none() {
            let found = last.map_or("no nodes".into(), |op| format!("{op:?}"));
            return Err(Error::invalid(
                "plan for training",
                "a net that ends in softmax",
                found,
                "",
            ));
        }
    }
    Ok(loss)
}
