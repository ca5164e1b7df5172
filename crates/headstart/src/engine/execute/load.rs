//! From parameters to what the kernels read: packed kernels with frozen batch norms folded in.

use super::*;

impl Executor {
    /// Packs and folds all weights.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn load(&mut self, parameters: &Parameters) -> Result<()> {
        (0..self.states.len()).try_for_each(|group| self.load_group(group, parameters))
    }

    /// Takes over the biases and batch norm parameters that this plan trains, after an update; kernels are
    /// packed by the steps that use them.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn refresh(&mut self, parameters: &Parameters) -> Result<()> {
        for group in 0..self.states.len() {
            let trains = match self.plan.groups[group].main {
                Main::Conv { node, .. } | Main::Norm { node, .. } => self.plan.trains(node),
                _ => false,
            };
            if trains {
                self.load_group(group, parameters)?;
            }
        }
        Ok(())
    }

    fn load_group(&mut self, group: usize, parameters: &Parameters) -> Result<()> {
        match self.plan.groups[group].main {
            Main::Conv { node, norm, .. } => match self.dtype(group) {
                DType::F32 => self.load_conv::<f32>(group, node, norm, parameters),
                DType::Bf16 => self.load_conv::<Bf16>(group, node, norm, parameters),
            },
            Main::Norm { node, training } => self.load_norm(group, node, training, parameters),
            _ => Ok(()),
        }
    }

    /// A layer's tensor, of so many values.
    fn tensor<'p>(
        &self,
        parameters: &'p Parameters,
        node: NodeId,
        role: Role,
        len: usize,
    ) -> Result<&'p [f32]> {
        let name = || format!("{}/{}", self.graph.nodes[node].name, role.name());
        match parameters.get(node, role) {
            Some(t) if t.values.len() == len => Ok(&t.values),
            Some(t) => {
                let found = format!("{} values", t.values.len());
                Err(Error::invalid(name(), format!("{len} values"), found, ""))
            }
            None => Err(Error::invalid(name(), "a tensor", "none", "")),
        }
    }

    /// Folds a frozen batch norm into a convolution or dense layer, and packs its kernel unless it trains: then it
    /// changes with every step, and each step packs it anew.
    fn load_conv<E: Element>(
        &mut self,
        group: usize,
        node: NodeId,
        norm: Option<NodeId>,
        parameters: &Parameters,
    ) -> Result<()> {
        let Some(shape) = self.shapes[group].conv else { return Ok(()) };
        let n = shape.out_channels();
        let kernel = self.tensor(parameters, node, Role::Kernel, shape.kernel_len())?;
        let mut bias = match self.graph.nodes[node].op {
            Op::Conv2D { bias: false, .. } => vec![0.0; n],
            _ => self.tensor(parameters, node, Role::Bias, n)?.to_vec(),
        };
        let mut scale = None;
        if let Some(id) = norm {
            let Op::BatchNorm { epsilon, .. } = self.graph.nodes[id].op else {
                unreachable!("only batch norms are folded");
            };
            let mut shift = vec![0.0; n];
            let factor = scale.insert(vec![0.0; n]);
            norm::batch_norm_fold(
                self.tensor(parameters, id, Role::Gamma, n)?,
                self.tensor(parameters, id, Role::Beta, n)?,
                self.tensor(parameters, id, Role::MovingMean, n)?,
                self.tensor(parameters, id, Role::MovingVariance, n)?,
                epsilon,
                factor,
                &mut shift,
            );
            for ((b, a), s) in bias.iter_mut().zip(&*factor).zip(shift) {
                *b = *b * a + s;
            }
        }
        let trains = self.plan.trains(node);
        let state = &mut self.states[group];
        state.bias = bias;
        if trains {
            return Ok(());
        }
        let c = &*self.compute;
        conv::pack_forward::<E>(c, &shape, kernel, scale.as_deref(), &mut state.forward);
        let backward = |s: &Step| matches!(*s, Step::Input { group: g, .. } if g == group);
        if self.plan.steps.iter().any(backward) {
            // Through a folded batch norm the gradient passes scaled as the kernel is.
            let scaled = scale.map(|a| {
                kernel.iter().enumerate().map(|(i, w)| w * a[i % n]).collect::<Vec<f32>>()
            });
            let kernel = scaled.as_deref().unwrap_or(kernel);
            conv::pack_backward_input::<E>(c, &shape, kernel, &mut state.backward);
        }
        Ok(())
    }

    /// Takes over a batch norm that is not folded.
    fn load_norm(
        &mut self,
        group: usize,
        node: NodeId,
        training: bool,
        parameters: &Parameters,
    ) -> Result<()> {
        let n = self.graph.nodes[node].shape.channels();
        let get = |role| self.tensor(parameters, node, role, n).map(<[f32]>::to_vec);
        let (gamma, beta) = (get(Role::Gamma)?, get(Role::Beta)?);
        let moving = match training {
            true => None,
            false => Some((get(Role::MovingMean)?, get(Role::MovingVariance)?)),
        };
        let state = &mut self.states[group];
        (state.gamma, state.beta) = (gamma, beta);
        if let Some(moving) = moving {
            (state.mean, state.variance) = moving;
        }
        let State { mean, variance, scale, shift, .. } = state;
        [mean, variance, scale, shift].into_iter().for_each(|values| values.resize(n, 0.0));
        Ok(())
    }
}
