//! One kernel call per backward step.

use std::sync::Arc;

use headstart_kernels::element::{Bf16, DType, Element};
use headstart_kernels::loss::{Labels, Targets};
use headstart_kernels::pool::{self, Normalize};
use headstart_kernels::{conv, elementwise, norm};

use super::{At, Executor, Source, Split, State};
use crate::engine::gradients::Gradients;
use crate::engine::plan::{Main, Step};
use crate::net::graph::NodeId;
use crate::net::parameters::{Parameters, Role};
use crate::task::Loss;

impl Executor {
    /// Runs a step of the backward pass.
    pub(super) fn run_backward(
        &mut self,
        step: Step,
        inputs: &[Source<'_>],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let dtype = match step {
            Step::Forward { group } | Step::Again { group, .. } | Step::Loss { group, .. } => {
                self.plan.dtype(group)
            }
            Step::Mask { gradient, .. } => self.plan.buffers[gradient].dtype,
            Step::Accumulate { from, .. } | Step::Copy { from, .. } => {
                self.plan.buffers[from].dtype
            }
            Step::Kernel { group, .. } | Step::Norm { group, .. } => self.plan.dtype(group),
            Step::Input { group, .. } | Step::Unpool { group, .. } => self.plan.dtype(group),
        };
        match dtype {
            DType::F32 => self.backward_on::<f32>(step, inputs, count, parameters, gradients),
            DType::Bf16 => self.backward_on::<Bf16>(step, inputs, count, parameters, gradients),
            // `new` refuses it.
            DType::F16 => {}
        }
    }

    /// The gradient of the logits into the buffer `output`.
    pub(super) fn loss_gradient(
        &mut self,
        group: usize,
        output: usize,
        inputs: &[Source<'_>],
        labels: Labels<'_>,
        targets: &Targets,
    ) {
        let (node, count) = (self.plan.groups[group].output, labels.first.len());
        let classes = self.graph.nodes[node].shape.elements();
        let write = self.at(output, count);
        let loss = self.plan.loss;
        let (p, d) = self.read_write(node, inputs, count, write);
        match loss {
            Some(Loss::CategoricalCrossentropy) => targets.gradient(classes, p, labels, d),
            None => {}
        }
    }

    fn backward_on<E: Element>(
        &mut self,
        step: Step,
        inputs: &[Source<'_>],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        match step {
            Step::Forward { .. } | Step::Loss { .. } => {}
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
                let Some(shape) = self.conv_shape(group, count) else { return };
                let x = self.value::<E>(g.inputs[0], inputs, count);
                let d = self.at(gradient, count).of::<E>(&self.arena);
                if let Some(i) = parameters.index(node, Role::Kernel) {
                    conv::backward_kernel(&self.compute, &shape, x, d, &mut gradients.tensors[i]);
                }
                if let Some(i) = parameters.index(node, Role::Bias) {
                    let bias = &mut gradients.tensors[i];
                    norm::column_sums(&self.compute, shape.out_channels(), d, bias);
                }
            }
            Step::Unpool { group, gradient, output } => {
                let g = &self.plan.groups[group];
                let Some(pool) = self.pool_shape(group, count) else { return };
                let (place, relu) = (self.locate(self.plan.kept(g.inputs[0]), count), g.relu);
                let (from, to) = (self.at(gradient, count), self.at(output, count));
                let (c, State { scale, shift, .. }) = (&*self.compute, &self.states[group]);
                let split = Split::new(&mut self.arena, to);
                let (x, dy) = (split.value::<E>(inputs, &place), split.read::<E>(&from));
                let normalize = Some(Normalize { scale, shift, relu });
                pool::max_pool_backward(c, &pool, x, normalize, dy, relu, split.write());
            }
            Step::Norm { .. } => {
                self.norm_gradient::<E>(step, inputs, count, parameters, gradients);
            }
            Step::Input { .. } => {
                self.input_gradient::<E>(step, inputs, count, parameters, gradients);
            }
        }
    }

