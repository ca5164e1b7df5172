//! The head's phase as a convex problem: fitted with L-BFGS on the features of the frozen net.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::inputs::Inputs;
use super::run::Run;
use super::{INFERENCE_BATCH, Phase, Solver, Trainer, record};
use crate::control::Control;
use crate::data::augment::Augment;
use crate::data::batch::Portion;
use crate::data::image::Views;
use crate::data::prints::Prints;
use crate::engine::execute::Input;
use crate::engine::logistic::LinearHead;
use crate::engine::logistic::team::{Others, Team};
use crate::error::Result;
use crate::measure::events::Event;
use crate::memory::room_for;
use crate::net::model::Model;
use crate::net::parameters::{Parameters, Role};
use crate::net::weights::model_file;
use crate::train::cache::{Part, Whole};
use crate::train::collective::{Alone, Collective};
use crate::train::head_fit::{Seen, fit, penalty, totals};

/// The processes that train together.
struct Processes(Mutex<Box<dyn Collective>>);

impl Processes {
    fn all(&self) -> MutexGuard<'_, Box<dyn Collective>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Others for Processes {
    fn rank(&self) -> usize {
        self.all().rank()
    }

    fn size(&self) -> usize {
        self.all().size()
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.all().gather(own)
    }
}

impl Run<'_, '_> {
    /// One epoch that fits the head.
    pub fn solve(
        &mut self,
        solver: Solver,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Control> {
        let start = Instant::now();
        let epoch = self.trainer.history.epochs.len() + 1;
        let Some(train) = self.seen(Part::Train, on_event)? else { return Ok(Control::Stop) };
        let fitted = match self.trainer.settings.head_views {
            Views::One => self.best(solver.l2, &train, on_event)?,
            _ => match self.penalty(solver.l2, &train, on_event)? {
                Some(l2) => self
                    .with_views(l2, train.clone(), &[Part::Train], on_event)?
                    .map(|head| (l2, head)),
                None => None,
            },
        };
        let Some((l2, head)) = fitted else { return Ok(Control::Stop) };
        self.trainer.l2 = Some(l2);
        let parameters = with_head(self.trainer.model, &head);
        self.replace(&parameters)?;
        let p = head.probabilities(self.trainer.device.compute(), &train.features);
        self.totals = totals(self.trainer.data.classes.len(), &p, &train.labels);
        let trained = start.elapsed().as_secs_f64();
        let Some(figures) = self.validation(on_event)? else { return Ok(Control::Stop) };
        self.close(epoch, [start.elapsed().as_secs_f64(), trained], 0.0, figures, on_event)
    }

    /// The head for the penalty `l2`, or for the one that cross-validation finds.
    fn best(
        &mut self,
        l2: Option<f64>,
        seen: &Seen,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<(f64, LinearHead)>> {
        let (classes, weights) = self.problem()?;
        self.shared(|run, team| fit(team, seen, (classes, &weights), l2, &mut run.tell(on_event)))
    }

    /// The penalty `l2`, or the one that cross-validation finds; `None` if the caller stopped it.
    fn penalty(
        &mut self,
        l2: Option<f64>,
        seen: &Seen,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<f64>> {
        let (classes, weights) = self.problem()?;
        let found = self.shared(|run, team| {
            penalty(team, seen, (classes, &weights), l2, &mut run.tell(on_event))
        })?;
        Ok(found.map(|(l2, _)| l2))
    }

    /// How many classes a head has, and how much each of them counts.
    fn problem(&self) -> Result<(usize, Vec<f32>)> {
        let Trainer { data, settings, .. } = &*self.trainer;
        Ok((data.classes.len(), settings.class_weights(data)?))
    }

    /// Fits something that all processes fit, each doing its part of the work. What is told meanwhile comes from every process
    /// in the same order, and none stops alone.
    fn shared<T>(&mut self, work: impl FnOnce(&mut Self, &Team<'_>) -> Result<T>) -> Result<T> {
        let compute = Arc::clone(self.trainer.device.compute());
        let collective = std::mem::replace(&mut self.trainer.collective, Box::new(Alone));
        let processes = Processes(Mutex::new(collective));
        let done = work(self, &Team::among(&compute, &processes));
        self.trainer.collective = processes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        done
    }

    /// Tells the caller, and records what is no progress.
    fn tell<'c>(
        &'c mut self,
        on_event: &'c mut dyn FnMut(&Event) -> Control,
    ) -> impl FnMut(Event) -> Result<Control> + 'c {
        move |event| match event {
            Event::Solving { .. } => Ok(on_event(&event)),
            event => self.emit(event, on_event),
        }
    }

    /// The head for the penalty `l2` on `seen` and the other views of these parts; `None` if the caller stopped it.
    fn with_views(
        &mut self,
        l2: f64,
        mut seen: Seen,
        parts: &[Part],
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<LinearHead>> {
        let Trainer { model, data, device, settings, folder, collective, .. } = &mut *self.trainer;
        let mut emit = |event| record(folder, event, on_event);
        let whole = Whole::new(model, &data.name, device, INFERENCE_BATCH, &settings.cache);
        let mut whole = whole.among(&mut **collective);
        let views = settings.head_views.list();
        let floats = (seen.features.len() * views.len()) as u64;
        let what = format!("the features of {} images in {} views", seen.labels.len(), views.len());
        let hint = "use --head-images, or leave --head-crops out";
        room_for(&what, floats * size_of::<f32>() as u64, hint)?;
        for part in parts {
            let subset = match part {
                Part::Train => Some(self.some.as_ref().unwrap_or(&data.train)),
                _ => data.validation.as_ref(),
            };
            let Some(subset) = subset else { continue };
            for view in &views[1..] {
                let seen_as = (view.title(part.name()), &subset.seen_as(*view));
                let Some(features) = whole.pooled(seen_as, &mut emit)? else { return Ok(None) };
                seen = seen.and(Seen { features, labels: subset.labels() });
            }
        }
        Ok(self.best(Some(l2), &seen, on_event)?.map(|(_, head)| head))
    }

    /// Features of every image of a part, in order; `None` if the caller stopped it.
    fn seen(
        &mut self,
        part: Part,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Seen>> {
        if part == Part::Train && self.some.is_some() {
            return self.seen_of_some(on_event);
        }
        let data = self.trainer.data;
        let subset = match part {
            Part::Train => Some(&data.train),
            _ => data.validation.as_ref(),
        };
        let Some(subset) = subset else {
            return Ok(Some(Seen { features: Vec::new(), labels: Vec::new() }));
        };
        let kept = self.trainer.frozen.as_ref().is_some_and(|f| f.rows(part).is_some());
        // What every process has, none has to compute for the others.
        let everywhere = self.trainer.all(kept)?;
        let own = match everywhere {
            true => 0..subset.len(),
            false => self.trainer.own_images(subset.len(), INFERENCE_BATCH),
        };
        let Trainer { model, frozen, looks, .. } = &mut *self.trainer;
        let (model, total) = (&**model, own.len());
        let (order, augment) = (own.collect(), Augment::default());
        let batch = (*looks, Portion::WHOLE);
        let mut batches = Inputs::new((part, subset), order, kept, batch, model, augment)?;
        let mut features = Vec::new();
        let (mut done, start) = (0, Instant::now());
        while done < total {
            let count = batches.next(model, frozen.as_mut())?;
            let (inputs, _) = batches.current(frozen.as_ref());
            for input in &inputs {
                if let Input::Values(values) = input {
                    features.extend_from_slice(&values.to_f32());
                }
            }
            done += count;
            let seconds = start.elapsed().as_secs_f64();
            let event = Event::Features { split: part.name(), done, total, seconds };
            if !kept && on_event(&event) == Control::Stop {
                return Ok(None);
            }
        }
        if !everywhere {
            features = self.trainer.join_values(features)?;
        }
        Ok(Some(Seen { features, labels: subset.labels() }))
    }

    /// The same of the training images that a head is fitted on where these are not all. The cache on disk may have them.
    fn seen_of_some(
        &mut self,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<Seen>> {
        let Trainer { model, data, device, settings, folder, collective, .. } = &mut *self.trainer;
        let mut emit = |event| record(folder, event, on_event);
        let whole = Whole::new(model, &data.name, device, INFERENCE_BATCH, &settings.cache);
        let some = self.some.as_ref().unwrap_or(&data.train);
        let seen = whole.among(&mut **collective).pooled((Part::Train.name(), some), &mut emit)?;
        Ok(seen.map(|features| Seen { features, labels: some.labels() }))
    }

    /// Fits the head again on training and validation images; `None` if the caller stopped it.
    fn again(
        &mut self,
        solver: Solver,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<(usize, LinearHead)>> {
        if self.keep_outputs(on_event)? == Control::Stop {
            return Ok(None);
        }
        let Some(train) = self.seen(Part::Train, on_event)? else { return Ok(None) };
        let Some(validation) = self.seen(Part::Validation, on_event)? else { return Ok(None) };
        // A run that was resumed after the fit does not know its penalty.
        let l2 = match self.trainer.l2.or(solver.l2) {
            Some(l2) => Some(l2),
            None => self.penalty(None, &train, on_event)?,
        };
        let Some(l2) = l2 else { return Ok(None) };
        let all = train.and(validation);
        let images = all.labels.len();
        let head = match self.trainer.settings.head_views {
            Views::One => self.best(Some(l2), &all, on_event)?.map(|(_, head)| head),
            _ => self.with_views(l2, all, &[Part::Train, Part::Validation], on_event)?,
        };
        Ok(head.map(|head| (images, head)))
    }
}

impl Trainer<'_> {
    /// How many validation images the model's head was fitted on by [`Trainer::refit`].
    pub fn refitted(&self) -> usize {
        self.model.card.trained.as_ref().map_or(0, |trained| trained.refit.len())
    }

    /// Fits the model's head, which is the one that `phase` fitted, again on training and validation images together, for the
    /// penalty that the phase found, and writes the model to the run folder's best.safetensors. Without test images or
    /// validation images, or where it was done before, nothing happens: the validation images measure the model. Nothing changes if
    /// the caller stopped it.
    ///
    /// # Errors
    /// If an image cannot be decoded, or a file cannot be written.
    pub fn refit(
        &mut self,
        phase: &Phase,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<()> {
        let (Some(solver), Some(validation), true) =
            (phase.solver, self.data.validation.as_ref(), self.data.test.is_some())
        else {
            return Ok(());
        };
        if self.refitted() > 0 {
            return Ok(());
        }
        let mut told = self.told();
        let on_event: &mut dyn FnMut(&Event) -> Control = &mut |event| told.ask(|| on_event(event));
        let Some((images, head)) = Run::new(self, phase)?.again(solver, on_event)? else {
            return Ok(());
        };
        self.model.parameters = with_head(self.model, &head);
        let hashes = validation.image_hashes(&self.device.compute().threads)?;
        if let Some(trained) = &mut self.model.card.trained {
            trained.refit = Prints::new(&hashes);
        }
        if let Some(folder) = &self.folder {
            model_file::write(folder.best(), &self.model.card, &self.model.parameters, &[])?;
        }
        record(&mut self.folder, Event::Refitted { images }, on_event)?;
        Ok(())
    }
}

/// The model's weights with another head.
fn with_head(model: &Model, head: &LinearHead) -> Parameters {
    let (node, mut parameters) = (model.logits(), model.parameters.clone());
    for tensor in parameters.tensors.iter_mut().filter(|t| t.node == node) {
        match tensor.role {
            Role::Kernel => tensor.values.copy_from_slice(&head.kernel),
            Role::Bias => tensor.values.copy_from_slice(&head.bias),
            _ => {}
        }
    }
    parameters
}
