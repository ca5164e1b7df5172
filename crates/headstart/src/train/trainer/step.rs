//! One step of training.

use super::Settings;
use super::inputs::Inputs;
use super::run::Run;
use crate::engine::execute::StepResult;
use crate::error::Result;

impl Run<'_, '_> {
    /// Takes the next batch through the net and back. With `updates`, what this and the steps since the last update say
    /// goes into the weights; a loss that is not a number goes nowhere.
    pub fn step(
        &mut self,
        batches: &mut Inputs<'_>,
        learning_rate: f32,
        updates: bool,
    ) -> Result<StepResult> {
        let super::Trainer { model, frozen, compute, settings, .. } = &mut *self.trainer;
        let Settings { clip_norm, clip_value, .. } = *settings;
        let count = batches.next(model, frozen.as_mut())?;
        let (inputs, labels) = batches.current(frozen.as_ref(), count);
        let parameters = &mut model.parameters;
        let result = self.train.train_step(&inputs, labels, parameters, &mut self.gradients)?;
        if !result.loss.is_finite() {
            return Ok(result);
        }
        if !updates || !self.sum.is_empty() {
            self.sum.add(&self.gradients, count);
        }
        if !updates {
            return Ok(result);
        }
        self.sum.take_mean(&mut self.gradients);
        if let Some(most) = clip_value {
            self.gradients.clip_value(most);
        }
        if let Some(most) = clip_norm {
            self.gradients.clip_norm(most);
        }
        self.optimizer.learning_rate = learning_rate;
        self.optimizer.step(compute, parameters, &self.gradients);
        self.train.refresh(parameters)?;
        if let Some(average) = &mut self.average {
            average.update(parameters);
        }
        Ok(result)
    }
}
