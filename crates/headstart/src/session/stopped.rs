//! Whether a run was stopped before its end, and what its page says of that.

use std::io::Read;
use std::path::Path;

use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::memory;
use crate::report::STOPPED;
use crate::session::config::TrainConfig;

/// Name of the page in a run's folder.
pub const PAGE: &str = "report.html";
/// Bytes of a page that have [`STOPPED`] among them.
const HEAD: usize = 1024;

/// Whether the run in `folder` has a page.
pub fn has_page(folder: &Path) -> bool {
    folder.join(PAGE).is_file()
}

/// Whether the page in `folder` is that of a run that was stopped before its end.
pub fn is_of_stopped(folder: &Path) -> bool {
    let Ok(mut file) = memory::open(&folder.join(PAGE)) else { return false };
    let (mut start, mut have) = ([0; HEAD], 0);
    while let Ok(count @ 1..) = file.read(&mut start[have..]) {
        have += count;
    }
    String::from_utf8_lossy(&start[..have]).contains(STOPPED)
}

/// How many epochs the run in `folder` would have, if it was stopped before its end.
pub(super) fn stopped(
    folder: &Path,
    config: &TrainConfig,
    history: &History,
    report: Option<&Report>,
) -> Option<usize> {
    let planned = config.planned_epochs();
    let is_stopped = match (report.and_then(|r| r.shipped.as_ref()), has_page(folder)) {
        (Some(_), _) => false,
        (None, true) => is_of_stopped(folder),
        // A run that is done was reported on, where images are held out.
        (None, false) => {
            let held_out = history.epochs.iter().any(|epoch| epoch.val_loss.is_some());
            held_out || history.epochs.len() < planned
        }
    };
    is_stopped.then_some(planned)
}
