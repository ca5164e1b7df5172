//! Training: joins data, plan and optimizer, epoch by epoch, and says what happens.
//!
//! ```
//! use std::sync::Arc;
//! use headstart::{Compute, Control, Dataset, Model, Phase, Settings, Trainer};
//!
//! let data = Dataset::load("synthetic:2x40x32")?;
//! let mut model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let from = model.net.freeze_point("conv4_block3_1_conv")?;
//! let compute = Arc::new(Compute::new(0)?);
//! let mut trainer = Trainer::new(&mut model, &data, compute, Settings::default())?;
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
mod run;
mod solve;
mod step;

use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_kernels::table::Compute;

use crate::data::augment::{Augment, Augmentation, Mixing};
use crate::data::dataset::{Dataset, Subset};
use crate::engine::inference::{Control, executor, probabilities, report};
use crate::engine::optimizer::{Rule, WeightDecay};
use crate::error::{Error, Result};
use crate::measure::events::Event;
use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::measure::monitor::{EarlyStopping, Monitor};
use crate::memory;
use crate::net::model::Model;
use crate::train::cache::{CacheSettings, DISK, Frozen, Part};
use crate::train::class_weight::ClassWeight;
use crate::train::run_folder::RunFolder;

use checkpoint::Resume;
use inputs::Inputs;
pub use phase::{Phase, Solver};
use run::Run;

/// Images that go through the net together where nothing is trained.
pub const INFERENCE_BATCH: usize = 32;

/// What both phases share.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Images a step.
    pub batch_size: usize,
    /// Steps whose gradients make one update, their mean over all images (Keras's `gradient_accumulation_steps`); the last
    /// update of an epoch may have fewer. 1 or more.
    pub accumulate: usize,
    /// The update rule.
    pub rule: Rule,
    /// How weights shrink.
    pub weight_decay: WeightDecay,
    /// Share of the step size that each stage of the net has of that of the one after it (timm's `layer_decay`).
    pub layer_decay: Option<f32>,
    /// How much each class counts in the training loss.
    pub class_weight: Option<ClassWeight>,
    /// Share of each training label that is spread over all classes (Keras's `label_smoothing`).
    pub label_smoothing: f32,
    /// Largest norm of all gradients together (Keras's `global_clipnorm`).
    pub clip_norm: Option<f32>,
    /// Largest element of a gradient, without its sign (Keras's `clipvalue`), which goes before `clip_norm`.
    pub clip_value: Option<f32>,
    /// Whether every class is trained on equally often: images of small classes come several times an epoch.
    pub balance: bool,
    /// Share of the pooled features that are dropped before the head in training (Keras's `Dropout`).
    pub dropout: f32,
    /// Whether batch norm stays in inference mode where layers are fine-tuned, with its statistics, gamma and beta
    /// untouched (Keras's `trainable = False`).
    pub freeze_bn: bool,
    /// By which figure the best epoch is chosen.
    pub monitor: Monitor,
    /// When a phase ends early, and with the weights of its best epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Share of the old average that is kept at each update (timm's `ModelEmaV2`), where evaluation, the best and the
    /// last model are to use averaged weights: at least 0, below 1.
    pub ema: Option<f32>,
    /// Random changes of training images, in order. With any, outputs of frozen layers are not kept for
    /// them.
    pub augment: Vec<Augmentation>,
    /// How images of a batch are mixed, after that; the same goes for it.
    pub mixing: Mixing,
    /// Whether images come in a new order every epoch.
    pub shuffle: bool,
    /// What that order, random changes and dropout follow from.
    pub seed: u32,
    /// Where outputs of frozen layers may be kept.
    pub cache: CacheSettings,
    /// How often last.safetensors is written within an epoch; none for every minute, but no more often
    /// than costs a fiftieth of the time. It is always written at an epoch's end.
    pub save_every: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch_size: 20,
            accumulate: 1,
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
            monitor: Monitor::Accuracy,
            early_stopping: None,
            ema: None,
            augment: Vec::new(),
            mixing: Mixing::default(),
            shuffle: true,
            seed: 42,
            cache: CacheSettings { memory: default_cache_memory(), folder: None, disk: DISK },
            save_every: None,
        }
    }
}

