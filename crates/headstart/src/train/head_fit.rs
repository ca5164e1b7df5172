//! A head fitted with L-BFGS on features: for one L2 penalty, or for the one with the least loss by cross-validation.

use headstart_kernels::loss::{BatchLoss, cross_entropy};

use crate::control::Control;
use crate::data::split::class_counts;
use crate::engine::logistic::folds::{Fitted, Found, Search, assign, cross_fit};
use crate::engine::logistic::team::Team;
use crate::engine::logistic::{Examples, LinearHead, SolveOptions, Solving, solve_among};
use crate::error::Result;
use crate::measure::events::Event;
use crate::measure::metrics::Totals;

/// L2 penalties of the search, from a strong one to a weak one.
const PATH: [f64; 15] =
    [1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7];
/// Stronger ones, rising, where the first one of [`PATH`] is the best of it.
const STRONGER: [f64; 6] = [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Their seed.
const SEED: u32 = 42;
/// Held-out images that tell penalties apart: where there are more images, fewer folds are fitted.
const ENOUGH: usize = 4000;
/// By how much a weaker penalty has to lower the loss: less is chance, and its probabilities are nearer to 0 and 1.
const MARGIN: f64 = 1e-3;
/// Tolerance of the fits of folds.
const TOLERANCE: f64 = 1e-4;

/// Images with their features, `[images, width]` row-major.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub features: Vec<f32>,
    pub labels: Vec<usize>,
}

impl Seen {
    /// The images of both.
    pub fn and(mut self, other: Seen) -> Seen {
        self.features.extend(other.features);
        self.labels.extend(other.labels);
        self
    }

    /// Images of each class.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        class_counts(self.labels.iter().copied(), classes)
    }

    fn examples<'a>(&'a self, classes: usize, class_weights: &'a [f32]) -> Examples<'a> {
        let Seen { features, labels } = self;
        let width = features.len() / labels.len().max(1);
        Examples { features, width, labels, classes, class_weights }
    }
}

/// Gets [`Event::Solving`] and [`Event::Solved`].
pub(crate) type Tell<'t> = dyn FnMut(Event) -> Result<Control> + 't;

/// The head on `seen` for the penalty `l2`, or for the one of least loss by five-fold cross-validation over these images. The
/// head comes with its penalty; `None` if `tell` stopped it. `class_weights` are [`Examples::class_weights`].
///
/// # Errors
/// As [`crate::engine::logistic::solve_from`]; the errors of `tell`.
pub(crate) fn fit(
    team: &Team<'_>,
    seen: &Seen,
    (classes, class_weights): (usize, &[f32]),
    l2: Option<f64>,
    tell: &mut Tell<'_>,
) -> Result<Option<(f64, LinearHead)>> {
    let examples = seen.examples(classes, class_weights);
    let Some((l2, found)) = penalty(team, seen, (classes, class_weights), l2, tell)? else {
        return Ok(None);
    };
    let options = SolveOptions { l2, ..SolveOptions::default() };
    let mut failed = None;
    let watch = &mut |solving: Solving| {
        let Solving { evaluations, gradient, fraction } = solving;
        tell(Event::Solving { l2, evaluations, gradient, fraction }).unwrap_or_else(|error| {
            failed = Some(error);
            Control::Stop
        })
    };
    let head = match &found {
        Some(found) => found.fit(team, examples, options, watch)?,
        None => solve_among(team, examples, options, None, watch)?,
    };
    if let Some(error) = failed {
        return Err(error);
    }
    let Some(head) = head else { return Ok(None) };
    let LinearHead { evaluations, gradient, converged, .. } = head;
    let solved = Event::Solved { l2, evaluations, gradient, converged, held_out_loss: None };
    Ok((tell(solved)? == Control::Continue).then_some((l2, head)))
}

/// The penalty `l2`, or the one of least loss by five-fold cross-validation over `seen`, with what was found on the way there.
/// `None` if `tell` stopped it.
///
/// # Errors
/// As [`fit`].
pub(crate) fn penalty(
    team: &Team<'_>,
    seen: &Seen,
    (classes, class_weights): (usize, &[f32]),
    l2: Option<f64>,
    tell: &mut Tell<'_>,
) -> Result<Option<(f64, Option<Found>)>> {
    if let Some(l2) = l2 {
        return Ok(Some((l2, None)));
    }
    let Some(found) = held_out(team, seen, (classes, class_weights), tell)? else {
        return Ok(None);
    };
    // Where no class has two images scikit-learn's `C=1`.
    let none = 0.5 / seen.labels.len().max(1) as f64;
    let found = found.map(|(found, _)| found);
    Ok(Some((found.as_ref().map_or(none, |found| found.held_out.l2), found)))
}

