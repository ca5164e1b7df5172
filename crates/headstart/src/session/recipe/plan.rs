//! The choice itself.

use std::time::Duration;

use super::pace::{Pace, cost, net};
use super::tuning::{Time, Way};
use super::{Facts, Recipe, RecipeName, TEST_SPLIT, Wish};
use crate::engine::optimizer::DecayOf;
use crate::error::{Error, Result};
use crate::measure::monitor::Monitor;
use crate::net::resnet;
use crate::session::config::Time as Limit;
use crate::session::config::{HeadSolver, OptimizerName, ScheduleName, TrainConfig};
use crate::train::class_weight::ClassWeight;

/// Fraction of the budget that is planned: the rest is for loading, writing and other programs.
const PLANNED: f64 = 0.9;
/// Fraction of the budget after which training ends whatever was planned, to evaluate and to write.
const ENDS: f64 = 0.95;
/// Fraction of the planned time that the frozen net may take at the size it was trained on: there the head alone is better than
/// fine-tuning at a smaller size.
const OWN: f64 = 0.9;
/// The same at a smaller size, so that time is left for fine-tuning.
const FROZEN: f64 = 0.5;
/// Image sizes below the net's own, as fractions of it, in 32nds: whole pixels after five halvings.
const SMALLER: [usize; 4] = [6, 5, 4, 3];
/// How uneven classes are whose images do not count the same.
const UNEVEN: f64 = 1.5;
/// Learning rates of fine-tuning on few images and on many, which show the net more that is new in the same epochs.
const RATES: [f32; 2] = [2e-4, 5e-4];
/// How many training images are worth a smaller size than the net's own, so that all of the net can be fine-tuned.
const MANY: usize = 5_000;
/// Of so many, images are enlarged no more than this while time is short.
const ENLARGED_FOR_MANY: usize = 5;

/// Chooses settings of training; data and net are those of `config`.
///
/// # Errors
/// If there are no weights to start from, no such net, no images, or a budget for a recipe that has none.
pub fn choose(config: &TrainConfig, facts: &Facts, pace: &Pace, wish: &Wish) -> Result<Recipe> {
    let net = resnet::Recipe::named(&config.model)?;
    if config.weights == "none" {
        let hint = "without weights everything trains: choose settings yourself";
        return Err(Error::invalid("recipe", "weights to start from", "none", hint));
    }
    if facts.train == 0 || facts.classes < 2 {
        let found = format!("{} images of {} classes", facts.train, facts.classes);
        return Err(Error::invalid("recipe", "images of two classes or more", found, ""));
    }
    let mut chosen = Choice {
        facts,
        pace,
        wish,
        net: &net,
        seconds: 0.0,
        reasons: Vec::new(),
        config: TrainConfig {
            data: config.data.clone(),
            model: config.model.clone(),
            weights: config.weights.clone(),
            ..TrainConfig::default()
        },
    };
    chosen.test_split();
    if config.stratify {
        chosen.config.stratify = true;
        chosen.because("--stratify", "both splits have every class in proportion");
    }
    match wish.name {
        RecipeName::Article => chosen.article()?,
        _ => chosen.within_budget()?,
    }
    let Choice { config, seconds, reasons, .. } = chosen;
    Ok(Recipe { name: wish.name, config, seconds, reasons })
}

struct Choice<'a> {
    facts: &'a Facts,
    pace: &'a Pace,
    wish: &'a Wish,
    net: &'a resnet::Recipe,
    config: TrainConfig,
    seconds: f64,
    reasons: Vec<(String, String)>,
}

