//! What was made of a data set: its finished runs, each of which can be served.

use std::path::{Path, PathBuf};

use headstart::config::TrainConfig;
use headstart::metrics::Report;
use headstart::source::ModelSource;
use headstart::{Control, Error, Result};
use serde::Serialize;

use crate::models::{Models, check_name};
use crate::runs::{Row, Runs, State};

/// A finished run.
#[derive(Debug, Serialize)]
pub struct Made {
    /// Its name.
    pub run: String,
    /// The net.
    pub net: String,
    /// Whether it is served, by that name.
    pub served: bool,
    /// How good it is, where it was measured.
    pub report: Option<Measured>,
}

/// How good a model is.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// The images it was measured on.
    split: String,
    /// How many.
    samples: usize,
    /// The share of them that it named rightly, and the bounds of it.
    accuracy: f64,
    bounds: Option<[f64; 2]>,
    /// What always saying the commonest class would reach.
    baseline: Option<f64>,
    /// Classes without an image among them.
    unmeasured: Vec<String>,
    /// How many of them it learned from.
    learned: usize,
}

impl Measured {
    fn of(report: Report) -> Measured {
        let shown = report.confusion_matrix.iter().map(|row| row.iter().sum::<usize>());
        let unmeasured = report.classes.iter().zip(shown).filter(|(_, count)| *count == 0);
        Measured {
            unmeasured: unmeasured.map(|(class, _)| class.clone()).collect(),
            split: report.split,
            samples: report.samples,
            accuracy: report.accuracy,
            bounds: report.confidence_intervals.map(|intervals| intervals.accuracy),
            baseline: report.baseline.map(|baseline| baseline.accuracy),
            learned: report.trained_on.unwrap_or(0),
        }
    }
}

/// Whether the model of that name is that of the run in that folder, which has no links.
fn is_served(models: &Models, name: &str, run: &Path) -> bool {
    let source = models.source(name).and_then(|source| source.path()?.canonicalize().ok());
    source.is_some_and(|source| source.starts_with(run)) && models.get(Some(name)).is_some()
}

/// The finished runs over the data set in `folder`, the latest first.
///
/// # Errors
/// If the folder of runs cannot be read.
pub fn of(folder: &Path, runs: &Runs, models: &Models) -> Result<Vec<Made>> {
    let Ok(folder) = folder.canonicalize() else { return Ok(Vec::new()) };
    let own = |row: Row| {
        let path = runs.find(&row.name)?;
        let config = (row.state == State::Finished).then(|| TrainConfig::of_run(&path).ok())??;
        if PathBuf::from(&config.data).canonicalize().ok()? != folder {
            return None;
        }
        let report = Report::read(path.join("report.json")).ok().map(Measured::of);
        let served = is_served(models, &row.name, &path);
        Some(Made { run: row.name, net: config.model, served, report })
    };
    Ok(runs.list()?.into_iter().filter_map(own).collect())
}

/// Serves a run's model by the run's name, if it is not served already.
///
/// # Errors
/// If it has none, or another model has the name.
pub fn serve(name: &str, run: &Path, models: &Models) -> Result<()> {
    check_name(name)?;
    if is_served(models, name, run) {
        return Ok(());
    }
    if models.get(Some(name)).is_some() {
        let expected = "a name that no other model has";
        return Err(Error::invalid("model", expected, name, "rename the run's folder"));
    }
    models.check_room(name)?;
    let source = ModelSource::new(&run.display().to_string(), None)?;
    let (model, _) = source.open(&mut |_| Control::Continue)?;
    models.put(name, model, Some(source)).map(drop)
}
