//! `headstart report`.

use headstart::page::{MAPS, remake};

use super::hub;
use crate::args::Report;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Makes a run's page and pictures again.
pub fn run(args: &Report) -> Result<(), Failure> {
    interrupt::watch();
    let mut progress = Progress::new(0);
    let mut show = |name: &'static str, done, total| {
        let title = match name {
            MAPS => "maps of where the model looks".to_string(),
            part => format!("evaluating, {part}"),
        };
        progress.images(&title, done, total)
    };
    let remade = hub::watched(|download| remake(&args.run, args.threads, download, &mut show))?;
    let Some(remade) = remade else {
        return Err(Failure::Interrupted("the page was not written".into()));
    };
    if let Some(cut) = &remade.note {
        note!("warning: {cut}");
    }
    if let Some(reason) = &remade.without_images {
        note!("warning: the page is without images: {reason}");
    }
    Ok(output::line(remade.path.display())?)
}
