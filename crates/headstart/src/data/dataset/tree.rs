//! Files of an image folder or archive, and the reading of their layout: which are training,
//! validation and test images, and of which class.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Skipped;
use super::grouping::Keys;
use super::shown::Place;
pub(crate) use super::split_names::part_of;
use super::split_names::{is_plain, may_be, spelled};
pub(crate) use crate::data::image::has_image_extension;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::text::composed;

/// Folders nested deeper than this are left out.
pub(crate) const MAX_DEPTH: usize = 32;

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Training images.
    Train,
    /// Validation images.
    Validation,
    /// Test images.
    Test,
}

impl Part {
    /// "train", "validation" or "test".
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// Where the bytes of a file are.
pub(crate) enum Origin {
    Disk(PathBuf),
    /// Part of an archive on disk.
    Slice(Slice),
    Memory(Box<[u8]>),
}

/// `bytes` bytes of a file from `offset` on.
pub(crate) struct Slice {
    pub path: Arc<Path>,
    pub offset: u64,
    pub bytes: u64,
}

/// A file; `path` is relative to the root, not empty, and shown to people only.
pub(crate) struct File {
    pub path: Vec<String>,
    pub origin: Origin,
}

/// Everything under a root that is not hidden, in any order.
#[derive(Default)]
pub(crate) struct Tree {
    pub root: PathBuf,
    /// Whether the root is an archive.
    pub archive: bool,
    /// Every folder below the root, also empty ones.
    pub folders: Vec<Vec<String>>,
    pub files: Vec<File>,
    pub skipped: Vec<Skipped>,
}

/// An image to be.
pub(crate) struct Item {
    pub name: String,
    pub label: usize,
    pub part: Part,
    pub origin: Origin,
    /// Whether a manifest or shard lists it as an image, so that it is reported as skipped if it is none.
    pub listed: bool,
}

/// A tree read as a data set. Items are in order of part, class, folder, file name.
pub(crate) struct Layout {
    /// The folder that holds the splits or classes; names below are relative to it.
    pub root: PathBuf,
    /// How that is shown.
    pub place: Place,
    pub classes: Vec<String>,
    /// For each class, its folder among the training images.
    pub class_folders: Vec<String>,
    pub items: Vec<Item>,
    pub has_validation: bool,
    pub has_test: bool,
    pub skipped: Vec<Skipped>,
    /// Those of `skipped` that were listed for a part, with their class; the largest number where it has no image.
    pub lost: Vec<(String, (Part, usize))>,
    /// Warnings: what is allowed but probably a mistake.
    pub warnings: Vec<String>,
    /// What is known of groups.
    pub keys: Keys,
}

/// Whether systems use this name for what is not data: dot files and the like.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__MACOSX" | "@eaDir" | "$RECYCLE.BIN")
}

const EXAMPLE: &str = "make one folder a class, such as cats/ and dogs/, with its images inside";

/// What one folder holds.
#[derive(Default)]
pub(super) struct Inside {
    /// Folders directly inside.
    pub folders: Vec<String>,
    /// Images directly inside, and at any depth.
    pub images: usize,
    pub below: usize,
}

fn index(tree: &Tree) -> BTreeMap<&[String], Inside> {
    let mut map: BTreeMap<&[String], Inside> = BTreeMap::new();
    map.entry(&[]).or_default();
    for folder in &tree.folders {
        if let Some((name, parent)) = folder.split_last() {
            map.entry(parent).or_default().folders.push(name.clone());
            map.entry(folder).or_default();
        }
    }
    for file in &tree.files {
        if let Some((name, parent)) = file.path.split_last()
            && has_image_extension(name)
        {
            map.entry(parent).or_default().images += 1;
            for depth in 0..=parent.len() {
                map.entry(&parent[..depth]).or_default().below += 1;
            }
        }
    }
    for inside in map.values_mut() {
        inside.folders.sort();
        inside.folders.dedup();
    }
    map
}

