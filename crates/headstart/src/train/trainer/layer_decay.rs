//! Smaller learning rates for earlier layers, which need to change less (timm's `layer_decay`; Clark et al. 2020, ELECTRA).

use crate::error::Result;
use crate::net::model::Model;

/// Factor on the learning rate of each tensor: 1 for the head, `decay` for the last stage, its square for the
/// one before, and so on to the stem.
///
/// # Errors
/// If the net's stages have other names, which would be a defect.
pub(super) fn scales(model: &Model, decay: f32) -> Result<Vec<f32>> {
    let (recipe, net) = (&model.recipe, &model.net);
    let mut starts = Vec::with_capacity(recipe.stages.len() + 1);
    for number in 1..=recipe.stages.len() {
        let point = net.freeze_point(&recipe.stage(number))?;
        starts.extend(net.base_index.iter().position(|&i| i == Some(point.0)));
    }
    starts.push(net.base_output() + 1);
    let depth = |node: usize| starts.iter().filter(|&&start| node < start).count();
    let tensors = model.parameters.tensors.iter();
    Ok(tensors.map(|t| decay.powi(depth(t.node) as i32)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_before_the_head_takes_one_factor_more() {
        for name in ["resnet50", "resnet50v2", "torchvision-resnet18", "resnet20"] {
            let model = Model::imagenet(name).unwrap();
            let scales = scales(&model, 0.5).unwrap();
            let of = |part: &str| {
                let tensors = model.parameters.tensors.iter().zip(&scales);
                let mut found: Vec<f32> =
                    tensors.filter(|(t, _)| t.name.contains(part)).map(|(_, &s)| s).collect();
                found.dedup();
                assert_eq!(found.len(), 1, "{name} {part} {found:?}");
                found[0]
            };
            let stages = model.recipe.stages.len();
            let (first, last) = (model.recipe.stage(1), model.recipe.stage(stages));
            assert_eq!(of(&last), 0.5, "{name}");
            assert_eq!(of(&first), 0.5f32.powi(stages as i32), "{name}");
            assert_eq!(scales[0], 0.5f32.powi(stages as i32 + 1), "{name}");
            assert_eq!(scales[scales.len() - 1], 1.0, "{name}");
        }
    }
}
