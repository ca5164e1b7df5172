//! How long phases take on this machine: operations of a plan divided by the rates of a short measurement.

use headstart_kernels::element::DType;

use crate::engine::device::Device;
use crate::engine::plan::{Plan, Request, sources};
use crate::error::Result;
use crate::net::model::Model;
use crate::net::resnet::{FreezePoint, Net, Recipe, Surroundings};
use crate::study::bench::{Part, Work};
use crate::study::explain::Explanation;

/// Batch size of the measurement.
const BATCH: usize = 16;

/// Operations a second that this machine reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// In inference.
    pub forward: f64,
    /// In training steps.
    pub training: f64,
}

/// What an image costs where the net trains from a layer on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Operations of the frozen layers.
    pub frozen: f64,
    /// Operations of the others in inference.
    pub forward: f64,
    /// Operations of the others in a training step.
    pub step: f64,
    /// Bytes of the frozen layers' features; 0 if there are no such layers.
    pub bytes: u64,
}

impl Pace {
    /// Measures inference, and training from the middle of the net, on a few synthetic images, in some seconds.
    ///
    /// # Errors
    /// If there is no net of that name.
    pub fn measure(net: &str, device: &Device) -> Result<Pace> {
        let rate = |part| {
            let mut work = Work::new(Model::imagenet(net)?, part, true, BATCH, device.clone())?;
            Ok(work.measure(3)?.achieved_gflops * 1e9)
        };
        let recipe = Recipe::named(net)?;
        let middle =
            Model::imagenet(net)?.net.freeze_point(&recipe.stage(recipe.stages.len() - 1))?;
        Ok(Pace { forward: rate(Part::Forward)?, training: rate(Part::FineTune(middle))? })
    }
}

/// The net for images of `size` pixels with a head of this many `classes`.
///
/// # Errors
/// If it cannot have such images.
pub fn net(recipe: &Recipe, size: usize, classes: usize) -> Result<Net> {
    let classes = Some(classes);
    Net::new(
        recipe,
        &Surroundings { height: size, width: size, preprocess: None, upsample: 1, classes },
    )
}

/// What an image costs in `net` where it trains from `from` on, or the head only.
///
/// # Errors
/// If there is no plan for it.
pub fn cost(net: &Net, from: Option<FreezePoint>, dtype: DType) -> Result<Cost> {
    let graph = &net.graph;
    let flops = |sources: &[usize], outputs: &[usize], trainable| {
        let (sources, outputs) = (sources.to_vec(), outputs.to_vec());
        let plan = Plan::new(graph, Request { batch: 1, sources, outputs, trainable, dtype })?;
        Ok((Explanation::new(graph, &plan, None).flops as f64, plan))
    };
    let trainable = match from {
        Some(from) => net.trainable(from),
        None => net.head_only(),
    };
    let sources = sources(graph, &trainable);
    let output = [graph.nodes.len() - 1];
    let (step, plan) = flops(&sources, &[], Some(trainable))?;
    let (forward, _) = flops(&sources, &output, None)?;
    if sources == [0] {
        return Ok(Cost { frozen: 0.0, forward, step, bytes: 0 });
    }
    let (frozen, _) = flops(&[0], &sources, None)?;
    let bytes = |&node: &usize| graph.nodes[node].shape.elements() * plan.dtypes[node].bytes();
    Ok(Cost { frozen, forward, step, bytes: sources.iter().map(bytes).sum::<usize>() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_up_and_fall_with_the_image_size() {
        let recipe = Recipe::named("resnet50").unwrap();
        let at = |size, name: Option<&str>| {
            let net = net(&recipe, size, 10).unwrap();
            let from = name.map(|name| net.freeze_point(name).unwrap());
            cost(&net, from, DType::F32).unwrap()
        };
        let (head, conv5, all) = (at(224, None), at(224, Some("conv5")), at(224, Some("0")));
        // 7.7 GFLOP an image, wherever it is cut.
        for cost in [head, conv5, all] {
            assert!(((cost.frozen + cost.forward) / 1e9 - 7.72).abs() < 0.05, "{cost:?}");
        }
        assert_eq!(head.bytes, 2048 * 4);
        assert_eq!((all.frozen, all.bytes), (0.0, 0));
        // conv4_block6_out and, for the first block's shortcut, the same.
        assert_eq!(conv5.bytes, 14 * 14 * 1024 * 4);
        // Forward, and both gradients.
        let share = all.step / all.forward;
        assert!((2.9..3.0).contains(&share), "{share}");
        let quarter = at(112, Some("0")).step / all.step;
        assert!((0.24..0.28).contains(&quarter), "{quarter}");
        assert!(conv5.step < 0.6 * all.step && head.step < 1e-3 * all.step);
    }
}
