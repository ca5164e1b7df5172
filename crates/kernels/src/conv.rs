//! Convolution as implicit GEMM on NHWC: forward, backward to input and backward to the kernel.
//!
//! A dense layer is the 1x1 convolution of a 1x1 map.
//!
//! ```
//! use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Packed};
//! use headstart_kernels::table::Compute;
//!
//! let compute = Compute::new(0)?;
//! let shape = ConvShape::new(ConvSizes {
//!     height: 8,
//!     width: 8,
//!     in_channels: 3,
//!     out_channels: 16,
//!     kernel: 3,
//!     padding: 1,
//!     ..ConvSizes::default()
//! })?;
//! let mut packed = Packed::default();
//! let kernel = vec![0.1; shape.kernel_len()];
//! conv::pack_forward::<f32>(&compute, &shape, &kernel, None, &mut packed);
//! let mut output = vec![0.0; shape.out_len()];
//! let epilogue = Epilogue { relu: true, ..Epilogue::default() };
//! conv::forward(&compute, &shape, &vec![1.0; shape.in_len()], &packed, epilogue, &mut output);
//! // The middle sees 3x3 pixels of 3 channels.
//! assert!((output[(8 * 4 + 4) * 16] - 2.7).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::buffer::Buffer;
use crate::element::{DType, Element};
use crate::enlarged;
use crate::gather::Gather;
use crate::gemm::{self, Finish, Operands};
use crate::gradient;
use crate::isa::Isa;
use crate::matrices::{Inner, Matrices};
use crate::norm::{self, NormState};
use crate::shape::PoolShape;
use crate::table::Compute;
use crate::winograd;

pub use crate::shape::{ConvShape, ConvSizes, SizeError};

/// A kernel in the layout the register tile reads.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Elements of the type in `key`, the first `len` of which count.
    data: Buffer,
    len: usize,
    key: Option<Key>,
}

/// What a kernel was packed for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    /// With the batch left out.
    sizes: ConvSizes,
    backward: bool,
    isa: Isa,
    dtype: DType,
}

impl Packed {
    fn key<E: Element>(compute: &Compute, shape: &ConvShape, backward: bool) -> Key {
        // Height and width matter to the tap classes of the backward pass only.
        let sizes = ConvSizes { batch: 0, ..shape.sizes() };
        Key { sizes, backward, isa: compute.isa(), dtype: E::DTYPE }
    }

    fn prepare<E: Element>(
        &mut self,
        compute: &Compute,
        shape: &ConvShape,
        backward: bool,
        len: usize,
    ) -> &mut [E] {
        let floats = (len * E::DTYPE.bytes()).div_ceil(size_of::<f32>());
        if self.data.len() < floats {
            self.data = Buffer::zeros(floats);
        }
        self.len = len;
        self.key = Some(Packed::key::<E>(compute, shape, backward));
        &mut E::view_mut(&mut self.data)[..len]
    }

    fn check<E: Element>(&self, compute: &Compute, shape: &ConvShape, backward: bool) -> &[E] {
        let key = Some(Packed::key::<E>(compute, shape, backward));
        assert!(self.key == key, "the kernel was packed for {:?}, not {key:?}", self.key);
        &E::view(&self.data)[..self.len]
    }
}

/// What happens to each output element before it is stored, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, E> {
    /// Added per output channel.
    pub bias: Option<&'a [f32]>,
    /// Added element by element; as long as the output.
    pub residual: Option<&'a [E]>,
    /// `max(x, 0)`.
    pub relu: bool,
}

impl<E> Default for Epilogue<'_, E> {
    fn default() -> Self {
        Epilogue { bias: None, residual: None, relu: false }
    }
}

