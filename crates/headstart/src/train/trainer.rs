//! Training: joins data, plan and optimizer, epoch by epoch, and reports events.
//!
//! ```
//! use headstart::{Control, Dataset, Device, Model, Phase, Settings, Trainer};
//!
//! let data = Dataset::load("synthetic:2x40x32")?;
//! let mut model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let from = model.net.freeze_point("conv4_block3_1_conv")?;
//! let mut trainer = Trainer::new(&mut model, &data, Device::cpu(0)?, Settings::default())?;
//! let mut watch = |_event: &_| Control::Continue;
//! trainer.fit(&Phase::head(2, 1e-3), &mut watch)?;
//! trainer.fit(&Phase::fine_tune(from, 1, 1e-4), &mut watch)?;
//! assert_eq!(trainer.history.epochs.len(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod inputs;
mod kept;
mod layer_decay;
mod phase;
mod range_test;
mod room;
mod run;
mod shipped;
mod smaller;
mod solve;
mod step;
mod time;
mod together;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::data::augment::{Augmentation, Mixing};
use crate::data::dataset::Dataset;
use crate::data::image::Views;
use crate::engine::device::Device;
use crate::engine::inference::with_fewer;
use crate::engine::optimizer::{Rule, WeightDecay};
use crate::error::{Error, Result};
use crate::measure::events::Event;
use crate::measure::history::History;
use crate::measure::monitor::{BestBy, EarlyStopping};
use crate::memory;
use crate::net::model::Model;
use crate::train::cache::{CacheSettings, DISK, Frozen};
use crate::train::class_weight::ClassWeight;
use crate::train::collective::{Alone, Collective};
use crate::train::run_folder::RunFolder;

use checkpoint::Resume;
pub use phase::{Phase, Solver};
use run::Run;
pub use shipped::Answers;
use smaller::Smaller;

/// Batch size of inference, where the memory allows it.
pub const INFERENCE_BATCH: usize = 32;

/// Settings that all phases share.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Batch size; of fewer training images, all are one batch.
    pub batch_size: usize,
    /// Batches whose gradients are accumulated for one update, their mean over all images (Keras's
    /// `gradient_accumulation_steps`); the last update of an epoch may have fewer. 1 or more.
    pub accumulate: usize,
    /// How many replicas a batch is cut into: each runs its part of the images through the net, with its own batch norm
    /// statistics, as PyTorch's DDP does. 1 or more.
    pub replicas: usize,
    /// The optimizer.
    pub rule: Rule,
    /// The weight decay.
    pub weight_decay: WeightDecay,
    /// Factor between the learning rate of each stage of the net and that of the stage after it (timm's `layer_decay`).
    pub layer_decay: Option<f32>,
    /// Weight of each class in the training loss.
    pub class_weight: Option<ClassWeight>,
    /// Fraction of each training label that is spread over all classes (Keras's `label_smoothing`).
    pub label_smoothing: f32,
    /// Largest global norm of the gradients (Keras's `global_clipnorm`).
    pub clip_norm: Option<f32>,
    /// Largest element of a gradient, without its sign (Keras's `clipvalue`), applied before `clip_norm`.
    pub clip_value: Option<f32>,
    /// Whether every class is trained on equally often: images of small classes occur several times in an epoch.
    pub balance: bool,
    /// Dropout rate of the pooled features before the head (Keras's `Dropout`).
    pub dropout: f32,
    /// Whether batch norm stays in inference mode where layers are fine-tuned, with its statistics, gamma and beta
    /// untouched (Keras's `trainable = False`).
    pub freeze_bn: bool,
    /// The views of each image that L-BFGS fits a head on; its penalty is found on the images alone.
    pub head_views: Views,
    /// Most training images that L-BFGS fits a head on, of each class in proportion.
    pub head_images: Option<usize>,
    /// How the epoch is chosen whose weights are shipped.
    pub best_by: BestBy,
    /// When a phase ends early, with the weights of its best epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Decay of the EMA weights (timm's `ModelEmaV2`), which evaluation, the best and the last model then use: at least
    /// 0, below 1.
    pub ema: Option<f32>,
    /// Augmentations of training images, in order. With any, features are not cached for
    /// them.
    pub augment: Vec<Augmentation>,
    /// Height and width at which training images enter the net in gradient steps, where that is not the model's own: smaller ones
    /// for random crops, which enlarge what they show. Validation images enter at the model's own size.
    pub train_size: Option<usize>,
    /// How images of a batch are mixed, after that; the same is true for it.
    pub mixing: Mixing,
    /// Whether images are shuffled in every epoch.
    pub shuffle: bool,
    /// Seed of that order, of augmentation and of dropout.
    pub seed: u32,
    /// Where features of frozen layers may be cached.
    pub cache: CacheSettings,
    /// Training ends when the run has taken this long, within an epoch too, which then counts as one. Learning rate schedules
    /// come to their end with it. An epoch's first step, and a head that L-BFGS fits, are always finished.
    pub max_time: Option<Duration>,
    /// How often last.safetensors is written within an epoch; none for every minute, but not so often
    /// that it takes more than a fiftieth of the time. It is always written at an epoch's end.
    pub save_every: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch_size: 20,
            accumulate: 1,
            replicas: 1,
            rule: Rule::RMSPROP,
            weight_decay: WeightDecay::default(),
            layer_decay: None,
            class_weight: None,
            label_smoothing: 0.0,
            clip_norm: None,
            clip_value: None,
            balance: false,
            dropout: 0.0,
            freeze_bn: false,
            head_views: Views::One,
            head_images: None,
            best_by: BestBy::default(),
            early_stopping: None,
            ema: None,
            augment: Vec::new(),
            train_size: None,
            mixing: Mixing::default(),
            shuffle: true,
            seed: 42,
            cache: CacheSettings { memory: default_cache_memory(), folder: None, disk: DISK },
            max_time: None,
            save_every: None,
        }
    }
}

