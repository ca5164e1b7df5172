//! `headstart train --show-batch`.

use std::path::Path;

use headstart::atomic::write_bytes;
use headstart::cache::{CacheSettings, DISK};
use headstart::config::TrainConfig;
use headstart::dataset::Dataset;
use headstart::job::build_model;
use headstart::report::{SHEET_IMAGES, contact_sheet};
use headstart::trainer::Trainer;
use headstart::{Device, Error};

use crate::failure::Failure;
use crate::output;

/// Writes the first batch that training would read to `path`; no weights are needed for it.
pub fn show_batch(
    config: &TrainConfig,
    data: &Dataset,
    device: Device,
    path: &Path,
) -> Result<(), Failure> {
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
        let found = path.display().to_string();
        return Err(Failure::Usage(Error::invalid("show-batch", "a file .png", found, "")));
    }
    let unknown = TrainConfig { weights: "none".into(), ..config.clone() };
    let (mut model, _) = build_model(&unknown, data)?;
    let cache = CacheSettings { memory: 0, folder: None, disk: DISK };
    let trainer = Trainer::new(&mut model, data, device, super::training(config, cache, None))?;
    let batch = trainer.first_batch()?;
    let (height, width) = (trainer.model.card.height, trainer.model.card.width);
    write_bytes(path, &contact_sheet(&batch, height, width, &data.classes)?)?;
    let shown = match batch.count {
        count if count > SHEET_IMAGES => format!("{SHEET_IMAGES} of {count} images"),
        count => format!("{count} images"),
    };
    output::line(format!(
        "{}: {shown} of {height}x{width} as training begins with them",
        path.display()
    ))?;
    Ok(())
}
