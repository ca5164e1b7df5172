//! The net as a flat list of nodes in Keras's layer order, with static NHWC shapes.
//!
//! ```
//! use headstart::graph::{Graph, Op, Shape};
//!
//! let mut graph = Graph::default();
//! let image = Shape::Map { height: 8, width: 8, channels: 3 };
//! let input = graph.push("input", Op::Input(image), &[])?;
//! let pooled = graph.push("pool", Op::GlobalAveragePool, &[input])?;
//! assert_eq!(graph.nodes[pooled].shape, Shape::Vector(3));
//! # Ok::<(), headstart::Error>(())
//! ```

use crate::error::{Error, Result};
use crate::net::preprocess::Preprocess;
use crate::task::Activation;

/// Index of a node in its [`Graph`].
pub type NodeId = usize;

/// Shape of one image's activation (the batch axis is left out).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A feature map, stored height x width x channels.
    Map {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Channels, innermost in memory.
        channels: usize,
    },
    /// A vector, as after global pooling or a dense layer.
    Vector(
        /// Number of elements.
        usize,
    ),
}

impl Shape {
    /// Elements per image; the largest number where they are more, which no node of a [`Graph`] has.
    pub fn elements(self) -> usize {
        match self {
            Shape::Map { height, width, channels } => {
                height.saturating_mul(width).saturating_mul(channels)
            }
            Shape::Vector(n) => n,
        }
    }

    /// Size of the innermost axis.
    pub fn channels(self) -> usize {
        match self {
            Shape::Map { channels, .. } => channels,
            Shape::Vector(n) => n,
        }
    }

    /// Height and width; 1 x 1 for a vector.
    pub fn spatial(self) -> (usize, usize) {
        match self {
            Shape::Map { height, width, .. } => (height, width),
            Shape::Vector(_) => (1, 1),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Map { height, width, channels } => write!(f, "{height}x{width}x{channels}"),
            Shape::Vector(n) => write!(f, "{n}"),
        }
    }
}

/// What a node computes from its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The images, RGB in 0..=255.
    Input(
        /// Shape of one image.
        Shape,
    ),
    /// Pixel normalisation.
    Normalize(
        /// The convention.
        Preprocess,
    ),
    /// Nearest-neighbour upsampling by an integer factor.
    Upsample {
        /// Factor in both directions.
        factor: usize,
    },
    /// Zeros around the map, the same number on each side.
    ZeroPadding {
        /// Rows and columns added on each side.
        padding: usize,
    },
    /// 2-D convolution, kernel stored height x width x in x out.
    Conv2D {
        /// Output channels.
        filters: usize,
        /// Kernel height and width.
        kernel: usize,
        /// Stride in both directions.
        stride: usize,
        /// Implicit zero padding on each side (Keras's "same" at stride 1 is `kernel / 2`).
        padding: usize,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Batch normalisation over all but the last axis.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Weight of the old moving average (momentum in Keras's sense).
        momentum: f32,
        /// Whether the moving variance follows the batch's unbiased variance, as in PyTorch.
        unbiased: bool,
    },
    /// `max(x, 0)`.
    Relu,
    /// Maximum over windows, no implicit padding.
    MaxPool {
        /// Window height and width.
        pool: usize,
        /// Stride in both directions.
        stride: usize,
    },
    /// Sum of two inputs.
    Add,
    /// Mean over height and width.
    GlobalAveragePool,
    /// Dropout: zeroes a fraction of the elements in training.
    Dropout {
        /// Fraction that is zeroed.
        rate: f32,
    },
    /// Fully connected layer, kernel stored in x out, with bias.
    Dense {
        /// Outputs.
        units: usize,
    },
    /// Softmax over the last axis.
    Softmax,
}

impl Op {
    /// The layer of an activation.
    pub fn of(activation: Activation) -> Op {
        match activation {
            Activation::Softmax => Op::Softmax,
        }
    }

