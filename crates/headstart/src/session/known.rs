//! A model beside the images it is asked about: how they were split when it was trained, and which of them it was trained on.

use headstart_kernels::threads::Threads;

use super::job::open_with;
use crate::data::dataset::{DataOptions, Dataset, Grouping, Split, Subset};
use crate::data::prints::Prints;
use crate::error::Result;
use crate::hub::Watch;
use crate::net::model::Model;
use crate::net::weights::model_file::Trained;

/// How a caller wants images split; what is left out is as in the model's training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Fraction held out for validation.
    pub validation_split: Option<f64>,
    /// Fraction split off for testing.
    pub test_split: Option<f64>,
    /// Whether the splits keep every class in proportion.
    pub stratify: Option<bool>,
    /// Which images no split may tear apart.
    pub group: Option<Grouping>,
    /// Seed of the splits.
    pub seed: Option<u32>,
}

impl Given {
    /// What splits the images otherwise than a model's training did: each setting with its value here and there.
    pub fn differences(&self, trained: &Trained) -> Vec<(&'static str, String, String)> {
        let flag = |on: bool| if on { "yes" } else { "no" }.to_string();
        let group = |group: &Option<Grouping>| {
            group.as_ref().map_or_else(|| "none".to_string(), Grouping::to_string)
        };
        let number = |number: f64| number.to_string();
        let own_group = self.group.as_ref().map(|_| group(&self.group));
        [
            ("test split", self.test_split.map(number), number(trained.test_split)),
            (
                "validation split",
                self.validation_split.map(number),
                number(trained.validation_split),
            ),
            ("stratify", self.stratify.map(flag), flag(trained.stratify)),
            ("group", own_group, group(&trained.group)),
            ("seed", self.seed.map(|s| s.to_string()), trained.seed.to_string()),
        ]
        .into_iter()
        .filter_map(|(what, given, then)| Some((what, given?, then)))
        .filter(|(_, given, then)| given != then)
        .collect()
    }
}

/// Images that a model is asked about.
#[derive(Debug)]
pub struct Opened {
    /// The images.
    pub data: Dataset,
    /// Whether they are the data set that the model was trained on, so that its split is the default.
    pub own: bool,
}

/// Images that the model was trained on, among those it is measured on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// How many.
    pub count: usize,
    /// Names of the first of them.
    pub names: Vec<String>,
}

/// Training images that are looked up, to see whether a data set is the one that a model was trained on.
const COMPARED: usize = 64;
/// Names that [`Seen`] has.
const NAMES: usize = 3;

/// Opens `source` for `model`. If these are the images that it was trained on, they are split as they were then; else nothing
/// is held out, except for validation where `validation` says so. What is `given` overrides both; `options` has the rest.
///
/// # Errors
/// As [`open_with`].
pub fn open_for(
    model: &Model,
    source: &str,
    given: Given,
    validation: bool,
    options: &DataOptions,
    threads: &Threads,
    watch: &mut Watch<'_>,
) -> Result<Opened> {
    // What is given, over how the images are split otherwise.
    let with = |usual: DataOptions| DataOptions {
        validation_split: given.validation_split.unwrap_or(usual.validation_split),
        test_split: given.test_split.unwrap_or(usual.test_split),
        stratify: given.stratify.unwrap_or(usual.stratify),
        group: given.group.clone().or(usual.group),
        seed: given.seed.unwrap_or(usual.seed),
        classes: Some(model.card.classes.clone()),
        ..options.clone()
    };
    if let Some(trained) = &model.card.trained {
        let Trained { validation_split, test_split, stratify, seed, limit, .. } = *trained;
        // Split and limited as then, whatever is given, to see whether these are the images.
        let as_then = DataOptions {
            validation_split,
            test_split,
            stratify,
            group: trained.group.clone(),
            seed,
            limit,
            classes: Some(model.card.classes.clone()),
            ..options.clone()
        };
        // What cannot be split so is another data set.
        if let Ok(data) = open_with(source, &as_then, watch)
            && is_own(&data.train, &trained.images, threads)?
        {
            // Images that a limit left out of training are there to be asked for.
            let data = match given == Given::default() && limit.is_none() {
                true => data,
                false => open_with(source, &with(as_then), watch)?,
            };
            return Ok(Opened { data, own: true });
        }
    }
    let usual = DataOptions::default();
    let held_out = if validation { usual.validation_split } else { 0.0 };
    let mut options = with(DataOptions { validation_split: held_out, ..usual });
    if !validation {
        options.validation_split = 0.0;
    }
    Ok(Opened { data: open_with(source, &options, watch)?, own: false })
}

/// Whether at least half of some images, spread over all, are among `images`.
fn is_own(train: &Subset, images: &Prints, threads: &Threads) -> Result<bool> {
    let step = train.len().div_ceil(COMPARED).max(1);
    let some: Vec<usize> = (0..train.len()).step_by(step).collect();
    let hashes = train.select(&some).image_hashes(threads)?;
    let known = hashes.iter().filter(|hash| images.contains(hash)).count();
    Ok(known > 0 && 2 * known >= some.len())
}

impl Opened {
    /// The parts that `split` means, as [`Dataset::parts`], but [`Split::Auto`] is never an image the model was trained on
    /// where others are held out: the test images, or the validation images where there are none.
    ///
    /// # Errors
    /// If there are no such images.
    pub fn parts(&self, split: Split) -> Result<Vec<(&'static str, &Subset)>> {
        match (split, &self.data) {
            (Split::Auto, Dataset { test: None, validation: Some(_), .. }) if self.own => {
                self.data.parts(Split::Validation)
            }
            // Other images were not trained on, and so are not called by that.
            (Split::Auto, Dataset { test: None, validation: None, train, .. }) if !self.own => {
                Ok(vec![("all", train)])
            }
            _ => self.data.parts(split),
        }
    }
}

/// The images of `parts` that `model` was trained on; `None` where that is not known.
///
/// # Errors
/// If a file cannot be read.
pub fn seen(
    model: &Model,
    parts: &[(&'static str, &Subset)],
    threads: &Threads,
) -> Result<Option<Seen>> {
    let Some(trained) = &model.card.trained else { return Ok(None) };
    let mut seen = Seen::default();
    for (_, subset) in parts {
        for (i, hash) in subset.image_hashes(threads)?.iter().enumerate() {
            let Trained { images, refit, before, .. } = trained;
            if [images, refit, before].iter().any(|prints| prints.contains(hash)) {
                seen.count += 1;
                if seen.names.len() < NAMES {
                    seen.names.push(subset.path(i).into_owned());
                }
            }
        }
    }
    Ok(Some(seen))
}
