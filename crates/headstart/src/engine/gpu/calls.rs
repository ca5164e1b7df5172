//! The steps of a plan as calls of kernels, for a number of images.

use headstart_gpu::kernels::conv::{self, Epilogue, kernel_gradient_scratch};
use headstart_gpu::kernels::norm::{self, Rows};
use headstart_gpu::kernels::pool::{self, Normalize};
use headstart_gpu::kernels::{elementwise, frame, loss};
use headstart_gpu::{ALIGNMENT, Call, Program, Span};
use headstart_kernels::conv::ConvShape;
use headstart_kernels::elementwise::{Affine, FrameShape, FrameSizes};
use headstart_kernels::pool::PoolShape;

use super::{Executor, Made, failed};
use crate::engine::plan::{Main, Place, Plan, Step};
use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::Role;

/// Collects calls.
pub(super) struct Calls<'e> {
    pub executor: &'e Executor,
    pub count: usize,
    pub calls: Vec<Call>,
    pub seeds: Vec<(usize, NodeId)>,
    bytes: Vec<bool>,
    moving: Vec<usize>,
    shares: Vec<(usize, usize)>,
    loss: Option<usize>,
}

/// The bits of a NaN, each half of which is a half-precision NaN.
const NAN: u32 = 0x7fc0_7fc0;
/// Bytes of a convolution's output that is pooled and not kept, at most, unless one image has more.
const POOLED: usize = 64 << 20;

/// Floats that steps need between two kernels.
pub(super) fn scratch(graph: &Graph, plan: &Plan) -> usize {
    let batch = plan.request.batch;
    let of_step = |step: &Step| match *step {
        Step::Forward { group } => {
            let g = &plan.groups[group];
            match (g.main, plan.shapes[group].conv) {
                (Main::Conv { .. }, Some(shape)) if g.pool.is_some() => {
                    let each = shape.first(1).out_len() * plan.dtypes[g.output].bytes();
                    (images_at_once(plan, group, &shape) * each).div_ceil(size_of::<f32>())
                }
                (Main::Norm { node, training: true }, _) => rows(graph, node, batch).scratch(),
                _ => 0,
            }
        }
        Step::Kernel { group, .. } => plan.shapes[group].conv.map_or(0, |shape| {
            let rows = Rows {
                rows: shape.batch() * shape.out_height() * shape.out_width(),
                channels: shape.out_channels(),
            };
            kernel_gradient_scratch(&shape).max(rows.scratch())
        }),
        Step::Norm { group, .. } => match plan.groups[group].main {
            Main::Norm { node, .. } => rows(graph, node, batch).scratch(),
            _ => 0,
        },
        _ => 0,
    };
    plan.steps.iter().map(of_step).max().unwrap_or(0)
}

/// Rows of a node's map.
pub(super) fn rows(graph: &Graph, node: NodeId, count: usize) -> Rows {
    let (height, width) = graph.nodes[node].shape.spatial();
    Rows { rows: count * height * width, channels: graph.nodes[node].shape.channels() }
}

/// Images of a pooled convolution that run at once: parts of maps begin at multiples of [`ALIGNMENT`].
fn images_at_once(plan: &Plan, group: usize, shape: &ConvShape) -> usize {
    let (one, pool) = (shape.first(1), plan.shapes[group].pool);
    let [read, written] = image_bytes(plan, group, &one, pool);
    let alignment = ALIGNMENT as usize;
    let aligned =
        |n: &usize| [read, written].iter().all(|bytes| (bytes * n).is_multiple_of(alignment));
    let step = (1..=ALIGNMENT as usize).find(aligned).unwrap_or(1);
    let each = one.out_len() * plan.dtypes[plan.groups[group].output].bytes();
    (POOLED / each / step * step).max(step).min(shape.batch())
}

/// Bytes of an image that a pooled convolution reads, and of what the pooling leaves.
fn image_bytes(
    plan: &Plan,
    group: usize,
    shape: &ConvShape,
    pool: Option<PoolShape>,
) -> [usize; 2] {
    let bytes = |node: NodeId| plan.dtypes[node].bytes();
    let g = &plan.groups[group];
    let pooled = pool.map_or(0, |pool| pool.first(1).out_len());
    [shape.first(1).in_len() * bytes(g.inputs[0]), pooled * bytes(g.output)]
}

impl<'e> Calls<'e> {
    /// The program of all steps.
    pub fn of(executor: &'e Executor, count: usize, bytes: Vec<bool>) -> Result<Made> {
        let mut calls = Calls {
            executor,
            count,
            calls: Vec::new(),
            seeds: Vec::new(),
            bytes,
            moving: Vec::new(),
            shares: Vec::new(),
            loss: None,
        };
        let plan = &executor.plan;
        let mut steps = Vec::new();
        for (i, &step) in plan.steps.iter().enumerate() {
            let start = calls.calls.len();
            if i == 0 {
                calls.expand_bytes()?;
            }
            calls.poison(i)?;
            match step {
                Step::Forward { group } => calls.forward(group)?,
                step => calls.backward(step)?,
            }
            steps.push(start..calls.calls.len());
        }
        let Calls { calls, seeds, bytes, moving, shares, loss, .. } = calls;
        let tuned = executor.context.tuned(calls);
        let program =
            tuned.and_then(|calls| Program::new(&executor.context, &calls)).map_err(failed)?;
        let (moves, share, scale) = (true, 0.0, 1.0);
        Ok(Made { count, bytes, program, steps, seeds, moving, moves, shares, share, loss, scale })
    }