/// Reads the layout: `train`, `validation`, `test` folders of class folders, or class folders
/// alone, below any number of folders that hold nothing but the next one.
///
/// Classes are in code-point order of their names, images in that of (folder, file name), as
/// Keras and torchvision order them. With `known` classes, those of a model, images of others are left out, and no part
/// has to be there. `grouped`: folders inside those of classes are groups, whatever their names.
///
/// # Errors
/// If there are no class folders, or only such as are none.
pub(crate) fn arrange(tree: Tree, known: Option<&[String]>, grouped: bool) -> Result<Layout> {
    let folders = Folders { inside: index(&tree), known: known.is_some() };
    let top = folders.top();
    let root = top.iter().fold(tree.root.clone(), |path, name| path.join(name));
    let splits = folders.labelled(&top, folders.splits(&top), known);
    let roots = part_roots(&root, &splits, known.is_some())?;
    let here = folders.inside(&top);
    if here.folders.is_empty() {
        let found = match here.images {
            0 => "no images and no folders".to_string(),
            1 => "1 image and no folders".to_string(),
            n => format!("{n} images and no folders"),
        };
        return Err(Error::format(root, "a folder for each class", found, EXAMPLE));
    }
    let train_name = roots.iter().find(|r| r.0 == Part::Train).map(|r| &r.1);
    let (train_folder, train_root) = match train_name {
        Some(name) => (under(&top, name), root.join(name)),
        None => (top.clone(), root.clone()),
    };
    if known.is_none() && !grouped {
        folders.check_classes(&train_root, &train_folder)?;
    }
    if known.is_none() && roots.is_empty() {
        folders.check_flat(&root, &top)?;
    }
    let classes =
        known.map_or_else(|| folders.inside(&train_folder).folders.clone(), <[_]>::to_vec);
    let warnings = match known {
        Some(_) => Vec::new(),
        None => check_class_names(&train_root, &classes, ONE_FOLDER)?,
    };
    if known.is_none() {
        folders.check_parts(&root, &top, &roots, &classes)?;
    }
    let beside = folders.beside(&top, &roots, train_name, &tree.files);
    let mut skipped = Vec::new();
    let class_folder = |class: &String| match train_name {
        Some(train) => format!("{train}/{class}"),
        None => class.clone(),
    };
    let class_folders = match known {
        Some(_) => Vec::new(),
        None => classes.iter().map(class_folder).collect(),
    };
    drop(folders);
    let above = top.iter().map(|name| format!("{name}/")).collect::<String>();
    let place = match tree.archive {
        true => Place::archive(&tree.root, &above),
        false => Place::Folder(root.clone()),
    };
    let within = |s: Skipped| match s.name.strip_prefix(&above) {
        Some(name) => Skipped { name: name.to_string(), ..s },
        None => s,
    };
    skipped.extend(tree.skipped.into_iter().map(within));
    let items = items(tree.files, &top, &roots, (&classes, known.is_some()), &beside, &mut skipped);
    let has = |part| match known {
        Some(_) => items.iter().any(|item| item.part == part),
        None => roots.iter().any(|r| r.0 == part),
    };
    let (has_validation, has_test) = (has(Part::Validation), has(Part::Test));
    // The class's folder, and that of the part.
    let keys = Keys::Folders(1 + roots.first().map_or(0, |root| steps(&root.1)));
    Ok(Layout {
        root,
        place,
        classes,
        class_folders,
        items,
        has_validation,
        has_test,
        skipped,
        lost: Vec::new(),
        warnings,
        keys,
    })
}

pub(super) fn below(path: &[String], name: &String) -> Vec<String> {
    [path, std::slice::from_ref(name)].concat()
}

/// The folder of a part, whose name may have two steps.
pub(super) fn under(path: &[String], part: &str) -> Vec<String> {
    path.iter().cloned().chain(part.split('/').map(String::from)).collect()
}

