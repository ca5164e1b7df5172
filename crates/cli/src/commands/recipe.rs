//! `headstart recipe`, and the start of `headstart train --recipe`.

use std::time::Duration;

use headstart::Control;
use headstart::config::{TrainConfig, shell_words};
use headstart::recipe::{self, Chosen, Facts, Opened, Pace, Recipe, RecipeName, Tried, duration};
use serde::Serialize;

use super::{cache, check, hub};
use crate::args;
use crate::failure::Failure;
use crate::interrupt;
use crate::output;
use crate::output::note;
use crate::progress::Progress;
use crate::show::describe_data;

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    recipe: &'a Recipe,
    budget: Option<f64>,
    facts: &'a Facts,
    flags: Vec<String>,
}

/// Prints the settings that a recipe chooses.
pub fn run(args: &args::Recipe) -> Result<(), Failure> {
    let Chosen { recipe, facts, data } = chosen(args, false)?;
    describe_data(&data);
    let flags = recipe.config.flags()?;
    let budget = args.budget.or(args.recipe.usual_budget());
    if args.json {
        let budget = budget.map(|b| b.as_secs_f64());
        output::json(&Printed { recipe: &recipe, budget, facts: &facts, flags })?;
        return Ok(());
    }
    let images = facts.train;
    let within =
        budget.map_or(String::new(), |b| format!(", within {}", duration(b.as_secs_f64())));
    output::line(format!(
        "{} for {} on {images} images of {} classes{within}:",
        recipe.name, recipe.config.model, facts.classes
    ))?;
    output::line(format!("\nheadstart train {}\n", shell_words(&flags)))?;
    explain(&recipe, &mut |line| Ok(output::line(line)?))
}

/// Prints on stderr what a recipe chose.
pub fn announce(recipe: &Recipe) -> Result<(), Failure> {
    note!("recipe {}: {}", recipe.name, shell_words(&recipe.config.flags()?));
    let mut say = |line: String| {
        note!("{line}");
        Ok(())
    };
    explain(recipe, &mut say)
}

fn explain(
    recipe: &Recipe,
    say: &mut dyn FnMut(String) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for (flags, why) in &recipe.reasons {
        say(format!("  {flags}: {why}"))?;
    }
    say(format!("estimated: {}", duration(recipe.seconds)))
}

/// Chooses by a recipe; `trains` says that training follows.
pub fn chosen(args: &args::Recipe, trains: bool) -> Result<Chosen, Failure> {
    let start = recipe::start(&args.data, args.model.as_deref());
    let config = TrainConfig {
        validation_split: args.validation_split.unwrap_or(start.validation_split),
        test_split: args.test_split.unwrap_or(start.test_split),
        group: args.split.group.clone(),
        image_size: args.image_size,
        seed: args.seed.unwrap_or(start.seed),
        limit: args.limit,
        threads: args.threads.unwrap_or(start.threads),
        precision: args.precision.map_or(start.precision, Into::into),
        device: args.device.unwrap_or(start.device),
        cache_memory: args.cache_memory,
        weights: args.weights.clone().unwrap_or(start.weights),
        ..start
    };
    check(&config, None)?;
    let opened = hub::watched(|watch| Opened::new(config, args.split.by_class(), watch))?;
    let pace = opened.pace(args.recipe, args.budget)?;
    let tried = tried(args, &opened, &pace, trains)?;
    opened.choose(args.recipe, args.budget, &pace, tried.as_ref()).map_err(Failure::Usage)
}

/// What a recipe tries on some images. What cannot be tried is said, and takes no choice away, unless training follows, which
/// would fail for the same reason.
fn tried(
    args: &args::Recipe,
    opened: &Opened,
    pace: &Pace,
    trains: bool,
) -> Result<Option<Tried>, Failure> {
    interrupt::watch();
    let (mut progress, cache) = (Progress::new(0), cache::settings(&args.cache));
    let mut show = cache::show(&mut progress, "trying on some images");
    let found = hub::watched(|watch| {
        opened.try_images(args.recipe, args.budget, pace, &cache, watch, &mut show)
    });
    drop(show);
    progress.clear();
    if interrupt::control() == Control::Stop {
        return Err(Failure::Interrupted("nothing was chosen".into()));
    }
    match found {
        Err(Failure::Failed(error)) if !trains => {
            note!("nothing is tried on images: {error}");
            Ok(None)
        }
        found => found,
    }
}

/// What `train` passes on.
pub fn of_train(args: &args::Train, name: RecipeName, budget: Option<Duration>) -> args::Recipe {
    args::Recipe {
        data: args.data.clone().unwrap_or_else(|| TrainConfig::default().data),
        recipe: name,
        budget,
        model: args.model.clone(),
        weights: args.weights.clone(),
        image_size: args.image_size,
        validation_split: args.validation_split,
        test_split: args.test_split,
        split: args.split.clone(),
        seed: args.seed,
        limit: args.limit,
        precision: args.precision,
        device: args.device,
        threads: args.threads,
        cache_memory: args.cache_memory,
        cache: args::CacheFlags { cache_dir: args.cache_dir.clone(), no_cache: args.no_cache },
        json: false,
    }
}
