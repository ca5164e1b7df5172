//! Which images a model was trained on, in a few bytes an image.
//!
//! ```
//! use headstart::prints::Prints;
//!
//! let (a, b) = ([1; 32], [2; 32]); // SHA-256 of two images
//! let prints = Prints::new(&[a]);
//! assert!(prints.contains(&a) && !prints.contains(&b));
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// Bytes of a hash that are kept. Of n images that are not in a set of m, n m / 2^40 seem to be: one in 2,400 times for
/// 10,000 of CIFAR-10's test images and its 45,000 for training.
const BYTES: usize = 5;

/// A set of images, by the first 40 bits of their hashes. As text it is the base64 of these, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prints(Vec<[u8; BYTES]>);

impl Prints {
    /// The set of images with these hashes.
    pub fn new(hashes: &[[u8; 32]]) -> Prints {
        let mut prints: Vec<_> = hashes.iter().map(print).collect();
        prints.sort_unstable();
        prints.dedup();
        Prints(prints)
    }

    /// Whether an image with this hash is in the set.
    pub fn contains(&self, hash: &[u8; 32]) -> bool {
        self.0.binary_search(&print(hash)).is_ok()
    }

    /// The images of both sets.
    #[must_use]
    pub fn and(mut self, other: &Prints) -> Prints {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        self.0.dedup();
        self
    }

    /// Number of different images.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn print(hash: &[u8; 32]) -> [u8; BYTES] {
    std::array::from_fn(|i| hash[i])
}

impl From<Prints> for String {
    fn from(prints: Prints) -> String {
        STANDARD_NO_PAD.encode(prints.0.as_flattened())
    }
}

impl TryFrom<String> for Prints {
    type Error = String;

    fn try_from(text: String) -> Result<Prints, String> {
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|e| format!("images: {e}"))?;
        let (prints, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() || !prints.is_sorted() {
            return Err("images: not sorted hashes of 5 bytes each".into());
        }
        Ok(Prints(prints.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(i: u8) -> [u8; 32] {
        std::array::from_fn(|k| i.wrapping_mul(37).wrapping_add(k as u8))
    }

    #[test]
    fn a_set_comes_back_from_its_text_and_has_its_images_only() {
        let hashes: Vec<_> = (0..50).chain([7]).map(hash).collect();
        let prints = Prints::new(&hashes);
        assert_eq!(prints.len(), 50);
        let text = serde_json::to_string(&prints).unwrap();
        assert_eq!(text.len(), (50usize * BYTES * 8).div_ceil(6) + 2);
        let back: Prints = serde_json::from_str(&text).unwrap();
        assert_eq!(back, prints);
        assert!((0..50).all(|i| back.contains(&hash(i))));
        assert!(!(50..200).any(|i| back.contains(&hash(i))));
        let (some, rest) = (Prints::new(&hashes[..20]), Prints::new(&hashes[10..]));
        assert_eq!(some.and(&rest), prints);
        assert!(Prints::default().is_empty() && !Prints::default().contains(&hash(0)));
    }

    #[test]
    fn text_that_is_no_set_is_refused() {
        let unsorted = STANDARD_NO_PAD.encode([9u8, 9, 9, 9, 9, 1, 1, 1, 1, 1]);
        for text in ["AAAA", "*", &unsorted] {
            assert!(Prints::try_from(text.to_string()).is_err(), "{text}");
        }
    }
}
