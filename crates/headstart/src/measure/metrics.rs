//! Metrics of a classifier's predictions.
//!
//! ```
//! use headstart::metrics::Report;
//!
//! let classes = ["cat".to_string(), "dog".to_string()];
//! // One row of probabilities an image.
//! let report = Report::new("test", &classes, &[0.9, 0.1, 0.4, 0.6, 0.7, 0.3], &[0, 1, 1]);
//! assert_eq!(report.confusion_matrix, [[1, 0], [1, 1]]);
//! assert!((report.accuracy - 2.0 / 3.0).abs() < 1e-9);
//! ```

use std::fmt;
use std::path::Path;

use headstart_kernels::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::measure::bootstrap::{Intervals, RESAMPLES, SEED, intervals};
use crate::measure::calibration::Calibration;
use crate::measure::epoch::PhaseName;
use crate::measure::monitor::says;
pub use crate::measure::rank::{argmax, in_top5, top};
use crate::memory::read_records;
use crate::task::{Metric, Task};
use crate::text;

/// One class's metrics, as scikit-learn's `classification_report` defines them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Class name.
    #[serde(deserialize_with = "text::read_visible")]
    pub class: String,
    /// Precision: fraction of the images predicted as this class that belong to it; 0 where there are none.
    pub precision: f64,
    /// Recall: fraction of the images of this class that were predicted as it; 0 where there are none.
    pub recall: f64,
    /// Harmonic mean of the two; 0 where both are.
    pub f1: f64,
    /// Number of images of this class.
    pub support: usize,
}

/// Precision, recall and F1, averaged over classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// Precision.
    pub precision: f64,
    /// Recall.
    pub recall: f64,
    /// F1.
    pub f1: f64,
}

/// Averages over the classes that are the label of an image or were predicted, as scikit-learn's
/// `classification_report` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Averages {
    /// Every class counts the same.
    pub macro_average: Average,
    /// Every class counts by its support.
    pub weighted_average: Average,
}

impl Averages {
    /// The averages of `per_class`, where classes that never occur have support, precision and recall 0; zeros
    /// without any images.
    pub fn of(per_class: &[ClassReport], confusion_matrix: &[Vec<usize>]) -> Averages {
        let predicted = |i: usize| confusion_matrix.iter().any(|row| row[i] > 0);
        let occurs = |&i: &usize| per_class[i].support > 0 || predicted(i);
        let present: Vec<&ClassReport> =
            (0..per_class.len()).filter(occurs).map(|i| &per_class[i]).collect();
        let images: usize = present.iter().map(|c| c.support).sum();
        let mean = |of: fn(&ClassReport) -> f64| {
            let sum: f64 = present.iter().map(|c| of(c)).sum();
            let weighted: f64 = present.iter().map(|c| of(c) * c.support as f64).sum();
            (sum / present.len().max(1) as f64, weighted / images.max(1) as f64)
        };
        let (precision, recall, f1) = (mean(|c| c.precision), mean(|c| c.recall), mean(|c| c.f1));
        Averages {
            macro_average: Average { precision: precision.0, recall: recall.0, f1: f1.0 },
            weighted_average: Average { precision: precision.1, recall: recall.1, f1: f1.1 },
        }
    }
}

/// What a classifier that always predicts the largest class of the images scores on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The class with the most images; the first among equals.
    #[serde(deserialize_with = "text::read_visible")]
    pub class: String,
    /// Its fraction of the images.
    pub accuracy: f64,
}

impl Baseline {
    /// The baseline of `per_class`; `None` without images.
    pub fn of(per_class: &[ClassReport]) -> Option<Baseline> {
        let images: usize = per_class.iter().map(|c| c.support).sum();
        // Of equals, `max_by_key` takes the last.
        let largest = per_class.iter().rev().max_by_key(|c| c.support)?;
        let accuracy = share(largest.support, images);
        (images > 0).then(|| Baseline { class: largest.class.clone(), accuracy })
    }
}

