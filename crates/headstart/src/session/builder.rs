//! Building a model step by step: a net, its weights, how images enter.
//!
//! ```
//! use headstart::{Dataset, Model};
//!
//! // Keras: ResNet20(weights="cifar10", include_top=False), pooling, Dense(10, "softmax").
//! let data = Dataset::load("sample")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! assert_eq!(model.card.classes.len(), 10);
//! # Ok::<(), headstart::Error>(())
//! ```

use crate::data::dataset::{DataOptions, Dataset};
use crate::data::image::{Decode, Fit, Interpolation};
use crate::error::Result;
use crate::net::init::HeadInit;
use crate::net::model::Model;
use crate::net::preprocess::Preprocess;
use crate::session::config::TrainConfig;
use crate::session::job::{build_model, open};

/// Builds a [`Model`]; from [`Model::builder`].
#[derive(Clone, Debug, PartialEq)]
pub struct ModelBuilder {
    config: TrainConfig,
}

impl Model {
    /// Begins a model over the net of that name (`headstart weights list` and [`crate::net::resnet::Recipe::names`] have them), with
    /// ImageNet's weights unless [`ModelBuilder::weights`] says otherwise.
    pub fn builder(net: impl Into<String>) -> ModelBuilder {
        ModelBuilder { config: TrainConfig { model: net.into(), ..TrainConfig::default() } }
    }
}

impl ModelBuilder {
    /// The weights to start from: `imagenet` (torchvision's nets have `imagenet-v1` and `imagenet-v2` too), which is
    /// downloaded once, `cifar10` (inside the library, for `resnet20`), the path of a weight file, or `none`.
    pub fn weights(mut self, weights: impl Into<String>) -> ModelBuilder {
        self.config.weights = weights.into();
        self
    }

    /// Upsamples images of one size by a whole factor inside the net, by nearest neighbour, as Keras's
    /// `UpSampling2D` does. Without this and [`ModelBuilder::image_size`], small square images of one size whose side
    /// divides the one the net was trained on are upsampled to it, and others are resized to it.
    pub fn upsampling(mut self, factor: usize) -> ModelBuilder {
        self.config.upsample = Some(factor);
        self
    }

    /// Resizes images to that height and width, in pixels, before they enter the net.
    pub fn image_size(mut self, pixels: usize) -> ModelBuilder {
        self.config.image_size = Some(pixels);
        self
    }

    /// How images are resized; bilinear by default.
    pub fn interpolation(mut self, interpolation: Interpolation) -> ModelBuilder {
        self.config.interpolation = Some(interpolation);
        self
    }

    /// What becomes of images of other proportions; they are stretched by default.
    pub fn fit(mut self, fit: Fit) -> ModelBuilder {
        (self.config.fit, self.config.crop_share) = fit.parts();
        self
    }

    /// How JPEGs are decoded; large ones reduced by default.
    pub fn decode(mut self, decode: Decode) -> ModelBuilder {
        self.config.decode = decode;
        self
    }

    /// Pixel normalisation; what the weights expect by default.
    pub fn preprocess(mut self, preprocess: Preprocess) -> ModelBuilder {
        self.config.preprocess = Some(preprocess);
        self
    }

    /// Initialisation of the new head's kernel; by default Glorot uniform, as Keras's `Dense`.
    pub fn head_init(mut self, init: HeadInit) -> ModelBuilder {
        self.config.head_init = init;
        self
    }

    /// Seed of random numbers; 42 by default.
    pub fn seed(mut self, seed: u32) -> ModelBuilder {
        self.config.seed = seed;
        self
    }

    /// The net with its weights, global average pooling and a dense softmax head of as many units as `data` has classes.
    ///
    /// # Errors
    /// If there is no such net, the weights cannot be read or are of another net, or images of several sizes should be
    /// upsampled by a factor.
    pub fn build(&self, data: &Dataset) -> Result<Model> {
        build_model(&self.config, data).map(|(model, _)| model)
    }
}

impl Dataset {
    /// Opens images by name (`cifar10`, which is downloaded once, `sample`, `synthetic:CLASSESxIMAGESxSIZE`) or path, with
    /// a tenth of the training images held out.
    ///
    /// # Errors
    /// If they cannot be downloaded or read.
    ///
    /// ```
    /// let data = headstart::Dataset::load("sample")?;
    /// assert_eq!(data.train.len() + data.validation.unwrap().len() + data.test.unwrap().len(), 1797);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Dataset> {
        Dataset::load_with(source, &DataOptions::default())
    }

    /// The same, split as `options` say.
    ///
    /// # Errors
    /// If they cannot be downloaded, read or split.
    pub fn load_with(source: &str, options: &DataOptions) -> Result<Dataset> {
        open(source, options)
    }
}
