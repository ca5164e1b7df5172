//! The images of a data set with what a net makes of them, to be asked which are most like another.
//!
//! ```
//! use headstart::neighbours::Neighbours;
//! use headstart::{Control, Dataset, Device, Model, cache::CacheSettings};
//!
//! let data = Dataset::load("synthetic:3x20x32")?;
//! let model = Model::builder("resnet20").weights("cifar10").build(&data)?;
//! let device = Device::cpu(0)?;
//! let image = data.train.image(7)?.into_owned();
//! let mut go_on = |_event| Ok(Control::Continue);
//! let known = Neighbours::new(&model, data, &device, &CacheSettings::none(), &mut go_on)?.unwrap();
//! let features = headstart::neighbours::features(&model, &image, &device)?;
//! let found = known.nearest(&features, 3, None);
//! assert_eq!(found[0].image, 7); // itself
//! println!("{}: {}", known.name(7), known.class(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::control::Control;
use crate::data::dataset::{Dataset, ImageHash, Split, Subset};
use crate::data::image::{Resizer, Rgb8};
use crate::engine::device::Device;
use crate::engine::inference::{executor, read_floats};
use crate::error::{Error, Result};
use crate::measure::events::Event;
use crate::net::model::Model;
use crate::study::similar::{Neighbour, nearest};
use crate::train::cache::{CacheSettings, Whole};
use crate::train::trainer::INFERENCE_BATCH;

/// All images of a data set, counted through its parts, with their features.
#[derive(Debug)]
pub struct Neighbours {
    data: Dataset,
    features: Vec<f32>,
    hashes: Vec<ImageHash>,
}

/// What the model's head reads of an image of any size.
///
/// # Errors
/// If the image cannot be resized, or there is no plan for the net.
pub fn features(model: &Model, image: &Rgb8<'_>, device: &Device) -> Result<Vec<f32>> {
    let pixels = model.target().enter(&mut Resizer::new(), image)?;
    let mut executor = executor(model, device, 1, &[0], &[model.pooled()])?;
    executor.forward(&[(&pixels).into()], 1)?;
    read_floats(&mut *executor, 0)
}

impl Neighbours {
    /// The images of `data` as `model` has them; `None` if `emit` stopped it. Features are read from the cache and added to
    /// it.
    ///
    /// # Errors
    /// If an image cannot be read, there is no plan for the net, or `emit` fails.
    pub fn new(
        model: &Model,
        data: Dataset,
        device: &Device,
        cache: &CacheSettings,
        emit: &mut dyn FnMut(Event) -> Result<Control>,
    ) -> Result<Option<Neighbours>> {
        let mut known = Neighbours { data, features: Vec::new(), hashes: Vec::new() };
        let (mut features, mut hashes) = (Vec::new(), Vec::new());
        let mut whole = Whole::new(model, &known.data.name, device, INFERENCE_BATCH, cache);
        for (split, subset) in known.data.parts(Split::All)? {
            let Some(part) = whole.pooled((split, subset), emit)? else { return Ok(None) };
            features.extend(part);
            hashes.extend(subset.image_hashes(&device.compute().threads)?);
        }
        drop(whole);
        (known.features, known.hashes) = (features, hashes);
        Ok(Some(known))
    }

    /// The data set.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The images most like one of these features, the most similar first, without those that are known by `itself`.
    pub fn nearest(
        &self,
        features: &[f32],
        count: usize,
        itself: Option<&ImageHash>,
    ) -> Vec<Neighbour> {
        let same = |image: usize| Some(&self.hashes[image]) == itself;
        let most = count.saturating_add((0..self.hashes.len()).filter(|&i| same(i)).count());
        let mut found = nearest(features, &self.features, most);
        found.retain(|n| !same(n.image));
        found.truncate(count);
        found
    }

    /// The images that are known by `hash`.
    pub fn same(&self, hash: &ImageHash) -> Vec<usize> {
        (0..self.hashes.len()).filter(|&image| self.hashes[image] == *hash).collect()
    }

    /// The part that an image is in, and its position there.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn place(&self, image: usize) -> Result<(&Subset, usize)> {
        let mut at = image;
        for (_, subset) in self.data.parts(Split::All)? {
            if at < subset.len() {
                return Ok((subset, at));
            }
            at -= subset.len();
        }
        let expected = format!("below {}", self.hashes.len());
        Err(Error::invalid("image", expected, image.to_string(), ""))
    }

    /// The name of an image's class; an empty text where there is no such image.
    pub fn class(&self, image: usize) -> &str {
        match self.place(image) {
            Ok((subset, at)) => self.data.classes[subset.label(at)].as_str(),
            Err(_) => "",
        }
    }

    /// The name of an image; an empty text where there is no such image.
    pub fn name(&self, image: usize) -> String {
        self.place(image)
            .map_or_else(|_| String::new(), |(subset, at)| subset.path(at).into_owned())
    }
}
