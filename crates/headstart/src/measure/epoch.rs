//! The record of one epoch.

use serde::{Deserialize, Serialize};

/// Which phase an epoch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PhaseName {
    /// The base is frozen, the head trains.
    Head,
    /// The base trains from the freeze point on.
    FineTune,
    /// Fine-tuning again, from an earlier layer on: `fine-tune-2` and so on.
    FineTuneAgain(
        /// Its number among the phases that fine-tune, from 2.
        u8,
    ),
    /// Everything trains, randomly initialised.
    Full,
}

impl PhaseName {
    /// "head", "fine-tune", "fine-tune-2" and so on, or "full".
    pub fn name(self) -> String {
        match self {
            PhaseName::Head => "head".into(),
            PhaseName::FineTune => "fine-tune".into(),
            PhaseName::FineTuneAgain(number) => format!("fine-tune-{number}"),
            PhaseName::Full => "full".into(),
        }
    }

    /// The name of the `number`th phase that fine-tunes, from 1.
    pub fn fine_tune(number: usize) -> PhaseName {
        match number {
            0 | 1 => PhaseName::FineTune,
            n => PhaseName::FineTuneAgain(n.min(255) as u8),
        }
    }
}

impl From<PhaseName> for String {
    fn from(name: PhaseName) -> String {
        name.name()
    }
}

impl TryFrom<String> for PhaseName {
    type Error = String;

    fn try_from(text: String) -> Result<PhaseName, String> {
        let again = |text: &str| text.strip_prefix("fine-tune-")?.parse().ok().filter(|&n| n > 1);
        match text.as_str() {
            "head" => Ok(PhaseName::Head),
            "fine-tune" => Ok(PhaseName::FineTune),
            "full" => Ok(PhaseName::Full),
            other => again(other)
                .map(PhaseName::FineTuneAgain)
                .ok_or_else(|| format!("unknown phase {other}, not head, fine-tune or full")),
        }
    }
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number within the run, from 1.
    pub epoch: usize,
    /// Which phase.
    pub phase: PhaseName,
    /// Wall-clock seconds, validation included.
    pub seconds: f64,
    /// Training images per second of training, validation left out.
    pub images_per_second: f64,
    /// Mean loss of the epoch's training images, each at the step in which it was trained on.
    pub loss: f64,
    /// Accuracy on them.
    pub accuracy: f64,
    /// Loss on the validation images after the epoch.
    pub val_loss: Option<f64>,
    /// Accuracy on the validation images after the epoch.
    pub val_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Macro F1 on the validation images after the epoch, as scikit-learn's `f1_score(average="macro")`; none in epochs of
    /// earlier versions.
    #[serde(default)]
    pub val_macro_f1: Option<f64>,
}

impl EpochRecord {
    /// What is impossible in the record of epoch `number`, if anything.
    pub(super) fn nonsense(&self, number: usize) -> Option<String> {
        if self.epoch != number {
            return Some(format!("epoch {}, where epoch {number} was expected", self.epoch));
        }
        let shares = [Some(self.accuracy), self.val_accuracy, self.val_macro_f1];
        let shares = shares.into_iter().flatten();
        let figures = [self.seconds, self.images_per_second, self.loss, self.learning_rate];
        let wrong = shares
            .filter(|share| !(0.0..=1.0).contains(share))
            .chain(figures.into_iter().chain(self.val_loss).filter(|figure| !figure.is_finite()));
        wrong.map(|value| format!("a value of {value:?}")).next()
    }
}
