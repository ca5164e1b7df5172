//! The most similar images: by the cosine of their feature vectors.
//!
//! ```
//! use headstart::similar::nearest;
//!
//! // Three images of two features each.
//! let features = [1.0, 0.0, 0.0, 1.0, 0.9, 0.1];
//! let found = nearest(&[1.0, 0.0], &features, 2);
//! assert_eq!((found[0].image, found[1].image), (0, 2));
//! ```

use std::cmp::Ordering;

/// An image found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its position.
    pub image: usize,
    /// Cosine of the angle between its features and the query's, from -1 to 1.
    pub similarity: f32,
}

/// The `count` rows of `features`, `[images, query.len()]`, most like `query`, equals in order. A row of
/// zeros has similarity 0 to all.
pub fn nearest(query: &[f32], features: &[f32], count: usize) -> Vec<Neighbour> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let own = dot(query, query).sqrt();
    let mut all: Vec<Neighbour> = features
        .chunks_exact(query.len().max(1))
        .enumerate()
        .map(|(image, row)| {
            let length = own * dot(row, row).sqrt();
            let similarity = if length > 0.0 { (dot(query, row) / length) as f32 } else { 0.0 };
            Neighbour { image, similarity }
        })
        .collect();
    let order = |a: &Neighbour, b: &Neighbour| -> Ordering {
        b.similarity.total_cmp(&a.similarity).then(a.image.cmp(&b.image))
    };
    all.sort_by(order);
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_angle_counts_and_not_the_length() {
        let features = [0.0, 1.0, 10.0, 1.0, 0.1, 0.1, -1.0, 0.0, 0.0, 0.0];
        let found = nearest(&[2.0, 0.0], &features, 4);
        let order: Vec<usize> = found.iter().map(|n| n.image).collect();
        assert_eq!(order, [1, 2, 0, 4]);
        assert!((found[1].similarity - 0.5f32.sqrt()).abs() <= 1e-6);
        assert_eq!(found[2].similarity, 0.0);
        assert_eq!(nearest(&[2.0, 0.0], &[], 4), []);
    }
}
