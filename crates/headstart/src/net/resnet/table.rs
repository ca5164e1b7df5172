//! The structure of every net.
//!
//! Keras v1 nets follow `keras.applications.resnet` (He et al. 2015), v2 nets
//! `keras.applications.resnet_v2` (He et al. 2016), torchvision nets `torchvision.models.resnet` ("v1.5", with
//! the stride on the 3x3), CIFAR nets He et al. 2015 section 4.2 with projection shortcuts.

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::net::init::ConvInit;
use crate::net::preprocess::Preprocess;

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
    /// 1x1, 3x3, 1x1 to four times the filters.
    Bottleneck,
    /// Two 3x3.
    Basic,
}

/// Where batch norm and ReLU stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// After each convolution, the last ReLU after the sum (v1).
    After,
    /// Before each convolution; a stage strides in its last block (v2).
    Before,
}

/// Which convolution of a bottleneck strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// The first 1x1.
    First,
    /// The 3x3.
    Middle,
}

/// Whose names the layers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `conv2_block1_1_conv`
    Keras,
    /// `layer1.0.conv1`
    Torchvision,
}

impl Naming {
    /// Names of the head's pooling and dense layer.
    pub fn head(self) -> [&'static str; 2] {
        match self {
            Naming::Keras => ["avg_pool", "predictions"],
            Naming::Torchvision => ["avgpool", "fc"],
        }
    }
}

/// Blocks of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Filters of the inner convolutions.
    pub filters: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Stride of the block that strides.
    pub stride: usize,
}

/// A net without its head.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Its name on the command line and in model files.
    pub name: String,
    /// Whose names its layers have.
    pub naming: Naming,
    /// The first layers.
    pub stem: Stem,
    /// Filters of the stem.
    pub stem_filters: usize,
    /// What the stages repeat.
    pub block: Block,
    /// Where batch norm and ReLU stand.
    pub activation: Activation,
    /// Which convolution strides.
    pub stride: Stride,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Whether convolutions that a batch norm follows have biases.
    pub bias: bool,
    /// Added to the variance in batch norm.
    pub epsilon: f32,
    /// Batch norm's momentum: weight of the old moving average.
    pub momentum: f32,
    /// Whether the moving variance follows the unbiased estimate, as PyTorch's.
    pub unbiased: bool,
    /// The preprocessing its published weights expect.
    pub preprocess: Preprocess,
    /// Initialisation of its convolutions' kernels.
    pub init: ConvInit,
    /// Height and width of the images its published weights were trained on.
    pub image_size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    KerasV1,
    KerasV2,
    Torchvision,
    Cifar,
}

/// Name, family, block and blocks a stage of every net.
const TABLE: [(&str, Family, Block, &[usize]); 15] = [
    ("resnet50", Family::KerasV1, Block::Bottleneck, &[3, 4, 6, 3]),
    ("resnet101", Family::KerasV1, Block::Bottleneck, &[3, 4, 23, 3]),
    ("resnet152", Family::KerasV1, Block::Bottleneck, &[3, 8, 36, 3]),
    ("resnet50v2", Family::KerasV2, Block::Bottleneck, &[3, 4, 6, 3]),
    ("resnet101v2", Family::KerasV2, Block::Bottleneck, &[3, 4, 23, 3]),
    ("resnet152v2", Family::KerasV2, Block::Bottleneck, &[3, 8, 36, 3]),
    ("torchvision-resnet18", Family::Torchvision, Block::Basic, &[2, 2, 2, 2]),
    ("torchvision-resnet34", Family::Torchvision, Block::Basic, &[3, 4, 6, 3]),
    ("torchvision-resnet50", Family::Torchvision, Block::Bottleneck, &[3, 4, 6, 3]),
    ("torchvision-resnet101", Family::Torchvision, Block::Bottleneck, &[3, 4, 23, 3]),
    ("torchvision-resnet152", Family::Torchvision, Block::Bottleneck, &[3, 8, 36, 3]),
    ("resnet20", Family::Cifar, Block::Basic, &[3, 3, 3]),
    ("resnet32", Family::Cifar, Block::Basic, &[5, 5, 5]),
    ("resnet44", Family::Cifar, Block::Basic, &[7, 7, 7]),
    ("resnet56", Family::Cifar, Block::Basic, &[9, 9, 9]),
];

impl Recipe {
    /// What a stage is called, from 1: "conv2" in Keras's nets, "layer1" in torchvision's.
    pub fn stage(&self, number: usize) -> String {
        match self.naming {
            Naming::Keras => format!("conv{}", number + 1),
            Naming::Torchvision => format!("layer{number}"),
        }
    }

    /// The net of that name.
    ///
    /// # Errors
    /// If there is none; the hint offers near names.
    pub fn named(name: &str) -> Result<Recipe> {
        let Some(&(name, family, block, blocks)) = TABLE.iter().find(|row| row.0 == name) else {
            let known: Vec<&str> = Recipe::names().collect();
            return Err(Error::invalid(
                "model",
                format!("one of {}", known.join(", ")),
                name,
                did_you_mean(name, known.iter().copied()),
            ));
        };
        let cifar = family == Family::Cifar;
        let first = if cifar { 16 } else { 64 };
        let last = blocks.len() - 1;
        let stages = blocks.iter().enumerate().map(|(i, &blocks)| {
            // v2 strides at a stage's end, and so not in the last stage but in the first.
            let still = if family == Family::KerasV2 { last } else { 0 };
            Stage { filters: first << i, blocks, stride: if i == still { 1 } else { 2 } }
        });
        let torch = family == Family::Torchvision;
        Ok(Recipe {
            name: name.to_string(),
            naming: if torch { Naming::Torchvision } else { Naming::Keras },
            stem: if cifar { Stem::Cifar } else { Stem::Imagenet },
            stem_filters: first,
            block,
            activation: if family == Family::KerasV2 {
                Activation::Before
            } else {
                Activation::After
            },
            stride: if family == Family::KerasV1 { Stride::First } else { Stride::Middle },
            stages: stages.collect(),
            bias: family == Family::KerasV1,
            epsilon: if torch || cifar { 1e-5 } else { 1.001e-5 },
            momentum: if torch || cifar { 0.9 } else { 0.99 },
            unbiased: torch,
            preprocess: match family {
                Family::KerasV1 => Preprocess::Caffe,
                Family::KerasV2 => Preprocess::Tf,
                Family::Torchvision | Family::Cifar => Preprocess::Torch,
            },
            init: if torch || cifar { ConvInit::HeNormal } else { ConvInit::GlorotUniform },
            image_size: if cifar { 32 } else { 224 },
        })
    }

    /// Names of all nets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.0)
    }
}
