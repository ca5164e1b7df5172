//! Settings as they take effect: with the values of those that are left open, without those that nothing reads.

use toml::{Table, Value};

use super::flags::table;
use super::{HeadSolver, OptimizerName, ScheduleName, TrainConfig};
use crate::data::image::Interpolation;
use crate::error::Result;
use crate::net::resnet::Recipe;
use crate::net::weights::model_file::ModelCard;

/// Settings of steps along gradients.
const OF_STEPS: [&str; 26] = [
    "batch-size",
    "accumulate",
    "replicas",
    "scale-learning-rate",
    "optimizer",
    "rho",
    "momentum",
    "nesterov",
    "beta-1",
    "beta-2",
    "weight-decay",
    "decay-of",
    "schedule",
    "warmup-epochs",
    "schedule-alpha",
    "schedule-factor",
    "step-epochs",
    "plateau-patience",
    "min-learning-rate",
    "patience",
    "min-delta",
    "clip-norm",
    "clip-value",
    "shuffle",
    "head-init",
    "train-size",
];

impl TrainConfig {
    /// The settings by their names in config.toml, as two runs can be compared by: what is left open has the value that it
    /// comes to, and what has no effect beside the others is left out. The `card` of the run's model says how images enter;
    /// without it, that is what the net was made for.
    ///
    /// # Errors
    /// If the settings do not fit TOML.
    ///
    /// ```
    /// use headstart::config::TrainConfig;
    ///
    /// let open = TrainConfig { fine_tune_epochs: 9, ..TrainConfig::default() };
    /// let said = TrainConfig { image_size: Some(224), ..TrainConfig::default() };
    /// assert_eq!(open.effective(None)?, said.effective(None)?); // nothing is fine-tuned
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn effective(&self, card: Option<&ModelCard>) -> Result<Table> {
        let mut all = table(self)?;
        self.enter(card, &mut all);
        let decay = self.weight_decay().rate;
        all.insert("weight-decay".into(), f64::from(decay).into());
        let plateau = self.schedule == ScheduleName::Plateau;
        let least = self.min_delta.unwrap_or(if plateau { 1e-4 } else { 0.0 });
        all.insert("min-delta".into(), least.into());
        let solved = self.head_solver == HeadSolver::Lbfgs && !self.from_scratch();
        if solved {
            all.insert("epochs".into(), (self.epochs.min(1) as i64).into());
        }
        let parts = self.parts();
        let tunes = parts.iter().any(|part| part.0.is_some());
        let steps = tunes || !solved;
        let listed = !self.unfreeze.is_empty();
        let second = !listed && tunes;
        let is = |optimizer: OptimizerName| self.optimizer == optimizer;
        let adam = is(OptimizerName::Adam) || is(OptimizerName::AdamW);
        let schedule = |name: ScheduleName| self.schedule == name;
        let step = schedule(ScheduleName::Step);
        let of_head = parts.iter().any(|part| part.0.is_none()) && !solved;
        for (name, counts) in [
            ("epochs", !listed),
            ("unfreeze", listed),
            ("fine-tune-at", second),
            ("fine-tune-epochs", second),
            ("learning-rate", of_head),
            ("fine-tune-learning-rate", tunes),
            ("layer-decay", tunes),
            ("freeze-bn", tunes),
            ("head-l2", solved),
            ("head-mirror", solved),
            ("head-crops", solved),
            ("head-images", solved),
            ("rho", is(OptimizerName::Rmsprop)),
            ("momentum", is(OptimizerName::Sgd)),
            ("nesterov", is(OptimizerName::Sgd)),
            ("beta-1", adam),
            ("beta-2", adam),
            ("decay-of", decay != 0.0),
            ("schedule-alpha", schedule(ScheduleName::Cosine)),
            ("schedule-factor", step || plateau),
            ("step-epochs", step),
            ("plateau-patience", plateau),
            ("min-learning-rate", plateau),
            ("min-delta", plateau || self.patience.is_some()),
        ] {
            if !counts {
                all.remove(name);
            }
        }
        if !steps {
            OF_STEPS.iter().for_each(|name| drop(all.remove(*name)));
        }
        Ok(all)
    }

