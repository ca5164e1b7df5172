//! Which epoch is best, and when a phase stops early: pure functions of epoch records.
//!
//! ```
//! use headstart::monitor::{EarlyStopping, Monitor};
//!
//! let rule = EarlyStopping { monitor: Monitor::Loss, patience: 2, min_delta: 0.0 };
//! assert_eq!(rule.waited([0.9, 0.5, 0.6, 0.7]), 2);
//! assert!(rule.stops([0.9, 0.5, 0.6, 0.7]) && !rule.stops([0.9, 0.5, 0.6]));
//! ```

use serde::{Deserialize, Serialize};

use crate::measure::epoch::EpochRecord;

/// The metric by which epochs are compared: on the validation images, or on the training images where none are
/// held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// Accuracy, the higher the better; among equals the loss.
    #[default]
    Accuracy,
    /// Loss, the lower the better; among equals the accuracy.
    Loss,
    /// Macro F1: the mean of the classes' F1, so that a small class counts as much as a large one; among equals the loss. Where
    /// it is not known, on training images and in epochs of earlier versions, accuracy takes its place.
    MacroF1,
}

impl Monitor {
    /// "accuracy", "loss" or "macro-f1".
    pub fn name(self) -> &'static str {
        match self {
            Monitor::Accuracy => "accuracy",
            Monitor::Loss => "loss",
            Monitor::MacroF1 => "macro-f1",
        }
    }

    /// Its column of results.csv for an epoch: "val_accuracy", "val_loss" or "val_macro_f1", or without "val_" where nothing
    /// is held out.
    pub fn column(self, record: &EpochRecord) -> String {
        let part = if record.val_loss.is_some() { "val_" } else { "" };
        let metric = match self {
            Monitor::Loss => "loss",
            Monitor::MacroF1 if record.val_macro_f1.is_some() => "macro_f1",
            Monitor::Accuracy | Monitor::MacroF1 => "accuracy",
        };
        format!("{part}{metric}")
    }

    /// The metric.
    pub fn of(self, record: &EpochRecord) -> f64 {
        match self {
            Monitor::Accuracy => record.val_accuracy.unwrap_or(record.accuracy),
            Monitor::Loss => loss(record),
            Monitor::MacroF1 => record.val_macro_f1.unwrap_or_else(|| Monitor::Accuracy.of(record)),
        }
    }

    /// The best of `records`: the earliest among equals.
    pub fn best(self, records: &[EpochRecord]) -> Option<&EpochRecord> {
        let key = |e: &EpochRecord| {
            let loss = -Monitor::Loss.of(e);
            match self {
                Monitor::Loss => (loss, Monitor::Accuracy.of(e)),
                Monitor::Accuracy | Monitor::MacroF1 => (self.of(e), loss),
            }
        };
        records.iter().reduce(|best, e| {
            let (a, b) = (key(e), key(best));
            if a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).is_gt() { e } else { best }
        })
    }
}

/// Which of a run's epochs is shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BestBy {
    /// The metric.
    pub monitor: Monitor,
    /// Differences in the metric up to this one are chance: the phase that reaches the best value is represented by the last of its
    /// epochs within that of it, as a learning rate schedule is for its end. 0 for the best epoch itself.
    pub within: f64,
}

impl From<Monitor> for BestBy {
    fn from(monitor: Monitor) -> BestBy {
        BestBy { monitor, within: 0.0 }
    }
}

impl BestBy {
    /// The epoch, of `records`: that of [`Monitor::best`] or one after it in the same phase. Where the records go on, it stays the
    /// same or becomes the last one.
    pub fn best(self, records: &[EpochRecord]) -> Option<&EpochRecord> {
        let BestBy { monitor, within } = self;
        let best = monitor.best(records)?;
        let sign = if monitor == Monitor::Loss { -1.0 } else { 1.0 };
        let least = sign * monitor.of(best) - within;
        let mut later = records.iter().filter(|e| e.phase == best.phase && e.epoch > best.epoch);
        let reaches = |e: &&EpochRecord| within > 0.0 && sign * monitor.of(e) >= least;
        later.rfind(reaches).or(Some(best))
    }

    /// What `record` is: "the best by val_accuracy".
    pub fn words(self, record: &EpochRecord) -> String {
        says(self.within, &self.monitor.column(record))
    }
}

