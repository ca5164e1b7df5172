//! The gradients that trainable weights need, as the forward groups read backwards.

use super::{Main, Place, Plan, Step};
use crate::net::graph::{Graph, NodeId, Op};
use headstart_kernels::conv::Onto;

/// Appends the loss and backward steps to a training plan.
pub(super) fn append(plan: &mut Plan, graph: &Graph) {
    let nodes = graph.nodes.len();
    let mut b = Backward {
        cheap: cheap(plan, graph),
        live: vec![false; nodes],
        pending: vec![0; nodes],
        gradients: vec![None; nodes],
        rectified: vec![false; nodes],
        masked: vec![false; nodes],
        grids: vec![None; nodes],
        graph,
        plan,
    };
    for g in &b.plan.groups {
        let trains = match g.main {
            Main::Conv { node, .. } | Main::Norm { node, .. } => b.plan.trains(node),
            _ => false,
        };
        let reads = || g.inputs.iter().copied().chain(g.residual);
        b.live[g.output] = trains || reads().any(|n| b.live[n]);
        b.rectified[g.output] = g.relu && g.pool.is_none();
        if b.live[g.output] {
            reads().for_each(|n| b.pending[n] += 1);
        }
    }
    for group in (0..b.plan.groups.len()).rev() {
        b.group(group);
    }
}

/// Values that one pass over stored values computes again: batch norms in training mode without a
/// residual, whose own gradient needs their input.
fn cheap(plan: &Plan, graph: &Graph) -> Vec<Option<usize>> {
    let mut cheap = vec![None; graph.nodes.len()];
    for (i, g) in plan.groups.iter().enumerate() {
        let alone = g.residual.is_none() && g.pool.is_none();
        if matches!(g.main, Main::Norm { training: true, .. }) && alone {
            cheap[g.output] = Some(i);
        }
    }
    cheap
}

struct Backward<'a> {
    /// Groups of the values that are computed again instead of stored.
    cheap: Vec<Option<usize>>,
    graph: &'a Graph,
    plan: &'a mut Plan,
    /// Values whose gradient is needed.
    live: Vec<bool>,
    /// Contributions to each value's gradient that are still to come.
    pending: Vec<usize>,
    /// The buffer of each value's gradient, once something is in it.
    gradients: Vec<Option<usize>>,
    /// Values that are ReLU outputs.
    rectified: Vec<bool>,
    /// Gradients that were masked by their ReLU already.
    masked: Vec<bool>,
    /// Kernel size, stride and padding of the convolutions that alone contributed to a gradient.
    grids: Vec<Option<[usize; 3]>>,
}