    pub fn push(&mut self, calls: impl IntoIterator<Item = Call>) {
        self.calls.extend(calls);
    }

    /// In debug builds, fills the buffers whose life begins at a step with NaN, so that a result that depends on earlier
    /// contents cannot pass a test.
    fn poison(&mut self, step: usize) -> Result<()> {
        if cfg!(debug_assertions) {
            for (i, buffer) in self.executor.plan.buffers.iter().enumerate() {
                if buffer.first == step {
                    let span = self.executor.buffer(i)?;
                    let len = buffer.floats(self.executor.plan.request.batch);
                    self.push([elementwise::fill(len, NAN, &span)]);
                }
            }
        }
        Ok(())
    }

    /// Pixels as floats, for sources that others than frames read.
    fn expand_bytes(&mut self) -> Result<()> {
        let e = self.executor;
        for (i, source) in e.sources.iter().enumerate() {
            let node = e.plan.request.sources[i];
            if !self.bytes[i] || e.plan.frames(node) {
                continue;
            }
            let shape = e.graph.nodes[node].shape;
            let ((height, width), channels) = (shape.spatial(), shape.channels());
            let sizes =
                FrameSizes { batch: self.count, height, width, channels, factor: 1, padding: 0 };
            let shape = FrameShape::new(sizes).map_err(|error| {
                Error::invalid("images", error.expected, error.found, "take smaller batches")
            })?;
            if let Some(bytes) = &source.bytes {
                self.calls.push(frame::frame(&shape, None, true, bytes, &source.values));
            }
        }
        Ok(())
    }

    /// A node's value in the forward pass.
    pub fn value(&self, node: NodeId) -> Result<Span> {
        self.executor.place(self.executor.plan.values[node])
    }

    /// A node's value in the backward pass.
    pub fn kept(&self, node: NodeId) -> Result<Span> {
        self.executor.place(self.executor.plan.kept(node))
    }

    pub fn rows(&self, node: NodeId) -> Rows {
        rows(&self.executor.graph, node, self.count)
    }

    pub fn elements(&self, node: NodeId) -> usize {
        self.executor.graph.nodes[node].shape.elements() * self.count
    }

