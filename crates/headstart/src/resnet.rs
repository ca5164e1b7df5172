//! The residual nets, every one from a row of a table.
//!
//! Keras v1 nets follow `keras.applications.resnet` (He et al. 2015, with the stride on a block's
//! first 1x1 convolution), CIFAR nets He et al. 2015 section 4.2 with projection shortcuts.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Op, Shape};
use crate::nearest::did_you_mean;
use crate::preprocess::Preprocess;

/// The first layers of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stem {
    /// 7x7 convolution of stride 2, then 3x3 max pooling of stride 2.
    Imagenet,
    /// 3x3 convolution.
    Cifar,
}

/// What a stage repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// 1x1 (stride here), 3x3, 1x1 to four times the filters.
    Bottleneck,
    /// Two 3x3 (stride on the first).
    Basic,
}

/// Blocks of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Filters of the inner convolutions.
    pub filters: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Stride of the first block.
    pub stride: usize,
}

/// A net without its head.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What the command line and model files call it.
    pub name: String,
    /// The first layers.
    pub stem: Stem,
    /// Filters of the stem.
    pub stem_filters: usize,
    /// What the stages repeat.
    pub block: Block,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Whether convolutions have biases.
    pub bias: bool,
    /// Added to the variance in batch norm.
    pub epsilon: f32,
    /// Share of the old moving average that batch norm keeps.
    pub momentum: f32,
    /// The preprocessing its published weights expect.
    pub preprocess: Preprocess,
    /// Height and width of the images its published weights were trained on.
    pub image_size: usize,
}

/// Name, family and blocks a stage of every net.
const TABLE: [(&str, Family, &[usize]); 7] = [
    ("resnet50", Family::Keras, &[3, 4, 6, 3]),
    ("resnet101", Family::Keras, &[3, 4, 23, 3]),
    ("resnet152", Family::Keras, &[3, 8, 36, 3]),
    ("resnet20", Family::Cifar, &[3, 3, 3]),
    ("resnet32", Family::Cifar, &[5, 5, 5]),
    ("resnet44", Family::Cifar, &[7, 7, 7]),
    ("resnet56", Family::Cifar, &[9, 9, 9]),
];

#[derive(Clone, Copy)]
enum Family {
    Keras,
    Cifar,
}

impl Recipe {
    /// The net of that name.
    ///
    /// # Errors
    /// If there is none; the hint offers near names.
    pub fn named(name: &str) -> Result<Recipe> {
        let Some(&(name, family, blocks)) = TABLE.iter().find(|row| row.0 == name) else {
            let known: Vec<&str> = Recipe::names().collect();
            return Err(Error::invalid(
                "model",
                format!("one of {}", known.join(", ")),
                name,
                did_you_mean(name, known.iter().copied()),
            ));
        };
        let (stem_filters, first) = match family {
            Family::Keras => (64, 64),
            Family::Cifar => (16, 16),
        };
        let stages = blocks
            .iter()
            .enumerate()
            .map(|(i, &blocks)| Stage {
                filters: first << i,
                blocks,
                stride: if i == 0 { 1 } else { 2 },
            })
            .collect();
        let name = name.to_string();
        Ok(match family {
            Family::Keras => Recipe {
                name,
                stem: Stem::Imagenet,
                stem_filters,
                block: Block::Bottleneck,
                stages,
                bias: true,
                epsilon: 1.001e-5,
                momentum: 0.99,
                preprocess: Preprocess::Caffe,
                image_size: 224,
            },
            Family::Cifar => Recipe {
                name,
                stem: Stem::Cifar,
                stem_filters,
                block: Block::Basic,
                stages,
                bias: false,
                epsilon: 1e-5,
                momentum: 0.9,
                preprocess: Preprocess::Torch,
                image_size: 32,
            },
        })
    }

    /// Names of all nets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.0)
    }

    /// How many times smaller than the image the last feature map is, in each direction.
    pub fn total_stride(&self) -> usize {
        let stem = match self.stem {
            Stem::Imagenet => 4,
            Stem::Cifar => 1,
        };
        self.stages.iter().fold(stem, |product, stage| product * stage.stride)
    }
}

