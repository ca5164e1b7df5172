//! One kernel call per group.

use super::*;

impl Executor {
    /// Computes a group; `parameters` receive moving statistics, and their presence means training.
    pub(super) fn run_forward(
        &mut self,
        group: usize,
        inputs: &[&[f32]],
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
        let write = self.range(output, count);
        let range = |node: NodeId| match self.plan.values[node] {
            Some(Place::Source(i)) => Err(i),
            Some(Place::Buffer(b)) => Ok(self.range(b, count)),
            None => Ok(0..0),
        };
        let places: Vec<_> = g.inputs.iter().chain(&g.residual).map(|&n| range(n)).collect();
        let seed = match g.main {
            Main::Dropout { node, .. } => self.dropout_seed(node),
            _ => 0,
        };
        let c = &*self.compute;
        let split = Split::new(&mut self.arena, write);
        let read = |place: &Result<Range<usize>, usize>| match place {
            Err(source) => inputs[*source],
            Ok(range) => split.read(range.clone()),
        };
        let x = read(&places[0]);
        let residual = g.residual.and(places.last()).map(read);
        let second = places.get(1).map_or(x, read);
        let pixels = |node: NodeId| {
            let (height, width) = self.graph.nodes[node].shape.spatial();
            height * width
        };
        let channels = self.graph.nodes[g.inputs[0]].shape.channels();
        let state = &mut self.states[group];
        let y = split.write;
        match g.main {
            Main::Frame { .. } => {
                if let Some((shape, affine)) = frame {
                    elementwise::frame(c, &shape, affine.as_ref(), x, y);
                }
            }
            Main::Conv { .. } => {
                if let Some(shape) = shape {
                    let epilogue = Epilogue { bias: Some(&state.bias), residual, relu: g.relu };
                    conv::forward(c, &shape, x, &state.forward, epilogue, y);
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
            Main::Average => pool::global_average_pool(c, pixels(g.inputs[0]), channels, x, y),
            Main::Dropout { rate, .. } if parameters.is_some() => {
                elementwise::dropout(c, rate, seed, x, y);
            }
            Main::Dropout { .. } => elementwise::copy(c, x, y),
            Main::Softmax => loss::softmax(c, channels, x, y),
        }
    }
}

/// Fills a batch norm's scale and shift: from the batch `x`, whose statistics then move the averages in
/// `parameters`, or without `parameters` from the statistics at hand.
fn normalize(
    c: &Compute,
    (node, op): (NodeId, Op),
    state: &mut State,
    parameters: Option<&mut Parameters>,
    x: &[f32],
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
