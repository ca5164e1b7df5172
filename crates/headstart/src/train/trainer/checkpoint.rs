//! Resuming a run from its last.safetensors, to the weights that it would have reached without the interruption.

use std::time::Instant;

use super::Trainer;
use super::run::Run;
use crate::control::Control;
use crate::data::dataset::{Dataset, Subset};
use crate::data::image::Decode;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::measure::events::Event;
use crate::measure::history::History;
use crate::measure::metrics::Totals;
use crate::measure::monitor;
use crate::net::weights::model_file::{self, ModelCard, Place, Progress};
use crate::net::weights::{self, Scope, Tensor};
use crate::train::run_folder::RunFolder;

/// State of an earlier run.
#[derive(Debug)]
pub(super) struct Resume {
    /// Number of the phase, from 1.
    pub phase: usize,
    progress: Progress,
    optimizer: Vec<Tensor>,
}

/// State before the first step since the last update. A run that stops between updates goes back to this state, and
/// these steps are done again: last.safetensors has no sums of gradients.
pub(super) struct Mark {
    statistics: Vec<f32>,
    step: u64,
    epoch_steps: usize,
    totals: Totals,
    seconds: f64,
    /// Bytes of events.jsonl.
    events: u64,
}

impl Mark {
    pub fn of(run: &mut Run<'_, '_>) -> Result<Mark> {
        let mut statistics = Vec::new();
        run.train.statistics(&mut statistics)?;
        let Run { trainer, step, epoch_steps, totals, seconds, .. } = run;
        Ok(Mark {
            statistics,
            step: *step,
            epoch_steps: *epoch_steps,
            totals: *totals,
            seconds: *seconds,
            events: trainer.folder.as_ref().map_or(Ok(0), RunFolder::recorded)?,
        })
    }

    pub fn put_back(self, run: &mut Run<'_, '_>) -> Result<()> {
        run.train.set_statistics(&self.statistics)?;
        (run.step, run.epoch_steps) = (self.step, self.epoch_steps);
        (run.totals, run.seconds) = (self.totals, self.seconds);
        match &mut run.trainer.folder {
            Some(folder) => folder.cut_events(self.events),
            None => Ok(()),
        }
    }
}

/// Changes when an image of any part does, or their order; runs whose model decodes in full have the same as before there was
/// a choice.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn fingerprint(data: &Dataset, decode: Decode, device: &Device) -> Result<String> {
    let parts = [Some(&data.train), data.validation.as_ref(), data.test.as_ref()];
    let threads = &device.compute().threads;
    let print = |part: Option<&Subset>| {
        part.map_or(Ok(String::new()), |part| part.fingerprint_for(decode, threads))
    };
    Ok(parts.map(print).into_iter().collect::<Result<Vec<String>>>()?.join("-"))
}

/// What differs between two fingerprints.
pub(super) fn others(then: &str, now: &str) -> String {
    let parts = ["training", "validation", "test"].into_iter();
    let parts = parts.zip(then.split('-').zip(now.split('-')));
    let changed: Vec<&str> = parts.filter(|(_, (a, b))| a != b).map(|(name, _)| name).collect();
    match &changed[..] {
        [] => "others".to_string(),
        list => format!("other {} images", list.join(" and ")),
    }
}

impl Trainer<'_> {
    /// Prepares to resume the run that wrote `progress` and `optimizer` into its last.safetensors, whose
    /// weights the model has. Call [`Trainer::fit`] for all of its phases afterwards. It changes nothing in the folder
    /// until it has reached the phase in which the run stopped, and everything fits.
    ///
    /// # Errors
    /// If the run had other settings or images, or its record cannot be read.
    pub fn resume(&mut self, progress: Progress, optimizer: Vec<Tensor>) -> Result<()> {
        let what = "run to resume";
        let Some(place) = &progress.place else {
            let hint = "this file is of an earlier version; start a new run from its weights";
            return Err(Error::invalid(what, "a record of its progress", "none", hint));
        };
        if progress.seed != self.settings.seed {
            let (expected, found) = (progress.seed.to_string(), self.settings.seed.to_string());
            return Err(Error::invalid(
                "seed",
                expected,
                found,
                "undo what was edited in config.toml, or start another run",
            ));
        }
        let fingerprint = match self.fingerprint.as_str() {
            "" => fingerprint(self.data, self.model.card.decode, &self.device)?,
            known => known.to_string(),
        };
        if place.data != fingerprint {
            return Err(Error::invalid(
                format!("images of {}", self.data.name),
                "the images that the run started with",
                others(&place.data, &fingerprint),
                "images were added, removed or changed since then; start a new run",
            ));
        }
        self.history = History::from_csv(&place.history)
            .map_err(|e| Error::invalid(what, "a history that can be read", e, ""))?;
        if place.phase == 0 || self.history.epochs.len() != progress.epochs {
            let found = format!("{} epochs in its history", self.history.epochs.len());
            return Err(Error::invalid(what, format!("{} epochs", progress.epochs), found, ""));
        }
        self.check_best()?;
        self.epoch = self.history.epochs.len();
        let seconds = self.history.epochs.iter().map(|e| e.seconds).sum::<f64>();
        self.spent_before = place.spent.max(seconds + place.seconds);
        self.over = place.over;
        self.resume = Some(Resume { phase: place.phase, progress, optimizer });
        Ok(())
    }
}