/// Packs `kernel` (h x w x in x out) for [`forward`] on elements `E`, each output channel times
/// `scale`.
///
/// # Panics
/// If a slice has not the length `shape` gives it.
pub fn pack_forward<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    kernel: &[f32],
    scale: Option<&[f32]>,
    packed: &mut Packed,
) {
    let columns = shape.out_channels();
    assert_eq!(kernel.len(), shape.kernel_len(), "kernel length");
    assert!(scale.is_none_or(|s| s.len() == columns), "scale length");
    if enlarged::suits(shape) {
        let len = enlarged::packed_len::<E>(compute, shape);
        let packed = packed.prepare::<E>(compute, shape, false, len);
        return enlarged::pack(compute, shape, kernel, scale, packed);
    }
    let matrices = |taps: usize, depth: usize| Matrices {
        values: kernel,
        starts: (0..taps).map(|tap| tap * depth * columns).collect(),
        depth,
        columns,
        inner: Inner::Columns,
        scale,
    };
    if winograd::suits::<E>(shape) {
        let len = winograd::packed_len(shape.in_channels(), columns);
        let kernel = matrices(9, shape.in_channels());
        winograd::pack(compute, &kernel, packed.prepare(compute, shape, false, len));
        return;
    }
    let g = Gather::forward(shape);
    let len = gemm::packed_len::<E>(compute, g.size(), columns);
    let packed = packed.prepare::<E>(compute, shape, false, len);
    gemm::pack(compute, &matrices(g.taps.len(), g.run), packed);
}

/// Packs `kernel` (h x w x in x out) for [`backward_input`] on elements `E`.
///
/// # Panics
/// If `kernel` has not the length `shape` gives it, or the input is upsampled: it is an image, which needs no gradient.
pub fn pack_backward_input<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    kernel: &[f32],
    packed: &mut Packed,
) {
    let (columns, depth) = (shape.in_channels(), shape.out_channels());
    assert_eq!(kernel.len(), shape.kernel_len(), "kernel length");
    assert!(!enlarged::suits(shape), "the gradient of an image that is upsampled");
    let matrices = |taps: &mut dyn Iterator<Item = usize>| Matrices {
        values: kernel,
        starts: taps.map(|tap| tap * depth * columns).collect(),
        depth,
        columns,
        inner: Inner::Depth,
        scale: None,
    };
    if winograd::suits::<E>(shape) {
        let len = winograd::packed_len(depth, columns);
        // The kernel turned by half a turn.
        let kernel = matrices(&mut (0..9).rev());
        winograd::pack(compute, &kernel, packed.prepare(compute, shape, true, len));
        return;
    }
    let parts = Gather::backward(shape);
    let len = parts.iter().map(|(g, _)| gemm::packed_len::<E>(compute, g.size(), columns)).sum();
    let mut rest = packed.prepare::<E>(compute, shape, true, len);
    for (g, taps) in &parts {
        let (part, after) = rest.split_at_mut(gemm::packed_len::<E>(compute, g.size(), columns));
        rest = after;
        let kernel = matrices(&mut taps.iter().map(|[i, j]| i * shape.kernel() + j));
        gemm::pack(compute, &kernel, part);
    }
}

/// `output = epilogue(input * kernel)`; input `[batch, height, width, in]`, output
/// `[batch, out_height, out_width, out]`.
///
/// # Panics
/// If a slice has not the length `shape` gives it, or `packed` was packed for another shape or type.
pub fn forward<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    input: &[E],
    packed: &Packed,
    epilogue: Epilogue<'_, E>,
    output: &mut [E],
) {
    convolve(compute, shape, input, packed, epilogue, output, false);
}

/// [`forward`] and a max pooling of its output, which is never in memory as a whole. Only for upsampled inputs, and without a
/// residual.
///
/// # Panics
/// As [`forward`]; if the input is not upsampled, there is a residual, or `pool` does not follow the convolution.
pub fn forward_pooled<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    pool: &PoolShape,
    input: &[E],
    packed: &Packed,
    epilogue: Epilogue<'_, E>,
    output: &mut [E],
) {
    assert!(enlarged::suits(shape), "a pooled convolution of an input that is not upsampled");
    let packed = packed.check::<E>(compute, shape, false);
    let Epilogue { bias, residual, relu } = epilogue;
    let finish = Finish { bias, residual, relu, ..Finish::nothing() };
    enlarged::forward_pooled(compute, shape, pool, input, packed, &finish, output);
}

