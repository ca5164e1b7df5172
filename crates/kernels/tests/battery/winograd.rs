//! Winograd's error beside that of the direct sum, on the same data and in all three directions.
//!
//! The direct sum is the definition's, product by product in floats. It grows with the number of terms as Winograd's
//! does, so that the ratio is that of the transforms alone, whatever the channels.

use headstart_kernels::conv::{self, ConvShape, Epilogue, Onto, Packed};
use headstart_kernels::element::Element;
use headstart_kernels::oracle;
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::convolution;
use crate::kernel::{Kernel, Once, Want, nan};
use crate::support::noise;

/// Root mean squares of Winograd's errors against f64, as multiples of the direct sum's.
pub struct Errors;

/// The largest multiple.
const MOST: f64 = 2.5;
/// The largest of the gradient of the kernel where fewer than [`FEW`] pixels are summed: direct sums of so few terms
/// hardly round, the transforms do.
const MOST_OF_FEW: f64 = 5.0;
const FEW: usize = 256;

/// Calls `f(output pixel, input pixel, tap)` for every tap that lies inside of the map.
fn taps(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (height, width) = (s.height(), s.width());
    for pixel in 0..s.batch() * height * width {
        let (image, y, x) = (pixel / width / height, pixel / width % height, pixel % width);
        for tap in 0..9 {
            let (r, q) = ((y + tap / 3).wrapping_sub(1), (x + tap % 3).wrapping_sub(1));
            if r < height && q < width {
                f(pixel, (image * height + r) * width + q, tap);
            }
        }
    }
}

/// Direct sums in floats, one product after another: forward, to the input, to the kernel.
fn direct(s: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let (ci, co) = (s.in_channels(), s.out_channels());
    let [mut y, mut dx, mut dw] =
        [s.out_len(), s.in_len(), s.kernel_len()].map(|len| vec![0.0; len]);
    taps(s, |o, i, tap| {
        let (dy, y) = (&dy[o * co..][..co], &mut y[o * co..][..co]);
        for k in 0..ci {
            let (x, at) = (x[i * ci + k], (tap * ci + k) * co);
            let (w, dw) = (&w[at..][..co], &mut dw[at..][..co]);
            let dx: &mut f32 = &mut dx[i * ci + k];
            for n in 0..co {
                y[n] += x * w[n];
                *dx += w[n] * dy[n];
                dw[n] += x * dy[n];
            }
        }
    });
    [y, dx, dw]
}

/// Root mean square of what values are off.
fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).powi(2));
    (off.sum::<f64>() / want.len() as f64).sqrt()
}

static REFERENCES: Once<Reference> = Once::new();

/// Results in f64, and the direct sums' errors.
struct Reference {
    want: [Vec<f64>; 3],
    direct: [f64; 3],
}

impl Reference {
    fn new(s: &ConvShape, x: &[f32], w: &[f32], dy: &[f32]) -> Reference {
        let want = [
            oracle::conv_forward(s, x, w),
            oracle::conv_backward_input(s, dy, w),
            oracle::conv_backward_kernel(s, x, dy),
        ];
        let sums = direct(s, x, w, dy);
        let direct = [0, 1, 2].map(|i| error(&sums[i], &want[i]));
        Reference { want, direct }
    }
}

impl Kernel for Errors {
    type Shape = ConvShape;

    fn edges() -> Vec<ConvShape> {
        // Maps of ResNet-50; several blocks on which all threads work together.
        let deep =
            [[1, 56, 56, 64, 64], [2, 14, 14, 256, 64], [6, 7, 7, 64, 512], [152, 3, 3, 320, 256]];
        let deep = deep.map(|[b, h, w, ci, co]| convolution::shape([b, h, w, ci, co, 3, 1, 1, 1]));
        [convolution::winograd(), deep.to_vec()].concat()
    }

    fn small() -> BoxedStrategy<ConvShape> {
        // Maps whose tiles are whole enough for this way.
        let side = || prop_oneof![Just(4usize), Just(7), Just(8), 10..13usize];
        let channels = || prop_oneof![Just(64usize), Just(128)];
        let sizes = (1..3usize, side(), side(), channels(), channels());
        let shape = |(batch, height, width, ci, co)| {
            convolution::shape([batch, height, width, ci, co, 3, 1, 1, 1])
        };
        sizes.prop_map(shape).boxed()
    }

    fn run<E: Element>(c: &Compute, s: &ConvShape) -> Vec<Vec<f64>> {
        let (x, w, dy) = (noise(s.in_len(), 1), noise(s.kernel_len(), 2), noise(s.out_len(), 3));
        let [mut y, mut dx, mut dw] = [s.out_len(), s.in_len(), s.kernel_len()].map(nan::<f32>);
        let mut packed = Packed::default();
        conv::pack_forward::<f32>(c, s, &w, None, &mut packed);
        conv::forward(c, s, &x, &packed, Epilogue::default(), &mut y);
        conv::pack_backward_input::<f32>(c, s, &w, &mut packed);
        conv::backward_input(c, s, &dy, &packed, Onto::Nothing, None, &mut dx);
        conv::backward_kernel(c, s, &x, &dy, &mut dw);
        let kept = REFERENCES.of(format!("{s:?}"), || Reference::new(s, &x, &w, &dy));
        let Reference { want, direct } = kept.get().expect("made");
        let ratio = |i: usize, got: &[f32]| error(got, &want[i]) / direct[i];
        let ratios = [ratio(0, &y), ratio(1, &dx), ratio(2, &dw)];
        ratios.map(|ratio| vec![ratio]).to_vec()
    }

    fn want<E: Element>(s: &ConvShape) -> Vec<Want> {
        let few = s.batch() * s.height() * s.width() < FEW;
        let ratio =
            |what, most: f64| Want { what, values: vec![most / 2.0], bounds: vec![most / 2.0] };
        vec![
            ratio("error forward", MOST),
            ratio("error to the input", MOST),
            ratio("error to the kernel", if few { MOST_OF_FEW } else { MOST }),
        ]
    }
}
