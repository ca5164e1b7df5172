//! Suspected label errors, by confident learning (Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty
//! in Dataset Labels").
//!
//! Each image gets class probabilities from a head that was not trained on it ([`out_of_fold`]). A class's threshold is
//! the mean probability of that class over the images labelled with it. An image counts for the most probable of the
//! classes that reach their thresholds. These counts by label and class, scaled to the number of images of each label,
//! estimate how many labels are wrong. That many images are named, those of least [margin](LabelIssue::margin), except
//! where the label is the most probable class anyway ([`find`]; cleanlab's `low_normalized_margin`).
//!
//! ```
//! use headstart::Compute;
//! use headstart::label_issues::{LabelOptions, find, out_of_fold};
//! use headstart::logistic::Examples;
//!
//! // One feature per image; class 1 where it is large. The last label is wrong.
//! let features: Vec<f32> = (0..40).map(|i| (i % 20) as f32 - 9.5).collect();
//! let mut labels: Vec<usize> = features.iter().map(|&x| usize::from(x > 0.0)).collect();
//! labels[39] = 0;
//! let examples = Examples::new(&features, 1, &labels, 2);
//! let held_out = out_of_fold(&Compute::new(1)?, examples, LabelOptions::default())?;
//! let issues = find(&held_out.probabilities, &labels, 2);
//! assert_eq!((issues[0].image, issues[0].suggested), (39, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use headstart_kernels::table::Compute;
use serde::Serialize;

use crate::control::Control;
use crate::data::split::class_counts;
use crate::engine::logistic::Examples;
use crate::engine::logistic::folds::{Fitted, Search, assign, cross_fit};
use crate::engine::logistic::team::Team;
use crate::error::{Error, Result};
use crate::measure::rank::argmax;

pub use crate::engine::logistic::folds::HeldOut;

/// L2 penalties that are tried, over standardised features, from the simplest head on.
const PATH: [f64; 6] = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4];

/// How labels are checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelOptions {
    /// Folds of the cross-validation, at least 2. Classes of fewer images are not checked.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u32,
    /// L2 penalty; the one of least out-of-fold loss if none.
    pub l2: Option<f64>,
}

impl Default for LabelOptions {
    fn default() -> Self {
        LabelOptions { folds: 5, seed: 42, l2: None }
    }
}

/// A suspected label error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelIssue {
    /// Position of the image.
    pub image: usize,
    /// Its label.
    pub label: usize,
    /// The most probable class.
    pub suggested: usize,
    /// Out-of-fold probability of its label.
    pub label_probability: f32,
    /// Out-of-fold probability of the most probable class.
    pub probability: f32,
}

impl LabelIssue {
    /// Normalised margin, `(label_probability - probability + 1) / 2`: from 0, where the label is certainly wrong, to 0.5.
    pub fn margin(&self) -> f32 {
        (self.label_probability - self.probability + 1.0) / 2.0
    }
}

/// Class probabilities of every image by softmax heads that were not trained on it, over standardised features; the
/// folds are stratified by class. The result does not depend on the number of threads.
///
/// # Errors
/// If there are fewer than 2 folds or fewer images than folds, and as [`crate::engine::logistic::solve`].
pub fn out_of_fold(
    compute: &Compute,
    examples: Examples<'_>,
    options: LabelOptions,
) -> Result<HeldOut> {
    let found = out_of_fold_with(compute, examples, options, &mut |_| Ok(Control::Continue))?;
    found.ok_or_else(|| Error::invalid("l2", "at least one", "none", ""))
}

/// How many heads [`out_of_fold`] fits at most.
pub(crate) fn most_heads(options: LabelOptions) -> usize {
    options.folds * options.l2.map_or(PATH.len(), |_| 1)
}

/// Gets how many heads were fitted so far; returns whether to continue.
pub(crate) type Heads<'w> = dyn FnMut(usize) -> Result<Control> + 'w;

/// [`out_of_fold`]; `None` if `watch` stopped it.
pub(crate) fn out_of_fold_with(
    compute: &Compute,
    examples: Examples<'_>,
    options: LabelOptions,
    watch: &mut Heads<'_>,
) -> Result<Option<HeldOut>> {
    let Examples { labels, classes, .. } = examples;
    let LabelOptions { folds, seed, l2 } = options;
    if folds < 2 || labels.len() < folds {
        let expected = format!("from 2 to {}, the number of images", labels.len());
        return Err(Error::invalid("folds", expected, folds.to_string(), ""));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        return Err(Error::invalid("label", format!("below {classes}"), label.to_string(), ""));
    }
    let fold = assign(labels, classes, folds, seed);
    let path = l2.map_or(PATH.to_vec(), |l2| vec![l2]);
    // The order of the probabilities is fixed long before their last digits.
    let search = Search {
        path: &path,
        beyond: &[],
        margin: 0.0,
        standardised: true,
        tolerance: 1e-3,
        iterations: 200,
    };
    let watch = &mut |fitted: Fitted| watch(fitted.done);
    let found = cross_fit(&Team::alone(compute), examples, (&fold, folds), search, watch)?;
    Ok(found.map(|found| found.held_out))
}

