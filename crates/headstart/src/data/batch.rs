//! Some images with their labels.

/// Second labels of a batch in which each image is mixed from two.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Class index of each image's second label.
    pub labels: Vec<u32>,
    /// Fraction of the image that belongs to it, from 0 to 1.
    pub share: f32,
}

/// Some images with their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// RGB in 0..=255, `[count, height, width, 3]`, row-major.
    pub images: Vec<f32>,
    /// Class index of each image, or of its first label.
    pub labels: Vec<u32>,
    /// Position of each image in the subset.
    pub indices: Vec<usize>,
    /// Second labels, where images are mixed.
    pub mixed: Option<Mixed>,
    /// Number of images; the last batch of an epoch may have fewer than the others.
    pub count: usize,
}
