//! Pixels to what a net computes with.

use headstart_kernels::elementwise::{Affine, FrameShape};

use super::{flag, kernel, pass, source, stored};
use crate::memory::Span;
use crate::program::Call;

fn sizes(s: &FrameShape) -> [u32; 7] {
    let sizes = [s.channels(), s.factor(), s.height(), s.width(), s.padding()];
    let [channels, factor, height, width, padding] = sizes.map(|word| word as u32);
    let (out_height, out_width) = (s.out_height() as u32, s.out_width() as u32);
    [channels, factor, height, width, padding, out_height, out_width]
}

/// A channel map, upsampling and zeros around, of bytes or of floats.
pub fn frame(s: &FrameShape, map: Option<&Affine>, bytes: bool, x: &Span, y: &Span) -> Call {
    let settings = vec![
        ("BYTES", flag(bytes)),
        ("MAP", flag(map.is_some())),
        ("x", stored(x)),
        ("y", stored(y)),
    ];
    let mut rest = sizes(s).to_vec();
    if let Some(map) = map {
        rest.extend(map.source.map(|channel| channel as u32));
        rest.extend(map.scale.iter().chain(&map.offset).map(|value| value.to_bits()));
    } else {
        rest.extend([0; 9]);
    }
    pass(kernel(source!("frame"), settings), s.out_len(), &rest, &[x, y])
}

/// Its gradient, without a channel map.
pub fn frame_gradient(s: &FrameShape, dy: &Span, dx: &Span) -> Call {
    let kernel = kernel(source!("frame_gradient"), vec![("x", stored(dx))]);
    pass(kernel, s.in_len(), &sizes(s), &[dy, dx])
}
