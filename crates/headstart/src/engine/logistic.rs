//! Multinomial logistic regression by L-BFGS: a softmax head over fixed features, at its optimum.
//!
//! Minimises `mean cross-entropy + l2 * sum(kernel^2)`, the loss that Keras gives a dense softmax layer with
//! `kernel_regularizer=l2(l2)`; the bias is not penalised. It is strictly convex in the kernel, so there is one
//! solution. L-BFGS (Liu and Nocedal 1989) with the line search of More and Thuente (1994) finds it, in variables in
//! which it takes few steps.
//!
//! ```
//! use headstart::Compute;
//! use headstart::logistic::{Examples, SolveOptions, solve};
//!
//! // One feature per image; class 1 where it is large.
//! let features = [-2.0, -1.5, -1.0, 1.0, 1.5, 2.0];
//! let labels = [0, 0, 0, 1, 1, 1];
//! let examples = Examples::new(&features, 1, &labels, 2);
//! let compute = Compute::new(1)?;
//! let head = solve(&compute, examples, SolveOptions::default())?;
//! assert!(head.converged);
//! assert!(head.probabilities(&compute, &[3.0])[1] > 0.9);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod basis;
pub(crate) mod folds;

use std::cell::RefCell;
use std::sync::Mutex;

use argmin::core::{CostFunction, Executor, Gradient};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use headstart_kernels::linear::{dense, dense_kernel_gradient};
use headstart_kernels::table::Compute;

use crate::control::Control;
use crate::error::{Error, Result};
use basis::Basis;

/// Images whose class scores are in memory at a time.
const BLOCK: usize = 512;
/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;

/// Labelled feature vectors.
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    /// `[images, width]`, row-major.
    pub features: &'a [f32],
    /// Features per image.
    pub width: usize,
    /// Class index of each image.
    pub labels: &'a [usize],
    /// Number of classes.
    pub classes: usize,
    /// How much an image of each class counts in the loss, 0 or more; empty for 1 each. Keras's `class_weight`: the loss is
    /// divided by the number of images, whatever they weigh.
    pub class_weights: &'a [f32],
}

impl<'a> Examples<'a> {
    /// Examples of classes that all count the same.
    pub fn new(
        features: &'a [f32],
        width: usize,
        labels: &'a [usize],
        classes: usize,
    ) -> Examples<'a> {
        Examples { features, width, labels, classes, class_weights: &[] }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SolveOptions {
    /// L2 penalty of the kernel, 0 or more.
    pub l2: f64,
    /// Tolerance: ends when no element of the gradient is further from 0.
    pub tolerance: f64,
    /// Ends after this many steps.
    pub iterations: usize,
}

impl Default for SolveOptions {
    fn default() -> Self {
        SolveOptions { l2: 3e-4, tolerance: 1e-5, iterations: 1000 }
    }
}

/// A head.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearHead {
    /// `[width, classes]`, row-major, as a dense layer's kernel.
    pub kernel: Vec<f32>,
    /// One per class.
    pub bias: Vec<f32>,
    /// The loss, with the penalty.
    pub loss: f64,
    /// Greatest element of the gradient, without its sign.
    pub gradient: f64,
    /// Evaluations of loss and gradient.
    pub evaluations: usize,
    /// Whether the gradient came within the tolerance.
    pub converged: bool,
}

impl LinearHead {
    /// Class probabilities, `[images, classes]`, of features, `[images, width]`.
    pub fn probabilities(&self, compute: &Compute, features: &[f32]) -> Vec<f32> {
        self.rows(compute, features, softmax)
    }

    /// The same before the softmax.
    pub fn logits(&self, compute: &Compute, features: &[f32]) -> Vec<f32> {
        self.rows(compute, features, |_| ())
    }

    /// Class scores, each row as `finish` changes it.
    fn rows(&self, compute: &Compute, features: &[f32], finish: fn(&mut [f64])) -> Vec<f32> {
        let classes = self.bias.len();
        let width = (self.kernel.len() / classes.max(1)).max(1);
        let [kernel, bias] = self.wide();
        let mut p = Vec::with_capacity(features.len() / width * classes);
        let mut rows = Vec::new();
        for features in features.chunks(BLOCK * width) {
            rows.resize(features.len() / width * classes, 0.0);
            dense(compute, features, &kernel, &bias, &mut rows);
            rows.chunks_exact_mut(classes).for_each(finish);
            p.extend(rows.iter().map(|&v| v as f32));
        }
        p
    }