impl Backward<'_> {
    fn push(&mut self, step: Step) {
        let (group, own) = match step {
            Step::Kernel { group, .. } | Step::Norm { group, .. } | Step::Unpool { group, .. } => {
                (group, false)
            }
            Step::Input { group, mask, .. } if self.plan.reads_input(group, mask) => (group, false),
            Step::Mask { group, .. } => (group, true),
            _ => return self.plan.steps.push(step),
        };
        let g = &self.plan.groups[group];
        let reads = if own { vec![g.output] } else { g.inputs.clone() };
        for node in reads {
            if let Some(group) = self.cheap[node]
                && self.plan.again[node].is_none()
            {
                let output = self.buffer(node);
                self.plan.again[node] = Some(output);
                self.plan.steps.push(Step::Again { group, output });
            }
        }
        self.plan.steps.push(step);
    }

    fn buffer(&mut self, node: NodeId) -> usize {
        self.plan.buffer(self.graph, node)
    }

    fn group(&mut self, group: usize) {
        let g = self.plan.groups[group].clone();
        if !self.live[g.output] {
            return;
        }
        if g.output == self.graph.output() && self.graph.nodes[g.output].op == Op::Softmax {
            let to = self.buffer(g.inputs[0]);
            self.push(Step::Loss { group, output: to });
            self.pending[g.inputs[0]] -= 1;
            self.gradients[g.inputs[0]] = Some(to);
            return;
        }
        let Some(mut gradient) = self.gradients[g.output] else {
            // Nothing that the loss depends on reads this value.
            let reads = g.inputs.iter().copied().chain(g.residual);
            reads.for_each(|n| self.pending[n] -= 1);
            return;
        };
        if g.pool.is_some() {
            let output = self.buffer(g.inputs[0]);
            self.push(Step::Unpool { group, gradient, output });
            gradient = output;
        } else if g.relu && !self.masked[g.output] {
            self.push(Step::Mask { group, gradient });
        }
        match g.main {
            Main::Conv { node, .. } => {
                if self.plan.trains(node) {
                    self.push(Step::Kernel { group, gradient });
                }
                self.conv(group, node, g.inputs[0], gradient);
                self.residual(g.residual, gradient);
            }
            Main::Norm { node, .. } => {
                let (x, trains) = (g.inputs[0], self.plan.trains(node));
                // What nothing reads afterwards is changed in place; a residual goes on with its gradient.
                let mut output = gradient;
                if let Some(r) = g.residual.filter(|&r| self.live[r]) {
                    match self.gradients[r] {
                        Some(to) => self.add(r, gradient, to),
                        None => {
                            self.gradients[r] = Some(gradient);
                            output = self.buffer(x);
                        }
                    }
                }
                g.residual.iter().for_each(|&r| self.pending[r] -= 1);
                if trains || self.live[x] {
                    let to = self.live[x].then_some(output);
                    self.push(Step::Norm { group, gradient, output: to, summed: false });
                }
                self.residual(Some(x), output);
            }
            Main::Identity => self.residual(Some(g.inputs[0]), gradient),
            Main::Add => {
                // The first input takes a copy, the second may use the buffer itself.
                let (first, second) = (g.inputs[0], g.inputs[1]);
                if self.live[first] {
                    match self.gradients[first] {
                        Some(to) => self.add(first, gradient, to),
                        None if self.live[second] => {
                            let to = self.buffer(first);
                            self.push(Step::Copy { from: gradient, to });
                            self.gradients[first] = Some(to);
                        }
                        None => self.gradients[first] = Some(gradient),
                    }
                }
                self.pending[first] -= 1;
                self.residual(Some(second), gradient);
            }
            Main::Frame { .. }
            | Main::MaxPool(_)
            | Main::Average
            | Main::Dropout { .. }
            | Main::Softmax => self.generic(group, g.inputs[0], gradient),
        }
    }

    /// Gradient of a convolution's input, straight into the gradient it contributes to.
    fn conv(&mut self, group: usize, node: NodeId, x: NodeId, gradient: usize) {
        self.pending[x] -= 1;
        if !self.live[x] {
            return;
        }
        let grid = match (self.graph.nodes[node].op, self.plan.groups[group].main) {
            (Op::Conv2D { kernel, stride, padding, .. }, Main::Conv { padding: around, .. }) => {
                Some([kernel, stride, padding + around])
            }
            _ => None,
        };
        let onto = match self.gradients[x] {
            None => Onto::Nothing,
            Some(_) if grid.is_some() && self.grids[x] == grid => Onto::SameGrid,
            Some(_) => Onto::Gradient,
        };
        self.grids[x] = grid.filter(|_| onto != Onto::Gradient);
        let output = self.gradients[x].unwrap_or_else(|| self.buffer(x));
        // The mask reads the value itself, and must come after every contribution.
        let mask = self.pending[x] == 0
            && self.rectified[x]
            && matches!(self.plan.values[x], Some(Place::Buffer(_)));
        self.push(Step::Input { group, gradient, output, onto, mask, sums: None });
        self.masked[x] |= mask;
        self.gradients[x] = Some(output);
    }

    /// Adds `from` to the gradient of `node`, in the buffer `to`.
    fn add(&mut self, node: NodeId, from: usize, to: usize) {
        self.grids[node] = None;
        self.push(Step::Accumulate { from, to });
    }

    /// Hands `gradient`, which nothing reads afterwards, on to `node`.
    fn residual(&mut self, node: Option<NodeId>, gradient: usize) {
        let Some(node) = node else { return };
        self.pending[node] -= 1;
        if self.live[node] {
            match self.gradients[node] {
                Some(to) => self.add(node, gradient, to),
                None => self.gradients[node] = Some(gradient),
            }
        }
    }

    /// Gradient of the only input of an operation that overwrites it.
    fn generic(&mut self, group: usize, x: NodeId, gradient: usize) {
        self.pending[x] -= 1;
        if !self.live[x] {
            return;
        }
        let output = self.buffer(x);
        let (onto, sums) = (Onto::Nothing, None);
        // Of a ReLU's output, where nothing else adds to it.
        let mask = matches!(self.plan.groups[group].main, Main::MaxPool(_))
            && self.pending[x] == 0
            && self.rectified[x]
            && self.gradients[x].is_none();
        self.masked[x] |= mask;
        self.push(Step::Input { group, gradient, output, onto, mask, sums });
        match self.gradients[x] {
            Some(to) => self.add(x, output, to),
            None => self.gradients[x] = Some(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::Request;
    use crate::net::resnet::{Net, Recipe, Surroundings};
    use headstart_kernels::element::DType;

    #[test]
    fn strided_projections_share_the_grid_of_the_block_beside_them() {
        let recipe = Recipe::named("resnet50").unwrap();
        let classes = Some(10);
        let around = Surroundings { height: 64, width: 64, preprocess: None, upsample: 1, classes };
        let graph = Net::new(&recipe, &around).unwrap().graph;
        let trainable = Some(vec![true; graph.nodes.len()]);
        let dtype = DType::F32;
        let request = Request { batch: 2, sources: vec![0], outputs: vec![], trainable, dtype };
        let plan = Plan::new(&graph, request).unwrap();
        let onto = |wanted: Onto| {
            let steps = plan.steps.iter().filter_map(|step| match *step {
                Step::Input { group, onto, .. } if onto == wanted => Some(group),
                _ => None,
            });
            let names = steps.map(|g| graph.nodes[plan.groups[g].output].name.clone());
            names.collect::<Vec<_>>()
        };
        // One of the two that read a stage's input comes first and the other finds its zeros.
        let same = onto(Onto::SameGrid);
        let first = onto(Onto::Nothing);
        assert_eq!(same.len(), 4, "{same:?}");
        for (name, stage) in same.iter().zip((2..=5).rev()) {
            let other = match name.contains("_0_") {
                true => name.replace("_0_", "_1_"),
                false => name.replace("_1_", "_0_"),
            };
            assert!(name.starts_with(&format!("conv{stage}_block1_")) && first.contains(&other));
        }
        // The other blocks add to what their residual handed on.
        assert_eq!(onto(Onto::Gradient).len(), 12);
    }
}
