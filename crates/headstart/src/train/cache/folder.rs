//! The cache as a whole: what is in it, removing entries, making room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::store;
use crate::atomic::{remove_leftovers, write_bytes};
use crate::error::{Error, Result};
use crate::hub::cache_folder;
use crate::memory::read_settings;

/// The folder of cached features: `features` in the user's cache folder.
///
/// # Errors
/// As [`cache_folder`].
pub fn default_root() -> Result<PathBuf> {
    Ok(cache_folder()?.join("features"))
}

/// Description of an entry, for `headstart cache list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The net.
    pub model: String,
    /// The layers whose outputs are cached.
    pub layers: Vec<String>,
    /// The data set that was cached last.
    pub data: String,
    /// Images whose features were kept: of those that occur more than once, one.
    pub images: usize,
    /// Images that went through the net, whether or not another was the same; 0 where an earlier version did not count them.
    #[serde(default)]
    pub computed: usize,
    /// Seconds that this took.
    pub seconds: f64,
    /// Images that it will have once the process that adds to it is done; none where there is no such process. One that
    /// was killed leaves it as it was.
    #[serde(default)]
    pub building: Option<usize>,
}

impl About {
    /// Seconds that an image took.
    pub(super) fn seconds_each(&self) -> f64 {
        let computed = if self.computed == 0 { self.images } else { self.computed };
        self.seconds / computed.max(1) as f64
    }

    /// Reads that of an entry; the default where there is none that can be read.
    pub(super) fn read(entry: &Path) -> About {
        let about = read_settings(&entry.join("about.json"), |text| serde_json::from_slice(&text));
        about.ok().and_then(|about| about.ok()).unwrap_or_default()
    }

    /// Writes it.
    pub(super) fn write(&self, entry: &Path) -> Result<()> {
        let path = entry.join("about.json");
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::format(&path, "values that fit JSON", e.to_string(), ""))?;
        write_bytes(&path, (text + "\n").as_bytes())
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its folder.
    pub path: PathBuf,
    /// Its description.
    pub about: About,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// While a process adds to it: the images that it will have then.
    pub building: Option<usize>,
}

impl Entry {
    /// Images whose features it has. Reads its index.
    pub fn images(&self) -> usize {
        store::count(&self.path)
    }
}

/// The entries of the cache `root`, the last used first; none where there is no such folder.
///
/// # Errors
/// If the folder cannot be listed.
pub fn entries(root: &Path) -> Result<Vec<Entry>> {
    let mut list = Vec::new();
    let folders = match fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(list),
        other => other.map_err(Error::io("list", root))?,
    };
    for folder in folders {
        let path = folder.map_err(Error::io("list", root))?.path();
        let Ok(index) = fs::metadata(path.join("index")) else { continue };
        let size = |file: &str| fs::metadata(path.join(file)).map_or(0, |m| m.len());
        let about = About::read(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        list.push(Entry {
            building: about.building.filter(|_| Lock::is_held(root, &name)),
            about,
            bytes: index.len() + size("rows") + size("about.json"),
            used: index.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            path,
        });
    }
    list.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
    Ok(list)
}

/// Removes an entry; `false` if a process is adding to it.
///
/// # Errors
/// If its files cannot be removed.
pub fn remove(root: &Path, entry: &Entry) -> Result<bool> {
    let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
    let lock = Lock::take(root, &name).map_err(Error::io("lock", &entry.path))?;
    let Some(_lock) = lock else { return Ok(false) };
    remove_leftovers(&entry.path)?;
    // The index is removed last: without it the other files cannot be found.
    for file in ["rows", "about.json", "index"] {
        let path = entry.path.join(file);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(e));
            }
            _ => {}
        }
    }
    // Files that are not the cache's own stay, and with them the folder.
    let _ = fs::remove_dir(&entry.path);
    Ok(true)
}

/// Removes entries other than `own`, the least recently used first, until the cache and `needed` more bytes take at
/// most `most`. Whether that is possible; if not, nothing is removed.
///
/// # Errors
/// If the cache cannot be listed.
pub(super) fn make_room(root: &Path, own: &Path, needed: u64, most: u64) -> Result<bool> {
    let list = entries(root)?;
    let own_bytes = list.iter().find(|e| e.path == own).map_or(0, |e| e.bytes);
    if own_bytes.saturating_add(needed) > most {
        return Ok(false);
    }
    let mut total: u64 = list.iter().map(|e| e.bytes).sum::<u64>().saturating_add(needed);
    for entry in list.iter().rev().filter(|e| e.path != own) {
        if total <= most {
            break;
        }
        if remove(root, entry).unwrap_or(false) {
            total -= entry.bytes;
        }
    }
    Ok(total <= most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An entry of about 1000 bytes that was used `age` seconds ago.
    fn entry(root: &Path, name: &str, age: u64) -> PathBuf {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("rows"), [0; 900]).unwrap();
        fs::write(path.join("index"), [0; 100]).unwrap();
        let index = fs::File::options().write(true).open(path.join("index")).unwrap();
        index.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    }

    fn names(root: &Path) -> Vec<String> {
        let list = entries(root).unwrap();
        list.iter().map(|e| e.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_longest_unused_go_first_and_only_as_many_as_needed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, age) in [("a", 30), ("b", 10), ("c", 20), ("own", 90)] {
            entry(root, name, age);
        }
        fs::write(root.join("note.txt"), "not an entry").unwrap();
        assert_eq!(names(root), ["b", "c", "a", "own"]);
        let own = root.join("own");
        assert!(make_room(root, &own, 500, 10_000).unwrap());
        assert_eq!(names(root).len(), 4);
        assert!(make_room(root, &own, 500, 3600).unwrap());
        assert_eq!(names(root), ["b", "c", "own"]);
        assert!(!make_room(root, &own, 5000, 5900).unwrap());
        assert_eq!(names(root).len(), 3, "no use removing");
        let _held = Lock::take(root, "c").unwrap().unwrap();
        assert!(make_room(root, &own, 500, 2500).unwrap());
        assert_eq!(names(root), ["c", "own"]);
        assert!(!make_room(root, &own, 500, 1600).unwrap());
    }

    #[test]
    fn removing_leaves_foreign_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(entry(root, "a", 1).join("mine.txt"), "").unwrap();
        let list = entries(root).unwrap();
        assert!(remove(root, &list[0]).unwrap());
        assert!(entries(root).unwrap().is_empty() && root.join("a/mine.txt").exists());
        assert!(entries(&root.join("none")).unwrap().is_empty());
    }
}
