//! Some images with their labels.

use std::ops::Range;

/// Which images of every batch are wanted: those from one fraction of it to another. Contiguous, with equal counts to within
/// one image where batches are cut into several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Number of the first of the equal pieces that a batch is cut into.
    pub from: usize,
    /// Number of the first piece that is not wanted any more; at most `of`.
    pub to: usize,
    /// How many pieces there are, at least 1.
    pub of: usize,
}

impl Portion {
    /// All images.
    pub const WHOLE: Portion = Portion { from: 0, to: 1, of: 1 };

    /// Those of `count` images that are wanted.
    pub fn range(self, count: usize) -> Range<usize> {
        let at = |piece: usize| (count as u128 * piece as u128 / self.of.max(1) as u128) as usize;
        at(self.from)..at(self.to)
    }
}

/// Second labels of a batch in which each image is mixed from two.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Class index of each image's second label.
    pub labels: Vec<u32>,
    /// Fraction of the image that belongs to it, from 0 to 1.
    pub share: f32,
}

/// The pixels of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// As images have them.
    Bytes(Vec<u8>),
    /// In 0..=255, where images are mixed.
    Floats(Vec<f32>),
}

impl Default for Pixels {
    fn default() -> Pixels {
        Pixels::Bytes(Vec::new())
    }
}

impl Pixels {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Pixels::Bytes(v) => v.len(),
            Pixels::Floats(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No bytes yet, in the memory of what was there.
    pub(super) fn cleared(&mut self) -> &mut Vec<u8> {
        if let Pixels::Floats(_) = self {
            *self = Pixels::default();
        }
        match self {
            Pixels::Bytes(bytes) => {
                bytes.clear();
                bytes
            }
            Pixels::Floats(_) => unreachable!("they are bytes by now"),
        }
    }

    /// The same as floats.
    pub(super) fn floats(&mut self) -> &mut [f32] {
        if let Pixels::Bytes(_) = self {
            *self = Pixels::Floats(self.to_floats());
        }
        match self {
            Pixels::Floats(values) => values,
            Pixels::Bytes(_) => unreachable!("they are floats by now"),
        }
    }

    /// As floats in 0..=255.
    pub fn to_floats(&self) -> Vec<f32> {
        match self {
            Pixels::Bytes(bytes) => bytes.iter().map(|&b| f32::from(b)).collect(),
            Pixels::Floats(values) => values.clone(),
        }
    }

    /// As bytes; mixed pixels are rounded.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Pixels::Bytes(bytes) => bytes.clone(),
            Pixels::Floats(values) => values.iter().map(|v| v.round() as u8).collect(),
        }
    }
}

/// Some images with their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// RGB, `[count, height, width, 3]`, row-major.
    pub images: Pixels,
    /// Class index of each image, or of its first label.
    pub labels: Vec<u32>,
    /// Position of each image in the subset.
    pub indices: Vec<usize>,
    /// Second labels, where images are mixed.
    pub mixed: Option<Mixed>,
    /// Number of images; the last batch of an epoch may have fewer than the others.
    pub count: usize,
}

impl Batch {
    /// Only the images at these positions of it.
    pub(super) fn keep(&mut self, own: Range<usize>) {
        let each = self.images.len() / self.count.max(1);
        let pixels = own.start * each..own.end * each;
        match &mut self.images {
            Pixels::Bytes(v) => only(v, pixels),
            Pixels::Floats(v) => only(v, pixels),
        }
        only(&mut self.labels, own.clone());
        only(&mut self.indices, own.clone());
        if let Some(mixed) = &mut self.mixed {
            only(&mut mixed.labels, own.clone());
        }
        self.count = own.len();
    }
}

fn only<T>(values: &mut Vec<T>, range: Range<usize>) {
    values.truncate(range.end);
    values.drain(..range.start);
}
