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
use crate::measure::monitor::BestBy;
use crate::memory::read_records;

/// Epochs in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The epochs.
    pub epochs: Vec<EpochRecord>,
}

impl History {
    /// The epoch with the best weights by a metric, the earliest among equals, or as [`BestBy`] says.
    pub fn best(&self, by: impl Into<BestBy>) -> Option<&EpochRecord> {
        by.into().best(&self.epochs)
    }

    /// The best epoch of each phase, in the order of the phases: what each of them reached.
    pub fn by_phase(&self, by: impl Into<BestBy>) -> Vec<&EpochRecord> {
        let by = by.into();
        let phases = self.epochs.chunk_by(|a, b| a.phase == b.phase);
        phases.filter_map(|epochs| by.best(epochs)).collect()
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

    /// The history that a results.csv's text holds. A last line without its end, which a process that was killed while it wrote
    /// leaves, is left out.
    ///
    /// # Errors
    /// What is wrong and in which line, if it is not of this form, epochs are missing or a value is not finite.
    pub fn from_csv(text: &str) -> Result<History, String> {
        let (whole, _) = whole_lines(text);
        let mut lines = whole.lines().zip(1..);
        let header = lines.next().map_or("", |(line, _)| line);
        let columns = match header {
            header if header == COLUMNS.join(",") => &COLUMNS[..],
            header if header == COLUMNS[..EARLIER].join(",") => &COLUMNS[..EARLIER],
            other => return Err(format!("line 1: {}", shown(other))),
        };
        let mut epochs = Vec::new();
        for (line, number) in lines {
            let record =
                record(line, columns).map_err(|found| format!("line {number}: {found}"))?;
            if let Some(nonsense) = record.nonsense(epochs.len() + 1) {
                return Err(format!("line {number}: {nonsense}"));
            }
            epochs.push(record);
        }
        Ok(History { epochs })
    }

    /// Writes results.csv again.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        write_bytes(path, self.to_csv()?.as_bytes())
    }

    /// Reads results.csv; a last line without its end is left out.
    ///
    /// # Errors
    /// If it cannot be read or is not of this form.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<History> {
        Ok(History::read_csv_noting(path)?.0)
    }

    /// The same, and what to say of a last line that was left out.
    ///
    /// # Errors
    /// As [`History::read_csv`].
    pub fn read_csv_noting(path: impl AsRef<Path>) -> Result<(History, Option<String>)> {
        let path = path.as_ref();
        let wrong = |found: String| {
            let expected = format!("rows of {}", COLUMNS.join(","));
            let hint = "`headstart train --resume` writes it again, with all epochs that last.safetensors knows";
            Error::format(path, expected, found, hint)
        };
        let read = |bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes);
            let cut = whole_lines(&text).1;
            Ok((History::from_csv(&text)?, cut))
        };
        let (history, cut) = read_records(path, read)?.map_err(wrong)?;
        let note =
            cut.map(|line| format!("{}: line {line} is cut short and left out", path.display()));
        Ok((history, note))
    }
}

/// The lines that are complete, and the number of a last one that is not. The header alone is always taken.
fn whole_lines(text: &str) -> (&str, Option<usize>) {
    match text.rfind('\n') {
        Some(end) if end + 1 < text.len() => {
            let whole = &text[..=end];
            (whole, Some(whole.lines().count() + 1))
        }
        _ => (text, None),
    }
}

/// The record of a line of these columns.
fn record(line: &str, columns: &[&str]) -> Result<EpochRecord, String> {
    let mut cells: Vec<&str> = line.splitn(columns.len() + 1, ',').collect();
    if cells.len() != columns.len() {
        let count = line.split(',').count();
        return Err(format!("{count} columns, not {}, in {}", columns.len(), shown(line)));
    }
    cells.resize(COLUMNS.len(), "");
    let wrong = |at: usize| format!("{} as {}", shown(cells[at]), COLUMNS[at]);
    let number = |at: usize| cells[at].parse::<f64>().map_err(|_| wrong(at));
    let or_none = |at: usize| (!cells[at].is_empty()).then(|| number(at)).transpose();
    Ok(EpochRecord {
        epoch: cells[0].parse().map_err(|_| wrong(0))?,
        phase: PhaseName::try_from(cells[1].to_string()).map_err(|_| wrong(1))?,
        seconds: number(2)?,
        images_per_second: number(3)?,
        loss: number(4)?,
        accuracy: number(5)?,
        val_loss: or_none(6)?,
        val_accuracy: or_none(7)?,
        learning_rate: number(8)?,
        val_macro_f1: or_none(9)?,
    })
}

/// The beginning of a text, quoted.
fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// How many columns earlier versions wrote: the first of them.
const EARLIER: usize = 9;

