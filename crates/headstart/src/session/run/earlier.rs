//! Opening the run that is resumed.

use std::collections::BTreeSet;
use std::path::Path;

use crate::data::dataset::Dataset;
use crate::data::image::Decode;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::weights::model_file::{Progress, Trained};
use crate::net::weights::{self, Tensor};
use crate::session::config::TrainConfig;
use crate::train::run_folder::RunFolder;

/// State of a run, besides its model.
pub struct Earlier {
    /// Its folder, where this process writes to it.
    pub folder: Option<RunFolder>,
    pub progress: Progress,
    pub optimizer: Vec<Tensor>,
}

/// Fails if `given` differs from a run's own settings in anything that its results depend on, or if changes are allowed in
/// what cannot change.
pub fn check(own: &TrainConfig, given: &TrainConfig, allow_changes: bool) -> Result<()> {
    let TrainConfig { threads, cache_memory, tensorboard, device, .. } = *given;
    // Whether the images are the same is seen when they are opened.
    let data = given.data.clone();
    let as_given = TrainConfig { threads, cache_memory, tensorboard, device, data, ..own.clone() };
    // As text, in which a number that is none is equal to itself.
    let (is, was) = (given.to_toml()?, as_given.to_toml()?);
    if is == was {
        return Ok(());
    }
    let (is, was) = (table(&is), table(&was));
    let keys = keys(&was, &is);
    let mut changed = keys.iter().filter(|key| was.get(key.as_str()) != is.get(key.as_str()));
    let changed = match changed.clone().find(|key| fixed(key).is_some()) {
        None if allow_changes => return Ok(()),
        found => found.or_else(|| changed.next()),
    };
    let (expected, found) = match changed {
        Some(key) => (format!(", {}", text(&was, key)), format!("{}, by a flag", text(&is, key))),
        None => (String::new(), "flags that change them".to_string()),
    };
    let otherwise = match changed.and_then(|key| fixed(key)) {
        Some(why) => format!(": {why}"),
        None => ", or go on to other weights with --allow-changes".to_string(),
    };
    Err(Error::invalid(
        "--resume",
        format!("the settings of the run only{expected}"),
        found,
        format!("leave the flag out, or start a run with --config RUN/config.toml{otherwise}"),
    ))
}

fn table(text: &str) -> toml::Table {
    text.parse().unwrap_or_default()
}

fn keys<'t>(was: &'t toml::Table, is: &'t toml::Table) -> BTreeSet<&'t String> {
    was.keys().chain(is.keys()).collect()
}

/// A setting as a line of config.toml.
fn text(table: &toml::Table, key: &str) -> String {
    table.get(key).map_or(format!("no {key}"), |value| format!("{key} = {value}"))
}

/// Settings that a run cannot be resumed with others of, and why.
const FIXED: [(&str, &[&str]); 3] = [
    (
        "the net cannot change",
        &[
            "model",
            "weights",
            "image-size",
            "upsample",
            "interpolation",
            "fit",
            "crop-share",
            "decode",
            "preprocess",
        ],
    ),
    (
        "the images of each split cannot change",
        &["validation-split", "test-split", "stratify", "group", "seed", "limit"],
    ),
    ("its steps are counted in batches of this size", &["batch-size"]),
];

/// Why a run cannot be resumed with another value of this setting, if it cannot.
fn fixed(key: &str) -> Option<&'static str> {
    FIXED.iter().find(|(_, keys)| keys.contains(&key)).map(|(why, _)| *why)
}

/// Fails if a run was `trained` with other settings than it has now, or on a device of another kind: it would not reach what
/// it would have reached.
pub fn same(
    trained: &Trained,
    config: &TrainConfig,
    device: &Device,
    allow_changes: bool,
) -> Result<()> {
    const APART: [&str; 5] = ["data", "device", "threads", "cache-memory", "tensorboard"];
    let changes = "undo that, or give --allow-changes to go on to other weights";
    let (mut was, is) = (table(&trained.settings), table(&config.to_toml()?));
    // All decoded so before there was a choice.
    was.entry("decode").or_insert_with(|| Decode::Full.name().into());
    let differs = |key: &&&String| {
        !APART.contains(&key.as_str()) && was.get(key.as_str()) != is.get(key.as_str())
    };
    // Settings that a later version added have their default, which changes nothing.
    let off = Some(&toml::Value::Boolean(false));
    let known = |key: &&&String| {
        was.contains_key(key.as_str()) || (fixed(key).is_some() && is.get(key.as_str()) != off)
    };
    let keys = keys(&was, &is);
    // First those that would fail with --allow-changes too.
    let changed = keys.iter().filter(differs).filter(known);
    let changed = changed.min_by_key(|key| fixed(key).is_none());
    if let Some(key) = changed.filter(|key| !allow_changes || fixed(key).is_some()) {
        let hint = match fixed(key) {
            Some(why) => format!("undo that, or start another run: {why}"),
            None => changes.to_string(),
        };
        return Err(Error::invalid(
            "--resume",
            format!("the settings that the run was begun with, {}", text(&was, key)),
            format!("{} in config.toml", text(&is, key)),
            hint,
        ));
    }
    let now = device.fingerprint();
    match &trained.device {
        Some(then) if *then != now && !allow_changes => {
            let expected = format!("the kind of instructions that the run was begun with, {then}");
            Err(Error::invalid("--resume", expected, now, changes))
        }
        _ => Ok(()),
    }
}

/// Opens the run in `folder`, which `data` must belong to, to write to it or only to read it.
pub fn open(folder: &Path, data: &Dataset, writes: bool) -> Result<(Model, Earlier)> {
    let last = folder.join("weights/last.safetensors");
    if !last.exists() {
        let hint = "it was interrupted before its first step; start it again with --exist-ok";
        let found = "no weights/last.safetensors";
        return Err(Error::format(folder, "a run that can be resumed", found, hint));
    }
    let mut file = weights::read(&last)?;
    let optimizer = std::mem::take(&mut file.optimizer);
    let progress = file.card.as_mut().and_then(|card| card.progress.take());
    let Some(progress) = progress else {
        let found = "a model without one";
        return Err(Error::format(&last, "a record of the run's progress", found, ""));
    };
    let model = Model::from_file(file)?;
    if model.card.classes != data.classes {
        let (expected, found) = (model.card.classes.join(", "), data.classes.join(", "));
        let what = format!("classes of {}", data.name);
        return Err(Error::invalid(what, expected, found, ""));
    }
    let folder = writes.then(|| RunFolder::resume(folder)).transpose()?;
    Ok((model, Earlier { folder, progress, optimizer }))
}
