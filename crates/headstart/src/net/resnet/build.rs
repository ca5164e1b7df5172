//! From a recipe to layers, in the order in which Keras lists them.

use super::table::{Activation, Block, Naming, Recipe, Stage, Stem, Stride};
use crate::error::Result;
use crate::net::graph::{Graph, NodeId, Op};

/// Appends the net to a graph, reading `x`; returns its last layer.
pub(super) fn append(recipe: &Recipe, graph: &mut Graph, x: NodeId) -> Result<NodeId> {
    let mut b = Builder { graph, recipe, pools: 0 };
    let mut x = b.stem(x)?;
    for (i, stage) in recipe.stages.iter().enumerate() {
        for block in 1..=stage.blocks {
            x = match recipe.activation {
                Activation::After => b.block_v1(i, block, stage, x)?,
                Activation::Before => b.block_v2(i, block, stage, x)?,
            };
        }
    }
    if recipe.activation == Activation::Before {
        x = b.norm("post_bn".into(), x)?;
        x = b.push("post_relu".into(), Op::Relu, &[x])?;
    }
    Ok(x)
}

struct Builder<'a> {
    graph: &'a mut Graph,
    recipe: &'a Recipe,
    /// Shortcut poolings so far, which Keras numbers.
    pools: usize,
}

/// A convolution's sizes.
#[derive(Clone, Copy)]
struct Conv {
    filters: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    bias: bool,
}