/// Suspected label errors by out-of-fold probabilities, `[images, classes]`, by rising [margin](LabelIssue::margin).
pub fn find(p: &[f32], labels: &[usize], classes: usize) -> Vec<LabelIssue> {
    let joint = joint(p, labels, classes);
    let images = class_counts(labels.iter().copied(), classes);
    let mut wrong = 0.0;
    for (label, counts) in joint.chunks_exact(classes.max(1)).enumerate() {
        let total: usize = counts.iter().sum();
        let share = (total - counts[label]) as f64 / total.max(1) as f64;
        wrong += images[label] as f64 * share;
    }
    let issue = |(image, (row, &label)): (usize, (&[f32], &usize))| {
        let suggested = argmax(row);
        let (label_probability, probability) = (row[label], row[suggested]);
        LabelIssue { image, label, suggested, label_probability, probability }
    };
    let all = p.chunks_exact(classes.max(1)).zip(labels).enumerate().map(issue);
    let mut issues: Vec<LabelIssue> = all.filter(|i| i.suggested != i.label).collect();
    issues.sort_by(|a, b| a.margin().total_cmp(&b.margin()));
    issues.truncate(wrong.round() as usize);
    issues
}

/// The confident joint, `[labels, classes]`: images by label and the most probable class that reaches its threshold.
fn joint(p: &[f32], labels: &[usize], classes: usize) -> Vec<usize> {
    let (mut sums, mut counts) = (vec![0.0f64; classes], vec![0usize; classes]);
    for (row, &label) in p.chunks_exact(classes.max(1)).zip(labels) {
        sums[label] += f64::from(row[label]);
        counts[label] += 1;
    }
    let mut joint = vec![0; classes * classes];
    for (row, &label) in p.chunks_exact(classes.max(1)).zip(labels) {
        // Classes without images have no threshold: the comparison with NaN is false.
        let sure = (0..classes).filter(|&k| f64::from(row[k]) >= sums[k] / counts[k] as f64);
        let best = sure.fold(None, |best: Option<usize>, k| match best {
            Some(b) if row[b] >= row[k] => Some(b),
            _ => Some(k),
        });
        if let Some(k) = best {
            joint[label * classes + k] += 1;
        }
    }
    joint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split::RandomState;
    use crate::engine::logistic::tests::clusters;

    #[test]
    fn labels_flipped_on_purpose_are_found() {
        let (features, truth) = clusters(5, 120, 24, 0.6);
        let mut random = RandomState::new(3);
        let mut labels = truth.clone();
        let flipped: Vec<usize> = random.permutation(truth.len())[..60].to_vec();
        for &i in &flipped {
            labels[i] = (truth[i] + 1 + random.interval(3) as usize) % 5;
        }
        let examples = Examples::new(&features, 24, &labels, 5);
        let one = Compute::new(1).unwrap();
        let held_out = out_of_fold(&one, examples, LabelOptions::default()).unwrap();
        let three = Compute::new(3).unwrap();
        assert_eq!(out_of_fold(&three, examples, LabelOptions::default()).unwrap(), held_out);
        let issues = find(&held_out.probabilities, &labels, 5);
        let right = issues.iter().filter(|i| flipped.contains(&i.image)).count();
        let (recall, precision) = (right as f64 / 60.0, right as f64 / issues.len() as f64);
        assert!(recall >= 0.8 && precision >= 0.5, "recall {recall}, precision {precision}");
        let named = issues.iter().filter(|i| i.suggested == truth[i.image]).count();
        assert!(named * 10 >= issues.len() * 7, "{named} of {}", issues.len());
        assert!(issues.is_sorted_by(|a, b| a.margin() <= b.margin()));
    }

    #[test]
    fn an_image_counts_for_the_most_probable_class_that_reaches_its_threshold() {
        // Thresholds: class 0 is 0.55, class 1 is 0.65.
        let p = [0.9, 0.1, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6];
        assert_eq!(joint(&p, &[0, 0, 1, 1], 2), [1, 1, 0, 1]);
        let issues = find(&p, &[0, 0, 1, 1], 2);
        assert_eq!(issues.len(), 1);
        assert_eq!((issues[0].image, issues[0].label, issues[0].suggested), (1, 0, 1));
        assert_eq!((issues[0].label_probability, issues[0].probability), (0.2, 0.8));
        assert!((issues[0].margin() - 0.2).abs() <= 1e-6);
        assert_eq!(find(&[], &[], 3), []);
    }

    #[test]
    fn as_many_are_named_as_the_scaled_counts_say() {
        // Six of the label's eight images are counted, two of them for class 1: 8 * 2 / 6 labels are wrong.
        let of_label = [0.9, 0.9, 0.72, 0.6, 0.49, 0.45, 0.1, 0.1];
        let mut p: Vec<f32> = of_label.iter().flat_map(|&x| [x, 1.0 - x]).collect();
        p.extend([0.3, 0.7, 0.35, 0.65]);
        let labels = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
        assert_eq!(joint(&p, &labels, 2), [4, 2, 0, 1]);
        let found: Vec<usize> = find(&p, &labels, 2).iter().map(|i| i.image).collect();
        assert_eq!(found, [6, 7, 5]);
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let compute = Compute::new(1).unwrap();
        let good = Examples::new(&[0.0, 1.0], 1, &[0, 1], 2);
        let with = |examples, folds| {
            let options = LabelOptions { folds, ..LabelOptions::default() };
            out_of_fold(&compute, examples, options).is_err()
        };
        assert!(with(good, 3) && with(good, 1) && with(good, 0));
        assert!(with(Examples { width: 2, ..good }, 2) && with(Examples { width: 0, ..good }, 2));
        assert!(with(Examples { classes: 1, ..good }, 2));
        assert!(with(Examples { features: &[0.0, f32::NAN], ..good }, 2));
    }
}
