//! A phase while it runs: steps, epochs, validation, what is written.

use std::time::{Duration, Instant};

use super::checkpoint::Mark;
use super::inputs::{Inputs, of_epoch};
use super::kept::Snapshot;
use super::layer_decay;
use super::room::training_request;
use super::{INFERENCE_BATCH, Phase, Settings, Trainer, record};
use headstart_kernels::element::Values;
use headstart_kernels::loss::Targets;

use crate::control::Control;
use crate::data::augment::Augment;
use crate::data::batch::Portion;
use crate::data::dataset::{Dataset, Subset};
use crate::data::split::split_mix_64;
use crate::engine::execute::{Execute, Training};
use crate::engine::inference::executor;
use crate::engine::optimizer::Optimizer;
use crate::engine::plan::sources;
use crate::error::{Error, Result};
use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::measure::events::Event;
use crate::measure::macro_f1::ClassCounts;
use crate::measure::metrics::Totals;
use crate::measure::monitor::{self, EarlyStopping};
use crate::net::graph::Op;
use crate::net::model::Model;
use crate::net::parameters::Parameters;
use crate::net::weights::model_file;
use crate::train::cache::{Frozen, Keeping, Part};
use crate::train::schedule::Rates;

/// A phase while it runs.
pub(super) struct Run<'t, 'a> {
    pub trainer: &'t mut Trainer<'a>,
    pub name: PhaseName,
    pub opening: Event,
    /// Where the features of training and of validation images are cached.
    keeping: [Keeping; 2],
    /// The training images that L-BFGS fits the head on, where these are not all.
    pub some: Option<Subset>,
    pub train: Box<dyn Execute>,
    validate: Box<dyn Execute>,
    pub rates: Rates,
    /// The tensors that the phase changes, as they were at its start.
    pub changed: Snapshot,
    /// Whether their EMA is evaluated and written.
    pub averages: bool,
    /// Their values in the best epoch, if these are restored later.
    pub best: Option<Snapshot>,
    /// Whether its one epoch fits the head with L-BFGS, without steps.
    pub solves: bool,
    /// Epochs that the phase has at most.
    pub epochs: usize,
    /// Epochs and steps of this phase that are done.
    pub done: usize,
    pub step: u64,
    /// The learning rate of the last step.
    pub last_rate: f32,
    /// When the phase's first step began, in seconds of the run.
    pub begun: Option<f64>,
    /// Steps of the current epoch that are done, their metrics, and the seconds of earlier processes.
    pub epoch_steps: usize,
    pub totals: Totals,
    pub seconds: f64,
    /// Images whose gradients are summed up since the last update.
    pub images: usize,
    /// The last sums over all processes: memory for the next ones.
    pub sums: Vec<Vec<f32>>,
    pub saves: Saves,
}

/// Metrics of the validation images.
#[derive(Default)]
pub(super) struct Held {
    pub totals: Totals,
    pub macro_f1: Option<f64>,
}

/// When last.safetensors is written next.
pub(super) struct Saves {
    every: Option<Duration>,
    /// None where that is later than clocks go.
    next: Option<Instant>,
}

impl Saves {
    /// Default for the least time between two.
    const EVERY: Duration = Duration::from_secs(60);
    /// Default: writing takes at most one part in this many of the time.
    const SHARE: u32 = 50;

    fn new(every: Option<Duration>) -> Saves {
        Saves { every, next: Instant::now().checked_add(every.unwrap_or(Saves::EVERY)) }
    }

    fn due(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() >= next)
    }

    /// Notes that writing took from `start` until now.
    pub fn done(&mut self, start: Instant) {
        let now = Instant::now();
        let pause =
            self.every.unwrap_or(Saves::EVERY.max((now - start).saturating_mul(Saves::SHARE)));
        self.next = now.checked_add(pause);
    }
}

/// The layers that a phase trains.
pub(super) fn trainable(model: &Model, settings: &Settings, phase: &Phase) -> Vec<bool> {
    let mut trainable = match phase.from {
        None => model.net.head_only(),
        Some(point) => model.net.trainable(point),
    };
    if settings.freeze_bn {
        let norms = model.net.graph.nodes.iter().map(|n| matches!(n.op, Op::BatchNorm { .. }));
        trainable.iter_mut().zip(norms).for_each(|(t, norm)| *t &= !norm);
    }
    trainable
}

