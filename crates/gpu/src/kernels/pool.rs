//! Maxima and means over windows, with their gradients.

use headstart_kernels::pool::PoolShape;

use super::{flag, kernel, pass, source, stored};
use crate::memory::Span;
use crate::program::Call;

/// A batch norm on the way into a pooling.
#[derive(Clone, Copy, Debug)]
pub struct Normalize<'a> {
    /// Its state, as [`norm`](super::norm) has it.
    pub state: &'a Span,
    /// Whether `max(v, 0)` follows.
    pub relu: bool,
}

fn sizes(s: &PoolShape) -> [u32; 8] {
    let sizes = [s.channels(), s.height(), s.width(), s.out_height(), s.out_width()];
    let [channels, height, width, out_height, out_width] = sizes.map(|word| word as u32);
    let [pool, stride, padding] = [s.pool(), s.stride(), s.padding()].map(|word| word as u32);
    [channels, height, width, out_height, out_width, pool, stride, padding]
}

/// The maximum over windows of `x`, normalised where that is asked for.
pub fn max_pool(s: &PoolShape, x: &Span, normalize: Option<Normalize<'_>>, y: &Span) -> Call {
    let relu = normalize.is_some_and(|n| n.relu);
    let normalized = ("NORMALIZE", flag(normalize.is_some()));
    let settings = vec![normalized, ("RELU", flag(relu)), ("x", stored(x))];
    let mut spans = vec![x, y];
    spans.extend(normalize.map(|n| n.state));
    pass(kernel(source!("max_pool"), settings), s.out_len(), &sizes(s), &spans)
}

/// The gradient of what the maximum is taken of; with `mask` only of positive maxima.
pub fn max_pool_gradient(
    s: &PoolShape,
    x: &Span,
    normalize: Option<Normalize<'_>>,
    dy: &Span,
    mask: bool,
    dx: &Span,
) -> Call {
    let relu = normalize.is_some_and(|n| n.relu);
    let normalized = ("NORMALIZE", flag(normalize.is_some()));
    let settings = vec![normalized, ("RELU", flag(relu)), ("MASK", flag(mask)), ("x", stored(x))];
    let mut spans = vec![x, dy, dx];
    spans.extend(normalize.map(|n| n.state));
    pass(kernel(source!("max_pool_gradient"), settings), s.in_len(), &sizes(s), &spans)
}

/// The mean over the `pixels` of each of `images`, in f32.
pub fn average(images: usize, pixels: usize, channels: usize, x: &Span, y: &Span) -> Call {
    let share = 1.0 / pixels as f32;
    let rest = [channels as u32, pixels as u32, share.to_bits()];
    let kernel = kernel(source!("average"), vec![("x", stored(x))]);
    pass(kernel, images * channels, &rest, &[x, y])
}

/// Its gradient; `dy` is in f32.
pub fn average_gradient(
    images: usize,
    pixels: usize,
    channels: usize,
    dy: &Span,
    dx: &Span,
) -> Call {
    let share = 1.0 / pixels as f32;
    let rest = [channels as u32, pixels as u32, share.to_bits()];
    let kernel = kernel(source!("average_gradient"), vec![("x", stored(dx))]);
    pass(kernel, images * pixels * channels, &rest, &[dy, dx])
}
