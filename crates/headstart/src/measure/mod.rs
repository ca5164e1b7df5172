//! What is known about predictions and epochs: numbers, records, events.

pub mod bootstrap;
pub mod calibration;
pub mod epoch;
pub mod events;
pub mod history;
pub mod metrics;
pub mod monitor;
pub mod rank;