    fn norm_gradient<E: Element>(
        &mut self,
        step: Step,
        inputs: &[Source<'_>],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let Step::Norm { group, gradient, output, summed } = step else { return };
        let Main::Norm { node: layer, training } = self.plan.groups[group].main else { return };
        let place = self.locate(self.plan.kept(self.plan.groups[group].inputs[0]), count);
        let channels = self.graph.nodes[layer].shape.channels();
        let state = self.states[group].of_norm(self.graph.nodes[layer].op);
        let c = &*self.compute;
        let from = self.at(gradient, count);
        let write = self.at(output.unwrap_or(gradient), count);
        let split = Split::new(&mut self.arena, write);
        let x = split.value::<E>(inputs, &place);
        let apart = output.is_some_and(|output| output != gradient);
        let dy = apart.then(|| split.read::<E>(&from));
        let dx = split.write::<E>();
        let index = |role| parameters.index(layer, role);
        match (training, index(Role::Gamma), index(Role::Beta)) {
            (true, Some(gamma), Some(beta)) => {
                let mut dgamma = std::mem::take(&mut gradients.tensors[gamma]);
                let dbeta = &mut gradients.tensors[beta];
                if !summed {
                    let dy = dy.unwrap_or(dx);
                    let to = &mut dgamma;
                    norm::batch_norm_parameter_gradients(c, channels, x, dy, state, to, dbeta);
                }
                if output.is_some() {
                    let sums = (&dgamma, &*dbeta);
                    norm::batch_norm_input_gradient(c, channels, x, state, sums.0, sums.1, dy, dx);
                }
                gradients.tensors[gamma] = dgamma;
            }
            _ if output.is_some() => {
                norm::batch_norm_frozen_input_gradient(c, channels, state, dy, dx);
            }
            _ => {}
        }
    }

    fn input_gradient<E: Element>(
        &mut self,
        step: Step,
        inputs: &[Source<'_>],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let Step::Input { group, gradient, output, mask, .. } = step else { return };
        let g = self.plan.groups[group].clone();
        if let Main::Conv { node, .. } = g.main {
            return self.conv_gradient::<E>(step, node, inputs, count, parameters, gradients);
        }
        let (pool, frame) = (self.pool_shape(group, count), self.frame_shape(group, count));
        let input = self.graph.nodes[g.inputs[0]].shape;
        let value = self.locate(self.plan.kept(g.inputs[0]), count);
        let reads = self.plan.reads_input(group, false);
        let (from, to) = (self.at(gradient, count), self.at(output, count));
        let seed = match g.main {
            Main::Dropout { node, .. } => self.dropout_seed(node),
            _ => 0,
        };
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
            Main::MaxPool(_) => {
                if let Some(shape) = pool {
                    pool::max_pool_backward(c, &shape, x, None, dy, mask, dx);
                }
            }
            Main::Frame { .. } => {
                if let Some((shape, _)) = frame {
                    elementwise::frame_backward(c, &shape, dy, dx);
                }
            }
            Main::Dropout { rate, .. } => elementwise::dropout(c, rate, seed, dy, dx),
            Main::Conv { .. }
            | Main::Norm { .. }
            | Main::Identity
            | Main::Add
            | Main::Average
            | Main::Softmax => {}
        }
    }

    /// The gradient of the input of a convolution or dense layer, and those of a batch norm before it.
    fn conv_gradient<E: Element>(
        &mut self,
        step: Step,
        node: NodeId,
        inputs: &[Source<'_>],
        count: usize,
        parameters: &Parameters,
        gradients: &mut Gradients,
    ) {
        let Step::Input { group, gradient, output, onto, mask, sums } = step else { return };
        let Some(shape) = self.conv_shape(group, count) else { return };
        let input = |group: usize| self.plan.groups[group].inputs[0];
        let value = self.locate(self.plan.kept(input(group)), count);
        let before = sums.map(|norm| (norm, self.locate(self.plan.kept(input(norm)), count)));
        let (from, to) = (self.at(gradient, count), self.at(output, count));
        let c = &*self.compute;
        let trained = self.plan.trains(node).then(|| parameters.get(node, Role::Kernel)).flatten();
        let packed = match trained {
            Some(kernel) => {
                conv::pack_backward_input::<E>(c, &shape, &kernel.values, &mut self.packed);
                &self.packed
            }
            None => &self.states[group].backward,
        };
        let split = Split::new(&mut self.arena, to);
        let dy = split.read::<E>(&from);
        let mask = mask.then(|| split.value::<E>(inputs, &value));
        let Some((norm, place)) = before else {
            conv::backward_input(c, &shape, dy, packed, onto, mask, split.write());
            return;
        };
        let x = split.value::<E>(inputs, &place);
        let Main::Norm { node: layer, .. } = self.plan.groups[norm].main else { return };
        let state = self.states[norm].of_norm(self.graph.nodes[layer].op);
        let index = |role| parameters.index(layer, role);
        let (Some(gamma), Some(beta)) = (index(Role::Gamma), index(Role::Beta)) else { return };
        let mut dgamma = std::mem::take(&mut gradients.tensors[gamma]);
        conv::backward_input_norm(
            c,
            &shape,
            dy,
            packed,
            onto,
            mask,
            split.write(),
            x,
            state,
            &mut dgamma,
            &mut gradients.tensors[beta],
        );
        gradients.tensors[gamma] = dgamma;
    }

    /// A node's value to read beside a part of the arena to write.
    fn read_write<'a, E: Element>(
        &'a mut self,
        node: NodeId,
        inputs: &[Source<'a>],
        count: usize,
        write: At,
    ) -> (&'a [E], &'a mut [E]) {
        let place = self.locate(self.plan.kept(node), count);
        let split = Split::new(&mut self.arena, write);
        (split.value(inputs, &place), split.write())
    }
}