/// What heads say of images that they were not fitted on, for the strongest penalty of least loss, but for [`MARGIN`], and how
/// many images these are; none where no class has two images. `None` if `tell` stopped it.
///
/// # Errors
/// As [`fit`].
pub(crate) fn held_out(
    team: &Team<'_>,
    seen: &Seen,
    (classes, class_weights): (usize, &[f32]),
    tell: &mut Tell<'_>,
) -> Result<Option<Option<(Found, usize)>>> {
    let examples = seen.examples(classes, class_weights);
    let labels = &seen.labels;
    let mut fold = assign(labels, classes, FOLDS, SEED);
    // A class's only image stays among those that heads are fitted on.
    let counts = seen.class_counts(classes);
    for (fold, &label) in fold.iter_mut().zip(labels) {
        if counts[label] < 2 {
            *fold = FOLDS;
        }
    }
    let held = |folds: usize| fold.iter().filter(|&&f| f < folds).count();
    if held(FOLDS) == 0 {
        return Ok(Some(None));
    }
    let folds = (1..FOLDS).find(|&folds| held(folds) >= ENOUGH).unwrap_or(FOLDS);
    let most = PATH.len() * folds;
    let mut watch = |fitted: Fitted| {
        let Fitted { done, evaluations, gradient, converged, l2, loss } = fitted;
        let fraction = done as f64 / most as f64;
        match tell(Event::Solving { l2, evaluations, gradient, fraction })? {
            Control::Continue if loss.is_some() => {
                let held_out_loss = loss;
                tell(Event::Solved { l2, evaluations, gradient, converged, held_out_loss })
            }
            control => Ok(control),
        }
    };
    let search = Search {
        path: &PATH,
        beyond: &STRONGER,
        margin: MARGIN,
        standardised: false,
        tolerance: TOLERANCE,
        iterations: 300,
    };
    let found = cross_fit(team, examples, (&fold, folds), search, &mut watch)?;
    Ok(found.map(|found| Some((found, held(folds)))))
}

/// Cross-entropy and number of correct predictions of probabilities, `[images, classes]` row-major.
pub(crate) fn totals(classes: usize, probabilities: &[f32], labels: &[usize]) -> Totals {
    let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
    let BatchLoss { loss, correct } = cross_entropy(classes, probabilities, &labels);
    Totals { loss, correct, count: labels.len() }
}

#[cfg(test)]
mod tests {
    use headstart_kernels::table::Compute;

    use super::*;
    use crate::engine::logistic::tests::clusters;

    /// The penalty that is chosen for `seen`, and the loss of held-out images of every penalty that was tried.
    fn chosen(seen: &Seen, classes: usize, weights: &[f32]) -> (f64, Vec<(f64, f64)>) {
        let compute = Compute::new(1).unwrap();
        let mut tried = Vec::new();
        let mut tell = |event| {
            if let Event::Solved { l2, held_out_loss: Some(loss), .. } = event {
                tried.push((l2, loss));
            }
            Ok(Control::Continue)
        };
        let found = fit(&Team::alone(&compute), seen, (classes, weights), None, &mut tell).unwrap();
        (found.unwrap().0, tried)
    }

    #[test]
    fn the_penalty_is_that_of_least_loss_on_held_out_images() {
        // The more the classes overlap, the stronger it is, beyond the list's first end too.
        let mut before = 0.0;
        for (spread, scale) in [(0.3, 1.0), (2.0, 1.0), (2.0, 30.0)] {
            let (features, labels) = clusters(4, 30, 12, spread);
            let features = features.iter().map(|x| x * scale).collect();
            let (l2, tried) = chosen(&Seen { features, labels }, 4, &[]);
            let least = tried.iter().map(|&(_, loss)| loss).fold(f64::INFINITY, f64::min);
            let own = tried.iter().find(|tried| tried.0 == l2).unwrap().1;
            assert!(own <= least + MARGIN, "{l2}: {tried:?}");
            assert!(l2 > before, "{l2}: {tried:?}");
            before = l2;
        }
        assert!(before > 1.0, "{before}");
    }

    #[test]
    fn classes_of_one_image_are_learned_and_none_is_held_out_of_nothing() {
        let (mut features, mut labels) = clusters(2, 20, 6, 0.5);
        features.extend([9.0; 6]);
        labels.push(2);
        let (l2, tried) = chosen(&Seen { features, labels }, 3, &[]);
        assert!(tried.iter().all(|(_, loss)| loss.is_finite()) && l2 < 1.0, "{l2} {tried:?}");
        let each = Seen { features: vec![0.0, 1.0, 2.0], labels: vec![0, 1, 2] };
        assert_eq!(chosen(&each, 3, &[]), (0.5 / 3.0, Vec::new()));
    }

    #[test]
    fn weights_of_classes_change_the_head_as_repeated_images_do() {
        let (features, labels) = clusters(3, 15, 5, 1.5);
        let compute = Compute::new(1).unwrap();
        let go_on = &mut |_| Ok(Control::Continue);
        let mut head = |seen: &Seen, weights: &[f32], l2| {
            fit(&Team::alone(&compute), seen, (3, weights), Some(l2), go_on).unwrap().unwrap().1
        };
        let seen = Seen { features: features.clone(), labels: labels.clone() };
        let last: Vec<usize> = (0..45).filter(|&i| labels[i] == 2).collect();
        let last = Seen {
            features: last.iter().flat_map(|&i| &features[i * 5..][..5]).copied().collect(),
            labels: vec![2; last.len()],
        };
        let twice = seen.clone().and(last);
        // 45 images and 60: the mean of the loss has another divisor.
        let weighted = head(&seen, &[1.0, 1.0, 2.0], 0.04);
        let repeated = head(&twice, &[], 0.03);
        for (a, b) in weighted.kernel.iter().zip(&repeated.kernel) {
            assert!((a - b).abs() < 2e-3, "{a} {b}");
        }
        assert!((weighted.loss / repeated.loss - 4.0 / 3.0).abs() < 1e-4);
    }
}
