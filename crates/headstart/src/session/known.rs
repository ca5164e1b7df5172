//! A model beside the images it is asked about: how they were split when it was trained, and which of them it was trained on.

use std::fmt;

use headstart_kernels::threads::Threads;

use super::config::trained_layers;
use super::job::{local, open_with};
use crate::data::dataset::{DataOptions, Dataset, Grouping, Split, Subset};
use crate::data::prints::Prints;
use crate::error::Result;
use crate::hub::Watch;
use crate::hub::objects::is_url;
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
            ("stratified", self.stratify.map(flag), flag(trained.stratify)),
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
    /// Whether their training images are those of the model's training, whatever flags split them.
    pub as_then: bool,
    /// Of other images, those of [`Split::Auto`] that the model was trained on, where these are left out.
    pub left_out: Option<Seen>,
    /// The images of [`Split::Auto`] without those.
    others: Option<Subset>,
}

/// Images that the model was trained on, among those it is measured on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// How many.
    pub count: usize,
    /// Names of the first of them.
    pub names: Vec<String>,
}

/// Their names: those of the first, and dots where there are more.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.count > self.names.len() { ", ..." } else { "" };
        write!(f, "{}{more}", self.names.join(", "))
    }
}

/// Training images that are looked up before all of them are.
const COMPARED: usize = 64;
/// So many held-out images, none of which was trained on, are no chance: by chance each is with the share of training images.
const ENOUGH: usize = 20;
/// Names that [`Seen`] has.
const NAMES: usize = 3;
/// What images of [`Split::Auto`] are called without those that the model was trained on.
const UNSEEN: &str = "unseen";

/// Opens `source` for `model`. If these are the images of its run, all of them and no others, they are split as they were then;
/// else nothing is held out, except for validation where `validation` says so, and [`Opened::parts`] leaves out what the model
/// was trained on. What is `given` overrides both; `options` has the rest.
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
    // Opened more than once, and brought up to date once.
    let copy = is_url(source).then(|| local(source, watch)).transpose()?;
    let source = copy.as_ref().and_then(|path| path.to_str()).unwrap_or(source);
    // What is given, over how the images are split otherwise.
    let with = |usual: DataOptions| DataOptions {
        validation_split: given.validation_split.unwrap_or(usual.validation_split),
        test_split: given.test_split.unwrap_or(usual.test_split),
        stratify: given.stratify.unwrap_or(usual.stratify),
        group: given.group.clone().or(usual.group),
        seed: given.seed.unwrap_or(usual.seed),
        classes: Some(model.card.classes.clone()),
        least_side: model.target().least_side(),
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
            least_side: model.target().least_side(),
            ..options.clone()
        };
        // What cannot be split so is another data set.
        if let Ok(data) = open_with(source, &as_then, watch)
            && is_own(&data, &trained.images, threads)?
        {
            // Images that a limit left out of training are there to be asked for.
            let data = match given == Given::default() && limit.is_none() {
                true => data,
                false => open_with(source, &with(as_then), watch)?,
            };
            let as_then =
                given.differences(trained).is_empty() || is_own(&data, &trained.images, threads)?;
            return Ok(Opened { data, own: true, as_then, left_out: None, others: None });
        }
    }
    let usual = DataOptions::default();
    let held_out = if validation { usual.validation_split } else { 0.0 };
    let mut options = with(DataOptions { validation_split: held_out, ..usual });
    if !validation {
        options.validation_split = 0.0;
    }
    let opened = Opened {
        data: open_with(source, &options, watch)?,
        own: false,
        as_then: false,
        left_out: None,
        others: None,
    };
    opened.without_seen(model, threads)
}

