//! Settings that are out of range or contradict each other.

use super::{HeadSolver, OptimizerName, ScheduleName, TrainConfig};
use crate::data::image::{FitName, Interpolation};
use crate::engine::optimizer::Optimizer;
use crate::error::{Error, Result};
use crate::measure::monitor::Monitor;
use crate::range;
use crate::train::class_weight::ClassWeight;

/// Largest L2 penalty of a fitted head.
const MOST_L2: f64 = 1e6;

impl TrainConfig {
    /// Settings that contradict each other, as an error that names both.
    ///
    /// # Errors
    /// If there are any.
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        let against = |what: &str, expected: &str, found: String, hint: &str| {
            Err(Error::invalid(what, expected, found, hint))
        };
        self.check_entry()?;
        if self.optimizer != OptimizerName::Sgd && (self.momentum != 0.0 || self.nesterov) {
            return against(
                "momentum",
                "optimizer sgd with it",
                self.rule().name().into(),
                "add --optimizer sgd",
            );
        }
        let usual = TrainConfig::default();
        let adam = matches!(self.optimizer, OptimizerName::Adam | OptimizerName::AdamW);
        let rmsprop = self.optimizer == OptimizerName::Rmsprop;
        for (what, given, fits, hint) in [
            ("rho", self.rho != usual.rho, rmsprop, "--optimizer rmsprop has it"),
            ("beta 1", self.beta_1 != usual.beta_1, adam, "--optimizer adam has it"),
            ("beta 2", self.beta_2 != usual.beta_2, adam, "--optimizer adam has it"),
        ] {
            if given && !fits {
                let found = self.rule().name().into();
                return against(what, "an optimizer that has it", found, hint);
            }
        }
        self.check_solver()?;
        let fine_tunes = self.fine_tune_at.is_some() && self.fine_tune_epochs > 0;
        if self.epochs == 0 && !fine_tunes && self.unfreeze.is_empty() {
            return against(
                "epochs",
                "at least one epoch in one of the phases",
                "none".into(),
                "give --fine-tune-at with --epochs 0 to train without a frozen phase",
            );
        }
        self.check_schedule()?;
        if let Some(ema) = self.ema.filter(|ema| !(0.0..1.0).contains(ema)) {
            let hint = "0.999 is usual";
            return against("ema", "a number from 0 to below 1", ema.to_string(), hint);
        }
        self.check_samples()?;
        for (_, epochs, rate) in self.parts() {
            self.schedule().over(rate, epochs, 1)?;
        }
        let rates = [
            ("learning rate", self.learning_rate),
            ("fine-tune learning rate", self.fine_tune_learning_rate),
        ];
        for (what, rate) in rates {
            if !(rate > 0.0 && rate.is_finite()) {
                return against(what, "a positive number", rate.to_string(), "");
            }
            Optimizer::new(self.rule(), rate)?.with_weight_decay(self.weight_decay())?;
        }
        Ok(())
    }

    /// Ways in which images come to the net's size that exclude each other.
    fn check_entry(&self) -> Result<()> {
        let against = |what: &str, expected: &str, found: String, hint: &str| {
            Err(Error::invalid(what, expected, found, hint))
        };
        if self.upsample.is_some() && self.image_size.is_some() {
            return against(
                "image size",
                "either upsample or image-size",
                "both".into(),
                "upsample works by nearest neighbour inside the net, image-size resizes before it",
            );
        }
        if let (Some(_), Some(size)) = (self.upsample, self.train_size) {
            return against(
                "train size",
                "images that are resized, without upsample",
                size.to_string(),
                "resize with image-size instead",
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
        if let (Some(_), Some(FitName::Crop | FitName::Pad)) = (self.upsample, self.fit) {
            return against(
                "fit",
                "stretch with upsample, whose images all have one size",
                self.fit().name().into(),
                "resize with image-size instead",
            );
        }
        if self.crop_share.is_some() && self.fit != Some(FitName::Crop) {
            let found = self.fit.unwrap_or_default().name().into();
            return against("crop share", "fit crop with it", found, "add --fit crop");
        }
        self.fit().check(1, 1)
    }

    /// Whole numbers out of range.
    fn check_ranges(&self) -> Result<()> {
        let listed = self.unfreeze.iter().map(|u| (range::UNFREEZE_EPOCHS, Some(u.epochs)));
        let numbers = [
            (range::EPOCHS, Some(self.epochs)),
            (range::FINE_TUNE_EPOCHS, Some(self.fine_tune_epochs)),
            (range::BATCH_SIZE, Some(self.batch_size)),
            (range::ACCUMULATE, Some(self.accumulate)),
            (range::REPLICAS, Some(self.replicas)),
            (range::SCALE_LEARNING_RATE, self.scale_learning_rate),
            (range::STEP_EPOCHS, self.step_epochs),
            (range::PLATEAU_PATIENCE, Some(self.plateau_patience)),
            (range::PATIENCE, self.patience),
            (range::UPSAMPLE, self.upsample),
            (range::IMAGE_SIZE, self.image_size),
            (range::TRAIN_SIZE, self.train_size),
            (range::LIMIT, self.limit),
            (range::HEAD_IMAGES, self.head_images),
            (range::THREADS, Some(self.threads)),
        ];
        for (range, value) in numbers.into_iter().chain(listed) {
            value.map_or(Ok(()), |value| range.check(value as u64))?;
        }
        self.cache_memory.map_or(Ok(()), |megabytes| range::CACHE_MEMORY.check(megabytes))
    }

    /// What fitting the head with L-BFGS excludes.
    fn check_solver(&self) -> Result<()> {
        let against = |what: &str, expected: &str, found: &str, hint: &str| {
            Err(Error::invalid(what, expected, found, hint))
        };
        let solved = self.head_solver == HeadSolver::Lbfgs;
        // Settings of gradient steps are for the phases after the head's, if there are any.
        let alone = self.parts().len() < 2;
        let others = [
            ("augment", alone && !self.augment.is_empty()),
            ("mixup", alone && self.mixup.is_some()),
            ("cutmix", alone && self.cutmix.is_some()),
            ("dropout", alone && self.dropout > 0.0),
            ("label-smoothing", alone && self.label_smoothing > 0.0),
            ("train-size", alone && self.train_size.is_some()),
            ("balance", self.balance),
        ];
        if let Some((what, _)) = others.iter().find(|(_, given)| solved && *given) {
            let expected = "each training image as it is, once";
            let hint = "leave it out, or train with --head-solver gradient";
            return against("head-solver lbfgs", expected, what, hint);
        }
        if solved && self.from_scratch() {
            let hint = "leave --head-solver out";
            return against("head-solver lbfgs", "a frozen net", "weights none", hint);
        }
        if self.refit && !solved {
            let expected = "--head-solver lbfgs beside it";
            let hint = "a head that was trained in epochs is not fitted again";
            return against("refit", expected, "another solver", hint);
        }
        if self.head_mirror && !solved {
            let expected = "--head-solver lbfgs beside it";
            let hint = "--augment flip mirrors images in epochs";
            return against("head-mirror", expected, "another solver", hint);
        }
        if self.head_crops && !solved {
            let expected = "--head-solver lbfgs beside it";
            let hint = "--augment resized-crop crops images in epochs";
            return against("head-crops", expected, "another solver", hint);
        }
        if self.head_images.is_some() && !solved {
            let expected = "--head-solver lbfgs beside it";
            let hint = "--limit is for every phase";
            return against("head-images", expected, "another solver", hint);
        }
        if let Some(l2) = self.head_l2
            && !(solved && (0.0..=MOST_L2).contains(&l2))
        {
            let expected = "from 0 to 1e6, with --head-solver lbfgs";
            let hint = "--weight-decay is for --head-solver gradient";
            return against("head-l2", expected, &l2.to_string(), hint);
        }
        Ok(())
    }

    /// Phases, and how training images count.
    fn check_samples(&self) -> Result<()> {
        if !self.unfreeze.is_empty() && self.fine_tune_at.is_some() {
            let hint = "the list has all phases";
            return Err(Error::invalid("unfreeze", "no fine-tune-at beside it", "both", hint));
        }
        if self.freeze_bn && self.from_scratch() {
            let hint = "its statistics would stay at 0 and 1; leave --freeze-bn out";
            return Err(Error::invalid("freeze-bn", "weights to start from", "none", hint));
        }
        for (what, share) in
            [("validation split", self.validation_split), ("test split", self.test_split)]
        {
            if !(0.0..1.0).contains(&share) {
                let (expected, hint) =
                    ("a number from 0 to below 1", "0.1 holds out every tenth image, 0 none");
                return Err(Error::invalid(what, expected, share.to_string(), hint));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let expected = "a number from 0 to below 1";
            return Err(Error::invalid("dropout", expected, self.dropout.to_string(), ""));
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let (expected, found) =
                ("a number from 0 to below 1", self.label_smoothing.to_string());
            return Err(Error::invalid("label-smoothing", expected, found, "0.1 is usual"));
        }
        for (what, most) in [("clip-norm", self.clip_norm), ("clip-value", self.clip_value)] {
            if let Some(most) = most.filter(|most| !(*most > 0.0 && most.is_finite())) {
                return Err(Error::invalid(what, "a positive number", most.to_string(), ""));
            }
        }
        for (what, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            let Some(alpha) = alpha else { continue };
            if !(alpha > 0.0 && alpha.is_finite()) {
                let expected = "a positive number";
                return Err(Error::invalid(what, expected, alpha.to_string(), "0.2 is usual"));
            }
            if self.batch_size < 2 {
                let hint = "images of a batch are mixed with each other";
                return Err(Error::invalid(what, "a batch size of 2 or more", "1", hint));
            }
        }
        let (most, expected) = match self.monitor {
            Monitor::Loss => (1e9, "a number from 0 on"),
            _ => (1.0, "a number from 0 to below 1, as accuracy is"),
        };
        if !(0.0..most).contains(&self.best_within) {
            let found = self.best_within.to_string();
            return Err(Error::invalid(
                "best-within",
                expected,
                found,
                "0.01 is a percentage point",
            ));
        }
        if self.replicas > self.batch_size {
            let expected = format!("1 to {}, the batch size", self.batch_size);
            let hint = "every replica needs images of its own";
            return Err(Error::invalid("replicas", expected, self.replicas.to_string(), hint));
        }
        if let Some(decay) = self.layer_decay.filter(|d| !(*d > 0.0 && *d <= 1.0)) {
            let (expected, hint) = ("a number above 0, up to 1", "0.75 is usual");
            return Err(Error::invalid("layer-decay", expected, decay.to_string(), hint));
        }
        if self.balance && !self.shuffle {
            let hint = "leave --no-shuffle out";
            return Err(Error::invalid("balance", "a new order every epoch", "no shuffle", hint));
        }
        if self.balance && self.class_weight == Some(ClassWeight::Balanced) {
            let hint = "each corrects for uneven classes; both together correct twice";
            return Err(Error::invalid("balance", "no balanced class weight", "both", hint));
        }
        Ok(())
    }

    /// Settings of schedules and of early stopping that the schedule does not have.
    fn check_schedule(&self) -> Result<()> {
        let is = |names: &[ScheduleName]| names.contains(&self.schedule);
        let (step, plateau) = (is(&[ScheduleName::Step]), is(&[ScheduleName::Plateau]));
        let default = TrainConfig::default();
        for (what, given, fits, hint) in [
            ("schedule alpha", self.schedule_alpha != 0.0, is(&[ScheduleName::Cosine]), "cosine"),
            (
                "schedule factor",
                self.schedule_factor != default.schedule_factor,
                step || plateau,
                "step or --schedule plateau",
            ),
            ("step epochs", self.step_epochs.is_some(), step, "step"),
            (
                "plateau patience",
                self.plateau_patience != default.plateau_patience,
                plateau,
                "plateau",
            ),
            ("min learning rate", self.min_learning_rate != 0.0, plateau, "plateau"),
        ] {
            if given && !fits {
                let expected = "a schedule with it";
                let hint = format!("add --schedule {hint}");
                return Err(Error::invalid(what, expected, self.schedule.name(), hint));
            }
        }
        let Some(delta) = self.min_delta else { return Ok(()) };
        if !(delta.is_finite() && delta >= 0.0) {
            return Err(Error::invalid("min delta", "0 or more", delta.to_string(), ""));
        }
        if self.patience.is_none() && !plateau {
            let hint = "add --patience, after how many epochs without improvement a phase ends";
            return Err(Error::invalid("min delta", "patience with it", "none", hint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unfreeze;
    use super::*;

    #[test]
    fn contradictions_are_errors() {
        let base = TrainConfig::default();
        assert!(base.check().is_ok());
        for bad in [
            TrainConfig { upsample: Some(7), image_size: Some(224), ..base.clone() },
            TrainConfig { upsample: Some(7), fit: Some(FitName::Pad), ..base.clone() },
            TrainConfig { crop_share: Some(0.9), ..base.clone() },
            TrainConfig { fit: Some(FitName::Pad), crop_share: Some(0.9), ..base.clone() },
            TrainConfig { fit: Some(FitName::Crop), crop_share: Some(1.1), ..base.clone() },
            TrainConfig { fit: Some(FitName::Crop), crop_share: Some(f64::NAN), ..base.clone() },
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
            TrainConfig { warmup_epochs: 5.0, ..base.clone() },
            TrainConfig { dropout: 1.0, ..base.clone() },
            TrainConfig { dropout: f32::NAN, ..base.clone() },
            TrainConfig { balance: true, shuffle: false, ..base.clone() },
            TrainConfig {
                balance: true,
                class_weight: Some(ClassWeight::Balanced),
                ..base.clone()
            },
            TrainConfig { freeze_bn: true, weights: "none".into(), ..base.clone() },
            TrainConfig {
                unfreeze: vec!["head:1".parse().unwrap()],
                fine_tune_at: Some("1".into()),
                ..base.clone()
            },
            TrainConfig { ema: Some(1.0), ..base.clone() },
            TrainConfig { ema: Some(f32::NAN), ..base.clone() },
            TrainConfig { schedule_alpha: 0.1, ..base.clone() },
            TrainConfig { schedule_factor: 0.5, ..base.clone() },
            TrainConfig { step_epochs: Some(2), ..base.clone() },
            TrainConfig { plateau_patience: 2, ..base.clone() },
            TrainConfig { min_learning_rate: 1e-6, ..base.clone() },
            TrainConfig { best_within: -0.1, ..base.clone() },
            TrainConfig { best_within: 1.0, ..base.clone() },
            TrainConfig { head_mirror: true, ..base.clone() },
            TrainConfig { head_crops: true, ..base.clone() },
            TrainConfig { head_images: Some(100), ..base.clone() },
            TrainConfig { head_solver: HeadSolver::Lbfgs, head_images: Some(1), ..base.clone() },
            TrainConfig { best_within: f64::NAN, ..base.clone() },
            TrainConfig { min_delta: Some(0.1), ..base.clone() },
            TrainConfig { min_delta: Some(-0.1), patience: Some(1), ..base.clone() },
            TrainConfig { min_delta: Some(f64::NAN), patience: Some(1), ..base.clone() },
            TrainConfig { schedule: ScheduleName::Step, step_epochs: Some(0), ..base.clone() },
            TrainConfig { schedule: ScheduleName::Plateau, schedule_factor: 1.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, warmup_epochs: 5.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, schedule_alpha: 2.0, ..base.clone() },
            TrainConfig {
                epochs: 0,
                fine_tune_epochs: 0,
                fine_tune_at: Some("1".into()),
                ..base.clone()
            },
            TrainConfig { head_l2: Some(0.1), ..base.clone() },
            TrainConfig { head_solver: HeadSolver::Lbfgs, head_l2: Some(-0.1), ..base.clone() },
            TrainConfig {
                head_solver: HeadSolver::Lbfgs,
                augment: vec![crate::data::augment::Augmentation::Flip],
                ..base.clone()
            },
            TrainConfig { head_solver: HeadSolver::Lbfgs, weights: "none".into(), ..base.clone() },
            TrainConfig { head_solver: HeadSolver::Lbfgs, cutmix: Some(1.0), ..base.clone() },
            TrainConfig { mixup: Some(0.0), ..base.clone() },
            TrainConfig { mixup: Some(f32::NAN), ..base.clone() },
            TrainConfig { cutmix: Some(f32::INFINITY), ..base.clone() },
            TrainConfig { cutmix: Some(1.0), batch_size: 1, ..base.clone() },
            TrainConfig { upsample: Some(0), ..base.clone() },
            TrainConfig { upsample: Some(65), ..base.clone() },
            TrainConfig { image_size: Some(usize::MAX), ..base.clone() },
            TrainConfig { train_size: Some(usize::MAX), ..base.clone() },
            TrainConfig { upsample: Some(7), train_size: Some(160), ..base.clone() },
            TrainConfig { batch_size: 0, ..base.clone() },
            TrainConfig { batch_size: usize::MAX, ..base.clone() },
            TrainConfig { accumulate: usize::MAX, ..base.clone() },
            TrainConfig { epochs: usize::MAX, ..base.clone() },
            TrainConfig { fine_tune_epochs: usize::MAX, ..base.clone() },
            TrainConfig { patience: Some(usize::MAX), ..base.clone() },
            TrainConfig { threads: 1025, ..base.clone() },
            TrainConfig { limit: Some(0), ..base.clone() },
            TrainConfig { cache_memory: Some(1 << 44), ..base.clone() },
            TrainConfig {
                unfreeze: vec![Unfreeze { at: "head".into(), epochs: usize::MAX }],
                ..base.clone()
            },
            TrainConfig { learning_rate: f32::NAN, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Sgd, nesterov: true, ..base.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
