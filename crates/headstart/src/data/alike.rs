//! Images that look the same: re-encoded, resized, slightly changed.
//!
//! Near duplicates have difference hashes that differ in few bits, and small grey copies that are alike
//! (docs/decisions/0026-near-duplicates.md).

mod pairs;
mod thumb;

use std::collections::BTreeMap;

use crate::data::image::Rgb8;
use crate::error::Result;
use thumb::Thumb;

/// An image none of whose channels varies by more than this, of 255, is blank.
pub const BLANK: u8 = 10;

/// What an image is compared by.
pub(crate) struct Look {
    content: [u8; 32],
    thumb: Thumb,
    hash: u64,
    /// Whether the image is of one colour, within [`BLANK`].
    pub blank: bool,
}

impl Look {
    /// That of an image whose content has this hash.
    ///
    /// # Errors
    /// If it cannot be resized.
    pub fn of(image: &Rgb8<'_>, content: [u8; 32]) -> Result<Look> {
        let thumb = Thumb::of(image)?;
        Ok(Look { content, hash: thumb.difference_hash(), thumb, blank: is_blank(image) })
    }
}

impl Look {
    /// All of it, to be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.content[..], &[u8::from(self.blank)], self.thumb.bytes()].concat()
    }

    /// What [`Look::to_bytes`] gave; none of other bytes.
    pub fn of_bytes(bytes: &[u8]) -> Option<Look> {
        let (content, rest) = bytes.split_first_chunk::<32>()?;
        let (&blank, thumb) = rest.split_first()?;
        let thumb = Thumb::of_bytes(thumb)?;
        Some(Look { content: *content, hash: thumb.difference_hash(), thumb, blank: blank == 1 })
    }
}

/// Groups of two images or more, by position.
pub(crate) struct Alike {
    /// Of the same content.
    pub exact: Vec<Vec<usize>>,
    /// That look the same: one for each exact group, blank ones left out.
    pub near: Vec<Vec<usize>>,
}

/// Compares images. Runs in the current thread pool.
pub(crate) fn compare(looks: &[&Look]) -> Alike {
    let exact = exact_groups(looks);
    let near = near_groups(looks, &exact);
    Alike { exact, near }
}

impl Alike {
    /// The group of each of `count` images, both kinds joined; an image that is like no other is a group of its own. Groups
    /// are numbered in the order of their first images.
    pub fn joined(&self, count: usize) -> Vec<usize> {
        let pairs = |group: &Vec<usize>| -> Vec<(usize, usize)> {
            group.windows(2).map(|two| (two[0], two[1])).collect()
        };
        let all: Vec<(usize, usize)> =
            self.exact.iter().chain(&self.near).flat_map(pairs).collect();
        let mut first: Vec<usize> = (0..count).collect();
        for group in pairs::groups(count, &all) {
            group.iter().for_each(|&i| first[i] = group[0]);
        }
        let (mut numbers, mut next) = (vec![0; count], 0);
        for i in 0..count {
            if first[i] == i {
                numbers[i] = next;
                next += 1;
            } else {
                numbers[i] = numbers[first[i]];
            }
        }
        numbers
    }
}

/// Whether no channel varies by more than [`BLANK`].
fn is_blank(image: &Rgb8<'_>) -> bool {
    let (mut least, mut most) = ([u8::MAX; 3], [0; 3]);
    for pixel in image.pixels.as_chunks::<3>().0 {
        for c in 0..3 {
            least[c] = least[c].min(pixel[c]);
            most[c] = most[c].max(pixel[c]);
        }
    }
    (0..3).all(|c| most[c].saturating_sub(least[c]) <= BLANK)
}

/// Rows with the same content, in order of the first.
fn exact_groups(looks: &[&Look]) -> Vec<Vec<usize>> {
    let mut rows: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (i, one) in looks.iter().enumerate() {
        rows.entry(one.content).or_default().push(i);
    }
    let mut groups: Vec<Vec<usize>> = rows.into_values().filter(|g| g.len() > 1).collect();
    groups.sort();
    groups
}

/// Rows that look the same, one for each exact group, blank ones left out.
fn near_groups(looks: &[&Look], exact: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut wanted: Vec<bool> = looks.iter().map(|one| !one.blank).collect();
    exact.iter().flat_map(|group| &group[1..]).for_each(|&i| wanted[i] = false);
    let rows: Vec<usize> = (0..looks.len()).filter(|&i| wanted[i]).collect();
    let hashes: Vec<u64> = rows.iter().map(|&i| looks[i].hash).collect();
    let alike = |i: usize, j: usize| looks[rows[i]].thumb.is_like(&looks[rows[j]].thumb);
    let found = pairs::pairs(&hashes, alike);
    let mut groups = pairs::groups(rows.len(), &found);
    groups.iter_mut().flatten().for_each(|i| *i = rows[*i]);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_join_to_groups_in_the_order_of_their_first_images() {
        let alike = Alike { exact: vec![vec![1, 4]], near: vec![vec![1, 5], vec![0, 2]] };
        assert_eq!(alike.joined(7), [0, 1, 0, 2, 1, 1, 3]);
    }
}