/// Columns of results.csv.
pub const COLUMNS: [&str; 10] = [
    "epoch",
    "phase",
    "seconds",
    "images_per_second",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "val_macro_f1",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::monitor::Monitor;

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
            val_macro_f1: val.map(|v| v.1 / 2.0),
        }
    }

    #[test]
    fn each_phase_has_a_best_epoch() {
        let tuned = |epoch, val| EpochRecord { phase: PhaseName::FineTune, ..record(epoch, val) };
        let epochs = vec![
            record(1, Some((0.6, 0.7))),
            record(2, Some((0.5, 0.8))),
            tuned(3, Some((0.9, 0.6))),
            tuned(4, Some((0.4, 0.9))),
            tuned(5, Some((0.3, 0.85))),
        ];
        let history = History { epochs };
        let of = |monitor| history.by_phase(monitor).iter().map(|e| e.epoch).collect::<Vec<_>>();
        assert_eq!(of(Monitor::Accuracy), [2, 4]);
        assert_eq!(of(Monitor::Loss), [2, 5]);
        assert!(History::default().by_phase(Monitor::Loss).is_empty());
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
            ("\n2,", "\n3,", "line 3: epoch 3, where epoch 2 was expected"),
            ("\n1,", "\n0,", "line 2: epoch 0, where epoch 1"),
            (",0.7,", ",NaN,", "line 3: a value of NaN"),
            (",0.7,", ",1e300,", "line 3: a value of 1e300"),
            (",0.3,", ",inf,", "line 3: a value of inf"),
            ("\n1,head,1.5", "\n1,head,-inf", "line 2: a value of -inf"),
            (",0.3,", ",x,", "line 3: \"x\" as val_loss"),
            ("2,head", "2,tail", "line 3: \"tail\" as phase"),
            ("\n2,", "\ntwo,", "line 3: \"two\" as epoch"),
            (",0.3,", ",0.3,0.3,", "line 3: 11 columns, not 10"),
            ("\n2,head,", "\n2,", "line 3: 9 columns, not 10"),
            (",0.35\n", ",x\n", "line 3: \"x\" as val_macro_f1"),
            (",0.35\n", ",1.5\n", "line 3: a value of 1.5"),
            ("epoch,", "epok,", "line 1: \"epok,"),
            ("epoch,phase", "\u{0}\u{1}\u{fffd}PNG", "line 1: \"\\0"),
            ("\n1,", "\n\n1,", "line 2: 1 columns"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(bad != text, "no {from:?} in {text}");
            let found = History::from_csv(&bad).unwrap_err();
            assert!(found.contains(part), "no {part:?} in {found}");
            assert!(found.len() < 200, "{found}");
        }
        let wide = format!("{}\n{}1\n", COLUMNS.join(","), "1,".repeat(1_000_000));
        let found = History::from_csv(&wide).unwrap_err();
        assert!(found.contains("line 2: 1000001 columns") && found.len() < 200, "{found}");
        assert!(History::from_csv("").unwrap_err().contains("line 1: \"\""));
    }

    #[test]
    fn the_file_of_an_earlier_version_is_read() {
        let all = History { epochs: vec![record(1, None), record(2, Some((0.3, 0.7)))] };
        let lines: Vec<String> = all.to_csv().unwrap().lines().map(str::to_string).collect();
        let cut = lines.iter().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0));
        let read = History::from_csv(&cut.collect::<String>()).unwrap();
        let without = |e: &EpochRecord| EpochRecord { val_macro_f1: None, ..e.clone() };
        assert_eq!(read.epochs, all.epochs.iter().map(without).collect::<Vec<_>>());
        // Accuracy takes the place of what is not known.
        assert_eq!(Monitor::MacroF1.of(&read.epochs[1]), 0.7);
        assert_eq!(Monitor::MacroF1.column(&read.epochs[1]), "val_accuracy");
        assert_eq!(Monitor::MacroF1.of(&all.epochs[1]), 0.35);
        assert_eq!(Monitor::MacroF1.column(&all.epochs[1]), "val_macro_f1");
        assert_eq!(Monitor::MacroF1.column(&all.epochs[0]), "accuracy");
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out_and_said() {
        let good = History { epochs: vec![record(1, None), record(2, Some((0.3, 0.7)))] };
        let text = good.to_csv().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let start = text.trim_end().rfind('\n').unwrap() + 1;
        // Whatever its length: the cut number 0.0001 may be 0.
        for length in start + 1..text.len() {
            std::fs::write(&path, &text[..length]).unwrap();
            let (history, note) = History::read_csv_noting(&path).unwrap();
            assert_eq!(history.epochs, good.epochs[..1]);
            assert!(note.unwrap().contains("line 3 is cut short"));
        }
        std::fs::write(&path, &text).unwrap();
        assert_eq!(History::read_csv_noting(&path).unwrap(), (good, None));
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
