//! One file per command.

mod train;

use std::sync::Arc;

use headstart::{Compute, Error};

use crate::args::Command;
use crate::failure::Failure;

/// Runs a command.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::run(&args),
        _ => todo!(),
    }
}

/// Threads and kernels; 0 threads are one per core.
fn compute(threads: usize) -> Result<Arc<Compute>, Failure> {
    if threads > 1024 {
        let found = threads.to_string();
        return Err(Failure::Usage(Error::invalid("--threads", "at most 1024", found, "")));
    }
    Compute::new(threads).map(Arc::new).map_err(|message| {
        let expected = "threads and kernels that can start";
        Failure::Failed(Error::invalid("compute", expected, message, "unset HEADSTART_ISA"))
    })
}
