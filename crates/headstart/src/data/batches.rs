//! Batches of images, made ahead of use on background threads, in a given order.
//!
//! ```
//! use headstart::Dataset;
//! use headstart::batches::{Loader, LoaderOptions, Target, epoch_order};
//!
//! let data = Dataset::load("synthetic:3x40x32")?;
//! let target = Target::square(64);
//! let order = epoch_order(42, 0, data.train.len(), true); // the first epoch of seed 42
//! let mut images = 0;
//! for batch in Loader::new(&data.train, order, LoaderOptions::new(20, target))? {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), batch.count * 64 * 64 * 3);
//!     images += batch.count;
//! }
//! assert_eq!(images, data.train.len());
//! # Ok::<(), headstart::Error>(())
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::data::augment::Augment;
pub use crate::data::batch::{Batch, Mixed, Pixels, Portion};
use crate::data::dataset::Subset;
pub use crate::data::image::Target;
use crate::data::image::{MAX_PIXELS, MAX_SIDE, Resizer, mirror};
use crate::data::split::{RandomState, split_mix_64};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// How a [`Loader`] works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Batch size, at least 1.
    pub batch_size: usize,
    /// The images' size in a batch.
    pub target: Target,
    /// Background threads, at least 1; results do not depend on it.
    pub threads: usize,
    /// Batches that are ready or being made, at least 1.
    pub prefetch: usize,
    /// Which images of each batch are read; what is mixed with others is mixed within the whole batch.
    pub portion: Portion,
}

impl LoaderOptions {
    /// A thread per core, eight at most, and one batch more than threads ahead. They sleep while
    /// batches are ready, so that they take time from computing only where it would wait for them.
    pub fn new(batch_size: usize, target: Target) -> LoaderOptions {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(8);
        LoaderOptions {
            batch_size,
            target,
            threads,
            prefetch: threads + 1,
            portion: Portion::WHOLE,
        }
    }
}