    /// Kernel and bias in the solver's variables.
    fn wide(&self) -> [Vec<f64>; 2] {
        [&self.kernel, &self.bias].map(|values| values.iter().map(|&v| f64::from(v)).collect())
    }
}

/// Fits the head of least loss. The result does not depend on the number of threads.
///
/// # Errors
/// If lengths do not fit each other, there are no examples, a feature is not a finite number, or an
/// option is out of range.
pub fn solve(
    compute: &Compute,
    examples: Examples<'_>,
    options: SolveOptions,
) -> Result<LinearHead> {
    let stopped = || Error::invalid("solver", "a head", "none", "");
    solve_from(compute, examples, options, None, &mut |_| Control::Continue)?.ok_or_else(stopped)
}

/// Progress of a fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solving {
    /// Evaluations of loss and gradient so far.
    pub evaluations: usize,
    /// Greatest element of the gradient at the best point so far, without its sign.
    pub gradient: f64,
    /// Progress from 0 to 1: from the first gradient to the tolerance, by orders of magnitude.
    pub fraction: f64,
}

/// As [`solve`], starting from `start`, which may be close. `watch` is called for every evaluation and may stop the
/// fit: then there is no head.
///
/// # Errors
/// As [`solve`], and if `start` is of other sizes.
pub fn solve_from(
    compute: &Compute,
    examples: Examples<'_>,
    options: SolveOptions,
    start: Option<&LinearHead>,
    watch: &mut dyn FnMut(Solving) -> Control,
) -> Result<Option<LinearHead>> {
    check(&examples, &options)?;
    let basis = Basis::new(compute, &examples, options.l2, start);
    solve_in(compute, examples, options, (&basis, start), watch)
}

/// As [`solve_from`] of examples that were [checked](check), in variables that may be those of others of the same kind.
fn solve_in(
    compute: &Compute,
    examples: Examples<'_>,
    options: SolveOptions,
    (basis, start): (&Basis, Option<&LinearHead>),
    watch: &mut dyn FnMut(Solving) -> Control,
) -> Result<Option<LinearHead>> {
    let SolveOptions { l2, tolerance, iterations } = options;
    let Examples { width, classes, .. } = examples;
    let size = (width + 1) * classes;
    let from = start.map_or(vec![0.0; size], |head| head.wide().concat());
    if from.len() != size {
        return Err(Error::invalid("start", size.to_string(), from.len().to_string(), ""));
    }
    let memo = &Mutex::new(Memo::default());
    let watch = &RefCell::new(watch);
    let problem = Problem { compute, examples, l2, tolerance, basis, memo, watch };
    let first = basis.values(&from);
    problem.at(&first);
    let outcome = || -> std::result::Result<(), argmin::core::Error> {
        let search = MoreThuenteLineSearch::new().with_c(1e-4, 0.9)?;
        // The problem itself ends the search when it has converged.
        let solver = LBFGS::new(search, MEMORY).with_tolerance_grad(0.0)?;
        let solver = solver.with_tolerance_cost(0.0)?;
        let configure = |state: argmin::core::IterState<_, _, (), (), (), f64>| {
            state.param(first.clone()).max_iters(iterations as u64)
        };
        Executor::new(problem, solver).configure(configure).ctrlc(false).run()?;
        Ok(())
    };
    // A line search that finds no better point ends at the best one so far, whose gradient says how good it is.
    let _ = outcome();
    let memo = memo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Memo { ref best, evaluations, stopped, .. } = *memo;
    if stopped {
        return Ok(None);
    }
    let to_f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
    let (kernel, bias) = best.head.split_at(width * classes);
    let gradient = best.steepest;
    Ok(Some(LinearHead {
        kernel: to_f32(kernel),
        bias: to_f32(bias),
        loss: best.loss,
        gradient,
        evaluations,
        converged: gradient <= tolerance,
    }))
}

fn check(examples: &Examples<'_>, options: &SolveOptions) -> Result<()> {
    let Examples { features, width, labels, classes, class_weights } = *examples;
    let bad =
        |what: &str, expected: &str, found: String| Err(Error::invalid(what, expected, found, ""));
    if width == 0 || labels.is_empty() || features.len() != labels.len() * width {
        let found = format!("{} numbers for {} rows of {width}", features.len(), labels.len());
        return bad("features", "a row of numbers for each label, at least one", found);
    }
    if let Some(label) = labels.iter().find(|&&l| l >= classes) {
        return bad("label", &format!("below {classes}"), label.to_string());
    }
    let weighs = |w: &f32| w.is_finite() && *w >= 0.0;
    if !class_weights.is_empty() && class_weights.len() != classes
        || !class_weights.iter().all(weighs)
    {
        let expected = format!("{classes} numbers of 0 or more, or none");
        return bad("class weights", &expected, format!("{class_weights:?}"));
    }
    if features.iter().any(|v| !v.is_finite()) {
        return bad("features", "finite numbers", "others".into());
    }
    if !(options.l2 >= 0.0 && options.l2.is_finite() && options.tolerance > 0.0) {
        let found = format!("l2 {}, tolerance {}", options.l2, options.tolerance);
        return bad("solver options", "l2 of 0 or more, a positive tolerance", found);
    }
    Ok(())
}

