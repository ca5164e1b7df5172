//! Images with their labels beside them, as in manifests and shards, read as a data set.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::Skipped;
use super::grouping::Keys;
use super::shown::Place;
use super::tree::{
    Item, Layout, OneClass, Origin, Part, check_class_names, not_known, unknown_class,
};
use crate::error::Result;
use crate::task::Task;
use crate::text::composed;

const ONE_LABEL: OneClass = (
    "at least two classes: different labels of training images",
    "a classifier tells classes apart: list images of another class too",
);

/// An image with its label.
pub(crate) struct Labelled {
    pub name: String,
    pub label: String,
    pub part: Part,
    pub origin: Origin,
}

/// Makes classes of the training images' labels: in the order of `names` where there are such, by
/// value where all are whole numbers, else by code point. Images keep their order within a part. With `known` classes,
/// those of a model, images of others are left out. Beside the rows come labels of training images that are not there.
///
/// # Errors
/// If there is one class only, or a class that occurs in validation or test images alone.
pub(crate) fn arrange(
    task: Task,
    (root, place): (PathBuf, Place),
    (rows, others): (Vec<Labelled>, BTreeSet<&str>),
    names: Option<&[String]>,
    known: Option<&[String]>,
    mut skipped: Vec<Skipped>,
) -> Result<Layout> {
    let trained = rows.iter().filter(|r| r.part == Part::Train);
    let labels = trained.map(|r| r.label.as_str()).chain(others);
    let present: BTreeSet<&str> = labels.flat_map(|label| task.classes_of(label)).collect();
    let mut classes: Vec<String> = match names {
        _ if known.is_some() => known.unwrap_or_default().to_vec(),
        Some(names) => names.iter().filter(|n| present.contains(n.as_str())).cloned().collect(),
        None => present.iter().map(|label| label.to_string()).collect(),
    };
    let number = |label: &String| label.parse::<i64>().ok();
    if names.is_none() && known.is_none() && classes.iter().all(|label| number(label).is_some()) {
        classes.sort_by_key(number);
    }
    let warnings = match rows.is_empty() || known.is_some() {
        true => Vec::new(),
        false => check_class_names(&root, &classes, ONE_LABEL)?,
    };
    let composed: Vec<Cow<'_, str>> = classes.iter().map(|class| composed(class)).collect();
    let numbers: HashMap<&str, usize> =
        composed.iter().enumerate().map(|(i, class)| (class.as_ref(), i)).collect();
    let mut items = Vec::with_capacity(rows.len());
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    for Labelled { name, label, part, origin } in rows {
        let number = task.classes_of(&label).first().and_then(|class| numbers.get(class).copied());
        let Some(label) = number else {
            if known.is_some() {
                let reason =
                    unknown.entry(label).or_insert_with_key(|label| not_known(label, &classes));
                let reason = reason.clone();
                skipped.push(Skipped { name, reason });
                continue;
            }
            let what = (part, "correct the label, or leave the image out");
            return Err(unknown_class(&root.join(&name), &label, what, &classes));
        };
        items.push(Item { name, label, part, origin, listed: true });
    }
    items.sort_by_key(|item| item.part as u8);
    let has = |part| items.iter().any(|item| item.part == part);
    let (has_validation, has_test) = (has(Part::Validation), has(Part::Test));
    Ok(Layout {
        root,
        place,
        class_folders: if known.is_some() { Vec::new() } else { classes.clone() },
        classes,
        items,
        has_validation,
        has_test,
        skipped,
        lost: Vec::new(),
        warnings,
        keys: Keys::None,
    })
}
