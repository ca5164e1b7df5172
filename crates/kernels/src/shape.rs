//! Sizes of convolutions, poolings and frames, checked once: every length that a kernel derives from a shape is
//! computed here before, so that none can overflow later.
//!
//! ```
//! use headstart_kernels::shape::{ConvShape, ConvSizes};
//!
//! let sizes = ConvSizes { height: 8, width: 8, in_channels: 3, kernel: 3, padding: 1, ..ConvSizes::default() };
//! let shape = ConvShape::new(sizes)?;
//! assert_eq!((shape.out_height(), shape.in_len()), (8, 192));
//!
//! let error = ConvShape::new(ConvSizes { stride: 0, ..sizes }).unwrap_err();
//! assert_eq!(error.to_string(), "stride: expected at least 1, found 0");
//! # Ok::<(), headstart_kernels::shape::SizeError>(())
//! ```

use std::fmt;
use std::ops::Range;

/// Elements that a length may have at most: as many times the partial sums of 16 tasks, 8 bytes each, can still be
/// addressed.
const MOST: usize = isize::MAX as usize / (16 * 8);
/// Most channels that packing adds to a panel or a row, to fill registers and cache lines.
const FILLED: usize = 64;

/// A size of a shape that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeError {
    /// Which size, or which length that follows from several.
    pub size: &'static str,
    /// What would be accepted.
    pub expected: String,
    /// What was given.
    pub found: String,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.size, self.expected, self.found)
    }
}

impl std::error::Error for SizeError {}

