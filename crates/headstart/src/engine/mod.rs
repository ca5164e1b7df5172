//! How a net is run: plans, what executes them, what follows from that.

pub mod cpu;
pub mod device;
pub mod execute;
pub mod gradients;
pub mod inference;
pub mod logistic;
pub mod optimizer;
pub mod plan;
