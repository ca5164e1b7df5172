//! What a model does without more being said: predictions for one image, an evaluation. The processor's threads are
//! shared by all calls. The full forms are [`crate::classify`] and [`mod@crate::evaluate`].

use std::path::Path;
use std::sync::OnceLock;

use crate::control::Control;
use crate::data::dataset::{DataOptions, Dataset, Split};
use crate::data::image::Rgb8;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::export::Choice;
use crate::hub;
use crate::measure::metrics::Report;
use crate::net::model::Model;
use crate::session::evaluate::{Given, evaluate, open_for};
use crate::study::classify::classify_one;
use crate::train::trainer::INFERENCE_BATCH;

impl Model {
    /// Classifies an image file: every class with its probability, the most probable first.
    ///
    /// For many files use [`crate::classify::classify`], which decodes on threads and prepares the net once.
    ///
    /// # Errors
    /// If the file cannot be read as an image, or the model's weights are damaged.
    ///
    /// ```
    /// use headstart::Model;
    /// # let folder = tempfile::tempdir()?;
    /// # let photo = folder.path().join("photo.png");
    /// # let square = headstart::image::Rgb8::new(1, 1, vec![90, 120, 200])?;
    /// # std::fs::write(&photo, headstart::image::picture::png(&square)?)?;
    ///
    /// let data = headstart::Dataset::load("sample")?;
    /// let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
    /// let classes = model.predict(&photo)?;
    /// println!("{}: {:.3}", classes[0].class, classes[0].probability);
    /// assert_eq!(classes.len(), 10);
    /// assert!(classes[0].probability >= classes[1].probability);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn predict(&self, path: impl AsRef<Path>) -> Result<Vec<Choice>> {
        self.ranked(self.target().open(path)?)
    }

    /// The same for the bytes of an image file of any [`Format`](crate::image::Format).
    ///
    /// # Errors
    /// If they are no such image, or the model's weights are damaged.
    pub fn predict_bytes(&self, bytes: &[u8]) -> Result<Vec<Choice>> {
        self.ranked(self.target().decoded("the image", bytes)?)
    }

    /// Opens images for [`Model::evaluate`]: where they are those of the model's run, all of them and no others, they are split
    /// as they were then, so that no training image is measured; others are not split, and those among them that the model
    /// was trained on are left out, unless it was trained on all.
    ///
    /// # Errors
    /// If there are no such images, or they cannot be read.
    ///
    /// ```
    /// use headstart::{Dataset, Model};
    ///
    /// let data = Dataset::load("synthetic:2x20x32")?;
    /// let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
    /// let other = model.open_data("synthetic:2x10x32")?;
    /// assert!(other.validation.is_none());
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn open_data(&self, source: &str) -> Result<Dataset> {
        let (given, options) = (Given::default(), DataOptions::default());
        let device = device()?;
        let threads = &device.compute().threads;
        let mut watch = |_: &hub::Event<'_>| Control::Continue;
        Ok(open_for(self, source, given, false, &options, threads, &mut watch)?.measured())
    }

    /// Measures the model on the test images of `data`, else on its validation images, else on all.
    /// [`Model::open_data`] opens a model's own images so that none is measured that it was trained on; of others,
    /// [`Report::trained_on`] says how many were.
    ///
    /// # Errors
    /// If the data has classes that the model does not have, an image cannot be decoded, or predictions are not numbers.
    ///
    /// ```
    /// use headstart::{Dataset, Model};
    ///
    /// let data = Dataset::load("synthetic:2x20x32")?;
    /// let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
    /// let report = model.evaluate(&data)?;
    /// println!("{report}"); // loss, accuracy, precision, recall and F1 by class
    /// assert_eq!(report.samples, data.test.unwrap().len());
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn evaluate(&self, data: &Dataset) -> Result<Report> {
        let split = match (&data.test, &data.validation) {
            (None, Some(_)) => Split::Validation,
            _ => Split::Auto,
        };
        let parts = data.parts(split)?;
        let mut go_on = |_: &str, _: usize, _: usize| Control::Continue;
        let done = evaluate(self, data, &parts, &device()?, INFERENCE_BATCH, &mut go_on)?;
        let stopped = || Error::Stopped("the evaluation was stopped".into());
        done.map(|evaluated| evaluated.report).ok_or_else(stopped)
    }

    fn ranked(&self, image: Rgb8<'_>) -> Result<Vec<Choice>> {
        let probabilities = classify_one(self, image, &device()?)?;
        Ok(self.choices(&probabilities, probabilities.len()))
    }

    /// The `most` most probable classes of an image whose class probabilities are given, in falling order.
    pub fn choices(&self, probabilities: &[f32], most: usize) -> Vec<Choice> {
        let choice = |(index, probability): (usize, f32)| Choice {
            class: self.card.classes[index].clone(),
            index,
            probability,
        };
        self.card.task.ranked(probabilities, most).into_iter().map(choice).collect()
    }
}

/// A thread per core, the same for every call.
fn device() -> Result<Device> {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    if let Some(device) = DEVICE.get() {
        return Ok(device.clone());
    }
    let device = Device::cpu(0)?;
    Ok(DEVICE.get_or_init(|| device).clone())
}
