//! Labels that are likely wrong, by confident learning.
//!
//! Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels": each image gets class
//! probabilities from a classifier that never saw its label (out of fold). A class's threshold is the mean
//! probability of that class over the images labelled with it. An image is counted for the most probable
//! class among those that reach their threshold; where that is not its label, the label is an issue.

use headstart_kernels::threads::Threads;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::logistic::{Examples, Scaler, SolveOptions, solve};
use crate::split::RandomState;

/// How labels are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelOptions {
    /// Parts that are predicted in turn from the others, at least 2.
    pub folds: usize,
    /// Seed of the folds.
    pub seed: u32,
    /// Weight of the squared kernel of the logistic regression over standardised features.
    pub l2: f64,
}

impl Default for LabelOptions {
    fn default() -> Self {
        LabelOptions { folds: 5, seed: 42, l2: 1e-2 }
    }
}

/// A label that is likely wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelIssue {
    /// Position of the image.
    pub image: usize,
    /// Its label.
    pub label: usize,
    /// The class it is more likely of.
    pub suggested: usize,
    /// Out-of-fold probability of its label.
    pub label_probability: f32,
    /// Out-of-fold probability of the other class.
    pub suggested_probability: f32,
}

/// Class probabilities of every image, `[images, classes]`, by logistic regressions that did not see it: over
/// standardised features, the folds with equal shares of every class.
///
/// # Errors
/// If there are fewer folds than 2 or fewer images than folds, and as [`solve`].
pub fn out_of_fold(
    threads: &Threads,
    examples: Examples<'_>,
    options: LabelOptions,
) -> Result<Vec<f32>> {
    let Examples { features, width, labels, classes } = examples;
    let LabelOptions { folds, seed, l2 } = options;
    if folds < 2 || labels.len() < folds {
        let expected = format!("2 to {}, the number of images", labels.len());
        return Err(Error::invalid("folds", expected, folds.to_string(), ""));
    }
    let fold = assign(labels, classes, folds, seed);
    let mut p = vec![0.0; labels.len() * classes];
    for number in 0..folds {
        let rows = |inside: bool| -> Vec<usize> {
            (0..labels.len()).filter(|&i| (fold[i] == number) == inside).collect()
        };
        let gather = |rows: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|&i| &features[i * width..][..width]).copied().collect()
        };
        let (others, own) = (rows(false), rows(true));
        let seen = gather(&others);
        let scaler = Scaler::new(&seen, width);
        let part = Examples {
            features: &scaler.apply(&seen),
            labels: &others.iter().map(|&i| labels[i]).collect::<Vec<_>>(),
            ..examples
        };
        // Ranks of probabilities are settled long before their last digits.
        let head = solve(threads, part, SolveOptions { l2, tolerance: 1e-3, iterations: 200 })?;
        let answers = head.probabilities(&scaler.apply(&gather(&own)));
        for (&i, row) in own.iter().zip(answers.chunks_exact(classes)) {
            p[i * classes..][..classes].copy_from_slice(row);
        }
    }
    Ok(p)
}

/// The fold of every image: each class is shuffled and dealt out in turn.
fn assign(labels: &[usize], classes: usize, folds: usize, seed: u32) -> Vec<usize> {
    let mut random = RandomState::new(seed);
    let (mut fold, mut next) = (vec![0; labels.len()], 0);
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        random.shuffle(&mut rows);
        for i in rows {
            fold[i] = next % folds;
            next += 1;
        }
    }
    fold
}

/// The labels that out-of-fold probabilities, `[images, classes]`, speak against, the likeliest errors first: by
/// the label's probability minus the other's.
pub fn find(p: &[f32], labels: &[usize], classes: usize) -> Vec<LabelIssue> {
    let (mut sums, mut counts) = (vec![0.0f64; classes], vec![0usize; classes]);
    for (row, &label) in p.chunks_exact(classes.max(1)).zip(labels) {
        sums[label] += f64::from(row[label]);
        counts[label] += 1;
    }
    let threshold = |k: usize| sums[k] / counts[k] as f64;
    let mut issues = Vec::new();
    for (image, (row, &label)) in p.chunks_exact(classes.max(1)).zip(labels).enumerate() {
        // Classes without images have no threshold: the comparison with NaN is false.
        let sure = (0..classes).filter(|&k| f64::from(row[k]) >= threshold(k));
        let best = sure.fold(None, |best: Option<usize>, k| match best {
            Some(b) if row[b] >= row[k] => Some(b),
            _ => Some(k),
        });
        if let Some(suggested) = best.filter(|&k| k != label) {
            issues.push(LabelIssue {
                image,
                label,
                suggested,
                label_probability: row[label],
                suggested_probability: row[suggested],
            });
        }
    }
    let margin = |i: &LabelIssue| i.label_probability - i.suggested_probability;
    issues.sort_by(|a, b| margin(a).total_cmp(&margin(b)));
    issues
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logistic::tests::clusters;

    #[test]
    fn labels_flipped_on_purpose_are_found() {
        let (features, truth) = clusters(5, 120, 24, 0.6);
        let mut random = RandomState::new(3);
        let mut labels = truth.clone();
        let flipped: Vec<usize> = random.permutation(truth.len())[..60].to_vec();
        for &i in &flipped {
            labels[i] = (truth[i] + 1 + random.interval(3) as usize) % 5;
        }
        let examples = Examples { features: &features, width: 24, labels: &labels, classes: 5 };
        let threads = Threads::new(2).unwrap();
        let p = out_of_fold(&threads, examples, LabelOptions::default()).unwrap();
        let issues = find(&p, &labels, 5);
        let right = issues.iter().filter(|i| flipped.contains(&i.image)).count();
        let (recall, precision) = (right as f64 / 60.0, right as f64 / issues.len() as f64);
        assert!(recall >= 0.8 && precision >= 0.5, "recall {recall}, precision {precision}");
        let named = issues.iter().filter(|i| i.suggested == truth[i.image]).count();
        assert!(named * 10 >= issues.len() * 7, "{named} of {}", issues.len());
    }

    #[test]
    fn an_image_counts_for_the_most_probable_class_that_reaches_its_threshold() {
        // Thresholds: class 0 is 0.55, class 1 is 0.65.
        let p = [0.9, 0.1, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6];
        let issues = find(&p, &[0, 0, 1, 1], 2);
        assert_eq!(issues.len(), 1);
        assert_eq!((issues[0].image, issues[0].label, issues[0].suggested), (1, 0, 1));
        assert_eq!((issues[0].label_probability, issues[0].suggested_probability), (0.2, 0.8));
        assert_eq!(find(&[], &[], 3), []);
    }

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
        let examples = Examples { features: &[0.0, 1.0], width: 1, labels: &[0, 1], classes: 2 };
        let options = LabelOptions { folds: 3, ..LabelOptions::default() };
        assert!(out_of_fold(&Threads::new(1).unwrap(), examples, options).is_err());
    }
}
