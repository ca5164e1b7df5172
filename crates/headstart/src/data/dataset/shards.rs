//! WebDataset shards: tar archives in which `KEY.jpg` (or another image) has its label in `KEY.cls`,
//! a whole number or a class name. A `classes.txt` beside the shards names the numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{self, Contents};
use super::labelled::{self, Labelled};
use super::room::Room;
use super::shown::Place;
use super::tree::{Layout, Part, has_image_extension, is_hidden, part_of};
use super::{Limits, Skipped};
use crate::error::{Error, Result};
use crate::memory::{self, Claim};
use crate::task::Task;
use crate::text::{self, composed, decode};

const CLASS_FILE: &str = "classes.txt";
const HINT: &str = "a shard holds KEY.jpg with KEY.cls beside it";
/// Endings of archives. Those of shards are among them: in class folders they are none.
const ARCHIVES: [&str; 11] = [
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz",
    ".xz",
];
/// Most shards that a pattern may stand for.
const MAX_SHARDS: usize = 100_000;

/// A shard and the split its images belong to.
pub(crate) type Shard = (PathBuf, Part);

/// The shards in `folder` or in its folders `train`, `validation`, `test`; none where it has other
/// folders, which makes it an image folder.
pub(crate) fn find(folder: &Path) -> Result<Vec<Shard>> {
    let shards = listed(folder)?;
    if shards.is_empty()
        && let Some(found) = only_archives(folder)?
    {
        let hint = match found.ends_with("gz") {
            true => "unpack them; shards of WebDataset are read as .tar, so gunzip them",
            false => "unpack them, and give the folder with a folder of images for each class",
        };
        let found = format!("nothing but archives, such as {found}");
        return Err(Error::format(
            folder,
            "images in class folders, or shards (.tar)",
            found,
            hint,
        ));
    }
    Ok(shards)
}

fn listed(folder: &Path) -> Result<Vec<Shard>> {
    let mut shards = Vec::new();
    for path in visible(folder)? {
        if !path.is_dir() {
            shards.extend(as_shard(&path));
            continue;
        }
        let part = path.file_name().and_then(|name| part_of(&name.to_string_lossy()));
        let inside: Vec<PathBuf> = match part {
            Some(_) => visible(&path)?.into_iter().filter(|p| as_shard(p).is_some()).collect(),
            None => Vec::new(),
        };
        match part {
            Some(part) if !inside.is_empty() => {
                shards.extend(inside.into_iter().map(|path| (path, part)));
            }
            _ => return Ok(Vec::new()),
        }
    }
    Ok(shards)
}

