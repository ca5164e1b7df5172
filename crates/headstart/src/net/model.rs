//! A net with its weights and everything needed to use it.
//!
//! ```
//! use headstart::Model;
//!
//! let model = Model::imagenet("resnet50")?; // weights: Model::load, or Model::builder
//! assert_eq!(model.net.base_layers(), 175);
//! assert_eq!(model.card.classes[0], "tench");
//! # Ok::<(), headstart::Error>(())
//! ```

use std::path::Path;

use crate::data::image::{Decode, FitName, Interpolation, Target};
use crate::error::{Error, Result};
use crate::memory::room_for;
use crate::nearest::one_of;
use crate::net::graph::Op;
use crate::net::imagenet;
use crate::net::init::{self, HeadInit};
use crate::net::parameters::{Parameters, Role, layer_shapes};
use crate::net::resnet::{Net, Recipe, Surroundings};
use crate::net::weights::model_file::{self, ModelCard, Progress};
use crate::net::weights::{LoadReport, Scope, Tensor, WeightFile, apply, read};
use crate::task::Task;
use crate::text::is_same;

/// An image classifier: a residual net, a dense softmax head, and how images enter it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The net without its head.
    pub recipe: Recipe,
    /// What a model file says about it.
    pub card: ModelCard,
    /// All layers.
    pub net: Net,
    /// All weights.
    pub parameters: Parameters,
}

impl Model {
    /// A new model: kernels initialised as the recipe says, with `seed`, the rest as in Keras.
    ///
    /// # Errors
    /// If the card's net does not exist, or its image is too small for the net.
    pub fn new(card: ModelCard, seed: u32) -> Result<Model> {
        let mut model = Model::blank(card)?;
        model.parameters = init::initial(&model.net.graph, model.recipe.init, seed);
        Ok(model)
    }

    /// A model without its weights.
    fn blank(card: ModelCard) -> Result<Model> {
        let recipe = Recipe::named(&card.architecture)?;
        let net = Net::for_task(&recipe, &card.surroundings(), card.task)?;
        let counts = (0..net.graph.nodes.len()).flat_map(|id| layer_shapes(&net.graph, id));
        let count = counts.map(|(_, shape)| shape.iter().product::<usize>() as u64).sum::<u64>();
        let what = format!("{} with {} classes", recipe.name, card.classes.len());
        room_for(&what, count.saturating_mul(size_of::<f32>() as u64), "it has too many classes")?;
        let parameters = Parameters::zeros(&net.graph);
        Ok(Model { recipe, card, net, parameters })
    }

    /// The ImageNet classifier of that architecture, without its weights, for images of its own size.
    ///
    /// # Errors
    /// If there is no such net.
    pub fn imagenet(architecture: &str) -> Result<Model> {
        let recipe = Recipe::named(architecture)?;
        let card = ModelCard {
            version: model_file::VERSION,
            architecture: recipe.name.clone(),
            task: Task::default(),
            classes: imagenet::classes(),
            height: recipe.image_size,
            width: recipe.image_size,
            interpolation: Interpolation::Bilinear,
            // As nets are evaluated on ImageNet.
            fit: FitName::Crop.with(None),
            decode: Decode::Full,
            upsample: 1,
            preprocess: recipe.preprocess,
            temperature: None,
            calibration: None,
            trained: None,
            progress: None,
        };
        Model::new(card, 0)
    }

