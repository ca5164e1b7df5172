//! Labelled image sets: finding, checking, decoding and splitting them.
//!
//! [`open`] reads CIFAR-10's binary files, folders of class folders, archives of such, WebDataset shards and
//! manifests, and makes synthetic images. The order of images is that of the files (CIFAR-10, shards) or
//! rows (manifests), or class by class in code-point order and by path within a class; splits permute it as scikit-learn does.
//!
//! ```
//! use headstart::dataset::{self, DataOptions};
//!
//! // Synthetic images: 3 classes, 100 images of 32x32 pixels. A path is opened the same way.
//! let data = dataset::open("synthetic:3x100x32", &DataOptions::default())?;
//! assert_eq!(data.classes.len(), 3);
//! println!("{}", data.describe());
//! let image = data.train.image(0)?;
//! assert_eq!((image.height, image.width), (32, 32));
//! # Ok::<(), headstart::Error>(())
//! ```

mod archive;
mod cifar;
mod corrections;
mod describe;
mod encoded;
mod folder;
mod grouping;
mod labelled;
mod large;
mod load;
mod manifest;
mod parts;
mod room;
mod sample;
mod shards;
mod shown;
mod split_names;
mod subset;
mod synthetic;
mod tree;
mod unclear;
mod window;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::data::image::{FORMATS, MAX_FILE};
use crate::data::split::By;
use crate::error::{Error, Result};
use crate::memory::{self, Claim};
use crate::nearest::{did_you_mean, listed};
use crate::range;
use crate::task::Task;
use crate::text::shortened;

pub use corrections::{CORRECTIONS, Corrections};
pub use describe::{Description, PartSummary};
pub use folder::{ImageFiles, is_image_file};
pub use grouping::Grouping;
use grouping::{Keys, groups};
use load::Loaded;
pub use parts::Split;
use room::Room;
pub use sample::NAME as SAMPLE;
pub use split_names::no_class;
pub(crate) use subset::ImageFile;
use subset::Samples;
pub use subset::{ImageHash, Subset, file_hash, image_hash};
pub use synthetic::Synthetic;
pub use tree::Part;
use tree::{Layout, UNKNOWN};

/// A labelled image set, split.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// A short name, from the source.
    pub name: String,
    /// What a label is.
    pub task: Task,
    /// Class names; a label is a position here.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Subset,
    /// Validation images, or `None` when nothing is held out.
    pub validation: Option<Subset>,
    /// Test images, or `None` when the source has none and none are split off.
    pub test: Option<Subset>,
    /// Files left out.
    pub skipped: Vec<Skipped>,
    /// Warnings, one sentence each: what is allowed but probably a mistake.
    pub warnings: Vec<String>,
}

/// A file left out of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its path, as [`Subset::path`] has it.
    pub name: String,
    /// What was found instead of an image.
    pub reason: String,
}

/// How to open a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct DataOptions {
    /// Fraction of the training images held out, 0 for none; unused where the source has validation
    /// images of its own. The same rows as scikit-learn's `train_test_split`.
    pub validation_split: f64,
    /// Fraction of the images split off for testing, 0 for none, before the validation split;
    /// unused where the source has test images of its own.
    pub test_split: f64,
    /// Whether both splits keep every class in proportion: scikit-learn's `stratify`. Where that fails, the only image of a
    /// class is trained on, a part with fewer images than there are classes lacks some, and a warning names them.
    pub stratify: bool,
    /// Which images no split may tear apart: scikit-learn's `GroupShuffleSplit`, or, with `stratify`, the first fold of its
    /// `StratifiedGroupKFold`.
    pub group: Option<Grouping>,
    /// Seed of the splits, of `limit` and of synthetic images: scikit-learn's `random_state`.
    pub seed: u32,
    /// At most this many training images, every class in proportion. They are chosen after the splits,
    /// so validation and test images are the same with and without a limit.
    pub limit: Option<usize>,
    /// Threads that decode, 0 for one per core. The result does not depend on it.
    pub threads: usize,
    /// Whether classes without training images are a warning, not an error: for looking at the data, not for training.
    pub empty_classes: bool,
    /// The classes, where they are a model's: images of others are left out, and no class has to have images.
    pub classes: Option<Vec<String>>,
    /// The length that the shorter side of large JPEGs keeps at least where they stay decoded in memory, none for every pixel:
    /// [`Target::least_side`](crate::image::Target::least_side) of the net that they are opened for. For any other they are
    /// decoded again.
    pub least_side: Option<usize>,
    /// Whether [`Corrections`] of an image folder are heeded.
    pub corrected: bool,
    /// Bounds on memory and work.
    pub limits: Limits,
}

