//! Speed of ResNet-50's convolutions, as a fraction of the measured multiply-add peak: `layers [batch]`. With `HEADSTART_COLD=1`
//! what they read is out of cache before each run, as in a training step. "fused" is the input's gradient as a block's
//! output takes it: added to another, masked by a ReLU, with the sums that the batch norm before it needs.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::norm::NormState;
use headstart_kernels::table::Compute;
use std::time::Instant;

fn median(c: &Compute, mut run: impl FnMut()) -> f64 {
    run();
    let cold = std::env::var_os("HEADSTART_COLD").is_some();
    let mut others = vec![0u64; if cold { 16 << 20 } else { 0 }];
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            c.threads.chunks(&mut others, 1 << 16, |_, part| part.iter_mut().for_each(|x| *x += 1));
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    let c = Compute::new(0).expect("threads");
    layers::<f32>(&c);
    layers::<Bf16>(&c);
}

fn layers<E: Element>(c: &Compute) {
    let peak = c.measure_peak(E::DTYPE, 0.5);
    let (isa, threads, dtype) = (c.isa(), c.threads.count(), E::DTYPE.name());
    println!("{isa} on {threads} threads, {dtype}, peak {:.0} GFLOP/s", peak / 1e9);
    let batch = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(20);
    for (size, ci, co, kernel, stride) in [
        (230, 3, 64, 7, 2),
        (56, 64, 64, 1, 1),
        (56, 64, 64, 3, 1),
        (56, 64, 256, 1, 1),
        (56, 256, 64, 1, 1),
        (56, 256, 128, 1, 2),
        (28, 128, 128, 3, 1),
        (28, 128, 512, 1, 1),
        (28, 512, 128, 1, 1),
        (14, 256, 256, 3, 1),
        (14, 256, 1024, 1, 1),
        (14, 1024, 256, 1, 1),
        (7, 512, 512, 3, 1),
        (7, 512, 2048, 1, 1),
        (7, 2048, 512, 1, 1),
    ] {
        let padding = if kernel == 3 { 1 } else { 0 };
        let s = ConvShape::new(ConvSizes {
            batch,
            height: size,
            width: size,
            in_channels: ci,
            out_channels: co,
            kernel,
            stride,
            padding,
            upsample: 1,
        })
        .expect("sizes");
        let x = vec![E::from_f32(0.5); s.in_len()];
        let w = vec![0.25f32; s.kernel_len()];
        let mut y = vec![E::default(); s.out_len()];
        let mut dx = vec![E::default(); s.in_len()];
        let mut dw = vec![0.0; s.kernel_len()];
        let (mut p, mut q) = (Packed::default(), Packed::default());
        conv::pack_forward::<E>(c, &s, &w, None, &mut p);
        conv::pack_backward_input::<E>(c, &s, &w, &mut q);
        let f = median(c, || conv::forward(c, &s, &x, &p, Epilogue::default(), &mut y));
        let b = median(c, || conv::backward_input(c, &s, &y, &q, Onto::Nothing, None, &mut dx));
        let (ones, x2) = (vec![1.0f32; ci], x.clone());
        let state = NormState { mean: &ones, variance: &ones, gamma: &ones, epsilon: 1e-3 };
        let (mut dgamma, mut dbeta) = (ones.clone(), ones.clone());
        let n = median(c, || {
            let (mask, sums) = (Some(&x[..]), (&mut dgamma, &mut dbeta));
            let dx = &mut dx;
            conv::backward_input_norm(
                c,
                &s,
                &y,
                &q,
                Onto::Gradient,
                mask,
                dx,
                &x2,
                state,
                sums.0,
                sums.1,
            );
        });
        let k = median(c, || conv::backward_kernel(c, &s, &x, &y, &mut dw));
        let pf = median(c, || conv::pack_forward::<E>(c, &s, &w, None, &mut p));
        let pb = median(c, || conv::pack_backward_input::<E>(c, &s, &w, &mut q));
        let share = |t: f64| s.flops() as f64 / t / peak * 100.0;
        print!("{size:>4} {ci:>5} {co:>5} {kernel}x{kernel}/{stride}");
        let (f1, b1, n1, k1) = (share(f), share(b), share(n), share(k));
        print!("  forward {f1:5.1}%  input {b1:5.1}%  fused {n1:5.1}%  kernel {k1:5.1}%");
        println!("  packing {:4.1}% and {:4.1}% of it", pf / f * 100.0, pb / b * 100.0);
    }
}
