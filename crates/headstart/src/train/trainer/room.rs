//! Whether phases fit into the memory, before anything of an earlier run gives way to them.

use std::ops::Range;
use std::sync::Arc;

use super::run::trainable;
use super::{INFERENCE_BATCH, Phase, Settings, Trainer};
use crate::engine::device::Device;
use crate::engine::plan::{Plan, Request, sources};
use crate::error::Result;
use crate::net::graph::NodeId;

impl Trainer<'_> {
    /// Fails where a batch of one of the phases is more than the memory of this process: of training images, or of images that
    /// the net only looks at.
    ///
    /// # Errors
    /// In that case; it names what the batch takes, what there is, and the flags that make it smaller.
    pub fn check_memory(&self, phases: &[Phase]) -> Result<()> {
        for phase in phases.iter().filter(|phase| phase.epochs > 0) {
            let trainable = trainable(self.model, &self.settings, phase);
            let sources = sources(&self.model.net.graph, &trainable);
            let (steps, side) = (phase.solver.is_none(), self.settings.train_size);
            let (graph, size) = match side.filter(|_| steps) {
                Some(side) => (Arc::clone(&self.model.net_at_size(side)?.graph), "--train-size"),
                None => (Arc::clone(&self.model.net.graph), "--image-size"),
            };
            if steps {
                let check = |batch_size: usize, hint: &str| {
                    let settings = Settings { batch_size, ..self.settings.clone() };
                    let trainable = trainable.clone();
                    let request = training_request(&settings, &self.device, &sources, trainable);
                    let plan = Plan::aligned(&graph, request, self.device.alignment())?;
                    plan.check_memory_or(&graph, hint)
                };
                let batch = self.settings.batch_size;
                if check(batch, "").is_err() {
                    // Every replica has an image at least.
                    let sizes = self.settings.replicas..batch;
                    let fits = largest(sizes, |size| check(size, "").is_ok());
                    let hint = match fits {
                        Some(fits) => format!("--batch-size {fits} fits; or lower {size}"),
                        None => format!("lower {size}"),
                    };
                    check(batch, &hint)?;
                }
            }
            let graph = &self.model.net.graph;
            let request = Request {
                batch: INFERENCE_BATCH,
                sources: vec![0],
                outputs: vec![self.model.output()],
                trainable: None,
                dtype: self.device.dtype(),
            };
            let plan = Plan::aligned(graph, request, self.device.alignment())?;
            plan.check_memory_or(graph, "lower --image-size")?;
        }
        Ok(())
    }
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