impl Settings {
    /// What changes images in every epoch, as it is spelt.
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
    /// The caller said to stop; the weights as they were then are saved.
    Stopped,
}

/// Trains one model on one data set.
#[derive(Debug)]
pub struct Trainer<'a> {
    /// The model; what is learned ends up here.
    pub model: &'a mut Model,
    /// Epochs so far, over all phases.
    pub history: History,
    data: &'a Dataset,
    compute: Arc<Compute>,
    settings: Settings,
    folder: Option<RunFolder>,
    /// The frozen layers of the last phase and what is kept of their outputs.
    frozen: Option<Frozen>,
    /// Phases begun, and the epochs of those that are done.
    phases: usize,
    /// Where an earlier run stood, until the phase it stood in is gone on with.
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
        compute: Arc<Compute>,
        settings: Settings,
    ) -> Result<Trainer<'a>> {
        check(model, data, &settings)?;
        model.set_dropout(settings.dropout)?;
        Ok(Trainer {
            model,
            history: History::default(),
            data,
            compute,
            settings,
            folder: None,
            frozen: None,
            phases: 0,
            resume: None,
            fingerprint: String::new(),
        })
    }

    /// Writes epochs, events and weights to a folder from now on.
    pub fn record_in(&mut self, folder: RunFolder) {
        self.folder = Some(folder);
        self.fingerprint = checkpoint::fingerprint(self.data);
    }

    /// The run's folder.
    pub fn folder(&self) -> Option<&RunFolder> {
        self.folder.as_ref()
    }

    /// Trains one phase. After [`Trainer::resume`], phases that the earlier run had done are passed over,
    /// and the one it stood in is gone on with.
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
        self.phases += 1;
        let resume = match &self.resume {
            Some(resume) if self.phases < resume.phase => return Ok(Outcome::Done),
            _ => self.resume.take(),
        };
        let mut run = Run::new(self, phase)?;
        match resume {
            Some(resume) => run.go_on(resume, on_event)?,
            None => {
                run.emit(run.opening.clone(), on_event)?;
                run.save_last()?;
            }
        }
        if !run.ended() && run.keep_outputs(on_event)? == Control::Stop {
            run.hand_over();
            return Ok(Outcome::Stopped);
        }
        while !run.ended() {
            let good = run.trainer.model.parameters.clone();
            let epoch = match phase.solver {
                Some(solver) => run.solve(solver, on_event),
                None => run.epoch(on_event),
            };
            match epoch {
                Ok(Control::Continue) => {}
                Ok(Control::Stop) => {
                    run.hand_over();
                    return Ok(Outcome::Stopped);
                }
                Err(error) => {
                    if matches!(error, Error::Diverged { .. }) {
                        run.trainer.model.parameters = good;
                    }
                    return Err(error);
                }
            }
        }
        run.finish(on_event)?;
        Ok(Outcome::Done)
    }

    /// Fails where an earlier run stood in a phase that [`Trainer::fit`] was never called for: the phases were others.
    ///
    /// # Errors
    /// In that case alone.
    pub fn check_resumed(&self) -> Result<()> {
        let Some(resume) = &self.resume else { return Ok(()) };
        let (expected, found) = (format!("at least {}", resume.phase), self.phases.to_string());
        Err(Error::invalid(
            "phases of the run",
            expected,
            found,
            "use the config.toml that the run began with",
        ))
    }

    /// Whether the next [`Trainer::fit`] is of a phase that an earlier run had done and evaluated.
    pub fn passes_over(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| self.phases + 1 < resume.phase)
    }

    /// Evaluates the model on the test images, or on the validation images where there are none;
    /// `None` if there are neither, or the caller said to stop.
    ///
    /// # Errors
    /// If an image cannot be decoded, the model's answers are not numbers, or a file cannot be written.
    pub fn evaluate(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Report>> {
        let (split, subset) = match (&self.data.test, &self.data.validation) {
            (Some(test), _) => ("test", test),
            (None, Some(validation)) => ("validation", validation),
            (None, None) => return Ok(None),
        };
        let start = Instant::now();
        let part = if split == "test" { Part::Test } else { Part::Validation };
        let Some(p) = self.answers(part, subset, on_event)? else { return Ok(None) };
        let labels = subset.labels();
        let report = report(split, &self.model.card.classes, &p, &labels)?;
        {
            let r = &report;
            let event = Event::Evaluation {
                phase: self.history.epochs.last().map(|e| e.phase),
                split,
                loss: r.loss,
                accuracy: r.accuracy,
                top5: r.top5,
                samples: r.samples,
                seconds: start.elapsed().as_secs_f64(),
            };
            if let Some(folder) = &mut self.folder {
                folder.record(&event)?;
            }
            on_event(&event);
        }
        Ok(Some(report))
    }

    /// Class probabilities of a part's images, over kept outputs of the last phase's frozen layers.
    fn answers(
        &mut self,
        part: Part,
        subset: &Subset,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Vec<f32>>> {
        let (split, total, batch) = (part.name(), subset.len(), INFERENCE_BATCH);
        let Trainer { model, data, compute, folder, frozen, .. } = self;
        let model = &**model;
        // The caller may have changed the weights since.
        if let Some(f) = frozen.take() {
            *frozen = f.still(model)?;
        }
        let Some(frozen) = frozen else {
            let mut progress = |done| on_event(&Event::Evaluating { split, done, total });
            return probabilities(model, subset, compute, batch, &mut progress);
        };
        let mut emit = |event| record(folder, event, on_event);
        let keeping = frozen.keeping(total);
        if frozen.keep(model, &data.name, (part, subset), keeping, &mut emit)? == Control::Stop {
            return Ok(None);
        }
        let kept = frozen.rows(part).is_some();
        let mut tail = executor(model, compute, batch, &frozen.nodes, &[model.output()])?;
        let (order, augment) = ((0..total).collect(), Augment::default());
        let mut batches = Inputs::new((part, subset), order, kept, batch, model, augment)?;
        let mut p = Vec::new();
        let mut done = 0;
        while done < total {
            let count = batches.next(model, Some(&mut *frozen))?;
            let (inputs, _) = batches.current(Some(&*frozen), count);
            tail.forward(&inputs, count)?;
            p.extend_from_slice(tail.output(0, count));
            done += count;
            if on_event(&Event::Evaluating { split, done, total }) == Control::Stop {
                return Ok(None);
            }
        }
        frozen.rest();
        Ok(Some(p))
    }
}

fn check(model: &Model, data: &Dataset, settings: &Settings) -> Result<()> {
    let (classes, images) = (data.classes.len(), data.train.len());
    if classes < 2 {
        return Err(Error::invalid(
            format!("classes in {}", data.name),
            "at least 2",
            format!("{classes} ({})", data.classes.join(", ")),
            "put each class's images into a folder of its own",
        ));
    }
    if model.card.classes.len() != classes {
        let expected = format!("{} classes, as the model has", model.card.classes.len());
        return Err(Error::invalid(data.name.clone(), expected, classes.to_string(), ""));
    }
    if settings.batch_size == 0 || settings.batch_size > images {
        return Err(Error::invalid(
            "batch size",
            format!("1 to {images}, the number of training images"),
            settings.batch_size.to_string(),
            "lower --batch-size",
        ));
    }
    if settings.accumulate == 0 {
        return Err(Error::invalid("accumulate", "1 or more steps", "0", ""));
    }
    if let Some(decay) = settings.layer_decay.filter(|d| !(*d > 0.0 && *d <= 1.0)) {
        let expected = "a number above 0, up to 1";
        return Err(Error::invalid("layer decay", expected, decay.to_string(), "0.75 is usual"));
    }
    if let Some(weight) = &settings.class_weight {
        weight.weights(&data.classes, &data.train.class_counts())?;
    }
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
