//! Compute on slices and sizes: every kernel headstart's engine runs on the CPU.
//!
//! Activations are NHWC, convolution kernels height x width x in x out, `f32` or bfloat16
//! (`element`), with sums always in `f32`.
//! `table` binds one register tile and its packing to each instruction set and is chosen at run
//! time; `conv` and `dense` own loops, blocking, threads and edges above it. Work is cut by shape
//! and reductions run in a fixed order, so results do not depend on the number of threads.

pub mod allocator;
mod bf16;
pub mod buffer;
pub mod cholesky;
pub mod conv;
pub mod element;
pub mod elementwise;
mod enlarged;
mod f16;
mod gather;
mod gemm;
mod gradient;
pub mod isa;
pub mod jpeg;
pub mod linear;
pub mod loss;
mod matrices;
pub mod norm;
pub mod optim;
pub mod oracle;
pub mod pool;
mod prefetch;
mod products;
pub mod resample;
mod rows;
pub mod shape;
mod simd;
pub mod table;
pub mod threads;
mod winograd;
