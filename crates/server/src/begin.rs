//! From an empty page to a classifier: data sets that are made here, image by image, and trained.

mod made;
mod names;
mod routes;
mod sets;
mod train;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headstart::run::DiskCache;
use serde::Serialize;

use sets::Sets;

pub use routes::{
    images, make, make_class, models, one, picture, put, remove, remove_class, rename_class, serve,
    sets, stop, train, training,
};

/// What the page makes.
pub struct Begin {
    sets: Sets,
    cache: DiskCache,
    threads: usize,
    training: Mutex<Option<Training>>,
}

/// A training that this page began.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Training {
    /// The data set.
    pub set: String,
    /// The run's name; also that of the model that is served at the end.
    pub run: String,
    /// Whether it goes on.
    pub running: bool,
    /// What it does.
    pub doing: String,
    /// How much of that is done.
    pub part: Option<f64>,
    /// The latest accuracy on validation images.
    pub accuracy: Option<f64>,
    /// Whether the model is served.
    pub served: bool,
    /// Why it failed.
    pub failed: Option<String>,
}

impl Begin {
    /// Data sets below `root`; features of their images are cached there.
    pub fn new(root: PathBuf, cache: DiskCache, threads: usize) -> Arc<Begin> {
        Arc::new(Begin { sets: Sets::below(root), cache, threads, training: Mutex::default() })
    }

    fn training(&self) -> MutexGuard<'_, Option<Training>> {
        self.training.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