    /// What the name of a dense layer's activation ends in.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Op::Softmax => "softmax",
            _ => "activation",
        }
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Keras's layer name.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Where its inputs come from, always earlier nodes.
    pub inputs: Vec<NodeId>,
    /// Shape of its output.
    pub shape: Shape,
}

/// Most elements of a node's output for one image, and of its weights: operations and bytes of a step are counted in 64 bits.
pub const MOST_ELEMENTS: u64 = 1 << 36;

/// A net as a list of nodes, each after its inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The nodes in Keras's layer order.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Appends a node and infers its shape.
    ///
    /// # Errors
    /// If an input does not exist, has an unsuitable shape, the name is taken, or the output or the weights would have more
    /// than [`MOST_ELEMENTS`] elements.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        if self.find(&name).is_some() {
            return Err(Error::invalid(
                format!("layer {name}"),
                "a new name",
                "one already in the net",
                "",
            ));
        }
        let mut shapes = Vec::with_capacity(inputs.len());
        for &id in inputs {
            let node = self.nodes.get(id).ok_or_else(|| {
                Error::invalid(
                    format!("input of layer {name}"),
                    format!("a node below {}", self.nodes.len()),
                    id.to_string(),
                    "",
                )
            })?;
            shapes.push(node.shape);
        }
        let fits = |shape: &Shape| match weights(op, &shapes) {
            Some(weights) => weights.max(shape.elements()) as u64 <= MOST_ELEMENTS,
            None => false,
        };
        let inferred = infer(op, &shapes);
        if let Some(shape) = inferred.filter(|shape| !fits(shape)) {
            let expected = format!("at most {MOST_ELEMENTS} elements of output and of weights");
            let found = format!("{shape} by {op:?}");
            let hint = "lower --image-size or --upsample";
            return Err(Error::invalid(format!("layer {name}"), expected, found, hint));
        }
        let shape = inferred.ok_or_else(|| {
            let found: Vec<String> = shapes.iter().map(Shape::to_string).collect();
            Error::invalid(
                format!("layer {name}"),
                format!("inputs that suit {op:?}"),
                if found.is_empty() { "none".into() } else { found.join(" and ") },
                "the image may be too small for this net",
            )
        })?;
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape });
        Ok(self.nodes.len() - 1)
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name)
    }

    /// The last node, which is the net's output.
    pub fn output(&self) -> NodeId {
        self.nodes.len().saturating_sub(1)
    }
}

/// Elements of the largest tensor of weights of `op`, if they can be counted.
fn weights(op: Op, inputs: &[Shape]) -> Option<usize> {
    let channels = inputs.first().map_or(1, |shape| shape.channels());
    match op {
        Op::Conv2D { filters, kernel, .. } => {
            kernel.checked_mul(kernel)?.checked_mul(channels)?.checked_mul(filters)
        }
        Op::Dense { units } => channels.checked_mul(units),
        _ => Some(channels),
    }
}

