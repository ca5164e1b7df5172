//! The frozen prefix: the nodes that no trainable node precedes, whose values are the same in every epoch.

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
