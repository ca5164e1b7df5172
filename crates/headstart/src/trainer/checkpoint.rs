//! Going on with a run from its last.safetensors, to the weights it would have reached on its own.

use std::time::Instant;

use super::Trainer;
use super::run::Run;
use crate::dataset::{Dataset, Subset};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::history::History;
use crate::inference::Control;
use crate::metrics::Totals;
use crate::monitor;
use crate::weights::Tensor;
use crate::weights::model_file::{self, ModelCard, Place, Progress};

/// Where an earlier run stood.
#[derive(Debug)]
pub(super) struct Resume {
    /// Number of the phase, from 1.
    pub phase: usize,
    progress: Progress,
    optimizer: Vec<Tensor>,
}

/// Changes when an image of any part does, or their order.
pub(super) fn fingerprint(data: &Dataset) -> String {
    let parts = [Some(&data.train), data.validation.as_ref(), data.test.as_ref()];
    let prints = parts.map(|part| part.map_or(String::new(), Subset::fingerprint));
    prints.join("-")
}

impl Trainer<'_> {
    /// Prepares to go on with the run that wrote `progress` and `optimizer` into its last.safetensors,
    /// whose weights the model has. Call [`Trainer::fit`] for all of its phases afterwards.
    ///
    /// # Errors
    /// If the run's settings or images were others, or its record cannot be read.
    pub fn resume(&mut self, progress: Progress, optimizer: Vec<Tensor>) -> Result<()> {
        let what = "run to go on with";
        let Some(place) = &progress.place else {
            let hint = "this file is of an earlier version; start a run anew from its weights";
            return Err(Error::invalid(what, "a record of where it stood", "none", hint));
        };
        if progress.seed != self.settings.seed {
            let (expected, found) = (progress.seed.to_string(), self.settings.seed.to_string());
            return Err(Error::invalid("seed", expected, found, "use the config.toml of the run"));
        }
        let fingerprint = match self.fingerprint.as_str() {
            "" => fingerprint(self.data),
            known => known.to_string(),
        };
        if place.data != fingerprint {
            return Err(Error::invalid(
                format!("images of {}", self.data.name),
                "the images that the run began with",
                "others",
                "images were added, removed or changed since; start a run anew",
            ));
        }
        self.history = History::from_csv(&place.history)
            .map_err(|e| Error::invalid(what, "a history that can be read", e, ""))?;
        if place.phase == 0 || self.history.epochs.len() != progress.epochs {
            let found = format!("{} epochs in its history", self.history.epochs.len());
            return Err(Error::invalid(what, format!("{} epochs", progress.epochs), found, ""));
        }
        self.resume = Some(Resume { phase: place.phase, progress, optimizer });
        Ok(())
    }
}

impl Run<'_, '_> {
    /// Takes over where the earlier run stood.
    pub fn go_on(
        &mut self,
        resume: Resume,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<()> {
        let Resume { progress, mut optimizer, .. } = resume;
        if progress.phase != self.name.name() {
            let (expected, found) = (progress.phase, self.name.name());
            return Err(Error::invalid("phase", expected, found, "use the run's config.toml"));
        }
        self.take_kept(&mut optimizer)?;
        self.optimizer.restore(&self.trainer.model.parameters, &optimizer)?;
        let place = progress.place.unwrap_or_default();
        (self.done, self.step) = (place.epochs, place.step);
        for epoch in self.trainer.history.last(self.done) {
            self.rates.end_epoch(monitor::loss(epoch));
        }
        self.train.skip_to(place.step);
        self.epoch_steps = progress.steps;
        self.seconds = place.seconds;
        self.totals = Totals {
            loss: f64::from_bits(place.loss_bits),
            correct: place.correct,
            count: place.count,
        };
        on_event(&self.opening.clone());
        // The run may have ended between writing last.safetensors and its results.
        if let Trainer { folder: Some(folder), history, .. } = &*self.trainer {
            folder.write_history(history)?;
        }
        let epochs = self.trainer.history.epochs.len();
        self.emit(Event::Resumed { epochs, steps: progress.steps }, on_event)?;
        Ok(())
    }

    /// Writes the weights and all that going on from here needs.
    pub fn save_last(&mut self) -> Result<()> {
        let start = Instant::now();
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
            events: folder.recorded()?,
            history: history.to_csv()?,
            data: fingerprint.clone(),
        };
        let progress = Progress {
            phase: self.name.name(),
            epochs: history.epochs.len(),
            steps: self.epoch_steps,
            seed: settings.seed,
            place: Some(place),
        };
        let mut state = self.optimizer.tensors(&model.parameters);
        state.extend(self.kept_tensors());
        let card = ModelCard { progress: Some(progress), ..model.card.clone() };
        model_file::write(folder.last(), &card, &self.shown(), &state)?;
        self.saves.done(start);
        Ok(())
    }
}
