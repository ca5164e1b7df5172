//! How a net is run: plans, and what executes them.

pub mod cpu;
pub mod device;
pub mod execute;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod gradients;
pub mod inference;
pub mod logistic;
mod loss_scale;
pub mod optimizer;
pub mod plan;
