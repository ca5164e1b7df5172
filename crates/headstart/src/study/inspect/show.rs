//! An inspection as text.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

use super::{BLANK, Group, Inspection, LabelCheck, Member, TINY};
use crate::data::dataset::Skipped;
use crate::numbers::grouped;

/// Examples shown of each kind.
const EXAMPLES: usize = 5;
/// Kinds of files that cannot be used shown.
const KINDS: usize = 12;
/// Labels shown.
const LABELS: usize = 50;

impl Inspection {
    /// How many findings there are of all kinds.
    pub fn findings(&self) -> usize {
        self.unreadable.len()
            + self.wrong_extensions.len()
            + self.exact_duplicates.len()
            + self.near_duplicates.len()
            + self.tiny.len()
            + self.blank.len()
            + usize::from(self.balance.is_uneven())
            + self.warnings.len()
            + self.labels.as_ref().map_or(0, |check| check.issues.len())
    }
}

impl Group {
    /// What else is wrong with the group, as a phrase; empty if nothing is.
    pub fn remark(&self) -> &'static str {
        match (self.across_splits, self.across_classes) {
            (true, true) => "in two splits, under two classes",
            (true, false) => "in two splits",
            (false, true) => "under two classes",
            (false, false) => "",
        }
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// A heading with the count, and the first lines.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: &[T],
    line: impl Fn(&T) -> String,
) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n{heading}")?;
    for item in items.iter().take(EXAMPLES) {
        write!(f, "\n  {}", line(item))?;
    }
    if items.len() > EXAMPLES {
        write!(f, "\n  ... and {} more", grouped(items.len() - EXAMPLES))?;
    }
    Ok(())
}

/// Files that cannot be used, by the reason, the most frequent first, each with the first names.
fn unreadable(f: &mut fmt::Formatter<'_>, heading: &str, files: &[Skipped]) -> fmt::Result {
    if files.is_empty() {
        return Ok(());
    }
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    files.iter().for_each(|s| kinds.entry(&s.reason).or_default().push(&s.name));
    let mut kinds: Vec<(&str, Vec<&str>)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, names)| Reverse(names.len()));
    write!(f, "\n{heading}")?;
    for (reason, names) in kinds.iter().take(KINDS) {
        match names[..] {
            [only] => write!(f, "\n  {only}: {reason}")?,
            _ => {
                let first = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
                let more = if names.len() > 3 { ", ..." } else { "" };
                write!(f, "\n  {} of them: {reason}: {first}{more}", grouped(names.len()))?;
            }
        }
    }
    let rest: usize = kinds.iter().skip(KINDS).map(|(_, names)| names.len()).sum();
    match rest {
        0 => Ok(()),
        rest => write!(f, "\n  ... and {} more", grouped(rest)),
    }
}

fn member(one: &Member) -> String {
    format!("{} ({}x{})", one.name, one.size.1, one.size.0)
}

fn group(group: &Group) -> String {
    let mut names: Vec<&str> = group.images.iter().take(4).map(|m| m.name.as_str()).collect();
    if group.images.len() > names.len() {
        names.push("...");
    }
    match group.remark() {
        "" => names.join(" = "),
        remark => format!("{} ({remark})", names.join(" = ")),
    }
}

fn labels(f: &mut fmt::Formatter<'_>, check: &LabelCheck) -> fmt::Result {
    let heading = plural(check.issues.len(), "suspected label error", "suspected label errors");
    let (images, percent) = (grouped(check.images), 100.0 * check.accuracy);
    write!(f, "\n{heading} among {images} training images ({} of {}, ", check.layer, check.model)?;
    write!(f, "{}-fold cross-validated accuracy {percent:.1}%)", check.folds)?;
    if !check.issues.is_empty() {
        let wrong = grouped(check.estimated_wrong);
        write!(
            f,
            "\nof these, an estimated {wrong} at most are wrong; the other images are hard: "
        )?;
        write!(f, "look at each before you change its label")?;
    }
    for m in check.issues.iter().take(LABELS) {
        let (name, class, suggested) = (&m.image.name, &m.image.class, &m.suggested);
        write!(
            f,
            "\n  {name}: {class} ({:.3}), suggested label: {suggested} ",
            m.label_probability
        )?;
        write!(f, "({:.3})", m.probability)?;
    }
    if check.issues.len() > LABELS {
        write!(f, "\n  ... and {} more", grouped(check.issues.len() - LABELS))?;
    }
    if !check.left_out.is_empty() {
        let classes = check.left_out.join(", ");
        write!(f, "\nlabels not checked, of classes with fewer than {} images: ", check.folds)?;
        write!(f, "{classes}")?;
    }
    Ok(())
}

impl Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, plural(self.images, "image", "images"))?;
        for part in &self.parts {
            let ((h0, w0), (h1, w1)) = (part.smallest, part.largest);
            write!(f, "\n{}: {}, ", part.name, plural(part.images, "image", "images"))?;
            match (h0, w0) == (h1, w1) {
                true => write!(f, "{w0}x{h0}")?,
                false => write!(f, "{w0}x{h0} to {w1}x{h1}")?,
            }
            let width = self.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).min(30);
            for (class, count) in self.classes.iter().zip(&part.class_counts) {
                write!(f, "\n  {class:width$} {:>9}", grouped(*count))?;
            }
        }
        let count = |n: usize, one, many| plural(n, one, many);
        let heading =
            count(self.unreadable.len(), "file that cannot be used", "files that cannot be used");
        unreadable(f, &heading, &self.unreadable)?;
        let heading = count(
            self.wrong_extensions.len(),
            "file with a wrong extension",
            "files with a wrong extension",
        );
        list(f, &heading, &self.wrong_extensions, |w| format!("{} is a {}", w.name, w.format))?;
        let heading = count(
            self.exact_duplicates.len(),
            "image occurs more than once",
            "images occur more than once",
        );
        list(f, &heading, &self.exact_duplicates, group)?;
        let heading = count(
            self.near_duplicates.len(),
            "group of images that look the same",
            "groups of images that look the same",
        );
        list(f, &heading, &self.near_duplicates, group)?;
        let heading = count(self.tiny.len(), "image", "images");
        list(f, &format!("{heading} with a side of fewer than {TINY} pixels"), &self.tiny, member)?;
        let heading = count(self.blank.len(), "image", "images");
        list(f, &format!("{heading} of one colour (within {BLANK} of 255)"), &self.blank, member)?;
        let b = &self.balance;
        if b.is_uneven() {
            let (most, fewest) = (grouped(b.most), grouped(b.fewest));
            write!(
                f,
                "\nuneven classes: {most} images of {}, {fewest} of {}",
                b.largest, b.smallest
            )?;
        }
        if let Some(check) = &self.labels {
            labels(f, check)?;
        }
        for warning in &self.warnings {
            write!(f, "\n{warning}")?;
        }
        if self.leaks > 0 {
            let groups = plural(self.leaks, "of these is", "of these are");
            write!(f, "\n{groups} in more than one split: results on these would be too good")?;
        }
        if self.conflicts > 0 {
            let groups = plural(self.conflicts, "of these is", "of these are");
            write!(f, "\n{groups} under more than one class: one label must be wrong")?;
        }
        if self.findings() == 0 {
            write!(f, "\nno problems found")?;
        }
        Ok(())
    }
}