impl Trainer<'_> {
    /// Fails where the best weights of the epochs so far, which may be those that are shipped, are not in the folder.
    fn check_best(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if self.history.best(self.settings.best_by).is_none() {
            return Ok(());
        }
        let file = weights::read(folder.best())?;
        weights::apply(&file, &self.model.net, &mut self.model.parameters.clone(), Scope::All)?;
        let images = |card: &ModelCard| card.trained.as_ref().map(|trained| trained.images.clone());
        let (own, found) = (images(&self.model.card), file.card.as_ref().and_then(images));
        if own.is_some() && own != found {
            let expected = "the best weights of this run";
            let hint = "put them back, or start a new run";
            return Err(Error::format(folder.best(), expected, "a model of other images", hint));
        }
        Ok(())
    }
}

impl Run<'_, '_> {
    /// State of the run, if it is possible in this phase.
    fn checked(&self, progress: &Progress, place: &Place) -> Result<()> {
        let (steps, images) = (self.steps_an_epoch(), self.trainer.data.train.len());
        let (batch, epochs) = (self.trainer.settings.batch_size, place.epochs);
        let history = &self.trainer.history;
        let own = history.epochs.iter().rev().take_while(|e| e.phase == self.name).count();
        let loss = f64::from_bits(place.loss_bits);
        let done = |step: u64| match self.solves {
            true => step == 0,
            false => step == epochs as u64 * steps as u64 + progress.steps as u64,
        };
        let fits = epochs <= self.epochs.min(own)
            && progress.steps <= steps
            && done(place.step)
            && place.count == progress.steps.saturating_mul(batch).min(images)
            && place.correct <= place.count
            && [loss, place.seconds, place.spent].iter().all(|v| v.is_finite())
            && place.seconds.min(place.spent) >= 0.0;
        if fits {
            return Ok(());
        }
        let found = format!(
            "{epochs} epochs and {} steps done, {} steps in all, {} of {} images correct, a loss of {loss}",
            progress.steps, place.step, place.correct, place.count
        );
        let expected =
            format!("a position in {} epochs of {steps} steps of {batch} images", self.epochs);
        Err(Error::invalid(
            "run to resume",
            expected,
            found,
            "undo what was edited in config.toml, or start another run",
        ))
    }

    /// Continues from the state of the earlier run.
    pub fn go_on(
        &mut self,
        resume: Resume,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        let Resume { progress, mut optimizer, .. } = resume;
        if progress.phase != self.name.name() {
            let (expected, found) = (progress.phase, self.name.name());
            return Err(Error::invalid(
                "phase",
                expected,
                found,
                "undo what was edited in config.toml, or start another run",
            ));
        }
        let place = progress.place.clone().unwrap_or_default();
        self.checked(&progress, &place)?;
        self.take_kept(&mut optimizer)?;
        self.train.set_optimizer_state(&optimizer)?;
        if let Some(folder) = &mut self.trainer.folder {
            folder.cut_events(place.events)?;
        }
        (self.done, self.step) = (place.epochs, place.step);
        for epoch in self.trainer.history.last(self.done) {
            self.rates.end_epoch(monitor::loss(epoch));
        }
        self.epoch_steps = progress.steps;
        self.seconds = place.seconds;
        // The schedule's rate, where the earlier process may have ended after a step.
        self.last_rate = self.rates.at(self.step.saturating_sub(1));
        let own: f64 = self.trainer.history.last(self.done).iter().map(|e| e.seconds).sum();
        if place.step > 0 {
            self.begun = Some(self.trainer.spent_before - own - place.seconds);
        }
        self.totals = Totals {
            loss: f64::from_bits(place.loss_bits),
            correct: place.correct,
            count: place.count,
        };
        // The run may have ended between writing last.safetensors and its results.
        if let Trainer { folder: Some(folder), history, .. } = &*self.trainer {
            folder.write_history(history)?;
        }
        if on_event(&self.opening) == Control::Stop {
            return Ok(Control::Stop);
        }
        let epochs = self.trainer.history.epochs.len();
        self.emit(Event::Resumed { epochs, steps: progress.steps }, on_event)
    }

    /// Writes the weights and everything that resuming from here needs.
    ///
    /// # Errors
    /// If a weight is not a finite number: the file is then as it was. If it cannot be written.
    pub fn save_last(&mut self) -> Result<()> {
        let start = Instant::now();
        if self.trainer.folder.is_none() {
            return Ok(());
        }
        let (shown, mut state) = (self.shown()?, self.train.optimizer_state()?);
        if self.epoch_steps > 0 {
            self.sound(&shown, self.trainer.history.epochs.len() + 1, self.epoch_steps)?;
        }
        state.extend(self.kept_tensors()?);
        let Trainer { folder: Some(folder), history, model, settings, phases, fingerprint, .. } =
            &*self.trainer
        else {
            return Ok(());
        };
        let place = Place {
            phase: *phases,
            epochs: self.done,
            step: self.step,
            loss_bits: self.totals.loss.to_bits(),
            correct: self.totals.correct,
            count: self.totals.count,
            seconds: self.seconds,
            spent: self.trainer.spent(),
            over: self.trainer.over,
            events: folder.recorded()?,
            history: history.to_csv()?,
            data: fingerprint.clone(),
            checksum: None,
        };
        let progress = Progress {
            phase: self.name.name(),
            epochs: history.epochs.len(),
            steps: self.epoch_steps,
            seed: settings.seed,
            place: Some(place),
        };
        let card = ModelCard { progress: Some(progress), ..model.card.clone() };
        model_file::write(folder.last(), &card, &shown, &state)?;
        self.saves.done(start);
        Ok(())
    }
}
