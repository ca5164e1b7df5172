//! A small grey copy of an image, by which pictures are compared, and its difference hash.

use crate::data::image::{Interpolation, Rgb8, resize};
use crate::error::Result;

const WIDTH: usize = 18;
const HEIGHT: usize = 16;

/// `HEIGHT` x `WIDTH` grey values.
pub(super) struct Thumb([u8; WIDTH * HEIGHT]);

impl Thumb {
    pub fn of(image: &Rgb8<'_>) -> Result<Thumb> {
        let small = resize(image, WIDTH, HEIGHT, Interpolation::Bilinear)?;
        let mut grey = [0; WIDTH * HEIGHT];
        // ITU-R 601-2, as Pillow's `convert("L")`.
        for (g, &[r, green, b]) in grey.iter_mut().zip(small.pixels.as_chunks::<3>().0) {
            let sum = u32::from(r) * 299 + u32::from(green) * 587 + u32::from(b) * 114;
            *g = (sum / 1000) as u8;
        }
        Ok(Thumb(grey))
    }

    /// Its values, row by row.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same from these values, if there are as many.
    pub fn of_bytes(bytes: &[u8]) -> Option<Thumb> {
        bytes.try_into().ok().map(Thumb)
    }

    /// dHash (Krawetz 2013): on 8 rows of 9 cells, whether each is darker than the next.
    pub fn difference_hash(&self) -> u64 {
        let cell = |row: usize, column: usize| -> u32 {
            let at = |y: usize, x: usize| u32::from(self.0[(2 * row + y) * WIDTH + 2 * column + x]);
            at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)
        };
        let mut hash = 0;
        for row in 0..8 {
            for column in 0..8 {
                hash = hash << 1 | u64::from(cell(row, column) < cell(row, column + 1));
            }
        }
        hash
    }

    /// Whether the mean difference is small beside the contrast: re-encoded, resized or slightly
    /// cropped copies are, other pictures of the same outline are not.
    pub fn is_like(&self, other: &Thumb) -> bool {
        let sum: u32 = self.0.iter().zip(&other.0).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(sum) / self.0.len() as f64;
        mean <= 1.0 + 0.03 * f64::from(self.contrast().min(other.contrast()))
    }

    fn contrast(&self) -> u8 {
        let (least, most) =
            self.0.iter().fold((u8::MAX, 0), |(least, most), &v| (least.min(v), most.max(v)));
        most.saturating_sub(least)
    }
}
