//! The head's phase as a convex problem: fitted with L-BFGS on the features of the frozen net.

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::loss::{BatchLoss, cross_entropy};

use super::inputs::Inputs;
use super::run::Run;
use super::{INFERENCE_BATCH, Solver, Trainer};
use crate::control::Control;
use crate::data::augment::Augment;
use crate::engine::execute::Input;
use crate::engine::logistic::{Examples, LinearHead, SolveOptions, Solving, solve_from};
use crate::error::Result;
use crate::measure::events::Event;
use crate::measure::metrics::Totals;
use crate::net::parameters::Role;
use crate::train::cache::Part;

/// L2 penalties, from a strong one to a weak one.
const PATH: [f64; 6] = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7];

/// Images with their features.
struct Seen {
    features: Vec<f32>,
    labels: Vec<usize>,
}

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
        let (features, labels) = (&train.features[..], &train.labels[..]);
        let width = features.len() / labels.len();
        let examples = Examples { features, width, labels, classes };
        let path = match solver.l2 {
            Some(l2) => vec![l2],
            None if validation.labels.is_empty() => vec![0.5 / labels.len() as f64],
            None => PATH.to_vec(),
        };
        // Penalties that were tried, with the loss on the validation images.
        let mut tried: Vec<(f64, f64)> = Vec::new();
        let mut best: Option<(f64, LinearHead)> = None;
        let mut path = path.into_iter();
        while let Some(l2) = path.next().or_else(|| between(&tried)) {
            let options = SolveOptions { l2, ..SolveOptions::default() };
            let start = best.as_ref().map(|(_, head)| head);
            let watch = &mut |solving: Solving| {
                let Solving { evaluations, gradient, fraction } = solving;
                on_event(&Event::Solving { l2, evaluations, gradient, fraction })
            };
            let Some(head) = solve_from(&compute, examples, options, start, watch)? else {
                return Ok(None);
            };
            let val_loss = (!validation.labels.is_empty()).then(|| {
                let p = head.probabilities(&compute, &validation.features);
                totals(classes, &p, &validation.labels).mean_loss()
            });
            let LinearHead { evaluations, gradient, converged, .. } = head;
            let event = Event::Solved { l2, evaluations, gradient, converged, val_loss };
            if self.emit(event, on_event)? == Control::Stop {
                return Ok(None);
            }
            let loss = val_loss.unwrap_or(0.0);
            tried.push((l2, loss));
            let better = best.as_ref().is_none_or(|(least, _)| loss < *least);
            if better {
                best = Some((loss, head));
            }
            if !converged || !better {
                path = Vec::new().into_iter();
            }
        }
        Ok(best.map(|(_, head)| head))
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

/// A last penalty to try after the powers of ten: between the best one and its better neighbour.
fn between(tried: &[(f64, f64)]) -> Option<f64> {
    let powers = tried.iter().all(|(l2, _)| PATH.contains(l2));
    let best = (0..tried.len()).min_by(|&a, &b| tried[a].1.total_cmp(&tried[b].1))?;
    let beside = [best.checked_sub(1), Some(best + 1)].into_iter().flatten();
    let beside = beside.filter_map(|i| tried.get(i)).min_by(|a, b| a.1.total_cmp(&b.1))?;
    let factor = if beside.0 < tried[best].0 { 0.3 } else { 3.0 };
    powers.then_some(tried[best].0 * factor)
}

/// Cross-entropy and number of correct predictions of probabilities, `[images, classes]` row-major.
fn totals(classes: usize, probabilities: &[f32], labels: &[usize]) -> Totals {
    let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
    let BatchLoss { loss, correct } = cross_entropy(classes, probabilities, &labels);
    Totals { loss, correct, count: labels.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_weight_lies_on_the_better_side_of_the_best() {
        let near = |found: Option<f64>, l2: f64| found.is_some_and(|f| (f / l2 - 1.0).abs() < 1e-9);
        assert!(near(between(&[(1e-2, 0.79), (1e-3, 0.67), (1e-4, 0.69)]), 3e-4));
        assert!(near(between(&[(1e-2, 0.70), (1e-3, 0.67), (1e-4, 0.72)]), 3e-3));
        assert!(near(between(&[(1e-2, 0.70), (1e-3, 0.72)]), 3e-3));
        // None after it, none for a weight that was asked for, none for a single one.
        assert_eq!(between(&[(1e-2, 0.79), (1e-3, 0.67), (1e-4, 0.69), (3e-4, 0.66)]), None);
        assert_eq!(between(&[(2e-4, 0.7)]), None);
        assert_eq!(between(&[(1e-2, 0.7)]), None);
        assert_eq!(between(&[]), None);
    }
}