/// [`forward`]; with `summed` the sums over pixels of what is stored and of its squares, by channel, unless the way that
/// is taken cannot sum.
fn convolve<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    input: &[E],
    packed: &Packed,
    epilogue: Epilogue<'_, E>,
    output: &mut [E],
    summed: bool,
) -> Option<[Vec<f64>; 2]> {
    let columns = shape.out_channels();
    let packed = packed.check::<E>(compute, shape, false);
    assert_eq!(input.len(), shape.in_len(), "input length");
    assert_eq!(output.len(), shape.out_len(), "output length");
    let Epilogue { bias, residual, relu } = epilogue;
    let finish = Finish { bias, residual, relu, ..Finish::nothing() };
    if winograd::suits::<E>(shape) {
        let channels = [shape.in_channels(), columns];
        winograd::run(compute, shape, channels, input, packed, &finish, output);
        return None;
    }
    if enlarged::suits(shape) {
        return enlarged::forward(compute, shape, input, packed, &finish, output, summed);
    }
    let gather = &Gather::forward(shape);
    let operands = Operands { gather, source: input, packed, columns };
    if summed {
        return Some(gemm::run_summed(compute, operands, &finish, None, output));
    }
    gemm::run(compute, operands, &finish, output);
    None
}

/// As [`forward`]; fills in the mean and the biased variance of each output channel, as
/// [`norm::batch_norm_statistics`] does. For bfloat16 they are gathered while the output is computed, from values
/// that are not rounded yet, and as the mean square less the squared mean: where that cancels, bfloat16 has no
/// digits left to normalise either.
///
/// # Panics
/// As [`forward`]; if the output has no pixels.
#[allow(clippy::too_many_arguments)]
pub fn forward_statistics<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    input: &[E],
    packed: &Packed,
    epilogue: Epilogue<'_, E>,
    output: &mut [E],
    mean: &mut [f32],
    variance: &mut [f32],
) {
    let columns = shape.out_channels();
    assert!(mean.len() == columns && variance.len() == columns, "statistics length");
    assert!(!output.is_empty(), "statistics of no pixels");
    let summed = E::DTYPE == DType::Bf16;
    let sums = convolve(compute, shape, input, packed, epilogue, output, summed);
    let Some([sum, squares]) = sums else {
        return norm::batch_norm_statistics(compute, columns, output, mean, variance);
    };
    let pixels = (output.len() / columns) as f64;
    for k in 0..columns {
        let m = sum[k] / pixels;
        mean[k] = m as f32;
        variance[k] = (squares[k] / pixels - m * m).max(0.0) as f32;
    }
}

/// What the gradient of an input is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Onto {
    /// Nothing: it overwrites.
    Nothing,
    /// Another gradient.
    Gradient,
    /// The gradient that a convolution of the same kernel size, stride and padding left alone: where neither reaches, as
    /// between the pixels that strides land on, it is zero already and stays so.
    SameGrid,
}

/// Gradient with respect to the input, `[batch, height, width, in]`.
///
/// It is added to what `onto` says of `grad_input`; afterwards elements whose `mask` is
/// not positive become zero (`mask` is the ReLU output that was this convolution's input).
///
/// # Panics
/// If a slice has not the length `shape` gives it, or `packed` was packed for another shape or type.
pub fn backward_input<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    grad_output: &[E],
    packed: &Packed,
    onto: Onto,
    mask: Option<&[E]>,
    grad_input: &mut [E],
) {
    input_gradient(compute, shape, grad_output, packed, (onto, mask), grad_input, None);
}

