//! Optimizers: weight updates.
//!
//! ```
//! use headstart::optimizer::{Optimizer, Rule};
//!
//! assert!(Optimizer::new(Rule::ADAM, 1e-3).is_ok());
//! assert!(Optimizer::new(Rule::RMSPROP, -1.0).is_err());
//! ```

use serde::{Deserialize, Serialize};

use crate::engine::loss_scale::LossScale;
use crate::error::{Error, Result};
use crate::net::parameters::{Parameters, Role};
use crate::net::weights::Tensor;

/// Which optimizer, with its settings; the learning rate is the trainer's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Rule {
    /// `v = rho v + (1 - rho) g^2; w -= lr g / sqrt(v + epsilon)`, as in Keras.
    RmsProp {
        /// Decay of the mean square.
        rho: f32,
        /// Added under the root.
        epsilon: f32,
    },
    /// Gradient descent, with momentum where it is not 0.
    Sgd {
        /// Momentum: fraction of the last step that is repeated.
        momentum: f32,
        /// Nesterov's variant.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2014), as in Keras; with [`WeightDecay`] it is Keras's AdamW.
    Adam {
        /// Decay of the mean gradient.
        beta_1: f32,
        /// Decay of the mean square.
        beta_2: f32,
        /// Added to the root.
        epsilon: f32,
    },
}

impl Rule {
    /// Keras's `RMSprop()`.
    pub const RMSPROP: Rule = Rule::RmsProp { rho: 0.9, epsilon: 1e-7 };
    /// Keras's `SGD()`.
    pub const SGD: Rule = Rule::Sgd { momentum: 0.0, nesterov: false };
    /// Keras's `Adam()`.
    pub const ADAM: Rule = Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 };

    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::RmsProp { .. } => "rmsprop",
            Rule::Sgd { .. } => "sgd",
            Rule::Adam { .. } => "adam",
        }
    }

    /// Names of the state that the optimizer has for each parameter, as in Keras.
    pub(super) fn memory(self) -> &'static [&'static str] {
        match self {
            Rule::RmsProp { .. } => &["velocity"],
            Rule::Sgd { .. } => &["momentum"],
            Rule::Adam { .. } => &["momentum", "velocity"],
        }
    }
}

/// Which parameters have [`WeightDecay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecayOf {
    /// All that train, as in Keras's optimizers.
    #[default]
    All,
    /// Kernels only: neither biases nor batch norm's gamma and beta.
    Kernels,
}

/// Keras's `weight_decay` of every optimizer: `w -= learning_rate rate w` before each update
/// (decoupled, Loshchilov and Hutter 2017). The classical L2 penalty of strength `l` under SGD with
/// momentum `m` shrinks weights as fast as a rate of `l / (1 - m)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightDecay {
    /// The fraction of the learning rate by which weights shrink; 0 for no decay.
    pub rate: f32,
    /// Which parameters.
    pub of: DecayOf,
}

impl WeightDecay {
    pub(super) fn applies(self, role: Role) -> bool {
        self.rate != 0.0 && (self.of == DecayOf::All || role == Role::Kernel)
    }
}

/// An optimizer with its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Which optimizer.
    pub rule: Rule,
    /// Learning rate.
    pub learning_rate: f32,
    /// The weight decay.
    pub weight_decay: WeightDecay,
    /// Factor on the learning rate of each parameter; empty for none.
    pub(super) scales: Vec<f32>,
    /// Updates done.
    pub(super) iterations: u64,
    /// Means of gradients, of their squares or both, as the rule's `memory` names them, for each
    /// parameter; empty for those never updated.
    pub(super) state: Vec<[Vec<f32>; 2]>,
    /// The scale of the loss, where gradients are stored in half precision.
    pub(super) loss_scale: Option<LossScale>,
}

/// Name under which the number of updates is stored.
const ITERATIONS: &str = "iterations";
/// Name under which the scale of the loss is stored, with the steps since it changed.
const LOSS_SCALE: &str = "loss_scale";
/// What to do about state that no optimizer wrote.
const DAMAGED: &str = "the checkpoint is damaged: go on from a copy of it, or start the run again";
/// More updates than any run has.
const UPDATES: f32 = 1e15;

