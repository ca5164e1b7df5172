//! Settings out of range or against each other.

use super::{OptimizerName, ScheduleName, TrainConfig};
use crate::error::{Error, Result};
use crate::image::Interpolation;
use crate::optimizer::Optimizer;
use crate::resnet::FreezePoint;

impl TrainConfig {
    /// Settings that contradict each other, as an error that names both.
    ///
    /// # Errors
    /// If there are any.
    pub fn check(&self) -> Result<()> {
        let against = |what: &str, expected: &str, found: String, hint: &str| {
            Err(Error::invalid(what, expected, found, hint))
        };
        if self.upsample.is_some() && self.image_size.is_some() {
            return against(
                "image size",
                "either upsample or image-size",
                "both".into(),
                "upsample enlarges by nearest neighbour inside the net, image-size resizes before it",
            );
        }
        if let (Some(_), Some(i)) = (self.upsample, self.interpolation)
            && i != Interpolation::Nearest
        {
            return against(
                "interpolation",
                "nearest with upsample",
                i.name().into(),
                "resize with image-size instead",
            );
        }
        if self.optimizer != OptimizerName::Sgd && (self.momentum != 0.0 || self.nesterov) {
            return against(
                "momentum",
                "optimizer sgd with it",
                self.rule().name().into(),
                "add --optimizer sgd",
            );
        }
        let fine_tunes = self.fine_tune_at.is_some() && self.fine_tune_epochs > 0;
        if self.epochs == 0 && !fine_tunes {
            return against(
                "epochs",
                "at least one epoch in one of the phases",
                "none".into(),
                "give --fine-tune-at with --epochs 0 to train without a frozen phase",
            );
        }
        for (what, value, expected) in [
            ("upsample", self.upsample, "1 to 64"),
            ("image-size", self.image_size, "1 to 4096"),
            ("limit", self.limit, "1 or more"),
        ] {
            let most = match what {
                "upsample" => 64,
                "image-size" => 4096,
                _ => usize::MAX,
            };
            if value.is_some_and(|v| v == 0 || v > most) {
                return against(what, expected, value.unwrap_or(0).to_string(), "");
            }
        }
        if self.schedule == ScheduleName::Constant
            && (self.warmup_epochs != 0.0 || self.schedule_alpha != 0.0)
        {
            let hint = "add --schedule cosine";
            return against("warm-up and alpha", "a schedule with them", "constant".into(), hint);
        }
        for phase in self.phases(fine_tunes.then_some(FreezePoint(0))) {
            phase.schedule.over(phase.learning_rate, phase.epochs, 1)?;
        }
        for rate in [self.learning_rate, self.fine_tune_learning_rate] {
            Optimizer::new(self.rule(), rate)?.with_weight_decay(self.weight_decay())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_errors() {
        let base = TrainConfig::default();
        assert!(base.check().is_ok());
        for bad in [
            TrainConfig { upsample: Some(7), image_size: Some(224), ..base.clone() },
            TrainConfig {
                upsample: Some(7),
                interpolation: Some(Interpolation::Bicubic),
                ..base.clone()
            },
            TrainConfig { momentum: 0.9, ..base.clone() },
            TrainConfig { epochs: 0, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Adam, momentum: 0.9, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Adam, beta_1: 1.0, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::AdamW, beta_2: -0.1, ..base.clone() },
            TrainConfig { weight_decay: Some(-1.0), ..base.clone() },
            TrainConfig { weight_decay: Some(f32::NAN), ..base.clone() },
            TrainConfig { warmup_epochs: 1.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, warmup_epochs: 5.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, schedule_alpha: 2.0, ..base.clone() },
            TrainConfig {
                epochs: 0,
                fine_tune_epochs: 0,
                fine_tune_at: Some("1".into()),
                ..base.clone()
            },
            TrainConfig { upsample: Some(0), ..base.clone() },
            TrainConfig { learning_rate: f32::NAN, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Sgd, nesterov: true, ..base.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
