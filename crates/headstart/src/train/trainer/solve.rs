//! The head's phase as a convex problem: fitted with L-BFGS on the features of the frozen net.

use std::sync::Arc;
use std::time::Instant;

use super::inputs::Inputs;
use super::run::Run;
use super::{INFERENCE_BATCH, Solver, Trainer};
use crate::control::Control;
use crate::data::augment::Augment;
use crate::engine::execute::Input;
use crate::engine::logistic::LinearHead;
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::parameters::Role;
use crate::train::cache::Part;
use crate::train::head_fit::{Seen, fit, totals};

impl Run<'_, '_> {
    /// One epoch that fits the head.
    pub fn solve(
        &mut self,
        solver: Solver,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        let start = Instant::now();
        let epoch = self.trainer.history.epochs.len() + 1;
        let Some(train) = self.seen(Part::Train, on_event)? else { return Ok(Control::Stop) };
        let Some(validation) = self.seen(Part::Validation, on_event)? else {
            return Ok(Control::Stop);
        };
        let Some(head) = self.best(solver, &train, &validation, on_event)? else {
            return Ok(Control::Stop);
        };
        self.put(&head)?;
        let p = head.probabilities(self.trainer.device.compute(), &train.features);
        self.totals = totals(self.trainer.data.classes.len(), &p, &train.labels);
        let trained = start.elapsed().as_secs_f64();
        let Some(figures) = self.validation(on_event)? else { return Ok(Control::Stop) };
        self.close(epoch, [start.elapsed().as_secs_f64(), trained], 0.0, figures, on_event)
    }

    /// The head for the penalty that `solver` names, or for the best one.
    fn best(
        &mut self,
        solver: Solver,
        train: &Seen,
        validation: &Seen,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<LinearHead>> {
        let classes = self.trainer.data.classes.len();
        let compute = Arc::clone(self.trainer.device.compute());
        let mut tell = |event: Event| match event {
            // Progress is not recorded.
            Event::Solving { .. } => Ok(on_event(&event)),
            event => self.emit(event, on_event),
        };
        let fitted = fit(&compute, (train, validation), classes, solver.l2, &mut tell)?;
        Ok(fitted.map(|(_, head)| head))
    }

    /// Features of every image of a part, in order; `None` if the caller stopped it.
    fn seen(
        &mut self,
        part: Part,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Seen>> {
        let Trainer { model, data, frozen, .. } = &mut *self.trainer;
        let subset = match part {
            Part::Train => Some(&data.train),
            _ => data.validation.as_ref(),
        };
        let Some(subset) = subset else {
            return Ok(Some(Seen { features: Vec::new(), labels: Vec::new() }));
        };
        let (model, total) = (&**model, subset.len());
        let kept = frozen.as_ref().is_some_and(|f| f.rows(part).is_some());
        let (order, augment) = ((0..total).collect(), Augment::default());
        let mut batches =
            Inputs::new((part, subset), order, kept, INFERENCE_BATCH, model, augment)?;
        let mut features = Vec::new();
        let (mut done, start) = (0, Instant::now());
        while done < total {
            let count = batches.next(model, frozen.as_mut())?;
            let (inputs, _) = batches.current(frozen.as_ref());
            for input in &inputs {
                if let Input::Values(values) = input {
                    features.extend_from_slice(&values.to_f32());
                }
            }
            done += count;
            let seconds = start.elapsed().as_secs_f64();
            let event = Event::Features { split: part.name(), done, total, seconds };
            if !kept && on_event(&event) == Control::Stop {
                return Ok(None);
            }
        }
        Ok(Some(Seen { features, labels: subset.labels() }))
    }

    /// Puts a head into the net and into the EMA weights: it is not a step from the earlier head.
    fn put(&mut self, head: &LinearHead) -> Result<()> {
        let model = &*self.trainer.model;
        let (node, mut parameters) = (model.logits(), model.parameters.clone());
        for tensor in parameters.tensors.iter_mut().filter(|t| t.node == node) {
            match tensor.role {
                Role::Kernel => tensor.values.copy_from_slice(&head.kernel),
                Role::Bias => tensor.values.copy_from_slice(&head.bias),
                _ => {}
            }
        }
        self.replace(&parameters)
    }
}
