//! Updates of weights by their gradients, one pass over memory per tensor.

use headstart_kernels::optim::{self, Adam, RmsProp, Sgd};
use headstart_kernels::table::Compute;

use crate::engine::gradients::Gradients;
use crate::engine::optimizer::{Optimizer, Rule};
use crate::net::parameters::Parameters;

impl Optimizer {
    /// Updates every parameter that has a gradient.
    pub fn step(&mut self, c: &Compute, parameters: &mut Parameters, gradients: &Gradients) {
        c.threads.enter(|| self.update(c, parameters, gradients));
    }

    fn update(&mut self, c: &Compute, parameters: &mut Parameters, gradients: &Gradients) {
        self.state.resize(parameters.tensors.len(), Default::default());
        self.iterations += 1;
        for (i, ((p, g), s)) in
            parameters.tensors.iter_mut().zip(&gradients.tensors).zip(&mut self.state).enumerate()
        {
            if g.is_empty() {
                continue;
            }
            let learning_rate = self.learning_rate * self.scales.get(i).unwrap_or(&1.0);
            if self.weight_decay.applies(p.role) {
                optim::weight_decay(c, learning_rate, self.weight_decay.rate, &mut p.values);
            }
            s.iter_mut().take(self.rule.memory().len()).for_each(|s| s.resize(g.len(), 0.0));
            let [first, second] = s;
            match self.rule {
                Rule::RmsProp { rho, epsilon } => {
                    let settings = RmsProp { learning_rate, rho, epsilon };
                    optim::rmsprop(c, settings, &mut p.values, g, first);
                }
                Rule::Sgd { momentum, nesterov } => {
                    let settings = Sgd { learning_rate, momentum, nesterov };
                    optim::sgd(c, settings, &mut p.values, g, first);
                }
                Rule::Adam { beta_1, beta_2, epsilon } => {
                    let step = self.iterations;
                    let settings = Adam { learning_rate, beta_1, beta_2, epsilon, step };
                    optim::adam(c, settings, &mut p.values, g, first, second);
                }
            }
        }
    }
}
