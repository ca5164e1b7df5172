//! The cache folder, and the lock for writing there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use crate::error::{Error, Result};

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The user's cache folder of headstart: `$HEADSTART_CACHE`, else `headstart` in `$XDG_CACHE_HOME`, in
/// `~/.cache`, or in Windows's local application data.
///
/// # Errors
/// If the user has no home folder.
pub fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = variable("HEADSTART_CACHE") {
        return Ok(folder);
    }
    match etcetera::choose_base_strategy() {
        Ok(base) => Ok(base.cache_dir().join("headstart")),
        Err(e) => Err(Error::invalid(
            "cache folder",
            "a home folder",
            e.to_string(),
            "set HEADSTART_CACHE to a folder that can be written",
        )),
    }
}

/// Folders in which Keras and PyTorch store the same files, whether or not they exist.
pub fn other_caches() -> Vec<PathBuf> {
    let base = etcetera::choose_base_strategy().ok();
    let keras = variable("KERAS_HOME")
        .or_else(|| base.as_ref().map(|base| base.home_dir().join(".keras")))
        .map(|home| home.join("models"));
    // PyTorch uses ~/.cache on every system.
    let torch = variable("TORCH_HOME")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("torch")))
        .or_else(|| base.as_ref().map(|base| base.home_dir().join(".cache/torch")))
        .map(|home| home.join("hub/checkpoints"));
    keras.into_iter().chain(torch).collect()
}

/// The right to write one file of a folder, which one process has at a time.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `None` where the file system has no locks.
    file: Option<File>,
}

impl Lock {
    /// Takes the lock for `name` in `folder`; `None` if another process has it. The lock file stays: if it were
    /// removed, a process that waits for it and one that creates it again would both have the lock.
    pub(crate) fn take(folder: &Path, name: &str) -> io::Result<Option<Lock>> {
        let locks = folder.join(".locks");
        fs::create_dir_all(&locks)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(locks.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            // At worst two writers then damage each other's part, and the hash shows it.
            Err(TryLockError::Error(_)) => Ok(Some(Lock { file: None })),
        }
    }

    /// Whether no other process has it: not known where the file system has no locks.
    pub(crate) fn is_real(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path(), "a").unwrap().unwrap();
        assert!(Lock::take(folder.path(), "a").unwrap().is_none());
        assert!(Lock::take(folder.path(), "b").unwrap().is_some());
        drop(first);
        assert!(Lock::take(folder.path(), "a").unwrap().is_some());
    }
}