/// The evaluation of a model on labelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// "test" or "validation".
    #[serde(deserialize_with = "text::read_visible")]
    pub split: String,
    /// Mean categorical cross-entropy.
    pub loss: f64,
    /// Fraction of images whose most probable class is their label.
    pub accuracy: f64,
    /// Fraction of images whose label is among the five most probable classes.
    pub top5: f64,
    /// Number of images.
    pub samples: usize,
    /// Class names in label order.
    #[serde(deserialize_with = "text::read_all_visible")]
    pub classes: Vec<String>,
    /// Metrics by class.
    pub per_class: Vec<ClassReport>,
    /// Their averages; computed where a report of an earlier version is read.
    #[serde(default)]
    pub averages: Averages,
    /// The accuracy without looking at the images: always the largest class. `None` without images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Number of images by true class (row) and predicted class (column).
    pub confusion_matrix: Vec<Vec<usize>>,
    /// Calibration of the probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Confidence intervals of loss, accuracy and top-5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_intervals: Option<Intervals>,
    /// Which epoch of a run the model is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped: Option<Shipped>,
    /// How many of the images the model was trained on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_on: Option<usize>,
}

/// Which epoch's weights a run ships, and what its last epoch's would have reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shipped {
    /// The file.
    #[serde(deserialize_with = "text::read_visible")]
    pub file: String,
    /// The best epoch, by its number within the run.
    pub epoch: usize,
    /// Epochs of the run.
    pub epochs: usize,
    /// Its phase.
    pub phase: PhaseName,
    /// The metric by which it is the best, on the validation images, or on the training images where there are none:
    /// "val_accuracy", "val_loss", "accuracy" or "loss".
    #[serde(deserialize_with = "text::read_visible")]
    pub monitor: String,
    /// The epoch is the last of its phase within this of the best; 0 for the best itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub within: f64,
    /// Validation images that the head was fitted on too, after the epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refit: usize,
    /// The same images under the weights that the run ended with; none where these are shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastEpoch>,
}

/// Metrics of the weights of a run's last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastEpoch {
    /// Its number: the run's last, or where early stopping went back, the best one of the last phase.
    #[serde(default)]
    pub epoch: usize,
    /// Mean categorical cross-entropy, not calibrated.
    pub loss: f64,
    /// Accuracy.
    pub accuracy: f64,
}

/// Loss and correct predictions, summed image by image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sum of the images' cross-entropies.
    pub loss: f64,
    /// Images whose most probable class was their label.
    pub correct: usize,
    /// Images.
    pub count: usize,
}

impl Totals {
    /// Adds a batch.
    pub fn add(&mut self, mean_loss: f64, correct: usize, count: usize) {
        self.loss += mean_loss * count as f64;
        self.correct += correct;
        self.count += count;
    }

    /// Mean cross-entropy; 0 for no images.
    pub fn mean_loss(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.loss / self.count as f64 }
    }

    /// Accuracy; 0 for no images.
    pub fn accuracy(&self) -> f64 {
        share(self.correct, self.count)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Two sets of predictions for the same images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Number of images.
    pub samples: usize,
    /// Accuracy of the predictions.
    pub accuracy: f64,
    /// Accuracy of the predictions they are compared with.
    pub reference_accuracy: f64,
    /// Fraction of images whose most probable class is the same.
    pub agreement: f64,
}

impl Agreement {
    /// Compares probabilities, both `[labels.len(), classes]` row-major.
    pub fn new(classes: usize, reference: &[f32], answers: &[f32], labels: &[usize]) -> Agreement {
        let n = classes.max(1);
        let (mut right, mut reference_right, mut same) = (0, 0, 0);
        let pairs = reference.chunks_exact(n).zip(answers.chunks_exact(n));
        for ((r, a), &label) in pairs.zip(labels) {
            let (r, a) = (argmax(r), argmax(a));
            right += usize::from(a == label);
            reference_right += usize::from(r == label);
            same += usize::from(a == r);
        }
        let of = |part| share(part, labels.len());
        Agreement {
            samples: labels.len(),
            accuracy: of(right),
            reference_accuracy: of(reference_right),
            agreement: of(same),
        }
    }
}

impl Report {
    /// Compares probabilities, `[labels.len(), classes.len()]` row-major, with the labels.
    pub fn new(split: &str, classes: &[String], probabilities: &[f32], labels: &[usize]) -> Report {
        Report::of(Task::default(), split, classes, probabilities, labels)
    }

