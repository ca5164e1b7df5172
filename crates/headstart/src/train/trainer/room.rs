//! Whether phases fit into the memory, before anything of an earlier run gives way to them.

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
            let (graph, hint) = match side.filter(|_| steps) {
                Some(side) => {
                    let net = self.model.net_at_size(side)?;
                    (Arc::clone(&net.graph), "lower --batch-size or --train-size")
                }
                None => (Arc::clone(&self.model.net.graph), "lower --batch-size or --image-size"),
            };
            if steps {
                let request = training_request(&self.settings, &self.device, &sources, trainable);
                let plan = Plan::aligned(&graph, request, self.device.alignment())?;
                plan.check_memory_or(&graph, hint)?;
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
