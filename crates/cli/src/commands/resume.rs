//! `headstart train --resume`: opening the run that is gone on with.

use std::path::Path;

use headstart::Error;
use headstart::config::TrainConfig;
use headstart::dataset::Dataset;
use headstart::model::Model;
use headstart::run_folder::RunFolder;
use headstart::weights::model_file::Progress;
use headstart::weights::{self, Tensor};

use crate::failure::Failure;

/// What a run left.
pub struct Earlier {
    pub model: Model,
    pub folder: RunFolder,
    pub progress: Progress,
    pub optimizer: Vec<Tensor>,
}

/// The settings of the run in `folder`; `flags` applies the flags that were given to them, which must
/// change nothing that results depend on.
pub fn settings(
    folder: &Path,
    flags: impl FnOnce(TrainConfig) -> Result<TrainConfig, Failure>,
) -> Result<TrainConfig, Failure> {
    let config = TrainConfig::read(folder.join("config.toml"))?;
    let given = flags(config.clone())?;
    let TrainConfig { threads, cache_memory, tensorboard, .. } = given;
    if given != (TrainConfig { threads, cache_memory, tensorboard, ..config }) {
        return Err(Failure::Usage(Error::invalid(
            "--resume",
            "the settings of the run alone",
            "flags that change them",
            "leave them out, or start a run with --config RUN/config.toml",
        )));
    }
    Ok(given)
}

/// Opens the run in `folder`, which `data` must belong to.
pub fn open(folder: &Path, data: &Dataset) -> Result<Earlier, Failure> {
    let last = folder.join("weights/last.safetensors");
    if !last.exists() {
        let hint = "it was cut off before its first step; start it again with --exist-ok";
        let found = "no weights/last.safetensors";
        return Err(Error::format(folder, "a run that can be gone on with", found, hint).into());
    }
    let mut file = weights::read(&last)?;
    let optimizer = std::mem::take(&mut file.optimizer);
    let progress = file.card.as_mut().and_then(|card| card.progress.take());
    let Some(progress) = progress else {
        let found = "a model without it";
        return Err(Error::format(&last, "a record of where the run stood", found, "").into());
    };
    let model = Model::from_file(file)?;
    if model.card.classes != data.classes {
        let (expected, found) = (model.card.classes.join(", "), data.classes.join(", "));
        let what = format!("classes of {}", data.name);
        return Err(Error::invalid(what, expected, found, "").into());
    }
    let folder = RunFolder::resume(folder)?;
    Ok(Earlier { model, folder, progress, optimizer })
}
