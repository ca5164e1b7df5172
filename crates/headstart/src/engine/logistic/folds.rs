//! Softmax heads by cross-validation over fixed features: what each says of the images that it was not fitted on, for the L2
//! penalty under which their loss is least.

use headstart_kernels::table::Compute;

use super::basis::Basis;
use super::{Examples, LinearHead, Scaler, SolveOptions, check, solve_in};
use crate::control::Control;
use crate::data::split::RandomState;
use crate::error::{Error, Result};
use crate::measure::rank::argmax;

/// Out-of-fold predictions: those of heads for the images that they were not fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// `[images, classes]`, row-major; zeros for images that no fold held out.
    pub probabilities: Vec<f32>,
    /// L2 penalty.
    pub l2: f64,
    /// Mean cross-entropy with the given labels, each image weighted by its class.
    pub loss: f64,
    /// Fraction of images whose most probable class is their label.
    pub accuracy: f64,
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// L2 penalties in the order in which they are tried, up to the first that is not better than the one before by more than
    /// `margin`.
    pub path: &'a [f64],
    /// By how much the loss has to fall.
    pub margin: f64,
    /// Whether each fold's features are standardised by those that its head is fitted on.
    pub standardised: bool,
    /// Tolerance of the fits, as [`SolveOptions::tolerance`].
    pub tolerance: f64,
    /// As [`SolveOptions::iterations`].
    pub iterations: usize,
}

/// A head of a fold was fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    /// Heads fitted so far.
    pub done: usize,
    /// Evaluations of the loss that this one took.
    pub evaluations: usize,
    /// Greatest element of its gradient, without its sign.
    pub gradient: f64,
    /// Whether that is within the tolerance.
    pub converged: bool,
    /// L2 penalty.
    pub l2: f64,
    /// After a penalty's last fold, the loss on the images that were held out.
    pub loss: Option<f64>,
}

/// Gets every head that was fitted; returns whether to continue.
pub(crate) type Watch<'w> = dyn FnMut(Fitted) -> Result<Control> + 'w;

/// Fits a head for each number in `fold`, which has one for each image, on the images of the other numbers; those with a number
/// of `folds` or more are never held out. `None` if `watch` stopped it. The result does not depend on the number of threads.
///
/// # Errors
/// If lengths do not fit each other, no image is held out, or as [`super::solve`].
pub(crate) fn cross_fit(
    compute: &Compute,
    examples: Examples<'_>,
    (fold, folds): (&[usize], usize),
    search: Search<'_>,
    watch: &mut Watch<'_>,
) -> Result<Option<HeldOut>> {
    let Examples { features, width, labels, classes, class_weights } = examples;
    let bad = labels.iter().any(|&label| label >= classes) || fold.len() != labels.len();
    if width == 0 || features.len() != labels.len() * width || bad {
        let found = format!("{} numbers for {} labels", features.len(), labels.len());
        let expected = format!("{width} numbers for each label, labels below {classes}");
        return Err(Error::invalid("features", expected, found, ""));
    }
    let parts = parts(&examples, (fold, folds), search.standardised);
    let mut heads: Vec<Option<LinearHead>> = vec![None; parts.len()];
    let mut best: Option<HeldOut> = None;
    let mut done = 0;
    for &l2 in search.path {
        let mut p = vec![0.0; labels.len() * classes];
        let mut told = Vec::with_capacity(parts.len());
        let Search { tolerance, iterations, .. } = search;
        let options = SolveOptions { l2, tolerance, iterations };
        check(&examples, &options)?;
        // Folds share most of their images, so that one choice of variables suits them all.
        let basis = parts.first().zip(heads.first()).map(|(part, head)| {
            let seen = Examples { features: &part.seen, labels: &part.labels, ..examples };
            Basis::new(compute, &seen, l2, head.as_ref())
        });
        for (part, head) in parts.iter().zip(&mut heads) {
            let seen = Examples { features: &part.seen, labels: &part.labels, ..examples };
            let Some(basis) = &basis else { continue };
            let from = (basis, head.as_ref());
            let solved = solve_in(compute, seen, options, from, &mut |_| Control::Continue)?;
            // Nobody stops it.
            let Some(solved) = solved else { continue };
            let answers = solved.probabilities(compute, &part.held_out);
            for (&i, row) in part.rows.iter().zip(answers.chunks_exact(classes)) {
                p[i * classes..][..classes].copy_from_slice(row);
            }
            done += 1;
            let LinearHead { evaluations, gradient, converged, .. } = solved;
            told.push(Fitted { done, evaluations, gradient, converged, l2, loss: None });
            *head = Some(solved);
            if told.len() < parts.len() && watch(told[told.len() - 1])? == Control::Stop {
                return Ok(None);
            }
        }
        let rows = parts.iter().flat_map(|part| part.rows.iter().copied());
        let Some(held_out) = HeldOut::new(p, l2, rows, (labels, classes, class_weights)) else {
            return Err(Error::invalid("folds", "an image in one of them", "none", ""));
        };
        if let Some(&last) = told.last()
            && watch(Fitted { loss: Some(held_out.loss), ..last })? == Control::Stop
        {
            return Ok(None);
        }
        if best.as_ref().is_some_and(|best| best.loss - search.margin <= held_out.loss) {
            break;
        }
        best = Some(held_out);
    }
    Ok(best)
}