/// Whether `train` is the images of a run's training, all of them and no others. A split is a draw by position, so that any
/// image more or less moves others from one part to another.
pub(super) fn is_own(data: &Dataset, images: &Prints, threads: &Threads) -> Result<bool> {
    // Most data sets are told apart by a few images.
    let train = &data.train;
    let step = train.len().div_ceil(COMPARED).max(1);
    let some: Vec<usize> = (0..train.len()).step_by(step).collect();
    let all_known = |subset: &Subset| -> Result<Option<Vec<_>>> {
        let hashes = subset.image_hashes(threads)?;
        Ok(hashes.iter().all(|hash| images.contains(hash)).then_some(hashes))
    };
    let none_known = |parts: &mut dyn Iterator<Item = &Subset>| -> Result<bool> {
        for part in parts {
            if part.image_hashes(threads)?.iter().any(|hash| images.contains(hash)) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if train.len() < images.len() || all_known(&train.select(&some))?.is_none() {
        return Ok(false);
    }
    // As many images for training, and none of those held out was trained on: each lies where it did. The files of the held-out ones
    // are read, most of them to be measured anyway; those of the others are not.
    let mut held_out = [&data.test, &data.validation].into_iter().flatten();
    if train.len() == images.len()
        && held_out.clone().map(Subset::len).sum::<usize>() >= ENOUGH
        && none_known(&mut held_out)?
    {
        return Ok(true);
    }
    Ok(all_known(train)?.is_some_and(|hashes| Prints::new(&hashes) == *images))
}

impl Opened {
    /// Finds which of the images of [`Split::Auto`] the model was trained on, so that the others are measured, if there are any.
    fn without_seen(self, model: &Model, threads: &Threads) -> Result<Opened> {
        let Some(trained) = &model.card.trained else { return Ok(self) };
        let parts = self.parts(Split::Auto)?;
        let [(_, subset)] = parts[..] else { return Ok(self) };
        let hashes = subset.image_hashes(threads)?;
        let (seen, unseen): (Vec<usize>, Vec<usize>) =
            (0..subset.len()).partition(|&i| trained.has_seen(&hashes[i]));
        if seen.is_empty() || unseen.is_empty() {
            return Ok(self);
        }
        let names = seen.iter().take(NAMES).map(|&i| subset.path(i).into_owned()).collect();
        let left_out = Some(Seen { count: seen.len(), names });
        let others = Some(subset.select(&unseen));
        Ok(Opened { left_out, others, ..self })
    }

    /// The data set whose [`Split::Auto`] is that of [`Opened::parts`].
    pub fn measured(self) -> Dataset {
        let Opened { mut data, others, .. } = self;
        if let Some(others) = others {
            match &mut data.test {
                Some(test) => *test = others,
                None => data.train = others,
            }
        }
        data
    }

    /// The parts that `split` means, as [`Dataset::parts`], but [`Split::Auto`] is never an image the model was trained on
    /// where there are others: the test images, or the validation images where there are none; of another data set than
    /// the model's own, what it was not trained on.
    ///
    /// # Errors
    /// If there are no such images.
    pub fn parts(&self, split: Split) -> Result<Vec<(&'static str, &Subset)>> {
        if let (Split::Auto, Some(others)) = (split, &self.others) {
            return Ok(vec![(UNSEEN, others)]);
        }
        match (split, &self.data) {
            (Split::Auto, Dataset { test: None, validation: Some(_), .. }) if self.own => {
                self.data.parts(Split::Validation)
            }
            // Other images were not trained on, and so are not called by that.
            (Split::Auto | Split::All, Dataset { test: None, validation: None, train, .. })
                if !self.own =>
            {
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
            if trained.has_seen(hash) {
                seen.count += 1;
                if seen.names.len() < NAMES {
                    seen.names.push(subset.path(i).into_owned());
                }
            }
        }
    }
    Ok(Some(seen))
}

/// How many of the images the layers below the model's head were trained on: their features know the labels, wrong ones too.
///
/// # Errors
/// As [`seen`].
pub fn tuned_on(model: &Model, images: &Subset, threads: &Threads) -> Result<usize> {
    let mut trunk = model.parameters.tensors.iter().filter(|t| t.node != model.logits());
    if !trained_layers(model).is_some_and(|layers| trunk.any(|t| layers[t.node])) {
        return Ok(0);
    }
    Ok(seen(model, &[("train", images)], threads)?.map_or(0, |seen| seen.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_own_images_are_known_by_the_held_out_ones_and_a_few() {
        let folder = tempfile::tempdir().unwrap();
        let file =
            |i: u8| folder.path().join(format!("{}/{i:03}.ppm", ["a", "b"][usize::from(i % 2)]));
        let write = |i: u8, value: u8| {
            std::fs::create_dir_all(file(i).parent().unwrap()).unwrap();
            let pixels = [[i, value, 7]; 16].as_flattened().to_vec();
            std::fs::write(file(i), [b"P6\n4 4\n255\n".to_vec(), pixels].concat()).unwrap();
        };
        (0..200).for_each(|i| write(i, 0));
        let threads = Threads::new(1).unwrap();
        let open = |validation_split, test_split| {
            let options = DataOptions { validation_split, test_split, ..DataOptions::default() };
            open_with(folder.path().to_str().unwrap(), &options, &mut |_| {
                crate::control::Control::Continue
            })
            .unwrap()
        };
        let data = open(0.1, 0.2);
        let images = Prints::new(&data.train.image_hashes(&threads).unwrap());
        let alone = Prints::new(&open(0.0, 0.0).train.image_hashes(&threads).unwrap());
        assert!(is_own(&open(0.1, 0.2), &images, &threads).unwrap());
        assert!(!is_own(&open(0.1, 0.25), &images, &threads).unwrap());
        // One that is not among the few that are compared has another picture now.
        let whole = open(0.0, 0.0);
        let number = |data: &Dataset, at: usize| {
            (0..200).find(|&i| file(i).ends_with(&*data.train.path(at))).unwrap()
        };
        let compared = |data: &Dataset, i: u8| {
            let step = data.train.len().div_ceil(COMPARED);
            (0..data.train.len()).step_by(step).any(|at| number(data, at) == i)
        };
        let mut some = (0..data.train.len()).map(|at| number(&data, at));
        write(some.find(|&i| !compared(&data, i) && !compared(&whole, i)).unwrap(), 9);
        assert!(is_own(&open(0.1, 0.2), &images, &threads).unwrap());
        // Without held-out images all are compared.
        let whole = open(0.0, 0.0);
        assert!(!is_own(&whole, &alone, &threads).unwrap());
    }
}
