//! Naive reference implementations in `f64`, which the kernels are tested against.

use crate::shape::ConvShape;

/// Calls `f(output pixel, input pixel, tap)` for every tap that lies inside of the input.
fn taps(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (s.out_height(), s.out_width());
    for b in 0..s.batch() {
        for y in 0..oh {
            for x in 0..ow {
                for i in 0..s.kernel() {
                    for j in 0..s.kernel() {
                        let (r, c) = (y * s.stride() + i, x * s.stride() + j);
                        if r < s.padding() || c < s.padding() {
                            continue;
                        }
                        let (r, c) = (r - s.padding(), c - s.padding());
                        let (r, c) = (r / s.upsample(), c / s.upsample());
                        if r < s.height() && c < s.width() {
                            f(
                                (b * oh + y) * ow + x,
                                (b * s.height() + r) * s.width() + c,
                                i * s.kernel() + j,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Convolution of `input` with an h x w x in x out kernel.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn conv_forward(s: &ConvShape, input: &[f32], kernel: &[f32]) -> Vec<f64> {
    let (ci, co) = (s.in_channels(), s.out_channels());
    assert_eq!(input.len(), s.in_len(), "input length");
    assert_eq!(kernel.len(), s.kernel_len(), "kernel length");
    let mut output = vec![0.0; s.out_len()];
    taps(s, |o, i, t| {
        for k in 0..ci {
            let a = f64::from(input[i * ci + k]);
            let row = &kernel[(t * ci + k) * co..][..co];
            for (y, &w) in output[o * co..][..co].iter_mut().zip(row) {
                *y += a * f64::from(w);
            }
        }
    });
    output
}

/// Gradient of [`conv_forward`] with respect to its input.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn conv_backward_input(s: &ConvShape, grad_output: &[f32], kernel: &[f32]) -> Vec<f64> {
    let (ci, co) = (s.in_channels(), s.out_channels());
    assert_eq!(grad_output.len(), s.out_len(), "output gradient length");
    assert_eq!(kernel.len(), s.kernel_len(), "kernel length");
    let mut grad = vec![0.0; s.in_len()];
    taps(s, |o, i, t| {
        for k in 0..ci {
            let row = &kernel[(t * ci + k) * co..][..co];
            let g = &grad_output[o * co..][..co];
            grad[i * ci + k] +=
                row.iter().zip(g).map(|(&w, &g)| f64::from(w) * f64::from(g)).sum::<f64>();
        }
    });
    grad
}

/// Gradient of [`conv_forward`] with respect to its kernel.
///
/// # Panics
/// If a slice has not the length `s` gives it.
pub fn conv_backward_kernel(s: &ConvShape, input: &[f32], grad_output: &[f32]) -> Vec<f64> {
    let (ci, co) = (s.in_channels(), s.out_channels());
    assert_eq!(input.len(), s.in_len(), "input length");
    assert_eq!(grad_output.len(), s.out_len(), "output gradient length");
    let mut grad = vec![0.0; s.kernel_len()];
    taps(s, |o, i, t| {
        for k in 0..ci {
            let a = f64::from(input[i * ci + k]);
            let g = &grad_output[o * co..][..co];
            for (y, &g) in grad[(t * ci + k) * co..][..co].iter_mut().zip(g) {
                *y += a * f64::from(g);
            }
        }
    });
    grad
}
