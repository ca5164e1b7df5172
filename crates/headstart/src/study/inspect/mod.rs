//! Checking a data set before training: files that cannot be read, duplicates, images in two splits,
//! tiny and blank images, uneven classes, suspected label errors.
//!
//! ```
//! use headstart::dataset::{self, DataOptions};
//! use headstart::inspect;
//!
//! let data = dataset::open("synthetic:3x30x16", &DataOptions::default())?;
//! let found = inspect::inspect(&data, 0, &mut |_done, _of| ())?;
//! assert_eq!(found.exact_duplicates.len(), 0);
//! println!("{found}");
//! # Ok::<(), headstart::Error>(())
//! ```

mod labels;
mod part;
mod quick;
mod show;

use std::io::Cursor;
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

use crate::control::Control;
pub use crate::data::alike::BLANK;
use crate::data::alike::{Look, compare};
use crate::data::dataset::{Dataset, ImageFile, PartSummary, Skipped, Subset};
use crate::data::image::{read_header, suits};
use crate::error::{Error, Result};

pub use labels::{LabelCheck, Mislabelled, check_labels};
pub use part::{Looked, conclude, look};
pub use quick::warnings;

/// An image whose shorter side has fewer pixels than this is tiny.
pub const TINY: usize = 16;
/// Classes are uneven when the largest has at least this many times the images of the smallest.
pub const UNEVEN: f64 = 5.0;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The data set's name.
    pub name: String,
    /// Images checked.
    pub images: usize,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Counts and sizes by class and split.
    pub parts: Vec<PartSummary>,
    /// Files that cannot be used, with the reason.
    pub unreadable: Vec<Skipped>,
    /// Files whose name claims another format.
    pub wrong_extensions: Vec<WrongExtension>,
    /// Images with the same bytes (the same pixels where there are no files).
    pub exact_duplicates: Vec<Group>,
    /// Images that look the same: re-encoded, resized, slightly changed. One of each exact group is
    /// compared.
    pub near_duplicates: Vec<Group>,
    /// Groups of either kind with images in more than one split.
    pub leaks: usize,
    /// Groups of either kind with images of more than one class.
    pub conflicts: usize,
    /// Images with fewer than [`TINY`] pixels on a side.
    pub tiny: Vec<Member>,
    /// Images of one colour, within [`BLANK`].
    pub blank: Vec<Member>,
    /// Largest and smallest class of the training images.
    pub balance: Balance,
    /// Warnings, one sentence each: what is allowed but probably a mistake.
    pub warnings: Vec<String>,
    /// Suspected label errors, if [`check_labels`] was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelCheck>,
}

/// An image of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Path, as [`Subset::path`] has it.
    pub name: String,
    /// Name of its class.
    pub class: String,
    /// "train", "validation" or "test".
    pub split: &'static str,
    /// Height and width.
    pub size: (usize, usize),
    /// Position in its split.
    #[serde(skip)]
    pub position: usize,
}

/// Images that are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Two images or more.
    pub images: Vec<Member>,
    /// Whether they are in more than one split, so that the model is tested on what it was trained on.
    pub across_splits: bool,
    /// Whether they are of more than one class, so that one label is wrong.
    pub across_classes: bool,
}

/// A file whose name claims another format than its content has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongExtension {
    /// Path, as [`Subset::path`] has it.
    pub name: String,
    /// What it is.
    pub format: String,
}

/// How even the classes of the training images are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// Class with the most images.
    pub largest: String,
    /// How many these are.
    pub most: usize,
    /// Class with the fewest images.
    pub smallest: String,
    /// How many these are.
    pub fewest: usize,
    /// `most / fewest`.
    pub ratio: f64,
}

impl Balance {
    /// Whether the ratio is [`UNEVEN`] or more.
    pub fn is_uneven(&self) -> bool {
        self.ratio >= UNEVEN
    }

    fn of(data: &Dataset) -> Balance {
        let counts = data.train.class_counts();
        let at = |class: Option<usize>| {
            let class = class.unwrap_or(0);
            (data.classes[class].clone(), counts[class])
        };
        let (largest, most) = at((0..counts.len()).rev().max_by_key(|&c| counts[c]));
        let (smallest, fewest) = at((0..counts.len()).min_by_key(|&c| counts[c]));
        let ratio = most as f64 / fewest.max(1) as f64;
        Balance { largest, most, smallest, fewest, ratio }
    }
}

/// The splits of a data set with their names.
pub(crate) fn parts(data: &Dataset) -> Vec<(&'static str, &Subset)> {
    let mut parts = vec![("train", &data.train)];
    parts.extend(data.validation.as_ref().map(|s| ("validation", s)));
    parts.extend(data.test.as_ref().map(|s| ("test", s)));
    parts
}

/// What is known of one image after it was checked.
struct Facts {
    member: Member,
    look: Look,
    /// The format of a file whose name claims another.
    wrong: Option<String>,
}

/// Checks every image of `data` on this many `threads` (0 for one per core); `progress` gets how many images are done,
/// and of how many. Needs about 500 bytes of memory per image.
///
/// # Errors
/// If the threads cannot start. Images that cannot be read are findings.
pub fn inspect(
    data: &Dataset,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Inspection> {
    let pool = pool(threads)?;
    let total = images(data);
    let (mut facts, mut unreadable, mut done) = (Vec::new(), data.skipped.clone(), 0);
    look_each(data, &pool, 0..total, &mut |looked| {
        done += looked.len();
        for one in looked {
            match one {
                Ok(one) => facts.push(one),
                Err(skipped) => unreadable.push(skipped),
            }
        }
        progress(done, total);
        Ok(Control::Continue)
    })?;
    Ok(findings(data, &pool, facts, unreadable))
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| Error::threads(threads, e))
}

