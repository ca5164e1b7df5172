//! Devices on which nets run.

use std::sync::Arc;

use headstart_kernels::element::DType;
use headstart_kernels::table::Compute;

use crate::engine::cpu::{Executor, on_a_processor};
use crate::engine::execute::Execute;
#[cfg(feature = "gpu")]
use crate::engine::gpu::{self, Gpu, failed};
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
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Arc<Gpu>),
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

    /// A GPU: the adapter with this number in the list of `headstart doctor`, or the first that is no software; `threads` as
    /// in [`Device::cpu`], for what does not run on it.
    ///
    /// # Errors
    /// If there is none, it cannot be opened, or as [`Device::cpu`].
    #[cfg(feature = "gpu")]
    pub fn gpu(number: Option<usize>, threads: usize) -> Result<Device> {
        let Device::Cpu(compute) = Device::cpu(threads)? else {
            return Err(Error::invalid("processor", "threads", "none", ""));
        };
        Device::gpu_with(number, compute)
    }

    /// The same with these threads.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn gpu_with(number: Option<usize>, compute: Arc<Compute>) -> Result<Device> {
        let choice = number.map_or(headstart_gpu::Choice::Any, headstart_gpu::Choice::Number);
        let context = headstart_gpu::Context::open(choice).map_err(failed)?;
        Ok(Device::on(context, compute))
    }

    /// An open GPU with this machine's threads.
    #[cfg(feature = "gpu")]
    pub fn on(context: headstart_gpu::Context, compute: Arc<Compute>) -> Device {
        let (context, dtype) = (Arc::new(context), DType::F32);
        Device::Gpu(Arc::new(Gpu { context, compute, dtype }))
    }

    /// The same GPU for plans that store feature maps and their gradients in half precision.
    ///
    /// # Errors
    /// If it is none, or one whose kernels cannot compute with 16 bits.
    pub fn half(&self) -> Result<Device> {
        match self {
            Device::Cpu(_) => Err(on_a_processor()),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                let adapter = gpu.context.adapter();
                if !adapter.half {
                    let expected = "a GPU with `shader-f16`, for f16";
                    let hint = "give --precision f32; `headstart doctor` lists what adapters have";
                    return Err(Error::invalid(
                        adapter.name.clone(),
                        expected,
                        "one without",
                        hint,
                    ));
                }
                let (context, compute) = (Arc::clone(&gpu.context), Arc::clone(&gpu.compute));
                Ok(Device::Gpu(Arc::new(Gpu { context, compute, dtype: DType::F16 })))
            }
        }
    }

    /// The GPU with this number, or the first that is no software, as [`Device::half`] makes it: of those that can.
    ///
    /// # Errors
    /// If there is none, or it cannot be opened.
    #[cfg(feature = "gpu")]
    pub fn half_gpu(number: Option<usize>, compute: Arc<Compute>) -> Result<Device> {
        let choice = number.map_or(headstart_gpu::Choice::Half, headstart_gpu::Choice::Number);
        let context = headstart_gpu::Context::open(choice).map_err(failed)?;
        Device::on(context, compute).half()
    }

    /// The threads of this machine, for work that does not run on the device: decoding, L-BFGS.
    pub fn compute(&self) -> &Arc<Compute> {
        match self {
            Device::Cpu(compute) => compute,
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => &gpu.compute,
        }
    }

    /// Whether it is this machine's processor.
    pub fn is_cpu(&self) -> bool {
        matches!(self, Device::Cpu(_))
    }

    /// What feature maps and their gradients are stored as.
    pub fn dtype(&self) -> DType {
        match self {
            Device::Cpu(compute) => compute.dtype,
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.dtype,
        }
    }

    /// Alignment: the offset of every buffer is a multiple of this many bytes.
    pub fn alignment(&self) -> usize {
        match self {
            Device::Cpu(_) => HOST_ALIGNMENT,
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => headstart_gpu::ALIGNMENT as usize,
        }
    }

    /// Bytes of its largest buffer, which every feature map of a batch must fit.
    pub fn page(&self) -> usize {
        match self {
            Device::Cpu(_) => usize::MAX,
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.context.page() as usize,
        }
    }

    /// Names everything, besides the plan, that the bits of a result depend on: devices that round in the same way have the
    /// same fingerprint.
    pub fn fingerprint(&self) -> String {
        match self {
            Device::Cpu(compute) => format!("{} {}", compute.isa(), compute.dtype.name()),
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                format!("gpu {} {}", gpu.context.adapter().fingerprint(), gpu.dtype.name())
            }
        }
    }

    /// Fails where a plan for `request` is more than the memory; `hint` says what to lower. A GPU is asked for the memory, which
    /// it does not tell.
    ///
    /// # Errors
    /// In that case, and as [`Device::executor`].
    pub fn check_memory(
        &self,
        graph: &Arc<Graph>,
        request: Request,
        parameters: &Parameters,
        hint: &str,
    ) -> Result<()> {
        match self {
            Device::Cpu(_) => {
                let _ = parameters;
                Plan::aligned(graph, request, self.alignment())?.check_memory_or(graph, hint)
            }
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => self
                .executor(graph, request, parameters, 0)
                .map(drop)
                .map_err(|error| error.with_hint(hint)),
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
        let plan = Plan::paged(graph, request, self.alignment(), self.page())?;
        match self {
            Device::Cpu(compute) => {
                let (graph, compute) = (Arc::clone(graph), Arc::clone(compute));
                Ok(Box::new(Executor::new(graph, plan, compute, parameters, seed)?))
            }
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                let (graph, context) = (Arc::clone(graph), Arc::clone(&gpu.context));
                Ok(Box::new(gpu::Executor::new(graph, plan, context, parameters, seed)?))
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