/// [`backward_input`]; the sums over pixels of what is stored and of its products with `factor`, by channel, if there
/// is one, unless the way that is taken cannot sum.
fn input_gradient<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    grad_output: &[E],
    packed: &Packed,
    (onto, mask): (Onto, Option<&[E]>),
    grad_input: &mut [E],
    factor: Option<&[E]>,
) -> Option<[Vec<f64>; 2]> {
    let finish = &Finish { accumulate: onto != Onto::Nothing, mask, ..Finish::nothing() };
    let mut rest = packed.check::<E>(compute, shape, true);
    assert_eq!(grad_output.len(), shape.out_len(), "output gradient length");
    assert_eq!(grad_input.len(), shape.in_len(), "input gradient length");
    assert!(mask.is_none_or(|m| m.len() == shape.in_len()), "mask length");
    assert!(factor.is_none_or(|f| f.len() == shape.in_len()), "factor length");
    let n = shape.in_channels();
    if winograd::suits::<E>(shape) {
        let channels = [shape.out_channels(), n];
        winograd::run(compute, shape, channels, grad_output, rest, finish, grad_input);
        return None;
    }
    let mut totals = factor.map(|_| [vec![0.0; n], vec![0.0; n]]);
    for (gather, _) in &Gather::backward(shape) {
        let (packed, after) = rest.split_at(gemm::packed_len::<E>(compute, gather.size(), n));
        rest = after;
        if gather.taps.is_empty() && onto == Onto::SameGrid {
            continue;
        }
        let operands = Operands { gather, source: grad_output, packed, columns: n };
        let Some(totals) = &mut totals else {
            gemm::run(compute, operands, finish, grad_input);
            continue;
        };
        let sums = gemm::run_summed(compute, operands, finish, factor, grad_input);
        for (total, sums) in totals.iter_mut().zip(sums) {
            total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        }
    }
    totals
}

/// As [`backward_input`], where the input is the output of a batch norm that normalised `x` with `state`, and this
/// completes its gradient; fills in the gradients of the batch norm's gamma and beta as
/// [`norm::batch_norm_parameter_gradients`] does. For bfloat16 they are gathered while the gradient is computed,
/// from values that are not rounded yet.
///
/// # Panics
/// As [`backward_input`]; if `x`, `state`, `dgamma` or `dbeta` have not the length of the input or of its channels.
#[allow(clippy::too_many_arguments)]
pub fn backward_input_norm<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    grad_output: &[E],
    packed: &Packed,
    onto: Onto,
    mask: Option<&[E]>,
    grad_input: &mut [E],
    x: &[E],
    state: NormState<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let n = shape.in_channels();
    assert_eq!(x.len(), shape.in_len(), "normalised input length");
    assert!(dgamma.len() == n && dbeta.len() == n, "gradient length");
    state.check(n);
    let factor = (E::DTYPE == DType::Bf16).then_some(x);
    match input_gradient(compute, shape, grad_output, packed, (onto, mask), grad_input, factor) {
        Some(totals) => norm::parameter_gradients_of_sums(&totals, state, dgamma, dbeta),
        None => {
            norm::batch_norm_parameter_gradients(compute, n, x, grad_input, state, dgamma, dbeta);
        }
    }
}

/// Gradient with respect to the kernel (h x w x in x out), overwriting `grad_kernel`.
///
/// # Panics
/// If a slice has not the length `shape` gives it.
pub fn backward_kernel<E: Element>(
    compute: &Compute,
    shape: &ConvShape,
    input: &[E],
    grad_output: &[E],
    grad_kernel: &mut [f32],
) {
    assert_eq!(input.len(), shape.in_len(), "input length");
    assert_eq!(grad_output.len(), shape.out_len(), "output gradient length");
    assert_eq!(grad_kernel.len(), shape.kernel_len(), "kernel gradient length");
    if winograd::suits::<E>(shape) {
        winograd::kernel_gradient(compute, shape, input, grad_output, grad_kernel);
        return;
    }
    if enlarged::suits(shape) {
        enlarged::kernel_gradient(compute, shape, input, grad_output, grad_kernel);
        return;
    }
    let g = Gather::forward(shape);
    gradient::run(compute, &g, input, grad_output, shape.out_channels(), grad_kernel);
}