/// Loss and gradient at a point.
#[derive(Clone, Debug, Default)]
struct Point {
    /// Its values in the basis.
    at: Vec<f64>,
    /// The head that they describe.
    head: Vec<f64>,
    loss: f64,
    /// Gradient by the values.
    gradient: Vec<f64>,
    /// Greatest element of the gradient by the head's weights, without its sign.
    steepest: f64,
}

#[derive(Debug, Default)]
struct Memo {
    last: Point,
    best: Point,
    evaluations: usize,
    /// Greatest element of the first point's gradient.
    first: f64,
    /// Whether the caller stopped it.
    stopped: bool,
}

struct Problem<'a, 'w> {
    compute: &'a Compute,
    examples: Examples<'a>,
    l2: f64,
    tolerance: f64,
    basis: &'a Basis,
    /// The last point: the search asks for its loss and its gradient one after the other.
    memo: &'a Mutex<Memo>,
    watch: &'a RefCell<&'w mut dyn FnMut(Solving) -> Control>,
}

/// Ends the search.
#[derive(Debug)]
struct Solved;

impl std::error::Error for Solved {}

impl std::fmt::Display for Solved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("converged")
    }
}

impl Problem<'_, '_> {
    /// Loss and gradient at `at`; none after convergence, or if the caller stopped it.
    fn at(&self, at: &[f64]) -> Option<Point> {
        let mut memo = self.memo.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if memo.last.at != at {
            if memo.stopped || memo.evaluations > 0 && memo.best.steepest <= self.tolerance {
                return None;
            }
            let head = self.basis.head(self.compute, at);
            let (loss, by_head) = self.evaluate(&head);
            // `max` passes over what is not a number.
            let finite = loss.is_finite() && by_head.iter().all(|g| g.is_finite());
            let steepest = by_head.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
            let steepest = if finite { steepest } else { f64::INFINITY };
            let gradient = self.basis.gradient(self.compute, &by_head);
            memo.last = Point { at: at.to_vec(), head, loss, gradient, steepest };
            memo.evaluations += 1;
            let first = memo.best.at.is_empty();
            if first {
                memo.first = steepest;
            }
            if first || loss <= memo.best.loss || steepest <= self.tolerance {
                memo.best = memo.last.clone();
            }
            memo.stopped = self.tell(&memo) == Control::Stop;
        }
        Some(memo.last.clone())
    }

    /// Reports progress.
    fn tell(&self, memo: &Memo) -> Control {
        let gradient = memo.best.steepest;
        let fraction = (memo.first / gradient).ln() / (memo.first / self.tolerance).ln();
        let fraction = match gradient <= self.tolerance {
            true => 1.0,
            false if fraction.is_finite() => fraction.clamp(0.0, 1.0),
            false => 0.0,
        };
        let solving = Solving { evaluations: memo.evaluations, gradient, fraction };
        match self.watch.try_borrow_mut() {
            Ok(mut watch) => (*watch)(solving),
            Err(_) => Control::Continue,
        }
    }

    /// Loss and gradient of a head: the kernel, then the bias.
    fn evaluate(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let Examples { features, width, labels, classes, class_weights } = self.examples;
        let (kernel, bias) = at.split_at(width * classes);
        let mut gradient = vec![0.0; at.len()];
        let (by_kernel, by_bias) = gradient.split_at_mut(width * classes);
        let (mut loss, mut rows) = (0.0, Vec::new());
        let scale = 1.0 / labels.len() as f64;
        for (features, labels) in features.chunks(BLOCK * width).zip(labels.chunks(BLOCK)) {
            // Scores of each image, then the gradient of its loss by them.
            rows.resize(labels.len() * classes, 0.0);
            dense(self.compute, features, kernel, bias, &mut rows);
            for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
                softmax(row);
                let lost = row[label].max(f64::MIN_POSITIVE).ln();
                row[label] -= 1.0;
                match class_weights.get(label) {
                    None => loss -= lost,
                    Some(&weight) => {
                        let weight = f64::from(weight);
                        loss -= weight * lost;
                        row.iter_mut().for_each(|v| *v *= weight);
                    }
                }
            }
            dense_kernel_gradient(self.compute, features, &rows, classes, by_kernel);
            for row in rows.chunks_exact(classes) {
                by_bias.iter_mut().zip(row).for_each(|(g, d)| *g += d);
            }
        }
        by_bias.iter_mut().for_each(|g| *g *= scale);
        let mut squares = 0.0;
        for (g, w) in by_kernel.iter_mut().zip(kernel) {
            *g = *g * scale + 2.0 * self.l2 * w;
            squares += w * w;
        }
        (loss * scale + self.l2 * squares, gradient)
    }
}