fn steps(part: &str) -> usize {
    part.split('/').count()
}

/// Whether a path begins with the folder of a part.
fn is_in(path: &[String], part: &str) -> bool {
    part.split('/').eq(path.iter().take(steps(part)))
}

/// What every folder holds, by path.
pub(super) struct Folders<'a> {
    inside: BTreeMap<&'a [String], Inside>,
    /// Whether the classes are those of a model.
    known: bool,
}

impl Folders<'_> {
    pub(super) fn inside(&self, path: &[String]) -> &Inside {
        const NOTHING: &Inside = &Inside { folders: Vec::new(), images: 0, below: 0 };
        self.inside.get(path).unwrap_or(NOTHING)
    }

    /// Folders of parts. One holds class folders: a class may well be called "train" or "test".
    fn splits(&self, path: &[String]) -> Vec<(Part, String)> {
        let folders = self.inside(path).folders.iter();
        let holds_folders = |path: &[String]| {
            let inside = self.inside(path);
            // A few images may lie beside the class folders.
            !inside.folders.is_empty() && (inside.images == 0 || 2 * inside.images < inside.below)
        };
        let holding: Vec<&String> =
            folders.filter(|name| holds_folders(&below(path, name))).collect();
        let named = |part: fn(&str) -> Option<Part>| {
            let parts = holding.iter().filter_map(|name| Some((part(name)?, name.to_string())));
            parts.collect::<Vec<_>>()
        };
        let mut found = named(part_of);
        if found.is_empty() {
            // Names that say less are clear beside each other: train_224 and val_224.
            found = named(spelled).into_iter().collect();
            let parts: Vec<Part> = found.iter().map(|found| found.0).collect();
            let distinct = (1..parts.len()).all(|i| !parts[..i].contains(&parts[i]));
            if !distinct || !(self.known || (parts.len() > 1 && parts.contains(&Part::Train))) {
                found.clear();
            }
        }
        // Archives are unpacked to seg_train/seg_train/CLASS; others have train/images/CLASS.
        let inner = |(part, name): &(Part, String)| {
            let [only] = &self.inside(&below(path, name)).folders[..] else { return None };
            let name = format!("{name}/{only}");
            let meant = part_of(only).or_else(|| spelled(only));
            let own = meant == Some(*part) || is_plain(only);
            (own && holds_folders(&under(path, &name))).then_some((*part, name))
        };
        found.into_iter().map(|own| inner(&own).unwrap_or(own)).collect()
    }

    /// Fails if validation or test images have a class that training images have not.
    fn check_parts(
        &self,
        root: &Path,
        path: &[String],
        roots: &[(Part, String)],
        classes: &[String],
    ) -> Result<()> {
        for (part, name) in roots.iter().filter(|root| root.0 != Part::Train) {
            for class in &self.inside(&under(path, name)).folders {
                if classes.binary_search(class).is_err() {
                    let folder = root.join(name).join(class);
                    let what = (*part, "rename or remove the folder");
                    return Err(unknown_class(&folder, class, what, classes));
                }
            }
        }
        Ok(())
    }

    /// Why images are left out that are in a folder beside those of the parts, by the folder's name.
    fn beside(
        &self,
        path: &[String],
        roots: &[(Part, String)],
        train: Option<&String>,
        files: &[File],
    ) -> BTreeMap<String, String> {
        let mut images: BTreeMap<&str, usize> = BTreeMap::new();
        for file in files.iter().filter(|_| !roots.is_empty()) {
            if let Some([folder, .., name]) = file.path.strip_prefix(path)
                && has_image_extension(name)
                && !roots.iter().any(|root| root.1.split('/').next() == Some(folder))
            {
                *images.entry(folder).or_default() += 1;
            }
        }
        let parts: Vec<&str> = roots.iter().map(|root| root.1.as_str()).collect();
        let reason = |(folder, images): (&str, usize)| {
            let count = if images == 1 { "1 image".into() } else { format!("{images} images") };
            let meant = part_of(folder).or_else(|| may_be(folder));
            let own = below(path, &folder.to_string());
            let inside = self.inside(&own);
            // In a folder of the same kind, as archives are unpacked, images have no class either.
            let inner = match &inside.folders[..] {
                [only] if may_be(only) == meant || is_plain(only) => {
                    self.inside(&below(&own, only)).images
                }
                _ => 0,
            };
            let direct = inside.images + inner > 0;
            let reason = match (meant, train) {
                (Some(_), _) if direct => format!("one of {count} {}", unlabelled(folder)),
                (Some(part), _) => match roots.iter().find(|root| root.0 == part) {
                    Some((_, known)) => format!(
                        "one of {count} in {folder}, which is beside {known}; if they are of the same part, move them into {known}"
                    ),
                    None => format!(
                        "one of {count} in {folder}, which is beside {}; if it is a part, rename it {}",
                        parts.join(", "),
                        part.name()
                    ),
                },
                (_, Some(train)) => format!(
                    "one of {count} in {folder}, which is beside {} and so of no part; if it is a class, move it into {train}",
                    parts.join(", ")
                ),
                _ => format!(
                    "one of {count} in {folder}, which is beside {} and so of no part",
                    parts.join(", ")
                ),
            };
            (folder.to_string(), reason)
        };
        images.into_iter().map(reason).collect()
    }

    /// The folder below all that hold nothing but the next one.
    fn top(&self) -> Vec<String> {
        let mut top: Vec<String> = Vec::new();
        loop {
            let here = self.inside(&top);
            // Labels of objects in images, for example, are files beside the images.
            let empty =
                |name: &&String| is_plain(name) && self.inside(&below(&top, name)).below == 0;
            let filled: Vec<&String> = match &here.folders[..] {
                [only] => vec![only],
                many => many.iter().filter(|name| !empty(name)).collect(),
            };
            let [only] = filled[..] else { return top };
            let deeper = below(&top, only);
            let leaf = self.inside(&deeper).folders.is_empty();
            if here.images > 0 || !self.splits(&top).is_empty() || leaf {
                return top;
            }
            top = deeper;
        }
    }
}

