//! The data set inside the program: 1,797 handwritten digits of 8x8 pixels.
//!
//! "Optical recognition of handwritten digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning
//! Repository, doi 10.24432/C50P49, CC BY 4.0, as scikit-learn's `load_digits` gives it
//! (`tools/sample/digits.py`). Ink is white on black, of 17 shades.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::OnceLock;

use flate2::read::GzDecoder;

use super::load::Loaded;
use super::shown::Shown;
use super::subset::{Samples, Store};
use super::tree::Part;
use crate::data::split::train_test_split;
use crate::error::{Error, Result};
use crate::memory::Claim;

/// The name of the digits inside the program, for `--data`.
pub const NAME: &str = "sample";
/// Labels of a byte each, then images.
const FILE: &[u8] = include_bytes!("../../../assets/digits.bin.gz");
const COUNT: usize = 1797;
const SIDE: usize = 8;
/// The most ink a pixel has.
const INK: u8 = 16;
/// Which fifth is the test set: that of `train_test_split(test_size=0.2, random_state=42)`.
const TEST_SEED: u32 = 42;

/// Names of the classes.
pub(super) fn class_names() -> Vec<String> {
    (0..10).map(|digit| digit.to_string()).collect()
}

/// The digits as grey pictures, in the order of scikit-learn's split: training images, then test images.
pub(super) fn load() -> Result<Loaded> {
    let damaged = |found: String| Error::format(NAME, "the digits inside the program", found, "");
    let mut bytes = Vec::new();
    GzDecoder::new(FILE).read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    if bytes.len() != COUNT * (1 + SIDE * SIDE) {
        return Err(damaged(format!("{} bytes", bytes.len())));
    }
    let (labels, images) = bytes.split_at(COUNT);
    let split = train_test_split(COUNT, 0.2, TEST_SEED)?;
    let rows: Vec<usize> = split.train.iter().chain(&split.test).copied().collect();
    let each = SIDE * SIDE * 3;
    let mut pixels = Vec::with_capacity(COUNT * each);
    for &row in &rows {
        for &ink in &images[row * SIDE * SIDE..][..SIDE * SIDE] {
            let grey = (u16::from(ink.min(INK)) * 255 / u16::from(INK)) as u8;
            pixels.extend([grey; 3]);
        }
    }
    let samples = Samples {
        classes: 10,
        names: rows.iter().map(|row| format!("{row:04}").into()).collect(),
        shown: Shown::inside(NAME),
        labels: rows.iter().map(|&row| usize::from(labels[row].min(9))).collect(),
        sizes: vec![(SIDE, SIDE); COUNT],
        hashes: vec![OnceLock::new(); COUNT],
        large: HashSet::new(),
        store: Store::packed(pixels, (0..COUNT).map(|i| i * each).collect()),
        kept: Claim::held((COUNT * each) as u64),
    };
    let part = |i| if i < split.train.len() { Part::Train } else { Part::Test };
    Ok(Loaded {
        samples,
        parts: (0..COUNT).map(part).collect(),
        skipped: Vec::new(),
        lost: HashMap::new(),
    })
}
