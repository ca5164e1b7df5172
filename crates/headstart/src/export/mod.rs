//! Files for other programs.

mod features;
pub mod tensorboard;

pub use features::{Columns, check_ending, write_features};
