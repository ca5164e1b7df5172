//! Opening the run that is resumed.

use std::path::Path;

use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::net::weights::model_file::Progress;
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
    if *given == (TrainConfig { threads, cache_memory, tensorboard, ..own.clone() }) {
        return Ok(());
    }
    Err(Error::invalid(
        "--resume",
        "the settings of the run only",
        "flags that change them",
        "leave them out, or start a run with --config RUN/config.toml",
    ))
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
