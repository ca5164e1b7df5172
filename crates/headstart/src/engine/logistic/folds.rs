//! Softmax heads by cross-validation over fixed features: what each says of the images that it was not fitted on, for the L2
//! penalty under which their loss is least.

use std::ops::Range;

use super::curvature::Curvature;
use super::team::Team;
use super::together::{Member, Problem, softmax};
use super::{Examples, LinearHead, Scaler, SolveOptions, Solving, check, curvature_of, solve_near};
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
    /// The same, from the first one of `path` on, where that one is the best of it.
    pub beyond: &'a [f64],
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

/// What a search found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What the best heads say of the images that they were not fitted on.
    pub held_out: HeldOut,
    /// The mean of their kernels and biases; over standardised features where these were.
    near: LinearHead,
    curvature: Curvature,
}

impl Found {
    /// The head of all images, of which the found ones are close, for the penalty that was found; `None` if `watch` stopped it.
    ///
    /// # Errors
    /// As [`super::solve_from`].
    pub fn fit(
        &self,
        team: &Team<'_>,
        examples: Examples<'_>,
        options: SolveOptions,
        watch: &mut dyn FnMut(Solving) -> Control,
    ) -> Result<Option<LinearHead>> {
        let near = (Some(&self.near), Some(&self.curvature));
        solve_near(team, examples, options, near, watch)
    }
}

/// By how much the penalty may differ from that of the curvature.
const NEAR: f64 = 10.5;

/// Fits a head for each number in `fold`, which has one for each image, on the images of the other numbers; those with a number
/// of `folds` or more are never held out. `None` if `watch` stopped it. The result does not depend on the number of threads.
///
/// # Errors
/// If lengths do not fit each other, no image is held out, or as [`super::solve`].
pub(crate) fn cross_fit(
    team: &Team<'_>,
    examples: Examples<'_>,
    (fold, folds): (&[usize], usize),
    search: Search<'_>,
    watch: &mut Watch<'_>,
) -> Result<Option<Found>> {
    let Examples { features, width, labels, classes, .. } = examples;
    let bad = labels.iter().any(|&label| label >= classes) || fold.len() != labels.len();
    if width == 0 || features.len() != labels.len() * width || bad {
        let found = format!("{} numbers for {} labels", features.len(), labels.len());
        let expected = format!("{width} numbers for each label, labels below {classes}");
        return Err(Error::invalid("features", expected, found, ""));
    }
    let (members, rows) = members(&examples, (fold, folds), search.standardised);
    if members.is_empty() {
        return Err(Error::invalid("folds", "an image in one of them", "none", ""));
    }
    let mut fits = Fits { members, rows, scores: Vec::new(), curvature: None, done: 0 };
    let mut best: Option<Found> = None;
    for path in [search.path, search.beyond] {
        if best.as_ref().is_some_and(|best| Some(&best.held_out.l2) != search.path.first()) {
            break;
        }
        for &l2 in path {
            let Some(found) = fits.fit(team, examples, search, l2, watch)? else {
                return Ok(None);
            };
            let loss = found.held_out.loss;
            if best.as_ref().is_some_and(|best| best.held_out.loss - search.margin <= loss) {
                break;
            }
            best = Some(found);
        }
    }
    Ok(best)
}

/// The heads of all folds on their way from one penalty to the next.
struct Fits {
    members: Vec<Member>,
    /// The images that each one is not fitted on.
    rows: Vec<Vec<usize>>,
    /// As [`Problem::minimise`] leaves them.
    scores: Vec<f64>,
    curvature: Option<Curvature>,
    done: usize,
}

