//! From a recipe's name to its settings, for which the images are opened.

use std::time::Duration;

use super::{Facts, Pace, Recipe, RecipeName, TEST_SPLIT, Tried, Wish, choose};
use crate::data::dataset::Dataset;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::hub::{Watch, sources};
use crate::session::config::TrainConfig;
use crate::session::job;

/// What a recipe starts from: images and net, with fractions held out for validation and testing.
pub fn start(data: &str, model: Option<&str>) -> TrainConfig {
    let usual = TrainConfig::defaults(Some(data), model);
    TrainConfig {
        data: data.into(),
        model: model.map_or(usual.model, String::from),
        weights: usual.weights,
        test_split: TEST_SPLIT,
        ..TrainConfig::default()
    }
}

/// Images with everything that a choice depends on.
#[derive(Debug)]
pub struct Opened {
    pub(super) config: TrainConfig,
    pub(super) data: Dataset,
    pub(super) facts: Facts,
    pub(super) device: Device,
}

fn is_stop(error: &Error) -> bool {
    matches!(error, Error::Stopped(_))
}

/// A recipe's choice, and what it was made for.
#[derive(Debug)]
pub struct Chosen {
    /// The settings, and their reasons.
    pub recipe: Recipe,
    /// What they depend on.
    pub facts: Facts,
    /// The images, opened and limited as the settings say.
    pub data: Dataset,
}

impl Opened {
    /// Opens the images of `config`, which is that of [`start`] with other values for image size, splits, groups, seed,
    /// limit, weights, arithmetic, threads or memory, if given. Where `stratify` is none, the splits keep every class in
    /// proportion, if groups of images allow it.
    ///
    /// # Errors
    /// As [`job::check`] and [`job::open_data_with`]; if a weight file is not of the net.
    pub fn new(
        config: TrainConfig,
        stratify: Option<bool>,
        watch: &mut Watch<'_>,
    ) -> Result<Opened> {
        job::check(&config)?;
        let device = job::device(config.threads, config.precision, config.device)?;
        let mut config = TrainConfig { stratify: stratify.unwrap_or(true), ..config };
        let data = match job::open_data_with(&config, watch) {
            // Without it the images may do.
            Err(error) if stratify.is_none() && config.stratify && !is_stop(&error) => {
                config.stratify = false;
                job::open_data_with(&config, watch)?
            }
            opened => opened?,
        };
        // Weights that are not of the net or do not suit the images are known now; those to be downloaded, when they are needed.
        if !sources::is_variant(&config.weights) {
            job::build_model(&config, &data)?;
        }
        let facts = Facts::of(&data);
        Ok(Opened { config, data, facts, device })
    }

    /// How fast this machine is; arbitrary numbers where the choice does not depend on it.
    ///
    /// # Errors
    /// As [`Pace::measure`].
    pub fn pace(&self, name: RecipeName, budget: Option<Duration>) -> Result<Pace> {
        match name {
            RecipeName::Article if budget.is_some() => Ok(Pace { forward: 1.0, training: 1.0 }),
            _ => Pace::measure(&self.config.model, &self.device),
        }
    }

    /// Chooses, for a budget of which what was tried has taken its part.
    ///
    /// # Errors
    /// As [`choose`].
    pub fn choose(
        self,
        name: RecipeName,
        budget: Option<Duration>,
        pace: &Pace,
        tried: Option<&Tried>,
    ) -> Result<Chosen> {
        let Opened { config, mut data, facts, device } = self;
        let spent = tried.map_or(0.0, |tried| tried.seconds);
        let left = |budget: Duration| {
            let seconds = (budget.as_secs_f64() - spent).max(1.0);
            Duration::from_secs_f64(seconds.min(1e9))
        };
        let wish = Wish {
            name,
            budget: if spent > 0.0 { budget.or(name.usual_budget()).map(left) } else { budget },
            image_size: config.image_size,
            dtype: device.dtype(),
            memory: config.cache_bytes(),
            crop: tried.map_or(Wish::default().crop, |tried| tried.crop),
        };
        let mut recipe = choose(&config, &facts, pace, &wish)?;
        if let Some(tried) = tried {
            recipe.take(tried);
        }
        let c = &mut recipe.config;
        if let (Some(limit), None) = (c.limit, config.limit) {
            data.train = data.train.limit(limit, config.seed);
        }
        c.limit = config.limit.or(c.limit);
        (c.validation_split, c.test_split) = (config.validation_split, config.test_split);
        (c.stratify, c.group) = (config.stratify, config.group);
        (c.seed, c.threads) = (config.seed, config.threads);
        Ok(Chosen { recipe, facts, data })
    }
}
