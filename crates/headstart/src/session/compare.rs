//! Runs side by side: the settings in which they differ, and their results.
//!
//! ```
//! use headstart::config::TrainConfig;
//! use headstart::history::History;
//! use headstart::{compare, run_folder::RunFolder};
//!
//! let folder = tempfile::tempdir()?;
//! let mut runs = Vec::new();
//! for (name, batch_size) in [("small", 20), ("large", 100)] {
//!     let run = RunFolder::create(folder.path().join(name), false)?;
//!     run.write_config(&TrainConfig { batch_size, ..TrainConfig::default() }.to_toml()?)?;
//!     run.write_history(&History::default())?;
//!     runs.push(compare::read(run.path())?);
//! }
//! let differences = compare::compare(runs).differences;
//! assert_eq!(differences[0].setting, "batch-size");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::measure::epoch::EpochRecord;
use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::measure::monitor::BestBy;
use crate::memory::read_settings;
use crate::net::weights::{self, SHIPPED};
use crate::session::config::{TrainConfig, word};
use crate::text::{of_path, visible};

/// One run's results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// The run's folder.
    pub run: String,
    /// Epochs done.
    pub epochs: usize,
    /// Seconds of all epochs.
    pub seconds: f64,
    /// The best epoch.
    pub best: Option<EpochRecord>,
    /// The last epoch.
    pub last: Option<EpochRecord>,
    /// Loss, accuracy and the like on the images its report is about.
    pub report: Option<Figures>,
    /// All epochs.
    #[serde(skip)]
    pub history: History,
    /// What to say of a last line of results.csv that was cut short and left out.
    #[serde(skip)]
    pub note: Option<String>,
    /// Those that take effect ([`TrainConfig::effective`]).
    #[serde(skip)]
    settings: toml::Table,
    /// Where the images are, if they are files that are still there.
    #[serde(skip)]
    images: Option<PathBuf>,
}

/// A report's metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// "test" or "validation".
    pub split: String,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Accuracy.
    pub accuracy: f64,
    /// Mean of the classes' F1 scores.
    pub macro_f1: f64,
    /// Top-5 accuracy; it says nothing of fewer than six classes.
    pub top5: f64,
    /// Number of classes.
    pub classes: usize,
}

/// A setting that does not take effect with the same value in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its name in config.toml.
    pub setting: String,
    /// The value that it comes to in each run; none where it has no effect, or is not set.
    pub values: Vec<Option<String>>,
}

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The runs, in the order given.
    pub runs: Vec<RunSummary>,
    /// Settings that differ.
    pub differences: Vec<Difference>,
}

/// Reads a run's config.toml, results.csv and, where there is one, report.json.
///
/// # Errors
/// If a file is missing or damaged.
pub fn read(folder: impl AsRef<Path>) -> Result<RunSummary> {
    let folder = folder.as_ref();
    let path = folder.join("config.toml");
    let settings =
        read_settings(&path, |text| String::from_utf8_lossy(&text).parse::<toml::Table>())?;
    let mut settings = settings.map_err(|e| {
        Error::format(&path, "settings of `headstart train`", e.message().trim(), "")
    })?;
    let mut images = None;
    // Those of another version are compared as they are written.
    if let Ok(config) = TrainConfig::of_run(folder) {
        let card = weights::read(folder.join(SHIPPED)).ok().and_then(|file| file.card);
        settings = config.effective(card.as_ref())?;
        images = std::fs::canonicalize(&config.data).ok();
    }
    let (history, note) = History::read_csv_noting(folder.join("results.csv"))?;
    // Runs of earlier versions do not say it.
    let monitor = settings.get("monitor").cloned().and_then(|m| m.try_into().ok());
    let within = settings.get("best-within").and_then(|within| within.as_float());
    let by = BestBy { monitor: monitor.unwrap_or_default(), within: within.unwrap_or(0.0) };
    let path = folder.join("report.json");
    let report = path.exists().then(|| Report::read(&path)).transpose()?;
    let report = report.map(|report| {
        let (classes, macro_f1) = (report.classes.len(), report.averages.macro_average.f1);
        let Report { split, loss, accuracy, top5, .. } = report;
        Figures { split, loss, accuracy, macro_f1, top5, classes }
    });
    Ok(RunSummary {
        run: of_path(folder),
        epochs: history.epochs.len(),
        seconds: history.epochs.iter().map(|e| e.seconds).sum(),
        best: history.best(by).cloned(),
        last: history.epochs.last().cloned(),
        report,
        history,
        note,
        settings,
        images,
    })
}

/// A setting of somebody else's run, in one line.
fn shown(value: &toml::Value) -> String {
    visible(&word(value)).into_owned()
}

/// Compares runs.
pub fn compare(runs: Vec<RunSummary>) -> Comparison {
    let mut names: Vec<&String> = runs.iter().flat_map(|r| r.settings.keys()).collect();
    names.sort();
    names.dedup();
    let same_images = runs.iter().all(|r| r.images.is_some() && r.images == runs[0].images);
    let usual = usual();
    let differences = names.into_iter().filter_map(|name| {
        let values: Vec<Option<String>> =
            runs.iter().map(|r| r.settings.get(name).map(shown)).collect();
        // Where a setting has no effect in one run, its default in another is no choice.
        let usual = usual.get(name).map(shown);
        let of = |value: &Option<String>| value.clone().or(usual.clone());
        let differ = values.iter().any(|v| of(v) != of(&values[0]));
        let differ = differ && !(name == "data" && same_images);
        differ.then(|| Difference { setting: visible(name).into_owned(), values })
    });
    let differences = differences.collect();
    Comparison { runs, differences }
}

/// The default of every setting that has one, also of those that nothing reads by default.
fn usual() -> toml::Table {
    let config = TrainConfig::default();
    let text = config.to_toml().unwrap_or_default();
    let mut all: toml::Table = text.parse().unwrap_or_default();
    all.extend(config.effective(None).unwrap_or_default());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_differ_are_listed() {
        let run = |text: &str| RunSummary {
            run: "a".into(),
            epochs: 0,
            seconds: 0.0,
            best: None,
            last: None,
            report: None,
            history: History::default(),
            note: None,
            settings: text.parse().unwrap(),
            images: None,
        };
        let runs = vec![
            run("seed = 1\nmodel = \"resnet50\"\nlimit = 3\naccumulate = 1\nschedule-alpha = 0"),
            run("seed = 2\nmodel = \"resnet50\""),
        ];
        let differences = compare(runs).differences;
        let value = |text: &str| Some(text.to_string());
        let expected = [
            Difference { setting: "limit".into(), values: vec![value("3"), None] },
            Difference { setting: "seed".into(), values: vec![value("1"), value("2")] },
        ];
        assert_eq!(differences, expected);
    }
}
