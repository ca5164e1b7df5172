//! Whether phases fit into the memory, before anything of an earlier run gives way to them.

use std::ops::Range;
use std::sync::Arc;

use super::run::trainable;
use super::{Phase, Settings, Trainer};
use crate::engine::device::Device;
use crate::engine::plan::{Request, sources};
use crate::error::Result;
use crate::net::graph::NodeId;
use crate::net::model::Model;

/// Most images a step that [`Trainer::batch_that_fits`] takes: larger batches train worse at the usual learning rates.
const LARGEST_BATCH: usize = 256;

impl Trainer<'_> {
    /// Fails where a batch of one of the phases is more than the memory of this process, or one image that the net looks at.
    ///
    /// # Errors
    /// In that case; it names what the batch takes, what there is, and the flags that make it smaller.
    pub fn check_memory(&self, phases: &[Phase]) -> Result<()> {
        for phase in phases.iter().filter(|phase| phase.epochs > 0) {
            let batch = self.settings.batch_size;
            if self.check_step(phase, batch, "").is_err() {
                // Every replica has an image at least.
                let sizes = self.settings.replicas..batch;
                let fits = largest(sizes, |size| self.check_step(phase, size, "").is_ok());
                let size = if self.smaller_side(phase).is_some() {
                    "--train-size"
                } else {
                    "--image-size"
                };
                let hint = match fits {
                    Some(fits) => format!("--batch-size {fits} fits; or lower {size}"),
                    None => format!("lower {size}"),
                };
                self.check_step(phase, batch, &hint)?;
            }
        }
        // More was tried before.
        if self.looks == 1 { looking(self.model, &self.device, 1) } else { Ok(()) }
    }

    /// The largest batch of 1, 2, 4, ... 256 images that all phases have the memory for, of no more images than there are to
    /// train on; at least one for each replica.
    ///
    /// # Errors
    /// If not even that fits, as [`Trainer::check_memory`].
    pub fn batch_that_fits(&self, phases: &[Phase]) -> Result<usize> {
        let most = LARGEST_BATCH.min(self.data.train.len());
        let mut size = 1 << most.max(1).ilog2();
        let trains = phases.iter().filter(|phase| phase.epochs > 0);
        let check = |size| {
            trains.clone().try_for_each(|phase| self.check_step(phase, size, "lower --image-size"))
        };
        while size > self.settings.replicas && check(size).is_err() {
            size /= 2;
        }
        let size = size.max(self.settings.replicas);
        check(size).map(|()| size)
    }

    /// Fails where a step of `batch` images is more than the memory.
    fn check_step(&self, phase: &Phase, batch: usize, hint: &str) -> Result<()> {
        if phase.solver.is_some() {
            return Ok(());
        }
        let trainable = trainable(self.model, &self.settings, phase);
        let sources = sources(&self.model.net.graph, &trainable);
        let graph = match self.smaller_side(phase) {
            Some(side) => Arc::clone(&self.model.net_at_size(side)?.graph),
            None => Arc::clone(&self.model.net.graph),
        };
        let settings = Settings { batch_size: batch, ..self.settings.clone() };
        let request = training_request(&settings, &self.device, &sources, trainable);
        self.device.check_memory(&graph, request, &self.model.parameters, hint)
    }

    /// The side of training images, where they have one of their own.
    fn smaller_side(&self, phase: &Phase) -> Option<usize> {
        self.settings.train_size.filter(|_| phase.solver.is_none())
    }
}

/// Fails where looking at `batch` images is more than the memory.
pub(super) fn looking(model: &Model, device: &Device, batch: usize) -> Result<()> {
    let request = Request {
        batch,
        sources: vec![0],
        outputs: vec![model.output()],
        trainable: None,
        dtype: device.dtype(),
    };
    device.check_memory(&model.net.graph, request, &model.parameters, "lower --image-size")
}

/// The largest of `sizes` that fits, if all smaller ones of those that fit do.
fn largest(mut sizes: Range<usize>, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let mut found = None;
    while !sizes.is_empty() {
        let middle = sizes.start.midpoint(sizes.end);
        match fits(middle) {
            true => (found, sizes.start) = (Some(middle), middle + 1),
            false => sizes.end = middle,
        }
    }
    found
}

/// The plan in which a phase's steps run.
pub(super) fn training_request(
    settings: &Settings,
    device: &Device,
    sources: &[NodeId],
    trainable: Vec<bool>,
) -> Request {
    Request {
        batch: settings.batch_size.div_ceil(settings.replicas),
        sources: sources.to_vec(),
        outputs: vec![],
        trainable: Some(trainable),
        dtype: device.dtype(),
    }
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn the_largest_size_that_fits_is_found() {
        for most in 0..20 {
            let found = largest(1..16, |size| size <= most);
            assert_eq!(found, Some(most.min(15)).filter(|&size| size > 0));
        }
        assert_eq!(largest(4..4, |_| true), None);
    }
}
