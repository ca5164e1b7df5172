//! What is tried on some of the images before a recipe chooses: how images of other proportions come to the net's size, whether
//! mirrored images are still of their class, and how much of an image a crop has to show to be of its class. Heads over the frozen net judge, by cross-validation; where the size that is chosen
//! is the net's own, training finds the features in the cache.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::pace::{cost, net};
use super::tuning::crops;
use super::{CROPS, Opened, Pace, Recipe, RecipeName};
use crate::control::Control;
use crate::data::augment::{Augment, Augmentation};
use crate::data::batches::{Loader, LoaderOptions};
use crate::data::dataset::Subset;
use crate::data::image::FitName;
use crate::engine::execute::Input;
use crate::engine::inference::{executor, read_floats};
use crate::engine::logistic::folds::assign;
use crate::engine::logistic::{Examples, LinearHead, SolveOptions, solve_from};
use crate::error::Result;
use crate::hub::Watch;
use crate::measure::events::Event;
use crate::measure::rank::argmax;
use crate::net::model::Model;
use crate::net::resnet;
use crate::session::config::TrainConfig;
use crate::session::job;
use crate::train::cache::{CacheSettings, Emit, Part, Whole};
use crate::train::trainer::INFERENCE_BATCH;

/// Fraction of the budget that this may take.
const SHARE: f64 = 0.08;
/// The most and the fewest images.
const IMAGES: (usize, usize) = (800, 200);
/// Images whose longer side is this many times the shorter one are not square.
const OBLONG: f64 = 1.1;
/// The fraction of such images from which other ways than stretching are tried.
const SOME: f64 = 0.2;
/// L2 penalty of the heads.
const L2: f64 = 1e-2;
/// Tolerance of their fits.
const TOLERANCE: f64 = 1e-3;
const FOLDS: usize = 5;
/// By how many standard errors mirrored images have to be worse, and by how much their accuracy, so that they are of another class.
const WORSE: (f64, f64) = (3.0, 0.05);

/// How many times as high the loss may be on crops: above, they hide what the class is known by. Rubbish has 1.4 with a third of
/// the area or more, hands that sign digits, with fingers cut off, 2.2.
const HIDDEN: f64 = 1.6;
/// The fraction of the accuracy above chance that heads have to keep on crops: rubbish keeps 0.89, hands 0.83.
const KEPT: f64 = 0.86;

/// What the trial found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// How many images it looked at.
    pub images: usize,
    /// Each way of resizing with its loss, the best first; none where the images are square.
    pub fits: Vec<(String, f64)>,
    /// The best, if it is better than stretching by more than chance.
    #[serde(skip)]
    pub fit: Option<FitName>,
    /// Accuracy of the heads on images and on their mirror images.
    pub mirrored: [f64; 2],
    /// Whether mirror images are still of their class.
    pub flips: bool,
    /// Crops of that part of the area or more: the heads' loss on them over that on the images, and the part of their accuracy
    /// above chance that they keep.
    pub crops: Vec<(f32, f64, f64)>,
    /// The least part that a crop has to show.
    pub crop: f32,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Loss of each image under a head that was not fitted on it.
struct Judged {
    losses: Vec<f64>,
    hits: usize,
}

impl Judged {
    fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64
    }

    fn accuracy(&self) -> f64 {
        self.hits as f64 / self.losses.len().max(1) as f64
    }

    /// The loss over that of the `plain` images, and the part of their accuracy above chance. Where heads are bad the loss has no
    /// room to rise.
    fn beside(&self, plain: &Judged, classes: usize) -> (f64, f64) {
        let above = |judged: &Judged| (judged.accuracy() - 1.0 / classes as f64).max(0.0);
        let kept = if above(plain) > 0.0 { above(self) / above(plain) } else { 1.0 };
        (self.mean() / plain.mean().max(1e-6), kept)
    }

    /// By how much `other`'s losses are higher on the same images, in standard errors of the mean.
    fn before(&self, other: &Judged) -> f64 {
        let n = self.losses.len() as f64;
        let each = || other.losses.iter().zip(&self.losses).map(|(b, a)| b - a);
        let mean = each().sum::<f64>() / n;
        let variance = each().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean / (variance / n).sqrt().max(1e-12)
    }
}

