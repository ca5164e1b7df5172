//! One kernel call per group.

use headstart_kernels::conv::{self, Epilogue};
use headstart_kernels::element::{Bf16, DType, Element};
use headstart_kernels::pool::{self, Normalize};
use headstart_kernels::{elementwise, loss, norm};

use super::{At, Executor, Source, Split, State};
use crate::engine::plan::{Main, Place};
use crate::net::graph::{NodeId, Op};
use crate::net::parameters::{Parameters, Role};

impl Executor {
    /// Computes a group; `parameters` receive moving statistics, and their presence means training.
    pub(super) fn run_forward(
        &mut self,
        group: usize,
        inputs: &[Source<'_>],
        count: usize,
        parameters: Option<&mut Parameters>,
    ) {
        match self.plan.dtype(group) {
            DType::F32 => self.forward_on::<f32>(group, inputs, count, parameters),
            DType::Bf16 => self.forward_on::<Bf16>(group, inputs, count, parameters),
            // `new` refuses it.
            DType::F16 => {}
        }
    }

    fn forward_on<E: Element>(
        &mut self,
        group: usize,
        inputs: &[Source<'_>],
        count: usize,
        parameters: Option<&mut Parameters>,
    ) {
        let g = self.plan.groups[group].clone();
        match g.main {
            Main::Conv { node, .. } => {
                return self.conv_forward::<E>(group, node, inputs, count, parameters.as_deref());
            }
            Main::Norm { node, training } => {
                let parameters = parameters.filter(|_| training);
                return self.norm_forward::<E>(group, node, inputs, count, parameters);
            }
            _ => {}
        }
        let Some(Place::Buffer(output)) = self.plan.values[g.output] else { return };
        let (pool, frame) = (self.pool_shape(group, count), self.frame_shape(group, count));
        let write = self.at(output, count);
        let places: Vec<_> = g.inputs.iter().map(|&n| self.find(n, count)).collect();
        let seed = match g.main {
            Main::Dropout { node, .. } => self.dropout_seed(node),
            _ => 0,
        };
        let c = &*self.compute;
        let split = Split::new(&mut self.arena, write);
        let read = |place: &Result<At, usize>| split.value::<E>(inputs, place);
        let source = self.graph.nodes[g.inputs[0]].shape;
        let floats = self.plan.dtypes[g.inputs[0]] == DType::F32;
        match (g.main, frame) {
            (Main::Frame { .. }, Some((shape, affine))) if floats => {
                let bytes = places[0].as_ref().err().and_then(|&source| inputs[source].bytes);
                let x = split.value::<f32>(inputs, &places[0]);
                match bytes {
                    Some(x) => {
                        elementwise::frame(c, &shape, affine.as_ref(), x, split.write::<E>());
                    }
                    None => elementwise::frame(c, &shape, affine.as_ref(), x, split.write::<E>()),
                }
                return;
            }
            (Main::Average, _) => {
                let (x, (height, width)) = (read(&places[0]), source.spatial());
                let pixels = height * width;
                pool::global_average_pool(c, pixels, source.channels(), x, split.write());
                return;
            }
            (Main::Softmax, _) => {
                let x = split.value::<f32>(inputs, &places[0]);
                loss::softmax(c, source.channels(), x, split.write());
                return;
            }
            _ => {}
        }
        let x = read(&places[0]);
        let second = places.get(1).map_or(x, read);
        let y = split.write::<E>();
        match g.main {
            Main::Frame { .. } => {
                if let Some((shape, affine)) = frame {
                    elementwise::frame(c, &shape, affine.as_ref(), x, y);
                }
            }
            Main::Identity if g.relu => elementwise::relu(c, x, y),
            Main::Identity => elementwise::copy(c, x, y),
            Main::Add => elementwise::add(c, x, second, g.relu, y),
            Main::MaxPool(_) => {
                if let Some(shape) = pool {
                    pool::max_pool(c, &shape, x, None, y);
                }
            }
            Main::Dropout { rate, .. } if parameters.is_some() => {
                elementwise::dropout(c, rate, seed, x, y);
            }
            Main::Dropout { .. } => elementwise::copy(c, x, y),
            Main::Conv { .. } | Main::Norm { .. } | Main::Average | Main::Softmax => {}
        }
    }

    /// A convolution or dense layer; in training also the statistics of a batch norm after it.
    fn conv_forward<E: Element>(
        &mut self,
        group: usize,
        node: NodeId,
        inputs: &[Source<'_>],
        count: usize,
        parameters: Option<&Parameters>,
    ) {
        let g = &self.plan.groups[group];
        let Some(Place::Buffer(output)) = self.plan.values[g.output] else { return };
        let Some(shape) = self.conv_shape(group, count) else { return };
        let relu = g.relu;
        let pool = self.pool_shape(group, count);
        let x = self.find(g.inputs[0], count);
        let residual = g.residual.map(|node| self.find(node, count));
        let write = self.at(output, count);
        let c = &*self.compute;
        let trained = parameters.filter(|_| self.plan.trains(node));
        if let Some(kernel) = trained.and_then(|p| p.get(node, Role::Kernel)) {
            conv::pack_forward::<E>(c, &shape, &kernel.values, None, &mut self.packed);
        }
        // The statistics of the batch norm, taken out of its state while this group's is read.
        let norm = self.plan.statistics[group].filter(|_| parameters.is_some());
        let mut taken = norm.map(|norm| {
            let state = &mut self.states[norm];
            (std::mem::take(&mut state.mean), std::mem::take(&mut state.variance))
        });
        let state = &self.states[group];
        let packed = if trained.is_some() { &self.packed } else { &state.forward };
        let split = Split::new(&mut self.arena, write);
        let residual = residual.map(|place| split.value::<E>(inputs, &place));
        let epilogue = Epilogue { bias: Some(&state.bias), residual, relu };
        let x = split.value::<E>(inputs, &x);
        let y = split.write::<E>();
        match (&mut taken, &pool) {
            (Some((mean, variance)), _) => {
                conv::forward_statistics(c, &shape, x, packed, epilogue, y, mean, variance);
            }
            (None, Some(pool)) => conv::forward_pooled(c, &shape, pool, x, packed, epilogue, y),
            (None, None) => conv::forward(c, &shape, x, packed, epilogue, y),
        }
        if let (Some(norm), Some((mean, variance))) = (norm, taken) {
            self.states[norm].mean = mean;
            self.states[norm].variance = variance;
        }
    }

    /// A batch norm: `parameters`, whose averages move, if it normalises with the statistics of the batch.
    fn norm_forward<E: Element>(
        &mut self,
        group: usize,
        node: NodeId,
        inputs: &[Source<'_>],
        count: usize,
        parameters: Option<&mut Parameters>,
    ) {
        let g = &self.plan.groups[group];
        let Some(Place::Buffer(output)) = self.plan.values[g.output] else { return };
        let (channels, relu) = (self.graph.nodes[node].shape.channels(), g.relu);
        let x = self.find(g.inputs[0], count);
        let residual = g.residual.map(|node| self.find(node, count));
        let write = self.at(output, count);
        let gathered = self.plan.statistics[group].is_some();
        let pool = self.pool_shape(group, count);
        let c = &*self.compute;
        let state = &mut self.states[group];
        let split = Split::new(&mut self.arena, write);
        let x = split.value::<E>(inputs, &x);
        let residual = residual.map(|place| split.value::<E>(inputs, &place));
        if let Some(parameters) = parameters {
            if !gathered {
                let (mean, variance) = (&mut state.mean, &mut state.variance);
                norm::batch_norm_statistics(c, channels, x, mean, variance);
            }
            let layer = (node, self.graph.nodes[node].op);
            if self.turn.replica == 0 {
                move_statistics(layer, state, parameters, x.len() / channels);
            }
        }
        if let Op::BatchNorm { epsilon, .. } = self.graph.nodes[node].op {
            norm::batch_norm_fold(
                &state.gamma,
                &state.beta,
                &state.mean,
                &state.variance,
                epsilon,
                &mut state.scale,
                &mut state.shift,
            );
        }
        let (scale, shift) = (&state.scale, &state.shift);
        let y = split.write();
        match pool {
            Some(pool) => pool::max_pool(c, &pool, x, Some(Normalize { scale, shift, relu }), y),
            None => norm::batch_norm_apply(c, channels, x, scale, shift, residual, relu, y),
        }
    }
}

/// Moves the averages in `parameters` towards the statistics of a batch of `rows` rows.
fn move_statistics(
    (node, op): (NodeId, Op),
    state: &mut State,
    parameters: &mut Parameters,
    rows: usize,
) {
    let Op::BatchNorm { momentum, unbiased, .. } = op else { return };
    let moving = &mut state.shift;
    moving.copy_from_slice(&state.variance);
    if unbiased && rows > 1 {
        let factor = rows as f32 / (rows - 1) as f32;
        moving.iter_mut().for_each(|v| *v *= factor);
    }
    for (role, batch) in [(Role::MovingMean, &state.mean), (Role::MovingVariance, &*moving)] {
        if let Some(i) = parameters.index(node, role) {
            norm::batch_norm_moving(batch, momentum, &mut parameters.tensors[i].values);
        }
    }
}
