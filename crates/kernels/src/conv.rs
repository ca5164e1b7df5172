//! Convolution as implicit GEMM on NHWC: forward, backward to input and backward to the kernel.
//!
//! A dense layer is the 1x1 convolution of a 1x1 map.

use crate::buffer::Buffer;
use crate::oracle;
use crate::table::Compute;

/// Sizes of one convolution over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub height: usize,
    /// Input columns.
    pub width: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros around the input, on each side.
    pub padding: usize,
}

impl ConvShape {
    /// A dense layer `[batch, inputs] x [inputs, outputs]`.
    pub fn dense(batch: usize, inputs: usize, outputs: usize) -> ConvShape {
        ConvShape {
            batch,
            height: 1,
            width: 1,
            in_channels: inputs,
            out_channels: outputs,
            kernel: 1,
            stride: 1,
            padding: 0,
        }
    }

    /// Output rows.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Output columns.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.batch * self.out_height() * self.out_width() * self.out_channels
    }

    /// Elements of the kernel.
    pub fn kernel_len(&self) -> usize {
        self.kernel * self.kernel * self.in_channels * self.out_channels
    }

    /// Floating-point operations of the forward pass (a multiply and an add count as two);
    /// each of the backward passes does as many.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.out_height() * self.out_width()) as u64
            * (self.kernel * self.kernel * self.in_channels * self.out_channels) as u64
    }
}

/// A kernel in the layout the register tile reads.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub(crate) data: Buffer,
}

/// What happens to each output element before it is stored, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added per output channel.
    pub bias: Option<&'a [f32]>,
    /// Added element by element; as long as the output.
    pub residual: Option<&'a [f32]>,
    /// `max(x, 0)`.
    pub relu: bool,
}

/// Packs `kernel` (h x w x in x out) for [`forward`], each output channel times `scale`.
pub fn pack_forward(
    compute: &Compute,
    shape: &ConvShape,
    kernel: &[f32],
    scale: Option<&[f32]>,
    packed: &mut Packed,
) {
    let _ = compute;
    let n = shape.out_channels;
    assert_eq!(kernel.len(), shape.kernel_len(), "kernel length");
    packed.data = Buffer::zeros(kernel.len());
    for (i, (to, from)) in packed.data.iter_mut().zip(kernel).enumerate() {
        *to = from * scale.map_or(1.0, |s| s[i % n]);
    }
}

/// Packs `kernel` (h x w x in x out) for [`backward_input`].
pub fn pack_backward_input(
    compute: &Compute,
    shape: &ConvShape,
    kernel: &[f32],
    packed: &mut Packed,
) {
    pack_forward(compute, shape, kernel, None, packed);
}

/// `output = epilogue(input * kernel)`; input `[batch, height, width, in]`, output
/// `[batch, out_height, out_width, out]`.
///
/// # Panics
/// If a slice has not the length `shape` gives it, or `packed` was packed for another shape.
pub fn forward(
    compute: &Compute,
    shape: &ConvShape,
    input: &[f32],
    packed: &Packed,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let _ = compute;
    let result = oracle::conv_forward(shape, input, &packed.data);
    for (i, (to, from)) in output.iter_mut().zip(result).enumerate() {
        let mut x = from;
        x += epilogue.bias.map_or(0.0, |b| f64::from(b[i % shape.out_channels]));
        x += epilogue.residual.map_or(0.0, |r| f64::from(r[i]));
        *to = if epilogue.relu { x.max(0.0) as f32 } else { x as f32 };
    }
}

/// Gradient with respect to the input, `[batch, height, width, in]`.
///
/// With `accumulate` it is added to what `grad_input` holds; afterwards elements whose `mask` is
/// not positive become zero (`mask` is the ReLU output that was this convolution's input).
pub fn backward_input(
    compute: &Compute,
    shape: &ConvShape,
    grad_output: &[f32],
    packed: &Packed,
    accumulate: bool,
    mask: Option<&[f32]>,
    grad_input: &mut [f32],
) {
    let _ = compute;
    let result = oracle::conv_backward_input(shape, grad_output, &packed.data);
    for (i, (to, from)) in grad_input.iter_mut().zip(result).enumerate() {
        let x = if accumulate { f64::from(*to) + from } else { from };
        *to = if mask.is_some_and(|m| m[i] <= 0.0) { 0.0 } else { x as f32 };
    }
}

/// Gradient with respect to the kernel (h x w x in x out), overwriting `grad_kernel`.
pub fn backward_kernel(
    compute: &Compute,
    shape: &ConvShape,
    input: &[f32],
    grad_output: &[f32],
    grad_kernel: &mut [f32],
) {
    let _ = compute;
    let result = oracle::conv_backward_kernel(shape, input, grad_output);
    for (to, from) in grad_kernel.iter_mut().zip(result) {
        *to = from as f32;
    }
}
