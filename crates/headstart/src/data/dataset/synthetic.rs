//! Synthetic images that can be learned: each class has a hue and a shape, drawn at random positions
//! and sizes over a noisy grey background. For tests, benchmarks and trying the program out.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::Limits;
use super::load::Loaded;
use super::shown::Shown;
use super::subset::{Samples, Store};
use super::tree::Part;
use crate::data::split::RandomState;
use crate::error::{Error, Result};
use crate::memory::Claim;

const SHAPES: [&str; 6] = ["disc", "square", "ring", "cross", "stripes", "checks"];

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synthetic {
    /// Number of classes, 2..=1000.
    pub classes: usize,
    /// Number of training images, at least one a class; there are a fifth as many test images.
    pub count: usize,
    /// Height and width in pixels, 1..=4096.
    pub size: usize,
}

impl Default for Synthetic {
    fn default() -> Self {
        Synthetic { classes: 10, count: 1000, size: 32 }
    }
}

impl std::str::FromStr for Synthetic {
    type Err = Error;

    /// Reads `synthetic` or `synthetic:CLASSESxCOUNTxSIZE`.
    fn from_str(text: &str) -> Result<Synthetic> {
        let bad = || {
            Error::invalid(
                "synthetic data",
                "synthetic:CLASSESxCOUNTxSIZE with 2 to 1000 classes, at least one image a \
                 class, and a size of 1 to 4096 pixels",
                text,
                "synthetic:10x1000x32 makes 10 classes, 1000 training and 200 test images of 32x32",
            )
        };
        let spec = match text.strip_prefix("synthetic").ok_or_else(bad)? {
            "" => return Ok(Synthetic::default()),
            rest => rest.strip_prefix(':').ok_or_else(bad)?,
        };
        let numbers: Vec<usize> =
            spec.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
        match numbers[..] {
            [classes, count, size]
                if (2..=1000).contains(&classes)
                    && count >= classes
                    && (1..=4096).contains(&size) =>
            {
                Ok(Synthetic { classes, count, size })
            }
            _ => Err(bad()),
        }
    }
}

impl Synthetic {
    fn test_count(&self) -> usize {
        (self.count / 5).max(self.classes)
    }

    /// Class names: colour number and shape.
    pub fn class_names(&self) -> Vec<String> {
        let width = (self.classes - 1).to_string().len();
        (0..self.classes).map(|c| format!("{c:0width$}-{}", SHAPES[c % SHAPES.len()])).collect()
    }

    /// Makes the images; they depend on `seed` and their number only. Runs in the current pool.
    pub(crate) fn load(&self, seed: u32, limits: &Limits) -> Result<Loaded> {
        let each = self.size * self.size * 3;
        let count = self.count.checked_add(self.test_count());
        let total = count.and_then(|n| n.checked_mul(each));
        let (Some(count), Some(total)) =
            (count, total.filter(|&bytes| bytes as u64 <= limits.decoded_bytes))
        else {
            return Err(Error::invalid(
                "synthetic data",
                format!("at most {} MiB of pixels", limits.decoded_bytes >> 20),
                format!("{} images of {each} bytes", self.count),
                "ask for fewer or smaller images",
            ));
        };
        let mut kept = Claim::default();
        kept.grow(total as u64).map_err(|over| {
            let limit = "less, or more with --memory-limit";
            Error::invalid(
                "synthetic data",
                limit,
                over.to_string(),
                "ask for fewer or smaller images",
            )
        })?;
        let mut pixels = vec![0; total];
        pixels.par_chunks_exact_mut(each).enumerate().for_each(|(i, image)| {
            self.draw(i % self.classes, mix(seed, i), image);
        });
        let is_test = |i: usize| i >= self.count;
        let name = |i| match is_test(i) {
            true => format!("test/{:05}", i - self.count),
            false => format!("train/{i:05}"),
        };
        let samples = Samples {
            classes: self.classes,
            names: (0..count).map(|i| name(i).into()).collect(),
            shown: Shown::inside("synthetic"),
            labels: (0..count).map(|i| i % self.classes).collect(),
            sizes: vec![(self.size, self.size); count],
            hashes: vec![OnceLock::new(); count],
            large: HashSet::new(),
            store: Store::packed(pixels, (0..count).map(|i| i * each).collect()),
            kept,
        };
        let part = |i| if is_test(i) { Part::Test } else { Part::Train };
        Ok(Loaded {
            samples,
            parts: (0..count).map(part).collect(),
            skipped: Vec::new(),
            lost: HashMap::new(),
        })
    }

