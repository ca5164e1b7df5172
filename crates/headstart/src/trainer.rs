//! Training: joins data, plan and optimizer, epoch by epoch, and says what happens.

mod inputs;
mod phase;

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::table::Compute;

use crate::augment::{Augment, Augmentation};
use crate::batches::epoch_order;
use crate::dataset::{Dataset, Subset};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::execute::{Executor, Gradients};
use crate::graph::NodeId;
use crate::history::{EpochRecord, History, PhaseName};
use crate::inference::{Control, Features, evaluate, executor, features};
use crate::metrics::{Report, Totals};
use crate::model::Model;
use crate::optimizer::{Optimizer, Rule, WeightDecay};
use crate::parameters::Parameters;
use crate::plan::{Plan, Request, sources};
use crate::run_folder::RunFolder;
use crate::schedule::Rates;
use crate::weights::model_file::Progress;

use inputs::Inputs;
pub use phase::Phase;

/// Images that go through the net together where nothing is trained.
pub const INFERENCE_BATCH: usize = 32;

/// What both phases share.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Images a step.
    pub batch_size: usize,
    /// The update rule.
    pub rule: Rule,
    /// How weights shrink.
    pub weight_decay: WeightDecay,
    /// Random changes of training images, in order. With any, nothing of frozen layers is kept.
    pub augment: Vec<Augmentation>,
    /// Whether images come in a new order every epoch.
    pub shuffle: bool,
    /// What that order, random changes and dropout follow from.
    pub seed: u32,
    /// Most bytes that kept outputs of frozen layers may take.
    pub cache_memory: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch_size: 20,
            rule: Rule::RMSPROP,
            weight_decay: WeightDecay::default(),
            augment: Vec::new(),
            shuffle: true,
            seed: 42,
            cache_memory: default_cache_memory(),
        }
    }
}

/// Half of the memory that is free now, or 2 GiB where the system does not say.
pub fn default_cache_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.map_or(2 << 30, |kib| kib * 1024 / 2)
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
        let history = History::default();
        Ok(Trainer { model, history, data, compute, settings, folder: None })
    }

    /// Writes epochs, events and weights to a folder from now on.
    pub fn record_in(&mut self, folder: RunFolder) {
        self.folder = Some(folder);
    }

    /// The run's folder.
    pub fn folder(&self) -> Option<&RunFolder> {
        self.folder.as_ref()
    }

    /// Trains one phase.
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
        let mut run = Run::new(self, phase)?;
        run.emit(run.opening.clone(), on_event)?;
        run.save_last(0)?;
        if run.keep_features(on_event)? == Control::Stop {
            return Ok(Outcome::Stopped);
        }
        for _ in 0..phase.epochs {
            let good = run.trainer.model.parameters.clone();
            match run.epoch(on_event) {
                Ok(Control::Continue) => {}
                Ok(Control::Stop) => return Ok(Outcome::Stopped),
                Err(error) => {
                    if matches!(error, Error::Diverged { .. }) {
                        run.trainer.model.parameters = good;
                    }
                    return Err(error);
                }
            }
        }
        Ok(Outcome::Done)
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
        let (start, total) = (Instant::now(), subset.len());
        let mut progress = |done| on_event(&Event::Evaluating { split, done, total });
        let (labels, compute) = (subset.labels(), &self.compute);
        let batch = INFERENCE_BATCH;
        let report = evaluate(self.model, subset, &labels, split, compute, batch, &mut progress)?;
        if let Some(r) = &report {
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
        Ok(report)
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
    Ok(())
}

/// A phase at work.
struct Run<'t, 'a> {
    trainer: &'t mut Trainer<'a>,
    name: PhaseName,
    opening: Event,
    sources: Vec<NodeId>,
    cached: bool,
    /// Kept outputs of the frozen layers for training and validation images.
    kept: [Option<Features>; 2],
    /// The frozen layers, where their outputs are not kept and there are any.
    prefix: Option<Executor>,
    train: Executor,
    validate: Executor,
    optimizer: Optimizer,
    rates: Rates,
    /// Steps of this phase done.
    step: u64,
    gradients: Gradients,
}

