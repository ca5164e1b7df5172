//! A step of training: forward, loss, backward, what replicas add up, and the update.

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::loss::{BatchLoss, Labels};

use super::buckets::{Telling, buckets};
use super::{Executor, not_prepared};
use crate::engine::execute::{
    Input, SumReplicas, Training, Turn, Weights, check_inputs, check_labels,
};
use crate::engine::gradients::{Accumulated, Gradients, StepResult};
use crate::engine::plan::Step;
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;
use crate::task::Loss;

impl Executor {
    pub(super) fn prepare_training(&mut self, training: Training) -> Result<()> {
        self.check_trains()?;
        training.check(self.graph.nodes[self.graph.output()].shape.elements())?;
        self.average = training.average.map(|_| self.parameters.clone());
        self.training = Some(training);
        (self.gradients, self.sums) = Default::default();
        self.buckets = buckets(&self.plan, &self.parameters, TOGETHER);
        Ok(())
    }

    fn check_trains(&self) -> Result<()> {
        match self.plan.request.trainable {
            Some(_) => Ok(()),
            None => Err(Error::invalid("plan", "one made for training", "one for inference", "")),
        }
    }

    pub(super) fn run_step(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
        mut telling: Option<&mut Telling<'_>>,
    ) -> Result<StepResult> {
        let count = labels.first.len();
        check_inputs(&self.graph, &self.plan, inputs, count)?;
        self.check_trains()?;
        let output = self.graph.output();
        let classes = self.graph.nodes[output].shape.elements();
        check_labels(labels, classes)?;
        let Some(training) = self.training.take() else { return Err(not_prepared()) };
        let targets = &training.targets;
        self.turn = turn;
        let mut parameters = std::mem::take(&mut self.parameters);
        let mut gradients = std::mem::take(&mut self.gradients);
        self.fit_gradients(&parameters, &mut gradients);
        let mut staged = std::mem::take(&mut self.staged);
        let sources = self.sources(inputs, &mut staged);
        let mut total = BatchLoss::default();
        let compute = Arc::clone(&self.compute);
        compute.threads.enter(|| {
            for i in 0..self.plan.steps.len() {
                self.poison(i);
                let start = self.seconds.is_some().then(Instant::now);
                match self.plan.steps[i] {
                    Step::Forward { group } => {
                        self.run_forward(group, &sources, count, Some(&mut parameters));
                        if self.plan.groups[group].output == output {
                            let p = self.value::<f32>(output, &sources, count);
                            total = match self.plan.loss {
                                Some(Loss::CategoricalCrossentropy) => {
                                    targets.loss(classes, p, labels)
                                }
                                None => BatchLoss::default(),
                            };
                        }
                    }
                    Step::Loss { group, output } => {
                        self.loss_gradient(group, output, &sources, labels, targets);
                    }
                    step => {
                        self.run_backward(step, &sources, count, &parameters, &mut gradients);
                    }
                }
                if let Some(telling) = &mut telling {
                    telling.after(i, &gradients);
                }
                self.note(i, start);
            }
        });
        self.staged = staged;
        (self.parameters, self.gradients) = (parameters, gradients);
        self.training = Some(training);
        self.count = count;
        let loss = (total.loss / count as f64) as f32;
        Ok(StepResult { loss, correct: total.correct, count })
    }

    /// Makes room for the gradients of what trains.
    pub(super) fn fit_gradients(&self, parameters: &Parameters, gradients: &mut Gradients) {
        gradients.tensors.resize(parameters.tensors.len(), Vec::new());
        for (g, p) in gradients.tensors.iter_mut().zip(&parameters.tensors) {
            let trains = self.plan.trains(p.node) && p.role.has_gradient();
            g.resize(if trains { p.values.len() } else { 0 }, 0.0);
        }
    }