/// The optimizer and its settings.
fn training(model: &Model, data: &Dataset, settings: &Settings, phase: &Phase) -> Result<Training> {
    let optimizer = Optimizer::new(settings.rule, phase.learning_rate)?
        .with_weight_decay(settings.weight_decay)?
        .with_scales(match settings.layer_decay {
            Some(decay) => layer_decay::scales(model, decay)?,
            None => Vec::new(),
        });
    let weights = settings.class_weights(data)?;
    Ok(Training {
        optimizer,
        targets: Targets { weights, smoothing: settings.label_smoothing },
        clip_value: settings.clip_value,
        clip_norm: settings.clip_norm,
        average: settings.ema,
    })
}

/// Where features are cached for training images, which may be augmented in every epoch, and for validation
/// images.
fn keeping(trainer: &Trainer<'_>, changed: bool) -> [Keeping; 2] {
    let data = trainer.data;
    let count = |part: Part| match part {
        Part::Train if changed => 0,
        Part::Train => data.train.len(),
        _ => data.validation.as_ref().map_or(0, Subset::len),
    };
    let missing = |frozen: &Frozen, part| match frozen.rows(part) {
        Some(_) => 0,
        None => count(part),
    };
    let all = [Part::Train, Part::Validation];
    let keeping = all.map(|part| {
        trainer.side(part).1.map_or(Keeping::Nowhere, |frozen| {
            // The parts that these frozen layers serve.
            let served = all.iter().filter(|&&p| p == part || trainer.smaller.is_none());
            frozen.keeping(served.map(|&p| missing(frozen, p)).sum())
        })
    });
    [if changed { Keeping::Nowhere } else { keeping[0] }, keeping[1]]
}

impl<'t, 'a> Run<'t, 'a> {
    pub fn new(trainer: &'t mut Trainer<'a>, phase: &Phase) -> Result<Run<'t, 'a>> {
        let Trainer { model, device, settings, looks, frozen, .. } = &mut *trainer;
        let (model, settings) = (&**model, &*settings);
        let trainable = trainable(model, settings, phase);
        let sources = sources(&model.net.graph, &trainable);
        let batch = settings.batch_size.max(*looks);
        *frozen = match sources != [0] {
            true => {
                let new = Frozen::new(model, &sources, device, batch, &settings.cache)?;
                Some(new.inherit(frozen.take()))
            }
            false => None,
        };
        trainer.make_smaller(phase.solver.is_none(), &sources, batch)?;
        let changes = match phase.solver {
            None => trainer.settings.changes(),
            Some(_) => Vec::new(),
        };
        let images = trainer.settings.head_images.filter(|&n| n < trainer.data.train.len());
        let images = images.filter(|_| phase.solver.is_some());
        let some = images.map(|n| trainer.data.train.limit(n, trainer.settings.seed));
        let [train, validation] = keeping(trainer, !changes.is_empty() || some.is_some());
        let keeping = [trainer.agree_keeping(train)?, trainer.agree_keeping(validation)?];
        let Trainer { model, data, device, settings, phases, .. } = &*trainer;
        let graph = &trainer.side(Part::Train).0.net.graph;
        let held_out = data.validation.as_ref().map_or(0, Subset::len);
        let bytes = |part, images| trainer.side(part).1.map_or(0, |f| f.bytes(images));
        // Some images' features are kept as long as a head is fitted on them.
        let train_images = some.as_ref().map_or(data.train.len(), Subset::len);
        let cache_bytes = bytes(Part::Train, train_images) + bytes(Part::Validation, held_out);
        let request = training_request(settings, device, &sources, trainable.clone());
        // Dropout differs between phases.
        let seed = split_mix_64(u64::from(settings.seed) | (*phases as u64) << 32);
        let mut train = device.executor(graph, request, &model.parameters, seed)?;
        let arena_bytes = train.plan().arena_bytes() as u64;
        train.prepare(training(model, data, settings, phase)?)?;
        let validate = executor(model, device, trainer.looks, &sources, &[model.output()])?;
        let opening = Event::Phase {
            phase: phase.name,
            from: phase.from.and_then(|p| model.net.layer_name(p)).map(str::to_string),
            epochs: phase.epochs,
            trainable: trainable_parameters(&model.parameters, &trainable),
            frontier: sources.iter().map(|&s| graph.nodes[s].name.clone()).collect(),
            cached: some.is_some() || keeping[0] != Keeping::Nowhere,
            on_disk: keeping[0] == Keeping::Disk,
            cache_bytes,
            augment: changes,
            arena_bytes,
        };
        let steps = data.train.len().div_ceil(settings.batch_size);
        let rates = phase.schedule.over(phase.learning_rate, phase.epochs, steps)?;
        let changed = Snapshot::of(&model.parameters, &trainable);
        let averages = settings.ema.is_some();
        Ok(Run {
            name: phase.name,
            opening,
            keeping,
            some,
            train,
            validate,
            rates,
            changed,
            averages,
            best: None,
            solves: phase.solver.is_some(),
            epochs: phase.epochs,
            done: 0,
            step: 0,
            last_rate: 0.0,
            begun: None,
            epoch_steps: 0,
            totals: Totals::default(),
            seconds: 0.0,
            images: 0,
            sums: Vec::new(),
            saves: Saves::new(trainer.settings.save_every),
            trainer,
        })
    }

