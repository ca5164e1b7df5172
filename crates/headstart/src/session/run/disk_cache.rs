//! Where a run caches features.

use std::path::PathBuf;

use crate::train::cache::folder::default_root;
use crate::train::cache::{CacheSettings, DISK};

/// Where features of frozen layers are cached for later runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    /// The folder.
    pub folder: CacheFolder,
    /// Most bytes of it. The least recently used features are removed first.
    pub bytes: u64,
}

/// The folder of a [`DiskCache`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheFolder {
    /// `features` in the user's cache folder; none where the user has no home folder.
    #[default]
    User,
    /// Another.
    At(PathBuf),
    /// None: features on disk are neither written nor used.
    Off,
}

impl Default for DiskCache {
    /// The user's, of [`DISK`] bytes at most.
    fn default() -> Self {
        DiskCache { folder: CacheFolder::User, bytes: DISK }
    }
}

impl DiskCache {
    /// The same, with this many bytes of memory.
    pub fn with_memory(&self, memory: u64) -> CacheSettings {
        let folder = match &self.folder {
            CacheFolder::User => default_root().ok(),
            CacheFolder::At(folder) => Some(folder.clone()),
            CacheFolder::Off => None,
        };
        CacheSettings { memory, folder, disk: self.bytes }
    }
}
