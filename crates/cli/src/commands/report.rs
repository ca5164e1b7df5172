//! `headstart report`.

use headstart::events::Event;
use headstart::page::{MAPS, remake};

use super::{cache, hub};
use crate::args::Report;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Makes a run's page and pictures again.
pub fn run(args: &Report) -> Result<(), Failure> {
    interrupt::watch();
    let mut progress = Progress::new(0);
    let mut show = |event| {
        Ok(match event {
            Event::Features { split: MAPS, done, total, .. } => {
                progress.images("maps of where the model looks", done, total)
            }
            Event::Features { split, done, total, .. } => {
                progress.images(&format!("evaluating, {split}"), done, total)
            }
            event => progress.show(&event),
        })
    };
    let (run, cache) = (&args.run, cache::settings(&args.cache));
    let on = (args.device, args.threads);
    let remade = hub::watched(|download| remake(run, on, &cache, download, &mut show))?;
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