/// The name of an archive where all that a folder has, or its folders, are archives and what is surely no image.
fn only_archives(folder: &Path) -> Result<Option<String>> {
    let (mut found, mut inside) = (None::<String>, Vec::new());
    // The listing ends at the first image, and says then that it is over.
    let mut look = |folder: &Path, inside: &mut Vec<PathBuf>| -> Result<bool> {
        for entry in fs::read_dir(folder).map_err(Error::io("list folder", folder))? {
            let entry = entry.map_err(Error::io("list folder", folder))?;
            let name = text::of_name(&entry.file_name());
            let lower = name.to_ascii_lowercase();
            match entry.path() {
                _ if is_hidden(&name) => {}
                path if path.is_dir() => inside.push(path),
                // The first by name, in whatever order they are listed.
                _ if ARCHIVES.iter().any(|ending| lower.ends_with(ending)) => {
                    let first = found.take().unwrap_or_else(|| name.clone());
                    found = Some(first.min(name));
                }
                _ if has_image_extension(&name) || !name.contains('.') => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    };
    if !look(folder, &mut inside)? {
        return Ok(None);
    }
    for folder in &inside {
        let mut deeper = Vec::new();
        if !look(folder, &mut deeper)? || !deeper.is_empty() {
            return Ok(None);
        }
    }
    Ok(found)
}

fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list folder", folder))? {
        let entry = entry.map_err(Error::io("list folder", folder))?;
        if !is_hidden(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// A `.tar` file with the split that a word of its name says, as in `val-000.tar`.
fn as_shard(path: &Path) -> Option<Shard> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    let stem = name.strip_suffix(".tar")?;
    let mut words = stem.split(|c: char| !c.is_alphabetic());
    let part = words.find_map(part_of).unwrap_or(Part::Train);
    path.is_file().then(|| (path.to_path_buf(), part))
}

/// The shards that a pattern such as `train-{000000..000003}.tar` stands for; `None` if `text` is none.
///
/// # Errors
/// If the range is empty or too long, or a shard of it is missing.
pub(crate) fn expand(text: &str) -> Option<Result<Vec<Shard>>> {
    let (before, rest) = text.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    // Longer numbers are no numbers of shards.
    let width = Some(first.len()).filter(|&width| width <= 20)?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    if last < first || last - first >= MAX_SHARDS {
        let expected = format!("a range of 1 to {MAX_SHARDS} shards");
        return Some(Err(Error::invalid("data", expected, text, "shard-{000000..000003}.tar")));
    }
    let one = |i: usize| {
        let path = PathBuf::from(format!("{before}{i:0width$}{after}"));
        as_shard(&path).ok_or_else(|| {
            let hint = "check the range and the number of digits";
            Error::format(path, "a shard (.tar)", "none", hint)
        })
    };
    Some((first..=last).map(one).collect())
}

/// Reads all of `shards`, found at `root`.
pub(crate) fn read(
    root: &Path,
    shards: &[Shard],
    limits: &Limits,
    known: Option<&[String]>,
) -> Result<Layout> {
    let mut contents = Vec::with_capacity(shards.len());
    // All of them are in memory together.
    let mut room = Room::new(limits);
    for (path, part) in shards {
        contents.push((archive::read(path, limits, &mut room)?, *part));
    }
    arrange(root, contents, limits, known)
}

/// Joins images and labels. `root` is a folder, or the only shard; class names are beside it.
pub(crate) fn arrange(
    root: &Path,
    shards: Vec<(Contents, Part)>,
    limits: &Limits,
    known: Option<&[String]>,
) -> Result<Layout> {
    let folder = if root.is_dir() { root } else { root.parent().unwrap_or(Path::new("")) };
    let names = class_names(&folder.join(CLASS_FILE), limits)?;
    let several = shards.len() > 1;
    // The folder that the shards are in; a pattern may have one with a number.
    let base = match root.is_dir() {
        true => root.to_path_buf(),
        false => {
            let text = root.to_string_lossy();
            let fixed = text.split('{').next().unwrap_or_default();
            match fixed.rsplit_once('/') {
                Some((folder, _)) => PathBuf::from(format!("{folder}/")),
                None => PathBuf::new(),
            }
        }
    };
    let place = match several {
        true => Place::Shards(base.clone()),
        false => Place::archive(shards.first().map_or(root, |shard| &shard.0.tree.root), ""),
    };
    let (mut rows, mut skipped, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, part) in shards {
        warnings.extend(shard.warnings());
        let own = &shard.tree.root;
        let file = own.strip_prefix(&base).unwrap_or(own).to_string_lossy().into_owned();
        let within = |name: String| if several { format!("{file}/{name}") } else { name };
        for Skipped { name, reason } in shard.tree.skipped {
            skipped.push(Skipped { name: within(name), reason });
        }
        for image in shard.tree.files {
            let name = within(image.path.join("/"));
            let label = shard.labels.of(&image.path).map_err(|two| {
                archive::two_labels(own, two, &format!(" for {}", image.path.join("/")))
            })?;
            match label.ok_or("no label (.cls)".to_string()).and_then(|l| resolve(l, &names)) {
                Ok(label) => {
                    rows.push(Labelled { name, label, part, origin: image.origin });
                }
                Err(reason) => skipped.push(Skipped { name, reason }),
            }
        }
    }
    if rows.is_empty() {
        let found = match skipped.first() {
            Some(first) => format!("{} without, such as {}", skipped.len(), first.name),
            None => "none".to_string(),
        };
        return Err(Error::format(root, "images with labels", found, HINT));
    }
    let mut layout = labelled::arrange(
        Task::default(),
        (root.to_path_buf(), place),
        (rows, BTreeSet::new()),
        names.as_deref(),
        known,
        skipped,
    )?;
    layout.warnings.splice(0..0, warnings);
    Ok(layout)
}

/// The class that a label means: itself, or the name of its number.
fn resolve(label: &str, names: &Option<Vec<String>>) -> std::result::Result<String, String> {
    let number = label.parse::<usize>();
    let Some(names) = names else {
        if label.is_empty() || label.chars().any(char::is_control) {
            return Err("a label (.cls) that is no number or name".to_string());
        }
        return Ok(number.map_or_else(|_| label.to_string(), |n| n.to_string()));
    };
    let found = match number {
        Ok(index) if !names.iter().any(|n| n == label) => names.get(index),
        _ => names.iter().find(|name| *name == label),
    };
    let unknown = || format!("label {label}, but {CLASS_FILE} names {} classes", names.len());
    found.cloned().ok_or_else(unknown)
}

fn class_names(path: &Path, limits: &Limits) -> Result<Option<Vec<String>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut claim = Claim::default();
    let text = memory::read(path, limits.file_bytes.min(64 << 20), &mut claim)?;
    claim.parse_records(text.len()).map_err(|over| over.of(path))?;
    let (text, _) = decode(&text);
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let names: Vec<String> =
        lines.map(|line| text::visible(&composed(line)).into_owned()).collect();
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    if names.len() < 2 || unique.len() != names.len() {
        let found = format!("{} lines, {} of them different", names.len(), unique.len());
        return Err(Error::format(path, "two class names or more, one a line", found, HINT));
    }
    Ok(Some(names))
}
