//! Settings of training, chosen by the data, the net, this machine's speed and a time budget.
//!
//! ```
//! use std::time::Duration;
//! use headstart::config::TrainConfig;
//! use headstart::recipe::{Facts, Pace, RecipeName, Wish, choose};
//!
//! let config = TrainConfig { data: "photos".into(), ..TrainConfig::default() };
//! let facts = Facts { train: 1500, held_out: 500, validation: 150, classes: 10, imbalance: 1.0, pixels: 100 };
//! let pace = Pace { forward: 350e9, training: 320e9 };
//! let budget = Some(Duration::from_secs(20 * 60));
//! let recipe = choose(&config, &facts, &pace, &Wish { name: RecipeName::Auto, budget, ..Wish::default() })?;
//! println!("headstart train {}", recipe.config.flags()?.join(" "));
//! assert!(recipe.seconds < 20.0 * 60.0);
//! # Ok::<(), headstart::Error>(())
//! ```

mod opened;
mod pace;
mod plan;
mod trial;
mod tuning;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use headstart_kernels::element::DType;
use serde::Serialize;

use crate::data::dataset::Dataset;
use crate::data::image::Interpolation;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::session::config::TrainConfig;

pub use opened::{Chosen, Opened, start};
pub use pace::{Cost, Pace, cost, net};
pub use plan::{choose, duration};
pub use trial::Tried;

/// What a recipe aims at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipeName {
    /// A head fitted with L-BFGS on the frozen net, then all of the net on random crops, or its last stage, as the budget (20
    /// minutes) allows.
    #[default]
    Auto,
    /// The Keras tutorial's settings: five epochs of the head, five from layer 100 on.
    Article,
    /// The head only.
    Quick,
    /// As [`RecipeName::Auto`], for up to twice the epochs, with a budget of 2 hours.
    Best,
}

impl RecipeName {
    /// All of them.
    pub const ALL: [RecipeName; 4] =
        [RecipeName::Auto, RecipeName::Article, RecipeName::Quick, RecipeName::Best];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            RecipeName::Auto => "auto",
            RecipeName::Article => "article",
            RecipeName::Quick => "quick",
            RecipeName::Best => "best",
        }
    }

    /// The default budget.
    pub fn usual_budget(self) -> Option<Duration> {
        match self {
            RecipeName::Auto => Some(Duration::from_secs(20 * 60)),
            RecipeName::Best => Some(Duration::from_secs(2 * 3600)),
            RecipeName::Article | RecipeName::Quick => None,
        }
    }
}

impl fmt::Display for RecipeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RecipeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<RecipeName> {
        RecipeName::ALL.into_iter().find(|r| r.name() == text).ok_or_else(|| {
            let names = RecipeName::ALL.map(RecipeName::name);
            Error::invalid("recipe", names.join(", "), text, did_you_mean(text, names))
        })
    }
}

/// The facts about a data set that a choice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// Training images.
    pub train: usize,
    /// Validation and test images.
    pub held_out: usize,
    /// The validation images among them.
    pub validation: usize,
    /// Classes.
    pub classes: usize,
    /// Training images of the largest class over those of the smallest one that has any.
    pub imbalance: f64,
    /// The shorter side of the images, in pixels: the median of some of them.
    pub pixels: usize,
}

/// Images that are enlarged by more than this are enlarged bicubically.
const ENLARGED: usize = 2;
/// The least parts of an image that random crops may show, the most different crops first: fastai's 0.35, and milder ones.
pub(super) const CROPS: [f32; 3] = [0.35, 0.7, 0.85];
/// Fraction of the images that a recipe splits off for testing, where the data has no test images of its own.
pub const TEST_SPLIT: f64 = 0.2;

impl Facts {
    /// Those of `data`.
    pub fn of(data: &Dataset) -> Facts {
        let (train, some) = (&data.train, 1000);
        let step = train.len().div_ceil(some).max(1);
        let mut sides: Vec<usize> = (0..train.len())
            .step_by(step)
            .map(|i| train.size(i))
            .map(|(height, width)| height.min(width))
            .collect();
        sides.sort_unstable();
        let others = [&data.validation, &data.test];
        Facts {
            train: train.len(),
            held_out: others.into_iter().flatten().map(|s| s.len()).sum(),
            validation: data.validation.as_ref().map_or(0, |s| s.len()),
            classes: data.classes.len(),
            imbalance: imbalance(&train.class_counts()),
            pixels: sides.get(sides.len() / 2).copied().unwrap_or(0),
        }
    }
}

impl Facts {
    /// How images are best resized to `size` pixels: bicubically if they are enlarged much.
    pub(super) fn interpolation(&self, size: usize) -> Interpolation {
        match self.pixels * ENLARGED < size {
            true => Interpolation::Bicubic,
            false => Interpolation::Bilinear,
        }
    }
}

/// The greatest count over the least, of those that are not 0.
fn imbalance(counts: &[usize]) -> f64 {
    let counts = || counts.iter().copied().filter(|&count| count > 0);
    counts().max().unwrap_or(1) as f64 / counts().min().unwrap_or(1) as f64
}

/// What a recipe is chosen for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// The recipe.
    pub name: RecipeName,
    /// How long the run may take; none for [`RecipeName::usual_budget`].
    pub budget: Option<Duration>,
    /// Height and width of the images before the net, if given.
    pub image_size: Option<usize>,
    /// What the net computes in.
    pub dtype: DType,
    /// Bytes that cached features of frozen layers may take.
    pub memory: u64,
    /// The least part of an image that a random crop shows, as a fraction of its area.
    pub crop: f32,
}

impl Default for Wish {
    fn default() -> Self {
        let (name, dtype) = (RecipeName::Auto, DType::F32);
        Wish { name, budget: None, image_size: None, dtype, memory: 2 << 30, crop: CROPS[0] }
    }
}

/// Settings with the reasons for them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// Its name.
    pub name: RecipeName,
    /// The settings.
    #[serde(skip)]
    pub config: TrainConfig,
    /// Estimated seconds of training on this machine.
    pub seconds: f64,
    /// The reasons: settings, as flags, and why they were chosen.
    pub reasons: Vec<(String, String)>,
}
