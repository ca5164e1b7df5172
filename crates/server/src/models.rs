//! The models that are served, by name. Each is exchanged as a whole: a request keeps the one that it began with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use headstart::classify::Prepared;
use headstart::gradcam::GradCam;
use headstart::source::ModelSource;
use headstart::{Device, Error, Model, Result};

use crate::engine::{Engine, Line, Run};

/// Most models at once.
const MOST: usize = 64;
/// Longest name.
const LONGEST: usize = 100;

/// A model that is served.
pub struct Served {
    /// Its name.
    pub name: String,
    /// How many models had the name, with this one.
    pub version: u64,
    /// The model.
    pub model: Arc<Model>,
    /// Where its images wait. Once the last request has let go of it, its memory is given back.
    pub line: Line,
    /// What says where it sees a class, once that was asked.
    pub cam: Mutex<Option<GradCam>>,
}

impl Served {
    /// Bytes of an image at its size.
    pub fn image_bytes(&self) -> usize {
        let target = self.model.target();
        target.height * target.width * 3
    }

    /// How many classes it has.
    pub fn classes(&self) -> usize {
        self.model.card.classes.len()
    }
}

/// A name, and what it stands for.
#[derive(Default)]
struct Entry {
    served: Option<Arc<Served>>,
    /// Where it can be read from again.
    source: Option<ModelSource>,
    version: u64,
}

/// All of them.
pub struct Models {
    engine: Arc<Engine>,
    device: Device,
    batch: usize,
    entries: RwLock<BTreeMap<String, Entry>>,
    /// The one that is meant where none is named: the first that there was.
    first: OnceLock<String>,
    /// Held while a model is read, so that two are not in memory at once for nothing.
    loading: Mutex<()>,
}

/// A name and its state, for a list.
pub struct Listed {
    /// The name.
    pub name: String,
    /// The number of the last model of that name.
    pub version: u64,
    /// Whether there is one now.
    pub ready: bool,
}

/// A model on a device, for [`Engine`].
struct Net {
    prepared: Prepared,
    device: Device,
}

impl Run for Net {
    fn run(&mut self, pixels: &[u8], count: usize) -> Result<Vec<f32>> {
        self.prepared.run(pixels, count)
    }

    fn batch(&self) -> usize {
        self.prepared.batch()
    }

    fn image_bytes(&self) -> usize {
        self.prepared.image_bytes()
    }

    fn renew(&mut self) -> Result<()> {
        let model = Arc::clone(self.prepared.model());
        self.prepared = Prepared::new(model, &self.device, self.prepared.batch())?;
        Ok(())
    }
}

/// Whether a model can have that name: letters, digits, `.`, `_` and `-` of ASCII, as it stands in addresses and metrics.
///
/// # Errors
/// If it cannot.
pub fn check_name(name: &str) -> Result<()> {
    let suits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty()
        && name.len() <= LONGEST
        && name.chars().all(suits)
        && !name.starts_with('.')
    {
        return Ok(());
    }
    let expected = "letters, digits, '.', '_' and '-'";
    Err(Error::invalid("model name", expected, name, "give it a name: NAME=MODEL"))
}

impl Models {
    /// None yet.
    pub fn new(engine: Arc<Engine>, device: Device, batch: usize) -> Models {
        let (entries, first, loading) = Default::default();
        Models { engine, device, batch, entries, first, loading }
    }

    /// Serves `model` by that name from now on, instead of another of that name; from `source` it can be read again.
    ///
    /// # Errors
    /// If the name is none, there are too many models, or it does not fit into memory.
    pub fn put(
        &self,
        name: &str,
        model: Model,
        source: Option<ModelSource>,
    ) -> Result<Arc<Served>> {
        check_name(name)?;
        self.check_room(name)?;
        let model = Arc::new(model);
        let prepared = Prepared::new(Arc::clone(&model), &self.device, self.batch)?;
        let device = self.device.clone();
        let line = self.engine.line(Box::new(Net { prepared, device }));
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(name.to_string()).or_default();
        entry.version += 1;
        let served = Served {
            name: name.to_string(),
            version: entry.version,
            model,
            line,
            cam: Mutex::default(),
        };
        let served = Arc::new(served);
        let old = entry.served.replace(Arc::clone(&served));
        entry.source = source.or(entry.source.take());
        drop(entries);
        drop(old);
        self.first.get_or_init(|| name.to_string());
        Ok(served)
    }

    /// Fails if there is no room for a model of that name.
    ///
    /// # Errors
    /// In that case.
    pub fn check_room(&self, name: &str) -> Result<()> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if entries.contains_key(name) || entries.len() < MOST {
            return Ok(());
        }
        let (expected, found) = (format!("at most {MOST} names"), "one more");
        Err(Error::invalid("models", expected, found, "use a name that there is"))
    }

    /// Reads a model with `open` while no other is read, and serves it by that name.
    ///
    /// # Errors
    /// As `open` and [`Models::put`].
    pub fn read(&self, name: &str, open: impl FnOnce() -> Result<Model>) -> Result<Arc<Served>> {
        check_name(name)?;
        let _alone = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(name, open()?, None)
    }

    /// Where the model of that name can be read from.
    pub fn source(&self, name: &str) -> Option<ModelSource> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name)?.source.clone()
    }

    /// Whether there is, or was, a model of that name.
    pub fn knows(&self, name: &str) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.contains_key(name)
    }

    /// The model of that name, or the first one.
    pub fn get(&self, name: Option<&str>) -> Option<Arc<Served>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name.or(self.first.get().map(String::as_str))?)?.served.clone()
    }

    /// Serves no model by that name any more; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let old = entries.get_mut(name).and_then(|entry| entry.served.take());
        drop(entries);
        old.is_some()
    }

    /// Every name.
    pub fn list(&self) -> Vec<Listed> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let each = entries.iter().map(|(name, entry)| Listed {
            name: name.clone(),
            version: entry.version,
            ready: entry.served.is_some(),
        });
        each.collect()
    }
}
