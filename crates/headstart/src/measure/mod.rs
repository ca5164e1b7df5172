//! Metrics of predictions, records of epochs, events of a run.

pub mod bootstrap;
pub mod calibration;
pub mod epoch;
pub mod events;
pub mod history;
pub mod macro_f1;
pub mod metrics;
pub mod monitor;
pub mod rank;