    /// The figures of a task, from the net's outputs.
    pub fn of(
        task: Task,
        split: &str,
        classes: &[String],
        probabilities: &[f32],
        labels: &[usize],
    ) -> Report {
        let has = |metric| task.metrics().contains(&metric);
        let n = classes.len();
        let mut confusion = vec![vec![0usize; n]; n];
        let (mut loss, mut in_five) = (0.0, 0);
        for (p, &label) in probabilities.chunks_exact(n.max(1)).zip(labels) {
            loss += cross_entropy(n, p, &[label as u32]).loss;
            confusion[label][argmax(p)] += 1;
            in_five += usize::from(in_top5(p, label));
        }
        let samples = labels.len();
        let correct: usize = (0..n).map(|i| confusion[i][i]).sum();
        let per_class: Vec<ClassReport> = (0..n)
            .map(|i| {
                let support = confusion[i].iter().sum();
                let given = confusion.iter().map(|row| row[i]).sum();
                let (precision, recall) =
                    (share(confusion[i][i], given), share(confusion[i][i], support));
                let sum = precision + recall;
                let f1 = if sum == 0.0 { 0.0 } else { 2.0 * precision * recall / sum };
                ClassReport { class: classes[i].clone(), precision, recall, f1, support }
            })
            .collect();
        Report {
            split: split.to_string(),
            loss: if samples == 0 { 0.0 } else { loss / samples as f64 },
            accuracy: share(correct, samples),
            top5: share(in_five, samples),
            samples,
            classes: classes.to_vec(),
            averages: Averages::of(&per_class, &confusion),
            baseline: Baseline::of(&per_class),
            per_class,
            confusion_matrix: confusion,
            calibration: (samples > 0 && has(Metric::Calibration))
                .then(|| Calibration::new(n, probabilities, labels)),
            confidence_intervals: match has(Metric::Intervals) {
                true => intervals(n, probabilities, labels, RESAMPLES, SEED),
                false => None,
            },
            shipped: None,
            trained_on: None,
        }
    }
}

impl Report {
    /// Reads a report.json.
    ///
    /// # Errors
    /// If it cannot be read or its parts do not fit each other.
    pub fn read(path: impl AsRef<Path>) -> Result<Report> {
        let path = path.as_ref();
        let mut report: Report = read_records(path, |bytes| serde_json::from_slice(&bytes))?
            .map_err(|e| Error::format(path, "a report of headstart's", e.to_string(), ""))?;
        if let Some((expected, found)) = report.contradiction() {
            return Err(Error::format(path, expected, found, ""));
        }
        report.averages = Averages::of(&report.per_class, &report.confusion_matrix);
        report.baseline = Baseline::of(&report.per_class);
        Ok(report)
    }

    /// Whether the top-5 accuracy says anything: with five classes or fewer it is 1 whatever the model predicts.
    pub fn has_top5(&self) -> bool {
        has_top5(self.classes.len())
    }

    /// What is expected and found instead, where parts do not fit each other.
    fn contradiction(&self) -> Option<(String, String)> {
        let n = self.classes.len();
        let square = self.confusion_matrix.len() == n
            && self.confusion_matrix.iter().all(|row| row.len() == n);
        if !square || n == 0 || self.per_class.len() != n {
            let expected = format!("a confusion matrix of {n} x {n}");
            return Some((expected, "another shape".to_string()));
        }
        let counts = || self.confusion_matrix.iter().flatten();
        let images = counts().try_fold(0usize, |sum, &count| sum.checked_add(count));
        let bins = self.calibration.iter().flat_map(|c| &c.bins);
        let binned = bins.clone().try_fold(0usize, |sum, bin| sum.checked_add(bin.count));
        let empty = self.calibration.is_none();
        if images != Some(self.samples) || !(empty || binned == Some(self.samples)) {
            let expected = format!("counts of {} images", self.samples);
            return Some((expected, "another sum".to_string()));
        }
        let rows = self.per_class.iter().zip(&self.confusion_matrix);
        if let Some((class, _)) =
            rows.into_iter().find(|(c, row)| c.support != row.iter().sum::<usize>())
        {
            let expected = format!("as many images of {} as its row has", class.class);
            return Some((expected, class.support.to_string()));
        }
        let shares = bins.flat_map(|b| [b.lower, b.upper, b.confidence, b.accuracy]);
        let shares =
            shares.chain(self.per_class.iter().flat_map(|c| [c.precision, c.recall, c.f1]));
        let mut shares = shares.chain([self.accuracy, self.top5]);
        let wrong = shares.find(|share| !(-1e-6..=1.0 + 1e-6).contains(share));
        wrong.map(|value| ("values from 0 to 1".to_string(), value.to_string()))
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn is_none(within: &f64) -> bool {
    *within == 0.0
}

impl fmt::Display for Shipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shipped { file, epoch, epochs, phase, monitor, within, refit, last } = self;
        let phase = phase.name();
        let is = says(*within, monitor);
        write!(f, "{file}: epoch {epoch} of {epochs} ({phase}), {is}")?;
        if *refit > 0 {
            write!(f, "; fitted again with the {refit} validation images")?;
        }
        match last {
            Some(LastEpoch { epoch, loss, accuracy }) => {
                let at_end = match epoch == epochs {
                    true => "the last epoch".to_string(),
                    false => format!("at the end, of epoch {epoch}"),
                };
                write!(f, "; {at_end}: loss {loss:.4}, accuracy {accuracy:.4}")
            }
            None => Ok(()),
        }
    }
}

