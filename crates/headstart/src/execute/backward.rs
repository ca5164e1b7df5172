//! One kernel call per backward step.

use super::*;

impl Executor {
    /// Runs a step of the backward pass.
    pub(super) fn run_backward(
        &mut self,
        step: Step,
        inputs: &[Slice<'_>],
        labels: Labels<'_>,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let dtype = match step {
            Step::Forward { group } | Step::Again { group, .. } | Step::Loss { group, .. } => {
                self.dtype(group)
            }
            Step::Mask { gradient, .. } => self.plan.buffers[gradient].dtype,
            Step::Accumulate { from, .. } | Step::Copy { from, .. } => {
                self.plan.buffers[from].dtype
            }
            Step::Kernel { group, .. } | Step::Norm { group, .. } => self.dtype(group),
            Step::Input { group, .. } => self.dtype(group),
        };
        match dtype {
            DType::F32 => self.backward_on::<f32>(step, inputs, labels, parameters, gradients),
            DType::Bf16 => self.backward_on::<Bf16>(step, inputs, labels, parameters, gradients),
        }
    }

    fn backward_on<E: Element>(
        &mut self,
        step: Step,
        inputs: &[Slice<'_>],
        labels: Labels<'_>,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let count = labels.first.len();
        match step {
            Step::Forward { .. } => {}
            Step::Again { group, output } => {
                let g = &self.plan.groups[group];
                let (x, channels) = (g.inputs[0], self.graph.nodes[g.output].shape.channels());
                let (place, relu) = (self.find(x, count), g.relu);
                let write = self.at(output, count);
                let (c, state) = (&*self.compute, &self.states[group]);
                let split = Split::new(&mut self.arena, write);
                let x = split.value::<E>(inputs, &place);
                let (scale, shift) = (&state.scale, &state.shift);
                norm::batch_norm_apply(c, channels, x, scale, shift, None, relu, split.write());
            }
            Step::Loss { group, output } => {
                let node = self.plan.groups[group].output;
                let classes = self.graph.nodes[node].shape.elements();
                let write = self.at(output, count);
                let targets = std::mem::take(&mut self.targets);
                let (p, d) = self.read_write(node, inputs, count, write);
                targets.gradient(classes, p, labels, d);
                self.targets = targets;
            }
            Step::Mask { group, gradient } => {
                let node = self.plan.groups[group].output;
                let compute = Arc::clone(&self.compute);
                let write = self.at(gradient, count);
                let (y, d) = self.read_write::<E>(node, inputs, count, write);
                elementwise::relu_backward(&compute, y, d);
            }
            Step::Accumulate { from, to } | Step::Copy { from, to } => {
                let (from, to) = (self.at(from, count), self.at(to, count));
                let c = &*self.compute;
                let split = Split::new(&mut self.arena, to);
                let from = split.read::<E>(&from);
                match step {
                    Step::Copy { .. } => elementwise::copy(c, from, split.write()),
                    _ => elementwise::accumulate(c, from, split.write()),
                }
            }
            Step::Kernel { group, gradient } => {
                let g = &self.plan.groups[group];
                let Main::Conv { node, .. } = g.main else { return };
                let shape = self.conv_shape(group, node, count);
                let x = self.value::<E>(g.inputs[0], inputs, count);
                let d = self.at(gradient, count).of::<E>(&self.arena);
                if let Some(i) = parameters.index(node, Role::Kernel) {
                    conv::backward_kernel(&self.compute, &shape, x, d, &mut gradients.tensors[i]);
                }
                if let Some(i) = parameters.index(node, Role::Bias) {
                    let bias = &mut gradients.tensors[i];
                    norm::column_sums(&self.compute, shape.out_channels, d, bias);
                }
            }
            Step::Norm { group, gradient, input } => {
                self.norm_gradient::<E>(
                    group, gradient, input, inputs, count, parameters, gradients,
                );
            }
            Step::Input { group, gradient, output, accumulate, mask } => {
                self.input_gradient::<E>(
                    group, gradient, output, accumulate, mask, inputs, count, parameters,
                );
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn norm_gradient<E: Element>(
        &mut self,
        group: usize,
        gradient: usize,
        input: bool,
        inputs: &[Slice<'_>],
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
        let write = self.at(gradient, count);
        let (x, d) = self.read_write::<E>(node, inputs, count, write);
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
    fn input_gradient<E: Element>(
        &mut self,
        group: usize,
        gradient: usize,
        output: usize,
        accumulate: bool,
        mask: bool,
        inputs: &[Slice<'_>],
        count: usize,
        parameters: &Parameters,
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
        let trained = match g.main {
            Main::Conv { node, .. } if self.plan.trains(node) => {
                parameters.get(node, Role::Kernel).map(|t| &t.values[..])
            }
            _ => None,
        };
        let value = self.locate(self.plan.kept(g.inputs[0]), count);
        let reads = self.plan.reads_input(group, mask);
        let (from, to) = (self.at(gradient, count), self.at(output, count));
        let c = &*self.compute;
        let split = Split::new(&mut self.arena, to);
        if g.main == Main::Average {
            let (dy, (height, width)) = (split.read(&from), input.spatial());
            let dx = split.write::<E>();
            pool::global_average_pool_backward(c, height * width, input.channels(), dy, dx);
            return;
        }
        let dy = split.read::<E>(&from);
        let x = if reads { split.value::<E>(inputs, &value) } else { &[] };
        let dx = split.write::<E>();
        match g.main {
            Main::Conv { .. } => {
                if let Some(shape) = conv {
                    let packed = match trained {
                        Some(kernel) => {
                            conv::pack_backward_input::<E>(c, &shape, kernel, &mut self.packed);
                            &self.packed
                        }
                        None => &self.states[group].backward,
                    };
                    conv::backward_input(c, &shape, dy, packed, accumulate, mask.then_some(x), dx);
                }
            }
            Main::MaxPool { .. } => {
                if let Some(shape) = pool {
                    pool::max_pool_backward(c, &shape, x, dy, dx);
                }
            }
            Main::Frame { .. } => {
                if let Some((shape, _)) = frame {
                    elementwise::frame_backward(c, &shape, dy, dx);
                }
            }
            Main::Dropout { rate, .. } => elementwise::dropout(c, rate, seed, dy, dx),
            Main::Norm { .. } | Main::Identity | Main::Add | Main::Average | Main::Softmax => {}
        }
    }

    /// A node's value to read beside a part of the arena to write.
    fn read_write<'a, E: Element>(
        &'a mut self,
        node: NodeId,
        inputs: &[Slice<'a>],
        count: usize,
        write: At,
    ) -> (&'a [E], &'a mut [E]) {
        let place = self.locate(self.plan.kept(node), count);
        let split = Split::new(&mut self.arena, write);
        (split.value(inputs, &place), split.write())
    }
}
