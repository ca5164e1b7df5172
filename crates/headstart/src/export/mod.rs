//! Files for other programs.

mod features;
mod keras_script;
mod predictions;
pub mod tensorboard;
mod weights;

pub use features::{Columns, check_ending, write_features};
pub use predictions::{Choice, Prediction, UNKNOWN, check_predictions_ending, write_predictions};
pub use weights::{WeightFormat, script, write_weights};