/// What comes before the net and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// Height of the images given to the graph.
    pub height: usize,
    /// Width of the images given to the graph.
    pub width: usize,
    /// Pixel normalisation, or none when images come normalised.
    pub preprocess: Option<Preprocess>,
    /// Nearest-neighbour enlargement.
    pub upsample: usize,
    /// Classes of the head (global average pooling, dense, softmax), or `None` for no head.
    pub classes: Option<usize>,
}

/// A graph that knows which of its nodes are the net's own layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    /// All layers, from the image to the probabilities.
    pub graph: Arc<Graph>,
    /// Keras's index of each node, for nodes that are layers of the net without its head.
    pub base_index: Vec<Option<usize>>,
}

impl Net {
    /// Builds `recipe` with what surrounds it.
    ///
    /// # Errors
    /// If the image is too small for the net, or the surroundings have a zero in them.
    pub fn new(recipe: &Recipe, around: &Surroundings) -> Result<Net> {
        let mut b = Builder { graph: Graph::default(), recipe };
        let channels = 3;
        let image = Shape::Map { height: around.height, width: around.width, channels };
        let mut x = b.graph.push("input_layer", Op::Input(image), &[])?;
        if let Some(preprocess) = around.preprocess {
            x = b.graph.push("normalize", Op::Normalize(preprocess), &[x])?;
        }
        if around.upsample != 1 {
            let factor = around.upsample;
            x = b.graph.push("up_sampling2d", Op::Upsample { factor }, &[x])?;
        }
        let before = x;
        x = b.stem(x)?;
        for (i, stage) in recipe.stages.iter().enumerate() {
            for block in 1..=stage.blocks {
                let stride = if block == 1 { stage.stride } else { 1 };
                let name = format!("conv{}_block{block}", i + 2);
                x = b.block(&name, x, stage.filters, stride, block == 1)?;
            }
        }
        let last = x;
        if let Some(units) = around.classes {
            let pooled = b.graph.push("avg_pool", Op::GlobalAveragePool, &[x])?;
            let logits = b.graph.push("predictions", Op::Dense { units }, &[pooled])?;
            b.graph.push("predictions_softmax", Op::Softmax, &[logits])?;
        }
        let base_index = (0..b.graph.nodes.len())
            .map(|id| match id {
                0 => Some(0),
                _ if id <= before || id > last => None,
                _ => Some(id - before),
            })
            .collect();
        Ok(Net { graph: Arc::new(b.graph), base_index })
    }

    /// Number of layers without the head, in Keras's count.
    pub fn base_layers(&self) -> usize {
        self.base_index.iter().flatten().count()
    }

    /// The last layer before the head.
    pub fn base_output(&self) -> NodeId {
        self.base_index.iter().rposition(Option::is_some).unwrap_or(0)
    }

    /// Which nodes are trained when the net's layers before `from` are frozen; the head always is.
    pub fn trainable(&self, from: FreezePoint) -> Vec<bool> {
        let last = self.base_output();
        self.base_index
            .iter()
            .enumerate()
            .map(|(id, index)| id > last || index.is_some_and(|i| i >= from.0))
            .collect()
    }

    /// Which nodes are trained when all of the net but its head is frozen.
    pub fn head_only(&self) -> Vec<bool> {
        self.trainable(FreezePoint(usize::MAX))
    }

    /// Reads a freeze point: an index in Keras's numbering or a layer's name.
    ///
    /// # Errors
    /// If there is no such layer; the hint offers the nearest names.
    pub fn freeze_point(&self, text: &str) -> Result<FreezePoint> {
        let count = self.base_layers();
        let names = || {
            let nodes = self.graph.nodes.iter().zip(&self.base_index);
            nodes.filter_map(|(node, index)| index.map(|i| (i, node.name.as_str())))
        };
        let found = match text.parse::<usize>() {
            Ok(index) => (index < count).then_some(index),
            Err(_) => names().find(|(_, name)| *name == text).map(|(i, _)| i),
        };
        found.map(FreezePoint).ok_or_else(|| {
            let expected = format!("a layer name or an index from 0 to {}", count - 1);
            let near = did_you_mean(text, names().map(|(_, name)| name));
            let hint =
                if near.is_empty() { "`headstart summary` lists the layers".into() } else { near };
            Error::invalid("freeze point", expected, text, hint)
        })
    }

