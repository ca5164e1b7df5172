//! What a run shipped and how good it is, from its folder.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::measure::epoch::EpochRecord;
use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::net::weights::SHIPPED;
use crate::numbers::grouped;
use crate::session::config::{TrainConfig, shell_words};
use crate::session::stopped::stopped;

/// The model that a run ships, as its folder tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The epoch that it is from.
    pub epoch: EpochRecord,
    /// Epochs of the run.
    pub epochs: usize,
    /// The metric by which it is the best, as results.csv calls it, and its value.
    pub monitor: (String, f64),
    /// What it is by that: "the best by val_accuracy".
    pub is: String,
    /// Of a run that was stopped and can be resumed, its folder and the epochs that it would have.
    pub stopped: Option<(PathBuf, usize)>,
    /// Its evaluation; none where no images were held out, or where the run was stopped.
    pub report: Option<Report>,
}

/// The outcome of the run whose folder, or whose shipped file, is at `path`; `None` where it is another file, or the run has
/// no epochs.
///
/// # Errors
/// If a file of the run cannot be read.
pub fn of_model(path: impl AsRef<Path>) -> Result<Option<Outcome>> {
    let Some(folder) = folder(path.as_ref()) else { return Ok(None) };
    let records = folder.join("results.csv");
    if !records.is_file() {
        return Ok(None);
    }
    let config = TrainConfig::of_run(&folder)?;
    let by = config.best_by();
    let (history, _) = History::read_csv_noting(records)?;
    let Some(epoch) = history.best(by).cloned() else { return Ok(None) };
    let path = folder.join("report.json");
    let report = path.exists().then(|| Report::read(&path)).transpose()?;
    let (monitor, is) = ((by.monitor.column(&epoch), by.monitor.of(&epoch)), by.words(&epoch));
    let epochs = history.epochs.len();
    let stopped = stopped(&folder, &config, &history, report.as_ref());
    let stopped = stopped.map(|planned| (folder, planned));
    Ok(Some(Outcome { epoch, epochs, monitor, is, stopped, report }))
}

/// The folder of the run whose shipped file is meant.
fn folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return path.join(SHIPPED).is_file().then(|| path.to_path_buf());
    }
    let root = path.ancestors().nth(Path::new(SHIPPED).components().count())?;
    path.ends_with(SHIPPED).then(|| root.to_path_buf())
}

/// One line for the epoch, one for the evaluation.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            epoch: EpochRecord { epoch, phase, .. },
            epochs,
            monitor: (_, value),
            is,
            stopped,
            ..
        } = self;
        let phase = phase.name();
        if let Some((folder, planned)) = stopped {
            let run = shell_words(&[folder.display().to_string()]);
            write!(f, "stopped after {epochs} of {planned} epochs; ")?;
            writeln!(f, "headstart train --resume {run} goes on")?;
            write!(f, "best so far: epoch {epoch} ({phase}), {is}, {value:.4}")?;
        } else {
            write!(f, "shipped: epoch {epoch} of {epochs} ({phase}), {is}, {value:.4}")?;
        }
        let Some(report) = &self.report else {
            return match stopped {
                Some(_) => write!(f, "\nnot evaluated yet"),
                None => write!(f, "\nnot evaluated: no images were held out"),
            };
        };
        let refit = report.shipped.as_ref().map_or(0, |shipped| shipped.refit);
        if refit > 0 {
            write!(f, "; fitted again with the {} validation images", grouped(refit))?;
        }
        let Report { split, accuracy, loss, samples, .. } = report;
        write!(f, "\n{split} accuracy {accuracy:.4}")?;
        if let Some(i) = &report.confidence_intervals {
            let ([low, high], percent) = (i.accuracy, 100.0 * i.level);
            write!(f, " ({percent:.0}%: {low:.4} to {high:.4})")?;
        }
        write!(f, ", loss {loss:.4}, on {} images", grouped(*samples))?;
        match report.trained_on {
            Some(count @ 1..) => {
                write!(f, ", {} of which it was trained on", grouped(count))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_its_folder_or_the_file_that_it_ships() {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("run");
        let weights = run.join("weights");
        std::fs::create_dir_all(&weights).unwrap();
        assert_eq!(folder(&run), None);
        for name in ["best.safetensors", "last.safetensors"] {
            std::fs::write(weights.join(name), "").unwrap();
        }
        assert_eq!(folder(&run), Some(run.clone()));
        assert_eq!(folder(&weights.join("best.safetensors")), Some(run.clone()));
        assert_eq!(folder(&weights.join("last.safetensors")), None);
        // A model without records is one that was copied.
        assert_eq!(of_model(&run).unwrap(), None);
    }
}