impl<'t, 'a> Run<'t, 'a> {
    fn new(trainer: &'t mut Trainer<'a>, phase: &Phase) -> Result<Run<'t, 'a>> {
        let Trainer { model, data, compute, settings, .. } = &*trainer;
        let graph = &model.net.graph;
        let trainable = match phase.from {
            None => model.net.head_only(),
            Some(point) => model.net.trainable(point),
        };
        let sources = sources(graph, &trainable);
        let has_prefix = sources != [0];
        let images = data.train.len() + data.validation.as_ref().map_or(0, Subset::len);
        let request = Request {
            batch: settings.batch_size,
            sources: sources.clone(),
            outputs: vec![],
            trainable: Some(trainable.clone()),
            dtype: compute.dtype,
        };
        let plan = Plan::new(graph, request)?;
        let bytes = |s: &NodeId| graph.nodes[*s].shape.elements() * plan.dtypes[*s].bytes();
        let each = if has_prefix { sources.iter().map(bytes).sum() } else { 0 };
        let cache_bytes = each as u64 * images as u64;
        let changed = !settings.augment.is_empty();
        let cached = has_prefix && !changed && cache_bytes <= settings.cache_memory;
        let arena_bytes = plan.arena_bytes() as u64;
        let train = Executor::new(
            Arc::clone(graph),
            plan,
            Arc::clone(compute),
            &model.parameters,
            u64::from(settings.seed),
        )?;
        let validate = executor(model, compute, INFERENCE_BATCH, &sources, &[model.output()])?;
        let prefix = match has_prefix && !cached {
            true => {
                let batch = settings.batch_size.max(INFERENCE_BATCH);
                Some(executor(model, compute, batch, &[0], &sources)?)
            }
            false => None,
        };
        let opening = Event::Phase {
            phase: phase.name,
            from: phase.from.and_then(|p| model.net.layer_name(p)).map(str::to_string),
            epochs: phase.epochs,
            trainable: trainable_parameters(&model.parameters, &trainable),
            frontier: sources.iter().map(|&s| graph.nodes[s].name.clone()).collect(),
            cached,
            cache_bytes,
            augment: settings.augment.iter().map(Augmentation::to_string).collect(),
            arena_bytes,
        };
        let optimizer = Optimizer::new(settings.rule, phase.learning_rate)?
            .with_weight_decay(settings.weight_decay)?;
        let steps = data.train.len().div_ceil(settings.batch_size);
        let rates = phase.schedule.over(phase.learning_rate, phase.epochs, steps)?;
        Ok(Run {
            name: phase.name,
            opening,
            sources,
            cached,
            kept: [None, None],
            prefix,
            train,
            validate,
            optimizer,
            rates,
            step: 0,
            gradients: Gradients::default(),
            trainer,
        })
    }

    fn emit(
        &mut self,
        event: Event,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        if let Some(folder) = &mut self.trainer.folder {
            folder.record(&event)?;
        }
        Ok(on_event(&event))
    }

    /// Sends every image through the frozen layers, once.
    fn keep_features(&mut self, on_event: &mut dyn FnMut(&Event) -> Control) -> Result<Control> {
        if !self.cached {
            return Ok(Control::Continue);
        }
        let data = self.trainer.data;
        let subsets = [("train", Some(&data.train)), ("validation", data.validation.as_ref())];
        for (i, (split, subset)) in subsets.into_iter().enumerate() {
            let Some(subset) = subset else { continue };
            let (start, total) = (Instant::now(), subset.len());
            let event = |done| {
                let seconds = start.elapsed().as_secs_f64();
                Event::Features { split, done, total, seconds }
            };
            let Trainer { model, compute, .. } = &*self.trainer;
            let mut progress = |done| on_event(&event(done));
            self.kept[i] =
                features(model, subset, &self.sources, compute, INFERENCE_BATCH, &mut progress)?;
            if self.kept[i].is_none() {
                return Ok(Control::Stop);
            }
            if let Some(folder) = &mut self.trainer.folder {
                folder.record(&event(total))?;
            }
        }
        Ok(Control::Continue)
    }

