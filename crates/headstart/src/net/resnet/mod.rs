//! The residual nets, every one from a row of a table.
//!
//! `table` says what a net is made of, `build` turns that into layers.
//!
//! ```
//! use headstart::resnet::{Net, Recipe, Surroundings};
//!
//! let recipe = Recipe::named("resnet50")?;
//! let around = Surroundings {
//!     height: 32,
//!     width: 32,
//!     preprocess: Some(recipe.preprocess),
//!     upsample: 7,
//!     classes: Some(10),
//! };
//! let net = Net::new(&recipe, &around)?;
//! assert_eq!(net.base_layers(), 175);
//! let from = net.freeze_point("conv5_block1_1_conv")?;
//! assert_eq!(net.layer_name(from), Some("conv5_block1_1_conv"));
//! assert!(net.freeze_point("conv5_blok1_1_conv").unwrap_err().hint().unwrap().contains("did you mean"));
//! # Ok::<(), headstart::Error>(())
//! ```

mod build;
mod table;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::net::graph::{Graph, Node, NodeId, Op, Shape};
use crate::net::preprocess::Preprocess;
use crate::range;
use crate::task::Task;

pub use table::{Activation, Block, Naming, Recipe, Stage, Stem, Stride};

/// What is before the net and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// Height of the images given to the graph.
    pub height: usize,
    /// Width of the images given to the graph.
    pub width: usize,
    /// Pixel normalisation, or none when images come normalised.
    pub preprocess: Option<Preprocess>,
    /// Nearest-neighbour upsampling factor.
    pub upsample: usize,
    /// Classes of the head (global average pooling, dense, softmax), or `None` for no head.
    pub classes: Option<usize>,
}

impl Surroundings {
    /// Fails on sizes that no net here has been made for: [`range::IMAGE_SIZE`] before upsampling, [`range::NET_SIZE`] after
    /// it, [`range::UPSAMPLE`] and [`range::CLASSES`].
    ///
    /// # Errors
    /// Names the size, its range and what was found.
    pub fn check(&self) -> Result<()> {
        let Surroundings { height, width, upsample, classes, .. } = *self;
        for side in [height, width] {
            range::IMAGE_SIZE.check(side as u64)?;
            range::UPSAMPLE.check(upsample as u64)?;
            range::NET_SIZE.check(side as u64 * upsample as u64)?;
        }
        classes.map_or(Ok(()), |classes| range::CLASSES.check(classes as u64))
    }
}

/// A graph, and which of its nodes are the net's own layers.
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
    /// If the image is too small for the net, or the surroundings are out of range, as [`Surroundings::check`] says.
    pub fn new(recipe: &Recipe, around: &Surroundings) -> Result<Net> {
        Net::for_task(recipe, around, Task::default())
    }

    /// The same with a head for `task`.
    ///
    /// # Errors
    /// As [`Net::new`].
    pub fn for_task(recipe: &Recipe, around: &Surroundings, task: Task) -> Result<Net> {
        around.check()?;
        let mut graph = Graph::default();
        let channels = 3;
        let image = Shape::Map { height: around.height, width: around.width, channels };
        let mut x = graph.push("input_layer", Op::Input(image), &[])?;
        if let Some(preprocess) = around.preprocess {
            x = graph.push("normalize", Op::Normalize(preprocess), &[x])?;
        }
        if around.upsample != 1 {
            let factor = around.upsample;
            x = graph.push("up_sampling2d", Op::Upsample { factor }, &[x])?;
        }
        let before = x;
        let last = build::append(recipe, &mut graph, x)?;
        if let Some(units) = around.classes {
            let [pool, dense] = recipe.naming.head();
            let pooled = graph.push(pool, Op::GlobalAveragePool, &[last])?;
            let logits = graph.push(dense, Op::Dense { units }, &[pooled])?;
            let activation = Op::of(task.activation());
            graph.push(format!("{dense}_{}", activation.suffix()), activation, &[logits])?;
        }
        let base_index = (0..graph.nodes.len())
            .map(|id| match id {
                0 => Some(0),
                _ if id <= before || id > last => None,
                _ => Some(id - before),
            })
            .collect();
        Ok(Net { graph: Arc::new(graph), base_index })
    }

    /// Puts dropout of that rate before the head's dense layer, or gives the one there that rate; the node that is
    /// put in, if any, moves the later ones by one.
    pub fn set_dropout(&mut self, rate: f32) -> Option<NodeId> {
        let graph = Arc::make_mut(&mut self.graph);
        let is_dense = |n: &Node| matches!(n.op, Op::Dense { .. });
        let dense = graph.nodes.iter().rposition(is_dense)?;
        let before = graph.nodes[dense].inputs[0];
        if let Op::Dropout { rate: own } = &mut graph.nodes[before].op {
            *own = rate;
            return None;
        }
        let shape = graph.nodes[before].shape;
        let (name, op) = ("dropout".to_string(), Op::Dropout { rate });
        graph.nodes.insert(dense, Node { name, op, inputs: vec![before], shape });
        for (id, node) in graph.nodes.iter_mut().enumerate().skip(dense + 1) {
            node.inputs.iter_mut().filter(|i| **i >= dense).for_each(|i| *i += 1);
            if id == dense + 1 {
                node.inputs = vec![dense];
            }
        }
        self.base_index.insert(dense, None);
        Some(dense)
    }

    /// The rate of the dropout before the head's dense layer, if there is one.
    pub fn dropout(&self) -> Option<f32> {
        self.graph.nodes.iter().find_map(|node| match node.op {
            Op::Dropout { rate } => Some(rate),
            _ => None,
        })
    }

    /// Number of layers without the head, in Keras's count.
    pub fn base_layers(&self) -> usize {
        self.base_index.iter().flatten().count()
    }

    /// The last layer before the head.
    pub fn base_output(&self) -> NodeId {
        self.base_index.iter().rposition(Option::is_some).unwrap_or(0)
    }

    /// The last node of each stage of `recipe`, of which this is a net; what follows the last stage (batch norm and ReLU,
    /// in v2) belongs to it.
    pub fn stages(&self, recipe: &Recipe) -> Vec<NodeId> {
        let names = recipe.stages.iter().enumerate().map(|(i, stage)| match recipe.naming {
            Naming::Keras => format!("conv{}_block{}_out", i + 2, stage.blocks),
            Naming::Torchvision => format!("layer{}.{}.out", i + 1, stage.blocks - 1),
        });
        let mut nodes: Vec<NodeId> = names.filter_map(|name| self.graph.find(&name)).collect();
        if let Some(last) = nodes.last_mut() {
            *last = self.base_output();
        }
        nodes
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

    /// Reads a freeze point: an index in Keras's numbering, a layer's name, or that of a stage or block
    /// (`conv5`, `conv5_block3`, `layer4`), which stands for its first layer.
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
            Err(_) => {
                let within = |name: &str| {
                    name.strip_prefix(text).is_some_and(|rest| rest.starts_with(['_', '.']))
                };
                let layer = names().find(|(_, name)| *name == text);
                layer.or_else(|| names().find(|(_, name)| within(name))).map(|(i, _)| i)
            }
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