impl Optimizer {
    /// An optimizer without state yet.
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
            Rule::Adam { beta_1, beta_2, epsilon } => {
                for (what, beta) in [("beta 1", beta_1), ("beta 2", beta_2)] {
                    check(what, beta, "a number from 0 to below 1", (0.0..1.0).contains(&beta))?;
                }
                check("epsilon", epsilon, "a positive number", epsilon > 0.0)?;
            }
        }
        let (weight_decay, scales, state, loss_scale) = Default::default();
        let iterations = 0;
        Ok(Optimizer { rule, learning_rate, weight_decay, scales, iterations, state, loss_scale })
    }

    /// The same with weight decay.
    ///
    /// # Errors
    /// If its rate is not a number from 0 on.
    pub fn with_weight_decay(self, weight_decay: WeightDecay) -> Result<Optimizer> {
        let rate = weight_decay.rate;
        if !(rate.is_finite() && rate >= 0.0) {
            return Err(Error::invalid("weight decay", "0 or more", rate.to_string(), ""));
        }
        Ok(Optimizer { weight_decay, ..self })
    }

    /// The same with a factor on the learning rate for each parameter.
    #[must_use]
    pub fn with_scales(self, scales: Vec<f32>) -> Optimizer {
        Optimizer { scales, ..self }
    }

    /// The state as named tensors, to be stored: `LAYER/ROLE/momentum` and similar, the number
    /// of updates as `iterations` (exact up to 2^24; its effect is gone long before), and `loss_scale`, if there is one.
    pub fn tensors(&self, parameters: &Parameters) -> Vec<Tensor> {
        let mut tensors = Vec::new();
        for (p, state) in parameters.tensors.iter().zip(&self.state) {
            for (name, values) in self.rule.memory().iter().zip(state) {
                if !values.is_empty() {
                    let name = format!("{}/{name}", p.name);
                    tensors.push(Tensor { name, shape: p.shape.clone(), values: values.clone() });
                }
            }
        }
        let values = vec![self.iterations as f32];
        tensors.push(Tensor { name: ITERATIONS.into(), shape: vec![1], values });
        tensors.extend(self.loss_scale.map(|scale| {
            let values = scale.to_values();
            Tensor { name: LOSS_SCALE.into(), shape: vec![values.len()], values }
        }));
        tensors
    }

    /// What is wrong with a tensor that is no state.
    fn no_state(&self, tensor: &Tensor) -> Error {
        let what = format!("optimizer state {}", tensor.name);
        let (expected, found) = match (&*tensor.name, tensor.values.len()) {
            (ITERATIONS, 1) => (
                format!("a number of updates from 0 to {UPDATES:e}"),
                format!("{}", tensor.values[0]),
            ),
            (LOSS_SCALE, 2) => (
                "a scale that is a power of two, and how many steps it has been good for"
                    .to_string(),
                format!("{:?}", tensor.values),
            ),
            _ => (
                format!("state of {} for a tensor of this net", self.rule.name()),
                format!("shape {:?}", tensor.shape),
            ),
        };
        Error::invalid(what, expected, found, DAMAGED)
    }

    /// Loads state that [`Self::tensors`] returned. A scale of the loss is taken only where there is one.
    ///
    /// # Errors
    /// If a tensor is not of `parameters`, or not of this optimizer.
    pub fn restore(&mut self, parameters: &Parameters, tensors: &[Tensor]) -> Result<()> {
        let mut state = vec![<[Vec<f32>; 2]>::default(); parameters.tensors.len()];
        let (mut iterations, mut loss_scale) = (0, self.loss_scale.map(|_| LossScale::default()));
        for tensor in tensors {
            if let (ITERATIONS, [value]) = (tensor.name.as_str(), &tensor.values[..])
                && (0.0..=UPDATES).contains(value)
            {
                iterations = *value as u64;
                continue;
            }
            if tensor.name == LOSS_SCALE
                && let Some(stored) = LossScale::of_values(&tensor.values)
            {
                loss_scale = loss_scale.map(|_| stored);
                continue;
            }
            let place = tensor.name.rsplit_once('/').and_then(|(name, part)| {
                let i = parameters.tensors.iter().position(|p| p.name == name)?;
                let k = self.rule.memory().iter().position(|m| *m == part)?;
                (parameters.tensors[i].values.len() == tensor.values.len()).then_some((i, k))
            });
            let Some((i, k)) = place else {
                return Err(self.no_state(tensor));
            };
            if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
                let what = format!("optimizer state {}", tensor.name);
                return Err(Error::invalid(what, "finite numbers", value.to_string(), DAMAGED));
            }
            state[i][k].clone_from(&tensor.values);
        }
        (self.state, self.iterations, self.loss_scale) = (state, iterations, loss_scale);
        Ok(())
    }
}
