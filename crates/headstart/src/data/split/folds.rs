//! Folds of a cross-validation: scikit-learn's `KFold`, `StratifiedKFold`, `GroupKFold` and `StratifiedGroupKFold` with
//! `shuffle=True`, row for row. Each gives the fold of every row, from 0.

use super::held_out::By;
use super::{RandomState, class_counts};
use crate::error::{Error, Result};

impl By<'_> {
    /// Most folds that [`By::folds`] makes of `n` images.
    pub fn most_folds(&self, n: usize) -> usize {
        let largest = |labels| {
            let (classes, class_of) = unique(labels);
            class_counts(class_of, classes.len()).into_iter().max().unwrap_or(0)
        };
        let classes = self.labels.map_or(n, largest);
        self.groups.map_or(classes, |groups| unique(groups).0.len().min(classes))
    }

    /// The fold of each of `n` images.
    ///
    /// # Errors
    /// As [`kfold`], [`stratified_kfold`], [`group_kfold`] and [`stratified_group_kfold`].
    pub fn folds(&self, n: usize, folds: usize, seed: u32) -> Result<Vec<usize>> {
        match (self.labels, self.groups) {
            (None, None) => kfold(n, folds, seed),
            (Some(labels), None) => stratified_kfold(labels, folds, seed),
            (None, Some(groups)) => group_kfold(groups, folds, seed),
            (Some(labels), Some(groups)) => stratified_group_kfold(labels, groups, folds, seed),
        }
    }
}

/// The different values, rising, and the position of each value among them: `numpy.unique(values, return_inverse=True)`.
pub(super) fn unique(values: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let mut all = values.to_vec();
    all.sort_unstable();
    all.dedup();
    let at = values.iter().map(|value| all.partition_point(|other| other < value)).collect();
    (all, at)
}

fn check(folds: usize, most: usize, of: &str) -> Result<()> {
    if (2..=most).contains(&folds) {
        return Ok(());
    }
    let expected = format!("from 2 to {most}, the number of {of}");
    Err(Error::invalid("folds", expected, folds.to_string(), "use fewer folds"))
}

/// Fails unless there is a class and a group for each row.
pub(super) fn same_length(labels: &[usize], groups: &[usize]) -> Result<()> {
    if labels.len() == groups.len() {
        return Ok(());
    }
    let (expected, found) = (format!("{}, one a label", labels.len()), groups.len().to_string());
    Err(Error::invalid("groups", expected, found, ""))
}

/// Fails where every class has fewer rows than there are folds.
fn check_classes(labels: &[usize], folds: usize) -> Result<()> {
    check(folds, labels.len(), "images")?;
    let (classes, class_of) = unique(labels);
    match class_counts(class_of, classes.len()).into_iter().max() {
        Some(most) if most < folds => {
            let expected = format!("at most {most}, the images of the largest class");
            let hint = "use fewer folds, or --no-stratify";
            Err(Error::invalid("folds", expected, folds.to_string(), hint))
        }
        _ => Ok(()),
    }
}

/// `sklearn.model_selection.KFold(folds, shuffle=True, random_state=seed)`.
///
/// # Errors
/// If there are fewer than 2 folds, or more than rows.
///
/// ```
/// // The test rows of KFold(3, shuffle=True, random_state=42): [0, 1], [2, 5], [3, 4]
/// assert_eq!(headstart::split::kfold(6, 3, 42)?, [0, 0, 1, 2, 2, 1]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn kfold(n: usize, folds: usize, seed: u32) -> Result<Vec<usize>> {
    check(folds, n, "images")?;
    let order = RandomState::new(seed).permutation(n);
    Ok(in_turn(&order, folds))
}

/// Cuts `order` into `folds` pieces, the first ones longer by one where they are not all equal; the piece of each position.
fn in_turn(order: &[usize], folds: usize) -> Vec<usize> {
    let (each, longer) = (order.len() / folds, order.len() % folds);
    let mut fold = vec![0; order.len()];
    let mut rest = order;
    for number in 0..folds {
        let (piece, after) = rest.split_at(each + usize::from(number < longer));
        piece.iter().for_each(|&i| fold[i] = number);
        rest = after;
    }
    fold
}

/// `sklearn.model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed)`: each fold has every class in
/// proportion. A class of fewer rows than folds is missing in some of them.
///
/// # Errors
/// If there are fewer than 2 folds, or more than rows in the largest class.
pub fn stratified_kfold(labels: &[usize], folds: usize, seed: u32) -> Result<Vec<usize>> {
    check_classes(labels, folds)?;
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Classes in the order in which they appear.
    let (classes, class_of) = unique(labels);
    let mut number: Vec<Option<usize>> = vec![None; classes.len()];
    for (row, &class) in class_of.iter().enumerate() {
        let at = *number[class].get_or_insert(rows.len());
        if at == rows.len() {
            rows.push(Vec::new());
        }
        rows[at].push(row);
    }
    let mut random = RandomState::new(seed);
    let (mut fold, mut next) = (vec![0; labels.len()], 0);
    for rows in rows {
        // Folds take sorted rows in turn: this says how many of the class each takes.
        let mut own: Vec<usize> = (next..next + rows.len()).map(|i| i % folds).collect();
        next += rows.len();
        own.sort_unstable();
        random.shuffle(&mut own);
        rows.into_iter().zip(own).for_each(|(row, own)| fold[row] = own);
    }
    Ok(fold)
}

