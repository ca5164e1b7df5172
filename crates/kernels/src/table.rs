//! What computes: the threads and the instruction set's record of tile, packer and sizes.

use crate::threads::Threads;

/// What every kernel takes: threads to run on and the kernels of one instruction set.
#[derive(Debug)]
pub struct Compute {
    /// The threads.
    pub threads: Threads,
}

impl Compute {
    /// Kernels for the best instruction set of this CPU, or the one `HEADSTART_ISA` names.
    ///
    /// # Errors
    /// A message, if the threads cannot be started or `HEADSTART_ISA` names an unknown or
    /// unavailable instruction set.
    pub fn new(threads: usize) -> Result<Compute, String> {
        Ok(Compute { threads: Threads::new(threads).map_err(|e| e.to_string())? })
    }

    /// Name of the instruction set in use.
    pub fn isa(&self) -> &'static str {
        "portable"
    }
}
