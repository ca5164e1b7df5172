//! Compute kernels of headstart: convolution, batch norm, pooling, dense layers, losses and
//! optimizer updates on plain slices and sizes.

pub mod threads;
