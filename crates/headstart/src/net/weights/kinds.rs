//! Names in Keras 3's files: a layer is named by its class and by how many of that class come before it among its
//! model's layers, whatever its own name is; a variable is named by its position.

use std::collections::HashMap;

use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::Role;

/// Counts layers by class.
#[derive(Default)]
pub(crate) struct Kinds(HashMap<&'static str, usize>);

impl Kinds {
    /// The next name of a class: `conv2d`, `conv2d_1`, ...
    pub fn next(&mut self, class: &'static str) -> String {
        let count = self.0.entry(class).or_default();
        *count += 1;
        match *count {
            1 => class.to_string(),
            n => format!("{class}_{}", n - 1),
        }
    }
}

/// Keras's class of an operation that has variables, in snake case.
pub(crate) fn class(op: Op) -> Option<&'static str> {
    match op {
        Op::Conv2D { .. } => Some("conv2d"),
        Op::BatchNorm { .. } => Some("batch_normalization"),
        Op::Dense { .. } => Some("dense"),
        _ => None,
    }
}

/// The variables of a class in the order in which Keras stores them.
pub(crate) fn roles(class: &str) -> &'static [Role] {
    match class {
        "conv2d" | "dense" => &[Role::Kernel, Role::Bias],
        "batch_normalization" => &[Role::Gamma, Role::Beta, Role::MovingMean, Role::MovingVariance],
        _ => &[],
    }
}

/// The name of every node that has variables.
pub(crate) fn names(graph: &Graph) -> HashMap<NodeId, String> {
    let mut kinds = Kinds::default();
    let nodes = graph.nodes.iter().enumerate();
    nodes.filter_map(|(id, node)| class(node.op).map(|c| (id, kinds.next(c)))).collect()
}