/// Declares a struct of sizes and the shape that is made of them once they are checked, with an accessor for each.
macro_rules! shape {
    (
        $(#[$about:meta])* $shape:ident of $sizes:ident {
            $($(#[$doc:meta])* $size:ident: $default:literal,)*
        }
    ) => {
        #[doc = concat!("What a [`", stringify!($shape), "`] is made of.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $sizes {
            $($(#[$doc])* pub $size: usize,)*
        }

        impl Default for $sizes {
            /// One image of one pixel and channel, seen as it is.
            fn default() -> $sizes {
                $sizes { $($size: $default,)* }
            }
        }

        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $shape {
            sizes: $sizes,
        }

        impl $shape {
            /// All sizes.
            #[inline]
            pub fn sizes(&self) -> $sizes {
                self.sizes
            }

            /// The same for the first `count` images: all of them if there are no more, none for 0.
            #[inline]
            #[must_use]
            pub fn first(&self, count: usize) -> $shape {
                $shape { sizes: $sizes { batch: count.min(self.sizes.batch), ..self.sizes } }
            }

            $(
                $(#[$doc])*
                #[inline]
                pub fn $size(&self) -> usize {
                    self.sizes.$size
                }
            )*
        }
    };
}

shape! {
    /// Sizes of one convolution over a batch, checked.
    ConvShape of ConvSizes {
        /// Images; 0 for an empty batch.
        batch: 1,
        /// Input rows.
        height: 1,
        /// Input columns.
        width: 1,
        /// Input channels.
        in_channels: 1,
        /// Output channels.
        out_channels: 1,
        /// Kernel height and width.
        kernel: 1,
        /// Stride in both directions.
        stride: 1,
        /// Zeros around the input, on each side.
        padding: 0,
        /// Upsampling factor of the input before the zeros, by the nearest pixel; 1 for none.
        upsample: 1,
    }
}

shape! {
    /// Sizes of a max pooling over a batch, checked.
    PoolShape of PoolSizes {
        /// Images; 0 for an empty batch.
        batch: 1,
        /// Input rows.
        height: 1,
        /// Input columns.
        width: 1,
        /// Channels.
        channels: 1,
        /// Window height and width.
        pool: 1,
        /// Stride in both directions.
        stride: 1,
        /// Zeros around the input, on each side, that take part in the maximum.
        padding: 0,
    }
}

shape! {
    /// Sizes of upsampling by whole factors and a frame of zeros around it, checked.
    FrameShape of FrameSizes {
        /// Images; 0 for an empty batch.
        batch: 1,
        /// Input rows.
        height: 1,
        /// Input columns.
        width: 1,
        /// Channels.
        channels: 1,
        /// Nearest-neighbour upsampling factor in both directions.
        factor: 1,
        /// Zeros around the upsampled map, on each side.
        padding: 0,
    }
}

impl ConvShape {
    /// The shape of a convolution with these sizes.
    ///
    /// # Errors
    /// If a size other than `batch` and `padding` is 0, the kernel is larger than the input with its zeros, or a length
    /// is too large for this machine's addresses.
    pub fn new(sizes: ConvSizes) -> Result<ConvShape, SizeError> {
        let s = sizes;
        positive("input height", s.height)?;
        positive("input width", s.width)?;
        positive("input channels", s.in_channels)?;
        positive("output channels", s.out_channels)?;
        positive("kernel", s.kernel)?;
        positive("stride", s.stride)?;
        positive("upsample", s.upsample)?;
        let down = padded("input height with padding", s.height, s.upsample, s.padding)?;
        let across = padded("input width with padding", s.width, s.upsample, s.padding)?;
        window("kernel", s.kernel, [down, across])?;
        // Where the windows of all phases of an upsampled pixel begin.
        sum("stride", &[product("stride", &[s.stride, s.upsample])?, s.kernel])?;
        let shape = ConvShape { sizes };
        let (height, width) = (shape.out_height(), shape.out_width());
        product("input", &[s.batch, s.height, s.width, s.in_channels])?;
        product("output", &[s.batch, height, width, s.out_channels])?;
        // Kernels of an upsampled input have two taps more for each phase at most.
        let phases = sum("upsample", &[s.kernel, s.upsample, s.upsample])?;
        let rows = sum("input channels", &[s.in_channels, FILLED])?;
        let columns = sum("output channels", &[s.out_channels, FILLED])?;
        product("kernel", &[phases, phases, rows, columns])?;
        // Kernel gradients take images by twos; rows of both maps are counted from taps outside of them.
        let images = sum("batch", &[s.batch, 1])?;
        product("input with padding", &[images, down, across, rows.max(columns)])?;
        let multiplied =
            [2, s.batch, height, width, s.kernel, s.kernel, s.in_channels, s.out_channels];
        let operations =
            multiplied.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        if operations.is_none() {
            return Err(too_large("floating-point operations", &multiplied));
        }
        Ok(shape)
    }

    /// A dense layer `[batch, inputs] x [inputs, outputs]`: a 1x1 convolution of one pixel.
    ///
    /// # Errors
    /// As [`ConvShape::new`].
    pub fn dense(batch: usize, inputs: usize, outputs: usize) -> Result<ConvShape, SizeError> {
        let (in_channels, out_channels) = (inputs, outputs);
        ConvShape::new(ConvSizes { batch, in_channels, out_channels, ..ConvSizes::default() })
    }

    /// Output rows.
    #[inline]
    pub fn out_height(&self) -> usize {
        let s = &self.sizes;
        (s.height * s.upsample + 2 * s.padding - s.kernel) / s.stride + 1
    }

    /// Output columns.
    #[inline]
    pub fn out_width(&self) -> usize {
        let s = &self.sizes;
        (s.width * s.upsample + 2 * s.padding - s.kernel) / s.stride + 1
    }

    /// Elements of the input.
    #[inline]
    pub fn in_len(&self) -> usize {
        let s = &self.sizes;
        s.batch * s.height * s.width * s.in_channels
    }

    /// Elements of the output.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.sizes.batch * self.out_height() * self.out_width() * self.sizes.out_channels
    }

    /// Elements of the kernel.
    #[inline]
    pub fn kernel_len(&self) -> usize {
        let s = &self.sizes;
        s.kernel * s.kernel * s.in_channels * s.out_channels
    }

    /// Floating-point operations of the forward pass (a multiply and an add count as two);
    /// each of the backward passes does as many.
    pub fn flops(&self) -> u64 {
        let pixels = self.sizes.batch * self.out_height() * self.out_width();
        2 * pixels as u64 * self.kernel_len() as u64
    }
}

impl PoolShape {
    /// The shape of a max pooling with these sizes.
    ///
    /// # Errors
    /// If a size other than `batch` and `padding` is 0, the window is larger than the input with its zeros, or a length
    /// is too large for this machine's addresses.
    pub fn new(sizes: PoolSizes) -> Result<PoolShape, SizeError> {
        let s = sizes;
        positive("input height", s.height)?;
        positive("input width", s.width)?;
        positive("channels", s.channels)?;
        positive("window", s.pool)?;
        positive("stride", s.stride)?;
        sum("stride", &[s.stride])?;
        let down = padded("input height with padding", s.height, 1, s.padding)?;
        let across = padded("input width with padding", s.width, 1, s.padding)?;
        window("window", s.pool, [down, across])?;
        product("input with padding", &[s.batch.max(1), down, across, s.channels])?;
        Ok(PoolShape { sizes })
    }

    /// Output rows.
    #[inline]
    pub fn out_height(&self) -> usize {
        let s = &self.sizes;
        (s.height + 2 * s.padding - s.pool) / s.stride + 1
    }

    /// Output columns.
    #[inline]
    pub fn out_width(&self) -> usize {
        let s = &self.sizes;
        (s.width + 2 * s.padding - s.pool) / s.stride + 1
    }

    /// Elements of the input.
    #[inline]
    pub fn in_len(&self) -> usize {
        let s = &self.sizes;
        s.batch * s.height * s.width * s.channels
    }

    /// Elements of the output.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.sizes.batch * self.out_height() * self.out_width() * self.sizes.channels
    }

    /// Input rows that output row `line` sees; fewer than the window has where it reaches into the padding.
    #[inline(always)]
    pub(crate) fn rows(&self, line: usize) -> Range<usize> {
        self.inside(line, self.sizes.height)
    }

    /// Input columns that output column `column` sees, likewise.
    #[inline(always)]
    pub(crate) fn columns(&self, column: usize) -> Range<usize> {
        self.inside(column, self.sizes.width)
    }

    #[inline(always)]
    fn inside(&self, output: usize, size: usize) -> Range<usize> {
        let s = &self.sizes;
        let start = output * s.stride;
        let end = (start + s.pool).saturating_sub(s.padding).min(size);
        start.saturating_sub(s.padding).min(end)..end
    }
}

impl FrameShape {
    /// The shape of a frame with these sizes.
    ///
    /// # Errors
    /// If a size other than `batch` and `padding` is 0, or a length is too large for this machine's addresses.
    pub fn new(sizes: FrameSizes) -> Result<FrameShape, SizeError> {
        let s = sizes;
        positive("input height", s.height)?;
        positive("input width", s.width)?;
        positive("channels", s.channels)?;
        positive("factor", s.factor)?;
        let down = padded("output height", s.height, s.factor, s.padding)?;
        let across = padded("output width", s.width, s.factor, s.padding)?;
        product("output", &[s.batch.max(1), down, across, s.channels])?;
        Ok(FrameShape { sizes })
    }

    /// Output rows.
    #[inline]
    pub fn out_height(&self) -> usize {
        self.sizes.height * self.sizes.factor + 2 * self.sizes.padding
    }

    /// Output columns.
    #[inline]
    pub fn out_width(&self) -> usize {
        self.sizes.width * self.sizes.factor + 2 * self.sizes.padding
    }

    /// Elements of the input.
    #[inline]
    pub fn in_len(&self) -> usize {
        let s = &self.sizes;
        s.batch * s.height * s.width * s.channels
    }

    /// Elements of the output.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.sizes.batch * self.out_height() * self.out_width() * self.sizes.channels
    }
}

/// Whether a slice is as long as these sizes make it; false also where their product overflows.
pub(crate) fn is_product(len: usize, sizes: &[usize]) -> bool {
    sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) == Some(len)
}

