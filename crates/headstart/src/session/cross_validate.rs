//! Cross-validation: every training image is predicted once, by a model that was trained on the other folds.
//!
//! Folds are scikit-learn's, row for row: `StratifiedKFold(folds, shuffle=True, random_state=seed)`, and with groups
//! `StratifiedGroupKFold`; where classes are not kept in proportion `KFold` and `GroupKFold`. Images of the data's own validation
//! and test parts take no part.
//!
//! A fold is what a run with the same settings would be on the images of the others: of these the validation split chooses the
//! L2 penalty or the best epoch, and the temperature. A head alone is fitted on features of the frozen net that are
//! computed once for all folds; with gradient steps every fold is a run of its own.
//!
//! ```
//! use headstart::Control;
//! use headstart::config::{HeadSolver, TrainConfig};
//! use headstart::cross_validate::{FoldOptions, cross_validate};
//! use headstart::run::{CacheFolder, DiskCache};
//!
//! let config = TrainConfig {
//!     data: "synthetic:3x60x16".into(),
//!     head_solver: HeadSolver::Lbfgs,
//!     fine_tune_at: None,
//!     image_size: Some(16),
//!     stratify: true,
//!     ..TrainConfig::sample()
//! };
//! let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
//! let options = FoldOptions { folds: 3, cache, ..FoldOptions::default() };
//! let result = cross_validate(&config, &options, &mut |_event| Control::Continue)?.unwrap();
//! assert_eq!(result.folds.len(), 3);
//! println!("{result}"); // a row for each fold, mean and standard deviation
//! # Ok::<(), headstart::Error>(())
//! ```

mod heads;
mod shown;
mod tuned;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::control::Control;
use crate::data::dataset::{Dataset, Grouping, Subset};
use crate::data::split::{By, Split};
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::export::{OutOfFold, write_out_of_fold};
use crate::measure::metrics::Report;
use crate::range;
use crate::session::config::TrainConfig;
use crate::session::job::{self, build_model_with, open_data_with};
use crate::session::known::seen;
use crate::session::run::{DiskCache, Event, Listen, Teller};
use crate::train::head_fit::totals;
use crate::train::trainer::Phase;

/// How images are cross-validated, besides the settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldOptions {
    /// Number of folds, 2 or more.
    pub folds: usize,
    /// Whether to take fewer, where a class, or with groups all images, cannot fill so many.
    pub or_fewer: bool,
    /// Where features of frozen layers are cached.
    pub cache: DiskCache,
    /// Where the run folders of fine-tuned folds are kept, `fold1` and so on; none to keep none.
    pub runs: Option<PathBuf>,
}

impl Default for FoldOptions {
    fn default() -> Self {
        FoldOptions { folds: 5, or_fewer: false, cache: DiskCache::default(), runs: None }
    }
}

/// A fold: what its model was trained on, and how good it is on the fold's images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fold {
    /// Which, from 1.
    pub fold: usize,
    /// Images that the model was trained on.
    pub train: usize,
    /// Images of the other folds that chose the penalty or the epoch.
    pub validation: usize,
    /// Images of the fold.
    pub test: usize,
    /// Fraction of these that are predicted correctly.
    pub accuracy: f64,
    /// Mean cross-entropy on them.
    pub loss: f64,
    /// L2 penalty of the head, where it was fitted on cached features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,
    /// The best epoch, where the fold was a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<usize>,
}

/// Mean and standard deviation over the folds, each of which counts the same. The deviation is that of the folds themselves
/// (`ddof=0`, numpy's default, as scikit-learn's `scores.std()`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Spread {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        Spread { mean, std: (squares / count).sqrt() }
    }
}

/// What a cross-validation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CrossValidated {
    /// Name of the data set.
    pub data: String,
    /// The net.
    pub model: String,
    /// Images.
    pub images: usize,
    /// Groups that no fold tears apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Whether folds keep every class in proportion.
    pub stratify: bool,
    /// What the images were grouped by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Grouping>,
    /// Seed of the folds.
    pub seed: u32,
    /// The folds.
    pub folds: Vec<Fold>,
    /// Accuracy over the folds.
    pub accuracy: Spread,
    /// Loss over the folds.
    pub loss: Spread,
    /// Metrics of all out-of-fold predictions together.
    pub report: Report,
    /// Warnings, one sentence each.
    pub warnings: Vec<String>,
    /// The predictions.
    #[serde(skip)]
    pub out_of_fold: OutOfFold,
}

