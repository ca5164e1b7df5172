//! Images of a batch mixed with each other: mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019), as torchvision's.

use super::Augment;
use super::random::Random;
use crate::data::batch::{Batch, Mixed, Pixels};

/// How images of a batch are mixed, each with the one before it. With both, each is used for half of the batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// Mixup: the weighted mean of two images, with a weight from a Beta distribution with both parameters this number.
    pub mixup: Option<f32>,
    /// CutMix: a rectangle from the other image, with a fraction of the area from such a distribution.
    pub cutmix: Option<f32>,
}

impl Mixing {
    /// Whether nothing is mixed.
    pub fn is_none(&self) -> bool {
        self.mixup.is_none() && self.cutmix.is_none()
    }

    /// The settings, spelt as augmentations are: `mixup:0.2`.
    pub fn names(&self) -> Vec<String> {
        let named = [("mixup", self.mixup), ("cutmix", self.cutmix)];
        named.iter().filter_map(|(name, alpha)| Some(format!("{name}:{}", (*alpha)?))).collect()
    }
}

/// Sets the numbers of batches apart from those of images.
const BATCHES: u64 = 0x6d69_7865_645f_6261;

impl Augment {
    /// Mixes the images of the batch with this number, each `height` x `width` pixels, and adds second labels. A batch
    /// of one image stays as it is.
    pub fn mix(&self, number: usize, height: usize, width: usize, batch: &mut Batch) {
        let step = (self.step + number) as u64;
        let mut random = Random::new(self.seed ^ BATCHES, self.epoch as u64, step);
        let Mixing { mixup, cutmix } = self.mixing;
        let second = match (mixup, cutmix) {
            _ if batch.labels.len() < 2 => return,
            (None, None) => return,
            (Some(_), Some(_)) => random.below(2) == 1,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        let share = match (second, mixup, cutmix) {
            (true, _, Some(alpha)) => {
                let own = random.beta(f64::from(alpha));
                let rectangle = Rectangle::new(&mut random, 1.0 - own, height, width);
                let each = height * width * 3;
                match &mut batch.images {
                    Pixels::Bytes(images) => rectangle.copy_from_neighbours(width, each, images),
                    Pixels::Floats(images) => rectangle.copy_from_neighbours(width, each, images),
                }
                rectangle.pixels() as f32 / (height * width) as f32
            }
            (false, Some(alpha), _) => {
                let own = random.beta(f64::from(alpha)) as f32;
                blend_with_neighbours(own, height * width * 3, batch.images.floats());
                1.0 - own
            }
            _ => return,
        };
        let mut labels = batch.labels.clone();
        labels.rotate_right(1);
        batch.mixed = Some(Mixed { labels, share });
    }
}

/// `image[i] = own * image[i] + (1 - own) * image[i - 1]`, the last before the first.
fn blend_with_neighbours(own: f32, each: usize, images: &mut [f32]) {
    let last = images[images.len() - each..].to_vec();
    for start in (0..images.len()).step_by(each).rev() {
        let (before, from) = images.split_at_mut(start);
        let other = if start == 0 { &last[..] } else { &before[start - each..] };
        let mixed = |(v, other): (&mut f32, &f32)| *v = own * *v + (1.0 - own) * other;
        from[..each].iter_mut().zip(other).for_each(mixed);
    }
}

/// A part of every image of a batch, in pixels, up to but without `bottom` and `right`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rectangle {
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

impl Rectangle {
    /// A rectangle of the image's shape and about this fraction of its area, centred on a random pixel and clipped to
    /// the image.
    fn new(random: &mut Random, share: f64, height: usize, width: usize) -> Rectangle {
        let (x, y) = (random.below(width as u64) as usize, random.below(height as u64) as usize);
        let half = |side: usize| (0.5 * share.sqrt() * side as f64) as usize;
        let (down, across) = (half(height), half(width));
        Rectangle {
            top: y.saturating_sub(down),
            left: x.saturating_sub(across),
            bottom: (y + down).min(height),
            right: (x + across).min(width),
        }
    }

    fn pixels(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }

