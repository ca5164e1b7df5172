//! The part of an inspection that costs almost nothing, which training does every time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Balance, TINY, parts};
use crate::data::dataset::{Dataset, Subset};
use crate::numbers::grouped;

/// Warnings, one sentence each: uneven classes, tiny images, and, where the pixels are in
/// memory, training images that are also test or validation images.
pub fn warnings(data: &Dataset) -> Vec<String> {
    let mut warnings = data.warnings.clone();
    let balance = Balance::of(data);
    if balance.is_uneven() {
        warnings.push(format!(
            "uneven classes: {} training images of {}, {} of {}",
            grouped(balance.most),
            balance.largest,
            grouped(balance.fewest),
            balance.smallest
        ));
    }
    let tiny = parts(data)
        .iter()
        .flat_map(|(_, subset)| sizes(subset))
        .filter(|size| size.0.min(size.1) < TINY)
        .count();
    // Where all images have one size, it is intended.
    if tiny > 0 && data.train.uniform_size().is_none() {
        let have = if tiny == 1 { "image has" } else { "images have" };
        warnings.push(format!("{} {have} fewer than {TINY} pixels on a side", grouped(tiny)));
    }
    let shared = shared(data);
    if shared > 0 {
        let are = if shared == 1 {
            "image is also a training image"
        } else {
            "images are also training images"
        };
        warnings.push(format!(
            "{} validation or test {are}, so results may be too good",
            grouped(shared)
        ));
    }
    warnings
}

fn sizes(subset: &Subset) -> Vec<(usize, usize)> {
    (0..subset.len()).map(|i| subset.size(i)).collect()
}

/// How many images held out have the very pixels of a training image; 0 where they are not in memory.
fn shared(data: &Dataset) -> usize {
    if !data.train.is_in_memory() {
        return 0;
    }
    let hash = |pixels: &[u8]| {
        let mut hasher = DefaultHasher::new();
        pixels.hash(&mut hasher);
        hasher.finish()
    };
    let pixels = |subset: &Subset, i: usize| {
        subset.kept(i).map(|image| image.pixels.into_owned()).unwrap_or_default()
    };
    let train: HashMap<u64, usize> =
        (0..data.train.len()).map(|i| (hash(&pixels(&data.train, i)), i)).collect();
    let held_out = parts(data);
    let twice = |subset: &Subset, i: usize| {
        let own = pixels(subset, i);
        train.get(&hash(&own)).is_some_and(|&other| {
            subset.size(i) == data.train.size(other) && pixels(&data.train, other) == own
        })
    };
    held_out[1..]
        .iter()
        .map(|(_, subset)| (0..subset.len()).filter(|&i| twice(subset, i)).count())
        .sum()
}