impl CrossValidated {
    /// Writes the out-of-fold predictions to a CSV, as [`write_out_of_fold`].
    ///
    /// # Errors
    /// As there.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        write_out_of_fold(path, &self.out_of_fold)
    }
}

/// Fails for impossible settings, before anything is read; the phases of every fold.
///
/// # Errors
/// In that case.
pub fn check(config: &TrainConfig, options: &FoldOptions) -> Result<Vec<Phase>> {
    range::FOLDS.check(options.folds as u64)?;
    job::check(config)?;
    config.phases(&job::bare_net(config)?)
}

/// What the folds share.
struct Shared<'a> {
    config: &'a TrainConfig,
    options: &'a FoldOptions,
    data: &'a Dataset,
    device: &'a Device,
    groups: Option<Vec<usize>>,
    /// The fold of each training image, from 0.
    fold: Vec<usize>,
}

/// The answers of a fold's model for the fold's images.
struct Answer {
    probabilities: Vec<f32>,
    l2: Option<f64>,
    best_epoch: Option<usize>,
}

impl Shared<'_> {
    /// Positions of the images of a fold, and those of the others: to train on, and to choose by.
    fn rows(&self, fold: usize) -> Result<(Vec<usize>, Split)> {
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..self.fold.len()).partition(|&i| self.fold[i] == fold);
        let share = self.config.validation_split;
        if share == 0.0 {
            return Ok((own, Split { train: others, test: Vec::new() }));
        }
        let train = &self.data.train;
        let labels: Vec<usize> = others.iter().map(|&i| train.label(i)).collect();
        let groups = self.groups.as_ref().map(|all| others.iter().map(|&i| all[i]).collect());
        let by = by("validation split", self.config, self.data, &labels, groups.as_ref());
        let hold_out = |by: &By<'_>| by.hold_out(others.len(), share, self.config.seed);
        // Images that only choose a penalty or an epoch need not be in proportion, nor be there where one image is left.
        let Split { train, test } = match others.len() {
            0..2 => Split { train: (0..others.len()).collect(), test: Vec::new() },
            _ => hold_out(&by).or_else(|_| hold_out(&By { labels: None, ..by }))?,
        };
        let at = |rows: Vec<usize>| rows.into_iter().map(|i| others[i]).collect();
        Ok((own, Split { train: at(train), test: at(test) }))
    }
}

fn by<'a>(
    what: &'a str,
    config: &TrainConfig,
    data: &'a Dataset,
    labels: &'a [usize],
    groups: Option<&'a Vec<usize>>,
) -> By<'a> {
    let labels = config.stratify.then_some(labels);
    By { what, labels, names: &data.classes, groups: groups.map(Vec::as_slice), strict: false }
}

/// Cross-validates; `None` if `listen` stopped it. Its events are those of a run without a run folder of its own, and
/// [`Event::Fold`].
///
/// # Errors
/// As [`check`]; if data or weights cannot be downloaded or read, there are too few images or groups for the folds, or a fold
/// cannot be trained.
pub fn cross_validate(
    config: &TrainConfig,
    options: &FoldOptions,
    listen: &mut Listen<'_>,
) -> Result<Option<CrossValidated>> {
    let phases = check(config, options)?;
    let teller = &mut Teller::new(listen);
    let device = job::device(config.threads, config.precision, config.device)?;
    let whole = TrainConfig { validation_split: 0.0, test_split: 0.0, ..config.clone() };
    let mut data = open_data_with(&whole, &mut teller.download())?;
    let mut warnings = left_out(&data);
    (data.validation, data.test) = (None, None);
    if teller.tell(&Event::Data(&data)) == Control::Stop {
        return Ok(None);
    }
    let (labels, groups) = (data.train.labels(), data.train.groups());
    let folds = by("folds", config, &data, &labels, groups.as_ref());
    let most = folds.most_folds(labels.len()).max(2);
    let options = match options.or_fewer && most < options.folds {
        true => {
            warnings.push(format!("{most} folds: the images are too few for {}", options.folds));
            &FoldOptions { folds: most, ..options.clone() }
        }
        false => options,
    };
    let fold = folds.folds(labels.len(), options.folds, config.seed)?;
    warnings.extend(few(&data, options.folds, config.stratify));
    let data = &data;
    let (model, report) = build_model_with(config, data, &mut teller.download())?;
    let work = (job::busiest(&phases), config.batch_size);
    let (device, _) = job::settle(device, config.device, config.precision, &model, work)?;
    let shared = Shared { config, options, data, device: &device, groups, fold };
    let parts = [("train", &data.train)];
    if let Some(seen) = seen(&model, &parts, &device.compute().threads)?.filter(|s| s.count > 0) {
        warnings.push(format!(
            "the weights were trained on {} of these images, so the accuracy says nothing of new ones",
            seen.count
        ));
    }
    let answers = match phases.as_slice() {
        [Phase { solver: Some(solver), .. }] => {
            heads::answers(&shared, &model, (*solver, report.as_ref()), teller)?
        }
        _ => tuned::answers(&shared, teller)?,
    };
    let Some(answers) = answers else { return Ok(None) };
    joined(&shared, &model.card.architecture, answers, warnings).map(Some)
}