impl Builder<'_> {
    fn push(&mut self, name: String, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        self.graph.push(name, op, inputs)
    }

    fn conv(&mut self, name: String, x: NodeId, c: Conv) -> Result<NodeId> {
        let Conv { filters, kernel, stride, padding, bias } = c;
        self.push(name, Op::Conv2D { filters, kernel, stride, padding, bias }, &[x])
    }

    fn norm(&mut self, name: String, x: NodeId) -> Result<NodeId> {
        let Recipe { epsilon, momentum, unbiased, .. } = *self.recipe;
        self.push(name, Op::BatchNorm { epsilon, momentum, unbiased }, &[x])
    }

    fn stem(&mut self, x: NodeId) -> Result<NodeId> {
        let (torch, after) = (
            self.recipe.naming == Naming::Torchvision,
            self.recipe.activation == Activation::After,
        );
        let name =
            |keras: &str, torchvision: &str| (if torch { torchvision } else { keras }).to_string();
        let imagenet = self.recipe.stem == Stem::Imagenet;
        let mut x = x;
        if imagenet {
            x = self.push(name("conv1_pad", "conv1.pad"), Op::ZeroPadding { padding: 3 }, &[x])?;
        }
        let sizes = Conv {
            filters: self.recipe.stem_filters,
            kernel: if imagenet { 7 } else { 3 },
            stride: if imagenet { 2 } else { 1 },
            padding: if imagenet { 0 } else { 1 },
            bias: self.recipe.bias || !after,
        };
        x = self.conv(name("conv1_conv", "conv1"), x, sizes)?;
        if after {
            x = self.norm(name("conv1_bn", "bn1"), x)?;
            x = self.push(name("conv1_relu", "relu"), Op::Relu, &[x])?;
        }
        if imagenet {
            let pad = name("pool1_pad", "maxpool.pad");
            x = self.push(pad, Op::ZeroPadding { padding: 1 }, &[x])?;
            let pool = Op::MaxPool { pool: 3, stride: 2 };
            x = self.push(name("pool1_pool", "maxpool"), pool, &[x])?;
        }
        Ok(x)
    }

    /// Name of a layer in a block: `part` 0 is the shortcut, 1 and up the main path.
    fn name(&self, stage: usize, block: usize, part: usize, layer: &str) -> String {
        match self.recipe.naming {
            Naming::Keras => format!("conv{}_block{block}_{part}_{layer}", stage + 2),
            Naming::Torchvision => {
                let block = format!("layer{}.{}", stage + 1, block - 1);
                match (part, layer) {
                    (0, "conv") => format!("{block}.downsample.0"),
                    (0, _) => format!("{block}.downsample.1"),
                    _ => format!("{block}.{layer}{part}"),
                }
            }
        }
    }

    /// Name of a layer that a block has once.
    fn block_name(&self, stage: usize, block: usize, layer: &str) -> String {
        match self.recipe.naming {
            Naming::Keras => format!("conv{}_block{block}_{layer}", stage + 2),
            Naming::Torchvision => format!("layer{}.{}.{layer}", stage + 1, block - 1),
        }
    }

    /// Convolution, batch norm, ReLU; and the sum before the last ReLU. Layers of equal depth alternate
    /// between shortcut and main path, as Keras, which sorts by depth, lists them.
    fn block_v1(&mut self, i: usize, block: usize, stage: &Stage, x: NodeId) -> Result<NodeId> {
        let stride = if block == 1 { stage.stride } else { 1 };
        let (kernels, out): (&[usize], usize) = match self.recipe.block {
            Block::Bottleneck => (&[1, 3, 1], 4 * stage.filters),
            Block::Basic => (&[3, 3], stage.filters),
        };
        let strided = match (self.recipe.block, self.recipe.stride) {
            (Block::Bottleneck, Stride::Middle) => 1,
            _ => 0,
        };
        // Keras projects at the start of every stage, the others where shapes differ.
        let differs = stride > 1 || self.graph.nodes[x].shape.channels() != out;
        let keras = self.recipe.naming == Naming::Keras && self.recipe.block == Block::Bottleneck;
        let project = block == 1 && (keras || differs);
        let bias = self.recipe.bias;
        let last = kernels.len();
        let (mut y, mut shortcut) = (x, x);
        for (at, &kernel) in kernels.iter().enumerate() {
            let part = at + 1;
            if part == last && project {
                let c = Conv { filters: out, kernel: 1, stride, padding: 0, bias };
                shortcut = self.conv(self.name(i, block, 0, "conv"), x, c)?;
            }
            let c = Conv {
                filters: if part == last { out } else { stage.filters },
                kernel,
                stride: if at == strided { stride } else { 1 },
                padding: kernel / 2,
                bias,
            };
            y = self.conv(self.name(i, block, part, "conv"), y, c)?;
            if part == last && project {
                shortcut = self.norm(self.name(i, block, 0, "bn"), shortcut)?;
            }
            y = self.norm(self.name(i, block, part, "bn"), y)?;
            if part < last {
                y = self.push(self.name(i, block, part, "relu"), Op::Relu, &[y])?;
            }
        }
        let sum = self.push(self.block_name(i, block, "add"), Op::Add, &[shortcut, y])?;
        self.push(self.block_name(i, block, "out"), Op::Relu, &[sum])
    }

    /// Batch norm, ReLU, convolution; the sum is the block's output.
    fn block_v2(&mut self, i: usize, block: usize, stage: &Stage, x: NodeId) -> Result<NodeId> {
        let stride = if block == stage.blocks { stage.stride } else { 1 };
        let (filters, out) = (stage.filters, 4 * stage.filters);
        let conv =
            |filters, kernel, stride, bias| Conv { filters, kernel, stride, padding: 0, bias };
        let ready = self.norm(self.block_name(i, block, "preact_bn"), x)?;
        let ready = self.push(self.block_name(i, block, "preact_relu"), Op::Relu, &[ready])?;
        let mut y = ready;
        for (part, kernel) in [(1, 1), (2, 3)] {
            if kernel == 3 {
                let pad = Op::ZeroPadding { padding: 1 };
                y = self.push(self.name(i, block, part, "pad"), pad, &[y])?;
            }
            let stride = if kernel == 3 { stride } else { 1 };
            let sizes = conv(filters, kernel, stride, false);
            y = self.conv(self.name(i, block, part, "conv"), y, sizes)?;
            y = self.norm(self.name(i, block, part, "bn"), y)?;
            y = self.push(self.name(i, block, part, "relu"), Op::Relu, &[y])?;
        }
        let shortcut = if block == 1 {
            self.conv(self.name(i, block, 0, "conv"), ready, conv(out, 1, stride, true))?
        } else if stride > 1 {
            let number = if self.pools == 0 { String::new() } else { format!("_{}", self.pools) };
            self.pools += 1;
            let pool = Op::MaxPool { pool: 1, stride };
            self.push(format!("max_pooling2d{number}"), pool, &[x])?
        } else {
            x
        };
        y = self.conv(self.name(i, block, 3, "conv"), y, conv(out, 1, 1, true))?;
        self.push(self.block_name(i, block, "out"), Op::Add, &[shortcut, y])
    }
}