impl Opened {
    /// Tries on some of the training images what [`Tried`] says; none where the budget leaves no time for it, the recipe asks for
    /// nothing, or `emit` stopped it.
    ///
    /// # Errors
    /// If weights cannot be had, an image cannot be decoded, or as `emit`.
    pub fn try_images(
        &self,
        name: RecipeName,
        budget: Option<Duration>,
        pace: &Pace,
        cache: &CacheSettings,
        watch: &mut Watch<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<Option<Tried>> {
        let Some(budget) = budget.or(name.usual_budget()) else { return Ok(None) };
        let (start, classes) = (Instant::now(), self.data.classes.len());
        let recipe = resnet::Recipe::named(&self.config.model)?;
        let size = self.config.image_size.unwrap_or(recipe.image_size);
        let frozen = cost(&net(&recipe, size, classes)?, None, self.device.dtype())?.frozen;
        let fits: &[FitName] = match oblong(&self.data.train) >= SOME {
            true => &[FitName::Stretch, FitName::Crop, FitName::Pad],
            false => &[FitName::Stretch],
        };
        // Mirror images and crops are for fine-tuning.
        let tunes = name != RecipeName::Quick;
        let passes = fits.len() + if tunes { CROPS.len() } else { 0 };
        let seconds = budget.as_secs_f64() * SHARE;
        let most = (seconds * pace.forward / (frozen * passes as f64)) as usize;
        let count = self.data.train.len().min(IMAGES.0).min(most);
        if name == RecipeName::Article || passes == 1 || classes < 2 || count < IMAGES.1 {
            return Ok(None);
        }
        let some = self.data.train.limit(count, self.config.seed);
        let labels = some.labels();
        let fold = assign(&labels, classes, FOLDS, self.config.seed);
        let mut judged: Vec<(FitName, Judged)> = Vec::new();
        let (mut mirrored, mut crops, mut crop) = (None, Vec::new(), CROPS[CROPS.len() - 1]);
        for &fit in fits {
            let config = TrainConfig {
                image_size: Some(size),
                interpolation: Some(self.facts.interpolation(size)),
                fit: Some(fit),
                ..self.config.clone()
            };
            let (model, _) = job::build_model_with(&config, &self.data, watch)?;
            let mut whole =
                Whole::new(&model, &self.data.name, &self.device, INFERENCE_BATCH, cache);
            let Some(features) = whole.pooled((Part::Train.name(), &some), emit)? else {
                return Ok(None);
            };
            let heads = self.heads(&features, &labels, &fold)?;
            judged.push((fit, self.judge(&heads, &features, &labels, &fold)));
            if fit == FitName::Stretch && tunes {
                let seen = ("mirror images", &some.mirrored());
                let Some(features) = whole.pooled(seen, emit)? else { return Ok(None) };
                mirrored = Some(self.judge(&heads, &features, &labels, &fold));
                // The mildest crops are taken untried.
                for &least in &CROPS[..CROPS.len() - 1] {
                    let Some(features) = self.cropped(&model, &some, least, emit)? else {
                        return Ok(None);
                    };
                    let cropped = self.judge(&heads, &features, &labels, &fold);
                    let (times, kept) = cropped.beside(&judged[0].1, classes);
                    crops.push((least, times, kept));
                    // They still show what classes are known by.
                    if times <= HIDDEN && kept >= KEPT {
                        crop = least;
                        break;
                    }
                }
            }
        }
        let plain = &judged[0].1;
        let accuracies = [plain.accuracy(), mirrored.as_ref().map_or(0.0, Judged::accuracy)];
        let worse = mirrored.is_some_and(|mirrored| {
            plain.before(&mirrored) > WORSE.0 && accuracies[0] - accuracies[1] > WORSE.1
        });
        let (fits, fit) = compared(&judged);
        Ok(Some(Tried {
            images: count,
            fits,
            fit,
            mirrored: accuracies,
            flips: !worse,
            crop,
            crops,
            seconds: start.elapsed().as_secs_f64(),
        }))
    }

    /// What the head reads of a random crop of each image; `None` if `emit` stopped it.
    fn cropped(
        &self,
        model: &Model,
        images: &Subset,
        least: f32,
        emit: &mut Emit<'_>,
    ) -> Result<Option<Vec<f32>>> {
        let (start, total, split) = (Instant::now(), images.len(), "crops");
        let model = model.at_size(crops(model.card.height, least))?;
        let change = format!("resized-crop:{least}").parse()?;
        let seed = u64::from(self.config.seed);
        let augment = Augment { list: vec![change], seed, ..Augment::default() };
        let options = LoaderOptions::new(INFERENCE_BATCH, model.target());
        let loader = Loader::augmented(images, (0..total).collect(), options, augment)?;
        let pooled = [model.pooled()];
        let mut net = executor(&model, &self.device, INFERENCE_BATCH, &[0], &pooled)?;
        let (mut all, mut done) = (Vec::new(), 0);
        for batch in loader {
            let batch = batch?;
            net.forward(&[Input::from(&batch.images)], batch.count)?;
            all.extend(read_floats(&mut *net, 0)?);
            done += batch.count;
            let seconds = start.elapsed().as_secs_f64();
            if emit(Event::Features { split, done, total, seconds })? == Control::Stop {
                return Ok(None);
            }
        }
        Ok(Some(all))
    }

    /// A head for each fold, fitted on the images of the others.
    fn heads(
        &self,
        features: &[f32],
        labels: &[usize],
        fold: &[usize],
    ) -> Result<Vec<Option<LinearHead>>> {
        let (classes, width) = (self.data.classes.len(), features.len() / labels.len().max(1));
        let options = SolveOptions { l2: L2, tolerance: TOLERANCE, ..SolveOptions::default() };
        let fit = |own: usize| {
            let rows = || (0..labels.len()).filter(|&i| fold[i] != own);
            let seen: Vec<f32> = rows().flat_map(|i| row(features, width, i)).copied().collect();
            let labels: Vec<usize> = rows().map(|i| labels[i]).collect();
            let examples =
                Examples { features: &seen, width, labels: &labels, classes, class_weights: &[] };
            let compute = self.device.compute();
            solve_from(compute, examples, options, None, &mut |_| Control::Continue)
        };
        (0..FOLDS).map(fit).collect()
    }

    /// What each image's head says of it.
    fn judge(
        &self,
        heads: &[Option<LinearHead>],
        features: &[f32],
        labels: &[usize],
        fold: &[usize],
    ) -> Judged {
        let (classes, width) = (self.data.classes.len(), features.len() / labels.len().max(1));
        let mut judged = Judged { losses: Vec::with_capacity(labels.len()), hits: 0 };
        let answers: Vec<Vec<f32>> = heads
            .iter()
            .map(|head| match head {
                Some(head) => head.probabilities(self.device.compute(), features),
                None => vec![0.0; labels.len() * classes],
            })
            .collect();
        debug_assert_eq!(features.len(), labels.len() * width);
        for (i, &label) in labels.iter().enumerate() {
            let p = &answers[fold[i]][i * classes..][..classes];
            judged.losses.push(-f64::from(p[label].max(f32::MIN_POSITIVE)).ln());
            judged.hits += usize::from(argmax(p) == label);
        }
        judged
    }
}

fn row(features: &[f32], width: usize, i: usize) -> &[f32] {
    &features[i * width..][..width]
}

/// The loss of each way of resizing, the best first, where there are several; and the best if it is better than the first, which
/// is stretching, by more than chance.
fn compared(judged: &[(FitName, Judged)]) -> (Vec<(String, f64)>, Option<FitName>) {
    let plain = &judged[0].1;
    let better = judged.iter().filter(|(_, other)| other.before(plain) > 1.0);
    let best = better.min_by(|a, b| a.1.mean().total_cmp(&b.1.mean())).map(|found| found.0);
    let loss = |(fit, judged): &(FitName, Judged)| (fit.name().to_string(), judged.mean());
    let mut losses: Vec<(String, f64)> = judged.iter().map(loss).collect();
    losses.sort_by(|a, b| a.1.total_cmp(&b.1));
    losses.truncate(if judged.len() > 1 { losses.len() } else { 0 });
    (losses, best)
}

/// The fraction of images that are not square, of some of them.
fn oblong(images: &Subset) -> f64 {
    let step = images.len().div_ceil(1000).max(1);
    let sizes: Vec<(usize, usize)> =
        (0..images.len()).step_by(step).map(|i| images.size(i)).collect();
    let is = |&&(height, width): &&(usize, usize)| {
        height.max(width) as f64 >= OBLONG * height.min(width) as f64
    };
    sizes.iter().filter(is).count() as f64 / sizes.len().max(1) as f64
}

impl Recipe {
    /// Adds what was tried to the settings and their reasons.
    pub(super) fn take(&mut self, tried: &Tried) {
        let Tried { images, fits, fit, mirrored: [plain, mirrored], flips, .. } = tried;
        if !fits.is_empty() {
            let losses = fits.iter().map(|(name, loss)| format!("{name} {loss:.3}"));
            let losses = losses.collect::<Vec<_>>().join(", ");
            self.config.fit = *fit;
            let (flag, why) = match fit {
                Some(fit) => (format!("--fit {}", fit.name()), "the least loss"),
                None => ("images are stretched".into(), "nothing else is better than by chance"),
            };
            let why = format!("{why}: losses of a head on {images} images: {losses}");
            self.reasons.push((flag, why));
        }
        if tried.crop > CROPS[0]
            && let Some(&(least, times, kept)) = tried.crops.first()
            && !self.config.augment.is_empty()
        {
            let why = format!(
                "crops of {least} hide what classes are known by: a head's loss is {times:.1} times as high, and it keeps {kept:.2} of its accuracy above chance"
            );
            self.reasons.push((format!("resized-crop:{}", tried.crop), why));
        }
        let flip = Augmentation::Flip;
        if !flips && self.config.augment.contains(&flip) {
            self.config.augment.retain(|change| *change != flip);
            for (flags, _) in self.reasons.iter_mut().filter(|(flags, _)| flags.contains("augment"))
            {
                *flags = flags.replace(",flip", "");
            }
            let why = format!(
                "mirror images are of another class: a head's accuracy is {mirrored:.3} on them, {plain:.3} on the images"
            );
            self.reasons.push(("no flip".into(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_from_chance() {
        let judged = |losses: &[f64]| Judged { losses: losses.to_vec(), hits: 0 };
        let (a, b) = (judged(&[0.1, 0.2, 0.3, 0.4]), judged(&[0.2, 0.3, 0.41, 0.5]));
        assert!(a.before(&b) > 10.0 && b.before(&a) < -10.0);
        let c = judged(&[0.4, 0.1, 0.5, 0.05]);
        assert!(a.before(&c).abs() < 1.0);
    }
}
