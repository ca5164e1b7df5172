//! The model that a run ships: the weights of its best epoch, calibrated and evaluated.

use std::time::Instant;

use super::inputs::Inputs;
use super::{INFERENCE_BATCH, Trainer, record};
use crate::control::Control;
use crate::data::augment::Augment;
use crate::data::batch::Portion;
use crate::data::dataset::{Dataset, Subset};
use crate::engine::inference::{answer_node, assess, executor, read_floats};
use crate::error::Result;
use crate::measure::calibration::{TemperatureFit, calibrate};
use crate::measure::epoch::EpochRecord;
use crate::measure::events::Event;
use crate::measure::metrics::Report;
use crate::net::graph::NodeId;
use crate::net::model::Model;
use crate::net::weights::{self, Scope, model_file};
use crate::train::cache::{Keeping, Part};

/// What the model makes of the images that are held out.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The metrics.
    pub report: Report,
    /// Class probabilities, `[images, classes]` row-major.
    pub probabilities: Vec<f32>,
    /// Labels of the same images.
    pub labels: Vec<usize>,
}

impl Trainer<'_> {
    /// The epoch whose weights the model has: the last one, or the best one of a phase under early stopping, or the one that
    /// [`Trainer::take_best`] took.
    pub fn epoch(&self) -> Option<&EpochRecord> {
        self.history.epochs.iter().find(|e| e.epoch == self.epoch)
    }

    /// The images.
    pub fn data(&self) -> &Dataset {
        self.data
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// Gives the model the weights of the best epoch of all phases by the monitored metric, a fitted head's included: those
    /// in the run folder's best.safetensors. Without a run folder or an epoch, the model stays as it is.
    ///
    /// # Errors
    /// If the file cannot be read or is not of this model.
    pub fn take_best(&mut self) -> Result<()> {
        let Some(best) = self.history.best(self.settings.best_by).map(|e| e.epoch) else {
            return Ok(());
        };
        if self.several() {
            self.epoch = best;
        }
        self.read_best(best)?;
        self.share_model()
    }

    fn read_best(&mut self, best: usize) -> Result<()> {
        let Trainer { folder: Some(folder), model, .. } = &mut *self else { return Ok(()) };
        let file = weights::read(folder.best())?;
        model.load(&file, Scope::All)?;
        let card = file.card;
        model.card.temperature = card.as_ref().and_then(|card| card.temperature);
        model.card.calibration = card.as_ref().and_then(|card| card.calibration);
        if let (Some(own), Some(stored)) =
            (&mut model.card.trained, card.and_then(|card| card.trained))
        {
            own.refit = stored.refit;
        }
        self.epoch = best;
        Ok(())
    }

    /// Fits the temperature of the model's probabilities on the validation images, takes it where it helps on images that it was
    /// not fitted on ([`calibrate`]), and writes the model with it to the run folder's best.safetensors; `None` if there are no validation images, or the caller stopped it before the end.
    ///
    /// # Errors
    /// If an image cannot be decoded, the model's predictions are not numbers, or a file cannot be written.
    pub fn calibrate(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<TemperatureFit>> {
        let Some(validation) = &self.data.validation else { return Ok(None) };
        let mut told = self.told();
        let on_event: &mut dyn FnMut(&Event) -> Control = &mut |event| told.ask(|| on_event(event));
        let logits = self.model.logits();
        let Some(values) = self.outputs(logits, Part::Validation, validation, on_event)? else {
            return Ok(None);
        };
        let labels = validation.labels();
        let fit = calibrate(self.model.card.classes.len(), &values, &labels)?;
        (self.model.card.temperature, self.model.card.calibration) = (fit.stored(), Some(fit));
        if let Some(folder) = &self.folder {
            model_file::write(folder.best(), &self.model.card, &self.model.parameters, &[])?;
        }
        record(&mut self.folder, Event::Calibrated { fit, kept: fit.is_kept() }, on_event)?;
        Ok(Some(fit))
    }

    /// Evaluates the model on the test images, or on the validation images where there are none;
    /// `None` if there are neither, or the caller stopped it before the end.
    ///
    /// # Errors
    /// If an image cannot be decoded, the model's predictions are not numbers, or a file cannot be written.
    pub fn evaluate(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Report>> {
        Ok(self.answers(on_event)?.map(|answers| answers.report))
    }

    /// The same, with the model's answers.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    pub fn answers(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Answers>> {
        let (part, subset) = match (&self.data.test, &self.data.validation) {
            (Some(test), _) => (Part::Test, test),
            (None, Some(validation)) => (Part::Validation, validation),
            (None, None) => return Ok(None),
        };
        let mut told = self.told();
        let on_event: &mut dyn FnMut(&Event) -> Control = &mut |event| told.ask(|| on_event(event));
        let start = Instant::now();
        let node = answer_node(self.model);
        let Some(values) = self.outputs(node, part, subset, on_event)? else { return Ok(None) };
        let split = part.name();
        let labels = subset.labels();
        let (report, probabilities) = assess(self.model, split, values, &labels)?;
        let event = Event::Evaluation {
            phase: self.epoch().map(|e| e.phase),
            epoch: self.epoch().map(|e| e.epoch),
            split,
            loss: report.loss,
            accuracy: report.accuracy,
            top5: report.top5,
            samples: report.samples,
            seconds: start.elapsed().as_secs_f64(),
        };
        record(&mut self.folder, event, on_event)?;
        Ok(Some(Answers { report, probabilities, labels }))
    }

    /// Values of a node for a part's images, `[images, elements]`, from cached features of the last phase's frozen layers;
    /// `None` if the caller stopped it.
    fn outputs(
        &mut self,
        node: NodeId,
        part: Part,
        subset: &Subset,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Vec<f32>>> {
        let (split, batch) = (part.name(), self.looks);
        let Trainer { model, frozen, .. } = &mut *self;
        // The caller may have changed the weights since.
        if let Some(f) = frozen.take() {
            *frozen = f.still(model)?;
        }
        let keeping = match frozen {
            Some(frozen) => frozen.keeping(subset.len()),
            None => Keeping::Nowhere,
        };
        let keeping = self.agree_keeping(keeping)?;
        let own = self.own_images(subset.len(), INFERENCE_BATCH);
        let Trainer { model, data, device, folder, frozen, collective, .. } = &mut *self;
        let model = &**model;
        let mut emit = |event| record(folder, event, on_event);
        if let Some(frozen) = frozen
            && frozen.keep(
                model,
                &data.name,
                (part, subset),
                keeping,
                &mut **collective,
                &mut emit,
            )? == Control::Stop
        {
            return Ok(None);
        }
        let kept = frozen.as_ref().is_some_and(|frozen| frozen.rows(part).is_some());
        let sources = frozen.as_ref().map_or(vec![0], |frozen| frozen.nodes.clone());
        let mut tail = executor(model, device, batch, &sources, &[node])?;
        let (total, order, augment) = (own.len(), own.collect(), Augment::default());
        let size = (batch, Portion::WHOLE);
        let mut batches = Inputs::new((part, subset), order, kept, size, model, augment)?;
        let (mut out, mut done) = (Vec::new(), 0);
        while done < total {
            let count = batches.next(model, frozen.as_mut())?;
            let (inputs, _) = batches.current(frozen.as_ref());
            tail.forward(&inputs, count)?;
            out.extend_from_slice(&read_floats(&mut *tail, 0)?);
            done += count;
            if on_event(&Event::Evaluating { split, done, total }) == Control::Stop {
                return Ok(None);
            }
        }
        if let Some(frozen) = frozen {
            frozen.rest();
        }
        self.join_values(out).map(Some)
    }
}
