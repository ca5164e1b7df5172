//! How many images a step has, where the memory decides.

use super::{Event, Job, Machine, Place, Teller};
use crate::data::dataset::Dataset;
use crate::engine::device::Device;
use crate::error::Result;
use crate::net::model::Model;
use crate::train::trainer::{Phase, Settings, Trainer};

impl Job {
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