/// What an epoch is that was chosen by the metric of that column: "the best by val_accuracy".
pub(crate) fn says(within: f64, column: &str) -> String {
    match within > 0.0 {
        true => format!("the last of its phase within {within} of the best {column}"),
        false => format!("the best by {column}"),
    }
}

/// The validation loss, or the training loss where nothing is held out.
pub(crate) fn loss(record: &EpochRecord) -> f64 {
    record.val_loss.unwrap_or(record.loss)
}

/// Keras's `EarlyStopping(restore_best_weights=True)`. Each phase counts from its own start, as each `fit` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyStopping {
    /// The metric.
    pub monitor: Monitor,
    /// Epochs without improvement after which a phase ends.
    pub patience: usize,
    /// By how much the metric must improve on the best to count.
    pub min_delta: f64,
}

impl EarlyStopping {
    /// Epochs since the last improvement, from the metric of a phase's epochs in order.
    pub fn waited(&self, figures: impl IntoIterator<Item = f64>) -> usize {
        let sign = if self.monitor == Monitor::Loss { -1.0 } else { 1.0 };
        let (mut best, mut wait) = (None, 0);
        for figure in figures.into_iter().map(|f| f * sign) {
            wait += 1;
            if best.is_none_or(|best| figure - self.min_delta > best) {
                (best, wait) = (Some(figure), 0);
            }
        }
        wait
    }

    /// Whether a phase ends after these epochs; never after an improvement, such as the first epoch.
    pub fn stops(&self, figures: impl IntoIterator<Item = f64>) -> bool {
        self.waited(figures) >= self.patience.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_phase_within_chance_of_its_best_stands_for_it() {
        use crate::measure::epoch::PhaseName::{FineTune, Head};
        let records = |epochs: &[(crate::measure::epoch::PhaseName, f64)]| -> Vec<EpochRecord> {
            let record = |(i, &(phase, value)): (usize, &(_, f64))| EpochRecord {
                epoch: i + 1,
                phase,
                seconds: 1.0,
                images_per_second: 1.0,
                loss: 1.0,
                accuracy: 0.5,
                val_loss: Some(1.0 - value),
                val_accuracy: Some(value),
                learning_rate: 1e-3,
                val_macro_f1: None,
            };
            epochs.iter().enumerate().map(record).collect()
        };
        let best = |within, epochs: &[(_, f64)]| {
            let records = records(epochs);
            let of = |monitor| BestBy { monitor, within }.best(&records).unwrap().epoch;
            assert_eq!(of(Monitor::Accuracy), of(Monitor::Loss));
            // Files are written as epochs come: what was chosen stays, or is the newest.
            let mut chosen = 0;
            for count in 1..=records.len() {
                let now = BestBy { monitor: Monitor::Accuracy, within }.best(&records[..count]);
                let now = now.unwrap().epoch;
                assert!(now == chosen || now == count, "{now} after {chosen} of {count}");
                chosen = now;
            }
            chosen
        };
        let epochs = [
            (Head, 0.88),
            (FineTune, 0.80),
            (FineTune, 0.94),
            (FineTune, 0.90),
            (FineTune, 0.93),
            (FineTune, 0.91),
        ];
        assert_eq!(best(0.0, &epochs), 3);
        assert_eq!(best(0.015, &epochs), 5);
        assert_eq!(best(0.035, &epochs), 6);
        // The head stands for itself.
        assert_eq!(best(0.05, &[(Head, 0.9), (FineTune, 0.89), (FineTune, 0.88)]), 1);
        assert_eq!(best(0.05, &[(Head, 0.9), (FineTune, 0.91), (FineTune, 0.87)]), 3);
    }

    #[test]
    fn training_stops_where_keras_stops_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizers/schedules.json");
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let numbers = |key: &str| -> Vec<f64> {
            golden[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let cases = golden["stops"].as_array().unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            for (monitor, figures) in
                [(Monitor::Loss, numbers("losses")), (Monitor::Accuracy, numbers("accuracies"))]
            {
                let patience = case["patience"].as_u64().unwrap() as usize;
                let rule = EarlyStopping {
                    monitor,
                    patience,
                    min_delta: case["min_delta"].as_f64().unwrap(),
                };
                let stops = |n: &usize| rule.stops(figures[..*n].iter().copied());
                let epoch = (1..=figures.len()).find(stops).unwrap_or(0);
                assert_eq!(Some(epoch as u64), case[monitor.name()].as_u64(), "{rule:?}");
            }
        }
    }
}
