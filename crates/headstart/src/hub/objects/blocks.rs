//! Objects that are needed for a moment: fetched a block at a time, and removed again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Object, Wanted, registered};
use crate::error::{Error, Result};
use crate::hub::Watch;
use crate::hub::place::{Lock, cache_folder};

/// Where the file system has no locks: from when on files that nobody changes are nobody's.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder of the cache that goes away with this, and that of a process that was killed with the next one.
#[derive(Debug)]
pub struct Blocks {
    folder: PathBuf,
    lock: Option<Lock>,
    /// Blocks that were fetched.
    count: AtomicU64,
}

/// Fetched objects, which go away with this.
#[derive(Debug)]
pub struct Block {
    folder: PathBuf,
    /// For each object its file, or why there is none.
    pub files: Vec<std::result::Result<PathBuf, String>>,
}

impl Blocks {
    /// Makes a folder for them.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new() -> Result<Blocks> {
        Blocks::below(&cache_folder()?.join("objects").join(".blocks"))
    }

    fn below(root: &Path) -> Result<Blocks> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        remove_abandoned(root);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{}-{now}", std::process::id());
        // The lock comes first, so that the folder is never anybody's.
        let lock = Lock::take(root, &name).map_err(Error::io("lock", root))?;
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        Ok(Blocks { folder, lock, count: AtomicU64::new(0) })
    }

    /// Fetches `objects` of a [`Listing`](super::Listing) below `base`.
    ///
    /// # Errors
    /// As [`Objects::fetch`](super::Objects::fetch).
    pub fn fetch(&self, base: &str, objects: &[Object], watch: &mut Watch<'_>) -> Result<Block> {
        let folder = self.folder.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        let mut block = Block { files: Vec::new(), folder };
        let wanted: Vec<Wanted<'_>> = objects
            .iter()
            .enumerate()
            .map(|(i, object)| {
                let path = block.folder.join(format!("{i}{}", ending(&object.name)));
                Wanted { object, path, part: block.folder.join(format!("{i}.part")) }
            })
            .collect();
        let lost = registered(base)?.fetch(base, &wanted, watch)?;
        block.files = wanted.into_iter().map(|wanted| Ok(wanted.path)).collect();
        for one in lost {
            block.files[one.index] = Err(one.reason);
        }
        Ok(block)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        self.lock = None;
        remove_lock(&self.folder);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The lock of a folder whose name no other will have.
fn remove_lock(folder: &Path) {
    if let (Some(root), Some(name)) = (folder.parent(), folder.file_name()) {
        let _ = fs::remove_file(root.join(".locks").join(name));
    }
}

/// The ending of a name, as far as a decoder asks for it.
fn ending(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or_default();
    match file.rsplit_once('.') {
        Some((_, end)) if end.len() <= 8 && end.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            format!(".{end}")
        }
        _ => String::new(),
    }
}

fn remove_abandoned(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let Ok(Some(lock)) = Lock::take(root, name) else { continue };
        let age = entry.metadata().and_then(|meta| meta.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if lock.is_real() || age > ABANDONED {
            let _ = fs::remove_dir_all(entry.path());
            drop(lock);
            remove_lock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("blocks");
        let first = Blocks::below(&root).unwrap();
        let left = root.join("123-456");
        fs::create_dir_all(left.join("0")).unwrap();
        fs::write(left.join("0/1.jpg"), "x").unwrap();
        let second = Blocks::below(&root).unwrap();
        assert!(!left.exists() && first.folder.exists() && second.folder.exists());
        let (a, b) = (first.folder.clone(), second.folder.clone());
        drop((first, second));
        assert!(!a.exists() && !b.exists());
        assert_eq!(fs::read_dir(root.join(".locks")).unwrap().count(), 0);
    }

    #[test]
    fn endings_are_short_and_plain() {
        for (name, end) in [
            ("a/b.jpg", ".jpg"),
            ("a.b/c", ""),
            ("x.JPEG", ".JPEG"),
            ("x.j\u{202e}", ""),
            ("x.verylongending", ""),
            ("x./", ""),
        ] {
            assert_eq!(ending(name), end, "{name}");
        }
    }
}
