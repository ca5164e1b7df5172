//! A plan as a list: what runs, on which shapes, with how many operations and bytes.
//!
//! ```
//! use headstart::explain::Explanation;
//! use headstart::plan::{Plan, Request};
//! use headstart::{DType, Model};
//!
//! let model = Model::imagenet("resnet50")?;
//! let (graph, outputs) = (&model.net.graph, vec![model.output()]);
//! let dtype = DType::F32;
//! let plan = Plan::new(graph, Request { batch: 1, sources: vec![0], outputs, trainable: None, dtype })?;
//! let explanation = Explanation::new(graph, &plan, None);
//! assert_eq!(explanation.flops / 100_000_000, 77); // 7.7 GFLOP per image
//! # Ok::<(), headstart::Error>(())
//! ```

use std::fmt;

use serde::Serialize;

use crate::engine::plan::{Group, Main, Plan, Pool, Step};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::layer_shapes;
use crate::numbers::grouped;
use headstart_kernels::conv::Onto;

/// One step of a plan, for one batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRow {
    /// What is done: "conv+bn+add+relu", "d conv input", ...
    pub kind: String,
    /// The layer whose value or gradient it produces.
    pub name: String,
    /// Shape for one image.
    pub shape: String,
    /// Floating-point operations, a multiply-add counted as two.
    pub flops: u64,
    /// Bytes of tensors and weights read and written, each once.
    pub bytes: u64,
    /// Measured milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// Achieved fraction of the machine's peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction_of_peak: Option<f64>,
}

/// All steps and what they need together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Images in a batch.
    pub batch: usize,
    /// The steps in order.
    pub steps: Vec<StepRow>,
    /// Bytes of the arena that holds every activation and gradient.
    pub arena_bytes: u64,
    /// Bytes they would take without sharing memory.
    pub unshared_bytes: u64,
    /// Operations for the batch.
    pub flops: u64,
}

impl Explanation {
    /// Lists `plan` of `graph`. With `seconds`, one per step, and the machine's peak in FLOP/s, times
    /// and fractions are filled in.
    pub fn new(graph: &Graph, plan: &Plan, seconds: Option<(&[f64], f64)>) -> Explanation {
        let steps: Vec<StepRow> = plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, &step)| {
                let mut row = row(graph, plan, step);
                if let Some((seconds, peak)) = seconds
                    && let Some(&seconds) = seconds.get(i)
                {
                    row.milliseconds = Some(seconds * 1e3);
                    let share = row.flops as f64 / seconds / peak;
                    row.fraction_of_peak = (row.flops > 0 && peak > 0.0).then_some(share);
                }
                row
            })
            .collect();
        let used = plan.buffers.iter().filter(|b| b.first != usize::MAX);
        let floats: usize = used.map(|b| b.floats(plan.request.batch)).sum();
        Explanation {
            batch: plan.request.batch,
            flops: steps.iter().fold(0, |sum, s| sum.saturating_add(s.flops)),
            steps,
            arena_bytes: plan.arena_bytes() as u64,
            unshared_bytes: (floats * size_of::<f32>()) as u64,
        }
    }
}

fn row(graph: &Graph, plan: &Plan, step: Step) -> StepRow {
    let batch = plan.request.batch as u64;
    let bytes = |node: NodeId| plan.dtypes[node].bytes() as u64;
    let size = |node: NodeId| graph.nodes[node].shape.elements() as u64 * batch * bytes(node);
    let weights = |node: NodeId| -> u64 {
        let shapes = layer_shapes(graph, node);
        shapes.iter().map(|(_, s)| s.iter().product::<usize>() as u64 * bytes(node)).sum()
    };
    let of = |kind: String, node: NodeId, flops: u64, bytes: u64| StepRow {
        kind,
        name: graph.nodes[node].name.clone(),
        shape: graph.nodes[node].shape.to_string(),
        flops,
        bytes,
        milliseconds: None,
        fraction_of_peak: None,
    };
    let group = |g: usize| &plan.groups[g];
    let main = |g: usize| match group(g).main {
        Main::Conv { node, .. } | Main::Norm { node, .. } => weights(node),
        _ => 0,
    };
    let inputs = |g: usize| -> u64 { group(g).inputs.iter().map(|&n| size(n)).sum() };
    let output = |g: usize| group(g).output;
    let name = |g: usize| label(graph, group(g));
    let kernel = |g: usize| match group(g).main {
        Main::Conv { .. } => "conv",
        Main::Norm { .. } => "bn",
        _ => "op",
    };
    match step {
        Step::Forward { group: g } => {
            let residual = group(g).residual.map_or(0, size);
            let statistics = match group(g).main {
                Main::Norm { training: true, .. } if plan.statistics[g].is_none() => inputs(g),
                _ => 0,
            };
            let elements = inputs(g) + statistics + residual + size(output(g)) + main(g);
            of(name(g), output(g), flops(graph, group(g), batch), elements)
        }
        Step::Again { group: g, .. } => {
            of(format!("again: {}", name(g)), output(g), 0, inputs(g) + size(output(g)))
        }
        Step::Loss { group: g, .. } => {
            let node = group(g).inputs[0];
            of("d loss".into(), node, 0, 2 * size(node))
        }
        Step::Mask { group: g, .. } => of("d relu".into(), output(g), 0, 3 * size(output(g))),
        Step::Accumulate { from, .. } | Step::Copy { from, .. } => {
            let buffer = plan.buffers[from];
            let bytes = (buffer.elements * buffer.dtype.bytes()) as u64 * batch;
            let copy = matches!(step, Step::Copy { .. });
            StepRow {
                kind: if copy { "d copy" } else { "d add" }.into(),
                name: String::new(),
                shape: plan.buffers[from].elements.to_string(),
                flops: 0,
                bytes: bytes * if copy { 2 } else { 3 },
                milliseconds: None,
                fraction_of_peak: None,
            }
        }
        Step::Unpool { group: g, .. } => {
            of("d max pool".into(), output(g), 0, size(output(g)) + 2 * inputs(g))
        }
        Step::Kernel { group: g, .. } => {
            let elements = inputs(g) + size(output(g)) + main(g);
            let kind = "d conv kernel".to_string();
            of(kind, output(g), flops(graph, group(g), batch), elements)
        }
        Step::Norm { group: g, output: to, summed, .. } => {
            let sums = if summed { 0 } else { 2 };
            let passes = sums + if to.is_some() { 3 } else { 0 };
            of("d bn".into(), output(g), 0, passes * size(output(g)))
        }
        Step::Input { group: g, onto, mask, sums, .. } => {
            let node = group(g).inputs[0];
            let passes = [onto != Onto::Nothing, mask, sums.is_some()].map(u64::from);
            let extra = size(node) * passes.iter().sum::<u64>();
            let flops = flops(graph, group(g), batch);
            let kind = format!("d {} input", kernel(g));
            of(kind, node, flops, size(output(g)) + size(node) + extra + main(g))
        }
    }
}