impl HeldOut {
    /// `None` without rows.
    fn new(
        probabilities: Vec<f32>,
        l2: f64,
        rows: impl Iterator<Item = usize>,
        (labels, classes, class_weights): (&[usize], usize, &[f32]),
    ) -> Option<HeldOut> {
        let (mut loss, mut hits, mut count) = (0.0, 0, 0);
        for i in rows {
            let (row, label) = (&probabilities[i * classes..][..classes], labels[i]);
            let weight = class_weights.get(label).map_or(1.0, |&w| f64::from(w));
            loss -= weight * f64::from(row[label].max(f32::MIN_POSITIVE)).ln();
            hits += usize::from(argmax(row) == label);
            count += 1;
        }
        let n = count as f64;
        let (loss, accuracy) = (loss / n, hits as f64 / n);
        (count > 0).then_some(HeldOut { probabilities, l2, loss, accuracy })
    }
}

/// A fold: its images, and the examples that its head is fitted on.
struct Part {
    rows: Vec<usize>,
    held_out: Vec<f32>,
    seen: Vec<f32>,
    labels: Vec<usize>,
}

/// Folds that hold images out, and leave some.
fn parts(
    examples: &Examples<'_>,
    (fold, folds): (&[usize], usize),
    standardised: bool,
) -> Vec<Part> {
    let Examples { features, width, labels, .. } = *examples;
    let part = |number| {
        let (rows, others): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|&i| fold[i] == number);
        if rows.is_empty() || others.is_empty() {
            return None;
        }
        let gather = |rows: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|&i| &features[i * width..][..width]).copied().collect()
        };
        let (mut seen, mut held_out) = (gather(&others), gather(&rows));
        if standardised {
            let scaler = Scaler::new(&seen, width);
            (seen, held_out) = (scaler.apply(&seen), scaler.apply(&held_out));
        }
        let labels = others.iter().map(|&i| labels[i]).collect();
        Some(Part { rows, held_out, seen, labels })
    };
    (0..folds).filter_map(part).collect()
}