/// Output shape of `op`, or `None` if the inputs do not suit it or a side would be longer than a number can say.
fn infer(op: Op, inputs: &[Shape]) -> Option<Shape> {
    let padded = |size: usize, padding: usize| size.checked_add(padding.checked_mul(2)?);
    let window = |size: usize, kernel: usize, stride: usize, padding: usize| {
        let padded = padded(size, padding)?;
        (kernel > 0 && stride > 0 && padded >= kernel).then(|| (padded - kernel) / stride + 1)
    };
    match (op, inputs) {
        (Op::Input(shape), []) => (shape.elements() > 0).then_some(shape),
        (Op::Normalize(_), &[shape @ Shape::Map { channels: 3, .. }]) => Some(shape),
        (Op::Upsample { factor }, &[Shape::Map { height, width, channels }]) if factor > 0 => {
            let (height, width) = (height.checked_mul(factor)?, width.checked_mul(factor)?);
            Some(Shape::Map { height, width, channels })
        }
        (Op::ZeroPadding { padding }, &[Shape::Map { height, width, channels }]) => {
            let (height, width) = (padded(height, padding)?, padded(width, padding)?);
            Some(Shape::Map { height, width, channels })
        }
        (
            Op::Conv2D { filters, kernel, stride, padding, .. },
            &[Shape::Map { height, width, .. }],
        ) if filters > 0 => Some(Shape::Map {
            height: window(height, kernel, stride, padding)?,
            width: window(width, kernel, stride, padding)?,
            channels: filters,
        }),
        (Op::MaxPool { pool, stride }, &[Shape::Map { height, width, channels }]) => {
            Some(Shape::Map {
                height: window(height, pool, stride, 0)?,
                width: window(width, pool, stride, 0)?,
                channels,
            })
        }
        (Op::BatchNorm { .. } | Op::Relu | Op::Dropout { .. }, &[shape]) => Some(shape),
        (Op::Add, &[a, b]) => (a == b).then_some(a),
        (Op::GlobalAveragePool, &[Shape::Map { channels, .. }]) => Some(Shape::Vector(channels)),
        (Op::Dense { units }, &[Shape::Vector(_)]) => (units > 0).then_some(Shape::Vector(units)),
        (Op::Softmax, &[shape @ Shape::Vector(_)]) => Some(shape),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with `op` on a map of that height, 8 columns and 3 channels.
    fn refused(height: usize, op: Op) -> String {
        let mut graph = Graph::default();
        let image = Op::Input(Shape::Map { height, width: 8, channels: 3 });
        match graph.push("image", image, &[]).and_then(|id| graph.push("layer", op, &[id])) {
            Ok(id) => format!("taken as {}", graph.nodes[id].shape),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sizes_that_no_number_holds_are_errors() {
        let conv = |filters, kernel, padding| Op::Conv2D {
            filters,
            kernel,
            stride: 1,
            padding,
            bias: false,
        };
        for (height, op, part) in [
            (usize::MAX, Op::Relu, "at most"),
            (1 << 40, Op::Relu, "at most"),
            (8, Op::Upsample { factor: usize::MAX }, "suit"),
            (8, Op::Upsample { factor: 1 << 20 }, "at most"),
            (8, Op::ZeroPadding { padding: usize::MAX }, "suit"),
            (8, Op::ZeroPadding { padding: usize::MAX / 2 }, "suit"),
            (8, conv(usize::MAX, 1, 0), "at most"),
            (8, conv(1 << 33, 3, 1), "at most"),
            (8, conv(4, usize::MAX, 0), "suit"),
            (8, conv(4, 1 << 20, 1 << 20), "at most"),
            (8, conv(4, 3, usize::MAX), "suit"),
            (8, Op::MaxPool { pool: usize::MAX, stride: 1 }, "suit"),
            (8, Op::MaxPool { pool: 1, stride: 0 }, "suit"),
        ] {
            let error = refused(height, op);
            assert!(error.contains(part) && error.contains("expected"), "{height} {op:?}: {error}");
        }
        assert_eq!(refused(8, conv(4, 3, 1)), "taken as 8x8x4");
        let huge = Shape::Map { height: usize::MAX, width: 2, channels: 2 };
        assert_eq!(huge.elements(), usize::MAX);
    }

    #[test]
    fn dense_layers_of_too_many_weights_are_errors() {
        let mut graph = Graph::default();
        let id = graph.push("vector", Op::Input(Shape::Vector(2048)), &[]).unwrap();
        for units in [usize::MAX, 1 << 26] {
            let error = graph.push("dense", Op::Dense { units }, &[id]).unwrap_err().to_string();
            assert!(error.contains("at most 68719476736 elements"), "{error}");
        }
        assert!(graph.push("dense", Op::Dense { units: 1 << 20 }, &[id]).is_ok());
    }
}
