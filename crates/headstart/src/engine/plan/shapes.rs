//! What a group's kernels compute on, for a whole batch; sizes that no kernel takes are found here.

use headstart_kernels::conv::{ConvShape, ConvSizes};
use headstart_kernels::elementwise::{FrameShape, FrameSizes};
use headstart_kernels::pool::{PoolShape, PoolSizes};
use headstart_kernels::shape::SizeError;

use super::{Group, Main, Pool};
use crate::error::{Error, Result};
use crate::net::graph::{Graph, Op, Shape};

/// The shapes of a group. Those of a smaller batch are their `first` images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shapes {
    /// Its convolution or dense layer.
    pub conv: Option<ConvShape>,
    /// The max pooling that it is or ends in.
    pub pool: Option<PoolShape>,
    /// Its frame.
    pub frame: Option<FrameShape>,
}

impl Shapes {
    /// The shapes of `g` for `batch` images.
    ///
    /// # Errors
    /// If a size is 0 or a length cannot be addressed.
    pub(super) fn new(graph: &Graph, g: &Group, batch: usize) -> Result<Shapes> {
        let checked = |e: SizeError| {
            let what = format!("{} of {}", e.size, graph.nodes[g.output].name);
            Error::invalid(what, e.expected, e.found, "take smaller images or batches")
        };
        let input = graph.nodes[g.inputs[0]].shape;
        let mut shapes = Shapes::default();
        match g.main {
            Main::Conv { node, upsample, padding: extra, .. } => {
                let shape = match (graph.nodes[node].op, input) {
                    (
                        Op::Conv2D { filters, kernel, stride, padding, .. },
                        Shape::Map { height, width, channels },
                    ) => ConvShape::new(ConvSizes {
                        batch,
                        height,
                        width,
                        in_channels: channels,
                        out_channels: filters,
                        kernel,
                        stride,
                        padding: padding + extra,
                        upsample,
                    }),
                    _ => {
                        let outputs = graph.nodes[node].shape.elements();
                        ConvShape::dense(batch, input.elements(), outputs)
                    }
                };
                shapes.conv = Some(shape.map_err(checked)?);
            }
            Main::Frame { factor, padding, .. } => {
                let ((height, width), channels) = (input.spatial(), input.channels());
                let sizes = FrameSizes { batch, height, width, channels, factor, padding };
                shapes.frame = Some(FrameShape::new(sizes).map_err(checked)?);
            }
            _ => {}
        }
        let (Pool { node, padding }, pooled) = match (g.main, g.pool) {
            (Main::MaxPool(pool), _) => (pool, g.inputs[0]),
            (Main::Conv { node, .. } | Main::Norm { node, .. }, Some(pool)) => (pool, node),
            _ => return Ok(shapes),
        };
        if let Op::MaxPool { pool, stride } = graph.nodes[node].op {
            let shape = graph.nodes[pooled].shape;
            let ((height, width), channels) = (shape.spatial(), shape.channels());
            let sizes = PoolSizes { batch, height, width, channels, pool, stride, padding };
            shapes.pool = Some(PoolShape::new(sizes).map_err(checked)?);
        }
        Ok(shapes)
    }
}
