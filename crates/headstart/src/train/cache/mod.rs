//! Cached features: outputs of frozen layers, computed once per image, in memory for a run and on disk for later runs.
//!
//! Rows are found by the hash of an image's content within an entry whose key is a hash of everything else
//! that the values depend on (`key`). So training, validation and test images share an entry, an
//! image that changed is another image, and no row can be stale.
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

/// Where features may be cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Most bytes of memory.
    pub memory: u64,
    /// Folder of the cache on disk; none for no cache on disk.
    pub folder: Option<PathBuf>,
    /// Most bytes of that folder. The least recently used entries are removed first.
    pub disk: u64,
}

/// Default for the most bytes of the cache on disk: 32 GiB.
pub const DISK: u64 = 32 << 30;

/// Where the features of a set of images are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In memory.
    Memory,
    /// On disk, read batch by batch.
    Disk,
    /// Nowhere: frozen layers run for every batch.
    Nowhere,
}

/// Cached features of the images of a subset.
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

/// Gets what happens and says whether to continue.
pub type Emit<'e> = dyn FnMut(Event) -> Result<Control> + 'e;

/// The frozen layers of a phase: computes their features and caches them.
#[derive(Debug)]
pub struct Frozen {
    /// The layers whose outputs are cached.
    pub nodes: Vec<NodeId>,
    layout: Layout,
    key: Hash,
    settings: CacheSettings,
    device: Device,
    executor: Option<Box<dyn Execute>>,
    /// Features of the images of the executor's last run, one tensor per layer.
    outputs: Vec<Values>,
    batch: usize,
    /// Bytes of memory in use.
    used: u64,
    train: Option<Rows>,
    validation: Option<Rows>,
    test: Option<Rows>,
}

/// Part of a data set, for which rows are cached.
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
    /// Those layers of `model` that `nodes` depend on; `batch` is the batch size.
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

    /// Takes over what `other` has cached, if it has the same layers with the same weights.
    #[must_use]
    pub fn inherit(self, other: Option<Frozen>) -> Frozen {
        match other {
            Some(other) if other.key == self.key => {
                Frozen { executor: self.executor, batch: self.batch, ..other }
            }
            _ => self,
        }
    }

    /// Bytes that the features of this many images take.
    pub fn bytes(&self, images: usize) -> u64 {
        self.layout.row_bytes() as u64 * images as u64
    }

    /// Where the features of this many more images can be cached.
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

    /// Cached features of a part.
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

    /// The features of `count` images, one tensor per layer.
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

    /// Features of the images that the frozen layers ran on last, one tensor per layer.
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

    /// Frees the memory of the executor until it is needed again.
    pub fn rest(&mut self) {
        self.executor = None;
        self.outputs = Vec::new();
    }
}
