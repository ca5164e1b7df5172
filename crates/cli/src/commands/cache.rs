//! `headstart cache`.

use std::path::PathBuf;
use std::time::SystemTime;

use headstart::Error;
use headstart::cache::folder::{default_root, entries, remove};
use headstart::run::CacheFolder;
use headstart::summary::grouped;
use serde::Serialize;

use crate::args::{Cache, CacheAction};
use crate::failure::Failure;
use crate::output;
use crate::progress::bytes;

/// One entry, for `--json`.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    model: &'a str,
    layers: &'a [String],
    data: &'a str,
    images: usize,
    bytes: u64,
    seconds: f64,
}

/// The folder by --no-cache and --cache-dir.
pub fn folder(off: bool, named: Option<&PathBuf>) -> CacheFolder {
    match named {
        _ if off => CacheFolder::Off,
        Some(folder) => CacheFolder::At(folder.clone()),
        None => CacheFolder::User,
    }
}

/// Lists or clears.
pub fn run(args: &Cache) -> Result<(), Failure> {
    let root = match &args.cache_dir {
        Some(folder) => folder.clone(),
        None => default_root()?,
    };
    let list = entries(&root)?;
    match args.action {
        CacheAction::List { json } => {
            for entry in &list {
                let about = &entry.about;
                if json {
                    output::json(&Line {
                        path: entry.path.display().to_string(),
                        model: &about.model,
                        layers: &about.layers,
                        data: &about.data,
                        images: about.images,
                        bytes: entry.bytes,
                        seconds: about.seconds,
                    })?;
                    continue;
                }
                let age = SystemTime::now().duration_since(entry.used).unwrap_or_default();
                output::line(format!(
                    "{} {}: {} images of {}, {}, {:.0} s to compute, used {} days ago",
                    about.model,
                    about.layers.join(", "),
                    grouped(about.images),
                    about.data,
                    bytes(entry.bytes),
                    about.seconds,
                    age.as_secs() / 86_400,
                ))?;
            }
            let total = list.iter().map(|e| e.bytes).sum();
            eprintln!("{}: {} in all", root.display(), bytes(total));
        }
        CacheAction::Clear => {
            let (mut removed, mut busy) = (0, 0);
            for entry in &list {
                match remove(&root, entry)? {
                    true => removed += entry.bytes,
                    false => busy += 1,
                }
            }
            eprintln!("{}: {} removed", root.display(), bytes(removed));
            if busy > 0 {
                let found = format!("{busy} in use by a run");
                let hint = "wait until the run has ended";
                return Err(Error::invalid("cache", "entries not in use", found, hint).into());
            }
        }
    }
    Ok(())
}