impl Settings {
    /// The weight of each class; empty where each counts 1.
    fn class_weights(&self, data: &Dataset) -> Result<Vec<f32>> {
        let weights = self.class_weight.as_ref();
        let weights = weights.map(|w| w.weights(&data.classes, &data.train.class_counts()));
        Ok(weights.transpose()?.unwrap_or_default())
    }

    /// The augmentations, as they are spelt.
    fn changes(&self) -> Vec<String> {
        self.augment.iter().map(Augmentation::to_string).chain(self.mixing.names()).collect()
    }
}

/// Half of the memory that this process can have now, or 2 GiB where the system does not say.
pub fn default_cache_memory() -> u64 {
    memory::look().map_or(2 << 30, |memory| memory.available / 2)
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Done,
    /// The earlier run had done and evaluated the phase already, so there was nothing to do.
    DoneBefore,
    /// The caller stopped it; the weights at that time are saved.
    Stopped,
}

/// Trains one model on one data set.
#[derive(Debug)]
pub struct Trainer<'a> {
    /// The model that is trained.
    pub model: &'a mut Model,
    /// Epochs so far, over all phases.
    pub history: History,
    data: &'a Dataset,
    device: Device,
    settings: Settings,
    /// How many images the net looks at at once: [`INFERENCE_BATCH`], or fewer where that is more than the device's memory.
    looks: usize,
    /// The other processes that train the model, if any.
    collective: Box<dyn Collective>,
    /// Whether this process was told to stop, where there are others that have to stop with it.
    wish: Arc<AtomicBool>,
    /// Seconds of the run by the clock of process 0, where there are several.
    clock: Option<f64>,
    folder: Option<RunFolder>,
    /// The frozen layers of the last phase and their cached features.
    frozen: Option<Frozen>,
    /// The net for training images of a size of their own.
    smaller: Option<Smaller>,
    /// Phases that were started, and the epochs of those that are done.
    phases: usize,
    /// When training began in this process, and the seconds of the run's earlier ones.
    started: Instant,
    spent_before: f64,
    /// Whether the run's time was over when an epoch ended.
    over: bool,
    /// Seconds that the last validation took.
    validating: f64,
    /// L2 penalty of the head that was fitted last.
    l2: Option<f64>,
    /// The epoch whose weights the model has, of those in the history; 0 before the first.
    epoch: usize,
    /// State of the earlier run, until its phase is resumed.
    resume: Option<Resume>,
    /// Fingerprint of all images, where a folder is written.
    fingerprint: String,
}