    /// Reads a model file, or that of a run's folder.
    ///
    /// # Errors
    /// If it cannot be read, or is a file of weights alone.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::from_file(read(path)?)
    }

    /// The model of a file that was read already.
    ///
    /// # Errors
    /// If it is a file of weights alone, or does not hold what its card says.
    pub fn from_file(file: WeightFile) -> Result<Model> {
        let Some(card) = file.card.clone() else {
            return Err(Error::format(
                &file.path,
                "a model file of headstart's",
                "weights alone, without classes and preprocessing",
                "name the architecture and give this file with --weights",
            ));
        };
        let mut model = Model::blank(card)?;
        apply(&file, &model.net, &mut model.parameters, Scope::All)?;
        Ok(model)
    }

    /// Copies weights from a file.
    ///
    /// # Errors
    /// As [`apply`]; the model is then unchanged.
    pub fn load(&mut self, file: &WeightFile, scope: Scope) -> Result<LoadReport> {
        apply(file, &self.net, &mut self.parameters, scope)
    }

    /// Initialises the head again: its kernel by `init`, its bias with zeros.
    pub fn reset_head(&mut self, init: HeadInit, seed: u32) {
        let last = self.net.base_output();
        for tensor in self.parameters.tensors.iter_mut().filter(|t| t.node > last) {
            match tensor.role {
                Role::Kernel => init::kernel(tensor, init, seed),
                _ => tensor.values.fill(0.0),
            }
        }
    }

    /// Has dropout of that rate before the head while it trains, as Keras's `Dropout`: inverted, so that there is
    /// none to do afterwards. Model files do not have it.
    ///
    /// # Errors
    /// If the rate is not a number from 0 to below 1.
    pub fn set_dropout(&mut self, rate: f32) -> Result<()> {
        if !(0.0..1.0).contains(&rate) {
            let expected = "a number from 0 to below 1";
            return Err(Error::invalid("dropout", expected, rate.to_string(), ""));
        }
        let has = self.net.graph.nodes.iter().any(|n| matches!(n.op, Op::Dropout { .. }));
        if (rate > 0.0 || has)
            && let Some(added) = self.net.set_dropout(rate)
        {
            let moved = self.parameters.tensors.iter_mut().filter(|t| t.node >= added);
            moved.for_each(|t| t.node += 1);
        }
        Ok(())
    }

    /// Writes a model file, completely or not at all: weights, classes, image size and preprocessing, all that
    /// [`Model::open`] needs.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_with(path, None, &[])
    }

    /// The same with what resuming a run needs: the state of the training, and the optimizer's tensors.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save_with(
        &self,
        path: impl AsRef<Path>,
        progress: Option<Progress>,
        optimizer: &[Tensor],
    ) -> Result<()> {
        let card = ModelCard { progress, ..self.card.clone() };
        model_file::write(path, &card, &self.parameters, optimizer)
    }

    /// The position of a class by its name, however its letters are composed.
    ///
    /// # Errors
    /// If the model does not know it; the hint names those that it knows.
    pub fn class(&self, name: &str) -> Result<usize> {
        let classes = &self.card.classes;
        classes.iter().position(|class| is_same(class, name)).ok_or_else(|| {
            let hint = one_of("the model's classes", name, classes);
            Error::invalid("class", "a class of the model", name, hint)
        })
    }

    /// What images become before they enter the net.
    pub fn target(&self) -> Target {
        let ModelCard { height, width, interpolation, fit, decode, .. } = self.card;
        Target { height, width, interpolation, fit, decode, corner: None }
    }

    /// The same layers with the same weights for images of `side` pixels.
    ///
    /// # Errors
    /// If the net cannot have such images, or they are upsampled by a factor.
    pub fn at_size(&self, side: usize) -> Result<Model> {
        let net = self.net_at_size(side)?;
        let card = ModelCard { height: side, width: side, ..self.card.clone() };
        Ok(Model { card, net, ..self.clone() })
    }

    /// The layers alone for images of `side` pixels.
    ///
    /// # Errors
    /// As [`Model::at_size`].
    pub(crate) fn net_at_size(&self, side: usize) -> Result<Net> {
        if self.card.upsample != 1 {
            let found = format!("images that are upsampled by {}", self.card.upsample);
            let hint = "give --image-size, the size of the other images, too";
            return Err(Error::invalid("--train-size", "images that are resized", found, hint));
        }
        let around = Surroundings { height: side, width: side, ..self.card.surroundings() };
        let mut net = Net::for_task(&self.recipe, &around, self.card.task)?;
        if let Some(rate) = self.net.dropout() {
            net.set_dropout(rate);
        }
        Ok(net)
    }

    /// The node whose value is the class scores before the softmax.
    pub fn logits(&self) -> usize {
        self.net.graph.nodes[self.output()].inputs.first().copied().unwrap_or(0)
    }

    /// The node whose value is the vector that the dense layer reads: the global average pooling.
    pub fn pooled(&self) -> usize {
        let is_pool =
            |n: &crate::net::graph::Node| n.op == crate::net::graph::Op::GlobalAveragePool;
        self.net.graph.nodes.iter().rposition(is_pool).unwrap_or(0)
    }

    /// The node whose value is the class probabilities, at temperature 1.
    pub fn output(&self) -> usize {
        self.net.graph.output()
    }
}
