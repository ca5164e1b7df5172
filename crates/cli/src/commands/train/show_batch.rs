//! `headstart train --show-batch`.

use std::path::Path;

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::report::{SHEET_IMAGES, contact_sheet};
use headstart::run::{FirstBatch, Job};

use crate::commands::check_output;
use crate::failure::Failure;
use crate::output;
use crate::show::Show;

/// Writes the first batch that training would read to `path`.
pub fn show_batch(job: Job, path: &Path, show: &mut Show) -> Result<(), Failure> {
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
        let found = path.display().to_string();
        return Err(Failure::Usage(Error::invalid("show-batch", "a file .png", found, "")));
    }
    check_output(Some(path), [&*job.config().data])?;
    let first = job.first_batch(&mut |event| show.show(event));
    show.clear();
    let FirstBatch { batch, height, width, classes } = first?;
    write_bytes(path, &contact_sheet(&batch, height, width, &classes)?)?;
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
