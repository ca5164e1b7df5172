//! Weight updates.

use headstart_kernels::optim::{self, RmsProp, Sgd};
use headstart_kernels::table::Compute;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::execute::Gradients;
use crate::parameters::Parameters;
use crate::weights::Tensor;

/// Which update rule, with its settings; the learning rate is the trainer's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Rule {
    /// `v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon)`, as Keras.
    RmsProp {
        /// Share of the old mean square that is kept.
        rho: f32,
        /// Added under the root.
        epsilon: f32,
    },
    /// Gradient descent, with momentum where it is not 0.
    Sgd {
        /// Share of the last step that is repeated.
        momentum: f32,
        /// Nesterov's variant.
        nesterov: bool,
    },
}

impl Rule {
    /// Keras's `RMSprop()`.
    pub const RMSPROP: Rule = Rule::RmsProp { rho: 0.9, epsilon: 1e-7 };
    /// Keras's `SGD()`.
    pub const SGD: Rule = Rule::Sgd { momentum: 0.0, nesterov: false };

    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::RmsProp { .. } => "rmsprop",
            Rule::Sgd { .. } => "sgd",
        }
    }
}

/// An update rule with its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// The rule.
    pub rule: Rule,
    /// Step size.
    pub learning_rate: f32,
    /// Mean squares or momenta, one tensor per parameter; empty for those never updated.
    state: Vec<Vec<f32>>,
}

impl Optimizer {
    /// A rule without any memory yet.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(rule: Rule, learning_rate: f32) -> Result<Optimizer> {
        let check = |what: &str, value: f32, expected: &str, good: bool| {
            if good {
                return Ok(());
            }
            Err(Error::invalid(what, expected, value.to_string(), ""))
        };
        let positive = learning_rate.is_finite() && learning_rate > 0.0;
        check("learning rate", learning_rate, "a positive number", positive)?;
        match rule {
            Rule::RmsProp { rho, epsilon } => {
                check("rho", rho, "a number from 0 to below 1", (0.0..1.0).contains(&rho))?;
                check("epsilon", epsilon, "a positive number", epsilon > 0.0)?;
            }
            Rule::Sgd { momentum, nesterov } => {
                let share = (0.0..1.0).contains(&momentum);
                check("momentum", momentum, "a number from 0 to below 1", share)?;
                let sensible = !nesterov || momentum > 0.0;
                check("momentum", momentum, "above 0 for Nesterov's variant", sensible)?;
            }
        }
        Ok(Optimizer { rule, learning_rate, state: Vec::new() })
    }

    /// Updates every parameter that has a gradient.
    pub fn step(&mut self, c: &Compute, parameters: &mut Parameters, gradients: &Gradients) {
        self.state.resize(parameters.tensors.len(), Vec::new());
        let learning_rate = self.learning_rate;
        for ((p, g), s) in
            parameters.tensors.iter_mut().zip(&gradients.tensors).zip(&mut self.state)
        {
            if g.is_empty() {
                continue;
            }
            s.resize(g.len(), 0.0);
            match self.rule {
                Rule::RmsProp { rho, epsilon } => {
                    let settings = RmsProp { learning_rate, rho, epsilon };
                    optim::rmsprop(c, settings, &mut p.values, g, s);
                }
                Rule::Sgd { momentum, nesterov } => {
                    let settings = Sgd { learning_rate, momentum, nesterov };
                    optim::sgd(c, settings, &mut p.values, g, s);
                }
            }
        }
    }

    /// The memory as named tensors, to be stored.
    pub fn tensors(&self, parameters: &Parameters) -> Vec<Tensor> {
        let used = parameters.tensors.iter().zip(&self.state).filter(|(_, s)| !s.is_empty());
        used.map(|(p, s)| Tensor {
            name: p.name.clone(),
            shape: p.shape.clone(),
            values: s.clone(),
        })
        .collect()
    }

    /// Takes memory that [`Self::tensors`] gave.
    ///
    /// # Errors
    /// If a tensor is not of `parameters`.
    pub fn restore(&mut self, parameters: &Parameters, tensors: &[Tensor]) -> Result<()> {
        self.state = vec![Vec::new(); parameters.tensors.len()];
        for tensor in tensors {
            let at = parameters.tensors.iter().position(|p| p.name == tensor.name);
            match at.filter(|&i| parameters.tensors[i].values.len() == tensor.values.len()) {
                Some(i) => self.state[i].clone_from(&tensor.values),
                None => {
                    let what = format!("optimizer state of {}", tensor.name);
                    let found = format!("shape {:?}", tensor.shape);
                    return Err(Error::invalid(what, "a tensor of this net", found, ""));
                }
            }
        }
        Ok(())
    }
}
