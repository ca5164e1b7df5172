//! Files for other programs.
//!
//! ```
//! use headstart::Model;
//! use headstart::export::{WeightFormat, script, write_weights};
//!
//! let folder = tempfile::tempdir()?;
//! let (model, path) = (Model::imagenet("resnet20")?, folder.path().join("net.weights.h5"));
//! write_weights(&model, WeightFormat::Keras, &path)?;
//! assert!(script(&model, WeightFormat::Keras, &path).contains("load_weights"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ending;
mod features;
mod keras_script;
pub mod onnx;
mod out_of_fold;
pub mod parts;
mod predictions;
mod python;
mod pytorch;
pub mod tensorboard;
mod weights;

pub use features::{Columns, check_ending, write_features};
pub use out_of_fold::{OutOfFold, check_out_of_fold_ending, write_out_of_fold};
pub use predictions::{
    Choice, Prediction, Truth, UNKNOWN, check_predictions_ending, write_predictions,
};
pub use weights::{WeightFormat, script, write_weights};
