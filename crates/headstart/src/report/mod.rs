//! Pictures of a run.
//!
//! ```
//! use headstart::{history::History, metrics::Report};
//!
//! let folder = tempfile::tempdir()?;
//! let report = Report::new("test", &["cat".into(), "dog".into()], &[0.9, 0.1, 0.2, 0.8], &[0, 1]);
//! headstart::report::draw(folder.path(), &History::default(), Some(&report))?;
//! assert!(folder.path().join("confusion_matrix.png").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod confusion;
mod contact_sheet;
mod data_check;
mod explained;
mod figure;
mod figures;
mod gallery;
mod legend;
mod lr_curve;
mod names;
mod neighbours;
mod notes;
mod overlaid;
pub(crate) mod page;
mod plots;
mod raster;
mod reliability;
mod run_page;

use std::path::Path;

pub use confusion::confusion_matrix;
pub use contact_sheet::{SHEET_IMAGES, contact_sheet};
pub use data_check::html as data_check;
pub use explained::explained;
pub use figure::Figure;
pub use gallery::gallery;
pub use lr_curve::lr_curve;
pub use neighbours::{Captioned, neighbours};
pub use notes::CurveNotes;
pub use overlaid::{Curves, overlaid};
pub use plots::{Picture, curves};
pub use reliability::reliability;
pub use run_page::{RunPage, STOPPED};

use crate::atomic::{write_atomic, write_bytes};
use crate::error::{Error, Result};
use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::text::{self, cell};

/// Draws accuracy.{png,svg} and loss.{png,svg} of a history, and confusion_matrix.{png,svg} and
/// reliability.{png,svg} of a report, into a run's folder. Its config.toml, if there is one, says in what training metrics
/// are not like validation metrics.
///
/// # Errors
/// If a picture cannot be drawn or written.
pub fn draw(folder: impl AsRef<Path>, history: &History, report: Option<&Report>) -> Result<()> {
    let folder = folder.as_ref();
    let mut pictures = Vec::new();
    if !history.epochs.is_empty() {
        let notes = CurveNotes::read(folder);
        for figure in [Figure::Accuracy, Figure::Loss] {
            pictures.push((figure.name(), curves(history, figure, &notes)?));
        }
    }
    if let Some(report) = report {
        if is_drawn(report) {
            pictures.push(("confusion_matrix", confusion_matrix(report)?));
        }
        if let Some(calibration) = &report.calibration {
            pictures.push(("reliability", reliability(calibration)?));
        }
    }
    for (name, picture) in pictures {
        write_bytes(folder.join(format!("{name}.svg")), picture.svg.as_bytes())?;
        write_bytes(folder.join(format!("{name}.png")), &picture.png)?;
    }
    Ok(())
}

/// Whether a confusion matrix is drawn: of more classes than these nobody sees anything in it, and its picture is larger than
/// what is read.
pub(crate) fn is_drawn(report: &Report) -> bool {
    report.classes.len() <= 1000
}

/// Writes report.json, report.txt and confusion_matrix.csv into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: impl AsRef<Path>, report: &Report) -> Result<()> {
    let folder = folder.as_ref();
    let path = folder.join("report.json");
    let json = serde_json::to_string_pretty(report)
        .map_err(|e| Error::format(&path, "a report that fits JSON", e.to_string(), ""))?;
    write_bytes(&path, (text::json(&json).into_owned() + "\n").as_bytes())?;
    write_bytes(folder.join("report.txt"), report.to_string().as_bytes())?;
    write_atomic(folder.join("confusion_matrix.csv"), |out| {
        let mut csv = csv::Writer::from_writer(out);
        let names = report.classes.iter().map(|class| cell(class).into_owned());
        csv.write_record(std::iter::once("label".to_string()).chain(names))?;
        for (class, row) in report.classes.iter().zip(&report.confusion_matrix) {
            let counts = row.iter().map(usize::to_string);
            csv.write_record(std::iter::once(cell(class).into_owned()).chain(counts))?;
        }
        csv.flush()
    })
}

/// Reads a run's results.csv and report.json and draws its pictures again; what to say of a last line of results.csv that was
/// cut short and left out.
///
/// # Errors
/// If there is no such run or its files are damaged.
pub fn redraw(folder: impl AsRef<Path>) -> Result<Option<String>> {
    let folder = folder.as_ref();
    let (history, note) = History::read_csv_noting(folder.join("results.csv"))?;
    let path = folder.join("report.json");
    let report = path.exists().then(|| Report::read(&path)).transpose()?;
    draw(folder, &history, report.as_ref())?;
    Ok(note)
}