    /// The state of a batch norm group.
    pub fn state(&self, group: usize) -> Result<&'e Span> {
        self.executor.held.groups[group].state.as_ref().ok_or_else(lacking)
    }

    /// A tensor of a layer that trains.
    pub fn trained(&self, node: NodeId, role: Role) -> Result<Span> {
        let trained = &self.executor.trained;
        let index = trained.parameters.index(node, role);
        index.and_then(|i| trained.value(i)).ok_or_else(lacking)
    }

    fn forward(&mut self, group: usize) -> Result<()> {
        let e = self.executor;
        let (g, shapes) = (&e.plan.groups[group], e.plan.shapes[group]);
        let (x, y) = (self.value(g.inputs[0])?, self.value(g.output)?);
        let len = self.elements(g.output);
        let source = e.graph.nodes[g.inputs[0]].shape;
        let (height, width) = source.spatial();
        match g.main {
            Main::Conv { .. } => self.conv(group, &x, &y)?,
            Main::Norm { node, training } => self.norm(group, node, training, &x, &y)?,
            Main::Frame { map, .. } => {
                let Some(shape) = shapes.frame else { return Ok(()) };
                let affine =
                    map.map(|m| Affine { source: m.source, scale: m.scale, offset: m.offset });
                let (from, bytes) = match e.plan.values[g.inputs[0]] {
                    Some(Place::Source(i)) if self.bytes[i] && e.plan.frames(g.inputs[0]) => {
                        (e.sources[i].bytes.clone().unwrap_or(x), true)
                    }
                    _ => (x, false),
                };
                let shape = shape.first(self.count);
                self.push([frame::frame(&shape, affine.as_ref(), bytes, &from, &y)]);
            }
            Main::Identity => self.push([elementwise::copy(len, &x, g.relu, &y)]),
            Main::Add => {
                let second = self.value(g.inputs[1])?;
                self.push([elementwise::add(len, &x, &second, g.relu, &y)]);
            }
            Main::MaxPool(_) => {
                let Some(shape) = shapes.pool else { return Ok(()) };
                self.push([pool::max_pool(&shape.first(self.count), &x, None, &y)]);
            }
            Main::Average => {
                let channels = source.channels();
                self.push([pool::average(self.count, height * width, channels, &x, &y)]);
            }
            Main::Dropout { node, rate } if e.plan.request.trainable.is_some() => {
                self.dropout(node, rate, &x, &y);
            }
            Main::Dropout { .. } => self.push([elementwise::copy(len, &x, false, &y)]),
            Main::Softmax => {
                let classes = source.channels();
                self.push([loss::softmax(self.count, classes, &x, &y)]);
                if g.output == e.graph.output() && e.plan.request.trainable.is_some() {
                    self.loss(classes, &y)?;
                }
            }
        }
        Ok(())
    }

    pub fn dropout(&mut self, node: NodeId, rate: f32, x: &Span, y: &Span) {
        self.seeds.push((self.calls.len(), node));
        let len = self.elements(node);
        self.push([elementwise::dropout(len, rate, 0, x, y)]);
    }

    fn loss(&mut self, classes: usize, p: &Span) -> Result<()> {
        let labels = &self.executor.labels;
        let targets = labels.targets(self.executor.training.as_ref());
        let rows = [&labels.losses, &labels.hits];
        self.shares.push((self.calls.len(), loss::LOSS_SHARE));
        self.push(loss::loss(self.count, classes, p, targets, rows, &labels.result));
        Ok(())
    }

    /// The gradient of the logits.
    pub fn loss_gradient(&mut self, group: usize, output: usize) -> Result<()> {
        let e = self.executor;
        let node = e.plan.groups[group].output;
        let (p, d) = (self.kept(node)?, e.buffer(output)?);
        let targets = e.labels.targets(e.training.as_ref());
        self.shares.push((self.calls.len(), loss::GRADIENT_SHARE));
        self.loss = Some(self.calls.len());
        let classes = e.graph.nodes[node].shape.channels();
        self.push([loss::gradient(self.count, classes, &p, targets, &d)]);
        Ok(())
    }

    fn conv(&mut self, group: usize, x: &Span, y: &Span) -> Result<()> {
        let e = self.executor;
        let (g, shapes, held) =
            (&e.plan.groups[group], e.plan.shapes[group], &e.held.groups[group]);
        let Some(shape) = shapes.conv else { return Ok(()) };
        let kernel = held.kernel.as_ref().ok_or_else(lacking)?;
        if let Some(master) = &held.master {
            self.push([elementwise::copy(shape.kernel_len(), master, false, kernel)]);
        }
        let residual = g.residual.map(|node| self.value(node)).transpose()?;
        let epilogue =
            Epilogue { bias: held.bias.as_ref(), residual: residual.as_ref(), relu: g.relu };
        let Some(pool) = shapes.pool else {
            self.push([conv::forward(&shape.first(self.count), x, kernel, y, epilogue)]);
            return Ok(());
        };
        // What is pooled is not kept: some images at a time.
        let each = image_bytes(&e.plan, group, &shape, Some(pool)).map(|bytes| bytes as u64);
        let (step, mut first) = (images_at_once(&e.plan, group, &shape), 0);
        let scratch = e.scratch.clone().storing(y.store);
        while first < self.count {
            let count = step.min(self.count - first);
            let part = |span: &Span, each: u64| {
                span.part(each * first as u64, each * count as u64).map_err(failed)
            };
            let (x, y) = (part(x, each[0])?, part(y, each[1])?);
            self.push([
                conv::forward(&shape.first(count), &x, kernel, &scratch, epilogue),
                pool::max_pool(&pool.first(count), &scratch, None, &y),
            ]);
            first += count;
        }
        Ok(())
    }

    fn norm(
        &mut self,
        group: usize,
        node: NodeId,
        training: bool,
        x: &Span,
        y: &Span,
    ) -> Result<()> {
        let e = self.executor;
        let (g, rows, state) = (&e.plan.groups[group], self.rows(node), self.state(group)?);
        if let (true, Op::BatchNorm { epsilon, momentum, unbiased }) =
            (training, e.graph.nodes[node].op)
        {
            let roles = [Role::Gamma, Role::Beta, Role::MovingMean, Role::MovingVariance];
            let spans = roles.into_iter().map(|role| self.trained(node, role));
            let spans = spans.collect::<Result<Vec<Span>>>()?;
            let layer = norm::Layer {
                gamma: &spans[0],
                beta: &spans[1],
                moving_mean: &spans[2],
                moving_variance: &spans[3],
                epsilon,
                momentum,
                unbiased,
            };
            self.moving.push(self.calls.len() + 1);
            self.push(norm::statistics(rows, x, &e.scratch, state, layer));
        }
        match e.plan.shapes[group].pool {
            Some(shape) => {
                let normalize = Some(Normalize { state, relu: g.relu });
                self.push([pool::max_pool(&shape.first(self.count), x, normalize, y)]);
            }
            None => {
                let residual = g.residual.map(|node| self.value(node)).transpose()?;
                self.push([norm::apply(rows, x, state, residual.as_ref(), g.relu, y)]);
            }
        }
        Ok(())
    }
}

/// The error of a plan whose groups do not suit its weights.
pub(super) fn lacking() -> Error {
    Error::invalid("plan", "weights for every layer", "a layer without", "")
}