    /// Fills this part of each image with that of the image before it, the last before the first.
    fn copy_from_neighbours<T: Copy>(&self, width: usize, each: usize, images: &mut [T]) {
        let last = images[images.len() - each..].to_vec();
        for start in (0..images.len()).step_by(each).rev() {
            for y in self.top..self.bottom {
                let row = (y * width + self.left) * 3..(y * width + self.right) * 3;
                if start == 0 {
                    images[row.clone()].copy_from_slice(&last[row]);
                } else {
                    let from = start - each;
                    images.copy_within(from + row.start..from + row.end, start + row.start);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [6, 4];
    const EACH: usize = 6 * 4 * 3;

    /// Image `i` is `80 * i` and the number of the byte.
    fn batch(count: usize) -> Batch {
        let images = (0..count * EACH).map(|k| (k / EACH * 80 + k % EACH) as u8).collect();
        let images = Pixels::Bytes(images);
        let labels = (0..count as u32).map(|i| i + 10).collect();
        Batch { images, labels, indices: (0..count).collect(), count, mixed: None }
    }

    fn mixed(mixing: Mixing, step: usize, number: usize, count: usize) -> Batch {
        let augment = Augment { seed: 1, epoch: 2, mixing, step, ..Augment::default() };
        let mut batch = batch(count);
        augment.mix(number, SIZE[0], SIZE[1], &mut batch);
        batch
    }

    #[test]
    fn mixup_is_its_formula() {
        let mixing = Mixing { mixup: Some(0.4), cutmix: None };
        let mut shares = Vec::new();
        for number in 0..2000 {
            let (before, after) = (batch(3), mixed(mixing, 0, number, 3));
            let (old, new) = (before.images.to_floats(), after.images.to_floats());
            let Mixed { labels, share } = after.mixed.unwrap();
            assert_eq!((&after.labels[..], &labels[..]), (&[10, 11, 12][..], &[12, 10, 11][..]));
            for k in 0..3 * EACH {
                let other = old[(k + 2 * EACH) % (3 * EACH)];
                let want = (1.0 - share) * old[k] + share * other;
                assert!((new[k] - want).abs() <= 1e-3, "{k}: {} {want}", new[k]);
            }
            shares.push(f64::from(share));
        }
        // Beta(0.4, 0.4) has mean 1/2 and variance 1 / (4 (2 * 0.4 + 1)) = 0.1389.
        let mean = shares.iter().sum::<f64>() / 2000.0;
        let variance = shares.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / 2000.0;
        assert!((mean - 0.5).abs() < 4.0 * (0.1389f64 / 2000.0).sqrt(), "{mean}");
        assert!((variance - 0.1389).abs() < 0.012, "{variance}");
    }

    #[test]
    fn cutmix_takes_a_rectangle_and_its_share() {
        let mixing = Mixing { mixup: None, cutmix: Some(1.0) };
        let mut sizes = std::collections::BTreeSet::new();
        for number in 0..500 {
            let (before, after) = (batch(3), mixed(mixing, 0, number, 3));
            assert!(matches!(after.images, Pixels::Bytes(_)));
            let (old, new) = (before.images.to_floats(), after.images.to_floats());
            let share = after.mixed.unwrap().share;
            let taken: Vec<bool> = (0..3 * EACH)
                .map(|k| {
                    let other = old[(k + 2 * EACH) % (3 * EACH)];
                    assert!([old[k], other].contains(&new[k]));
                    new[k] == other
                })
                .collect();
            // The same pixels of all images, a rectangle.
            assert!(taken[..EACH] == taken[EACH..2 * EACH] && taken[..EACH] == taken[2 * EACH..]);
            let pixels: Vec<usize> = (0..EACH / 3).filter(|p| taken[p * 3]).collect();
            assert_eq!(share, pixels.len() as f32 / 24.0);
            if let (Some(first), Some(last)) = (pixels.first(), pixels.last()) {
                let size = [last / 4 - first / 4 + 1, last % 4 - first % 4 + 1];
                assert_eq!(size[0] * size[1], pixels.len());
                sizes.insert(size);
            }
        }
        assert!(sizes.len() > 5 && sizes.contains(&[4, 2]), "{sizes:?}");
    }

    #[test]
    fn rectangles_have_the_share_they_are_asked_for() {
        let mut random = Random::new(1, 2, 3);
        for share in [0.0, 0.25, 1.0] {
            let parts = (0..4000).map(|_| Rectangle::new(&mut random, share, 100, 200).pixels());
            let mean = parts.sum::<usize>() as f64 / 4000.0 / 20_000.0;
            // A side of length s about a place that is spread evenly keeps s - s^2 / 4 of itself.
            let side = f64::sqrt(share);
            let want = (side - side * side / 4.0).powi(2);
            assert!((mean - want).abs() < 0.012, "{share}: {mean} {want}");
        }
    }

    #[test]
    fn either_is_as_likely_and_the_step_decides() {
        let both = Mixing { mixup: Some(1.0), cutmix: Some(1.0) };
        let is_cut = |batch: &Batch| matches!(batch.images, Pixels::Bytes(_));
        let cut = (0..2000).filter(|&number| is_cut(&mixed(both, 0, number, 3))).count();
        // Four deviations of a fair coin.
        assert!((911..=1089).contains(&cut), "{cut}");
        assert_eq!(mixed(both, 3, 4, 3), mixed(both, 7, 0, 3));
        assert_ne!(mixed(both, 3, 4, 3), mixed(both, 3, 5, 3));
        assert_eq!(mixed(both, 0, 0, 1), batch(1));
        assert_eq!(mixed(Mixing::default(), 0, 0, 3), batch(3));
        assert_eq!(both.names(), ["mixup:1", "cutmix:1"]);
    }
}
