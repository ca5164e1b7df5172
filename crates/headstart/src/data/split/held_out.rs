//! Two sides by class or by group: scikit-learn's `StratifiedShuffleSplit` and `GroupShuffleSplit`, row for row.

use super::folds::{stratified_groups, unique};
use super::{RandomState, Split, held_out, shuffled};
use crate::error::{Error, Result};

/// Names of classes that an error lists.
const NAMED: usize = 3;

/// What a split looks at besides the number of images. Slices are as long as that number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    /// What is split, for errors: "test split".
    pub what: &'a str,
    /// Class of each image, where each side shall have every class in proportion.
    pub labels: Option<&'a [usize]>,
    /// Names of the classes, for errors; where there are none, they are called by number.
    pub names: &'a [String],
    /// Group of each image, where no group may be on both sides.
    pub groups: Option<&'a [usize]>,
    /// Whether classes that are too small to be split are an error. Otherwise the only image of a class is trained on, and
    /// a side with fewer images than there are classes lacks some.
    pub strict: bool,
}

impl By<'_> {
    /// Both sides of `n` images.
    ///
    /// # Errors
    /// As [`train_test_split`](super::train_test_split), [`stratified_train_test_split`], [`group_train_test_split`] and
    /// [`stratified_group_train_test_split`].
    pub fn hold_out(&self, n: usize, test_size: f64, seed: u32) -> Result<Split> {
        match (self.labels, self.groups) {
            (None, None) => shuffled(self.what, n, test_size, seed),
            (Some(labels), None) => self.stratified(labels, test_size, seed),
            (None, Some(groups)) => self.grouped(groups, test_size, seed),
            (Some(labels), Some(groups)) => self.both(labels, groups, test_size, seed),
        }
    }

    fn stratified(&self, labels: &[usize], test_size: f64, seed: u32) -> Result<Split> {
        let test_count = held_out(self.what, "image", labels.len(), test_size)?;
        let (classes, class_of) = unique(labels);
        let mut rows = vec![Vec::new(); classes.len()];
        class_of.iter().enumerate().for_each(|(row, &class)| rows[class].push(row));
        let mut single = Vec::new();
        if self.strict || rows.iter().all(|rows| rows.len() == 1) {
            self.check_classes(&classes, &rows, [labels.len() - test_count, test_count])?;
        } else {
            single.extend(rows.iter().filter(|rows| rows.len() == 1).map(|rows| rows[0]));
            rows.retain(|rows| rows.len() > 1);
        }
        let others = labels.len() - single.len();
        // Each class keeps an image to be trained on.
        let test_count = if self.strict { test_count } else { test_count.min(others - rows.len()) };
        let train_count = others - test_count;
        let counts: Vec<usize> = rows.iter().map(Vec::len).collect();
        let mut random = RandomState::new(seed);
        let of_train = approximate_mode(&counts, train_count, &mut random);
        let rest: Vec<usize> =
            counts.iter().zip(&of_train).map(|(all, some)| all.saturating_sub(*some)).collect();
        let of_test = approximate_mode(&rest, test_count, &mut random);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (rows, (of_train, of_test)) in rows.iter().zip(of_train.into_iter().zip(of_test)) {
            let drawn = random.permutation(rows.len());
            let (first, others) = drawn.split_at(of_train.min(drawn.len()));
            train.extend(first.iter().map(|&i| rows[i]));
            test.extend(others.iter().take(of_test).map(|&i| rows[i]));
        }
        train.append(&mut single);
        random.shuffle(&mut train);
        random.shuffle(&mut test);
        Ok(Split { train, test })
    }

    /// Fails where a class has one image, or a side has fewer images than there are classes.
    fn check_classes(
        &self,
        classes: &[usize],
        rows: &[Vec<usize>],
        [train, test]: [usize; 2],
    ) -> Result<()> {
        let single: Vec<usize> =
            classes.iter().zip(rows).filter(|(_, rows)| rows.len() < 2).map(|(&c, _)| c).collect();
        if !single.is_empty() {
            let names: Vec<String> = single.iter().take(NAMED).map(|&c| self.name(c)).collect();
            let more = if single.len() > NAMED { ", ..." } else { "" };
            return Err(Error::invalid(
                self.what,
                "at least two images of every class, to split by class",
                format!("one of {}{more}", names.join(", ")),
                "give these classes more images, or split without --stratify",
            ));
        }
        let few = train.min(test);
        if few < classes.len() {
            let (side, hint) = match few == test {
                true => ("held out", "hold out a larger fraction, or split without --stratify"),
                false => ("left", "hold out a smaller fraction, or split without --stratify"),
            };
            return Err(Error::invalid(
                self.what,
                format!("at least {} images on each side, one of every class", classes.len()),
                format!("{few} of {} {side}", train + test),
                hint,
            ));
        }
        Ok(())
    }

    /// A warning of classes among `labels` that the rows held out lack.
    pub fn lacking(&self, labels: &[usize], held_out: &[usize]) -> Option<String> {
        let (classes, class_of) = unique(labels);
        let mut counts = vec![[0usize; 2]; classes.len()];
        class_of.iter().for_each(|&class| counts[class][0] += 1);
        held_out.iter().for_each(|&row| counts[class_of[row]][1] += 1);
        let mut few: Vec<(usize, usize)> = counts
            .iter()
            .zip(&classes)
            .filter(|([_, held_out], _)| *held_out == 0)
            .map(|([all, _], &class)| (*all, class))
            .collect();
        few.sort();
        let named: Vec<String> = few
            .iter()
            .take(NAMED)
            .map(|&(count, class)| {
                let images = if count == 1 { "image" } else { "images" };
                format!("{} ({count} {images})", self.name(class))
            })
            .collect();
        let all = match few.len() {
            0 => return None,
            1..=NAMED => String::new(),
            n => format!(", ... ({n} classes in all)"),
        };
        let what = self.what;
        Some(format!(
            "the {what} has no images of {}{all}: too few to split by class",
            named.join(", ")
        ))
    }

    fn name(&self, class: usize) -> String {
        self.names.get(class).map_or_else(|| format!("class {class}"), String::clone)
    }

    fn grouped(&self, groups: &[usize], test_size: f64, seed: u32) -> Result<Split> {
        let (all, group_of) = unique(groups);
        let test_count = held_out(self.what, "group", all.len(), test_size)?;
        let mut held = vec![false; all.len()];
        let drawn = RandomState::new(seed).permutation(all.len());
        drawn.iter().take(test_count).for_each(|&group| held[group] = true);
        Ok(sides(&group_of, |group| held[group]))
    }

    fn both(&self, labels: &[usize], groups: &[usize], test_size: f64, seed: u32) -> Result<Split> {
        held_out(self.what, "image", labels.len(), test_size)?;
        if test_size > 0.5 {
            return Err(Error::invalid(
                self.what,
                "at most 0.5, by class and by group",
                test_size.to_string(),
                "swap the sides, or split without --stratify",
            ));
        }
        let all = unique(groups).0.len();
        held_out(self.what, "group", all, test_size)?;
        let folds = ((1.0 / test_size).round() as usize).clamp(2, all);
        let fold = stratified_groups(labels, groups, folds, seed);
        let split = sides(&fold, |fold| fold == 0);
        if split.test.is_empty() || split.train.is_empty() {
            let hint = "split without --stratify";
            return Err(Error::invalid(self.what, "groups on each side", "none on one", hint));
        }
        Ok(split)
    }
}

