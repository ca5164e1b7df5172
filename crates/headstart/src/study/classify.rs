//! Classifying image files: decoded on threads ahead of compute, predicted in order.
//!
//! ```
//! use headstart::classify::{ClassifyOptions, classify};
//! use headstart::image::Views;
//! use headstart::{Control, Device, Error, Model};
//!
//! let model = Model::builder("resnet20").weights("none").build(&headstart::Dataset::load("sample")?)?;
//! let (device, files) = (Device::cpu(0)?, ["gone.jpg".into()]);
//! let options = ClassifyOptions { batch: 32, tta: Views::One, decoders: 2 };
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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::control::Control;
use crate::data::image::{Resizer, Rgb8, Target, Views, mirror, size};
use crate::engine::device::Device;
use crate::engine::execute::Execute;
use crate::engine::inference::{answer_node, executor, mean, read_floats, to_probabilities};
use crate::error::{Error, Result};
use crate::guard::guarded;
use crate::net::model::Model;
use crate::numbers::grouped;

/// How files are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassifyOptions {
    /// Batch size, at least 1.
    pub batch: usize,
    /// Test-time augmentation: the mean of the probabilities of these views of an image.
    pub tta: Views,
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
    let mut executor = executor(model, device, batch, &[0], &[answer_node(model)])?;
    let (classes, target) = (model.card.classes.len(), model.target());
    let queue = Queue::new(files.len(), 2 * batch);
    let targets: Vec<Target> = tta.corners().iter().map(|&corner| target.at(corner)).collect();
    let (mut pixels, mut errors) = (vec![Vec::new(); targets.len()], Vec::new());
    thread::scope(|scope| {
        // However this ends, the threads must end too.
        let _closing = Closing(&queue);
        for started in 0..decoders.clamp(1, files.len().max(1)) {
            match thread::Builder::new().spawn_scoped(scope, || queue.work(files, &targets)) {
                Err(e) if started == 0 => return Err(Error::threads(decoders, e).into()),
                Err(_) => break,
                Ok(_) => {}
            }
        }
        let mut first = 0;
        for i in 0..files.len() {
            match queue.take(i) {
                Ok(views) => {
                    pixels.iter_mut().zip(views).for_each(|(all, view)| all.extend(view));
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
                let mut views = Vec::new();
                for pixels in &mut pixels {
                    views.push(run(model, &mut *executor, pixels, count)?);
                    if tta.mirrored() {
                        mirror(pixels, target.width);
                        views.push(run(model, &mut *executor, pixels, count)?);
                    }
                }
                p = mean(views.into_iter());
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
            pixels.iter_mut().for_each(Vec::clear);
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
    let pixels = sized(&image, model.target(), &mut Resizer::new())?;
    let mut executor = executor(model, device, 1, &[0], &[answer_node(model)])?;
    let probabilities = run(model, &mut *executor, &pixels, 1)?;
    check(&probabilities)?;
    Ok(probabilities)
}

/// A model that is ready for batch after batch. Its answers are those of [`classify`], bit for bit, whatever else is in a
/// batch.
///
/// ```
/// use std::sync::Arc;
/// use headstart::classify::{Prepared, pixels};
/// use headstart::image::{Resizer, Rgb8, picture};
/// use headstart::{Device, Model};
///
/// let model = Model::builder("resnet20").weights("none").build(&headstart::Dataset::load("sample")?)?;
/// let file = picture::png(&Rgb8::new(2, 1, vec![0, 0, 0, 255, 255, 255])?)?;
/// let mut image = pixels(&model.target(), "upload.png", &file, usize::MAX, &mut Resizer::new())?;
/// let mut prepared = Prepared::new(Arc::new(model), &Device::cpu(0)?, 8)?;
/// assert_eq!(image.len(), prepared.image_bytes());
/// image.extend_from_within(..); // the same image twice
/// let probabilities = prepared.run(&image, 2)?;
/// assert_eq!(probabilities.len(), 2 * 10);
/// assert_eq!(probabilities[..10], probabilities[10..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Prepared {
    model: Arc<Model>,
    executor: Box<dyn Execute>,
    batch: usize,
}

impl Prepared {
    /// The model with memory for at most `batch` images at once.
    ///
    /// # Errors
    /// If it does not fit into memory.
    pub fn new(model: Arc<Model>, device: &Device, batch: usize) -> Result<Prepared> {
        let batch = batch.max(1);
        let executor = executor(&model, device, batch, &[0], &[answer_node(&model)])?;
        Ok(Prepared { model, executor, batch })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Most images at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Bytes of an image at the model's size.
    pub fn image_bytes(&self) -> usize {
        let Target { height, width, .. } = self.model.target();
        height * width * 3
    }

    /// Class probabilities at the model's temperature, `[count, classes]` row-major, of `count` images as [`pixels()`] gives
    /// them, one after the other.
    ///
    /// # Errors
    /// If there are none or more than a batch, or not as many bytes; if the predictions are not numbers.
    pub fn run(&mut self, pixels: &[u8], count: usize) -> Result<Vec<f32>> {
        if count == 0 || count > self.batch || pixels.len() != count * self.image_bytes() {
            let expected = format!("1 to {} images of {} bytes", self.batch, self.image_bytes());
            let found = format!("{} bytes for {count}", pixels.len());
            return Err(Error::invalid("batch", expected, found, ""));
        }
        let probabilities = run(&self.model, &mut *self.executor, pixels, count)?;
        check(&probabilities)?;
        Ok(probabilities)
    }
}

/// Class probabilities of `count` images.
fn run(model: &Model, executor: &mut dyn Execute, pixels: &[u8], count: usize) -> Result<Vec<f32>> {
    executor.forward(&[pixels.into()], count)?;
    Ok(to_probabilities(model, read_floats(executor, 0)?))
}

/// The bytes of an image file at a model's size, `height * width * 3`, as [`Model::predict`] has them; `name` names it in
/// errors.
///
/// # Errors
/// If it cannot be decoded, or has more than `most` pixels, which is found before it is decoded.
pub fn pixels(
    target: &Target,
    name: &str,
    file: &[u8],
    most: usize,
    resizer: &mut Resizer,
) -> Result<Vec<u8>> {
    sized(&decoded(target, name, file, most)?, *target, resizer)
}

/// An image file decoded as a model has it, not yet at its size; `name` names it in errors.
///
/// # Errors
/// If it cannot be decoded, or has more than `most` pixels, which is found before it is decoded.
pub fn decoded(target: &Target, name: &str, file: &[u8], most: usize) -> Result<Rgb8<'static>> {
    let (width, height) = size(name, file)?;
    if width.saturating_mul(height) > most {
        let expected = format!("an image of at most {} pixels", grouped(most));
        let hint = "make it smaller, or raise the limit";
        return Err(Error::format(name, expected, format!("{width}x{height}"), hint));
    }
    target.decoded(name, file)
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
    /// The views of each.
    ready: BTreeMap<usize, Result<Vec<Vec<u8>>>>,
    closed: bool,
}

impl Queue {
    fn new(files: usize, ahead: usize) -> Queue {
        Queue { state: Mutex::default(), changed: Condvar::new(), files, ahead }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, files: &[PathBuf], targets: &[Target]) {
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
            let image = guarded(|| read(&files[i], targets, &mut resizer));
            let image = image.unwrap_or_else(|panic| {
                let found = format!("one that the decoder fails on ({panic})");
                Err(Error::format(&files[i], "an image that can be decoded", found, ""))
            });
            state = self.lock();
            state.ready.insert(i, image);
            self.changed.notify_all();
        }
    }

    fn take(&self, i: usize) -> Result<Vec<Vec<u8>>> {
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

/// The bytes of views of one image file at the model's size.
fn read(path: &Path, targets: &[Target], resizer: &mut Resizer) -> Result<Vec<Vec<u8>>> {
    let Some(last) = targets.last() else { return Ok(Vec::new()) };
    // A corner may need more pixels of a JPEG than the image does; all corners need the same.
    let around = match targets.iter().all(|target| target.least_side() == last.least_side()) {
        true => None,
        false => Some(last.open(path)?),
    };
    let plain = targets[0].open(path)?;
    let view = |target: &Target| {
        let image = around.as_ref().filter(|_| target.corner.is_some()).unwrap_or(&plain);
        sized(image, *target, resizer)
    };
    targets.iter().map(view).collect()
}

/// The bytes of one image at the model's size.
fn sized(image: &Rgb8<'_>, target: Target, resizer: &mut Resizer) -> Result<Vec<u8>> {
    if target.keeps(image.width, image.height) {
        return Ok(image.pixels.to_vec());
    }
    target.enter(resizer, image)
}

/// Fails unless all probabilities are numbers.
fn check(probabilities: &[f32]) -> Result<()> {
    if probabilities.iter().all(|p| p.is_finite()) {
        return Ok(());
    }
    let hint = "the weights are damaged or training diverged";
    Err(Error::invalid("probabilities", "finite numbers", "others", hint))
}
