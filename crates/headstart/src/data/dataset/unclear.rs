//! Folders that look like those of classes, or of a part of the data, and are none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::split_names::{is_plain, may_be, part_of};
use super::tree::{Folders, Part, below, under};
use crate::error::{Error, Result};
use crate::text::composed;

impl Folders<'_> {
    /// Of `splits`, folders of parts, those whose images have labels: their folders are not only one of images, as in
    /// `test/images`.
    pub(super) fn labelled(
        &self,
        path: &[String],
        splits: Vec<(Part, String)>,
        known: Option<&[String]>,
    ) -> Vec<(Part, String)> {
        let train = splits.iter().find(|split| split.0 == Part::Train);
        let classes = match (known, train) {
            (Some(known), _) => known.to_vec(),
            (None, Some((_, train))) => self.inside(&under(path, train)).folders.clone(),
            (None, None) => Vec::new(),
        };
        let labelled =
            |(part, name): &(Part, String)| match &self.inside(&under(path, name)).folders[..] {
                [only] => *part == Part::Train || !is_plain(only) || classes.contains(only),
                _ => true,
            };
        splits.into_iter().filter(labelled).collect()
    }

    /// Fails where folders all have names of parts of the data, or of images and their masks, and so are no classes.
    pub(super) fn check_flat(&self, root: &Path, path: &[String]) -> Result<()> {
        let names = &self.inside(path).folders;
        let no_class =
            |name: &String| part_of(name).or_else(|| may_be(name)).is_some() || is_plain(name);
        if names.len() < 2 || !names.iter().all(no_class) {
            return Ok(());
        }
        let found = format!("{} with images directly inside", names.join(", "));
        let hint = "the images of each class belong into a folder of its own, such as train/cats/";
        Err(Error::format(root, "a folder for each class", found, hint))
    }

    /// Fails if folders cannot be classes, because they hold mostly folders of the same names: parts, folds, sites.
    pub(super) fn check_classes(&self, root: &Path, path: &[String]) -> Result<()> {
        let names = &self.inside(path).folders;
        let filled = |name: &String| {
            let own = below(path, name);
            let inside = self.inside(&own).folders.iter();
            inside
                .filter(|sub| self.inside(&below(&own, sub)).below > 0)
                .cloned()
                .collect::<Vec<_>>()
        };
        let all: Vec<(&String, Vec<String>)> = names
            .iter()
            .map(|name| (name, filled(name)))
            .filter(|(_, subs)| !subs.is_empty())
            .collect();
        let (mut direct, mut within) = (0, 0);
        for (name, _) in &all {
            let inside = self.inside(&below(path, name));
            (direct, within) = (direct + inside.images, within + inside.below);
        }
        let outside =
            names.iter().map(|name| self.inside(&below(path, name)).below).sum::<usize>() - within;
        let mut counts: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
        for sub in all.iter().flat_map(|(_, subs)| subs) {
            *counts.entry(composed(sub)).or_default() += 1;
        }
        let shared: Vec<&str> =
            counts.iter().filter(|(_, count)| **count > 1).map(|(sub, _)| sub.as_ref()).collect();
        // One folder in all classes, such as images, and folders of plants of which some have the same number, are usual.
        if shared.len() < 2
            || 2 * shared.len() <= counts.len()
            || 2 * direct >= within
            || outside >= within
        {
            return Ok(());
        }
        let list = |names: &[&str]| match names.len() {
            0..=5 => names.join(", "),
            n => format!("{}, ... ({n} in all)", names[..5].join(", ")),
        };
        let same = all.iter().all(|(_, subs)| subs.len() == counts.len());
        let how = if same { "all hold the same folders" } else { "hold mostly the same folders" };
        let own: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let found = format!("{}, which {how}: {}", list(&own), list(&shared));
        let parts = shared.iter().all(|sub| part_of(sub).is_some());
        let hint = match parts {
            true => format!(
                "give the path of one of them; or if they are classes, move them into the parts, as {}/{}",
                shared[0], own[0]
            ),
            false => "if they are parts of the data, call them train, validation and test; if one of them is the data, give \
                      its path; if they are classes all the same, --group folder takes them as such; else list the images in \
                      a table (.csv with path,label,split)"
                .to_string(),
        };
        Err(Error::format(root, "a folder for each class", found, hint))
    }
}
