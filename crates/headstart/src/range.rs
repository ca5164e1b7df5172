//! Which whole numbers a setting may have: written once, for flags, config.toml and callers of the library. What passes can be
//! multiplied, shifted and added to a time without leaving its type.
//!
//! ```
//! use headstart::range;
//!
//! assert!(range::IMAGE_SIZE.check(224).is_ok());
//! let error = range::IMAGE_SIZE.check(u64::MAX).unwrap_err();
//! assert_eq!(error.to_string(), "image-size: expected a whole number from 1 to 4096, found 18446744073709551615");
//! ```

use crate::error::{Error, Result};

/// A setting's least and largest value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The setting, as flags and config.toml spell it.
    pub name: &'static str,
    /// The least value.
    pub least: u64,
    /// The largest value.
    pub most: u64,
}

impl Range {
    const fn new(name: &'static str, least: u64, most: u64) -> Range {
        Range { name, least, most }
    }

    /// What is accepted, in words.
    pub fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.least, self.most)
    }

    /// Whether `value` is within.
    pub fn contains(&self, value: u64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// Fails unless `value` is within.
    ///
    /// # Errors
    /// Names the setting, what is accepted and `value`.
    pub fn check(&self, value: u64) -> Result<()> {
        match self.contains(value) {
            true => Ok(()),
            false => Err(Error::invalid(self.name, self.expected(), value.to_string(), "")),
        }
    }
}

/// Height and width of images before the net, in pixels.
pub const IMAGE_SIZE: Range = Range::new("image-size", 1, 4096);
/// The same of training images.
pub const TRAIN_SIZE: Range = Range::new("train-size", 1, 4096);
/// Factor of upsampling inside the net.
pub const UPSAMPLE: Range = Range::new("upsample", 1, 64);
/// Height and width of images inside the net: image size times upsampling.
pub const NET_SIZE: Range = Range::new("image size times upsampling", 1, 8192);
/// Classes of a head.
pub const CLASSES: Range = Range::new("classes", 1, 1_000_000);
/// Images that go through the net together.
pub const BATCH_SIZE: Range = Range::new("batch-size", 1, 65_536);
/// Steps whose gradients make one update.
pub const ACCUMULATE: Range = Range::new("accumulate", 1, MANY);
/// Images of an update for which learning rates are meant.
pub const SCALE_LEARNING_RATE: Range = Range::new("scale-learning-rate", 1, 1 << 24);
/// Replicas that a batch is cut into.
pub const REPLICAS: Range = Range::new("replicas", 1, 65_536);
/// Epochs of the first phase.
pub const EPOCHS: Range = Range::new("epochs", 0, MANY);
/// Epochs of fine-tuning.
pub const FINE_TUNE_EPOCHS: Range = Range::new("fine-tune-epochs", 0, MANY);
/// Epochs of a phase in a list of phases.
pub const UNFREEZE_EPOCHS: Range = Range::new("unfreeze", 1, MANY);
/// Epochs between the drops of a step schedule.
pub const STEP_EPOCHS: Range = Range::new("step-epochs", 1, MANY);
/// Epochs that a plateau schedule waits.
pub const PLATEAU_PATIENCE: Range = Range::new("plateau-patience", 0, MANY);
/// Epochs that early stopping waits.
pub const PATIENCE: Range = Range::new("patience", 0, MANY);
/// Most training images.
pub const LIMIT: Range = Range::new("limit", 1, 1_000_000_000);
/// Training images that a head is fitted on.
pub const HEAD_IMAGES: Range = Range::new("head-images", 2, 1_000_000_000);
/// What random choices follow from.
pub const SEED: Range = Range::new("seed", 0, u32::MAX as u64);
/// Threads, 0 for one per core.
pub const THREADS: Range = Range::new("threads", 0, 1024);
/// Megabytes of memory for cached features, up to a pebibyte.
pub const CACHE_MEMORY: Range = Range::new("cache-memory", 0, 1 << 30);
/// Megabytes of disk for cached features, up to a pebibyte.
pub const CACHE_DISK: Range = Range::new("cache-disk", 0, 1 << 30);
/// Megabytes of memory for reading files, up to a pebibyte.
pub const MEMORY_LIMIT: Range = Range::new("memory-limit", 16, 1 << 30);
/// Seconds between two savings of a run, up to 31 years.
pub const SAVE_EVERY: Range = Range::new("save-every", 0, 1_000_000_000);
/// Seconds that a run by a recipe may take, up to a year; flags may say parts of a second.
pub const BUDGET: Range = Range::new("budget", 1, 365 * 24 * 3600);
/// Classes or images to name.
pub const TOP_K: Range = Range::new("top-k", 1, 1_000_000);
/// Steps of a learning rate test; choosing among them takes the square of their number.
pub const TEST_STEPS: Range = Range::new("steps", 10, 10_000);
/// Repetitions of a measurement.
pub const REPEAT: Range = Range::new("repeat", 1, 100_000);
/// Parts of the images that are judged in turn.
pub const FOLDS: Range = Range::new("folds", 2, 1000);
/// Images that say which values feature maps have.
pub const CALIBRATION_IMAGES: Range = Range::new("calibration-images", 1, MANY);
/// Resamples behind confidence intervals.
pub const BOOTSTRAP: Range = Range::new("bootstrap", 0, 100_000);
/// Images of a gallery.
pub const GALLERY_SIZE: Range = Range::new("gallery-size", 0, 1000);
/// Port of a server, 0 for a free one.
pub const PORT: Range = Range::new("port", 0, 65_535);
/// Images that a server computes together.
pub const MAX_BATCH: Range = Range::new("max-batch", 1, 65_536);
/// Milliseconds that a server lets an image wait for others.
pub const MAX_DELAY: Range = Range::new("max-delay", 0, 60_000);
/// Images that wait in a server.
pub const QUEUE: Range = Range::new("queue", 1, 1_000_000);
/// Megabytes of a request's body.
pub const MAX_BODY: Range = Range::new("max-body", 1, 4096);
/// Millions of pixels of an image that is sent to a server, up to what is decoded at all.
pub const MAX_PIXELS: Range = Range::new("max-pixels", 1, 100);
/// Seconds that a server waits for what a request needs.
pub const TIMEOUT: Range = Range::new("timeout", 1, 3600);
/// Open connections of a server.
pub const MAX_CONNECTIONS: Range = Range::new("max-connections", 1, 1_000_000);

