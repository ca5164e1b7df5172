//! Nets: their layers, their tensors, the files these come from.

pub mod graph;
pub mod imagenet;
pub mod init;
pub mod model;
pub mod parameters;
pub mod preprocess;
pub mod resnet;
pub mod weights;