/// Why images of a folder that has no class folders are left out.
fn unlabelled(folder: &str) -> String {
    format!("without labels, as {folder} has no class folders; `headstart predict` classifies them")
}

/// The images inside class folders, in order.
fn items(
    files: Vec<File>,
    top: &[String],
    roots: &[(Part, String)],
    (classes, known): (&[String], bool),
    beside: &BTreeMap<String, String>,
    skipped: &mut Vec<Skipped>,
) -> Vec<Item> {
    let mut keyed = Vec::new();
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    let names: Vec<Cow<'_, str>> = classes.iter().map(|class| composed(class)).collect();
    let numbers: HashMap<&str, usize> =
        names.iter().enumerate().map(|(i, class)| (class.as_ref(), i)).collect();
    for file in files {
        let Some(path) = file.path.strip_prefix(top) else { continue };
        let (part, path_in_part) = match (path.first(), roots.is_empty()) {
            (Some(_), true) => (Part::Train, path),
            (Some(first), false) => match roots.iter().find(|root| is_in(path, &root.1)) {
                Some(root) => (root.0, &path[steps(&root.1)..]),
                None if path.len() > 1 => {
                    if path.last().is_some_and(|name| has_image_extension(name))
                        && let Some(reason) = beside.get(first)
                    {
                        let (name, reason) = (path.join("/"), reason.clone());
                        skipped.push(Skipped { name, reason });
                    }
                    continue;
                }
                None => (Part::Train, path),
            },
            (None, _) => continue,
        };
        let [class, .., name] = path_in_part else {
            if path.last().is_some_and(|name| has_image_extension(name)) {
                let reason = "not inside a class folder".to_string();
                skipped.push(Skipped { name: path.join("/"), reason });
            }
            continue;
        };
        let label = numbers.get(class.as_str()).copied();
        if known && label.is_none() && has_image_extension(name) {
            let reason = unknown.entry(class.clone()).or_insert_with(|| {
                match part_of(class).or_else(|| may_be(class)) {
                    Some(_) => unlabelled(class),
                    None => not_known(class, classes),
                }
            });
            let reason = reason.clone();
            skipped.push(Skipped { name: path.join("/"), reason });
        }
        if let Some(label) = label {
            let folder = path[..path.len() - 1].join("/");
            let item =
                Item { name: path.join("/"), label, part, origin: file.origin, listed: false };
            keyed.push(((part as u8, label, folder, name.clone()), item));
        }
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|(_, item)| item).collect()
}