    pub(super) fn add_gradients(&mut self) -> Result<()> {
        if self.gradients.tensors.is_empty() {
            return Err(no_gradients());
        }
        let replica = self.turn.replica;
        match self.sums.iter_mut().find(|sum| sum.replica == replica) {
            Some(sum) => sum.add(&self.gradients, self.count),
            None => {
                let mut sum = Accumulated::of(replica);
                sum.add(&self.gradients, self.count);
                self.sums.push(sum);
                self.sums.sort_by_key(|sum| sum.replica);
            }
        }
        Ok(())
    }

    pub(super) fn sum_replicas(&mut self, images: usize, sum: &mut SumReplicas<'_>) -> Result<()> {
        if images == 0 {
            return Err(no_gradients());
        }
        if self.gradients.tensors.is_empty() {
            let mut gradients = Gradients::default();
            self.fit_gradients(&self.parameters, &mut gradients);
            self.gradients = gradients;
        }
        let share = 1.0 / images as f32;
        self.sums.iter_mut().for_each(Accumulated::settle);
        for (i, tensor) in
            self.gradients.tensors.iter_mut().enumerate().filter(|(_, t)| !t.is_empty())
        {
            let own: Vec<&[f32]> = self.sums.iter().map(|r| r.tensor(i)).collect();
            sum(&own, tensor)?;
        }
        self.gradients.tensors.iter_mut().flatten().for_each(|g| *g *= share);
        self.sums.iter_mut().for_each(Accumulated::clear);
        Ok(())
    }

    pub(super) fn update_weights(&mut self, learning_rate: f32) -> Result<()> {
        let Some(training) = &mut self.training else { return Err(not_prepared()) };
        if self.gradients.tensors.is_empty() {
            return Err(no_gradients());
        }
        if let Some(most) = training.clip_value {
            self.gradients.clip_value(most);
        }
        if let Some(most) = training.clip_norm {
            self.gradients.clip_norm(most);
        }
        training.optimizer.learning_rate = learning_rate;
        training.optimizer.step(&self.compute, &mut self.parameters, &self.gradients);
        if let (Some(average), Some(decay)) = (&mut self.average, training.average) {
            move_average(decay, &self.parameters, average);
        }
        self.refresh()
    }

    pub(super) fn copy_weights(&self, which: Weights, parameters: &mut Parameters) -> Result<()> {
        let own = match which {
            Weights::Average => self.average.as_ref().unwrap_or(&self.parameters),
            Weights::Current => &self.parameters,
        };
        self.check_same_net(parameters)?;
        for (to, from) in parameters.tensors.iter_mut().zip(&own.tensors) {
            if self.plan.trains(from.node) {
                to.values.clone_from(&from.values);
            }
        }
        Ok(())
    }
}

/// Most elements of tensors that are summed together: a message for each of a net's many small ones would take longer than what
/// is in it.
pub(super) const TOGETHER: usize = 1 << 20;

/// `average = decay average + (1 - decay) value`: timm's `ModelEmaV2`, batch norm's moving statistics included.
fn move_average(decay: f32, parameters: &Parameters, average: &mut Parameters) {
    let rest = 1.0 - decay;
    for (average, own) in average.tensors.iter_mut().zip(&parameters.tensors) {
        for (a, &w) in average.values.iter_mut().zip(&own.values) {
            *a = decay * *a + rest * w;
        }
    }
}

pub(super) fn no_gradients() -> Error {
    Error::invalid("gradients", "those of a step", "none", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parameters::{Parameter, Role};

    #[test]
    fn an_average_is_timms() {
        let of = |value| {
            let (name, shape) = ("layer0/kernel".to_string(), vec![1]);
            let role = Role::Kernel;
            let tensor = Parameter { node: 0, role, name, shape, values: vec![value] };
            Parameters { tensors: vec![tensor] }
        };
        let mut average = of(2.0);
        for value in [4.0, 8.0] {
            move_average(0.75, &of(value), &mut average);
        }
        // 0.75 (0.75 2 + 0.25 4) + 0.25 8
        assert_eq!(average, of(3.875));
    }
}