    pub fn emit(
        &mut self,
        event: Event,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        record(&mut self.trainer.folder, event, on_event)
    }

    /// Sends every image through the frozen layers, once, unless the cache has its features.
    pub fn keep_outputs(&mut self, on_event: &mut dyn FnMut(&Event) -> Control) -> Result<Control> {
        let keeping = self.keeping;
        let (data, mut folder) = (self.trainer.data, self.trainer.folder.take());
        let mut emit = |event| record(&mut folder, event, on_event);
        let subsets =
            [(Part::Train, Some(&data.train)), (Part::Validation, data.validation.as_ref())];
        let mut kept = Ok(Control::Continue);
        for ((part, subset), keeping) in subsets.into_iter().zip(keeping) {
            let Trainer { model, frozen, smaller, collective, .. } = &mut *self.trainer;
            let (model, frozen) = match smaller {
                Some(smaller) if part == Part::Train => (&smaller.model, smaller.frozen.as_mut()),
                _ => (&**model, frozen.as_mut()),
            };
            let (Some(subset), Some(frozen)) = (subset, frozen) else { continue };
            let part = (part, subset);
            kept = frozen.keep(model, &data.name, part, keeping, &mut **collective, &mut emit);
            if !matches!(kept, Ok(Control::Continue)) {
                break;
            }
        }
        self.trainer.folder = folder;
        let control = kept?;
        if control == Control::Continue {
            for part in [Part::Train, Part::Validation] {
                if let (_, Some(frozen)) = self.trainer.side_mut(part) {
                    frozen.rest();
                }
            }
        }
        Ok(control)
    }

    pub fn epoch(&mut self, on_event: &mut dyn FnMut(&Event) -> Control) -> Result<Control> {
        let start = Instant::now();
        let epoch = self.trainer.history.epochs.len() + 1;
        let before = self.seconds;
        if self.steps(epoch, start, on_event)? == Control::Stop {
            return Ok(Control::Stop);
        }
        let trained = before + start.elapsed().as_secs_f64();
        let Some(validation) = self.validation(on_event)? else {
            self.seconds = trained;
            self.save_last()?;
            return Ok(Control::Stop);
        };
        let rate = decimal(self.last_rate);
        // What the time did not allow is left out.
        self.step += (self.steps_an_epoch() - self.epoch_steps) as u64;
        self.close(
            epoch,
            [before + start.elapsed().as_secs_f64(), trained],
            rate,
            validation,
            on_event,
        )
    }

