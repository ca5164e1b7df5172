//! Partial sums of the kernel gradient, added up.

use crate::simd::vectorize;
use crate::table::Compute;

/// Adds up partial sums, which lie by chunk of the pixels, panel and row.
pub(super) fn reduce(
    compute: &Compute,
    partial: &[f32],
    [chunks, depth, columns]: [usize; 3],
    nr: usize,
    grad_kernel: &mut [f32],
) {
    let panels = columns.div_ceil(nr);
    let rows = 16384_usize.div_ceil(columns);
    compute.threads.chunks(grad_kernel, rows * columns, |part, output| {
        vectorize!(compute.isa(), {
            for (i, row) in output.chunks_exact_mut(columns).enumerate() {
                let k = part * rows + i;
                for (panel, to) in row.chunks_mut(nr).enumerate() {
                    for chunk in 0..chunks {
                        let from = &partial[((chunk * panels + panel) * depth + k) * nr..];
                        let from = &from[..to.len()];
                        if chunk == 0 {
                            to.copy_from_slice(from);
                        } else {
                            for (to, from) in to.iter_mut().zip(from) {
                                *to += from;
                            }
                        }
                    }
                }
            }
        });
    });
}
