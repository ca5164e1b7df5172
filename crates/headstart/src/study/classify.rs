//! Classifying image files: decoded on threads ahead of compute, predicted in order.
//!
//! ```
//! use headstart::classify::{ClassifyOptions, classify};
//! use headstart::{Control, Device, Error, Model};
//!
//! let model = Model::builder("resnet20").weights("none").build(&headstart::Dataset::load("sample")?)?;
//! let (device, files) = (Device::cpu(0)?, ["gone.jpg".into()]);
//! let options = ClassifyOptions { batch: 32, tta: false, decoders: 2 };
//! let mut unreadable = 0;
//! classify(&model, &files, &device, options, &mut |file, prediction| {
//!     match prediction {
//!         Ok(probabilities) => println!("{}: {probabilities:?}", files[file].display()),
//!         Err(_) => unreadable += 1,
//!     }
//!     Ok::<_, Error>(Control::Continue)
//! })?;
//! assert_eq!(unreadable, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::control::Control;
use crate::data::image::{Resizer, Rgb8, Target, mirror};
use crate::engine::device::Device;
use crate::engine::inference::{answer_node, executor, read_floats, to_probabilities};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::net::model::Model;

/// How files are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassifyOptions {
    /// Batch size, at least 1.
    pub batch: usize,
    /// Test-time augmentation: the mean of the probabilities of an image and its mirror image.
    pub tta: bool,
    /// Threads that decode, at least 1; predictions do not depend on it.
    pub decoders: usize,
}

/// The prediction for one file: class probabilities, or why it cannot be read.
pub type Answer<'a> = std::result::Result<&'a [f32], &'a Error>;

/// Classifies `files`; `on_answer` gets the position of each file and its prediction, in order, and
/// says whether to continue.
///
/// # Errors
/// If the model cannot run, and what `on_answer` fails with. A file that cannot be read is no error.
pub fn classify<E: From<Error>>(
    model: &Model,
    files: &[PathBuf],
    device: &Device,
    options: ClassifyOptions,
    on_answer: &mut dyn FnMut(usize, Answer<'_>) -> std::result::Result<Control, E>,
) -> std::result::Result<(), E> {
    let ClassifyOptions { batch, tta, decoders } = options;
    let batch = batch.min(files.len()).max(1);
    let node = answer_node(model);
    let mut executor = executor(model, device, batch, &[0], &[node])?;
    let (classes, target) = (model.card.classes.len(), model.target());
    let queue = Queue::new(files.len(), 2 * batch);
    let (mut pixels, mut errors) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..decoders.clamp(1, files.len().max(1)) {
            scope.spawn(|| queue.work(files, target));
        }
        // However this ends, the threads must end too.
        let _closing = Closing(&queue);
        let mut first = 0;
        for i in 0..files.len() {
            match queue.take(i) {
                Ok(image) => {
                    pixels.extend_from_slice(&image);
                    errors.push(None);
                }
                Err(error) => errors.push(Some(error)),
            }
            let count = errors.iter().filter(|e| e.is_none()).count();
            if count < batch && i + 1 < files.len() {
                continue;
            }
            let mut p = Vec::new();
            if count > 0 {
                executor.forward(&[(&pixels).into()], count)?;
                p = to_probabilities(model, read_floats(&mut *executor, 0)?);
                if tta {
                    mirror(&mut pixels, target.width);
                    executor.forward(&[(&pixels).into()], count)?;
                    let other = to_probabilities(model, read_floats(&mut *executor, 0)?);
                    p.iter_mut().zip(other).for_each(|(a, b)| *a = (*a + b) / 2.0);
                }
            }
            check(&p)?;
            let mut rows = p.chunks_exact(classes.max(1));
            for (at, error) in errors.drain(..).enumerate() {
                let answer = match &error {
                    Some(error) => Err(error),
                    None => Ok(rows.next().unwrap_or_default()),
                };
                if on_answer(first + at, answer)? == Control::Stop {
                    return Ok(());
                }
            }
            first = i + 1;
            pixels.clear();
        }
        Ok(())
    })
}

/// Class probabilities of one image, at the model's temperature. [`Target::open`](crate::image::Target::open) of
/// [`Model::target`] decodes a file as the model has it. For many images use [`classify`]: this prepares the net
/// each time.
///
/// # Errors
/// If the model cannot run, or its predictions are not numbers.
pub fn classify_one(model: &Model, image: Rgb8<'_>, device: &Device) -> Result<Vec<f32>> {
    let pixels = sized(image, model.target(), &mut Resizer::new())?;
    let mut executor = executor(model, device, 1, &[0], &[answer_node(model)])?;
    executor.forward(&[(&pixels).into()], 1)?;
    let probabilities = to_probabilities(model, read_floats(&mut *executor, 0)?);
    check(&probabilities)?;
    Ok(probabilities)
}

/// Decoded images on their way from the threads to the model.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    files: usize,
    ahead: usize,
}

#[derive(Default)]
struct State {
    /// The next file that a thread takes.
    next: usize,
    /// The next file that the model needs.
    wanted: usize,
    ready: BTreeMap<usize, Result<Vec<u8>>>,
    closed: bool,
}

impl Queue {
    fn new(files: usize, ahead: usize) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), files, ahead }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, files: &[PathBuf], target: Target) {
        let mut resizer = Resizer::new();
        let mut state = self.lock();
        while !state.closed && state.next < self.files {
            if state.next >= state.wanted + self.ahead {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let i = state.next;
            state.next += 1;
            drop(state);
            // A panic must reach the model as an error, or it would wait for ever.
            let image = guarded(|| read(&files[i], target, &mut resizer));
            let image = image.unwrap_or_else(|panic| {
                let found = format!("one that the decoder fails on ({panic})");
                Err(Error::format(&files[i], "an image that can be decoded", found, ""))
            });
            state = self.lock();
            state.ready.insert(i, image);
            self.changed.notify_all();
        }
    }

    fn take(&self, i: usize) -> Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if let Some(image) = state.ready.remove(&i) {
                state.wanted = i + 1;
                self.changed.notify_all();
                return image;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lets the threads end.
struct Closing<'q>(&'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

/// The bytes of one image file at the model's size.
fn read(path: &Path, target: Target, resizer: &mut Resizer) -> Result<Vec<u8>> {
    sized(target.open(path)?, target, resizer)
}

/// The bytes of one image at the model's size.
fn sized(image: Rgb8<'_>, target: Target, resizer: &mut Resizer) -> Result<Vec<u8>> {
    if target.keeps(image.width, image.height) {
        return Ok(image.pixels.into_owned());
    }
    target.enter(resizer, &image)
}

/// Fails unless all probabilities are numbers.
fn check(probabilities: &[f32]) -> Result<()> {
    if probabilities.iter().all(|p| p.is_finite()) {
        return Ok(());
    }
    let hint = "the weights are damaged or training diverged";
    Err(Error::invalid("probabilities", "finite numbers", "others", hint))
}
