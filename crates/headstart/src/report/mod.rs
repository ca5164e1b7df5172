//! Pictures of a run.

mod plots;

use std::path::Path;

pub use plots::{Picture, confusion_matrix, curves};

use crate::atomic::write_bytes;
use crate::error::{Error, Result};
use crate::history::History;
use crate::metrics::Report;

/// Draws accuracy.{png,svg} and loss.{png,svg} of a history, and confusion_matrix.{png,svg} of a
/// report, into a run's folder.
///
/// # Errors
/// If a picture cannot be drawn or written.
pub fn draw(folder: impl AsRef<Path>, history: &History, report: Option<&Report>) -> Result<()> {
    let folder = folder.as_ref();
    let mut pictures = Vec::new();
    if !history.epochs.is_empty() {
        pictures.push(("accuracy", curves(history, plots::Figure::Accuracy)?));
        pictures.push(("loss", curves(history, plots::Figure::Loss)?));
    }
    if let Some(report) = report {
        pictures.push(("confusion_matrix", confusion_matrix(report)?));
    }
    for (name, picture) in pictures {
        write_bytes(folder.join(format!("{name}.svg")), picture.svg.as_bytes())?;
        write_bytes(folder.join(format!("{name}.png")), &picture.png)?;
    }
    Ok(())
}

/// Reads a run's results.csv and report.json and draws its pictures anew.
///
/// # Errors
/// If there is no such run or its files are damaged.
pub fn redraw(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let history = History::read_csv(folder.join("results.csv"))?;
    let path = folder.join("report.json");
    let report = match path.exists() {
        false => None,
        true => {
            let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
            let report: Report = serde_json::from_slice(&text)
                .map_err(|e| Error::format(&path, "a report of headstart's", e.to_string(), ""))?;
            let n = report.classes.len();
            let square = report.confusion_matrix.len() == n
                && report.confusion_matrix.iter().all(|row| row.len() == n);
            if !square {
                let expected = format!("a confusion matrix of {n} x {n}");
                return Err(Error::format(&path, expected, "another shape", ""));
            }
            Some(report)
        }
    };
    draw(folder, &history, report.as_ref())
}
