//! One kernel call per backward step.

use super::*;

impl Executor {
    /// Runs a step of the backward pass.
    pub(super) fn run_backward(
        &mut self,
        step: Step,
        inputs: &[&[f32]],
        labels: &[u32],
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let count = labels.len();
        match step {
            Step::Forward { .. } => {}
            Step::Loss { group, output } => {
                let node = self.plan.groups[group].output;
                let classes = self.graph.nodes[node].shape.elements();
                let write = self.range(output, count);
                let (p, d) = self.read_write(node, inputs, count, write);
                loss::cross_entropy_gradient(classes, p, labels, d);
            }
            Step::Mask { group, gradient } => {
                let node = self.plan.groups[group].output;
                let compute = Arc::clone(&self.compute);
                let write = self.range(gradient, count);
                let (y, d) = self.read_write(node, inputs, count, write);
                elementwise::relu_backward(&compute, y, d);
            }
            Step::Accumulate { from, to } | Step::Copy { from, to } => {
                let (from, to) = (self.range(from, count), self.range(to, count));
                let c = &*self.compute;
                let split = Split::new(&mut self.arena, to);
                let from = split.read(from);
                match step {
                    Step::Copy { .. } => elementwise::copy(c, from, split.write),
                    _ => elementwise::accumulate(c, from, split.write),
                }
            }
            Step::Kernel { group, gradient } => {
                let g = &self.plan.groups[group];
                let Main::Conv { node, .. } = g.main else { return };
                let shape = self.conv_shape(group, node, count);
                let x = self.value(g.inputs[0], inputs, count);
                let d = &self.arena[self.range(gradient, count)];
                if let Some(i) = parameters.index(node, Role::Kernel) {
                    conv::backward_kernel(&self.compute, &shape, x, d, &mut gradients.tensors[i]);
                }
                if let Some(i) = parameters.index(node, Role::Bias) {
                    let bias = &mut gradients.tensors[i];
                    norm::column_sums(&self.compute, shape.out_channels, d, bias);
                }
            }
            Step::Norm { group, gradient, input } => {
                self.norm_gradient(group, gradient, input, inputs, count, parameters, gradients);
            }
            Step::Input { group, gradient, output, accumulate, mask } => {
                self.input_gradient(group, gradient, output, accumulate, mask, inputs, count);
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn norm_gradient(
        &mut self,
        group: usize,
        gradient: usize,
        input: bool,
        inputs: &[&[f32]],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let node = self.plan.groups[group].inputs[0];
        let Main::Norm { node: layer, training } = self.plan.groups[group].main else {
            return;
        };
        let Op::BatchNorm { epsilon, .. } = self.graph.nodes[layer].op else { return };
        let channels = self.graph.nodes[layer].shape.channels();
        let compute = Arc::clone(&self.compute);
        let mut own = std::mem::take(&mut self.states[group]);
        let state =
            NormState { mean: &own.mean, variance: &own.variance, gamma: &own.gamma, epsilon };
        let write = self.range(gradient, count);
        let (x, d) = self.read_write(node, inputs, count, write);
        let index = |role| parameters.index(layer, role);
        match (training, index(Role::Gamma), index(Role::Beta)) {
            (true, Some(gamma), Some(beta)) => {
                let mut dgamma = std::mem::take(&mut gradients.tensors[gamma]);
                let dbeta = &mut gradients.tensors[beta];
                norm::batch_norm_parameter_gradients(
                    &compute,
                    channels,
                    x,
                    d,
                    state,
                    &mut dgamma,
                    dbeta,
                );
                if input {
                    norm::batch_norm_input_gradient(
                        &compute, channels, x, state, &dgamma, dbeta, d,
                    );
                }
                gradients.tensors[gamma] = dgamma;
            }
            _ if input => {
                norm::batch_norm_frozen_input_gradient(&compute, channels, state, d);
            }
            _ => {}
        }
        std::mem::swap(&mut self.states[group], &mut own);
    }

    #[allow(clippy::too_many_arguments)]
    fn input_gradient(
        &mut self,
        group: usize,
        gradient: usize,
        output: usize,
        accumulate: bool,
        mask: bool,
        inputs: &[&[f32]],
        count: usize,
    ) {
        let g = self.plan.groups[group].clone();
        let conv = match g.main {
            Main::Conv { node, .. } => Some(self.conv_shape(group, node, count)),
            _ => None,
        };
        let (pool, frame) = (self.pool_shape(&g, count), self.frame_shape(&g, count));
        let seed = match g.main {
            Main::Dropout { node, .. } => self.dropout_seed(node),
            _ => 0,
        };
        let input = self.graph.nodes[g.inputs[0]].shape;
        let value = match self.plan.values[g.inputs[0]] {
            Some(Place::Buffer(b)) => Ok(self.range(b, count)),
            Some(Place::Source(i)) => Err(i),
            None => Ok(0..0),
        };
        let (from, to) = (self.range(gradient, count), self.range(output, count));
        let c = &*self.compute;
        let split = Split::new(&mut self.arena, to);
        let dy = split.read(from);
        let x = match value {
            Ok(range) => split.read(range),
            Err(source) => inputs[source],
        };
        let dx = split.write;
        match g.main {
            Main::Conv { .. } => {
                if let Some(shape) = conv {
                    let packed = &self.states[group].backward;
                    conv::backward_input(c, &shape, dy, packed, accumulate, mask.then_some(x), dx);
                }
            }
            Main::MaxPool { .. } => {
                if let Some(shape) = pool {
                    pool::max_pool_backward(c, &shape, x, dy, dx);
                }
            }
            Main::Average => {
                let (height, width) = input.spatial();
                pool::global_average_pool_backward(c, height * width, input.channels(), dy, dx);
            }
            Main::Frame { .. } => {
                if let Some((shape, _)) = frame {
                    elementwise::frame_backward(c, &shape, dy, dx);
                }
            }
            Main::Dropout { rate, .. } => elementwise::dropout(c, rate, seed, dy, dx),
            Main::Norm { .. } | Main::Identity | Main::Add | Main::Softmax => {}
        }
    }

    /// A node's value to read beside a part of the arena to write.
    fn read_write<'a>(
        &'a mut self,
        node: NodeId,
        inputs: &[&'a [f32]],
        count: usize,
        write: Range<usize>,
    ) -> (&'a [f32], &'a mut [f32]) {
        let place = match self.plan.values[node] {
            Some(Place::Buffer(b)) => Ok(self.range(b, count)),
            Some(Place::Source(i)) => Err(i),
            None => Ok(0..0),
        };
        let split = Split::new(&mut self.arena, write);
        let read = match place {
            Ok(range) => split.read(range),
            Err(source) => inputs[source],
        };
        (read, split.write)
    }
}
