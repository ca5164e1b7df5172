//! Epoch records, as results.csv holds them.
//!
//! ```
//! use headstart::history::History;
//!
//! let history = History::default();
//! let text = history.to_csv()?;
//! assert!(text.starts_with("epoch,phase,seconds"));
//! assert_eq!(History::from_csv(&text), Ok(history));
//! # Ok::<(), headstart::Error>(())
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic::write_bytes;
use crate::error::{Error, Result};
pub use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::measure::monitor::Monitor;
use crate::memory::read_records;

/// Epochs in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The epochs.
    pub epochs: Vec<EpochRecord>,
}

impl History {
    /// The epoch with the best weights by `monitor`; the earliest among equals.
    pub fn best(&self, monitor: Monitor) -> Option<&EpochRecord> {
        monitor.best(&self.epochs)
    }

    /// The last `count` epochs, or all there are.
    pub fn last(&self, count: usize) -> &[EpochRecord] {
        &self.epochs[self.epochs.len().saturating_sub(count)..]
    }

    /// The text of results.csv.
    ///
    /// # Errors
    /// If a record does not fit CSV.
    pub fn to_csv(&self) -> Result<String> {
        let failed =
            |e: csv::Error| Error::invalid("history", "records that fit CSV", e.to_string(), "");
        let mut writer = csv::Writer::from_writer(Vec::new());
        for epoch in &self.epochs {
            writer.serialize(epoch).map_err(failed)?;
        }
        if self.epochs.is_empty() {
            writer.write_record(COLUMNS).map_err(failed)?;
        }
        let bytes = writer.into_inner().map_err(|e| failed(e.into_error().into()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The history that a results.csv's text holds.
    ///
    /// # Errors
    /// What is wrong, if it is not of this form, epochs are missing or a value is not finite.
    pub fn from_csv(text: &str) -> Result<History, String> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let records: Result<Vec<EpochRecord>, _> = reader.deserialize().collect();
        let epochs = records.map_err(|e| e.to_string())?;
        match epochs.iter().zip(1..).find_map(|(record, number)| record.nonsense(number)) {
            Some(nonsense) => Err(nonsense),
            None => Ok(History { epochs }),
        }
    }

    /// Writes results.csv again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        write_bytes(path, self.to_csv()?.as_bytes())
    }

    /// Reads results.csv.
    ///
    /// # Errors
    /// If it cannot be read or is not of this form.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<History> {
        let path = path.as_ref();
        let history =
            read_records(path, |text| History::from_csv(&String::from_utf8_lossy(&text)))?;
        history.map_err(|found| {
            let expected = format!("rows of {}", COLUMNS.join(","));
            Error::format(path, expected, found, "")
        })
    }
}

/// Columns of results.csv.
pub const COLUMNS: [&str; 9] = [
    "epoch",
    "phase",
    "seconds",
    "images_per_second",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize, val: Option<(f64, f64)>) -> EpochRecord {
        EpochRecord {
            epoch,
            phase: PhaseName::Head,
            seconds: 1.5,
            images_per_second: 30.0,
            loss: 1.0 / epoch as f64,
            accuracy: 0.5,
            val_loss: val.map(|v| v.0),
            val_accuracy: val.map(|v| v.1),
            learning_rate: 1e-4,
        }
    }

    #[test]
    fn a_history_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let phase = PhaseName::fine_tune(2);
        let again = vec![EpochRecord { phase, ..record(1, None) }];
        for epochs in [vec![], vec![record(1, None), record(2, Some((0.3, 0.7)))], again] {
            let history = History { epochs };
            history.write_csv(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().next().unwrap(), COLUMNS.join(","));
            assert_eq!(History::read_csv(&path).unwrap(), history);
        }
    }

    #[test]
    fn rows_that_no_run_writes_are_refused() {
        let good = History { epochs: vec![record(1, None), record(2, Some((0.3, 0.7)))] };
        let text = good.to_csv().unwrap();
        assert_eq!(History::from_csv(&text), Ok(good));
        for (from, to, part) in [
            ("\n2,", "\n3,", "epoch 3 in row 2"),
            ("\n1,", "\n0,", "epoch 0 in row 1"),
            (",0.7,", ",NaN,", "a value of NaN in row 2"),
            (",0.7,", ",1e300,", "in row 2"),
            (",0.3,", ",inf,", "a value of inf in row 2"),
            ("\n1,head,1.5", "\n1,head,-inf", "in row 1"),
            (",0.3,", ",x,", "invalid float"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(bad != text, "no {from:?} in {text}");
            let found = History::from_csv(&bad).unwrap_err();
            assert!(found.contains(part), "no {part:?} in {found}");
        }
    }

    #[test]
    fn the_best_epoch_is_by_what_is_monitored_then_the_other_then_order() {
        let best = |monitor, vals: &[(f64, f64)]| {
            let epochs = vals.iter().enumerate().map(|(i, &v)| record(i + 1, Some(v))).collect();
            History { epochs }.best(monitor).unwrap().epoch
        };
        let vals = [(0.5, 0.7), (0.4, 0.8), (0.3, 0.8), (0.3, 0.8), (0.1, 0.6), (0.1, 0.7)];
        assert_eq!(best(Monitor::Accuracy, &vals), 3);
        assert_eq!(best(Monitor::Loss, &vals), 6);
        // The training metrics where nothing is held out.
        let epochs = vec![record(1, None), record(2, None), record(3, None)];
        assert_eq!(History { epochs }.best(Monitor::Loss).unwrap().epoch, 3);
    }
}
