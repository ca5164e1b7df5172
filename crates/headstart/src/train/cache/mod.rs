//! Outputs of frozen layers, computed once per image: kept in memory for a run, and on disk for later ones.
//!
//! Rows are found by the hash of an image's content within an entry whose key is a hash of everything else
//! that the values follow from (`key`). So training, validation and test images share an entry, an
//! image that changed is another image, and nothing can be stale.
//!
//! ```
//! use headstart::Settings;
//! use headstart::cache::CacheSettings;
//!
//! // Up to a gigabyte in memory, up to four on disk, for later runs with the same weights and images.
//! let disk = Some("features".into());
//! let cache = CacheSettings { memory: 1 << 30, folder: disk, disk: 4 << 30 };
//! let settings = Settings { cache, ..Settings::default() };
//! # let _ = settings;
//! ```

mod build;
mod element;
pub mod folder;
mod key;
mod lock;
mod store;

use std::path::PathBuf;

use headstart_kernels::element::Values;

pub use element::Layout;
pub use store::{Hash, Store};

use crate::control::Control;
use crate::data::batch::Pixels;
use crate::engine::device::Device;
use crate::engine::execute::Execute;
use crate::engine::inference::{Features, executor};
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::graph::NodeId;
use crate::net::model::Model;

/// Where outputs may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Most bytes of memory.
    pub memory: u64,
    /// Folder of the cache on disk; none to keep nothing there.
    pub folder: Option<PathBuf>,
    /// Most bytes of that folder. Entries that were not used for longest make room.
    pub disk: u64,
}

/// Most bytes of the cache on disk, unless told otherwise: 32 GiB.
pub const DISK: u64 = 32 << 30;

/// Where the outputs for a set of images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In memory.
    Memory,
    /// On disk, read batch by batch.
    Disk,
    /// Nowhere: frozen layers run for every batch.
    Nowhere,
}

/// Kept outputs for the images of a subset.
#[derive(Debug)]
pub enum Rows {
    /// All of them.
    Memory(Features),
    /// Those that the store has; the others are computed when they are needed.
    Disk {
        /// The entry.
        store: Store,
        /// Hash of each image.
        images: Vec<Hash>,
    },
}

/// Hears what happens and says whether to go on.
pub type Emit<'e> = dyn FnMut(Event) -> Result<Control> + 'e;

/// The frozen layers of a phase: computes their outputs and keeps them.
#[derive(Debug)]
pub struct Frozen {
    /// The layers whose outputs are kept.
    pub nodes: Vec<NodeId>,
    layout: Layout,
    key: Hash,
    settings: CacheSettings,
    device: Device,
    executor: Option<Box<dyn Execute>>,
    /// What the executor made of the images of its last run, one tensor per layer.
    outputs: Vec<Values>,
    batch: usize,
    /// Bytes of memory in use.
    used: u64,
    train: Option<Rows>,
    validation: Option<Rows>,
    test: Option<Rows>,
}

/// Part of a data set, by which its rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Training images.
    Train,
    /// Validation images.
    Validation,
    /// Test images.
    Test,
}

impl Part {
    /// "train", "validation" or "test".
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

impl Frozen {
    /// Those layers of `model` that `nodes` follow from; `batch` images go through them together.
    ///
    /// # Errors
    /// If there is no plan for them.
    pub fn new(
        model: &Model,
        nodes: &[NodeId],
        device: &Device,
        batch: usize,
        settings: &CacheSettings,
    ) -> Result<Frozen> {
        let mut executor = executor(model, device, batch, &[0], nodes)?;
        let dtypes = &executor.plan().dtypes;
        let shapes = nodes.iter().map(|&n| (dtypes[n], model.net.graph.nodes[n].shape.elements()));
        let layout = Layout { tensors: shapes.collect() };
        Ok(Frozen {
            nodes: nodes.to_vec(),
            key: key::key(model, nodes, &layout, device, &mut *executor)?,
            layout,
            settings: settings.clone(),
            device: device.clone(),
            executor: Some(executor),
            outputs: Vec::new(),
            batch,
            used: 0,
            train: None,
            validation: None,
            test: None,
        })
    }

    /// Takes over what `other` has kept, if it is of the same layers with the same weights.
    #[must_use]
    pub fn inherit(self, other: Option<Frozen>) -> Frozen {
        match other {
            Some(other) if other.key == self.key => {
                Frozen { executor: self.executor, batch: self.batch, ..other }
            }
            _ => self,
        }
    }

    /// Bytes that the outputs for so many images take.
    pub fn bytes(&self, images: usize) -> u64 {
        self.layout.row_bytes() as u64 * images as u64
    }

    /// Where the outputs for so many more images can be kept.
    pub fn keeping(&self, images: usize) -> Keeping {
        let bytes = self.bytes(images);
        if self.used.saturating_add(bytes) <= self.settings.memory {
            Keeping::Memory
        } else if self.settings.folder.is_some() && bytes <= self.settings.disk {
            Keeping::Disk
        } else {
            Keeping::Nowhere
        }
    }

    /// What is kept of a part.
    pub fn rows(&self, part: Part) -> Option<&Rows> {
        match part {
            Part::Train => self.train.as_ref(),
            Part::Validation => self.validation.as_ref(),
            Part::Test => self.test.as_ref(),
        }
    }

    fn slot(&mut self, part: Part) -> &mut Option<Rows> {
        match part {
            Part::Train => &mut self.train,
            Part::Validation => &mut self.validation,
            Part::Test => &mut self.test,
        }
    }

    /// The frozen layers, ready to run.
    fn executor(&mut self, model: &Model) -> Result<&mut dyn Execute> {
        let ready = match self.executor.take() {
            Some(ready) => ready,
            None => executor(model, &self.device, self.batch, &[0], &self.nodes)?,
        };
        Ok(&mut **self.executor.insert(ready))
    }

    /// What the frozen layers make of `count` images, one tensor per layer.
    ///
    /// # Errors
    /// If there is no plan for them, or the images are not the model's.
    pub fn run(&mut self, model: &Model, images: &Pixels, count: usize) -> Result<&[Values]> {
        self.executor(model)?.forward(&[images.into()], count)?;
        self.outputs.resize(self.nodes.len(), Values::default());
        if let Some(executor) = &mut self.executor {
            for (i, values) in self.outputs.iter_mut().enumerate() {
                executor.read(i, values)?;
            }
        }
        Ok(&self.outputs)
    }

    /// Outputs for the images that the frozen layers ran on last, one tensor per layer.
    pub fn outputs(&self) -> &[Values] {
        &self.outputs
    }

    /// Itself, unless `model`'s frozen layers are others by now.
    ///
    /// # Errors
    /// If there is no plan for them.
    pub fn still(mut self, model: &Model) -> Result<Option<Frozen>> {
        let (nodes, layout, device) =
            (self.nodes.clone(), self.layout.clone(), self.device.clone());
        self.rest();
        let key = key::key(model, &nodes, &layout, &device, self.executor(model)?)?;
        Ok((key == self.key).then_some(self))
    }

    /// Gives the memory of the executor back until it is needed again.
    pub fn rest(&mut self) {
        self.executor = None;
        self.outputs = Vec::new();
    }
}
