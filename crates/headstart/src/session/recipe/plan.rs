//! The choice itself.

use std::time::Duration;

use super::pace::{Cost, Pace, cost, net};
use super::{Facts, Recipe, RecipeName, TEST_SPLIT, Wish};
use crate::data::image::Interpolation;
use crate::engine::optimizer::DecayOf;
use crate::error::{Error, Result};
use crate::net::resnet;
use crate::session::config::{HeadSolver, OptimizerName, ScheduleName, Time, TrainConfig};
use crate::train::class_weight::ClassWeight;

/// Fraction of the budget that is planned: the rest is for loading, writing and other programs.
const PLANNED: f64 = 0.8;
/// Fraction of the budget after which training ends whatever was planned, to evaluate and to write.
const ENDS: f64 = 0.95;
/// Fraction of the planned time that the frozen net may take at the size it was trained on: there the head alone is better than
/// fine-tuning at a smaller size.
const OWN: f64 = 0.9;
/// The same at a smaller size, so that time is left for fine-tuning.
const FROZEN: f64 = 0.5;
/// Images that are enlarged by more than this are enlarged bicubically.
const ENLARGED: usize = 2;
/// Image sizes below the net's own, as fractions of it, in 32nds: whole pixels after five halvings.
const SMALLER: [usize; 4] = [6, 5, 4, 3];
/// How uneven classes are whose images do not count the same.
const UNEVEN: f64 = 1.5;
/// Training images that fine-tuning sees, counted over all its epochs, if the budget allows.
const SEEN: usize = 15_000;

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

