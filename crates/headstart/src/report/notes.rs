//! In what a run's training metrics are not like its validation metrics.

use std::path::Path;

use toml::{Table, Value};

use super::figure::Figure;
use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::measure::history::History;
use crate::memory::read_settings;

/// What curves have to say about a run besides its epochs. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurveNotes {
    /// What only training images have, such as "augmented" and "mixup 0.2": for accuracy and loss.
    pub images: Vec<String>,
    /// What only the training loss has, such as "label smoothing 0.1".
    pub loss: Vec<String>,
    /// Whether the head was fitted with L-BFGS, as one epoch.
    pub fitted_head: bool,
}

impl CurveNotes {
    /// The notes of the run in `folder`, by its config.toml; those of no run where there is none that can be read.
    pub fn read(folder: &Path) -> CurveNotes {
        let path = folder.join("config.toml");
        let settings = read_settings(&path, |text| String::from_utf8_lossy(&text).parse());
        settings.ok().and_then(|s| s.ok()).map_or_else(CurveNotes::default, |s| CurveNotes::of(&s))
    }

    /// The notes of a run with these settings, as config.toml names them.
    pub fn of(settings: &Table) -> CurveNotes {
        let number =
            |name: &str| settings.get(name).and_then(Value::as_float).filter(|n| *n != 0.0);
        let is = |name: &str| settings.get(name).is_some_and(|v| *v != Value::Boolean(false));
        let shown = |name: &str, text: &str| number(name).map(|n| format!("{text} {}", n as f32));
        let augmented = settings.get("augment").and_then(Value::as_array);
        let images = [
            augmented.filter(|list| !list.is_empty()).map(|_| "augmented".to_string()),
            shown("mixup", "mixup"),
            shown("cutmix", "CutMix"),
            shown("dropout", "dropout"),
            is("balance").then(|| "balanced".to_string()),
        ];
        let loss = [
            shown("label-smoothing", "label smoothing"),
            is("class-weight").then(|| "class weights".to_string()),
        ];
        let solver = settings.get("head-solver").and_then(Value::as_str);
        CurveNotes {
            images: images.into_iter().flatten().collect(),
            loss: loss.into_iter().flatten().collect(),
            fitted_head: solver == Some("lbfgs"),
        }
    }

    /// What a training metric counts and validation does not.
    pub(super) fn unlike(&self, figure: Figure) -> Vec<&str> {
        let loss = if figure == Figure::Loss { &self.loss[..] } else { &[] };
        self.images.iter().chain(loss).map(String::as_str).collect()
    }

    /// The epoch that fitted the head, and the others.
    pub(super) fn split<'h>(
        &self,
        history: &'h History,
    ) -> (Option<&'h EpochRecord>, Vec<&'h EpochRecord>) {
        let fitted = |e: &&EpochRecord| self.fitted_head && e.phase == PhaseName::Head;
        let head = history.epochs.iter().find(fitted);
        (head, history.epochs.iter().filter(|e| !fitted(e)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_those_of_the_settings() {
        let of = |text: &str| CurveNotes::of(&text.parse().unwrap());
        assert_eq!(
            of("label-smoothing = 0.0\naugment = []\nbalance = false"),
            CurveNotes::default()
        );
        let all = of("label-smoothing = 0.1\naugment = [\"flip\"]\nbalance = true\nmixup = 0.2\n\
             class-weight = \"balanced\"\nhead-solver = \"lbfgs\"");
        assert_eq!(all.images, ["augmented", "mixup 0.2", "balanced"]);
        assert_eq!(all.loss, ["label smoothing 0.1", "class weights"]);
        assert!(all.fitted_head);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(CurveNotes::read(folder.path()), CurveNotes::default());
        std::fs::write(folder.path().join("config.toml"), "head-solver = \"lbfgs\"").unwrap();
        assert!(CurveNotes::read(folder.path()).fitted_head);
    }
}