/// The folder of each part; none at all for class folders without splits.
fn part_roots(
    root: &Path,
    splits: &[(Part, String)],
    without_train: bool,
) -> Result<Vec<(Part, String)>> {
    for (i, (part, name)) in splits.iter().enumerate() {
        if let Some((_, other)) = splits[..i].iter().find(|s| s.0 == *part) {
            return Err(Error::format(
                root,
                "one folder each for training, validation and test images",
                format!("both {other} and {name}"),
                "merge the two",
            ));
        }
    }
    if !without_train && !splits.is_empty() && !splits.iter().any(|s| s.0 == Part::Train) {
        let names: Vec<&str> = splits.iter().map(|s| s.1.as_str()).collect();
        return Err(Error::format(
            root,
            "a folder train beside the others",
            names.join(", "),
            "put the training images into train/<class>/; evaluate takes test images alone",
        ));
    }
    Ok(splits.to_vec())
}

/// What is said where there is only one class: what is expected, and the hint.
pub(crate) type OneClass = (&'static str, &'static str);

const ONE_FOLDER: OneClass = ("at least two classes (folders)", EXAMPLE);

/// Fails on a single class; warns of names that differ only in case.
pub(crate) fn check_class_names(
    train_root: &Path,
    classes: &[String],
    (expected, hint): OneClass,
) -> Result<Vec<String>> {
    if let [only] = classes {
        return Err(Error::format(train_root, expected, format!("one, {only}"), hint));
    }
    let mut warnings = Vec::new();
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    for class in classes {
        if let Some(other) = folded.insert(class.to_lowercase(), class) {
            warnings.push(format!("the classes {other} and {class} differ only in case"));
        }
    }
    Ok(warnings)
}

/// What is said of a class that a model has not.
pub(crate) const UNKNOWN: &str = "which the model does not know";

/// Why an image of a class is left out that is none of a model's `classes`.
pub(crate) fn not_known(class: &str, classes: &[String]) -> String {
    let near = did_you_mean(class, classes.iter().map(String::as_str));
    let near = if near.is_empty() { near } else { format!(" ({near})") };
    format!("of class {class}, {UNKNOWN}{near}")
}

/// The error for images of a part of a class that no training image has: `place` is what has it, which `undo` says to change.
pub(crate) fn unknown_class(
    place: &Path,
    class: &str,
    (part, undo): (Part, &str),
    classes: &[String],
) -> Error {
    let expected = format!("a class for {} images that the training images have too", part.name());
    let found = format!("{class}, which they lack");
    if classes.is_empty() {
        let hint = "there are no training images; evaluate takes images for testing alone";
        return Error::format(place, expected, found, hint);
    }
    let mut near: Vec<(usize, &String)> =
        classes.iter().map(|c| (distance(&c.to_lowercase(), &class.to_lowercase()), c)).collect();
    near.sort();
    let names: Vec<&str> = near.iter().take(3).map(|n| n.1.as_str()).collect();
    Error::format(
        place,
        expected,
        found,
        format!("the nearest names are {}; {undo}", names.join(", ")),
    )
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let swap = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = swap.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