/// The order of `n` images in an epoch: ascending, or shuffled by `seed` and `epoch` alone.
pub fn epoch_order(seed: u64, epoch: usize, n: usize, shuffle: bool) -> Vec<usize> {
    if !shuffle {
        return (0..n).collect();
    }
    let state = seed.wrapping_add((epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    RandomState::new(split_mix_64(state) as u32).permutation(n)
}

/// The order of a balanced epoch, by `seed` and `epoch` alone: as many images as there are `labels`, and every class
/// that has images equally often (to one image). The images of a class are used in turn, in shuffled rounds.
pub fn balanced_order(seed: u64, epoch: usize, labels: &[usize]) -> Vec<usize> {
    let mut classes = vec![Vec::new(); labels.iter().max().map_or(0, |m| m + 1)];
    labels.iter().enumerate().for_each(|(i, &label)| classes[label].push(i));
    classes.retain(|images| !images.is_empty());
    let state = seed.wrapping_add((epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut random = RandomState::new(split_mix_64(state) as u32);
    let mut drawn = Vec::with_capacity(labels.len() + classes.len());
    let share = labels.len().div_ceil(classes.len().max(1));
    // What is one too many is taken off other classes in every epoch.
    let count = classes.len().max(1);
    for (number, images) in classes.iter().enumerate() {
        let spare = share * count - labels.len();
        let quota = share - usize::from((number + epoch) % count < spare);
        let start = drawn.len();
        while drawn.len() - start < quota {
            let left = quota - (drawn.len() - start);
            let turn = random.permutation(images.len());
            drawn.extend(turn.into_iter().take(left).map(|i| images[i]));
        }
    }
    random.permutation(drawn.len()).into_iter().map(|i| drawn[i]).collect()
}

/// An iterator over batches. The first error ends it; dropping it stops its threads.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    subset: Subset,
    order: Vec<usize>,
    options: LoaderOptions,
    augment: Augment,
    /// The length that the shorter side of a JPEG keeps at least; none where JPEGs are decoded in full.
    least_side: Option<usize>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Next batch that a worker takes.
    next: usize,
    /// Next batch that the consumer gets.
    wanted: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    spare: Vec<Batch>,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batches(&self) -> usize {
        self.order.len().div_ceil(self.options.batch_size)
    }

    fn work(&self) {
        let mut resizer = Resizer::new();
        let mut scratch = Vec::new();
        let mut state = self.lock();
        loop {
            if state.stopped || state.next >= self.batches() {
                return;
            }
            if state.next >= state.wanted.saturating_add(self.options.prefetch) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = state.next;
            state.next += 1;
            let spare = state.spare.pop().unwrap_or_default();
            drop(state);
            // A panic must reach the consumer as an error, or it would wait for ever.
            let made = guarded(|| self.make(number, spare, &mut resizer, &mut scratch));
            let made = made.unwrap_or_else(|panic| {
                let found = format!("a failed thread ({panic})");
                Err(Error::invalid("batch", "images that can be decoded", found, ""))
            });
            state = self.lock();
            state.ready.insert(number, made);
            self.changed.notify_all();
        }
    }

    fn make(
        &self,
        number: usize,
        mut batch: Batch,
        resizer: &mut Resizer,
        scratch: &mut Vec<u8>,
    ) -> Result<Batch> {
        let LoaderOptions { batch_size, target, portion, .. } = self.options;
        let start = number * batch_size;
        let indices = &self.order[start..self.order.len().min(start + batch_size)];
        let own = portion.range(indices.len());
        let mixes = !self.augment.mixing.is_none();
        let indices = if mixes { indices } else { &indices[own.clone()] };
        let each = target.height * target.width * 3;
        let images = batch.images.cleared();
        images.reserve(each * indices.len());
        batch.labels.clear();
        batch.mixed = None;
        batch.indices.clear();
        for &i in indices {
            let image = self.subset.image_at_least(i, self.least_side)?;
            let fits = target.keeps(image.width, image.height);
            let pixels = if fits && self.augment.list.is_empty() {
                &image.pixels[..]
            } else {
                scratch.resize(each, 0);
                self.augment.apply(i, &image, target, resizer, scratch)?;
                &scratch[..]
            };
            let start = images.len();
            images.extend_from_slice(pixels);
            if self.subset.view().mirrored {
                mirror(&mut images[start..], target.width);
            }
            batch.labels.push(self.subset.label(i) as u32);
        }
        batch.indices.extend_from_slice(indices);
        batch.count = indices.len();
        if mixes {
            self.augment.mix(number, target.height, target.width, &mut batch);
            batch.keep(own);
        }
        Ok(batch)
    }
}

impl Loader {
    /// Batches of the images of `subset` at the positions `order`, in that order.
    ///
    /// Fails on a zero setting and on a position past the end of `subset`.
    pub fn new(subset: &Subset, order: Vec<usize>, options: LoaderOptions) -> Result<Loader> {
        Loader::augmented(subset, order, options, Augment::default())
    }

    /// As [`Loader::new`], with every image augmented.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn augmented(
        subset: &Subset,
        order: Vec<usize>,
        options: LoaderOptions,
        augment: Augment,
    ) -> Result<Loader> {
        let Target { height, width, .. } = options.target;
        let fits = height.max(width) <= MAX_SIDE && height * width <= MAX_PIXELS;
        for (name, value) in [
            ("batch size", options.batch_size),
            ("image height", height),
            ("image width", width),
            ("threads", options.threads),
            ("prefetch", options.prefetch),
        ] {
            if value == 0 {
                return Err(Error::invalid(name, "at least 1", "0", ""));
            }
        }
        if !fits {
            let found = format!("{height}x{width}");
            let expected = format!("at most 100 million pixels, {MAX_SIDE} on a side");
            return Err(Error::invalid("image size", expected, found, ""));
        }
        if let Some(&past) = order.iter().find(|&&i| i >= subset.len()) {
            let expected = format!("positions below {}", subset.len());
            return Err(Error::invalid("order", expected, past.to_string(), ""));
        }
        let state = Mutex::new(State::default());
        let target = options.target.at(subset.view().corner);
        let options = LoaderOptions { target, ..options };
        let (subset, changed) = (subset.clone(), Condvar::new());
        let least_side = augment.least_side(options.target);
        let shared = Shared { subset, order, options, augment, least_side, state, changed };
        let shared = Arc::new(shared);
        let mut loader = Loader { shared, workers: Vec::new() };
        for _ in 0..options.threads.min(options.prefetch).min(loader.len()) {
            let shared = loader.shared.clone();
            let worker = std::thread::Builder::new()
                .name("headstart-loader".to_string())
                .spawn(move || shared.work())
                .map_err(|e| Error::threads(options.threads, e))?;
            loader.workers.push(worker);
        }
        Ok(loader)
    }

    /// Number of batches in all, including those already taken.
    pub fn len(&self) -> usize {
        self.shared.batches()
    }

    /// Whether there are no batches at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands a used batch back, so that its memory serves a later one.
    pub fn recycle(&self, batch: Batch) {
        let mut state = self.shared.lock();
        if state.spare.len() < self.shared.options.prefetch {
            state.spare.push(batch);
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let mut state = self.shared.lock();
        let wanted = state.wanted;
        if wanted >= self.shared.batches() || state.stopped {
            return None;
        }
        loop {
            if let Some(batch) = state.ready.remove(&wanted) {
                state.wanted += 1;
                state.stopped = batch.is_err();
                self.shared.changed.notify_all();
                return Some(batch);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
