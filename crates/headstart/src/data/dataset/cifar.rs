//! The CIFAR-10 binary format (Krizhevsky 2009): records of one label byte and 3 x 32 x 32
//! pixel bytes, channel after channel, in `data_batch_1.bin` .. `data_batch_5.bin` (training)
//! and `test_batch.bin`; class names in `batches.meta.txt`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::load::Loaded;
use super::shown::Shown;
use super::subset::{Samples, Store};
use super::tree::Part;
use crate::error::{Error, Result};
use crate::memory::Claim;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;
const TRAIN_FILES: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST_FILE: &str = "test_batch.bin";
const META_FILE: &str = "batches.meta.txt";
/// The names in `batches.meta.txt`, for copies that lack it.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Whether a file of this name is part of the format.
pub(crate) fn is_part(name: &str) -> bool {
    TRAIN_FILES.contains(&name) || name == TEST_FILE || name == META_FILE
}

/// Whether a file of this name is a batch.
pub(crate) fn is_batch(name: &str) -> bool {
    is_part(name) && name != META_FILE
}

/// The folder with the batches: `folder` itself or its `cifar-10-batches-bin`.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    [folder.to_path_buf(), folder.join("cifar-10-batches-bin")]
        .into_iter()
        .find(|place| TRAIN_FILES.iter().chain([&TEST_FILE]).any(|file| place.join(file).is_file()))
}

/// Whether a file of this name is part of the Python version of CIFAR-10.
pub(crate) fn is_python_part(name: &str) -> bool {
    matches!(name, "data_batch_1" | "batches.meta")
}

/// The error for the pickled version of CIFAR-10, if `names` are its files.
pub(crate) fn python_version(root: &Path, has: impl Fn(&str) -> bool) -> Option<Error> {
    (has("data_batch_1") && has("batches.meta")).then(|| {
        Error::format(
            root,
            "the binary version of CIFAR-10",
            "the Python (pickle) version",
            "get cifar-10-binary.tar.gz instead",
        )
    })
}

/// Reads the format's files through `read`, which yields `None` for one that is missing.
///
/// Images keep the files' order and are called `train/00000`, ..., `test/00000`, ...
pub(crate) fn load(
    root: &Path,
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<(Vec<String>, Loaded)> {
    let classes = match read(META_FILE)? {
        Some(text) => class_names(&root.join(META_FILE), &text)?,
        None => CLASSES.map(String::from).to_vec(),
    };
    let mut samples = Samples {
        classes: classes.len(),
        names: Vec::new(),
        shown: Shown::inside(&root.display().to_string()),
        labels: Vec::new(),
        sizes: Vec::new(),
        hashes: Vec::new(),
        large: HashSet::new(),
        store: Store::Encoded(Vec::new()),
        kept: Claim::default(),
    };
    let mut pixels = Vec::new();
    let mut parts = Vec::new();
    for file in TRAIN_FILES.into_iter().chain([TEST_FILE]) {
        let path = root.join(file);
        let hint =
            "unpack cifar-10-binary.tar.gz again; it holds five data batches and a test batch";
        let bytes = read(file)?.ok_or_else(|| Error::format(&path, "a file", "none", hint))?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            let found = format!("{} bytes", bytes.len());
            return Err(Error::format(&path, format!("records of {RECORD} bytes"), found, hint));
        }
        let part = if file == TEST_FILE { Part::Test } else { Part::Train };
        samples.kept.grow(bytes.len() as u64).map_err(|over| over.of(&path))?;
        pixels.reserve(bytes.len() / RECORD * 3 * PLANE);
        for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
            let label = usize::from(record[0]);
            if label >= classes.len() {
                let expected = format!("labels below {}", classes.len());
                let found = format!("{label} in record {index}");
                return Err(Error::format(&path, expected, found, hint));
            }
            let (red, rest) = record[1..].split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            for ((r, g), b) in red.iter().zip(green).zip(blue) {
                pixels.extend_from_slice(&[*r, *g, *b]);
            }
            samples.labels.push(label);
            parts.push(part);
        }
    }
    let mut counters = [0usize; 2];
    for part in &parts {
        let (word, counter) = if *part == Part::Test {
            ("test", &mut counters[1])
        } else {
            ("train", &mut counters[0])
        };
        samples.names.push(format!("{word}/{counter:05}").into());
        *counter += 1;
    }
    samples.sizes = vec![(SIDE, SIDE); parts.len()];
    samples.hashes = vec![OnceLock::new(); parts.len()];
    let offsets = (0..parts.len()).map(|i| i * 3 * PLANE).collect();
    samples.store = Store::packed(pixels, offsets);
    Ok((classes, Loaded { samples, parts, skipped: Vec::new(), lost: HashMap::new() }))
}

fn class_names(path: &Path, text: &[u8]) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(text);
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    if !(2..=256).contains(&names.len()) || unique.len() != names.len() {
        return Err(Error::format(
            path,
            "class names, one a line, all different",
            format!("{} lines, {} different", names.len(), unique.len()),
            "delete it to use CIFAR-10's own names",
        ));
    }
    Ok(names)
}
