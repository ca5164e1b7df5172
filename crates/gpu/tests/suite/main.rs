//! Every kernel on every adapter of this machine, against definitions in f64 and against the kernels of the CPU.

mod convolution;
mod memory;
mod passes;
mod support;
mod threads;
mod tiles;
mod training;
