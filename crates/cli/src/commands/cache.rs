//! `headstart cache`.

use std::path::PathBuf;
use std::time::SystemTime;

use headstart::cache::CacheSettings;
use headstart::cache::folder::{About, Entry, default_root, entries, remove};
use headstart::events::Event;
use headstart::run::{CacheFolder, DiskCache};
use headstart::summary::grouped;
use headstart::{Control, Error};
use serde::Serialize;

use crate::args::{Cache, CacheAction, CacheFlags};
use crate::failure::Failure;
use crate::output;
use crate::output::note;
use crate::progress::{Progress, bytes};

/// One entry, for `--json`.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    model: &'a str,
    layers: &'a [String],
    data: &'a str,
    /// Images whose features it has.
    images: usize,
    /// While a process adds to it: the images that it will have then.
    building: Option<usize>,
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

/// The cache that these flags mean.
pub fn disk(flags: &CacheFlags) -> DiskCache {
    let folder = folder(flags.no_cache, flags.cache_dir.as_ref());
    DiskCache { folder, ..DiskCache::default() }
}

/// The same without memory; none where the user has no folder for it.
pub fn settings(flags: &CacheFlags) -> CacheSettings {
    disk(flags).with_memory(0)
}

/// Shows a pass over images: how many are done of those that have to be computed, under `title`, and what else happens.
pub fn show<'p>(
    progress: &'p mut Progress,
    title: &'static str,
) -> impl FnMut(Event) -> Result<Control, Error> + 'p {
    move |event| {
        Ok(match event {
            Event::Features { split, done, total, .. } => {
                progress.images(&format!("{title}, {split}"), done, total)
            }
            event => progress.show(&event),
        })
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
                let (about, images) = (&entry.about, entry.images());
                if json {
                    output::json(&Line {
                        path: entry.path.display().to_string(),
                        model: &about.model,
                        layers: &about.layers,
                        data: &about.data,
                        images,
                        building: entry.building,
                        bytes: entry.bytes,
                        seconds: about.seconds,
                    })?;
                    continue;
                }
                output::line(describe(entry, images))?;
            }
            let total = list.iter().map(|e| e.bytes).sum();
            note!("{}: {} in all", root.display(), bytes(total));
        }
        CacheAction::Clear => {
            let (mut removed, mut busy) = (0, 0);
            for entry in &list {
                match remove(&root, entry)? {
                    true => removed += entry.bytes,
                    false => busy += 1,
                }
            }
            note!("{}: {} removed", root.display(), bytes(removed));
            if busy > 0 {
                let found = format!("{busy} in use by a run");
                let hint = "wait until the run has ended";
                return Err(Error::invalid("cache", "entries not in use", found, hint).into());
            }
        }
    }
    Ok(())
}

/// An entry for people.
fn describe(entry: &Entry, images: usize) -> String {
    let About { model, layers, data, seconds, .. } = &entry.about;
    let (layers, size) = (layers.join(", "), bytes(entry.bytes));
    if let Some(total) = entry.building {
        let (done, total) = (grouped(images), grouped(total));
        return format!(
            "{model} {layers}: being built, {done} of {total} images, {data} now, {size} so far"
        );
    }
    if model.is_empty() {
        let (path, images) = (entry.path.display(), grouped(images));
        return format!("{path}: {images} images, {size}, not described yet");
    }
    let age = SystemTime::now().duration_since(entry.used).unwrap_or_default();
    format!(
        "{model} {layers}: {} images of {data}, {size}, {seconds:.0} s to compute, used {} days ago",
        grouped(images),
        age.as_secs() / 86_400,
    )
}