/// `sklearn.model_selection.GroupKFold(folds, shuffle=True, random_state=seed)`: no group is in two folds, and each has
/// about as many groups.
///
/// # Errors
/// If there are fewer than 2 folds, or more than groups.
pub fn group_kfold(groups: &[usize], folds: usize, seed: u32) -> Result<Vec<usize>> {
    let (all, group_of) = unique(groups);
    check(folds, all.len(), "groups")?;
    let fold = in_turn(&RandomState::new(seed).permutation(all.len()), folds);
    Ok(group_of.into_iter().map(|group| fold[group]).collect())
}

/// `sklearn.model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)`: no group is in two folds, and
/// each has every class in about its proportion.
///
/// # Errors
/// As [`stratified_kfold`] and [`group_kfold`].
pub fn stratified_group_kfold(
    labels: &[usize],
    groups: &[usize],
    folds: usize,
    seed: u32,
) -> Result<Vec<usize>> {
    same_length(labels, groups)?;
    check_classes(labels, folds)?;
    check(folds, unique(groups).0.len(), "groups")?;
    Ok(stratified_groups(labels, groups, folds, seed))
}

/// [`stratified_group_kfold`] of what was checked.
pub(super) fn stratified_groups(
    labels: &[usize],
    groups: &[usize],
    folds: usize,
    seed: u32,
) -> Vec<usize> {
    let (classes, class_of) = unique(labels);
    let (all, group_of) = unique(groups);
    let width = classes.len();
    let mut totals = vec![0.0; width];
    let mut counts = vec![vec![0.0; width]; all.len()];
    for (&class, &group) in class_of.iter().zip(&group_of) {
        totals[class] += 1.0;
        counts[group][class] += 1.0;
    }
    let order = RandomState::new(seed).permutation(all.len());
    // The most uneven groups first; those that are equally uneven in the order drawn.
    let uneven: Vec<f64> = order.iter().map(|&group| deviation(&counts[group])).collect();
    let mut sorted: Vec<usize> = (0..order.len()).collect();
    sorted.sort_by(|&a, &b| uneven[b].total_cmp(&uneven[a]));
    let mut filled = vec![vec![0.0; width]; folds];
    let mut fold = vec![0; all.len()];
    for at in sorted {
        let group = order[at];
        let best = best_fold(&mut filled, &totals, &counts[group]);
        filled[best].iter_mut().zip(&counts[group]).for_each(|(sum, count)| *sum += count);
        fold[group] = best;
    }
    group_of.into_iter().map(|group| fold[group]).collect()
}

/// The fold that evens out the classes most with `group` in it; of those that do so equally, within rounding, a smaller one.
fn best_fold(filled: &mut [Vec<f64>], totals: &[f64], group: &[f64]) -> usize {
    let (mut best, mut least, mut smallest) = (0, f64::INFINITY, f64::INFINITY);
    for fold in 0..filled.len() {
        filled[fold].iter_mut().zip(group).for_each(|(sum, count)| *sum += count);
        let uneven = unevenness(filled, totals);
        filled[fold].iter_mut().zip(group).for_each(|(sum, count)| *sum -= count);
        let size = sum(&filled[fold]);
        if uneven < least || (is_close(uneven, least) && size < smallest) {
            (best, least, smallest) = (fold, uneven, size);
        }
    }
    best
}

/// Mean over the classes of the deviation of their shares in the folds, in the order of operations of
/// `numpy.mean(numpy.std(filled / totals, axis=0))`: its last digits decide between folds.
fn unevenness(filled: &[Vec<f64>], totals: &[f64]) -> f64 {
    let folds = filled.len() as f64;
    let mut means = vec![0.0; totals.len()];
    for fold in filled {
        let shares = fold.iter().zip(totals).map(|(count, total)| count / total);
        means.iter_mut().zip(shares).for_each(|(mean, share)| *mean += share);
    }
    means.iter_mut().for_each(|mean| *mean /= folds);
    let mut squares = vec![0.0; totals.len()];
    for fold in filled {
        let shares = fold.iter().zip(totals).map(|(count, total)| count / total);
        for ((square, share), mean) in squares.iter_mut().zip(shares).zip(&means) {
            let off: f64 = share - mean;
            *square += off * off;
        }
    }
    squares.iter_mut().for_each(|square| *square = (*square / folds).sqrt());
    sum(&squares) / totals.len() as f64
}

/// `numpy.std(values)`.
fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = sum(values) / count;
    let squares: Vec<f64> = values.iter().map(|value| (value - mean) * (value - mean)).collect();
    (sum(&squares) / count).sqrt()
}

/// `numpy.sum(values)`: pairwise, with eight partial sums.
fn sum(values: &[f64]) -> f64 {
    match values.len() {
        0..8 => values.iter().fold(0.0, |sum, value| sum + value),
        8..=128 => {
            let (eights, rest) = values.as_chunks::<8>();
            let mut parts = [0.0; 8];
            for eight in eights {
                parts.iter_mut().zip(eight).for_each(|(part, value)| *part += value);
            }
            let [a, b, c, d, e, f, g, h] = parts;
            let whole = ((a + b) + (c + d)) + ((e + f) + (g + h));
            rest.iter().fold(whole, |sum, value| sum + value)
        }
        n => {
            let half = n / 2 - n / 2 % 8;
            sum(&values[..half]) + sum(&values[half..])
        }
    }
}

/// `numpy.isclose(a, b)`.
fn is_close(a: f64, b: f64) -> bool {
    b.is_finite() && (a - b).abs() <= 1e-8 + 1e-5 * b.abs()
}
