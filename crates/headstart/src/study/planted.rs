//! How many of the suspected labels are wrong at most, by labels that are wrong on purpose.
//!
//! Some labels that nothing speaks against are changed to a class that the net could take the image for, and the heads are
//! cross-validated again. How far down the list the changed ones come is known then. Were there `w` wrong labels in all,
//! `w` times the fraction of the changed ones that come before a place would come before it: no more than are
//! there. The least such bound over all places is the estimate, as for the proportion of a known component in a mixture
//! (Blanchard, Lee and Scott 2010, "Semi-Supervised Novelty Detection"). Images that are right but hard, which any
//! list of suspects has too, are not counted.
//!
//! ```
//! use headstart::Compute;
//! use headstart::label_issues::{LabelOptions, find, out_of_fold};
//! use headstart::logistic::Examples;
//! use headstart::planted::wrong_labels;
//!
//! // One feature per image; class 1 where it is large. Two labels are wrong.
//! let features: Vec<f32> = (0..400).map(|i| (i % 40) as f32 - 19.5).collect();
//! let mut labels: Vec<usize> = features.iter().map(|&x| usize::from(x > 0.0)).collect();
//! (labels[39], labels[360]) = (0, 1);
//! let examples = Examples::new(&features, 1, &labels, 2);
//! let (compute, options) = (Compute::new(1)?, LabelOptions::default());
//! let held_out = out_of_fold(&compute, examples, options)?;
//! let issues = find(&held_out.probabilities, &labels, 2);
//! let wrong = wrong_labels(&compute, examples, &held_out, &issues, options)?;
//! assert!(wrong >= 1 && wrong <= issues.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use headstart_kernels::table::Compute;

use super::label_issues::{Heads, HeldOut, LabelIssue, LabelOptions, out_of_fold_with};
use crate::control::Control;
use crate::data::split::RandomState;
use crate::engine::logistic::Examples;
use crate::error::Result;
use crate::measure::rank::argmax;

/// Changed labels: this fraction of those that nothing speaks against, and how many at least and at most.
const SHARE: f64 = 0.05;
const FEWEST: usize = 30;
const MOST: usize = 400;
/// Fraction of the changed ones that must come before a place for it to count.
const SEEN: f64 = 0.2;

/// An estimate of the most wrong labels among the `issues`, which [`super::label_issues::find`] named by `held_out`.
///
/// # Errors
/// As [`super::label_issues::out_of_fold`].
pub fn wrong_labels(
    compute: &Compute,
    examples: Examples<'_>,
    held_out: &HeldOut,
    issues: &[LabelIssue],
    options: LabelOptions,
) -> Result<usize> {
    let mut go_on = |_| Ok(Control::Continue);
    let wrong = wrong_labels_with(compute, examples, held_out, issues, options, &mut go_on)?;
    Ok(wrong.unwrap_or(issues.len()))
}

/// [`wrong_labels`]; `None` if `watch`, which gets how many heads were fitted, stopped it.
pub(crate) fn wrong_labels_with(
    compute: &Compute,
    examples: Examples<'_>,
    held_out: &HeldOut,
    issues: &[LabelIssue],
    options: LabelOptions,
    watch: &mut Heads<'_>,
) -> Result<Option<usize>> {
    let Some(last) = issues.last() else { return Ok(Some(0)) };
    let (p, classes) = (&held_out.probabilities, examples.classes);
    let mut labels = examples.labels.to_vec();
    let changed = plant(p, &mut labels, classes, options.seed);
    if changed.is_empty() {
        return Ok(Some(issues.len()));
    }
    let options = LabelOptions { l2: Some(held_out.l2), ..options };
    let changed_labels = Examples { labels: &labels, ..examples };
    let Some(again) = out_of_fold_with(compute, changed_labels, options, watch)? else {
        return Ok(None);
    };
    let margins_of = |p: &[f32], labels: &[usize], image: usize| {
        let row = &p[image * classes..][..classes];
        let margin = (row[labels[image]] - row[argmax(row)] + 1.0) / 2.0;
        (argmax(row) != labels[image]).then_some(margin)
    };
    let mut known: Vec<f32> =
        changed.iter().filter_map(|&i| margins_of(&again.probabilities, &labels, i)).collect();
    let all = 0..examples.labels.len();
    let mut given: Vec<f32> = all.filter_map(|i| margins_of(p, examples.labels, i)).collect();
    known.sort_by(f32::total_cmp);
    given.sort_by(f32::total_cmp);
    let before =
        |margin: f32| known.partition_point(|&m| m <= margin) as f64 / changed.len() as f64;
    // One more than are there: of few, some come late by chance.
    let bounds = given.iter().enumerate().filter_map(|(i, &margin)| {
        let share = before(margin);
        (share >= SEEN).then(|| (i + 2) as f64 / share)
    });
    let wrong = bounds.fold(f64::INFINITY, f64::min);
    let among = wrong * before(last.margin());
    let known = !among.is_nan();
    Ok(Some(if known { (among.round() as usize).min(issues.len()) } else { issues.len() }))
}

