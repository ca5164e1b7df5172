//! Batches before a run begins: how many images a step has, where the memory decides, and what the first one looks like.

use super::{Event, Job, Listen, Machine, Place, Teller};
use crate::data::batch::Batch;
use crate::data::dataset::Dataset;
use crate::engine::device::Device;
use crate::error::Result;
use crate::net::model::Model;
use crate::session::config::TrainConfig;
use crate::session::job;
use crate::train::cache::{CacheSettings, DISK};
use crate::train::trainer::{Phase, Settings, Trainer};

/// The first training batch.
#[derive(Debug)]
pub struct FirstBatch {
    /// Its images, augmented as the settings say.
    pub batch: Batch,
    /// Their height in pixels.
    pub height: usize,
    /// Their width in pixels.
    pub width: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
}

impl Job {
    /// The first training batch, augmented as in training; no weights are needed for it.
    ///
    /// # Errors
    /// As [`Job::run`]; [`Stopped`](crate::Error::Stopped).
    pub fn first_batch(mut self, listen: &mut Listen<'_>) -> Result<FirstBatch> {
        self.check()?;
        let mut teller = Teller::new(listen);
        let device = self.device(Machine::default())?;
        let data = self.open(&mut teller)?;
        let bare = TrainConfig { weights: "none".into(), ..self.config.clone() };
        let (mut model, _) = job::build_model(&bare, &data)?;
        let cache = CacheSettings { memory: 0, folder: None, disk: DISK };
        let trainer = Trainer::new(&mut model, &data, device, self.config.settings(cache, None))?;
        let batch = trainer.first_batch()?;
        let side = self.config.train_size;
        let (height, width) = side.map_or((model.card.height, model.card.width), |s| (s, s));
        Ok(FirstBatch { batch, height, width, classes: data.classes })
    }

    /// Writes the batch that fits the memory into the settings, where it is asked for and the run is new.
    pub(super) fn find_batch_size(
        &mut self,
        (model, data): (&mut Model, &Dataset),
        (device, machine): (&Device, Machine),
        phases: &[Phase],
        teller: &mut Teller<'_>,
    ) -> Result<()> {
        if !self.batch_that_fits || matches!(self.place, Place::Earlier { .. }) {
            return Ok(());
        }
        let settings = Settings { batch_size: self.config.replicas, ..self.settings(machine)? };
        let trainer = Trainer::new(model, data, device.clone(), settings)?;
        self.config.batch_size = trainer.batch_that_fits(phases)?;
        self.config.check()?;
        teller.tell_first(&Event::BatchSize(self.config.batch_size))
    }
}
