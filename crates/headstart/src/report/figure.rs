//! The metrics that curves show.

use crate::measure::epoch::EpochRecord;

/// Which metric of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Accuracy.
    Accuracy,
    /// Cross-entropy.
    Loss,
}

impl Figure {
    /// "accuracy" or "loss".
    pub fn name(self) -> &'static str {
        if self == Figure::Accuracy { "accuracy" } else { "loss" }
    }

    pub(super) fn training(self, epoch: &EpochRecord) -> f64 {
        if self == Figure::Accuracy { epoch.accuracy } else { epoch.loss }
    }

    pub(super) fn validation(self, epoch: &EpochRecord) -> Option<f64> {
        if self == Figure::Accuracy { epoch.val_accuracy } else { epoch.val_loss }
    }
}
