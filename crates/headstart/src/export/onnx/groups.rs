//! Groups that run as one pass, as nodes of ONNX.

use headstart_kernels::element::DType;

use crate::engine::plan::{Group, Plan, Request};
use crate::error::Result;
use crate::net::graph::{NodeId, Op, Shape};
use crate::net::model::Model;

/// What runs as one pass, in order; `whole` names nodes that must be values of their own.
pub fn groups(model: &Model, whole: &[NodeId]) -> Result<Vec<Group>> {
    let mut outputs = whole.to_vec();
    outputs.push(model.output());
    // The upsampled image, with zeros around it, is a value of its own.
    let nodes = &model.net.graph.nodes;
    let enlarges = |id: NodeId| matches!(nodes[id].op, Op::Upsample { .. });
    outputs.extend((0..nodes.len()).filter(|&id| match nodes[id].op {
        Op::ZeroPadding { .. } => enlarges(nodes[id].inputs[0]),
        _ => enlarges(id) && !nodes.iter().any(|n| n.inputs == [id] && is_padding(n.op)),
    }));
    let request =
        Request { batch: 1, sources: vec![0], outputs, trainable: None, dtype: DType::F32 };
    Ok(Plan::new(&model.net.graph, request)?.groups)
}

fn is_padding(op: Op) -> bool {
    matches!(op, Op::ZeroPadding { .. })
}

/// Whether a node's value is a feature map.
pub fn is_map(model: &Model, node: NodeId) -> bool {
    matches!(model.net.graph.nodes[node].shape, Shape::Map { .. })
}
