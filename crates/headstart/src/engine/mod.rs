//! How a net is run: plans, what executes them, what follows from that.

pub mod execute;
pub mod inference;
pub mod logistic;
pub mod optimizer;
pub mod plan;