impl Fits {
    /// Fits the heads for a penalty; `None` if `watch` stopped it.
    fn fit(
        &mut self,
        team: &Team<'_>,
        examples: Examples<'_>,
        search: Search<'_>,
        l2: f64,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Found>> {
        let Fits { members, rows, scores, curvature, done } = self;
        let Examples { labels, classes, class_weights, .. } = examples;
        let Search { tolerance, iterations, .. } = search;
        let options = SolveOptions { l2, tolerance, iterations };
        check(&examples, &options)?;
        let row = members.len() * classes;
        // Folds share most of their images, and a penalty some times as strong changes little: one curvature suits all.
        let near = |c: &Curvature| l2 <= c.l2 * NEAR && c.l2 <= l2 * NEAR;
        let curvature = match curvature.take().filter(near) {
            Some(near) => curvature.insert(near),
            None => {
                let all =
                    || (0..labels.len()).flat_map(|i| probabilities(scores, row, i, 0..classes));
                let p: Option<Vec<f32>> = (*done > 0).then(|| all().collect());
                let first = &members[0];
                curvature.insert(curvature_of(team, examples, first, p.as_deref(), l2))
            }
        };
        let problem = Problem { team, examples, options, curvature };
        // Nobody stops it.
        let _ = problem.minimise(members, scores, &mut |_| Control::Continue);
        team.check()?;
        let mut p = vec![0.0; labels.len() * classes];
        for (m, rows) in rows.iter().enumerate() {
            for &i in rows {
                let own = probabilities(scores, row, i, m * classes..(m + 1) * classes);
                p[i * classes..][..classes].iter_mut().zip(own).for_each(|(p, own)| *p = own);
            }
        }
        let all = rows.iter().flatten().copied();
        let Some(held_out) = HeldOut::new(p, l2, all, (labels, classes, class_weights)) else {
            return Err(Error::invalid("folds", "an image in one of them", "none", ""));
        };
        let last = members.len();
        for (m, member) in members.iter().enumerate() {
            *done += 1;
            let Member { evaluations, steepest: gradient, .. } = *member;
            let fitted = Fitted {
                done: *done,
                evaluations,
                gradient,
                converged: gradient <= tolerance,
                l2,
                loss: (m + 1 == last).then_some(held_out.loss),
            };
            if watch(fitted)? == Control::Stop {
                return Ok(None);
            }
        }
        let near = LinearHead::mean(members, &options, classes);
        Ok(Some(Found { held_out, near, curvature: curvature.clone() }))
    }
}

/// Class probabilities of image `i`, of the `columns` that are a head's in its row of scores.
fn probabilities(scores: &[f64], row: usize, i: usize, columns: Range<usize>) -> Vec<f32> {
    let mut p = scores[i * row..][columns].to_vec();
    softmax(&mut p);
    p.into_iter().map(|p| p as f32).collect()
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

/// A head for each fold that holds images out, and leaves some; and the images that it holds out.
fn members(
    examples: &Examples<'_>,
    (fold, folds): (&[usize], usize),
    standardised: bool,
) -> (Vec<Member>, Vec<Vec<usize>>) {
    let Examples { features, width, labels, classes, .. } = *examples;
    let member = |number| {
        let (rows, others): (Vec<usize>, Vec<usize>) =
            (0..labels.len()).partition(|&i| fold[i] == number);
        if rows.is_empty() || others.is_empty() {
            return None;
        }
        let scaler = standardised.then(|| {
            let seen = others.iter().flat_map(|&i| &features[i * width..][..width]);
            Scaler::new(&seen.copied().collect::<Vec<f32>>(), width)
        });
        let seen = fold.iter().map(|&of| of != number).collect();
        Some((Member::new(seen, scaler, vec![0.0; (width + 1) * classes]), rows))
    };
    (0..folds).filter_map(member).unzip()
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
    use headstart_kernels::table::Compute;

    use super::*;
    use crate::engine::logistic::tests::clusters;

    const SEARCH: Search<'_> = Search {
        path: &[1e-2],
        beyond: &[],
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
        let found = cross_fit(&Team::alone(&compute), examples, (&fold, 2), SEARCH, &mut watch);
        let found = found.unwrap().unwrap().held_out;
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
            cross_fit(&Team::alone(&compute), examples, (&[2; 60], 2), SEARCH, &mut |_| {
                Ok(Control::Continue)
            });
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
            cross_fit(&Team::alone(&compute), examples, (&fold, 5), search, go_on)
                .unwrap()
                .unwrap()
                .held_out
        };
        let path = [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9];
        let each: Vec<f64> = path.iter().map(|&l2| loss(&[l2]).loss).collect();
        let least = (0..8).min_by(|&a, &b| each[a].total_cmp(&each[b])).unwrap();
        assert!(least > 0 && least < 7, "{each:?}");
        let found = loss(&path);
        assert_eq!(found.l2, path[least], "{each:?}");
        assert!((found.loss / each[least] - 1.0).abs() < 1e-3);
    }

