//! How a net is run: plans, and what executes them.

pub mod cpu;
pub mod device;
pub mod execute;
pub mod gradients;
pub mod inference;
pub mod logistic;
pub mod optimizer;
pub mod plan;