    /// Records an epoch and its seconds, in all and for training alone.
    pub fn close(
        &mut self,
        epoch: usize,
        [seconds, trained]: [f64; 2],
        learning_rate: f64,
        validation: Held,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        let [seconds, trained] = self.trainer.numbers_of_first([seconds, trained])?;
        let steps = self.epoch_steps;
        let totals = std::mem::take(&mut self.totals);
        let (images, held_out) = (totals.count, validation.totals.count);
        self.trainer.validating = seconds - trained;
        self.trainer.over |= self.late();
        (self.epoch_steps, self.seconds) = (0, 0.0);
        let record = EpochRecord {
            epoch,
            phase: self.name,
            seconds,
            images_per_second: images as f64 / trained,
            loss: totals.mean_loss(),
            accuracy: totals.accuracy(),
            val_loss: (held_out > 0).then(|| validation.totals.mean_loss()),
            val_accuracy: (held_out > 0).then(|| validation.totals.accuracy()),
            learning_rate,
            val_macro_f1: validation.macro_f1,
        };
        if let Some(bad) = record.val_loss.filter(|l| !l.is_finite()) {
            let phase = self.name.name();
            return Err(Error::Diverged { loss: bad as f32, step: steps, epoch, phase });
        }
        let shown = self.shown()?;
        self.sound(&shown, epoch, steps)?;
        self.sync()?;
        self.rates.end_epoch(monitor::loss(&record));
        self.trainer.history.epochs.push(record.clone());
        self.trainer.epoch = epoch;
        self.done += 1;
        let event = Event::Epoch(record);
        if let Some(folder) = &mut self.trainer.folder {
            folder.record(&event)?;
        }
        self.finish_epoch(epoch, &shown)?;
        Ok(on_event(&event))
    }

    /// Steps of an epoch.
    pub fn steps_an_epoch(&self) -> usize {
        self.trainer.data.train.len().div_ceil(self.trainer.settings.batch_size)
    }