    #[test]
    fn standardised_folds_are_those_of_features_that_are_scaled_by_hand() {
        let (features, labels) = clusters(3, 20, 4, 1.0);
        let features: Vec<f32> = features
            .iter()
            .enumerate()
            .map(|(i, x)| 3.0 + x * [1.0, 5.0, 0.2, 2.0][i % 4])
            .collect();
        let compute = Compute::new(1).unwrap();
        let examples = Examples::new(&features, 4, &labels, 3);
        let fold = assign(&labels, 3, 3, 1);
        let search = Search { standardised: true, ..SEARCH };
        let go_on = &mut |_| Ok(Control::Continue);
        let found = cross_fit(&Team::alone(&compute), examples, (&fold, 3), search, go_on)
            .unwrap()
            .unwrap();
        let (held, others): (Vec<usize>, Vec<usize>) = (0..60).partition(|&i| fold[i] == 1);
        let gather = |rows: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|&i| &features[i * 4..][..4]).copied().collect()
        };
        let scaler = Scaler::new(&gather(&others), 4);
        let own: Vec<usize> = others.iter().map(|&i| labels[i]).collect();
        let seen = scaler.apply(&gather(&others));
        let seen = Examples { features: &seen, labels: &own, ..examples };
        let options = SolveOptions { l2: 1e-2, tolerance: 1e-6, iterations: 500 };
        let head = super::super::solve(&compute, seen, options).unwrap();
        let p = head.probabilities(&compute, &scaler.apply(&gather(&held)));
        for (&i, row) in held.iter().zip(p.chunks_exact(3)) {
            let own = &found.held_out.probabilities[i * 3..][..3];
            assert!(own.iter().zip(row).all(|(a, b)| (a - b).abs() < 1e-4), "{own:?} {row:?}");
        }
    }

    #[test]
    fn no_penalty_is_fitted_twice_and_the_head_of_all_images_is_near_those_of_folds() {
        let (features, labels) = clusters(4, 30, 12, 2.0);
        let features: Vec<f32> = features.iter().map(|x| 30.0 * x).collect();
        let compute = Compute::new(1).unwrap();
        let examples = Examples::new(&features, 12, &labels, 4);
        let fold = assign(&labels, 4, 5, 1);
        let (path, beyond) = (&[1.0, 0.3, 0.1][..], &[3.0, 10.0, 30.0, 100.0, 300.0][..]);
        let search = Search { path, beyond, margin: 1e-3, ..SEARCH };
        let mut tried = Vec::new();
        let mut watch = |fitted: Fitted| {
            tried.extend(fitted.loss.map(|loss| (fitted.l2, loss)));
            Ok(Control::Continue)
        };
        let found = cross_fit(&Team::alone(&compute), examples, (&fold, 5), search, &mut watch)
            .unwrap()
            .unwrap();
        let mut each: Vec<f64> = tried.iter().map(|tried| tried.0).collect();
        each.sort_by(f64::total_cmp);
        each.dedup();
        assert_eq!(each.len(), tried.len(), "{tried:?}");
        assert!(found.held_out.l2 > 1.0, "{tried:?}");
        let options = SolveOptions { l2: found.held_out.l2, tolerance: 1e-7, iterations: 500 };
        let both = |options| {
            let near =
                found.fit(&Team::alone(&compute), examples, options, &mut |_| Control::Continue);
            let far = super::super::solve(&compute, examples, options);
            (near.unwrap().unwrap(), far.unwrap())
        };
        let (near, far) = both(SolveOptions { tolerance: 1e-2, ..options });
        assert!(near.converged && near.evaluations < far.evaluations, "{near:?} {far:?}");
        let (near, far) = both(options);
        assert!(near.kernel.iter().zip(&far.kernel).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