    fn epoch(&mut self, on_event: &mut dyn FnMut(&Event) -> Control) -> Result<Control> {
        let start = Instant::now();
        let Settings { batch_size, shuffle, seed, ref augment, .. } = self.trainer.settings;
        let epoch = self.trainer.history.epochs.len() + 1;
        let images = self.trainer.data.train.len();
        let order = epoch_order(u64::from(seed), epoch, images, shuffle);
        let steps = images.div_ceil(batch_size);
        let mut totals = Totals::default();
        let mut batches = Inputs::new(
            &self.trainer.data.train,
            order,
            self.kept[0].as_ref(),
            batch_size,
            self.trainer.model,
            Augment { list: augment.clone(), seed: u64::from(seed), epoch },
        )?;
        for step in 1..=steps {
            let count = batches.next(self.prefix.as_mut())?;
            let (inputs, labels) = batches.current(self.prefix.as_ref(), count);
            let parameters = &mut self.trainer.model.parameters;
            let result = self.train.train_step(&inputs, labels, parameters, &mut self.gradients)?;
            if !result.loss.is_finite() {
                let phase = self.name.name().to_string();
                return Err(Error::Diverged { loss: result.loss, step, epoch, phase });
            }
            self.optimizer.learning_rate = self.rates.at(self.step);
            self.step += 1;
            self.optimizer.step(&self.trainer.compute, parameters, &self.gradients);
            self.train.refresh(parameters)?;
            totals.add(f64::from(result.loss), result.correct, result.count);
            let event = Event::Step {
                phase: self.name,
                epoch,
                step,
                steps,
                batch_loss: decimal(result.loss),
                loss: totals.mean_loss(),
                accuracy: totals.accuracy(),
                images_per_second: totals.count as f64 / start.elapsed().as_secs_f64(),
            };
            if let Some(folder) = &mut self.trainer.folder {
                folder.record(&event)?;
            }
            if on_event(&event) == Control::Stop && step < steps {
                drop(batches);
                self.save_last(step)?;
                return Ok(Control::Stop);
            }
        }
        drop(batches);
        let trained = start.elapsed().as_secs_f64();
        let Some(validation) = self.validation(on_event)? else {
            self.save_last(steps)?;
            return Ok(Control::Stop);
        };
        let record = EpochRecord {
            epoch,
            phase: self.name,
            seconds: start.elapsed().as_secs_f64(),
            images_per_second: images as f64 / trained,
            loss: totals.mean_loss(),
            accuracy: totals.accuracy(),
            val_loss: (validation.count > 0).then(|| validation.mean_loss()),
            val_accuracy: (validation.count > 0).then(|| validation.accuracy()),
            learning_rate: decimal(self.optimizer.learning_rate),
        };
        if let Some(bad) = record.val_loss.filter(|l| !l.is_finite()) {
            let phase = self.name.name().to_string();
            return Err(Error::Diverged { loss: bad as f32, step: steps, epoch, phase });
        }
        self.trainer.history.epochs.push(record.clone());
        self.finish_epoch(epoch)?;
        self.emit(Event::Epoch(record), on_event)
    }

    /// Loss and hits on the validation images; `None` if the caller said to stop.
    fn validation(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Totals>> {
        let mut totals = Totals::default();
        let Some(subset) = &self.trainer.data.validation else { return Ok(Some(totals)) };
        let model = &*self.trainer.model;
        self.validate.load(&model.parameters)?;
        let (total, classes) = (subset.len(), model.card.classes.len());
        let order = (0..total).collect();
        let kept = self.kept[1].as_ref();
        let mut batches =
            Inputs::new(subset, order, kept, INFERENCE_BATCH, model, Augment::default())?;
        let mut done = 0;
        while done < total {
            let count = batches.next(self.prefix.as_mut())?;
            let (inputs, labels) = batches.current(self.prefix.as_ref(), count);
            self.validate.forward(&inputs, count)?;
            let p = self.validate.output(0, count);
            let batch = headstart_kernels::loss::cross_entropy(classes, p, labels);
            totals.add(batch.loss / count as f64, batch.correct, count);
            done += count;
            let event = Event::Evaluating { split: "validation", done, total };
            if on_event(&event) == Control::Stop {
                return Ok(None);
            }
        }
        Ok(Some(totals))
    }

    fn finish_epoch(&mut self, epoch: usize) -> Result<()> {
        self.save_last(0)?;
        let Trainer { folder: Some(folder), history, model, .. } = &*self.trainer else {
            return Ok(());
        };
        folder.write_history(history)?;
        if history.best().is_some_and(|best| best.epoch == epoch) {
            model.save(folder.best(), None, &[])?;
        }
        Ok(())
    }

    /// Writes the weights and all that going on from here needs.
    fn save_last(&self, steps: usize) -> Result<()> {
        let Trainer { folder: Some(folder), history, model, settings, .. } = &*self.trainer else {
            return Ok(());
        };
        let progress = Progress {
            phase: self.name.name().to_string(),
            epochs: history.epochs.len(),
            steps,
            seed: settings.seed,
        };
        let state = self.optimizer.tensors(&model.parameters);
        model.save(folder.last(), Some(progress), &state)
    }
}

/// The f64 that prints as the f32 does: 0.0001, not 0.0000999999974.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn trainable_parameters(parameters: &Parameters, trainable: &[bool]) -> usize {
    let counted = parameters.tensors.iter().filter(|t| trainable[t.node] && t.role.has_gradient());
    counted.map(|t| t.values.len()).sum()
}