    /// Name of the layer from which a freeze point trains.
    pub fn layer_name(&self, point: FreezePoint) -> Option<&str> {
        let id = self.base_index.iter().position(|&i| i == Some(point.0))?;
        Some(&self.graph.nodes[id].name)
    }
}

/// The first layer that is trained, in Keras's numbering of the net without its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreezePoint(
    /// The index.
    pub usize,
);

struct Builder<'a> {
    graph: Graph,
    recipe: &'a Recipe,
}

impl Builder<'_> {
    fn conv(
        &mut self,
        name: &str,
        x: NodeId,
        filters: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<NodeId> {
        // The ImageNet stem pads by a layer of its own.
        let padding = if kernel == 7 { 0 } else { kernel / 2 };
        let op = Op::Conv2D { filters, kernel, stride, padding, bias: self.recipe.bias };
        self.graph.push(format!("{name}_conv"), op, &[x])
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let Recipe { epsilon, momentum, .. } = *self.recipe;
        self.graph.push(format!("{name}_bn"), Op::BatchNorm { epsilon, momentum }, &[x])
    }

    fn relu(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.graph.push(name, Op::Relu, &[x])
    }

    fn stem(&mut self, x: NodeId) -> Result<NodeId> {
        let (filters, stem) = (self.recipe.stem_filters, self.recipe.stem);
        let x = match stem {
            Stem::Imagenet => {
                let x = self.graph.push("conv1_pad", Op::ZeroPadding { padding: 3 }, &[x])?;
                self.conv("conv1", x, filters, 7, 2)?
            }
            Stem::Cifar => self.conv("conv1", x, filters, 3, 1)?,
        };
        let x = self.norm("conv1", x)?;
        let x = self.relu("conv1_relu", x)?;
        if stem == Stem::Cifar {
            return Ok(x);
        }
        let x = self.graph.push("pool1_pad", Op::ZeroPadding { padding: 1 }, &[x])?;
        self.graph.push("pool1_pool", Op::MaxPool { pool: 3, stride: 2 }, &[x])
    }

    /// One block. Layers of equal depth alternate between shortcut and main path, as Keras, which
    /// sorts by depth, lists them.
    fn block(
        &mut self,
        name: &str,
        x: NodeId,
        filters: usize,
        stride: usize,
        first: bool,
    ) -> Result<NodeId> {
        let (inner, out): (&[(usize, usize)], usize) = match self.recipe.block {
            Block::Bottleneck => (&[(1, 1), (3, 0)], 4 * filters),
            Block::Basic => (&[(3, 1)], filters),
        };
        let project = match self.recipe.block {
            Block::Bottleneck => first,
            Block::Basic => first && (stride > 1 || self.graph.nodes[x].shape.channels() != out),
        };
        let last_kernel = if self.recipe.block == Block::Basic { 3 } else { 1 };
        let mut y = x;
        for (i, &(kernel, strided)) in inner.iter().enumerate() {
            let part = format!("{name}_{}", i + 1);
            y = self.conv(&part, y, filters, kernel, if strided == 1 { stride } else { 1 })?;
            y = self.norm(&part, y)?;
            y = self.relu(&format!("{part}_relu"), y)?;
        }
        let part = format!("{name}_{}", inner.len() + 1);
        let shortcut = format!("{name}_0");
        let mut s = x;
        if project {
            s = self.conv(&shortcut, x, out, 1, stride)?;
        }
        y = self.conv(&part, y, out, last_kernel, 1)?;
        if project {
            s = self.norm(&shortcut, s)?;
        }
        y = self.norm(&part, y)?;
        let sum = self.graph.push(format!("{name}_add"), Op::Add, &[s, y])?;
        self.relu(&format!("{name}_out"), sum)
    }
}
