//! Opening the run that is resumed.

use std::collections::BTreeSet;
use std::path::Path;

use crate::data::dataset::Dataset;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::weights::model_file::{Progress, Trained};
use crate::net::weights::{self, Tensor};
use crate::session::config::TrainConfig;
use crate::train::run_folder::RunFolder;

/// State of a run, besides its model.
pub struct Earlier {
    pub folder: RunFolder,
    pub progress: Progress,
    pub optimizer: Vec<Tensor>,
}

/// Fails if `given` differs from a run's own settings in anything that its results depend on.
pub fn check(own: &TrainConfig, given: &TrainConfig) -> Result<()> {
    let TrainConfig { threads, cache_memory, tensorboard, .. } = *given;
    // Whether the images are the same is seen when they are opened.
    let data = given.data.clone();
    let as_given = TrainConfig { threads, cache_memory, tensorboard, data, ..own.clone() };
    // As text, in which a number that is none is equal to itself.
    if given.to_toml()? == as_given.to_toml()? {
        return Ok(());
    }
    Err(Error::invalid(
        "--resume",
        "the settings of the run only",
        "flags that change them",
        "leave them out, or start a run with --config RUN/config.toml",
    ))
}

/// Fails if a run was `trained` with other settings than it has now, or on a device of another kind: it would not reach what
/// it would have reached.
pub fn same(
    trained: &Trained,
    config: &TrainConfig,
    device: &Device,
    allow_changes: bool,
) -> Result<()> {
    const APART: [&str; 4] = ["data", "threads", "cache-memory", "tensorboard"];
    /// What the net is, which is not built again.
    const NET: [&str; 8] = [
        "model",
        "weights",
        "image-size",
        "upsample",
        "interpolation",
        "fit",
        "crop-share",
        "preprocess",
    ];
    let hint = match allow_changes {
        true => "undo that, or start another run: the net cannot change",
        false => "undo that, or give --allow-changes to go on to other weights",
    };
    let failed =
        |expected: String, found: String| Err(Error::invalid("--resume", expected, found, hint));
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (was, is) = (table(&trained.settings), table(&config.to_toml()?));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let differs =
        |key: &&&String| !APART.contains(&key.as_str()) && was.get(**key) != is.get(**key);
    let text = |table: &toml::Table, key: &str| {
        table.get(key).map_or(format!("no {key}"), |value| format!("{key} = {value}"))
    };
    // Settings that a later version added have their default, which changes nothing.
    let counts = |key: &&&String| !allow_changes || NET.contains(&key.as_str());
    let known = |key: &&&String| was.contains_key(**key) || NET.contains(&key.as_str());
    let changed = keys.iter().filter(differs).filter(counts).find(known);
    if let Some(key) = changed {
        return failed(
            format!("the settings that the run was begun with, {}", text(&was, key)),
            format!("{} in config.toml", text(&is, key)),
        );
    }
    let now = device.fingerprint();
    match &trained.device {
        Some(then) if *then != now && !allow_changes => {
            failed(format!("the kind of instructions that the run was begun with, {then}"), now)
        }
        _ => Ok(()),
    }
}

/// Opens the run in `folder`, which `data` must belong to.
pub fn open(folder: &Path, data: &Dataset) -> Result<(Model, Earlier)> {
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
    let folder = RunFolder::resume(folder)?;
    Ok((model, Earlier { folder, progress, optimizer }))
}
