//! Cached features: outputs of frozen layers, computed once per image, in memory for a run and on disk for whatever
//! reads the same images with the same layers later: training, evaluation, label checks, probes, similar images.
//!
//! Rows are found by the hash of an image's content (another one where a JPEG is decoded smaller) within an entry whose
//! key is a hash of everything else that the values depend on (`key`). So training, validation and test images share an entry, an
//! image that changed is another image, and no row can be stale. The entry of a whole net holds what its head reads and
//! the means of its earlier stages, so that one pass over the images serves every command ([`Whole`]).
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
mod fill;
pub mod folder;
mod key;
mod lock;
mod store;
mod together;
mod whole;
mod wider;

use std::path::PathBuf;
use std::sync::Arc;

use headstart_kernels::element::Values;

pub use crate::data::dataset::Part;
pub use element::Layout;
pub use store::{Hash, Store};
pub use whole::{Seen, Whole};

use crate::control::Control;
use crate::data::batch::Pixels;
use crate::engine::device::Device;
use crate::engine::execute::Execute;
use crate::engine::inference::{Features, executor};
use crate::engine::plan::Request;
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::graph::{NodeId, Op};
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

impl CacheSettings {
    /// No cache at all.
    pub fn none() -> CacheSettings {
        CacheSettings { memory: 0, folder: None, disk: 0 }
    }
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
        /// What each image is found by: its hash, or another where it is decoded smaller.
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
    /// Layers whose means over height and width are stored on disk beside them: the stages before the last, in the entry
    /// of a whole net.
    stages: Vec<NodeId>,
    /// Features and means.
    layout: Layout,
    key: Hash,
    settings: CacheSettings,
    device: Device,
    executor: Option<Runner>,
    /// Features of the images of the executor's last run, one tensor per layer.
    outputs: Vec<Values>,
    batch: usize,
    /// Bytes of memory in use.
    used: u64,
    train: Option<Rows>,
    validation: Option<Rows>,
    test: Option<Rows>,
}

/// The frozen layers, ready to run.
#[derive(Debug)]
struct Runner {
    executor: Box<dyn Execute>,
    /// Whether it computes the means of stages too.
    means: bool,
}

impl Runner {
    fn new(
        model: &Model,
        device: &Device,
        batch: usize,
        nodes: &[NodeId],
        stages: &[NodeId],
    ) -> Result<Runner> {
        if stages.is_empty() {
            let executor = executor(model, device, batch, &[0], nodes)?;
            return Ok(Runner { executor, means: false });
        }
        let (mut graph, mut outputs) = ((*model.net.graph).clone(), nodes.to_vec());
        for &stage in stages {
            let name = format!("{}_mean", graph.nodes[stage].name);
            outputs.push(graph.push(name, Op::GlobalAveragePool, &[stage])?);
        }
        let (sources, dtype) = (vec![0], device.dtype());
        let request = Request { batch, sources, outputs, trainable: None, dtype };
        let executor = device.executor(&Arc::new(graph), request, &model.parameters, 0)?;
        Ok(Runner { executor, means: true })
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
        // Without a disk nobody else reads the means.
        let means = nodes == [model.pooled()] && settings.folder.is_some();
        Frozen::with_means(model, nodes, means, device, batch, settings)
    }

    /// The same, with means of stages or without.
    fn with_means(
        model: &Model,
        nodes: &[NodeId],
        means: bool,
        device: &Device,
        batch: usize,
        settings: &CacheSettings,
    ) -> Result<Frozen> {
        let mut stages = if means { model.net.stages(&model.recipe) } else { Vec::new() };
        stages.pop();
        let mut runner = Runner::new(model, device, batch, nodes, &stages)?;
        let plan = runner.executor.plan();
        let outputs = plan.request.outputs.iter().zip(nodes.iter().chain(&stages));
        let shapes = outputs.enumerate().map(|(i, (&output, &node))| {
            let shape = model.net.graph.nodes[node].shape;
            let mean = i >= nodes.len();
            (plan.dtypes[output], if mean { shape.channels() } else { shape.elements() })
        });
        let layout = Layout { tensors: shapes.collect() };
        let all: Vec<NodeId> = nodes.iter().chain(&stages).copied().collect();
        Ok(Frozen {
            nodes: nodes.to_vec(),
            stages,
            key: key::key(model, &all, &layout, device, &mut *runner.executor)?,
            layout,
            settings: settings.clone(),
            device: device.clone(),
            executor: Some(runner),
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

    /// Type and elements per image of each layer's features.
    fn features(&self) -> &[(headstart_kernels::element::DType, usize)] {
        &self.layout.tensors[..self.nodes.len()]
    }

    /// Bytes that the features of this many images take.
    pub fn bytes(&self, images: usize) -> u64 {
        let row: usize = self.features().iter().map(|(dtype, n)| dtype.bytes() * n).sum();
        row as u64 * images as u64
    }

    /// Where the features of this many more images can be cached.
    pub fn keeping(&self, images: usize) -> Keeping {
        let (bytes, row) = (self.bytes(images), self.layout.row_bytes() as u64);
        if self.used.saturating_add(bytes) <= self.settings.memory {
            Keeping::Memory
        } else if self.settings.folder.is_some() && row * images as u64 <= self.settings.disk {
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

    /// The frozen layers, ready to run, with the means of stages or without.
    fn executor(&mut self, model: &Model, means: bool) -> Result<&mut dyn Execute> {
        let means = means && !self.stages.is_empty();
        let ready = match self.executor.take().filter(|runner| runner.means == means) {
            Some(ready) => ready,
            None => {
                let stages = if means { &self.stages[..] } else { &[] };
                Runner::new(model, &self.device, self.batch, &self.nodes, stages)?
            }
        };
        Ok(&mut *self.executor.insert(ready).executor)
    }

    /// The features of `count` images, one tensor per layer.
    ///
    /// # Errors
    /// If there is no plan for them, or the images are not the model's.
    pub fn run(&mut self, model: &Model, images: &Pixels, count: usize) -> Result<&[Values]> {
        self.run_with(model, false, images, count)
    }

    /// The same, followed by the means of stages, if there are any and they are wanted.
    fn run_with(
        &mut self,
        model: &Model,
        means: bool,
        images: &Pixels,
        count: usize,
    ) -> Result<&[Values]> {
        let mut outputs = std::mem::take(&mut self.outputs);
        let executor = self.executor(model, means)?;
        executor.forward(&[images.into()], count)?;
        outputs.resize(executor.plan().request.outputs.len(), Values::default());
        for (i, values) in outputs.iter_mut().enumerate() {
            executor.read(i, values)?;
        }
        self.outputs = outputs;
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
        let (layout, device) = (self.layout.clone(), self.device.clone());
        let all: Vec<NodeId> = self.nodes.iter().chain(&self.stages).copied().collect();
        self.rest();
        let key = key::key(model, &all, &layout, &device, self.executor(model, true)?)?;
        Ok((key == self.key).then_some(self))
    }

    /// Frees the memory of the executor until it is needed again.
    pub fn rest(&mut self) {
        self.executor = None;
        self.outputs = Vec::new();
    }
}