impl Choice<'_> {
    fn because(&mut self, flags: impl Into<String>, why: impl Into<String>) {
        self.reasons.push((flags.into(), why.into()));
    }

    fn test_split(&mut self) {
        self.config.test_split = TEST_SPLIT;
        let why = "to measure the accuracy; not used where the data has test images";
        self.because(format!("--test-split {TEST_SPLIT}"), why);
    }

    fn article(&mut self) -> Result<()> {
        if let Some(budget) = self.wish.budget {
            let hint = "use --recipe auto, or leave --budget out";
            let found = format!("{} s", budget.as_secs());
            return Err(Error::invalid("recipe article", "no budget", found, hint));
        }
        let net = net(self.net, self.net.image_size, self.facts.classes)?;
        let at = match net.freeze_point("100") {
            Ok(_) => "100".to_string(),
            Err(_) => self.net.stage(self.net.stages.len() - 1),
        };
        let head = cost(&net, None, self.wish.dtype)?;
        let tuned = cost(&net, Some(net.freeze_point(&at)?), self.wish.dtype)?;
        self.seconds = self.time().once(&head, self.facts.train);
        let epochs = self.config.fine_tune_epochs;
        let [before, each] = self.time().cached(&tuned);
        self.seconds += before + each * epochs as f64;
        self.because(
            format!("--epochs 5 --fine-tune-at {at} --fine-tune-epochs 5"),
            "the Keras tutorial's: RMSprop, learning rate 1e-4, batch size 20",
        );
        self.config.fine_tune_at = Some(at);
        // Data that has a size of its own keeps it.
        let usual = TrainConfig::defaults(Some(&self.config.data), Some(&self.config.model));
        self.config.image_size = usual.image_size;
        self.config.interpolation = usual.interpolation;
        Ok(())
    }

    fn within_budget(&mut self) -> Result<()> {
        let budget = self.wish.budget.or(self.wish.name.usual_budget());
        let planned = budget.map_or(f64::INFINITY, |b| b.as_secs_f64() * PLANNED);
        self.solved_head();
        let (size, way) = self.size_and_way(planned)?;
        self.config.head_images = way.and_then(|way| way.head_images);
        self.image_size(size, planned)?;
        let net = net(self.net, size, self.facts.classes)?;
        let head = cost(&net, None, self.wish.dtype)?;
        self.seconds = self.time().once(&head, self.facts.train);
        if self.wish.name == RecipeName::Quick {
            return Ok(());
        }
        let Some(way) = way else {
            self.because("no --fine-tune-at", "the budget does not allow an epoch of fine-tuning");
            return Ok(());
        };
        let [head_alone, before, each] = way.seconds;
        // The time cuts the last epoch short.
        self.seconds = (head_alone + before + each * way.epochs as f64).min(planned);
        self.fine_tune(&way);
        if let Some(budget) = budget {
            self.ends(budget, self.facts.held_out as f64 * head.frozen / self.pace.forward);
        }
        Ok(())
    }

    /// The size to which images are resized, and how to fine-tune there. Of few images it is the net's own wherever one pass fits:
    /// there the head alone is better than what a few epochs make of a smaller size. Many images are worth a smaller size, at which
    /// the whole net gets its epochs.
    fn size_and_way(&self, planned: f64) -> Result<(usize, Option<Way>)> {
        let own = self.net.image_size;
        let smaller =
            SMALLER.iter().map(|share| own * share / 7).filter(|size| own > 32 && *size > 0);
        let sizes: Vec<usize> = match self.wish.image_size {
            Some(size) => vec![size],
            None => std::iter::once(own).chain(smaller).collect(),
        };
        // Small images are not enlarged more than this while a smaller size is faster.
        let most = self.facts.pixels.max(1) * ENLARGED_FOR_MANY;
        let (quick, best) = match self.wish.name {
            RecipeName::Quick => (true, false),
            name => (false, name == RecipeName::Best),
        };
        let mut found: Option<(usize, Option<Way>)> = None;
        for &size in &sizes {
            let net = net(self.net, size, self.facts.classes)?;
            let head = self.time().once(&cost(&net, None, self.wish.dtype)?, self.facts.train);
            let way = match quick {
                true => None,
                false => self.time().way(size, planned, best)?,
            };
            // A head on all of the images, or the one that the way begins with.
            let head = way.map_or(head, |(way, _)| way.seconds[0]);
            let fits = head <= planned * if size == own { OWN } else { FROZEN };
            let way = way.filter(|_| fits);
            let enough = way.is_some_and(|(_, enough)| enough);
            let larger = size > most && size != sizes[sizes.len() - 1];
            if enough && !larger {
                return Ok((size, way.map(|(way, _)| way)));
            }
            if fits && (quick || self.facts.train < MANY) {
                return Ok((size, way.map(|(way, _)| way)));
            }
            // The largest with any way, else the largest that fits.
            if fits && found.is_none_or(|(_, before)| before.is_none() && way.is_some()) {
                found = Some((size, way.map(|(way, _)| way)));
            }
        }
        Ok(found.unwrap_or((sizes[sizes.len() - 1], None)))
    }

    fn time(&self) -> Time<'_> {
        Time { facts: self.facts, pace: self.pace, wish: self.wish, net: self.net }
    }

    /// Training ends within the budget, whatever else the machine does: `last` are the seconds of the last evaluation.
    fn ends(&mut self, budget: Duration, last: f64) {
        let budget = budget.as_secs_f64();
        let end = (budget * ENDS - last).max(budget / 2.0);
        let time = Limit(Duration::from_secs(end.ceil() as u64));
        self.config.max_time = Some(time);
        self.because(format!("--max-time {time}"), "the budget, less the last evaluation");
    }

    /// The head is fitted with L-BFGS on the features of the frozen net.
    fn solved_head(&mut self) {
        self.config.head_solver = HeadSolver::Lbfgs;
        self.config.epochs = 1;
        self.config.refit = true;
        let why = "the best head over the frozen net, in one pass over the images";
        self.because("--head-solver lbfgs", why);
        let why = "where this head is the best, the validation images train it too";
        self.because("--refit", why);
        let times = self.facts.imbalance;
        if times >= UNEVEN {
            self.config.class_weight = Some(ClassWeight::Balanced);
            let why = format!(
                "the largest class has {times:.1} times the images of the smallest: all count the same"
            );
            self.because("--class-weight balanced", why);
            self.config.monitor = Monitor::MacroF1;
            let why = "and in the choice of the best epoch too";
            self.because("--monitor macro-f1", why);
        }
    }

    fn fine_tune(&mut self, way: &Way) {
        let &Way { stage, crops, epochs, wanted, head_images, .. } = way;
        if let Some(images) = head_images {
            let why = "enough for a head from which all of the net is fine-tuned";
            self.because(format!("--head-images {images}"), why);
        }
        let at = self.time().at(stage);
        let c = &mut self.config;
        c.fine_tune_at = Some(at.clone());
        c.fine_tune_epochs = epochs;
        c.optimizer = OptimizerName::AdamW;
        c.weight_decay = Some(0.05);
        c.decay_of = DecayOf::Kernels;
        c.freeze_bn = true;
        c.schedule = ScheduleName::OneCycle;
        c.label_smoothing = 0.1;
        c.batch_size = batch(self.facts.train);
        c.fine_tune_learning_rate = if self.facts.train < MANY { RATES[0] } else { RATES[1] };
        c.layer_decay = (stage == 1).then_some(0.6);
        let steps = format!("--batch-size {}", c.batch_size);
        let what = match self.net.stages.len() + 1 - stage {
            n if n == self.net.stages.len() => "all of the net".to_string(),
            1 => "the net's last stage".to_string(),
            n => format!("the net's last {n} stages"),
        };
        let why = match epochs < wanted {
            true => format!("{what}: the budget allows {epochs} epochs"),
            false => format!("{what}: {wanted} epochs are enough"),
        };
        self.because(format!("--fine-tune-at {at} --fine-tune-epochs {epochs}"), why);
        if let Some(crops) = crops {
            self.change_images(crops);
        }
        let rate = self.config.fine_tune_learning_rate;
        self.because(
            format!("--optimizer adamw --fine-tune-learning-rate {rate} --weight-decay 0.05 --decay-of kernels --schedule one-cycle"),
            "learns fast in few epochs, and ends with a small learning rate",
        );
        if stage == 1 {
            let why = "earlier layers are more general, and change less";
            self.because("--layer-decay 0.6", why);
        }
        self.because(
            "--freeze-bn",
            "keeps batch norm statistics fixed, as they were when the head was fitted",
        );
        if self.facts.validation > 0 {
            // The standard error of an accuracy of 0.9.
            let chance = (0.09 / self.facts.validation as f64).sqrt();
            self.config.best_within = (chance * 1e4).round() / 1e4;
            let flag = format!("--best-within {}", self.config.best_within);
            let images = self.facts.validation;
            let why = format!(
                "on {images} validation images smaller differences are chance, and the schedule ends best"
            );
            self.because(flag, why);
        }
        self.because("--label-smoothing 0.1", "reduces overfitting on a small data set");
        let images = self.facts.train;
        self.because(steps, format!("enough steps an epoch for {images} images"));
    }

    fn change_images(&mut self, crops: usize) {
        let crop = format!("resized-crop:{}", self.wish.crop);
        self.config.augment = [&*crop, "flip"].into_iter().filter_map(|a| a.parse().ok()).collect();
        self.because(
            format!("--augment {crop},flip"),
            "every epoch sees other versions of the images",
        );
        if Some(crops) != self.config.image_size {
            self.config.train_size = Some(crops);
            self.because(
                format!("--train-size {crops}"),
                "crops are enlarged: at this size they look as large as images will, in less time",
            );
        }
    }

    /// Resizes images to `size` pixels, and leaves some out if the frozen net would take too long all the same.
    fn image_size(&mut self, size: usize, planned: f64) -> Result<()> {
        let own = self.net.image_size;
        self.config.image_size = Some(size);
        let pixels = self.facts.pixels;
        let interpolation = self.facts.interpolation(size);
        self.config.interpolation = Some(interpolation);
        let flags = format!("--image-size {size} --interpolation {}", interpolation.name());
        let why = match size {
            size if self.wish.image_size == Some(size) => "as given".to_string(),
            size if size == own => {
                format!("what the net was trained on; images are about {pixels} pixels")
            }
            _ if pixels * ENLARGED_FOR_MANY < own => {
                format!(
                    "images are about {pixels} pixels; a larger size leaves less time for training"
                )
            }
            _ => format!("at {own} the budget does not allow to fine-tune all of the net"),
        };
        self.because(flags, why);
        let net = net(self.net, size, self.facts.classes)?;
        let images = self.config.head_images.unwrap_or(self.facts.train);
        let seconds = self.time().once(&cost(&net, None, self.wish.dtype)?, images);
        let share = if size == own { OWN } else { FROZEN };
        if seconds > planned * share {
            let share = planned * share / seconds;
            let limit = ((self.facts.train as f64 * share) as usize).max(self.facts.classes * 2);
            if limit < self.facts.train {
                self.config.limit = Some(limit);
                let why = "more images do not fit the budget, even at this size";
                self.because(format!("--limit {limit}"), why);
            }
        }
        Ok(())
    }
}

