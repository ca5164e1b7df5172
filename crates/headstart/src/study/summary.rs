//! The layers of a net as Keras lists them, with parameter counts.
//!
//! ```
//! use headstart::resnet::{Net, Recipe, Surroundings};
//! use headstart::summary::Summary;
//!
//! let recipe = Recipe::named("resnet20")?;
//! let around =
//!     Surroundings { height: 32, width: 32, preprocess: None, upsample: 1, classes: Some(10) };
//! let net = Net::new(&recipe, &around)?;
//! let summary = Summary::new(&net, &net.head_only());
//! assert_eq!(summary.trainable(), 64 * 10 + 10);
//! println!("{summary}");
//! # Ok::<(), headstart::Error>(())
//! ```

use std::fmt;

use serde::Serialize;

use crate::net::graph::{NodeId, Op};
use crate::net::parameters::{Role, layer_shapes};
use crate::net::resnet::Net;
pub use crate::numbers::grouped;

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Keras's index in the net without its head; none for layers before and after it.
    pub index: Option<usize>,
    /// Layer name.
    pub name: String,
    /// Keras's class name.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Shape for one image, channels last.
    pub output_shape: Vec<usize>,
    /// Number of parameters, moving statistics included.
    pub params: usize,
    /// Whether it is trained.
    pub trainable: bool,
    /// Names of the layers it reads.
    #[serde(skip)]
    pub inputs: Vec<String>,
    /// Non-trainable parameters.
    #[serde(skip)]
    statistics: usize,
}

/// All layers and their totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The layers in order. A dense layer and its softmax are one row, as in Keras.
    pub rows: Vec<Row>,
}

impl Summary {
    /// Lists `net`; `trainable` has a flag for each of its nodes.
    pub fn new(net: &Net, trainable: &[bool]) -> Summary {
        let graph = &net.graph;
        let rows =
            (0..graph.nodes.len()).filter(|&id| graph.nodes[id].op != Op::Softmax).map(|id| {
                let node = &graph.nodes[id];
                let count = |of: fn(Role) -> bool| {
                    let shapes = layer_shapes(graph, id).into_iter().filter(|(role, _)| of(*role));
                    shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
                };
                Row {
                    index: net.base_index[id],
                    name: node.name.clone(),
                    kind: class_name(node.op),
                    output_shape: shape(net, id),
                    params: count(|_| true),
                    trainable: trainable.get(id).copied().unwrap_or(false),
                    inputs: node.inputs.iter().map(|&i| graph.nodes[i].name.clone()).collect(),
                    statistics: count(|role| !role.has_gradient()),
                }
            });
        Summary { rows: rows.collect() }
    }

    /// Number of parameters, moving statistics included.
    pub fn total(&self) -> usize {
        self.rows.iter().map(|r| r.params).sum()
    }

    /// Trainable parameters: Keras's "trainable params".
    pub fn trainable(&self) -> usize {
        self.rows.iter().filter(|r| r.trainable).map(|r| r.params - r.statistics).sum()
    }

    /// Layers that are the net's own, without its head.
    pub fn base_layers(&self) -> usize {
        self.rows.iter().filter(|r| r.index.is_some()).count()
    }
}

fn shape(net: &Net, id: NodeId) -> Vec<usize> {
    match net.graph.nodes[id].shape {
        crate::net::graph::Shape::Map { height, width, channels } => vec![height, width, channels],
        crate::net::graph::Shape::Vector(n) => vec![n],
    }
}

/// Keras's class for an operation.
fn class_name(op: Op) -> &'static str {
    match op {
        Op::Input(_) => "InputLayer",
        Op::Normalize(_) => "Normalization",
        Op::Upsample { .. } => "UpSampling2D",
        Op::ZeroPadding { .. } => "ZeroPadding2D",
        Op::Conv2D { .. } => "Conv2D",
        Op::BatchNorm { .. } => "BatchNormalization",
        Op::Relu | Op::Softmax => "Activation",
        Op::MaxPool { .. } => "MaxPooling2D",
        Op::Add => "Add",
        Op::GlobalAveragePool => "GlobalAveragePooling2D",
        Op::Dropout { .. } => "Dropout",
        Op::Dense { .. } => "Dense",
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<[String; 6]> = self
            .rows
            .iter()
            .map(|r| {
                let shape: Vec<String> = r.output_shape.iter().map(usize::to_string).collect();
                [
                    r.index.map_or_else(|| "-".into(), |i| i.to_string()),
                    r.name.clone(),
                    r.kind.to_string(),
                    shape.join("x"),
                    grouped(r.params),
                    if r.trainable { "yes" } else { "no" }.to_string(),
                ]
            })
            .collect();
        let head = ["index", "name", "type", "output shape", "params", "trainable"];
        let width: [usize; 6] = std::array::from_fn(|c| {
            text.iter().map(|row| row[c].len()).chain([head[c].len()]).max().unwrap_or(0)
        });
        let mut line = |row: [&str; 6]| {
            writeln!(
                f,
                "{:>w0$}  {:<w1$}  {:<w2$}  {:>w3$}  {:>w4$}  {}",
                row[0],
                row[1],
                row[2],
                row[3],
                row[4],
                row[5],
                w0 = width[0],
                w1 = width[1],
                w2 = width[2],
                w3 = width[3],
                w4 = width[4],
            )
        };
        line(head)?;
        for row in &text {
            line(std::array::from_fn(|c| row[c].as_str()))?;
        }
        let (total, trainable) = (self.total(), self.trainable());
        writeln!(f, "\nlayers without the head: {}", self.base_layers())?;
        writeln!(f, "total params: {}", grouped(total))?;
        writeln!(f, "trainable params: {}", grouped(trainable))?;
        write!(f, "non-trainable params: {}", grouped(total - trainable))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::grouped(n), text);
        }
    }
}
