//! Sums over feature maps that batch norms need, gathered by the convolutions that write these maps.

use super::{Main, Place, Plan, Step};
use headstart_kernels::element::DType;

/// Hands batch norms' statistics to the convolutions before them, and the gradients of their gamma and beta to
/// the convolutions whose backward pass completes the gradient of their output.
///
/// Only feature maps in bfloat16: those in floats are summed about a pivot, which is known once they are there.
pub(super) fn gather(plan: &mut Plan) {
    for norm in 0..plan.groups.len() {
        let x = plan.groups[norm].inputs[0];
        if !matches!(plan.groups[norm].main, Main::Norm { training: true, .. })
            || plan.dtypes[x] != DType::Bf16
        {
            continue;
        }
        let before = |g: &super::Group| g.output == x && matches!(g.main, Main::Conv { .. });
        if let Some(conv) = plan.groups.iter().position(before) {
            plan.statistics[conv] = Some(norm);
            plan.statistics[norm] = Some(conv);
        }
    }
    for at in 0..plan.steps.len() {
        let Step::Norm { group, gradient, .. } = plan.steps[at] else { continue };
        let last = plan.steps[..at].iter().rposition(|&step| writes(plan, step) == Some(gradient));
        if plan.dtypes[plan.groups[group].inputs[0]] != DType::Bf16
            || !matches!(plan.groups[group].main, Main::Norm { training: true, node } if plan.trains(node))
        {
            continue;
        }
        if let Some(last) = last
            && let Step::Input { group: conv, ref mut sums, .. } = plan.steps[last]
            && sums.is_none()
            && matches!(plan.groups[conv].main, Main::Conv { .. })
        {
            *sums = Some(group);
            if let Step::Norm { summed, .. } = &mut plan.steps[at] {
                *summed = true;
            }
        }
    }
}

/// The buffer a step changes.
fn writes(plan: &Plan, step: Step) -> Option<usize> {
    match step {
        Step::Forward { group } => match plan.values[plan.groups[group].output] {
            Some(Place::Buffer(buffer)) => Some(buffer),
            _ => None,
        },
        Step::Again { output, .. } | Step::Loss { output, .. } | Step::Input { output, .. } => {
            Some(output)
        }
        Step::Mask { gradient, .. } => Some(gradient),
        Step::Accumulate { to, .. } | Step::Copy { to, .. } => Some(to),
        Step::Kernel { .. } => None,
        Step::Norm { output, .. } => output,
    }
}
