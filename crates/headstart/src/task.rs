//! What the label of an image is, and all that follows from it: how labels are read, how the head ends, what training
//! minimises, which figures there are and how a prediction is told. Nothing else asks which task it is.
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

/// What the last layer makes of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Probabilities that add up to 1.
    Softmax,
}

/// What training minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Keras's `CategoricalCrossentropy`: the mean of `-ln p` of the labels.
    CategoricalCrossentropy,
}

/// A figure that is worked out of outputs and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Loss, accuracy, top-5 accuracy; precision, recall and F1 by class; the confusion matrix.
    Classification,
    /// Whether probabilities mean what they say.
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

    /// Whether it is the one that files do not mention.
    pub(crate) fn is_default(&self) -> bool {
        *self == Task::default()
    }

    /// The names of classes that a label, as it is written down, says.
    pub fn classes_of(self, label: &str) -> Vec<&str> {
        match self {
            Task::OneClass => vec![label],
        }
    }

    /// The fewest classes that there is something to learn of.
    pub fn least_classes(self) -> usize {
        match self {
            Task::OneClass => 2,
        }
    }

    /// How the head ends.
    pub fn activation(self) -> Activation {
        match self {
            Task::OneClass => Activation::Softmax,
        }
    }

    /// What training minimises.
    pub fn loss(self) -> Loss {
        match self {
            Task::OneClass => Loss::CategoricalCrossentropy,
        }
    }

    /// What a report has.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::OneClass => &[Metric::Classification, Metric::Calibration, Metric::Intervals],
        }
    }

    /// What a prediction tells of an image's outputs: at most `count` classes with their probabilities, the most
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
