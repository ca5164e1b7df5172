//! How a net is run: plans, and what executes them.

pub mod execute;
pub mod inference;
pub mod logistic;
pub mod optimizer;
pub mod plan;
