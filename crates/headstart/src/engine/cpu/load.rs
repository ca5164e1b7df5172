//! From parameters to what the kernels read: packed kernels with frozen batch norms folded in.

use headstart_kernels::conv;
use headstart_kernels::element::{Bf16, DType, Element};

use super::{Executor, State};
use crate::engine::plan::{Folded, Main, Step, tensor};
use crate::error::{Error, Result};
use crate::net::graph::NodeId;
use crate::net::parameters::{Parameter, Parameters, Role};

impl Executor {
    /// Packs and folds all weights, and stores those that train.
    pub(super) fn load_all(&mut self, parameters: &Parameters) -> Result<()> {
        (0..self.states.len()).try_for_each(|group| self.load_group(group, parameters))?;
        self.parameters = self.trained(parameters)?;
        if let Some(average) = &mut self.average {
            average.clone_from(&self.parameters);
        }
        Ok(())
    }

    /// The weights that the plan trains; of all others only the names.
    pub(super) fn trained(&self, parameters: &Parameters) -> Result<Parameters> {
        let copy = |t: &Parameter| {
            let values = if self.plan.trains(t.node) { t.values.clone() } else { Vec::new() };
            Parameter { values, name: t.name.clone(), shape: t.shape.clone(), ..*t }
        };
        for t in parameters.tensors.iter().filter(|t| self.plan.trains(t.node)) {
            let expected: usize = t.shape.iter().product();
            if t.values.len() != expected {
                let (expected, found) = (format!("{expected} values"), t.values.len().to_string());
                return Err(Error::invalid(t.name.clone(), expected, found, ""));
            }
        }
        Ok(Parameters { tensors: parameters.tensors.iter().map(copy).collect() })
    }

    /// Fails unless `parameters` are of the net that was loaded.
    pub(super) fn check_same_net(&self, parameters: &Parameters) -> Result<()> {
        let own = &self.parameters.tensors;
        let same = |(a, b): (&Parameter, &Parameter)| {
            a.node == b.node && a.role == b.role && a.shape == b.shape
        };
        match own.len() == parameters.tensors.len() && own.iter().zip(&parameters.tensors).all(same)
        {
            true => Ok(()),
            false => Err(Error::invalid("weights", "those of the executor's net", "others", "")),
        }
    }

    /// Takes over the biases and batch norm parameters that this plan trains, after an update; kernels are
    /// packed by the steps that use them.
    pub(super) fn refresh(&mut self) -> Result<()> {
        let parameters = std::mem::take(&mut self.parameters);
        let mut groups = 0..self.states.len();
        let done = groups.try_for_each(|group| match self.plan.trains_group(group) {
            true => self.load_group(group, &parameters),
            false => Ok(()),
        });
        self.parameters = parameters;
        done
    }

    fn load_group(&mut self, group: usize, parameters: &Parameters) -> Result<()> {
        match self.plan.groups[group].main {
            Main::Conv { node, norm, .. } => match self.plan.dtype(group) {
                DType::F32 => self.load_conv::<f32>(group, node, norm, parameters),
                DType::Bf16 => self.load_conv::<Bf16>(group, node, norm, parameters),
                // `new` refuses it.
                DType::F16 => Ok(()),
            },
            Main::Norm { node, training } => self.load_norm(group, node, training, parameters),
            _ => Ok(()),
        }
    }

    /// Folds a frozen batch norm into a convolution or dense layer, and packs its kernel unless it trains: then it
    /// changes with every step, and each step packs it again.
    fn load_conv<E: Element>(
        &mut self,
        group: usize,
        node: NodeId,
        norm: Option<NodeId>,
        parameters: &Parameters,
    ) -> Result<()> {
        let Some(shape) = self.plan.shapes[group].conv else { return Ok(()) };
        let folded = Folded::new(&self.graph, parameters, node, norm)?;
        let trains = self.plan.trains(node);
        let state = &mut self.states[group];
        state.bias.clone_from(&folded.bias);
        if trains {
            return Ok(());
        }
        let (c, scale) = (&*self.compute, folded.scale.as_deref());
        conv::pack_forward::<E>(c, &shape, folded.kernel, scale, &mut state.forward);
        let backward = |s: &Step| matches!(*s, Step::Input { group: g, .. } if g == group);
        if self.plan.steps.iter().any(backward) {
            // Through a folded batch norm the gradient passes scaled as the kernel is.
            conv::pack_backward_input::<E>(c, &shape, &folded.scaled(), &mut state.backward);
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
        let get = |role| tensor(&self.graph, parameters, node, role, n).map(<[f32]>::to_vec);
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
