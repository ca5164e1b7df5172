//! `headstart recipe`, and what `headstart train --recipe` begins with.

use std::time::Duration;

use headstart::config::{Precision, TrainConfig};
use headstart::dataset::Dataset;
use headstart::hub::sources;
use headstart::job::open_data;
use headstart::recipe::{self, Facts, Pace, Recipe, RecipeName, TEST_SPLIT, Wish, duration};
use headstart::trainer::default_cache_memory;
use serde::Serialize;

use super::{compute, hub};
use crate::args;
use crate::failure::Failure;
use crate::output;

/// What `--json` prints.
#[derive(Serialize)]
struct Chosen<'a> {
    #[serde(flatten)]
    recipe: &'a Recipe,
    budget: Option<f64>,
    facts: &'a Facts,
    flags: Vec<String>,
}

/// Prints the settings that a recipe stands for.
pub fn run(args: &args::Recipe) -> Result<(), Failure> {
    let (settings, facts, recipe, _) = by_recipe(args)?;
    let flags = recipe.config.flags()?;
    let budget = args.budget.or(args.recipe.usual_budget());
    if args.json {
        let budget = budget.map(|b| b.as_secs_f64());
        output::json(&Chosen { recipe: &recipe, budget, facts: &facts, flags })?;
        return Ok(());
    }
    let images = facts.train;
    let within =
        budget.map_or(String::new(), |b| format!(", within {}", duration(b.as_secs_f64())));
    output::line(format!(
        "{} for {} on {images} images of {} classes{within}:",
        recipe.name, settings.model, facts.classes
    ))?;
    output::line(format!("\nheadstart train {}\n", words(&flags)))?;
    explain(&recipe, &mut |line| Ok(output::line(line)?))
}

/// Says on stderr what a recipe chose.
pub fn announce(recipe: &Recipe) -> Result<(), Failure> {
    eprintln!("recipe {}: {}", recipe.name, words(&recipe.config.flags()?));
    let mut say = |line: String| {
        eprintln!("{line}");
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

/// Flags as a shell takes them.
fn words(flags: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    let word = |flag: &String| match flag.chars().all(plain) && !flag.is_empty() {
        true => flag.clone(),
        false => format!("'{}'", flag.replace('\'', "'\\''")),
    };
    flags.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The settings it starts from, the data's facts, the recipe and the data, opened.
type ByRecipe = (TrainConfig, Facts, Recipe, Dataset);

/// Chooses by a recipe.
pub fn by_recipe(args: &args::Recipe) -> Result<ByRecipe, Failure> {
    let data = Some(args.data.as_str());
    let usual = TrainConfig::defaults(data, args.model.as_deref());
    let mut config = TrainConfig {
        data: args.data.clone(),
        validation_split: args.validation_split.unwrap_or(0.1),
        test_split: args.test_split.unwrap_or(TEST_SPLIT),
        image_size: args.image_size,
        seed: args.seed.unwrap_or(42),
        limit: args.limit,
        threads: args.threads.unwrap_or(0),
        model: args.model.clone().unwrap_or(usual.model),
        weights: args.weights.clone().unwrap_or(usual.weights),
        ..TrainConfig::default()
    };
    config.check().map_err(Failure::Usage)?;
    if sources::is_variant(&config.weights) {
        hub::published(&config.model, &config.weights, false)?;
    }
    let compute = compute(config.threads, args.precision.map_or(Precision::Auto, Into::into))?;
    hub::fetch_data(&config.data)?;
    let mut data = open_data(&config)?;
    let facts = Facts::of(&data);
    let wish = Wish {
        name: args.recipe,
        budget: args.budget,
        image_size: args.image_size,
        dtype: compute.dtype,
        memory: args.cache_memory.map_or_else(default_cache_memory, headstart::range::bytes),
    };
    let pace = match args.recipe {
        RecipeName::Article if args.budget.is_some() => Pace { forward: 1.0, training: 1.0 },
        _ => Pace::measure(&config.model, &compute)?,
    };
    let mut recipe = recipe::choose(&config, &facts, &pace, &wish).map_err(Failure::Usage)?;
    if let (Some(limit), None) = (recipe.config.limit, args.limit) {
        data.train = data.train.limit(limit, config.seed);
    }
    let c = &mut recipe.config;
    config.limit = config.limit.or(c.limit);
    (c.validation_split, c.test_split) = (config.validation_split, config.test_split);
    (c.seed, c.limit, c.threads) = (config.seed, config.limit, config.threads);
    Ok((config, facts, recipe, data))
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
        seed: args.seed,
        limit: args.limit,
        precision: args.precision,
        threads: args.threads,
        cache_memory: args.cache_memory,
        json: false,
    }
}