impl Default for DataOptions {
    fn default() -> Self {
        DataOptions {
            validation_split: 0.1,
            test_split: 0.0,
            stratify: false,
            group: None,
            seed: 42,
            limit: None,
            threads: 0,
            empty_classes: false,
            classes: None,
            least_side: None,
            corrected: true,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what opening a data set may take, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Data sets that need no more than this are decoded once and stay in memory (1 GiB, or a quarter of
    /// [`memory::limit()`](crate::memory::limit) where that is less).
    ///
    /// Larger ones are decoded on access; opening reads the first and last bytes of each file, and
    /// decodes those that seem cut short, to leave them out.
    pub decoded_bytes: u64,
    /// Names and labels of files, rows and archives and, of a compressed archive, image files, which are held in memory; more is
    /// an error ([`memory::limit()`](crate::memory::limit)).
    pub encoded_bytes: u64,
    /// Everything in a compressed archive, unpacked; more is an error (16 GiB). It bounds time, not memory; so does a
    /// hundredfold of the archive's own length, from 1 GiB on.
    pub unpacked_bytes: u64,
    /// Single files; larger ones are skipped (256 MiB).
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            decoded_bytes: (memory::limit() / 4).min(1 << 30),
            encoded_bytes: memory::limit(),
            unpacked_bytes: 16 << 30,
            file_bytes: MAX_FILE,
        }
    }
}

impl DataOptions {
    fn check(&self) -> Result<()> {
        for (name, value) in
            [("validation split", self.validation_split), ("test split", self.test_split)]
        {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::invalid(
                    name,
                    "a number from 0 to below 1",
                    value.to_string(),
                    "0.1 holds out every tenth image, 0 none",
                ));
            }
        }
        range::THREADS.check(self.threads as u64)?;
        self.limit.map_or(Ok(()), |limit| range::LIMIT.check(limit as u64))
    }
}

/// Opens a data set.
///
/// `source` is `sample` (1,797 handwritten digits inside the program, a fifth of them for testing),
/// `synthetic` or `synthetic:CLASSESxCOUNTxSIZE`, or the path of
/// - the CIFAR-10 binary archive or its unpacked folder;
/// - a folder of class folders, or one with `train` and optionally `validation` (`val`, `valid`)
///   and `test` folders of class folders;
/// - a `.tar` or `.tar.gz` of such a folder;
/// - WebDataset shards (`KEY.jpg` with its label in `KEY.cls`): one `.tar`, a folder of them, or a pattern such as
///   `train-{000000..000003}.tar`; a word `val` or `test` in the name of shard or folder says the split, a `classes.txt`
///   beside them names whole-number labels;
/// - a manifest: a `.csv` or Parquet table with columns `path`, `label` and, if wanted, `split`; paths are absolute or
///   relative to its folder.
///
/// Kinds are recognised by content. Images are of any [`Format`](crate::image::Format); files that are not, or are damaged, are
/// listed in [`Dataset::skipped`]. It is an error when no image is left, a class has no training
/// image, there is only one class, or validation or test images have a class of their own.
/// Of a folder, [`Corrections`] mend labels and leave images out.
pub fn open(source: impl AsRef<OsStr>, options: &DataOptions) -> Result<Dataset> {
    options.check()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()
        .map_err(|e| Error::threads(options.threads, e))?;
    let source = source.as_ref();
    pool.install(|| open_here(source, options))
}

