//! Where a run keeps what frozen layers make of images.

use std::path::PathBuf;

use crate::error::Result;
use crate::train::cache::folder::default_root;
use crate::train::cache::{CacheSettings, DISK};

/// Where outputs of frozen layers are kept for later runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    /// The folder.
    pub folder: CacheFolder,
    /// Most bytes of it. What was not used for longest makes room.
    pub bytes: u64,
}

/// The folder of a [`DiskCache`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheFolder {
    /// `features` in the user's cache folder.
    #[default]
    User,
    /// Another.
    At(PathBuf),
    /// None: nothing is kept on disk, and nothing that is there is used.
    Off,
}

impl Default for DiskCache {
    /// The user's, of [`DISK`] bytes at most.
    fn default() -> Self {
        DiskCache { folder: CacheFolder::User, bytes: DISK }
    }
}

impl DiskCache {
    /// The same with so many bytes of memory beside it.
    ///
    /// # Errors
    /// If the user has no cache folder.
    pub fn with_memory(&self, memory: u64) -> Result<CacheSettings> {
        let folder = match &self.folder {
            CacheFolder::User => Some(default_root()?),
            CacheFolder::At(folder) => Some(folder.clone()),
            CacheFolder::Off => None,
        };
        Ok(CacheSettings { memory, folder, disk: self.bytes })
    }
}