fn positive(size: &'static str, value: usize) -> Result<(), SizeError> {
    if value > 0 {
        return Ok(());
    }
    Err(SizeError { size, expected: "at least 1".into(), found: "0".into() })
}

fn window(size: &'static str, value: usize, [down, across]: [usize; 2]) -> Result<(), SizeError> {
    if value <= down.min(across) {
        return Ok(());
    }
    let expected =
        format!("at most {} (the input with padding is {down} x {across})", down.min(across));
    Err(SizeError { size, expected, found: value.to_string() })
}

/// A side of a map that is upsampled and padded on both sides.
fn padded(
    size: &'static str,
    side: usize,
    factor: usize,
    padding: usize,
) -> Result<usize, SizeError> {
    sum(size, &[product(size, &[side, factor])?, padding, padding])
}

fn sum(size: &'static str, terms: &[usize]) -> Result<usize, SizeError> {
    let total = terms.iter().try_fold(0usize, |sum, &term| sum.checked_add(term));
    total.filter(|&total| total <= MOST).ok_or_else(|| SizeError {
        size,
        expected: format!("at most {MOST}"),
        found: written(terms, " + "),
    })
}

fn product(size: &'static str, factors: &[usize]) -> Result<usize, SizeError> {
    let total = factors.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
    total.filter(|&total| total <= MOST).ok_or_else(|| too_large(size, factors))
}

fn too_large(size: &'static str, factors: &[usize]) -> SizeError {
    SizeError { size, expected: format!("at most {MOST} elements"), found: written(factors, " x ") }
}

fn written(numbers: &[usize], between: &str) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(between)
}