fn open_here(source: &OsStr, options: &DataOptions) -> Result<Dataset> {
    let path = Path::new(source);
    let text = source.to_string_lossy();
    let known = options.classes.as_deref();
    let grouped = options.group == Some(Grouping::Folder);
    if !path.exists() {
        if text == "synthetic" || text.starts_with("synthetic:") {
            let spec: Synthetic = text.parse()?;
            let loaded = spec.load(options.seed, &options.limits)?;
            return finish("synthetic".to_string(), spec.class_names(), loaded, None, options);
        }
        if text == sample::NAME {
            return finish(
                text.into_owned(),
                sample::class_names(),
                sample::load()?,
                None,
                options,
            );
        }
        if let Some(found) = shards::expand(&text) {
            let layout = shards::read(path, &found?, &options.limits, known)?;
            return from_layout(short_name(path), layout, options);
        }
        return Err(missing(path, &text));
    }
    let name = short_name(path);
    let limits = &options.limits;
    let layout = if path.is_dir() {
        if let Some(folder) = cifar::find(path) {
            let most = limits.file_bytes;
            let (classes, loaded) =
                cifar::load(&folder, |file| read_if_there(&folder.join(file), most))?;
            return finish(name, classes, loaded, None, options);
        }
        if let Some(error) = cifar::python_version(path, |file| path.join(file).is_file()) {
            return Err(error);
        }
        match shards::find(path)? {
            found if found.is_empty() => {
                let mut layout = tree::arrange(folder::list(path, limits)?, known, grouped)?;
                if options.corrected {
                    Corrections::read(path)?.apply(&mut layout, known.is_some())?;
                }
                layout
            }
            found => shards::read(path, &found, limits, known)?,
        }
    } else if manifest::is_manifest(path) {
        manifest::read(path, limits, known, options.group.as_ref())?
    } else {
        let mut contents = archive::read(path, limits, &mut Room::new(limits))?;
        let mut warnings = contents.warnings();
        if contents.cifar.keys().any(|file| cifar::is_batch(file)) {
            let (classes, loaded) = cifar::load(path, |file| Ok(contents.cifar.remove(file)))?;
            let data = finish(name, classes, loaded, None, options)?;
            return Ok(Dataset { warnings, ..data });
        }
        if contents.labels.is_empty() {
            let layout = tree::arrange(contents.tree, known, grouped)?;
            warnings.extend(layout.warnings);
            Layout { warnings, ..layout }
        } else {
            shards::arrange(path, vec![(contents, Part::Train)], limits, known)?
        }
    };
    from_layout(name, layout, options)
}

/// Reads the images of a layout.
fn from_layout(name: String, layout: Layout, options: &DataOptions) -> Result<Dataset> {
    let Layout { items, place, .. } = layout;
    let count = layout.classes.len();
    let mut loaded = load::load(items, place, count, &options.limits, options.least_side);
    loaded.skipped.extend(layout.skipped);
    loaded.lost.extend(layout.lost);
    loaded.skipped.sort_by(|a, b| a.name.cmp(&b.name));
    let found = Found {
        root: layout.root,
        folders: layout.class_folders,
        has_validation: layout.has_validation,
        has_test: layout.has_test,
        keys: layout.keys,
    };
    let mut data = finish(name, layout.classes, loaded, Some(&found), options)?;
    data.warnings.extend(layout.warnings);
    Ok(data)
}

/// What an image folder has, for checks and their messages.
struct Found {
    root: PathBuf,
    /// Each class's folder among the training images, below the root.
    folders: Vec<String>,
    has_validation: bool,
    has_test: bool,
    keys: Keys,
}

fn read_if_there(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    match path.exists() {
        true => memory::read(path, most, &mut Claim::default()).map(Some),
        false => Ok(None),
    }
}

fn missing(path: &Path, text: &str) -> Error {
    let hint = match text {
        "cifar10" => {
            "`headstart data get cifar10` downloads it; give the path that it prints".to_string()
        }
        _ => match path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            Some(parent) => format!("{} does not exist either", parent.display()),
            None => match did_you_mean(text, ["cifar10", "sample", "synthetic"]) {
                near if near.is_empty() => {
                    "check the spelling; sample and synthetic need no files".to_string()
                }
                near => near,
            },
        },
    };
    Error::invalid("data", "an image folder or archive that exists", text, hint)
}

/// The last part of the path without `.tar.gz` and the like.
fn short_name(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = real.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let stem = [".tar.gz", ".tgz", ".tar", ".csv", ".tsv", ".parquet"]
        .iter()
        .find(|end| name.to_ascii_lowercase().ends_with(*end))
        .map(|end| &name[..name.len() - end.len()]);
    stem.filter(|stem| !stem.is_empty()).unwrap_or(&name).to_string()
}

