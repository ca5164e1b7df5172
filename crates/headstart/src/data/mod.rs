//! Images and labels, before there is any net.

pub mod alike;
pub mod augment;
pub mod batch;
pub mod batches;
pub mod dataset;
pub mod image;
pub mod prints;
pub mod split;