    fn draw(&self, class: usize, seed: u32, image: &mut [u8]) {
        let mut random = RandomState::new(seed);
        let colour = hue(class as f32 / self.classes as f32 + 0.04 * (random.unit() - 0.5));
        let ground = 60.0 + 80.0 * random.unit();
        let light = 0.8 + 0.2 * random.unit();
        let radius = 0.25 + 0.15 * random.unit();
        let (cx, cy) = (0.35 + 0.3 * random.unit(), 0.35 + 0.3 * random.unit());
        let side = self.size as f32;
        for (i, pixel) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (x, y) = ((i % self.size) as f32 + 0.5, (i / self.size) as f32 + 0.5);
            let (u, v) = ((x / side - cx) / radius, (y / side - cy) / radius);
            let inside = is_inside(class % SHAPES.len(), u, v);
            let noise = 24.0 * (random.unit() + random.unit() - 1.0);
            for (value, c) in pixel.iter_mut().zip(colour) {
                let clean = if inside { 255.0 * c * light } else { ground };
                *value = (clean + noise).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// One 32-bit seed from two (the finaliser of MurmurHash3).
fn mix(seed: u32, index: usize) -> u32 {
    let mut h = seed ^ (index as u32).wrapping_mul(0x9e37_79b9);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// A saturated colour, 0..=1 per channel, for an angle in turns.
fn hue(turns: f32) -> [f32; 3] {
    [0.0, 1.0 / 3.0, 2.0 / 3.0].map(|shift| {
        let distance = ((turns - shift).rem_euclid(1.0) - 0.5).abs() * 6.0;
        (distance - 1.0).clamp(0.05, 1.0)
    })
}

/// Whether a point, in radii from the centre, belongs to the shape.
fn is_inside(shape: usize, u: f32, v: f32) -> bool {
    let (box_, round) = (u.abs().max(v.abs()) <= 1.0, u.hypot(v) <= 1.0);
    match SHAPES[shape] {
        "disc" => round,
        "square" => box_,
        "ring" => round && u.hypot(v) > 0.55,
        "cross" => box_ && u.abs().min(v.abs()) < 0.33,
        "stripes" => box_ && (v * 2.5).rem_euclid(1.0) < 0.5,
        _ => box_ && ((u * 2.0).floor() + (v * 2.0).floor()).rem_euclid(2.0) < 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_refused() {
        assert_eq!("synthetic".parse::<Synthetic>().unwrap(), Synthetic::default());
        let spec = "synthetic:3x7x5".parse::<Synthetic>().unwrap();
        assert_eq!(spec, Synthetic { classes: 3, count: 7, size: 5 });
        for bad in ["synth", "synthetic:", "synthetic:1x5x5", "synthetic:3x2x5", "synthetic:3x7x0"]
        {
            assert!(bad.parse::<Synthetic>().is_err(), "{bad}");
        }
        let vast = "synthetic:2x99999999999999x4096".parse::<Synthetic>().unwrap();
        assert!(vast.load(1, &Limits::default()).is_err());
    }

    #[test]
    fn the_mean_colour_tells_the_hues_apart() {
        let spec = Synthetic { classes: 5, count: 100, size: 16 };
        let Loaded { samples, .. } = spec.load(3, &Limits::default()).unwrap();
        let Store::Packed { pixels, offsets, .. } = &samples.store else { panic!("not packed") };
        let feature = |i: usize| {
            let mut sum = [0.0f32; 3];
            for pixel in pixels[offsets[i]..][..16 * 16 * 3].as_chunks::<3>().0 {
                for (s, &v) in sum.iter_mut().zip(pixel) {
                    *s += f32::from(v);
                }
            }
            let grey = sum.iter().sum::<f32>() / 3.0;
            let norm = sum.map(|s| (s - grey) * (s - grey)).iter().sum::<f32>().sqrt();
            sum.map(|s| (s - grey) / norm)
        };
        let mut means = [[0.0f32; 3]; 5];
        for i in 0..100 {
            for (m, f) in means[samples.labels[i]].iter_mut().zip(feature(i)) {
                *m += f;
            }
        }
        let score = |f: [f32; 3], m: &[f32; 3]| f.iter().zip(m).map(|(a, b)| a * b).sum::<f32>();
        let right = (100..120).filter(|&i| {
            let f = feature(i);
            let best = (0..5).max_by(|&a, &b| score(f, &means[a]).total_cmp(&score(f, &means[b])));
            best == Some(samples.labels[i])
        });
        assert!(right.count() >= 18);
    }
}
