//! The lock for changing one entry of the cache, which one process has at a time.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// A lock that is held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    /// `None` where the file system has no locks. At worst two writers then damage each other's rows, and
    /// the checksums show it.
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock for `name` in `root`; `None` if it is held. The lock file stays, outside of the
    /// entry: if it were removed, one that waits for it and one that creates it again would both have the lock.
    pub(super) fn take(root: &Path, name: &str) -> io::Result<Option<Lock>> {
        let locks = root.join(".locks");
        fs::create_dir_all(&locks)?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(locks.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(_)) => Ok(Some(Lock { _file: None })),
        }
    }
    /// Whether a process holds the lock for `name` in `root`. Nothing is written, and who takes it meanwhile hardly waits.
    pub(super) fn is_held(root: &Path, name: &str) -> bool {
        let Ok(file) = File::open(root.join(".locks").join(name)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