/// The fold of every image: each class is shuffled and assigned to folds in turn.
pub(crate) fn assign(labels: &[usize], classes: usize, folds: usize, seed: u32) -> Vec<usize> {
    let mut random = RandomState::new(seed);
    let mut rows = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, &label)| rows[label].push(i));
    let (mut fold, mut next) = (vec![0; labels.len()], 0);
    for class in &mut rows {
        random.shuffle(class);
        for &i in &*class {
            fold[i] = next % folds;
            next += 1;
        }
    }
    fold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logistic::tests::clusters;

    const SEARCH: Search<'_> = Search {
        path: &[1e-2],
        margin: 0.0,
        standardised: false,
        tolerance: 1e-6,
        iterations: 500,
    };

    #[test]
    fn folds_share_classes_evenly_and_follow_from_the_seed() {
        let labels: Vec<usize> = (0..50).map(|i| i % 5).collect();
        let fold = assign(&labels, 5, 5, 1);
        for class in 0..5 {
            for number in 0..5 {
                let both = |&i: &usize| labels[i] == class && fold[i] == number;
                assert_eq!((0..50).filter(both).count(), 2);
            }
        }
        assert_eq!(assign(&labels, 5, 5, 1), fold);
        assert!(assign(&labels, 5, 5, 2) != fold);
    }

    #[test]
    fn answers_are_those_of_heads_fitted_on_the_other_images() {
        let (features, labels) = clusters(3, 20, 4, 1.0);
        let compute = Compute::new(1).unwrap();
        let examples = Examples::new(&features, 4, &labels, 3);
        // The first ten images are never held out.
        let fold: Vec<usize> = (0..60).map(|i| if i < 10 { 2 } else { i % 2 }).collect();
        let mut told = Vec::new();
        let mut watch = |fitted: Fitted| {
            told.push(fitted);
            Ok(Control::Continue)
        };
        let found = cross_fit(&compute, examples, (&fold, 2), SEARCH, &mut watch);
        let found = found.unwrap().unwrap();
        assert_eq!(
            told.iter().map(|f| (f.done, f.loss.is_some())).collect::<Vec<_>>(),
            [(1, false), (2, true)]
        );
        let mut loss = 0.0;
        for number in 0..2 {
            let (held, others): (Vec<usize>, Vec<usize>) =
                (0..60).partition(|&i| fold[i] == number);
            let gather = |rows: &[usize]| -> Vec<f32> {
                rows.iter().flat_map(|&i| &features[i * 4..][..4]).copied().collect()
            };
            let seen = gather(&others);
            let own: Vec<usize> = others.iter().map(|&i| labels[i]).collect();
            let seen = Examples { features: &seen, labels: &own, ..examples };
            let options = SolveOptions { l2: 1e-2, tolerance: 1e-6, iterations: 500 };
            let head = super::super::solve(&compute, seen, options).unwrap();
            let p = head.probabilities(&compute, &gather(&held));
            for (&i, row) in held.iter().zip(p.chunks_exact(3)) {
                let own = &found.probabilities[i * 3..][..3];
                assert!(own.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-4), "{own:?} {row:?}");
                loss -= f64::from(row[labels[i]]).ln();
            }
        }
        assert!((found.loss - loss / 50.0).abs() < 1e-4);
        assert!(found.probabilities[..30].iter().all(|&p| p == 0.0));
        let nobody =
            cross_fit(&compute, examples, (&[2; 60], 2), SEARCH, &mut |_| Ok(Control::Continue));
        assert!(nobody.unwrap_err().to_string().contains("folds"));
    }

    #[test]
    fn the_search_ends_where_the_loss_of_held_out_images_rises() {
        let (features, labels) = clusters(4, 30, 12, 0.5);
        let compute = Compute::new(1).unwrap();
        let examples = Examples::new(&features, 12, &labels, 4);
        let fold = assign(&labels, 4, 5, 1);
        let loss = |path: &[f64]| {
            let search = Search { path, ..SEARCH };
            let go_on = &mut |_| Ok(Control::Continue);
            cross_fit(&compute, examples, (&fold, 5), search, go_on).unwrap().unwrap()
        };
        let path = [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9];
        let each: Vec<f64> = path.iter().map(|&l2| loss(&[l2]).loss).collect();
        let least = (0..8).min_by(|&a, &b| each[a].total_cmp(&each[b])).unwrap();
        assert!(least > 0 && least < 7, "{each:?}");
        let found = loss(&path);
        assert_eq!(found.l2, path[least], "{each:?}");
        assert!((found.loss / each[least] - 1.0).abs() < 1e-3);
    }
}