impl<'a> Trainer<'a> {
    /// Prepares training.
    ///
    /// # Errors
    /// If model and data do not fit each other, there is only one class, or a batch holds more
    /// images than the data.
    pub fn new(
        model: &'a mut Model,
        data: &'a Dataset,
        device: impl Into<Device>,
        settings: Settings,
    ) -> Result<Trainer<'a>> {
        let device = device.into();
        // One batch of all images where there are fewer than a batch has, as in Keras.
        let batch_size = settings.batch_size.min(data.train.len().max(1));
        let settings = Settings { batch_size, ..settings };
        check(model, data, &settings)?;
        model.set_dropout(settings.dropout)?;
        let looking = |batch| room::looking(model, &device, batch);
        let looks = with_fewer(INFERENCE_BATCH, looking).map_or(1, |(_, batch)| batch);
        Ok(Trainer {
            model,
            looks,
            history: History::default(),
            data,
            device,
            settings,
            collective: Box::new(Alone),
            wish: Arc::default(),
            clock: None,
            folder: None,
            frozen: None,
            smaller: None,
            phases: 0,
            started: Instant::now(),
            spent_before: 0.0,
            over: false,
            validating: 0.0,
            l2: None,
            epoch: 0,
            resume: None,
            fingerprint: String::new(),
        })
    }

    /// Trains together with other processes from now on. All have to make the same calls, with the same images and settings;
    /// [`Trainer::check_same`] finds what differs. Only one records in a folder.
    pub fn join(&mut self, collective: Box<dyn Collective>) {
        self.collective = collective;
    }

    /// Writes epochs, events and weights to a folder from now on.
    ///
    /// # Errors
    /// If an image cannot be read, by which a resumed run knows that they are the same.
    pub fn record_in(&mut self, folder: RunFolder) -> Result<()> {
        let decode = self.model.card.decode;
        self.fingerprint = checkpoint::fingerprint(self.data, decode, &self.device)?;
        self.folder = Some(folder);
        Ok(())
    }

    /// The run's folder.
    pub fn folder(&self) -> Option<&RunFolder> {
        self.folder.as_ref()
    }

    /// Trains one phase. After [`Trainer::resume`], phases that the earlier run had done are skipped,
    /// and the phase in which it stopped is resumed.
    ///
    /// If `on_event` returns [`Control::Stop`], for any event, training stops there and sends no more events, and the run's
    /// folder has what resuming needs, to reach the same weights as without the stop. An unfinished update or fit of the
    /// head is done again from its start.
    ///
    /// # Errors
    /// If the loss is not a number (the model then has the weights of the last whole epoch), an
    /// image cannot be decoded, or a file cannot be written.
    pub fn fit(
        &mut self,
        phase: &Phase,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Outcome> {
        if phase.epochs == 0 {
            return Ok(Outcome::Done);
        }
        let mut told = self.told();
        let on_event: &mut dyn FnMut(&Event) -> Control = &mut |event| told.ask(|| on_event(event));
        self.phases += 1;
        let resume = match &self.resume {
            Some(resume) if self.phases < resume.phase => return Ok(Outcome::DoneBefore),
            _ => self.resume.take(),
        };
        let mut run = Run::new(self, phase)?;
        let mut control = match resume {
            Some(resume) => run.go_on(resume, on_event)?,
            None => {
                let control = run.emit(run.opening.clone(), on_event)?;
                run.save_last()?;
                control
            }
        };
        control = run.agreed(control)?;
        if control == Control::Continue && !run.ended() {
            let kept = run.keep_outputs(on_event)?;
            control = run.agreed(kept)?;
        }
        while control == Control::Continue && !run.ended() {
            // Until the epoch is over, the model has the weights of the epoch before.
            let done = match phase.solver {
                Some(solver) => run.solve(solver, on_event)?,
                None => run.epoch(on_event)?,
            };
            control = if done == Control::Stop { done } else { run.agreed(done)? };
        }
        if control == Control::Continue {
            let finished = run.finish(on_event)?;
            control = run.agreed(finished)?;
        }
        run.hand_over()?;
        Ok(match control {
            Control::Continue => Outcome::Done,
            Control::Stop => Outcome::Stopped,
        })
    }

    /// Fails if the earlier run stopped in a phase that [`Trainer::fit`] was never called for: it had other phases.
    ///
    /// # Errors
    /// Only in that case.
    pub fn check_resumed(&self) -> Result<()> {
        let Some(resume) = &self.resume else { return Ok(()) };
        let (expected, found) = (format!("at least {}", resume.phase), self.phases.to_string());
        Err(Error::invalid(
            "phases of the run",
            expected,
            found,
            "undo what was edited in config.toml, or start another run",
        ))
    }
}

fn check(model: &Model, data: &Dataset, settings: &Settings) -> Result<()> {
    let classes = data.classes.len();
    let least = model.card.task.least_classes();
    if classes < least {
        return Err(Error::invalid(
            format!("classes in {}", data.name),
            format!("at least {least}"),
            format!("{classes} ({})", data.classes.join(", ")),
            "put the images of each class into its own folder",
        ));
    }
    if model.card.classes.len() != classes {
        let expected = format!("{} classes, as the model has", model.card.classes.len());
        return Err(Error::invalid(data.name.clone(), expected, classes.to_string(), ""));
    }
    if settings.batch_size == 0 {
        return Err(Error::invalid("batch size", "at least 1", "0", ""));
    }
    if settings.replicas == 0 || settings.replicas > settings.batch_size {
        return Err(Error::invalid(
            "replicas",
            format!("1 to {}, the batch size", settings.batch_size),
            settings.replicas.to_string(),
            "every replica needs at least one image",
        ));
    }
    if settings.accumulate == 0 {
        return Err(Error::invalid("accumulate", "1 or more steps", "0", ""));
    }
    if let Some(decay) = settings.layer_decay.filter(|d| !(*d > 0.0 && *d <= 1.0)) {
        let expected = "a number above 0, up to 1";
        return Err(Error::invalid("layer decay", expected, decay.to_string(), "0.75 is usual"));
    }
    smaller::check(model, settings)?;
    settings.class_weights(data)?;
    if let Some(decay) = settings.ema.filter(|decay| !(0.0..1.0).contains(decay)) {
        let expected = "a number from 0 to below 1";
        return Err(Error::invalid("ema", expected, decay.to_string(), "0.999 is usual"));
    }
    Ok(())
}

/// Writes an event to the run's folder, if there is one, and tells the caller.
fn record(
    folder: &mut Option<RunFolder>,
    event: Event,
    on_event: &mut dyn FnMut(&Event) -> Control,
) -> Result<Control> {
    if let Some(folder) = folder {
        folder.record(&event)?;
    }
    Ok(on_event(&event))
}