/// More epochs and steps than any run has.
const MANY: u64 = 1_000_000;

/// Bytes of this many megabytes; the largest number where they are more.
pub fn bytes(megabytes: u64) -> u64 {
    megabytes.saturating_mul(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    #[test]
    fn what_passes_stays_in_its_type() {
        for megabytes in [CACHE_MEMORY, CACHE_DISK, MEMORY_LIMIT] {
            assert_eq!(bytes(megabytes.most) >> 20, megabytes.most);
        }
        for seconds in [SAVE_EVERY, BUDGET] {
            let pause = Duration::from_secs(seconds.most);
            assert!(Instant::now().checked_add(pause).is_some());
            assert!(SystemTime::now().checked_add(pause).is_some());
        }
        let pixels = NET_SIZE.most * NET_SIZE.most;
        // Bytes of a batch of the largest feature maps, 2048 channels of 4 bytes.
        assert!(pixels.checked_mul(BATCH_SIZE.most * 2048 * 4).is_some());
    }

    #[test]
    fn both_ends_are_within() {
        assert!(BATCH_SIZE.check(1).is_ok() && BATCH_SIZE.check(65_536).is_ok());
        for bad in [0, 65_537, u64::MAX] {
            let error = BATCH_SIZE.check(bad).unwrap_err().to_string();
            assert!(error.starts_with("batch-size: expected") && error.ends_with(&bad.to_string()));
        }
    }
}