/// Parts of the data that take no part.
fn left_out(data: &Dataset) -> Vec<String> {
    let part = |name: &str, subset: &Option<Subset>| {
        let count = subset.as_ref().map_or(0, Subset::len);
        (count > 0).then(|| format!("the data's own {count} {name} images take no part"))
    };
    part("validation", &data.validation).into_iter().chain(part("test", &data.test)).collect()
}

/// A warning of classes that some folds lack.
fn few(data: &Dataset, folds: usize, stratify: bool) -> Option<String> {
    let counts = data.train.class_counts();
    let (class, &count) = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .min_by_key(|(_, count)| **count)?;
    (stratify && count < folds).then(|| {
        let name = &data.classes[class];
        let images = if count == 1 { "image" } else { "images" };
        format!("{name} has {count} {images}, fewer than the {folds} folds: some folds have none")
    })
}

/// The metrics of a fold's answers.
fn measured(shared: &Shared<'_>, fold: usize, rows: &(Vec<usize>, Split), answer: &Answer) -> Fold {
    let labels: Vec<usize> = rows.0.iter().map(|&i| shared.data.train.label(i)).collect();
    let totals = totals(shared.data.classes.len(), &answer.probabilities, &labels);
    Fold {
        fold: fold + 1,
        train: rows.1.train.len(),
        validation: rows.1.test.len(),
        test: rows.0.len(),
        accuracy: totals.accuracy(),
        loss: totals.mean_loss(),
        l2: answer.l2,
        best_epoch: answer.best_epoch,
    }
}

/// Tells of a fold.
fn tell(shared: &Shared<'_>, fold: &Fold, teller: &mut Teller<'_>) -> Control {
    let Fold { fold, accuracy, loss, .. } = *fold;
    teller.tell(&Event::Fold { fold, folds: shared.options.folds, accuracy, loss })
}

/// Joins the folds.
fn joined(
    shared: &Shared<'_>,
    model: &str,
    answers: Vec<(Fold, Answer)>,
    warnings: Vec<String>,
) -> Result<CrossValidated> {
    let (data, config) = (shared.data, shared.config);
    let (labels, classes) = (data.train.labels(), data.classes.len());
    let mut probabilities = vec![0.0; labels.len() * classes];
    for (fold, answer) in &answers {
        let own = (0..labels.len()).filter(|&i| shared.fold[i] + 1 == fold.fold);
        for (i, row) in own.zip(answer.probabilities.chunks_exact(classes.max(1))) {
            probabilities[i * classes..][..classes].copy_from_slice(row);
        }
    }
    let folds: Vec<Fold> = answers.into_iter().map(|(fold, _)| fold).collect();
    let report = Report::of(data.task, "out of fold", &data.classes, &probabilities, &labels);
    if !report.loss.is_finite() {
        let found = report.loss.to_string();
        let hint = "the weights are damaged or training diverged";
        return Err(Error::invalid("out-of-fold loss", "a finite number", found, hint));
    }
    let number =
        |groups: &Vec<usize>| groups.iter().collect::<std::collections::BTreeSet<_>>().len();
    Ok(CrossValidated {
        data: data.name.clone(),
        model: model.to_string(),
        images: labels.len(),
        groups: shared.groups.as_ref().map(number),
        stratify: config.stratify,
        group: config.group.clone(),
        seed: config.seed,
        accuracy: Spread::of(folds.iter().map(|f| f.accuracy)),
        loss: Spread::of(folds.iter().map(|f| f.loss)),
        folds,
        report,
        warnings,
        out_of_fold: OutOfFold {
            files: (0..labels.len()).map(|i| data.train.path(i).into_owned()).collect(),
            labels,
            folds: shared.fold.iter().map(|fold| fold + 1).collect(),
            classes: data.classes.clone(),
            probabilities,
        },
    })
}
