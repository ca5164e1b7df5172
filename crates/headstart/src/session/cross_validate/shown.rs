//! A cross-validation as text.

use std::fmt;

use super::{CrossValidated, Fold};
use crate::numbers::grouped;

/// A table with a row for each fold, and the mean with the standard deviation.
impl fmt::Display for CrossValidated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = match self.folds.first() {
            Some(Fold { l2: Some(_), .. }) => "L2",
            _ => "best epoch",
        };
        writeln!(f, "fold  train  validation  images  accuracy    loss  {last}")?;
        for fold in &self.folds {
            let Fold { fold, train, validation, test, accuracy, loss, l2, best_epoch } = fold;
            let last = match (l2, best_epoch) {
                (Some(l2), _) => format!("{l2:.0e}"),
                (None, Some(epoch)) => epoch.to_string(),
                (None, None) => String::new(),
            };
            writeln!(
                f,
                "{fold:>4}  {train:>5}  {validation:>10}  {test:>6}  {accuracy:>8.4}  {loss:>6.4}  {last:>width$}",
                width = if l2.is_some() { 2 } else { 10 }
            )?;
        }
        let (accuracy, loss) = (self.accuracy, self.loss);
        writeln!(
            f,
            "accuracy {:.4}, standard deviation {:.4}; loss {:.4}, standard deviation {:.4} (of {} folds, ddof 0)",
            accuracy.mean,
            accuracy.std,
            loss.mean,
            loss.std,
            self.folds.len()
        )?;
        let averages = &self.report.averages.macro_average;
        write!(
            f,
            "all {} out-of-fold predictions: accuracy {:.4}, macro F1 {:.4}",
            grouped(self.images),
            self.report.accuracy,
            averages.f1
        )?;
        if let Some(baseline) = &self.report.baseline {
            write!(f, " (always {}: {:.4})", baseline.class, baseline.accuracy)?;
        }
        Ok(())
    }
}