/// Both sides in rising order.
fn sides(of: &[usize], is_test: impl Fn(usize) -> bool) -> Split {
    let (test, train) = (0..of.len()).partition(|&row| is_test(of[row]));
    Split { train, test }
}

/// scikit-learn's `_approximate_mode`: how many of each class are in a sample of `draws`, which is about the most
/// probable outcome of drawing them. Ties are broken by `random`.
fn approximate_mode(counts: &[usize], draws: usize, random: &mut RandomState) -> Vec<usize> {
    let sum: usize = counts.iter().sum();
    // In this order of operations: equal remainders decide what is drawn.
    let shares: Vec<f64> =
        counts.iter().map(|&count| count as f64 / sum as f64 * draws as f64).collect();
    let mut drawn: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let mut missing = draws.saturating_sub(drawn.iter().sum());
    let remainders: Vec<f64> = shares.iter().map(|share| share - share.floor()).collect();
    let mut values = remainders.clone();
    values.sort_by(|a, b| b.total_cmp(a));
    values.dedup();
    for value in values {
        if missing == 0 {
            break;
        }
        let equal: Vec<usize> = (0..counts.len()).filter(|&i| remainders[i] == value).collect();
        let now = equal.len().min(missing);
        // numpy's `choice(equal, now, replace=False)`.
        for &at in random.permutation(equal.len()).iter().take(now) {
            drawn[equal[at]] += 1;
        }
        missing -= now;
    }
    drawn
}

const UNNAMED: By<'_> = By { what: "split", labels: None, names: &[], groups: None, strict: true };

/// `sklearn.model_selection.train_test_split(rows, test_size=.., stratify=labels, random_state=seed)`: each side has every
/// class in proportion.
///
/// # Errors
/// As [`train_test_split`](super::train_test_split), and if a class has one row only, or a side fewer rows than there are classes.
///
/// ```
/// use headstart::split::stratified_train_test_split;
///
/// // train_test_split(np.arange(8), test_size=0.25, stratify=[0, 0, 0, 0, 1, 1, 1, 1], random_state=42)
/// let split = stratified_train_test_split(&[0, 0, 0, 0, 1, 1, 1, 1], 0.25, 42)?;
/// assert_eq!(split.test, [2, 6]);
/// assert!(stratified_train_test_split(&[0, 0, 0, 1], 0.5, 42).is_err());
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn stratified_train_test_split(labels: &[usize], test_size: f64, seed: u32) -> Result<Split> {
    UNNAMED.stratified(labels, test_size, seed)
}

/// `sklearn.model_selection.GroupShuffleSplit(n_splits=1, test_size=.., random_state=seed)`: no group is on both sides. The
/// fraction is one of groups, not of rows; both sides are in rising order.
///
/// # Errors
/// As [`train_test_split`](super::train_test_split), for groups.
pub fn group_train_test_split(groups: &[usize], test_size: f64, seed: u32) -> Result<Split> {
    UNNAMED.grouped(groups, test_size, seed)
}

/// The first fold of `sklearn.model_selection.StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)` is the test side:
/// no group is on both sides, and each has every class in about its proportion. There are `round(1 / test_size)` folds,
/// or as many as there are groups; both sides are in rising order.
///
/// # Errors
/// As [`group_train_test_split`], and for a fraction above 0.5.
pub fn stratified_group_train_test_split(
    labels: &[usize],
    groups: &[usize],
    test_size: f64,
    seed: u32,
) -> Result<Split> {
    super::folds::same_length(labels, groups)?;
    UNNAMED.both(labels, groups, test_size, seed)
}