/// What errors call it.
const VALIDATION: &str = "validation split";

/// Checks what was loaded and splits it.
fn finish(
    name: String,
    classes: Vec<String>,
    loaded: Loaded,
    found: Option<&Found>,
    options: &DataOptions,
) -> Result<Dataset> {
    let Loaded { samples, parts, skipped, lost } = loaded;
    let mut warnings = Vec::new();
    if let Some(found) = found {
        warnings = check_classes(found, (&classes, &samples, &parts), (&skipped, &lost), options)?;
    }
    let named = |s: Skipped| {
        // Cells of tables are of any length.
        let name = shortened(&samples.shown.of(&s.name)).into_owned();
        Skipped { name, ..s }
    };
    let skipped = skipped.into_iter().map(named).collect();
    let known = options.classes.is_some();
    let samples = Arc::new(samples);
    let all = Subset::new(samples.clone(), (0..parts.len()).collect::<Vec<_>>());
    let grouped = |grouping| {
        let root = found.map_or(Path::new(&name), |found| &found.root);
        let keys = found.map_or(&Keys::None, |found| &found.keys);
        groups(grouping, &all, keys, root)
    };
    let group = options.group.as_ref().map(grouped).transpose()?;
    let rows = |part| -> Vec<usize> { (0..parts.len()).filter(|&i| parts[i] == part).collect() };
    let mut train = rows(Part::Train);
    let mut held_out = |what, own: Vec<usize>, share: f64| -> Result<Option<Vec<usize>>> {
        if !own.is_empty() || share == 0.0 || (known && train.is_empty()) {
            return Ok((!own.is_empty()).then_some(own));
        }
        if what == VALIDATION && train.len() == 1 {
            warnings.push("no image is left for validation".to_string());
            return Ok(None);
        }
        let of = |all: &[usize]| -> Vec<usize> { train.iter().map(|&i| all[i]).collect() };
        let labels = options.stratify.then(|| of(&samples.labels));
        let group = group.as_deref().map(of);
        let (labels, groups) = (labels.as_deref(), group.as_deref());
        let by = By { what, labels, names: &classes, groups, strict: false };
        let split = by.hold_out(train.len(), share, options.seed)?;
        warnings.extend(labels.and_then(|labels| by.lacking(labels, &split.test)));
        let test = split.test.iter().map(|&i| train[i]).collect();
        train = split.train.iter().map(|&i| train[i]).collect();
        Ok(Some(test))
    };
    let test = held_out("test split", rows(Part::Test), options.test_split)?;
    let validation = held_out(VALIDATION, rows(Part::Validation), options.validation_split)?;
    if let Some(group) = &group {
        let some = |rows: &Option<Vec<usize>>| rows.clone().unwrap_or_default();
        warnings.extend(torn(group, &[train.clone(), some(&validation), some(&test)]));
    }

    let all = all.with_groups(group);
    let subset = |rows: Vec<usize>| all.select(&rows);
    let before = train.len() < parts.iter().filter(|&&part| part == Part::Train).count();
    let mut train = subset(train);
    if before && !known {
        warnings.extend(emptied(&classes, &all, &parts, &train));
    }
    if let Some(limit) = options.limit {
        train = train.limit(limit, options.seed);
    }
    let (validation, test) = (validation.map(&subset), test.map(&subset));
    let task = Task::default();
    Ok(Dataset { name, task, classes, train, validation, test, skipped, warnings })
}

/// A warning of classes whose training images were all held out.
fn emptied(classes: &[String], all: &Subset, parts: &[Part], train: &Subset) -> Option<String> {
    let mut had = vec![false; classes.len()];
    (0..all.len()).filter(|&i| parts[i] == Part::Train).for_each(|i| had[all.label(i)] = true);
    let left = train.class_counts();
    let none =
        classes.iter().zip(had.iter().zip(left)).filter(|(_, (had, left))| **had && *left == 0);
    let none: Vec<&str> = none.map(|(class, _)| class.as_str()).collect();
    let list = match none.len() {
        0 => return None,
        1..=5 => none.join(", "),
        n => format!("{}, ... ({n} in all)", none[..5].join(", ")),
    };
    let count = all.class_counts();
    let single =
        classes.iter().zip(&count).any(|(class, &count)| count == 1 && none.contains(&&**class));
    let hint = match single {
        true => "give each more images: one cannot be both trained on and held out",
        false => "hold out less (--validation-split, --test-split), or split by class (--stratify)",
    };
    Some(format!("all training images of these classes are held out: {list}; {hint}"))
}

