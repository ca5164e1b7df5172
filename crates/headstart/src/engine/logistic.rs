//! Multinomial logistic regression by L-BFGS: a softmax head over fixed features, at its optimum.
//!
//! Minimises `mean cross-entropy + l2 * sum(kernel^2)`, the loss that Keras gives a dense softmax layer with
//! `kernel_regularizer=l2(l2)`; the bias is not penalised. It is strictly convex in the kernel, so there is one
//! solution. L-BFGS finds it (`together`), several heads at once where they are over the same features (`folds`).
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

mod curvature;
pub(crate) mod folds;
mod line;
pub(crate) mod team;
mod together;

use headstart_kernels::linear::dense;
use headstart_kernels::table::Compute;

use crate::control::Control;
use crate::error::{Error, Result};
use curvature::{Curvature, Sample};
use team::Team;
use together::{Member, Problem, softmax};

/// Images whose class scores are in memory at a time.
const BLOCK: usize = 512;

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
        self.rows(compute, features, |row| {
            softmax(row);
        })
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

    /// What a member has come to.
    fn of(member: &Member, options: &SolveOptions, classes: usize) -> LinearHead {
        let (kernel, bias) = member.head.split_at(member.head.len() - classes);
        let to_f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        LinearHead {
            kernel: to_f32(kernel),
            bias: to_f32(bias),
            loss: member.loss,
            gradient: member.steepest,
            evaluations: member.evaluations,
            converged: member.steepest <= options.tolerance,
        }
    }

    /// The mean of members' kernels and biases.
    fn mean(members: &[Member], options: &SolveOptions, classes: usize) -> LinearHead {
        let mut mean = members[0].clone();
        for (k, to) in mean.head.iter_mut().enumerate() {
            *to = members.iter().map(|m| m.head[k]).sum::<f64>() / members.len() as f64;
        }
        LinearHead::of(&mean, options, classes)
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
    solve_among(&Team::alone(compute), examples, options, start, watch)
}

/// The same, where products are computed by a team.
pub(crate) fn solve_among(
    team: &Team<'_>,
    examples: Examples<'_>,
    options: SolveOptions,
    start: Option<&LinearHead>,
    watch: &mut dyn FnMut(Solving) -> Control,
) -> Result<Option<LinearHead>> {
    solve_near(team, examples, options, (start, None), watch)
}

/// As [`solve_from`], with a curvature of much the same images, if there is one.
fn solve_near(
    team: &Team<'_>,
    examples: Examples<'_>,
    options: SolveOptions,
    (start, curvature): (Option<&LinearHead>, Option<&Curvature>),
    watch: &mut dyn FnMut(Solving) -> Control,
) -> Result<Option<LinearHead>> {
    check(&examples, &options)?;
    let Examples { width, classes, labels, .. } = examples;
    let size = (width + 1) * classes;
    let from = start.map_or(vec![0.0; size], |head| head.wide().concat());
    if from.len() != size {
        return Err(Error::invalid("start", size.to_string(), from.len().to_string(), ""));
    }
    let member = &mut [Member::new(vec![true; labels.len()], None, from)];
    let own;
    let curvature = match curvature {
        Some(curvature) => curvature,
        None => {
            let p = start.map(|head| head.probabilities(team.compute, examples.features));
            own = curvature_of(team, examples, &member[0], p.as_deref(), options.l2);
            &own
        }
    };
    let problem = Problem { team, examples, options, curvature };
    let control = problem.minimise(member, &mut Vec::new(), watch);
    team.check()?;
    if control == Control::Stop {
        return Ok(None);
    }
    Ok(Some(LinearHead::of(&member[0], &options, classes)))
}

/// The curvature for the images of a member, where the probabilities of all images are `p`, if they are known.
fn curvature_of(
    team: &Team<'_>,
    examples: Examples<'_>,
    member: &Member,
    p: Option<&[f32]>,
    l2: f64,
) -> Curvature {
    let Examples { features, width, labels, classes, class_weights } = examples;
    let likely = 1.0 / classes as f64;
    let weight = &|i: usize| {
        let curve = match p {
            Some(p) => {
                let row = &p[i * classes..][..classes];
                likely * row.iter().map(|&p| f64::from(p * (1.0 - p))).sum::<f64>()
            }
            None => likely * (1.0 - likely),
        };
        curve * class_weights.get(labels[i]).map_or(1.0, |&w| f64::from(w))
    };
    let sample = Sample { features, width, rows: &member.rows(), scaler: member.scaler(), weight };
    Curvature::new(team, &sample, l2)
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
        let at: Vec<f64> = head.kernel.iter().chain(&head.bias).map(|&v| f64::from(v)).collect();
        assert!((loss(&examples, &at, 1e-3) - head.loss).abs() < 1e-9);
        for i in [0, 17, 40, 50] {
            for step in [-0.05, 0.05] {
                let mut moved = at.clone();
                moved[i] += step;
                assert!(loss(&examples, &moved, 1e-3) > head.loss, "{i} {step}");
            }
        }
        let compute = &Compute::new(1).unwrap();
        let p = head.probabilities(compute, &features);
        let hits =
            p.chunks_exact(4).zip(&labels).filter(|(p, l)| crate::measure::rank::argmax(p) == **l);
        assert!(hits.count() > 200);
    }

    /// The loss of a head by its definition, with class weights and penalty.
    fn loss(examples: &Examples<'_>, head: &[f64], l2: f64) -> f64 {
        let Examples { features, width, labels, classes, class_weights } = *examples;
        let (kernel, bias) = head.split_at(width * classes);
        let score = |i: usize, k: usize| {
            let row = &features[i * width..][..width];
            bias[k]
                + row
                    .iter()
                    .enumerate()
                    .map(|(j, &x)| f64::from(x) * kernel[j * classes + k])
                    .sum::<f64>()
        };
        let of = |(i, &label): (usize, &usize)| {
            let sum: f64 = (0..classes).map(|k| score(i, k).exp()).sum();
            let weight = class_weights.get(label).map_or(1.0, |&w| f64::from(w));
            weight * (sum.ln() - score(i, label))
        };
        let squares: f64 = kernel.iter().map(|w| w * w).sum();
        labels.iter().enumerate().map(of).sum::<f64>() / labels.len() as f64 + l2 * squares
    }

    #[test]
    fn the_numeric_derivative_is_zero_at_the_solution() {
        let (features, labels) = clusters(3, 10, 5, 1.0);
        let compute = Compute::new(1).unwrap();
        for class_weights in [&[][..], &[0.5, 3.0, 1.0]] {
            let examples = Examples { class_weights, ..Examples::new(&features, 5, &labels, 3) };
            let options = SolveOptions { l2: 0.01, tolerance: 1e-9, iterations: 500 };
            let head = solve(&compute, examples, options).unwrap();
            assert!(head.converged, "{head:?}");
            let at: Vec<f64> = head.wide().concat();
            for i in 0..18 {
                let moved = |by: f64| {
                    let mut at = at.clone();
                    at[i] += by;
                    loss(&examples, &at, 0.01)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                // The head was rounded to f32.
                assert!(slope.abs() <= 1e-6, "{i}: {slope}");
            }
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
