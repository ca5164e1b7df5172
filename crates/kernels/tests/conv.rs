//! Every record of the kernel table against the f64 oracle, on edge shapes.

use headstart_kernels::conv::{self, ConvShape, Epilogue, Packed};
use headstart_kernels::isa::Isa;
use headstart_kernels::oracle;
use headstart_kernels::table::Compute;

mod support;
use support::{close, noise};

fn shapes() -> Vec<ConvShape> {
    let mut list = Vec::new();
    let s = |batch, height, width, in_channels, out_channels, kernel, stride, padding| ConvShape {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
    };
    for channels in [(1, 1), (3, 5), (16, 64), (17, 65), (64, 130), (7, 32)] {
        for geometry in
            [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 2, 0), (5, 3, 2), (7, 2, 0)]
        {
            list.push(s(2, 9, 8, channels.0, channels.1, geometry.0, geometry.1, geometry.2));
            list.push(s(1, 7, 7, channels.0, channels.1, geometry.0, geometry.1, geometry.2));
        }
    }
    list.push(s(1, 1, 1, 4, 4, 1, 1, 0));
    list.push(s(3, 1, 5, 4, 70, 3, 1, 1));
    list.push(s(1, 2, 2, 600, 64, 3, 1, 1));
    list.push(s(2, 6, 7, 1100, 64, 1, 1, 0));
    list.push(s(1, 40, 56, 8, 64, 3, 1, 1));
    list.push(s(5, 30, 31, 64, 20, 1, 2, 0));
    list.push(s(1, 9, 8, 40, 16, 3, 1, 1));
    list.extend([(4, 4), (7, 7), (8, 11), (14, 12)].map(|(h, w)| s(2, h, w, 64, 128, 3, 1, 1)));
    list.push(s(1, 3, 3, 1088, 64, 3, 1, 1));
    list.push(s(40, 7, 8, 64, 64, 3, 1, 1));
    list.push(ConvShape::dense(7, 2048, 10));
    list.push(ConvShape::dense(1, 33, 1000));
    list
}

/// Largest error of a sum of `depth` products of values in -1..1 in f32, in any order.
fn tolerance(depth: usize) -> f64 {
    (depth as f64 + 4.0) * f64::from(f32::EPSILON) * (depth as f64).sqrt().max(1.0)
}

fn each_isa(test: impl Fn(&Compute)) {
    let mut ran = 0;
    for isa in Isa::ALL {
        if !isa.available() {
            println!("skipped: this CPU does not run {isa}");
            continue;
        }
        test(&Compute::with_isa(2, isa).unwrap());
        ran += 1;
    }
    assert!(ran > 0, "no instruction set was tested");
}

#[test]
fn forward_matches_the_oracle() {
    each_isa(|c| {
        for (seed, s) in shapes().iter().enumerate() {
            let seed = seed as u64;
            let (x, w) = (noise(s.in_len(), seed + 1), noise(s.kernel_len(), seed + 2));
            let (bias, residual) = (noise(s.out_channels, seed + 3), noise(s.out_len(), seed + 4));
            let scale = noise(s.out_channels, seed + 5);
            let scaled: Vec<f32> =
                w.iter().enumerate().map(|(i, w)| w * scale[i % s.out_channels]).collect();
            let mut packed = Packed::default();
            conv::pack_forward(c, s, &w, Some(&scale), &mut packed);
            let plain = oracle::conv_forward(s, &x, &scaled);
            let depth = s.kernel * s.kernel * s.in_channels;
            for mode in 0..8 {
                let epilogue = Epilogue {
                    bias: (mode & 1 > 0).then_some(&bias[..]),
                    residual: (mode & 2 > 0).then_some(&residual[..]),
                    relu: mode & 4 > 0,
                };
                let want: Vec<f64> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, &y)| {
                        let y = y
                            + epilogue.bias.map_or(0.0, |b| f64::from(b[i % s.out_channels]))
                            + epilogue.residual.map_or(0.0, |r| f64::from(r[i]));
                        if epilogue.relu { y.max(0.0) } else { y }
                    })
                    .collect();
                let mut y = vec![f32::NAN; s.out_len()];
                conv::forward(c, s, &x, &packed, epilogue, &mut y);
                close(&format!("{} {s:?} mode {mode}", c.isa()), &y, &want, tolerance(depth));
            }
        }
    });
}

#[test]
fn backward_to_input_matches_the_oracle() {
    each_isa(|c| {
        for (seed, s) in shapes().iter().enumerate() {
            let seed = seed as u64;
            let (dy, w) = (noise(s.out_len(), seed + 1), noise(s.kernel_len(), seed + 2));
            let (held, mask) = (noise(s.in_len(), seed + 3), noise(s.in_len(), seed + 4));
            let mut packed = Packed::default();
            conv::pack_backward_input(c, s, &w, &mut packed);
            let plain = oracle::conv_backward_input(s, &dy, &w);
            let depth = s.kernel * s.kernel * s.out_channels;
            for mode in 0..4 {
                let (accumulate, masked) = (mode & 1 > 0, mode & 2 > 0);
                let want: Vec<f64> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, &g)| match masked && mask[i] <= 0.0 {
                        true => 0.0,
                        false => g + if accumulate { f64::from(held[i]) } else { 0.0 },
                    })
                    .collect();
                let mut dx = if accumulate { held.clone() } else { vec![f32::NAN; s.in_len()] };
                let mask = masked.then_some(&mask[..]);
                conv::backward_input(c, s, &dy, &packed, accumulate, mask, &mut dx);
                close(&format!("{} {s:?} mode {mode}", c.isa()), &dx, &want, tolerance(depth));
            }
        }
    });
}

#[test]
fn backward_to_kernel_matches_the_oracle() {
    each_isa(|c| {
        for (seed, s) in shapes().iter().enumerate() {
            let seed = seed as u64;
            let (x, dy) = (noise(s.in_len(), seed + 1), noise(s.out_len(), seed + 2));
            let mut dw = vec![f32::NAN; s.kernel_len()];
            conv::backward_kernel(c, s, &x, &dy, &mut dw);
            let want = oracle::conv_backward_kernel(s, &x, &dy);
            let pixels = s.batch * s.out_height() * s.out_width();
            close(&format!("{} {s:?}", c.isa()), &dw, &want, tolerance(pixels));
        }
    });
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for s in shapes() {
        let (x, w, dy) = (noise(s.in_len(), 1), noise(s.kernel_len(), 2), noise(s.out_len(), 3));
        let results = [1, 2, 3].map(|threads| {
            let c = Compute::new(threads).unwrap();
            let (mut p, mut q) = (Packed::default(), Packed::default());
            conv::pack_forward(&c, &s, &w, None, &mut p);
            conv::pack_backward_input(&c, &s, &w, &mut q);
            let mut y = vec![0.0; s.out_len()];
            let mut dx = vec![0.0; s.in_len()];
            let mut dw = vec![0.0; s.kernel_len()];
            conv::forward(&c, &s, &x, &p, Epilogue::default(), &mut y);
            conv::backward_input(&c, &s, &dy, &q, false, None, &mut dx);
            conv::backward_kernel(&c, &s, &x, &dy, &mut dw);
            [y, dx, dw].map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        });
        assert!(results[0] == results[1] && results[1] == results[2], "{s:?}");
    }
}