/// A warning of groups that the data's own splits tear apart.
fn torn(group: &[usize], parts: &[Vec<usize>]) -> Option<String> {
    let mut part_of: HashMap<usize, usize> = HashMap::new();
    let mut torn = HashSet::new();
    for (part, rows) in parts.iter().enumerate() {
        for &row in rows {
            if *part_of.entry(group[row]).or_insert(part) != part {
                torn.insert(group[row]);
            }
        }
    }
    let count = torn.len();
    (count > 0).then(|| {
        format!(
            "{count} groups have images in two of the data's own splits, so results may be too good"
        )
    })
}

/// Fails where a class or a split has no image that can be read; warns of such classes where they may be `empty`.
fn check_classes(
    found: &Found,
    (classes, samples, parts): (&[String], &Samples, &[Part]),
    (skipped, lost): (&[Skipped], &HashMap<String, (Part, usize)>),
    options: &DataOptions,
) -> Result<Vec<String>> {
    let unreadable = |inside: &dyn Fn(&Skipped) -> bool| {
        let mut bad = skipped.iter().filter(|s| inside(s));
        match bad.next() {
            Some(first) => {
                let count = 1 + bad.count();
                let name = samples.shown.of(&first.name);
                format!("only files that cannot be used, {count} in all; {name}: {}", first.reason)
            }
            None => "none".to_string(),
        }
    };
    let hint = format!("remove the class or give it images ({FORMATS})");
    if samples.labels.is_empty() {
        let unknown = |s: &Skipped| s.reason.contains(UNKNOWN);
        if let Some(classes) = options.classes.as_deref().filter(|_| skipped.iter().any(unknown)) {
            let hint = format!(
                "{}; rename folders or labels to these, or train a model on these images",
                listed("the model's classes", classes)
            );
            let there =
                unreadable(&unknown).replacen("files that cannot be used", "images of others", 1);
            return Err(Error::format(&found.root, "images of the model's classes", there, hint));
        }
        let all = unreadable(&|_| true);
        return Err(Error::format(
            &found.root,
            "labelled images, such as in class folders",
            all,
            hint,
        ));
    }
    let mut warnings = Vec::new();
    let mut present = vec![false; found.folders.len()];
    for (&label, _) in samples.labels.iter().zip(parts).filter(|p| *p.1 == Part::Train) {
        if let Some(present) = present.get_mut(label) {
            *present = true;
        }
    }
    // A table's classes have no folders.
    let in_folders = matches!(found.keys, Keys::Folders(_));
    for (label, (folder, present)) in found.folders.iter().zip(present).enumerate() {
        if !present {
            let prefix = format!("{folder}/");
            let own = |s: &Skipped| match lost.get(&s.name) {
                Some(&(part, at)) => part == Part::Train && at == label,
                None => in_folders && s.name.starts_with(&prefix),
            };
            let in_class = unreadable(&own);
            if options.empty_classes {
                let folder = samples.shown.of(folder);
                warnings.push(format!("class folder {folder}: training images: {in_class}"));
                continue;
            }
            if in_folders {
                let folder = found.root.join(folder);
                return Err(Error::format(folder, "at least one training image", in_class, hint));
            }
            let expected = format!("at least one training image of the class {}", classes[label]);
            return Err(Error::format(&found.root, expected, in_class, hint));
        }
    }
    for (wanted, part, word) in [
        (found.has_validation, Part::Validation, "validation"),
        (found.has_test, Part::Test, "test"),
    ] {
        if wanted && !parts.contains(&part) {
            let expected = format!("at least one {word} image that can be read");
            let own = |s: &Skipped| lost.get(&s.name).is_some_and(|lost| lost.0 == part);
            if options.empty_classes {
                warnings.push(format!("{word} images: {}", unreadable(&own)));
                continue;
            }
            let hint = format!("give the split images ({FORMATS}), or leave it out");
            return Err(Error::format(&found.root, expected, unreadable(&own), hint));
        }
    }
    Ok(warnings)
}
