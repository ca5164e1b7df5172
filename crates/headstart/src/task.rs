//! What the label of an image is, and everything that follows from it: how labels are read, the head's activation, the
//! loss, the metrics and how a prediction is printed. No other code asks which task it is.
//!
//! ```
//! use headstart::task::{Activation, Task};
//!
//! let task = Task::OneClass;
//! assert_eq!(task.activation(), Activation::Softmax);
//! assert_eq!(task.ranked(&[0.1, 0.7, 0.2], 2), [(1, 0.7), (2, 0.2)]);
//! ```

use serde::{Deserialize, Serialize};

/// What the label of an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One of several classes.
    #[default]
    OneClass,
}

/// The activation of the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Probabilities that add up to 1.
    Softmax,
}

/// The training loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Keras's `CategoricalCrossentropy`: the mean of `-ln p` of the labels.
    CategoricalCrossentropy,
}

/// A metric, computed from outputs and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Loss, accuracy, top-5 accuracy; precision, recall and F1 by class; the confusion matrix.
    Classification,
    /// Calibration of the probabilities.
    Calibration,
    /// Bootstrap confidence intervals of loss and accuracies.
    Intervals,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 1] = [Task::OneClass];

    /// The name as model files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Task::OneClass => "one-class",
        }
    }

    /// Whether it is the default, which files do not mention.
    pub(crate) fn is_default(&self) -> bool {
        *self == Task::default()
    }

    /// The names of classes in a label's text.
    pub fn classes_of(self, label: &str) -> Vec<&str> {
        match self {
            Task::OneClass => vec![label],
        }
    }

    /// The least number of classes.
    pub fn least_classes(self) -> usize {
        match self {
            Task::OneClass => 2,
        }
    }

    /// The head's activation.
    pub fn activation(self) -> Activation {
        match self {
            Task::OneClass => Activation::Softmax,
        }
    }

    /// The training loss.
    pub fn loss(self) -> Loss {
        match self {
            Task::OneClass => Loss::CategoricalCrossentropy,
        }
    }

    /// The metrics of a report.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::OneClass => &[Metric::Classification, Metric::Calibration, Metric::Intervals],
        }
    }

    /// The prediction for an image's outputs: at most `count` classes with their probabilities, the most
    /// probable first, equals in class order.
    pub fn ranked(self, outputs: &[f32], count: usize) -> Vec<(usize, f32)> {
        match self {
            Task::OneClass => {
                let mut order: Vec<usize> = (0..outputs.len()).collect();
                order.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]).then(a.cmp(&b)));
                order.truncate(count);
                order.into_iter().map(|class| (class, outputs[class])).collect()
            }
        }
    }
}
