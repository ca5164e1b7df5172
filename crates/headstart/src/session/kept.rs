//! What this machine found out about itself: small JSON files in headstart's cache folder. One that cannot be read is as none,
//! and what cannot be kept is found out again.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::write_bytes;
use crate::error::Error;
use crate::hub;
use crate::memory::read_settings;

/// Bytes of a file that are read at most.
const MOST: u64 = 4 << 20;

/// A file of headstart's cache folder, where there is one.
pub fn path(name: &str) -> Option<PathBuf> {
    hub::cache_folder().ok().map(|folder| folder.join(name))
}

pub fn read<T: DeserializeOwned + Default>(path: &Path) -> T {
    let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MOST);
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap_or_default();
    if small { read_settings(path, parse).unwrap_or_default() } else { T::default() }
}

pub fn write(path: &Path, all: &impl Serialize) {
    // Who opens a pipe waits for its reader.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return;
    }
    let Ok(bytes) = serde_json::to_vec_pretty(all) else { return };
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let made = std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder));
    let _ = made.and_then(|()| write_bytes(path, &bytes));
}
