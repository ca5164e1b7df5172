//! Tiles of a GPU's matrix products, which the clock chooses at a product's first use, are kept on this machine by adapter,
//! driver and headstart's version.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::{Path, PathBuf};

use headstart_gpu::{Context, Kind, Tiles};

use super::kept;
use crate::error::{Error, Result};

/// The file in headstart's cache folder.
const KEPT: &str = "tiles.json";
/// Adapters, and products of each, at most.
const ADAPTERS: usize = 100;
const PRODUCTS: usize = 5_000;
/// The variable that says whether the clock chooses.
const TUNE: &str = "HEADSTART_TUNE";

/// Lets the clock choose tiles on this adapter, from what is known of it. On software there is little to choose; the variable
/// `HEADSTART_TUNE` (`on` or `off`) says otherwise.
///
/// # Errors
/// If the variable is neither.
pub fn tune(context: &Context) -> Result<()> {
    let is_software = context.adapter().kind == Kind::Software;
    let tunes = match std::env::var(TUNE).as_deref() {
        Err(VarError::NotPresent) | Ok("") => !is_software,
        Ok("on") => true,
        Ok("off") => false,
        Ok(other) => return Err(neither(other)),
        Err(VarError::NotUnicode(other)) => return Err(neither(&other.to_string_lossy())),
    };
    if tunes {
        tune_with(context, kept::path(KEPT));
    }
    Ok(())
}

fn neither(found: &str) -> Error {
    let hint = "unset it: without it the clock chooses on GPUs, not on software";
    Error::invalid(TUNE, "on or off", found, hint)
}

fn tune_with(context: &Context, path: Option<PathBuf>) {
    let key = format!("{} / {}", context.adapter().fingerprint(), env!("CARGO_PKG_VERSION"));
    let mut known: BTreeMap<String, Tiles> = path.as_deref().map(kept::read).unwrap_or_default();
    let own = known.remove(&key).unwrap_or_default();
    let keep = move |tiles: &Tiles| {
        if let Some(path) = &path {
            keep(path, &key, tiles);
        }
    };
    context.tune(own, Box::new(keep));
}

/// Adds what was found to what the file has by now: other processes may have found others meanwhile.
fn keep(path: &Path, key: &str, tiles: &Tiles) {
    let mut all: BTreeMap<String, Tiles> = kept::read(path);
    let own = all.entry(key.to_string()).or_default();
    own.extend(tiles.clone());
    while own.len() > PRODUCTS {
        own.pop_first();
    }
    while all.len() > ADAPTERS {
        let Some(other) = all.keys().find(|other| **other != key).cloned() else { break };
        all.remove(&other);
    }
    kept::write(path, &all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_found_is_kept_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache").join(KEPT);
        let tiles = |list: &[(&str, usize)]| -> Tiles {
            list.iter().map(|(name, tile)| ((*name).to_string(), *tile)).collect()
        };
        keep(&path, "one", &tiles(&[("a", 1)]));
        keep(&path, "two", &tiles(&[("a", 2)]));
        keep(&path, "one", &tiles(&[("a", 3), ("b", 0)]));
        let all: BTreeMap<String, Tiles> = kept::read(&path);
        assert_eq!(all["one"], tiles(&[("a", 3), ("b", 0)]));
        assert_eq!(all["two"], tiles(&[("a", 2)]));
        let many: Tiles = (0..=PRODUCTS).map(|i| (format!("{i:05}"), 0)).collect();
        keep(&path, "many", &many);
        for i in 0..ADAPTERS {
            keep(&path, &format!("{i:03}"), &Tiles::new());
        }
        let all: BTreeMap<String, Tiles> = kept::read(&path);
        assert_eq!(all.len(), ADAPTERS);
        assert_eq!(all["many"].len(), PRODUCTS);
        // What is no such file is as none, and is replaced.
        std::fs::write(&path, "{ nothing").unwrap();
        keep(&path, "one", &tiles(&[("a", 1)]));
        let all: BTreeMap<String, Tiles> = kept::read(&path);
        assert_eq!(all.len(), 1);
    }
}
