//! The frozen prefix: the nodes that no trainable node precedes, whose values are the same in every epoch.

use super::{Plan, Request};
use crate::error::Result;
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::layer_shapes;

/// For every node whether it and all that precedes it is frozen. Dropout is not: it differs in every step.
pub fn prefix(graph: &Graph, trainable: &[bool]) -> Vec<bool> {
    let mut frozen: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let trains =
            trainable.get(id).copied().unwrap_or(false) && !layer_shapes(graph, id).is_empty();
        let random = matches!(node.op, Op::Dropout { .. });
        frozen.push(!trains && !random && node.inputs.iter().all(|&i| frozen[i]));
    }
    frozen
}

/// The nodes of the frozen prefix that others read, or the last node if everything is frozen.
pub fn frontier(graph: &Graph, trainable: &[bool]) -> Vec<NodeId> {
    let frozen = prefix(graph, trainable);
    let mut read = vec![false; graph.nodes.len()];
    for (node, &frozen) in graph.nodes.iter().zip(&frozen) {
        if !frozen {
            node.inputs.iter().for_each(|&i| read[i] = true);
        }
    }
    let mut list: Vec<NodeId> = (0..graph.nodes.len()).filter(|&i| frozen[i] && read[i]).collect();
    if list.is_empty() && frozen.last() == Some(&true) {
        list.push(graph.output());
    }
    list
}

/// What training reads: the frontier, or the images (node 0) where no frozen layer does any work worth
/// caching.
pub fn sources(graph: &Graph, trainable: &[bool]) -> Vec<NodeId> {
    let frozen = prefix(graph, trainable);
    let works = |id: NodeId| frozen[id] && matches!(graph.nodes[id].op, Op::Conv2D { .. });
    if (0..graph.nodes.len()).any(works) { frontier(graph, trainable) } else { vec![0] }
}

/// Whether `request` for inference, done in two plans, from its sources to `nodes` and from there to its outputs, runs
/// the very groups that it runs in one: then both ways give the same bits. They do not where `nodes` lie within a group,
/// such as between a convolution and the batch norm that is folded into it.
///
/// # Errors
/// As [`Plan::new`] for `request`.
pub fn is_cut(graph: &Graph, request: &Request, nodes: &[NodeId]) -> Result<bool> {
    let whole = Plan::new(graph, request.clone())?;
    let before = Plan::new(graph, Request { outputs: nodes.to_vec(), ..request.clone() });
    let after = Plan::new(graph, Request { sources: nodes.to_vec(), ..request.clone() });
    let (Ok(before), Ok(after)) = (before, after) else { return Ok(false) };
    let parts = before.groups.iter().chain(&after.groups);
    Ok(before.groups.len() + after.groups.len() == whole.groups.len()
        && parts.into_iter().all(|group| whole.groups.contains(group)))
}

#[cfg(test)]
mod tests {
    use headstart_kernels::element::DType;

    use super::*;
    use crate::net::model::Model;

    #[test]
    fn a_cut_runs_between_groups() {
        let model = Model::imagenet("resnet50").unwrap();
        let (graph, outputs) = (&model.net.graph, vec![model.output()]);
        let request =
            Request { batch: 1, sources: vec![0], outputs, trainable: None, dtype: DType::F32 };
        let cut = |names: &[&str]| {
            let nodes: Vec<NodeId> = names.iter().map(|n| graph.find(n).unwrap()).collect();
            is_cut(graph, &request, &nodes).unwrap()
        };
        assert!(cut(&["avg_pool"]) && cut(&["conv4_block6_out"]) && cut(&["conv2_block1_out"]));
        // Keras's layer 100, before a batch norm that is folded.
        assert!(!cut(&["conv4_block2_3_conv", "conv4_block1_out"]));
        // Beside the shortcut, and before the residual is added.
        assert!(!cut(&["conv4_block2_2_relu"]) && !cut(&["conv4_block2_3_bn", "conv4_block1_out"]));
        assert!(cut(&["conv4_block2_2_relu", "conv4_block1_out"]));
    }
}