    /// How images enter the net.
    fn enter(&self, card: Option<&ModelCard>, all: &mut Table) {
        let recipe = Recipe::named(&self.model).ok();
        let side = |pixels: usize| Value::from(pixels as i64);
        let size = match card {
            Some(card) if card.height == card.width => Some(side(card.height)),
            Some(card) => Some(format!("{}x{}", card.width, card.height).into()),
            // An enlarged image has its own size, which is not among the settings.
            None if self.upsample.is_some() => None,
            None => self.image_size.or(recipe.as_ref().map(|r| r.image_size)).map(side),
        };
        let upsample = card.map_or(self.upsample.unwrap_or(1), |card| card.upsample);
        let usual = match self.upsample {
            Some(_) => Interpolation::Nearest,
            None => Interpolation::default(),
        };
        let by = card.map_or(self.interpolation.unwrap_or(usual), |card| card.interpolation);
        let fit = card.map_or(self.fit(), |card| card.fit);
        let pixels =
            card.map(|c| c.preprocess).or(self.preprocess).or(recipe.map(|r| r.preprocess));
        for (name, value) in [
            ("image-size", size),
            ("upsample", Some(side(upsample))),
            ("interpolation", Some(by.name().into())),
            ("fit", Some(fit.name().into())),
            ("crop-share", fit.parts().1.map(Value::from)),
            ("decode", Some(card.map_or(self.decode, |card| card.decode).name().into())),
            ("preprocess", pixels.map(|pixels| pixels.name().into())),
        ] {
            match value {
                Some(value) => drop(all.insert(name.into(), value)),
                None => drop(all.remove(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{Decode, FitName};
    use crate::net::preprocess::Preprocess;

    fn differences(a: &TrainConfig, b: &TrainConfig) -> Vec<String> {
        let [a, b] = [a, b].map(|config| config.effective(None).unwrap());
        let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
        names.filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
    }

    #[test]
    fn what_is_left_open_equals_what_it_comes_to() {
        let open = TrainConfig::default();
        let said = TrainConfig {
            image_size: Some(224),
            interpolation: Some(Interpolation::Bilinear),
            fit: Some(FitName::Stretch),
            preprocess: Some(Preprocess::Caffe),
            weight_decay: Some(0.0),
            min_delta: Some(0.0),
            ..open.clone()
        };
        assert_eq!(differences(&open, &said), [""; 0]);
        let crop = TrainConfig { fit: Some(FitName::Crop), ..open.clone() };
        let share = TrainConfig { crop_share: Some(0.875), ..crop.clone() };
        assert_eq!(differences(&crop, &share), [""; 0]);
        assert_eq!(differences(&open, &crop), ["fit", "crop-share"]);
        let full = TrainConfig { decode: Decode::Full, ..open.clone() };
        assert_eq!(differences(&open, &full), ["decode"]);
        let small = TrainConfig { image_size: Some(128), ..open.clone() };
        assert_eq!(differences(&open, &small), ["image-size"]);
    }

    #[test]
    fn settings_that_nothing_reads_are_no_difference() {
        let head = TrainConfig::default();
        let unread = TrainConfig {
            fine_tune_epochs: 0,
            fine_tune_learning_rate: 1.0,
            beta_1: 0.5,
            plateau_patience: 3,
            head_l2: Some(1.0),
            layer_decay: Some(0.5),
            ..head.clone()
        };
        assert_eq!(differences(&head, &unread), [""; 0]);
        let tuned = TrainConfig { fine_tune_at: Some("conv5".into()), ..head.clone() };
        let longer = TrainConfig { fine_tune_epochs: 9, ..tuned.clone() };
        assert_eq!(differences(&tuned, &longer), ["fine-tune-epochs"]);
        let none = TrainConfig { fine_tune_epochs: 0, ..tuned.clone() };
        assert_eq!(differences(&head, &none), [""; 0]);
        let found = differences(&head, &tuned);
        let own = ["fine-tune-at", "fine-tune-epochs", "fine-tune-learning-rate", "freeze-bn"];
        assert_eq!(found, own);
        let solved = TrainConfig { head_solver: HeadSolver::Lbfgs, ..head.clone() };
        let other = TrainConfig { epochs: 9, batch_size: 7, learning_rate: 1.0, ..solved.clone() };
        assert_eq!(differences(&solved, &other), [""; 0]);
        assert!(differences(&head, &solved).contains(&"head-solver".to_string()));
    }
}
