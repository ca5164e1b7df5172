//! The learning rate range test over a phase.

use super::run::Run;
use super::{Phase, Trainer};
use crate::control::Control;
use crate::error::Result;
use crate::measure::events::Event;
use crate::train::lr_find::{LrCurve, LrFind, Recorder};

impl Trainer<'_> {
    /// Trains as `phase` would, with rising learning rates, and restores the model afterwards; `None` if the caller stopped
    /// it. Nothing is recorded in a folder.
    ///
    /// # Errors
    /// If the range is invalid, or as [`Trainer::fit`].
    pub fn lr_find(
        &mut self,
        phase: &Phase,
        range: &LrFind,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<LrCurve>> {
        range.check()?;
        let mut told = self.told();
        let on_event: &mut dyn FnMut(&Event) -> Control = &mut |event| told.ask(|| on_event(event));
        let (folder, before) = (self.folder.take(), self.model.parameters.clone());
        let found = Run::new(self, phase).and_then(|mut run| run.lr_find(range, on_event));
        self.model.parameters = before;
        self.folder = folder;
        found
    }
}

impl Run<'_, '_> {
    fn lr_find(
        &mut self,
        range: &LrFind,
        on_event: &mut dyn FnMut(&Event) -> Control,
    ) -> Result<Option<LrCurve>> {
        if self.emit(self.opening.clone(), on_event)? == Control::Stop
            || self.keep_outputs(on_event)? == Control::Stop
        {
            return Ok(None);
        }
        let (mut recorder, mut step, mut epoch) = (Recorder::default(), 0, 0);
        while step < range.steps {
            epoch += 1;
            let mut batches = self.batches(epoch)?;
            for _ in 0..self.steps_an_epoch().min(range.steps - step) {
                let rate = range.at(step);
                step += 1;
                let updates = step % self.trainer.settings.accumulate == 0;
                let (result, all) = self.step(&mut batches, rate, updates)?;
                let goes_on = recorder.add(rate, result.loss);
                let event = Event::RangeTest {
                    learning_rate: f64::from(rate),
                    loss: f64::from(result.loss),
                    step,
                    steps: range.steps,
                };
                if on_event(&event) == Control::Stop || all == Control::Stop {
                    return Ok(None);
                }
                if !goes_on {
                    return Ok(Some(recorder.curve));
                }
            }
        }
        Ok(Some(recorder.curve))
    }
}