impl CostFunction for Problem<'_, '_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Vec<f64>) -> std::result::Result<f64, argmin::core::Error> {
        Ok(self.at(at).ok_or(Solved)?.loss)
    }
}

impl Gradient for Problem<'_, '_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, at: &Vec<f64>) -> std::result::Result<Vec<f64>, argmin::core::Error> {
        Ok(self.at(at).ok_or(Solved)?.gradient)
    }
}

fn softmax(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

/// Mean and standard deviation of each feature, to standardise features.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    mean: Vec<f32>,
    factor: Vec<f32>,
}

impl Scaler {
    /// The scaler of features, `[images, width]`. A constant feature becomes 0.
    pub fn new(features: &[f32], width: usize) -> Scaler {
        let count = (features.len() / width.max(1)).max(1) as f64;
        let (mut mean, mut squares) = (vec![0.0f64; width], vec![0.0f64; width]);
        for row in features.chunks_exact(width.max(1)) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / count);
        }
        for row in features.chunks_exact(width.max(1)) {
            let sums = squares.iter_mut().zip(&mean).zip(row);
            sums.for_each(|((s, m), &x)| *s += (f64::from(x) - m).powi(2) / count);
        }
        let factor = squares.iter().map(|s| if *s > 1e-12 { s.sqrt().recip() as f32 } else { 0.0 });
        Scaler { factor: factor.collect(), mean: mean.iter().map(|&m| m as f32).collect() }
    }

    /// Scales features.
    pub fn apply(&self, features: &[f32]) -> Vec<f32> {
        let mut scaled = features.to_vec();
        for row in scaled.chunks_exact_mut(self.mean.len().max(1)) {
            let with = row.iter_mut().zip(&self.mean).zip(&self.factor);
            with.for_each(|((x, m), f)| *x = (*x - m) * f);
        }
        scaled
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::data::split::RandomState;

    /// Points around one centre a class, `each` a class, in turn.
    pub(crate) fn clusters(
        classes: usize,
        each: usize,
        width: usize,
        spread: f32,
    ) -> (Vec<f32>, Vec<usize>) {
        let mut random = RandomState::new(7);
        let centres: Vec<f32> = (0..classes * width).map(|_| random.unit()).collect();
        let labels: Vec<usize> = (0..classes * each).map(|i| i % classes).collect();
        let mut features = Vec::new();
        for &label in &labels {
            for centre in &centres[label * width..][..width] {
                // Sum of four uniform numbers: near enough to normal.
                let noise: f32 = (0..4).map(|_| random.unit() - 0.5).sum();
                features.push(centre + spread * noise);
            }
        }
        (features, labels)
    }

    #[test]
    fn the_solution_has_no_slope_and_does_not_depend_on_threads() {
        let (features, labels) = clusters(4, 60, 12, 0.6);
        let examples = Examples::new(&features, 12, &labels, 4);
        let options = SolveOptions { l2: 1e-3, tolerance: 1e-7, iterations: 500 };
        let head = solve(&Compute::new(1).unwrap(), examples, options).unwrap();
        assert!(head.converged && head.gradient <= 1e-7, "{}", head.gradient);
        assert_eq!(solve(&Compute::new(3).unwrap(), examples, options).unwrap(), head);
        // Any step away costs: the loss is convex and this is its least.
        let memo = Mutex::default();
        let compute = Compute::new(1).unwrap();
        let basis = Basis::new(&compute, &examples, 1e-3, None);
        let (basis, memo) = (&basis, &memo);
        let silent: &mut dyn FnMut(Solving) -> Control = &mut |_| Control::Continue;
        let (watch, compute) = (&RefCell::new(silent), &compute);
        let problem = Problem { compute, examples, l2: 1e-3, tolerance: 1e-7, basis, memo, watch };
        let mut at: Vec<f64> =
            head.kernel.iter().chain(&head.bias).map(|&v| f64::from(v)).collect();
        for i in [0, 17, 40, 50] {
            for step in [-0.05, 0.05] {
                at[i] += step;
                assert!(problem.evaluate(&at).0 > head.loss, "{i} {step}");
                at[i] -= step;
            }
        }
        let p = head.probabilities(compute, &features);
        let hits =
            p.chunks_exact(4).zip(&labels).filter(|(p, l)| crate::measure::rank::argmax(p) == **l);
        assert!(hits.count() > 200);
    }

    #[test]
    fn the_gradient_is_the_numeric_derivative() {
        let (features, labels) = clusters(3, 10, 5, 1.0);
        let examples = Examples::new(&features, 5, &labels, 3);
        let (compute, memo) = (Compute::new(1).unwrap(), Mutex::default());
        let basis = Basis::new(&compute, &examples, 0.1, None);
        let (basis, memo) = (&basis, &memo);
        let silent: &mut dyn FnMut(Solving) -> Control = &mut |_| Control::Continue;
        let (watch, compute) = (&RefCell::new(silent), &compute);
        let problem = Problem { compute, examples, l2: 0.1, tolerance: 1e-9, basis, memo, watch };
        let at: Vec<f64> = (0..18).map(|i| (i as f64 * 0.7).sin()).collect();
        let gradient = problem.evaluate(&at).1;
        for i in 0..18 {
            let moved = |by: f64| {
                let mut at = at.clone();
                at[i] += by;
                problem.evaluate(&at).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - gradient[i]).abs() <= 1e-8, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn the_way_is_told_and_can_be_left() {
        let (features, labels) = clusters(3, 40, 8, 0.8);
        let examples = Examples::new(&features, 8, &labels, 3);
        let compute = Compute::new(1).unwrap();
        let (options, mut told) = (SolveOptions::default(), Vec::new());
        let mut go_on = |solving: Solving| {
            told.push(solving);
            Control::Continue
        };
        let head = solve_from(&compute, examples, options, None, &mut go_on).unwrap().unwrap();
        assert_eq!(head, solve(&compute, examples, options).unwrap());
        assert!(told.iter().map(|s| s.evaluations).eq(1..=head.evaluations));
        assert!(told[0].fraction == 0.0 && told.iter().all(|s| (0.0..=1.0).contains(&s.fraction)));
        let last = told[told.len() - 1];
        assert!(last.fraction == 1.0 && last.gradient == head.gradient);
        let mut stop = |solving: Solving| match solving.evaluations < 3 {
            true => Control::Continue,
            false => Control::Stop,
        };
        assert_eq!(solve_from(&compute, examples, options, None, &mut stop).unwrap(), None);
    }

    #[test]
    fn features_that_do_not_vary_have_a_head_without_a_penalty() {
        // All that there is to learn is how frequent the classes are.
        let features = vec![3.7; 40 * 5];
        let labels: Vec<usize> = (0..40).map(|i| i % 4).collect();
        let examples = Examples::new(&features, 5, &labels, 4);
        for l2 in [0.0, 1e-9, 1e6] {
            let options = SolveOptions { l2, ..SolveOptions::default() };
            let head = solve(&Compute::new(1).unwrap(), examples, options).unwrap();
            assert!(head.converged && (head.loss - 4f64.ln()).abs() < 1e-6, "{l2}: {head:?}");
            assert!(head.kernel.iter().all(|v| v.abs() < 1e3), "{l2}: {head:?}");
        }
    }

    #[test]
    fn what_cannot_be_learned_from_is_an_error() {
        let compute = Compute::new(1).unwrap();
        let features = [1.0, 2.0, 3.0, f32::NAN];
        let labels = [0, 1];
        let good = Examples::new(&features[..2], 1, &labels, 2);
        let with = |examples| solve(&compute, examples, SolveOptions::default());
        assert!(with(good).is_ok());
        assert!(with(Examples { features: &features[2..], ..good }).is_err());
        assert!(with(Examples { width: 2, ..good }).is_err());
        assert!(with(Examples { classes: 1, ..good }).is_err());
        assert!(with(Examples { labels: &[], features: &[], ..good }).is_err());
        let options = SolveOptions { l2: f64::NAN, ..SolveOptions::default() };
        assert!(solve(&compute, good, options).is_err());
    }

    #[test]
    fn scaled_features_have_mean_zero_and_deviation_one() {
        let scaled = Scaler::new(&[1.0, 5.0, 3.0, 5.0], 2).apply(&[1.0, 5.0, 3.0, 5.0]);
        assert_eq!(scaled, [-1.0, 0.0, 1.0, 0.0]);
    }
}
