//! Files for other programs.

mod features;
mod keras_script;
pub mod tensorboard;
mod weights;

pub use features::{Columns, check_ending, write_features};
pub use weights::{WeightFormat, script, write_weights};
