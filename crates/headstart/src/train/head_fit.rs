//! A head fitted with L-BFGS on features: for one L2 penalty, or for the one with the least loss on other images.

use headstart_kernels::loss::{BatchLoss, cross_entropy};
use headstart_kernels::table::Compute;

use crate::control::Control;
use crate::engine::logistic::{Examples, LinearHead, SolveOptions, Solving, solve_from};
use crate::error::Result;
use crate::measure::events::Event;
use crate::measure::metrics::Totals;

/// L2 penalties, from a strong one to a weak one.
const PATH: [f64; 6] = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7];

/// Images with their features, `[images, width]` row-major.
pub(crate) struct Seen {
    pub features: Vec<f32>,
    pub labels: Vec<usize>,
}

/// The head on `train` for the penalty `l2`, or for the one of least loss on `validation`; without such images for 0.5 / n
/// of n images, scikit-learn's `C=1`. The head comes with its penalty; `None` if `tell`, which gets [`Event::Solving`] and
/// [`Event::Solved`], stopped it.
///
/// # Errors
/// As [`solve_from`]; the errors of `tell`.
pub(crate) fn fit(
    compute: &Compute,
    (train, validation): (&Seen, &Seen),
    classes: usize,
    l2: Option<f64>,
    tell: &mut dyn FnMut(Event) -> Result<Control>,
) -> Result<Option<(f64, LinearHead)>> {
    let (features, labels) = (&train.features[..], &train.labels[..]);
    let width = features.len() / labels.len().max(1);
    let examples = Examples { features, width, labels, classes };
    let path = match l2 {
        Some(l2) => vec![l2],
        None if validation.labels.is_empty() => vec![0.5 / labels.len().max(1) as f64],
        None => PATH.to_vec(),
    };
    // Penalties that were tried, with the loss on the validation images.
    let mut tried: Vec<(f64, f64)> = Vec::new();
    let mut best: Option<(f64, f64, LinearHead)> = None;
    let mut path = path.into_iter();
    while let Some(l2) = path.next().or_else(|| between(&tried)) {
        let options = SolveOptions { l2, ..SolveOptions::default() };
        let start = best.as_ref().map(|(_, _, head)| head);
        let mut failed = None;
        let watch = &mut |solving: Solving| {
            let Solving { evaluations, gradient, fraction } = solving;
            tell(Event::Solving { l2, evaluations, gradient, fraction }).unwrap_or_else(|error| {
                failed = Some(error);
                Control::Stop
            })
        };
        let head = solve_from(compute, examples, options, start, watch)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(head) = head else { return Ok(None) };
        let val_loss = (!validation.labels.is_empty()).then(|| {
            let p = head.probabilities(compute, &validation.features);
            totals(classes, &p, &validation.labels).mean_loss()
        });
        let LinearHead { evaluations, gradient, converged, .. } = head;
        if tell(Event::Solved { l2, evaluations, gradient, converged, val_loss })? == Control::Stop
        {
            return Ok(None);
        }
        let loss = val_loss.unwrap_or(0.0);
        tried.push((l2, loss));
        let better = best.as_ref().is_none_or(|(least, ..)| loss < *least);
        if better {
            best = Some((loss, l2, head));
        }
        if !converged || !better {
            path = Vec::new().into_iter();
        }
    }
    Ok(best.map(|(_, l2, head)| (l2, head)))
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
pub(crate) fn totals(classes: usize, probabilities: &[f32], labels: &[usize]) -> Totals {
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