/// A way to fine-tune.
struct FineTuning {
    stage: usize,
    /// Epochs that fit.
    epochs: usize,
    /// Seconds before the first, and for each.
    seconds: [f64; 2],
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
        self.seconds = self.once(&head);
        let epochs = self.config.fine_tune_epochs;
        let [before, each] = self.tuning(&tuned, false);
        self.seconds += before + each * epochs as f64;
        self.because(
            format!("--epochs 5 --fine-tune-at {at} --fine-tune-epochs 5"),
            "the Keras tutorial's: RMSprop, learning rate 1e-4, batch size 20",
        );
        self.config.fine_tune_at = Some(at);
        Ok(())
    }

    fn within_budget(&mut self) -> Result<()> {
        let budget = self.wish.budget.or(self.wish.name.usual_budget());
        let planned = budget.map_or(f64::INFINITY, |b| b.as_secs_f64() * PLANNED);
        self.solved_head();
        let size = self.image_size(planned)?;
        let net = net(self.net, size, self.facts.classes)?;
        let head = cost(&net, None, self.wish.dtype)?;
        self.seconds = self.once(&head);
        if self.wish.name == RecipeName::Quick {
            return Ok(());
        }
        let changing = self.wish.name == RecipeName::Best;
        let left = planned - self.seconds;
        // With augmentation, overfitting starts later.
        let (images, most) = if changing { (2 * SEEN, 40) } else { (SEEN, 12) };
        let wanted = images.div_ceil(self.facts.train).clamp(3, most);
        let mut best: Option<FineTuning> = None;
        // From the last stage to the first: as much of the net as gets its epochs.
        for number in (1..=self.net.stages.len()).rev() {
            let at = self.at(number);
            let cost = cost(&net, Some(net.freeze_point(&at)?), self.wish.dtype)?;
            let seconds = self.tuning(&cost, changing);
            let epochs = ((left - seconds[0]) / seconds[1]).floor().clamp(0.0, wanted as f64);
            let epochs = epochs as usize;
            if epochs >= wanted || (best.is_none() && epochs > 0) {
                best = Some(FineTuning { stage: number, epochs, seconds });
            }
        }
        let Some(FineTuning { stage, epochs, seconds: [before, each] }) = best else {
            self.because("no --fine-tune-at", "the budget does not allow an epoch of fine-tuning");
            return Ok(());
        };
        self.seconds += before + each * epochs as f64;
        self.fine_tune(stage, epochs, wanted);
        if let Some(budget) = budget {
            self.ends(budget, self.facts.held_out as f64 * head.frozen / self.pace.forward);
        }
        if changing {
            self.change_images();
        }
        Ok(())
    }

    /// Training ends within the budget, whatever else the machine does: `last` are the seconds of the last evaluation.
    fn ends(&mut self, budget: Duration, last: f64) {
        let budget = budget.as_secs_f64();
        let end = (budget * ENDS - last).max(budget / 2.0);
        let time = Time(Duration::from_secs(end.ceil() as u64));
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
        }
    }

    fn fine_tune(&mut self, number: usize, epochs: usize, wanted: usize) {
        let at = self.at(number);
        let c = &mut self.config;
        c.fine_tune_at = Some(at.clone());
        c.fine_tune_epochs = epochs;
        c.optimizer = OptimizerName::AdamW;
        c.fine_tune_learning_rate = 2e-4;
        c.weight_decay = Some(0.05);
        c.decay_of = DecayOf::Kernels;
        c.freeze_bn = true;
        c.schedule = ScheduleName::OneCycle;
        c.label_smoothing = 0.1;
        c.batch_size = batch(self.facts.train);
        let steps = format!("--batch-size {}", c.batch_size);
        let stages = self.net.stages.len() + 1 - number;
        let what = match stages {
            n if n == self.net.stages.len() => "all of the net".to_string(),
            1 => "the net's last stage".to_string(),
            n => format!("the net's last {n} stages"),
        };
        let why = match epochs < wanted {
            true => format!("{what}: the budget allows {epochs} epochs"),
            false => format!("{what}: as much as gets {wanted} epochs within the budget"),
        };
        self.because(format!("--fine-tune-at {at} --fine-tune-epochs {epochs}"), why);
        self.because(
            "--optimizer adamw --fine-tune-learning-rate 2e-4 --weight-decay 0.05 --decay-of kernels --schedule one-cycle",
            "learns fast in few epochs, and ends with a small learning rate",
        );
        self.because(
            "--freeze-bn",
            "keeps batch norm statistics fixed, as they were when the head was fitted",
        );
        self.because("--label-smoothing 0.1", "reduces overfitting on a small data set");
        let images = self.facts.train;
        self.because(steps, format!("enough steps an epoch for {images} images"));
    }

    fn change_images(&mut self) {
        self.config.augment =
            ["resized-crop:0.35", "flip"].into_iter().filter_map(|a| a.parse().ok()).collect();
        self.because(
            "--augment resized-crop:0.35,flip",
            "every epoch sees other versions of the images",
        );
    }

    /// Where a stage begins, or everything where it is the first.
    fn at(&self, number: usize) -> String {
        if number == 1 { "0".into() } else { self.net.stage(number) }
    }

    /// Seconds of one pass of all images through the frozen net and of fitting the head.
    fn once(&self, head: &Cost) -> f64 {
        let Facts { train, held_out, classes, .. } = *self.facts;
        // About 400 evaluations over all images, forward and backward, at 15 billion multiply-adds a second.
        let solving = 400.0 * 2.0 * train as f64 * (head.step / 6.0).max(classes as f64) / 15e9;
        (train + held_out) as f64 * head.frozen / self.pace.forward + solving
    }

    /// Seconds before fine-tuning, in which features are cached, and for each of its epochs.
    fn tuning(&self, cost: &Cost, changing: bool) -> [f64; 2] {
        let Facts { train, held_out, .. } = *self.facts;
        let images = (train + held_out) as f64;
        let kept = !changing && cost.bytes > 0 && cost.bytes * (images as u64) < self.wish.memory;
        let frozen = cost.frozen / self.pace.forward;
        let each = train as f64 * cost.step / self.pace.training
            + held_out as f64 * cost.forward / self.pace.forward;
        if kept { [images * frozen, each] } else { [0.0, each + images * frozen] }
    }

    /// Resizes images to the net's own size, or to a smaller one if the frozen net would take too long.
    fn image_size(&mut self, planned: f64) -> Result<usize> {
        let own = self.net.image_size;
        let smaller =
            SMALLER.iter().map(|share| own * share / 7).filter(|size| own > 32 && *size > 0);
        let sizes: Vec<usize> = match self.wish.image_size {
            Some(size) => vec![size],
            None => std::iter::once(own).chain(smaller).collect(),
        };
        let (mut seconds, mut share) = (0.0, FROZEN);
        let mut found = *sizes.last().unwrap_or(&own);
        for &size in &sizes {
            let net = net(self.net, size, self.facts.classes)?;
            seconds = self.once(&cost(&net, None, self.wish.dtype)?);
            share = if size == own { OWN } else { FROZEN };
            if seconds <= planned * share {
                found = size;
                break;
            }
        }
        self.config.image_size = Some(found);
        let pixels = self.facts.pixels;
        let enlarged = pixels * ENLARGED < found;
        let interpolation = if enlarged { Interpolation::Bicubic } else { Interpolation::Bilinear };
        self.config.interpolation = Some(interpolation);
        let flags = format!("--image-size {found} --interpolation {}", interpolation.name());
        let why = match found {
            size if self.wish.image_size == Some(size) => "as given".to_string(),
            size if size == own => {
                format!("what the net was trained on; images are about {pixels} pixels")
            }
            _ => format!("at {own} the frozen net alone would use too much of the budget"),
        };
        self.because(flags, why);
        if seconds > planned * share {
            let share = planned * share / seconds;
            let limit = ((self.facts.train as f64 * share) as usize).max(self.facts.classes * 2);
            if limit < self.facts.train {
                self.config.limit = Some(limit);
                let why = "more images do not fit the budget, even at this size";
                self.because(format!("--limit {limit}"), why);
            }
        }
        Ok(found)
    }
}

/// Batch size: a power of two, for at least about 30 steps per epoch.
fn batch(images: usize) -> usize {
    match images / 30 {
        0..8 => 8,
        8..32 => 16,
        32..400 => 32,
        _ => 64,
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
        Facts { train, held_out: train / 2, classes: 10, imbalance: 1.2, pixels }
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
        let mut before = 6;
        for minutes in [1, 3, 8, 20, 60, 240] {
            let recipe = auto(1500, minutes);
            recipe.config.check().unwrap();
            assert!(recipe.seconds <= 60.0 * minutes as f64 * PLANNED, "{minutes}: {recipe:?}");
            assert!(stage(&recipe) <= before, "{minutes}: {recipe:?}");
            before = stage(&recipe);
        }
        assert_eq!(before, 2);
    }

    #[test]
    fn many_images_take_smaller_ones_and_then_fewer() {
        assert_eq!(auto(1500, 20).config.image_size, Some(224));
        let smaller = auto(40_000, 20).config;
        assert!(smaller.image_size.unwrap() < 224 && smaller.limit.is_none(), "{smaller:?}");
        let recipe = auto(1_000_000, 20);
        let config = &recipe.config;
        assert_eq!(config.image_size, Some(96));
        assert!(config.limit.unwrap() < 300_000, "{config:?}");
        assert!(recipe.reasons.iter().any(|(flags, _)| flags.starts_with("--limit")));
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
