//! Devices on which nets run.

use std::sync::Arc;

use headstart_kernels::element::DType;
use headstart_kernels::table::Compute;

use crate::engine::cpu::Executor;
use crate::engine::execute::Execute;
use crate::engine::plan::{HOST_ALIGNMENT, Plan, Request};
use crate::error::{Error, Result};
use crate::net::graph::Graph;
use crate::net::parameters::Parameters;

/// A device that plans run on. Clones share it.
///
/// ```
/// use headstart::Device;
///
/// let device = Device::cpu(0)?; // a thread per core, the best instructions of this CPU
/// println!("{}", device.fingerprint());
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// This machine's processor.
    Cpu(Arc<Compute>),
}

impl Device {
    /// This machine's processor, with `threads` threads (0: one per core) and the best instruction set it has, or the
    /// one that `HEADSTART_ISA` names.
    ///
    /// # Errors
    /// If the threads cannot be started, or there is no such instruction set.
    pub fn cpu(threads: usize) -> Result<Device> {
        let failed = |found: String| {
            let expected = "threads and instructions that this machine has";
            Error::invalid("processor", expected, found, "")
        };
        Ok(Compute::new(threads).map_err(failed)?.into())
    }

    /// The threads of this machine, for work that does not run on the device: decoding, L-BFGS.
    pub fn compute(&self) -> &Arc<Compute> {
        match self {
            Device::Cpu(compute) => compute,
        }
    }

    /// What feature maps and their gradients are stored as.
    pub fn dtype(&self) -> DType {
        match self {
            Device::Cpu(compute) => compute.dtype,
        }
    }

    /// Alignment: the offset of every buffer is a multiple of this many bytes.
    pub fn alignment(&self) -> usize {
        match self {
            Device::Cpu(_) => HOST_ALIGNMENT,
        }
    }

    /// Names everything, besides the plan, that the bits of a result depend on: devices that round in the same way have the
    /// same fingerprint.
    pub fn fingerprint(&self) -> String {
        match self {
            Device::Cpu(compute) => format!("{} {}", compute.isa(), compute.dtype.name()),
        }
    }

    /// A plan for `request` on this device, with memory and weights; `seed` is that of random numbers.
    ///
    /// # Errors
    /// As [`Plan::new`]; if `parameters` lack a tensor of the graph or hold one of another size.
    pub fn executor(
        &self,
        graph: &Arc<Graph>,
        request: Request,
        parameters: &Parameters,
        seed: u64,
    ) -> Result<Box<dyn Execute>> {
        let plan = Plan::aligned(graph, request, self.alignment())?;
        match self {
            Device::Cpu(compute) => {
                let (graph, compute) = (Arc::clone(graph), Arc::clone(compute));
                Ok(Box::new(Executor::new(graph, plan, compute, parameters, seed)?))
            }
        }
    }
}

impl From<Compute> for Device {
    fn from(compute: Compute) -> Device {
        Device::Cpu(Arc::new(compute))
    }
}

impl From<Arc<Compute>> for Device {
    fn from(compute: Arc<Compute>) -> Device {
        Device::Cpu(compute)
    }
}
