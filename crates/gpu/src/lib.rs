//! Compute kernels of headstart for GPUs, over Vulkan, Metal and DirectX 12.
//!
//! The kernels are WGSL files in `kernels/`, one idea each; the Rust file of the same name says what each is called with. A
//! [`Call`] is one run of a kernel, a [`Program`] a list of calls that is made once and run often. Sums are taken in an order
//! that follows from sizes alone, so that the same adapter gives the same bits in every run.
//!
//! ```no_run
//! use headstart_gpu::{Choice, Context};
//!
//! let context = Context::open(Choice::Any)?;
//! println!("{}", context.adapter().name);
//! # Ok::<(), headstart_gpu::GpuError>(())
//! ```

#![forbid(unsafe_code)]

mod adapter;
mod context;
mod drivers;
mod error;
pub mod kernels;
mod memory;
mod program;
pub mod template;
mod tune;

pub use adapter::{Adapter, Choice, Kind, Machine, Missing};
pub use context::Context;
pub use error::{GpuError, Result};
pub use memory::{ALIGNMENT, Places, Space, Span, Store};
pub use program::{Call, Kernel, Program};
pub use tune::{Keep, Tiles};