/// Changes some labels that are the most probable class to another class, by its probability; which.
fn plant(p: &[f32], labels: &mut [usize], classes: usize, seed: u32) -> Vec<usize> {
    let agrees = |&i: &usize| argmax(&p[i * classes..][..classes]) == labels[i];
    let mut images: Vec<usize> = (0..labels.len()).filter(agrees).collect();
    let mut random = RandomState::new(seed);
    random.shuffle(&mut images);
    let most = images.len() / 4;
    let count = (SHARE * images.len() as f64) as usize;
    images.truncate(count.clamp(FEWEST.min(most), MOST));
    for &i in &images {
        let own = labels[i];
        let row = &p[i * classes..][..classes];
        let others = (0..classes).filter(|&k| k != own);
        let total: f64 = others.clone().map(|k| f64::from(row[k])).sum();
        let mut left = total * random.interval(1 << 20) as f64 / f64::from(1 << 20);
        let mut chosen = None;
        for k in others {
            left -= f64::from(row[k]);
            chosen = Some(k);
            if left < 0.0 {
                break;
            }
        }
        labels[i] = chosen.unwrap_or(own);
    }
    images
}

#[cfg(test)]
mod tests {
    use super::super::label_issues::{find, out_of_fold};
    use super::*;
    use crate::engine::logistic::tests::clusters;

    /// Issues named, how many of them are wrong, and the estimate, where `count` of 1500 labels are wrong.
    fn measure(noise: f32, count: usize) -> (usize, usize, usize) {
        let (features, truth) = clusters(5, 300, 24, noise);
        let mut random = RandomState::new(7);
        let mut labels = truth.clone();
        for i in random.permutation(truth.len()).into_iter().take(count) {
            labels[i] = (truth[i] + 1 + random.interval(3) as usize) % 5;
        }
        let examples = Examples::new(&features, 24, &labels, 5);
        let (compute, options) = (Compute::new(2).unwrap(), LabelOptions::default());
        let held_out = out_of_fold(&compute, examples, options).unwrap();
        let issues = find(&held_out.probabilities, &labels, 5);
        let wrong = issues.iter().filter(|issue| labels[issue.image] != truth[issue.image]).count();
        let estimate = wrong_labels(&compute, examples, &held_out, &issues, options).unwrap();
        (issues.len(), wrong, estimate)
    }

    #[test]
    fn the_estimate_is_near_what_is_wrong_whether_images_are_hard_or_easy() {
        // With more noise than this half of the images are hard, and the bound says little.
        for noise in [0.6, 1.0] {
            for count in [0, 15, 60, 150] {
                let (named, wrong, estimate) = measure(noise, count);
                println!(
                    "noise {noise}, {count} wrong: {named} named, {wrong} wrong, estimate {estimate}"
                );
                // Of many hard images some look like wrong labels.
                let hard = 0.15 * (named - wrong) as f64;
                let (least, most) = (wrong as f64 * 0.6 - 5.0, wrong as f64 * 1.5 + 5.0 + hard);
                let fits = (least..=most).contains(&(estimate as f64));
                assert!(
                    fits,
                    "noise {noise}, {count} wrong: {named} named, {wrong} of them, {estimate}"
                );
            }
        }
    }

    #[test]
    fn without_suspects_none_is_wrong() {
        let examples = Examples::new(&[0.0, 1.0], 1, &[0, 1], 2);
        let held_out =
            HeldOut { probabilities: vec![1.0, 0.0, 0.0, 1.0], l2: 0.1, loss: 0.0, accuracy: 1.0 };
        let compute = Compute::new(1).unwrap();
        let none = wrong_labels(&compute, examples, &held_out, &[], LabelOptions::default());
        assert_eq!(none.unwrap(), 0);
    }
}
