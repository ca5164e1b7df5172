//! What is done with a model or a data set besides training.

pub mod bench;
pub mod classify;
pub mod doctor;
pub mod explain;
pub mod gradcam;
pub mod hard;
pub mod inspect;
pub mod label_issues;
pub mod planted;
pub mod probe;
pub mod similar;
pub mod summary;
