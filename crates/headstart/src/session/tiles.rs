//! Tiles of a GPU's matrix products, which the clock chooses at a product's first use, are kept on this machine by adapter,
//! driver and headstart's version.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
        Err(_) | Ok("") => !is_software,
        Ok("on") => true,
        Ok("off") => false,
        Ok(other) => return Err(Error::invalid(TUNE, "on or off", other, "")),
    };
    if tunes {
        tune_with(context, kept::path(KEPT));
    }
    Ok(())
}

fn tune_with(context: &Context, path: Option<PathBuf>) {
    let key = format!("{} / {}", context.adapter().fingerprint(), env!("CARGO_PKG_VERSION"));
    let mut known: BTreeMap<String, Tiles> = path.as_deref().map(kept::read).unwrap_or_default();
    let own = known.remove(&key).unwrap_or_default();
    let keep = move |tiles: &Tiles| {
        let Some(path) = &path else { return };
        // Other processes may have found others meanwhile.
        let mut all: BTreeMap<String, Tiles> = kept::read(path);
        let own = all.entry(key.clone()).or_default();
        own.extend(tiles.clone());
        while own.len() > PRODUCTS {
            own.pop_first();
        }
        while all.len() > ADAPTERS {
            let Some(other) = all.keys().find(|other| **other != key).cloned() else { break };
            all.remove(&other);
        }
        kept::write(path, &all);
    };
    context.tune(own, Box::new(keep));
}
