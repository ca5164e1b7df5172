//! Files for other programs.

mod features;

pub use features::{Columns, check_ending, write_features};