/// Whether the top-5 accuracy over that many classes says anything.
pub fn has_top5(classes: usize) -> bool {
    classes > 5
}

/// One line of the metrics of all images.
fn metrics(loss: &str, accuracy: &str, top5: Option<&str>) -> String {
    let top5 = top5.map_or(String::new(), |top5| format!("  top-5 {top5}"));
    format!("loss {loss}  accuracy {accuracy}{top5}")
}

/// Most characters that a column of names is wide: longer ones move the rest of their row.
const WIDEST: usize = 60;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { split, loss, accuracy, top5, samples, .. } = self;
        let four = |value: &f64| format!("{value:.4}");
        let shown = |text: &String| self.has_top5().then(|| text.clone());
        let s = if *samples == 1 { "" } else { "s" };
        write!(f, "{split}: {samples} image{s}")?;
        match self.trained_on.filter(|&n| n > 0) {
            Some(n) => writeln!(f, ", {n} of which the model was trained on")?,
            None => writeln!(f)?,
        }
        if let Some(shipped) = &self.shipped {
            writeln!(f, "{shipped}")?;
        }
        let top5 = shown(&four(top5));
        writeln!(f, "{}", metrics(&four(loss), &four(accuracy), top5.as_deref()))?;
        if let Some(i) = &self.confidence_intervals {
            let percent = i.level * 100.0;
            let bounds = |[low, high]: [f64; 2]| format!("{low:.4} to {high:.4}");
            let top5 = shown(&bounds(i.top5));
            let text = metrics(&bounds(i.loss), &bounds(i.accuracy), top5.as_deref());
            writeln!(f, "{percent:.0}% intervals: {text}")?;
        }
        if let Some(Baseline { class, accuracy }) = &self.baseline {
            writeln!(f, "majority-class baseline: accuracy {accuracy:.4} (always {class})")?;
        }
        if let Some(c) = &self.calibration {
            write!(f, "calibration error (ECE, {} bins) {:.4}", c.bins.len(), c.ece)?;
            if let Some(t) = c.temperature {
                write!(f, " at temperature {t:.4}")?;
            }
            match c.uncalibrated {
                Some(u) => writeln!(f, "; {:.4} and loss {:.4} without it", u.ece, u.loss)?,
                None => writeln!(f)?,
            }
        }
        let averages = [
            ("macro average", &self.averages.macro_average),
            ("weighted average", &self.averages.weighted_average),
        ];
        let names = self.classes.iter().map(String::as_str).chain(averages.iter().map(|a| a.0));
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).min(WIDEST);
        writeln!(f, "\n{:width$}  precision  recall      f1  support", "class")?;
        let mut row = |name: &str, a: Average, support: usize| {
            let Average { precision, recall, f1 } = a;
            writeln!(f, "{name:width$}  {precision:9.4}  {recall:6.4}  {f1:6.4}  {support:7}")
        };
        for c in &self.per_class {
            let (precision, recall, f1) = (c.precision, c.recall, c.f1);
            row(&c.class, Average { precision, recall, f1 }, c.support)?;
        }
        averages.iter().try_for_each(|(name, average)| row(name, **average, *samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_printed() {
        let classes = ["a".to_string(), "b".repeat(70_000)];
        let r = Report::new("test", &classes, &[0.7, 0.3, 0.4, 0.6], &[0, 1]);
        let text = r.to_string();
        assert!(text.contains(&classes[1]) && text.lines().all(|l| l.len() < 71_000));
    }

    #[test]
    fn figures_of_a_small_case_worked_by_hand() {
        let classes = ["a", "b", "c"].map(String::from);
        let p = [0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.8, 0.1, 0.4, 0.4, 0.2];
        let r = Report::new("test", &classes, &p, &[0, 1, 1, 2]);
        let loss = -(0.7f64.ln() + 0.3f64.ln() + 0.8f64.ln() + 0.2f64.ln()) / 4.0;
        assert!((r.loss - loss).abs() < 1e-6);
        assert_eq!((r.accuracy, r.top5, r.samples), (0.5, 1.0, 4));
        assert_eq!(r.confusion_matrix, [[1, 0, 0], [1, 1, 0], [1, 0, 0]]);
        let a = &r.per_class[0];
        assert_eq!((a.precision, a.recall, a.f1, a.support), (1.0 / 3.0, 1.0, 0.5, 1));
        let c = &r.per_class[2];
        assert_eq!((c.precision, c.recall, c.f1, c.support), (0.0, 0.0, 0.0, 1));
    }

    /// scikit-learn 1.9.1:
    ///
    /// ```python
    /// from sklearn.metrics import classification_report
    /// classification_report([0, 1, 1, 2, 2, 2], [0, 0, 1, 2, 4, 1], output_dict=True, zero_division=0)
    /// ```
    #[test]
    fn averages_are_those_of_scikit_learn() {
        let classes = ["a", "b", "c", "d", "e"].map(String::from);
        let labels = [0, 1, 1, 2, 2, 2];
        let mut p = vec![0.0; labels.len() * 5];
        [0, 0, 1, 2, 4, 1].iter().enumerate().for_each(|(i, &answer)| p[i * 5 + answer] = 1.0);
        let r = Report::new("test", &classes, &p, &labels);
        let Averages { macro_average: m, weighted_average: w } = r.averages;
        let expected = [0.5, 11.0 / 24.0, 5.0 / 12.0, 0.75, 0.5, 19.0 / 36.0];
        let found = [m.precision, m.recall, m.f1, w.precision, w.recall, w.f1];
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12;
        assert!(expected.iter().zip(&found).all(near), "{found:?}");
        let baseline = Baseline { class: "c".into(), accuracy: 0.5 };
        assert_eq!(r.baseline, Some(baseline));
        assert_eq!(Report::new("test", &classes, &[], &[]).baseline, None);
    }

    #[test]
    fn top_five_is_shown_where_it_says_something() {
        let text = |n: usize| {
            let classes: Vec<String> = (0..n).map(|i| format!("no. {i}")).collect();
            let p = vec![1.0 / n as f32; n];
            Report::new("test", &classes, &p, &[0]).to_string()
        };
        assert!(text(6).contains("top-5 1.0000") && !text(5).contains("top-5"));
        for part in
            ["macro average", "weighted average", "baseline: accuracy 1.0000 (always no. 0)"]
        {
            assert!(text(2).contains(part), "{}", text(2));
        }
    }

    #[test]
    fn reports_of_earlier_versions_are_read() {
        let classes = ["a", "b"].map(String::from);
        let report = Report::new("test", &classes, &[0.9, 0.1, 0.4, 0.6, 0.7, 0.3], &[0, 1, 1]);
        let mut json = serde_json::to_value(&report).unwrap();
        let old = json.as_object_mut().unwrap();
        assert!(old.remove("averages").is_some() && old.remove("baseline").is_some());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, json.to_string()).unwrap();
        let read = Report::read(&path).unwrap();
        assert_eq!((read.averages, &read.baseline), (report.averages, &report.baseline));
        assert_eq!(read.to_string(), report.to_string());
    }

    #[test]
    fn a_label_is_in_the_top_five_by_rank_with_equals_in_label_order() {
        let classes: Vec<String> = (0..7).map(|i| i.to_string()).collect();
        let p = [1.0 / 7.0; 7];
        let at = |label| Report::new("test", &classes, &p, &[label]).top5;
        assert_eq!((at(4), at(5)), (1.0, 0.0));
        assert_eq!(top(&p, 3), [0, 1, 2]);
    }

    #[test]
    fn a_nan_makes_the_loss_nan() {
        let classes = ["a", "b"].map(String::from);
        assert!(Report::new("test", &classes, &[f32::NAN, 0.5], &[0]).loss.is_nan());
    }
}
