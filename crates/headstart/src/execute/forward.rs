//! One kernel call per group.

use super::*;

impl Executor {
    /// Computes a group; `parameters` receive moving statistics, and their presence means training.
    pub(super) fn run_forward(
        &mut self,
        group: usize,
        inputs: &[Slice<'_>],
        count: usize,
        parameters: Option<&mut Parameters>,
    ) {
        match self.dtype(group) {
            DType::F32 => self.forward_on::<f32>(group, inputs, count, parameters),
            DType::Bf16 => self.forward_on::<Bf16>(group, inputs, count, parameters),
        }
    }

    fn forward_on<E: Element>(
        &mut self,
        group: usize,
        inputs: &[Slice<'_>],
        count: usize,
        parameters: Option<&mut Parameters>,
    ) {
        let g = self.plan.groups[group].clone();
        let Some(Place::Buffer(output)) = self.plan.values[g.output] else { return };
        let shape = match g.main {
            Main::Conv { node, .. } => Some(self.conv_shape(group, node, count)),
            _ => None,
        };
        let (pool, frame) = (self.pool_shape(&g, count), self.frame_shape(&g, count));
        let write = self.at(output, count);
        let places: Vec<_> =
            g.inputs.iter().chain(&g.residual).map(|&n| self.find(n, count)).collect();
        let seed = match g.main {
            Main::Dropout { node, .. } => self.dropout_seed(node),
            _ => 0,
        };
        let c = &*self.compute;
        let split = Split::new(&mut self.arena, write);
        let read = |place: &Result<At, usize>| split.value::<E>(inputs, place);
        let pixels = |node: NodeId| {
            let (height, width) = self.graph.nodes[node].shape.spatial();
            height * width
        };
        let channels = self.graph.nodes[g.inputs[0]].shape.channels();
        let state = &mut self.states[group];
        match g.main {
            Main::Frame { .. } => {
                let Some((shape, affine)) = frame else { return };
                let affine = affine.as_ref();
                match self.plan.dtypes[g.inputs[0]] {
                    DType::F32 => {
                        let x = split.value::<f32>(inputs, &places[0]);
                        elementwise::frame(c, &shape, affine, x, split.write::<E>());
                    }
                    DType::Bf16 => {
                        let x = read(&places[0]);
                        elementwise::frame(c, &shape, affine, x, split.write::<E>());
                    }
                }
                return;
            }
            Main::Average => {
                let x = read(&places[0]);
                pool::global_average_pool(c, pixels(g.inputs[0]), channels, x, split.write());
                return;
            }
            Main::Softmax => {
                let x = split.value::<f32>(inputs, &places[0]);
                loss::softmax(c, channels, x, split.write());
                return;
            }
            _ => {}
        }
        let trained = match g.main {
            Main::Conv { node, .. } if self.plan.trains(node) => {
                parameters.as_deref().and_then(|p| p.get(node, Role::Kernel)).map(|t| &t.values[..])
            }
            _ => None,
        };
        let x = read(&places[0]);
        let residual = g.residual.and(places.last()).map(read);
        let second = places.get(1).map_or(x, read);
        let y = split.write::<E>();
        match g.main {
            Main::Frame { .. } | Main::Average | Main::Softmax => {}
            Main::Conv { .. } => {
                if let Some(shape) = shape {
                    let epilogue = Epilogue { bias: Some(&state.bias), residual, relu: g.relu };
                    let packed = match trained {
                        Some(kernel) => {
                            conv::pack_forward::<E>(c, &shape, kernel, None, &mut self.packed);
                            &self.packed
                        }
                        None => &state.forward,
                    };
                    conv::forward(c, &shape, x, packed, epilogue, y);
                }
            }
            Main::Norm { node, training } => {
                let layer = (node, self.graph.nodes[node].op);
                let parameters = parameters.filter(|_| training);
                normalize(c, layer, state, parameters, x);
                let (scale, shift) = (&state.scale, &state.shift);
                norm::batch_norm_apply(c, channels, x, scale, shift, residual, g.relu, y);
            }
            Main::Identity if g.relu => elementwise::relu(c, x, y),
            Main::Identity => elementwise::copy(c, x, y),
            Main::Add => elementwise::add(c, x, second, g.relu, y),
            Main::MaxPool { .. } => {
                if let Some(shape) = pool {
                    pool::max_pool(c, &shape, x, y);
                }
            }
            Main::Dropout { rate, .. } if parameters.is_some() => {
                elementwise::dropout(c, rate, seed, x, y);
            }
            Main::Dropout { .. } => elementwise::copy(c, x, y),
        }
    }
}

/// Fills a batch norm's scale and shift: from the batch `x`, whose statistics then move the averages in
/// `parameters`, or without `parameters` from the statistics at hand.
fn normalize<E: Element>(
    c: &Compute,
    (node, op): (NodeId, Op),
    state: &mut State,
    parameters: Option<&mut Parameters>,
    x: &[E],
) {
    let Op::BatchNorm { epsilon, momentum, unbiased } = op else { return };
    let channels = state.gamma.len();
    if let Some(parameters) = parameters {
        norm::batch_norm_statistics(c, channels, x, &mut state.mean, &mut state.variance);
        let rows = x.len() / channels;
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