/// Batch size: a power of two, for at least about 30 steps per epoch. More than 32 takes steps away where there are few epochs.
fn batch(images: usize) -> usize {
    match images / 30 {
        0..8 => 8,
        8..32 => 16,
        _ => 32,
    }
    .min(images)
}

/// A length of time in a readable form: "45 s", "14 min", "1 h 20 min".
pub fn duration(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match whole {
        0..100 => format!("{whole} s"),
        100..5400 => format!("{} min", (whole + 30) / 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run of two cores reaches.
    const PACE: Pace = Pace { forward: 350e9, training: 320e9 };

    fn photos(model: &str) -> TrainConfig {
        TrainConfig { data: "photos".into(), model: model.into(), ..TrainConfig::default() }
    }

    fn facts(train: usize, pixels: usize) -> Facts {
        let (held_out, validation) = (train / 2, train / 9);
        Facts { train, held_out, validation, classes: 10, imbalance: 1.2, pixels }
    }

    fn wish(name: RecipeName, minutes: u64) -> Wish {
        Wish { name, budget: Some(Duration::from_secs(60 * minutes)), ..Wish::default() }
    }

    fn auto(train: usize, minutes: u64) -> Recipe {
        let wish = wish(RecipeName::Auto, minutes);
        choose(&photos("resnet50"), &facts(train, 300), &PACE, &wish).unwrap()
    }

    #[test]
    fn more_time_trains_more_of_the_net_and_every_choice_keeps_within_it() {
        let stage = |recipe: &Recipe| match recipe.config.fine_tune_at.as_deref() {
            None => 6,
            Some("0") => 2,
            Some(at) => at[4..].parse::<usize>().unwrap(),
        };
        let mut before = (6, 0);
        let mut seen = Vec::new();
        for minutes in [2, 3, 4, 5, 6, 8, 10, 20, 60, 240] {
            let recipe = auto(1500, minutes);
            recipe.config.check().unwrap();
            assert!(recipe.seconds <= 60.0 * minutes as f64 * PLANNED, "{minutes}: {recipe:?}");
            assert_eq!(recipe.config.image_size, Some(224));
            let now = (stage(&recipe), recipe.config.fine_tune_epochs);
            assert!(
                now.0 < before.0 || (now.0 == before.0 && now.1 >= before.1),
                "{minutes}: {now:?}"
            );
            before = now;
            seen.push(now.0);
        }
        seen.dedup();
        assert_eq!((seen, before.1), (vec![5, 2], 30));
    }

    #[test]
    fn many_images_take_smaller_ones_and_then_fewer() {
        let few = auto(1500, 20).config;
        assert_eq!((few.image_size, few.train_size), (Some(224), Some(176)));
        let day = auto(40_000, 1440).config;
        assert_eq!((day.image_size, day.fine_tune_at.as_deref()), (Some(224), Some("0")));
        // Images of 32 pixels are not enlarged seven times.
        let wish_of_a_day = wish(RecipeName::Auto, 1440);
        let tiny = choose(&photos("resnet50"), &facts(40_000, 32), &PACE, &wish_of_a_day).unwrap();
        assert_eq!((tiny.config.image_size, tiny.config.train_size), (Some(160), Some(128)));
        let smaller = auto(40_000, 20).config;
        assert!(smaller.image_size.unwrap() < 224 && smaller.limit.is_none(), "{smaller:?}");
        let recipe = auto(1_000_000, 20);
        let config = &recipe.config;
        assert_eq!(config.image_size, Some(96));
        assert!(config.limit.unwrap() < 300_000, "{config:?}");
        assert!(recipe.reasons.iter().any(|(flags, _)| flags.starts_with("--limit")));
        // Too many for an epoch of fine-tuning, and enough for a part of one.
        let part = auto(300_000, 60).config;
        assert_eq!((part.fine_tune_at.as_deref(), part.fine_tune_epochs), (Some("0"), 1));
        assert_eq!((part.head_images, part.limit), (Some(5_000), None));
        assert_eq!(few.head_images, None);
        let rates = [&few, &part].map(|config| config.fine_tune_learning_rate);
        assert_eq!(rates, RATES);
        let told = Wish { image_size: Some(160), ..wish(RecipeName::Auto, 600) };
        let told = choose(&photos("resnet50"), &facts(100, 200), &PACE, &told).unwrap();
        assert_eq!(told.config.image_size, Some(160));
    }

    #[test]
    fn recipes_aim_at_what_they_say() {
        let of = |name, model| {
            let wish = Wish { name, ..Wish::default() };
            choose(&photos(model), &facts(1500, 100), &PACE, &wish).unwrap().config
        };
        let article = of(RecipeName::Article, "resnet50");
        let expected = TrainConfig {
            fine_tune_at: Some("100".into()),
            test_split: TEST_SPLIT,
            ..photos("resnet50")
        };
        assert_eq!(article, expected);
        assert_eq!(of(RecipeName::Article, "resnet20").fine_tune_at.unwrap(), "conv3");
        let quick = of(RecipeName::Quick, "torchvision-resnet18");
        assert!(quick.refit && quick.head_l2.is_none() && quick.class_weight.is_none());
        let uneven = Facts { imbalance: 4.0, ..facts(1500, 100) };
        let quick_wish = Wish { name: RecipeName::Quick, ..Wish::default() };
        let uneven = choose(&photos("resnet50"), &uneven, &PACE, &quick_wish).unwrap().config;
        assert_eq!(uneven.class_weight, Some(ClassWeight::Balanced));
        assert_eq!((uneven.monitor, quick.monitor), (Monitor::MacroF1, Monitor::Accuracy));
        assert!(quick.fine_tune_at.is_none() && quick.head_solver == HeadSolver::Lbfgs);
        let best = of(RecipeName::Best, "torchvision-resnet18");
        assert!(!best.augment.is_empty() && best.fine_tune_at.is_some());
        for config in [article, quick, best] {
            config.check().unwrap();
        }
    }

    #[test]
    fn what_no_recipe_is_for_is_an_error() {
        let none = TrainConfig { weights: "none".into(), ..photos("resnet50") };
        let some = wish(RecipeName::Auto, 20);
        assert!(choose(&none, &facts(100, 100), &PACE, &some).is_err());
        assert!(choose(&photos("resnet50"), &facts(0, 100), &PACE, &some).is_err());
        assert!(choose(&photos("resnet51"), &facts(100, 100), &PACE, &some).is_err());
        let article = wish(RecipeName::Article, 20);
        let error = choose(&photos("resnet50"), &facts(100, 100), &PACE, &article).unwrap_err();
        assert!(error.to_string().contains("budget"), "{error}");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, text) in [(0.4, "0 s"), (99.0, "99 s"), (840.0, "14 min"), (4800.0, "80 min")]
        {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(duration(7260.0), "2 h 1 min");
        assert_eq!(duration(f64::INFINITY), "277777 h 46 min");
    }
}