/// Operations of a group's convolution or dense layer; nothing else counts.
fn flops(graph: &Graph, group: &Group, batch: u64) -> u64 {
    let Main::Conv { node, .. } = group.main else { return 0 };
    let (height, width) = graph.nodes[node].shape.spatial();
    let kernel = match graph.nodes[node].op {
        Op::Conv2D { kernel, .. } => kernel,
        _ => 1,
    };
    let inputs = graph.nodes[graph.nodes[node].inputs[0]].shape.channels();
    let factors = [2, height, width, graph.nodes[node].shape.channels(), kernel, kernel, inputs];
    factors.iter().fold(batch, |product, &factor| product.saturating_mul(factor as u64))
}

fn label(graph: &Graph, group: &Group) -> String {
    let mut parts = vec![];
    match group.main {
        Main::Frame { map, factor, padding } => {
            parts.extend(map.map(|_| "normalize".to_string()));
            parts.extend((factor > 1).then(|| format!("upsample x{factor}")));
            parts.extend((padding > 0).then(|| "pad".to_string()));
        }
        Main::Conv { node, norm, upsample, padding } => {
            parts.extend((upsample > 1).then(|| format!("upsample x{upsample}")));
            parts.extend((padding > 0).then(|| "pad".to_string()));
            let op = graph.nodes[node].op;
            parts.push(match op {
                Op::Conv2D { kernel, stride, .. } if stride > 1 => {
                    format!("conv{kernel}x{kernel}/{stride}")
                }
                Op::Conv2D { kernel, .. } => format!("conv{kernel}x{kernel}"),
                _ => "dense".into(),
            });
            parts.extend(norm.map(|_| "bn".to_string()));
        }
        Main::Norm { training, .. } => {
            parts.push(if training { "bn(batch)" } else { "bn" }.into());
        }
        Main::Identity => {}
        Main::Add => parts.push("add".into()),
        Main::MaxPool(pool) => parts.push(pooling(pool)),
        Main::Average => parts.push("average pool".into()),
        Main::Dropout { .. } => parts.push("dropout".into()),
        Main::Softmax => parts.push("softmax".into()),
    }
    parts.extend(group.residual.map(|_| "add".to_string()));
    parts.extend(group.relu.then(|| "relu".to_string()));
    parts.extend(group.pool.map(pooling));
    parts.join("+")
}

fn pooling(pool: Pool) -> String {
    if pool.padding > 0 { "pad+max pool".into() } else { "max pool".into() }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = |of: fn(&StepRow) -> &str| {
            self.steps.iter().map(|s| of(s).len()).max().unwrap_or(0).max(5)
        };
        let (kind, name) = (wide(|s| &s.kind), wide(|s| &s.name));
        let measured = self.steps.iter().any(|s| s.milliseconds.is_some());
        write!(f, "{:>4}  {:kind$}  {:name$}  {:>13}", "step", "what", "layer", "shape")?;
        write!(f, "  {:>8}  {:>8}", "GFLOP", "MB")?;
        writeln!(f, "{}", if measured { "        ms    peak" } else { "" })?;
        for (i, s) in self.steps.iter().enumerate() {
            let (gflop, mb) = (s.flops as f64 / 1e9, s.bytes as f64 / 1e6);
            write!(f, "{i:>4}  {:kind$}  {:name$}  {:>13}", s.kind, s.name, s.shape)?;
            write!(f, "  {gflop:>8.3}  {mb:>8.1}")?;
            if let Some(ms) = s.milliseconds {
                write!(f, "  {ms:>8.2}")?;
            }
            if let Some(share) = s.fraction_of_peak {
                write!(f, "  {:>5.0}%", share * 100.0)?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\nsteps: {}, batch {}", self.steps.len(), self.batch)?;
        let per_image = self.flops as f64 / 1e9 / self.batch as f64;
        writeln!(f, "operations: {per_image:.2} GFLOP per image")?;
        let total: f64 = self.steps.iter().filter_map(|s| s.milliseconds).sum();
        if measured {
            writeln!(f, "time: {total:.1} ms per batch")?;
        }
        write!(
            f,
            "arena: {} bytes ({} without sharing)",
            grouped(self.arena_bytes as usize),
            grouped(self.unshared_bytes as usize)
        )
    }
}
