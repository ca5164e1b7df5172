//! Sums over feature maps that batch norms need, gathered by the convolutions that write these maps.

use super::{Group, Main, Place, Plan, Step};
use headstart_kernels::element::DType;

/// Gives batch norms' statistics to the convolutions before them, and the gradients of their gamma and beta to
/// the convolutions whose backward pass completes the gradient of their output.
///
/// Only for feature maps in bfloat16: those in floats are summed about a pivot, which is known only when they are complete.
pub(super) fn gather(plan: &mut Plan) {
    for norm in 0..plan.groups.len() {
        let x = plan.groups[norm].inputs[0];
        let before = |g: &Group| g.output == x && matches!(g.main, Main::Conv { .. });
        if sums(plan, norm)
            && let Some(conv) = plan.groups.iter().position(before)
        {
            plan.statistics[conv] = Some(norm);
            plan.statistics[norm] = Some(conv);
        }
    }
    for at in 0..plan.steps.len() {
        let Step::Norm { group, gradient, .. } = plan.steps[at] else { continue };
        let last = plan.steps[..at].iter().rposition(|&step| writes(plan, step) == Some(gradient));
        if sums(plan, group)
            && let Some(last) = last
            && let Step::Input { group: conv, sums: ref mut sums @ None, .. } = plan.steps[last]
            && matches!(plan.groups[conv].main, Main::Conv { .. })
        {
            *sums = Some(group);
            if let Step::Norm { summed, .. } = &mut plan.steps[at] {
                *summed = true;
            }
        }
    }
}

/// Whether a group is a batch norm that sums over a map in bfloat16.
fn sums(plan: &Plan, group: usize) -> bool {
    let Group { main, inputs, .. } = &plan.groups[group];
    matches!(main, Main::Norm { training: true, .. }) && plan.dtypes[inputs[0]] == DType::Bf16
}

/// The buffer a step changes.
fn writes(plan: &Plan, step: Step) -> Option<usize> {
    match step {
        Step::Forward { group } => match plan.values[plan.groups[group].output] {
            Some(Place::Buffer(buffer)) => Some(buffer),
            _ => None,
        },
        Step::Again { output, .. }
        | Step::Loss { output, .. }
        | Step::Unpool { output, .. }
        | Step::Input { output, .. } => Some(output),
        Step::Mask { gradient, .. } => Some(gradient),
        Step::Accumulate { to, .. } | Step::Copy { to, .. } => Some(to),
        Step::Kernel { .. } => None,
        Step::Norm { output, .. } => output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::Request;
    use crate::net::resnet::{Net, Recipe, Surroundings};

    fn whole(name: &str, dtype: DType) -> Plan {
        let recipe = Recipe::named(name).unwrap();
        let classes = Some(10);
        let around = Surroundings { height: 64, width: 64, preprocess: None, upsample: 1, classes };
        let graph = Net::new(&recipe, &around).unwrap().graph;
        let trainable = Some(vec![true; graph.nodes.len()]);
        let request = Request { batch: 2, sources: vec![0], outputs: vec![], trainable, dtype };
        Plan::new(&graph, request).unwrap()
    }

    #[test]
    fn in_bf16_every_batch_norm_after_a_convolution_has_its_statistics_from_it() {
        let plan = whole("resnet50", DType::Bf16);
        let norms = plan.groups.iter().filter(|g| matches!(g.main, Main::Norm { .. })).count();
        assert_eq!((norms, plan.statistics.iter().flatten().count()), (53, 2 * 53));
        for (group, partner) in plan.statistics.iter().enumerate() {
            if let (Main::Conv { .. }, Some(norm)) = (plan.groups[group].main, *partner) {
                assert_eq!(plan.groups[norm].inputs, [plan.groups[group].output]);
                assert_eq!(plan.statistics[norm], Some(group));
            }
        }
        assert!(whole("resnet50", DType::F32).statistics.iter().all(Option::is_none));
    }

    #[test]
    fn in_bf16_gradients_of_gamma_and_beta_come_with_the_gradient_they_are_sums_of() {
        let plan = whole("resnet50", DType::Bf16);
        let (mut summed, mut apart) = (0, Vec::new());
        for (at, step) in plan.steps.iter().enumerate() {
            let &Step::Norm { group, gradient, summed: gathered, .. } = step else { continue };
            if !gathered {
                apart.push(group);
                continue;
            }
            summed += 1;
            let by = plan.steps[..at].iter().rposition(|s| writes(&plan, *s) == Some(gradient));
            let last = by.map(|by| plan.steps[by]);
            assert!(
                matches!(last, Some(Step::Input { sums: Some(norm), .. }) if norm == group),
                "{last:?}"
            );
        }
        // Not the stem's, whose gradient the pooling completes, the last block's, that of the average, nor the four
        // of projections, which share their gradient with the batch norm they are added to.
        assert_eq!((summed, apart.len()), (47, 6));
        assert!(!plan.steps.iter().any(|s| matches!(s, Step::Copy { .. })));
    }
}