    /// The training images of an epoch, from the current step on.
    pub fn batches(&self, epoch: usize) -> Result<Inputs<'a>> {
        let Trainer { data, settings, .. } = &*self.trainer;
        let (model, frozen) = self.trainer.side(Part::Train);
        let batch_size = settings.batch_size;
        let (mut order, mut augment) = of_epoch(settings, &data.train, epoch);
        order.drain(..order.len().min(self.epoch_steps * batch_size));
        augment.step = self.epoch_steps;
        // The phase of an L-BFGS head may have cached features of images without augmentation.
        let kept = augment.is_none() && frozen.is_some_and(|f| f.rows(Part::Train).is_some());
        let batch = (batch_size, self.trainer.portion());
        Inputs::new((Part::Train, &data.train), order, kept, batch, model, augment)
    }

    /// The steps of an epoch that are not done yet.
    fn steps(
        &mut self,
        epoch: usize,
        start: Instant,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        let (accumulate, steps) = (self.trainer.settings.accumulate, self.steps_an_epoch());
        let mut batches = self.batches(epoch)?;
        let (before, mut mark) = (self.seconds, None);
        for step in self.epoch_steps + 1..=steps {
            // Between updates there are gradients that would be lost.
            if self.epoch_steps > 0 && mark.is_none() && self.late() {
                let event = Event::TimeUp { phase: self.name, epoch, step: step - 1, steps };
                return self.emit(event, on_event);
            }
            let updates = step % accumulate == 0 || step == steps;
            if (!updates || self.trainer.several()) && mark.is_none() {
                mark = Some(Mark::of(self)?);
            }
            self.last_rate = self.rate();
            let done = self.step(&mut batches, self.last_rate, updates);
            if done.is_err()
                && self.trainer.several()
                && let Some(mark) = mark.take()
            {
                // Another process is gone, perhaps, and this one has a moment left.
                mark.put_back(self)?;
                self.save_last()?;
            }
            let (result, all) = done?;
            if !result.loss.is_finite() {
                let phase = self.name.name();
                return Err(Error::Diverged { loss: result.loss, step, epoch, phase });
            }
            self.totals.add(f64::from(result.loss), result.correct, result.count);
            self.epoch_steps = step;
            self.seconds = before + start.elapsed().as_secs_f64();
            let event = Event::Step {
                phase: self.name,
                epoch,
                step,
                steps,
                batch_loss: decimal(result.loss),
                loss: self.totals.mean_loss(),
                accuracy: self.totals.accuracy(),
                images_per_second: self.totals.count as f64 / self.seconds,
            };
            let own = self.emit(event, on_event)?;
            let control = if self.trainer.several() { all } else { own };
            // Between updates there is a sum of gradients that last.safetensors does not hold.
            if updates {
                mark = None;
            }
            if control == Control::Stop {
                if let Some(mark) = mark {
                    mark.put_back(self)?;
                }
                self.save_last()?;
                return Ok(Control::Stop);
            }
            if updates && step < steps && self.saves.due() {
                self.save_last()?;
            }
        }
        Ok(Control::Continue)
    }

    /// The metrics of the validation images; `None` if the caller stopped it.
    pub fn validation(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Held>> {
        let Some(subset) = &self.trainer.data.validation else { return Ok(Some(Held::default())) };
        let (mut results, mut probabilities) = (Vec::new(), Values::default());
        let mut counts = ClassCounts::new(self.trainer.data.classes.len());
        let shown = self.shown()?;
        self.validate.load(&shown)?;
        let own = self.trainer.own_images(subset.len(), INFERENCE_BATCH);
        let Trainer { model, frozen, looks, .. } = &mut *self.trainer;
        let model = &**model;
        let total = own.len();
        let order = own.collect();
        let (part, augment) = ((Part::Validation, subset), Augment::default());
        let kept = frozen.as_ref().is_some_and(|f| f.rows(Part::Validation).is_some());
        let batch = (*looks, Portion::WHOLE);
        let mut batches = Inputs::new(part, order, kept, batch, model, augment)?;
        let mut done = 0;
        while done < total {
            let count = batches.next(model, frozen.as_mut())?;
            let (inputs, labels) = batches.current(frozen.as_ref());
            let batch = self.validate.evaluate(&inputs, labels.first)?;
            results.push((batch.loss / count as f64, batch.correct, count));
            self.validate.read(0, &mut probabilities)?;
            counts.add(&probabilities.as_slice().to_f32(), labels.first);
            done += count;
            let event = Event::Evaluating { split: "validation", done, total };
            if on_event(&event) == Control::Stop {
                return Ok(None);
            }
        }
        let (held, control) = self.held(results, counts)?;
        Ok((control == Control::Continue).then_some(held))
    }

    /// Writes the files of an epoch: last.safetensors after the best weights, so that a run that resumes
    /// from it has the best weights of all its epochs.
    fn finish_epoch(&mut self, epoch: usize, shown: &Parameters) -> Result<()> {
        let Trainer { folder, history, model, settings, .. } = &*self.trainer;
        let is = |best: Option<&EpochRecord>| best.is_some_and(|best| best.epoch == epoch);
        if let Some(folder) = folder
            && is(history.best(settings.best_by))
        {
            model_file::write(folder.best(), &model.card, shown, &[])?;
        }
        let stopping = settings.early_stopping;
        if stopping.is_some_and(|s| is(s.monitor.best(history.last(self.done)))) {
            self.keep_best(shown);
        }
        self.save_last()?;
        if let Trainer { folder: Some(folder), history, .. } = &*self.trainer {
            folder.write_history(history)?;
        }
        Ok(())
    }

    /// Fails if a weight is not a finite number. A loss can be one all the same: it is that of the weights before the step,
    /// and a ReLU may hide what is not a number.
    pub fn sound(&self, parameters: &Parameters, epoch: usize, step: usize) -> Result<()> {
        let bad = parameters.tensors.iter().find_map(|tensor| {
            let value = tensor.values.iter().find(|value| !value.is_finite())?;
            Some((tensor.name.clone(), *value))
        });
        match bad {
            None => Ok(()),
            Some((tensor, value)) => {
                let phase = self.name.name();
                Err(Error::WeightsDiverged { tensor, value, step, epoch, phase })
            }
        }
    }

    /// Whether the phase has no more epochs.
    pub fn ended(&self) -> bool {
        let Trainer { history, settings, .. } = &*self.trainer;
        let stops = |rule: EarlyStopping| {
            let epochs = history.last(self.done).iter();
            rule.stops(epochs.map(|e| rule.monitor.of(e)))
        };
        self.done >= self.epochs || self.trainer.over || settings.early_stopping.is_some_and(stops)
    }

    /// Takes the weights of the best epoch under early stopping.
    pub fn finish(&mut self, on_event: &mut dyn FnMut(&Event) -> Control) -> Result<Control> {
        let Trainer { history, settings, .. } = &*self.trainer;
        let epochs = history.last(self.done);
        let best = settings.early_stopping.and_then(|s| s.monitor.best(epochs)).map(|e| e.epoch);
        let Some(best) = best else { return Ok(Control::Continue) };
        self.trainer.epoch = best;
        // A phase that an earlier run ended has these weights already.
        if self.restore_best()? {
            let skipped = self.epochs - self.done;
            let event = Event::EarlyStopping { phase: self.name, best, skipped };
            let control = self.emit(event, on_event)?;
            self.save_last()?;
            return Ok(control);
        }
        Ok(Control::Continue)
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