/// Images of all splits.
pub fn images(data: &Dataset) -> usize {
    parts(data).iter().map(|(_, subset)| subset.len()).sum()
}

/// Gives `each` what is known of the images at these positions among those of all splits, some at a time, in order.
fn look_each(
    data: &Dataset,
    pool: &rayon::ThreadPool,
    wanted: Range<usize>,
    each: &mut dyn FnMut(Vec<std::result::Result<Facts, Skipped>>) -> Result<Control>,
) -> Result<Control> {
    let mut before = 0;
    for (split, subset) in parts(data) {
        let own = wanted.start.clamp(before, before + subset.len()) - before
            ..wanted.end.clamp(before, before + subset.len()) - before;
        before += subset.len();
        let positions: Vec<usize> = own.collect();
        for chunk in positions.chunks(512) {
            let look = |&i: &usize| look_at(data, split, subset, i);
            let looked = pool.install(|| chunk.par_iter().map(look).collect());
            if each(looked)? == Control::Stop {
                return Ok(Control::Stop);
            }
        }
    }
    Ok(Control::Continue)
}

/// All findings from what is known of each image.
fn findings(
    data: &Dataset,
    pool: &rayon::ThreadPool,
    facts: Vec<Facts>,
    unreadable: Vec<Skipped>,
) -> Inspection {
    let (readable, lost) = readable(data, &facts);
    let looks: Vec<&Look> = facts.iter().map(|one| &one.look).collect();
    let alike = pool.install(|| compare(&looks));
    let group = |rows: &Vec<usize>| {
        let images: Vec<Member> = rows.iter().map(|&i| facts[i].member.clone()).collect();
        let across_splits = images.iter().any(|m| m.split != images[0].split);
        let across_classes = images.iter().any(|m| m.class != images[0].class);
        Group { images, across_splits, across_classes }
    };
    let exact_duplicates: Vec<Group> = alike.exact.iter().map(group).collect();
    let near_duplicates: Vec<Group> = alike.near.iter().map(group).collect();
    let both = || exact_duplicates.iter().chain(&near_duplicates);
    let wrong = |one: &Facts| {
        Some(WrongExtension { name: one.member.name.clone(), format: one.wrong.clone()? })
    };
    let members = |keep: &dyn Fn(&Facts) -> bool| {
        facts.iter().filter(|one| keep(one)).map(|one| one.member.clone()).collect()
    };
    Inspection {
        name: data.name.clone(),
        images: facts.len(),
        classes: data.classes.clone(),
        parts: readable.describe().parts,
        unreadable,
        wrong_extensions: facts.iter().filter_map(wrong).collect(),
        leaks: both().filter(|g| g.across_splits).count(),
        conflicts: both().filter(|g| g.across_classes).count(),
        tiny: members(&|one| one.member.size.0.min(one.member.size.1) < TINY),
        blank: members(&|one| one.look.blank),
        balance: Balance::of(&readable),
        warnings: [data.warnings.clone(), lost].concat(),
        labels: None,
        exact_duplicates,
        near_duplicates,
    }
}

fn look_at(
    data: &Dataset,
    split: &'static str,
    subset: &Subset,
    i: usize,
) -> std::result::Result<Facts, Skipped> {
    let name = subset.path(i).into_owned();
    let look = || -> Result<Facts> {
        let ImageFile { image, file, hash: content } = subset.read(i)?;
        let header = file.and_then(|bytes| read_header(&mut Cursor::new(bytes)).ok());
        let wrong = header.map(|header| header.format).filter(|f| !suits(&name, *f));
        let look = Look::of(&image, content)?;
        let member = Member {
            name: name.clone(),
            class: data.classes[subset.label(i)].clone(),
            split,
            size: (image.height, image.width),
            position: i,
        };
        let wrong = wrong.map(|format| format.to_string());
        Ok(Facts { member, look, wrong })
    };
    look().map_err(|error| Skipped { name: name.clone(), reason: reason(error) })
}

/// Why an image cannot be used, without its name, as it is worded where a data set is opened.
fn reason(error: Error) -> String {
    match error {
        Error::Format { found, .. } | Error::Invalid { found, .. } => found,
        Error::Io { source, .. } => format!("a file that cannot be read ({source})"),
        other => other.to_string(),
    }
}

/// The data set without the images that could not be read after all, and a warning for each class that has none left to be
/// trained on.
fn readable(data: &Dataset, facts: &[Facts]) -> (Dataset, Vec<String>) {
    let select = |split: &str, subset: &Subset| {
        let own = facts.iter().filter(|one| one.member.split == split);
        subset.select(&own.map(|one| one.member.position).collect::<Vec<_>>())
    };
    let train = select("train", &data.train);
    let counts = data.train.class_counts().into_iter().zip(train.class_counts());
    let lost = data.classes.iter().zip(counts).filter(|(_, (all, left))| *all > 0 && *left == 0);
    let warnings = lost.map(|(class, (all, _))| {
        format!("class {class}: none of its {all} training images can be read")
    });
    let warnings = warnings.collect();
    let validation = data.validation.as_ref().map(|subset| select("validation", subset));
    let test = data.test.as_ref().map(|subset| select("test", subset));
    (Dataset { train, validation, test, ..data.clone() }, warnings)
}
