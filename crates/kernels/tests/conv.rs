//! Every record of the kernel table against the f64 oracle, on edge shapes.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::isa::Isa;
use headstart_kernels::oracle;
use headstart_kernels::table::Compute;

mod support;
use support::{close, elements, near, noise};

fn shapes() -> Vec<ConvShape> {
    let mut list = Vec::new();
    let s = |batch, height, width, in_channels, out_channels, kernel, stride, padding| {
        let sizes =
            ConvSizes { batch, height, width, in_channels, out_channels, ..ConvSizes::default() };
        ConvShape::new(ConvSizes { kernel, stride, padding, ..sizes }).unwrap()
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
    // Winograd: many small blocks of tiles; gradients in tasks of rows and columns; several blocks, with sums kept between them.
    list.push(s(4, 25, 26, 64, 64, 3, 1, 1));
    list.push(s(2, 4, 5, 128, 256, 3, 1, 1));
    list.push(s(690, 3, 3, 64, 64, 3, 1, 1));
    // Kernel gradients of pairs of images: a last single one, partial sums, more than is packed at a time.
    list.push(s(9, 9, 8, 17, 65, 3, 2, 1));
    list.push(s(6, 40, 38, 3, 5, 3, 1, 1));
    list.push(s(10, 130, 120, 1, 1, 3, 1, 1));
    list.push(ConvShape::dense(7, 2048, 10).unwrap());
    list.push(ConvShape::dense(1, 33, 1000).unwrap());
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

fn forward<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = seed as u64;
        let (x, xv) = elements::<E>(s.in_len(), seed + 1);
        let w = noise(s.kernel_len(), seed + 2);
        let bias = noise(s.out_channels(), seed + 3);
        let (residual, rv) = elements::<E>(s.out_len(), seed + 4);
        let scale = noise(s.out_channels(), seed + 5);
        let scaled = w.iter().enumerate().map(|(i, w)| w * scale[i % s.out_channels()]);
        let scaled: Vec<f32> = scaled.map(|w| E::from_f32(w).to_f32()).collect();
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, Some(&scale), &mut packed);
        let plain = oracle::conv_forward(s, &xv, &scaled);
        let depth = s.kernel() * s.kernel() * s.in_channels();
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
                        + epilogue.bias.map_or(0.0, |b| f64::from(b[i % s.out_channels()]))
                        + epilogue.residual.map_or(0.0, |_| f64::from(rv[i]));
                    if epilogue.relu { y.max(0.0) } else { y }
                })
                .collect();
            let mut y = vec![E::from_f32(f32::NAN); s.out_len()];
            conv::forward(c, s, &x, &packed, epilogue, &mut y);
            near(&format!("{} {s:?} mode {mode}", c.isa()), &y, &want, tolerance(depth));
        }
    }
}

#[test]
fn forward_matches_the_oracle() {
    each_isa(forward::<f32>);
    each_isa(forward::<Bf16>);
}

fn backward_to_input<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = seed as u64;
        let (dy, dyv) = elements::<E>(s.out_len(), seed + 1);
        let (_, w) = elements::<E>(s.kernel_len(), seed + 2);
        let (held, hv) = elements::<E>(s.in_len(), seed + 3);
        let (mask, mv) = elements::<E>(s.in_len(), seed + 4);
        let mut packed = Packed::default();
        conv::pack_backward_input::<E>(c, s, &w, &mut packed);
        let plain = oracle::conv_backward_input(s, &dyv, &w);
        let depth = s.kernel() * s.kernel() * s.out_channels();
        for mode in 0..4 {
            let (accumulate, masked) = (mode & 1 > 0, mode & 2 > 0);
            let want: Vec<f64> = plain
                .iter()
                .enumerate()
                .map(|(i, &g)| match masked && mv[i] <= 0.0 {
                    true => 0.0,
                    false => g + if accumulate { f64::from(hv[i]) } else { 0.0 },
                })
                .collect();
            let nan = || vec![E::from_f32(f32::NAN); s.in_len()];
            let mut dx = if accumulate { held.clone() } else { nan() };
            let onto = if accumulate { Onto::Gradient } else { Onto::Nothing };
            let mask = masked.then_some(&mask[..]);
            conv::backward_input(c, s, &dy, &packed, onto, mask, &mut dx);
            near(&format!("{} {s:?} mode {mode}", c.isa()), &dx, &want, tolerance(depth));
        }
    }
}

/// Two convolutions of the same input: the second need not go where neither reaches.
fn onto_the_same_grid<E: Element>(c: &Compute) {
    for s in shapes() {
        let [a, b] = [1, 2].map(|seed| elements::<E>(s.out_len(), seed).0);
        let (mask, w) = (elements::<E>(s.in_len(), 3).0, noise(s.kernel_len(), 4));
        let mut packed = Packed::default();
        conv::pack_backward_input::<E>(c, &s, &w, &mut packed);
        for mask in [None, Some(&mask[..])] {
            let [dx, want] = [Onto::SameGrid, Onto::Gradient].map(|onto| {
                let mut dx = vec![E::from_f32(f32::NAN); s.in_len()];
                conv::backward_input(c, &s, &a, &packed, Onto::Nothing, None, &mut dx);
                conv::backward_input(c, &s, &b, &packed, onto, mask, &mut dx);
                dx
            });
            assert!(dx == want, "{} {s:?}", c.isa());
        }
    }
}

#[test]
fn a_second_gradient_leaves_the_zeros_between_strides() {
    each_isa(onto_the_same_grid::<f32>);
    each_isa(onto_the_same_grid::<Bf16>);
}

#[test]
fn backward_to_input_matches_the_oracle() {
    each_isa(backward_to_input::<f32>);
    each_isa(backward_to_input::<Bf16>);
}

fn backward_to_kernel<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = seed as u64;
        let (x, xv) = elements::<E>(s.in_len(), seed + 1);
        let (dy, dyv) = elements::<E>(s.out_len(), seed + 2);
        let mut dw = vec![f32::NAN; s.kernel_len()];
        conv::backward_kernel(c, s, &x, &dy, &mut dw);
        let want = oracle::conv_backward_kernel(s, &xv, &dyv);
        let pixels = s.batch() * s.out_height() * s.out_width();
        let what = format!("{} {s:?} {}", c.isa(), E::DTYPE.name());
        close(&what, &dw, &want, tolerance(pixels));
    }
}

#[test]
fn backward_to_kernel_matches_the_oracle() {
    each_isa(backward_to_kernel::<f32>);
    each_isa(backward_to_kernel::<Bf16>);
}

fn same_for_any_threads<E: Element>() {
    for s in shapes() {
        let (x, dy) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.out_len(), 3).0);
        let w = noise(s.kernel_len(), 2);
        let results = [1, 2, 3].map(|threads| {
            let c = Compute::new(threads).unwrap();
            let (mut p, mut q) = (Packed::default(), Packed::default());
            conv::pack_forward::<E>(&c, &s, &w, None, &mut p);
            conv::pack_backward_input::<E>(&c, &s, &w, &mut q);
            let mut y = vec![E::default(); s.out_len()];
            let mut dx = vec![E::default(); s.in_len()];
            let mut dw = vec![0.0; s.kernel_len()];
            conv::forward(&c, &s, &x, &p, Epilogue::default(), &mut y);
            conv::backward_input(&c, &s, &dy, &q, Onto::Nothing, None, &mut dx);
            conv::backward_kernel(&c, &s, &x, &dy, &mut dw);
            let bits = |v: Vec<E>| v.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>();
            [bits(y), bits(dx), dw.into_iter().map(f32::to_bits).collect()]
        });
        assert!(results[0] == results[1] && results[1] == results[2], "{s:?}");
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    same_for_any_threads::<f32>();
    same_for_any_threads::<Bf16>();
}

/// A pixel's value must not depend on where in a tile it falls.
#[test]
fn an_image_alone_has_the_bits_it_has_in_a_batch() {
    fn check<E: Element>(c: &Compute) {
        for s in shapes() {
            let s = ConvShape::new(ConvSizes { batch: 3, ..s.sizes() }).unwrap();
            let one = s.first(1);
            let (x, residual) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.out_len(), 2).0);
            let (w, bias) = (noise(s.kernel_len(), 3), noise(s.out_channels(), 4));
            let mut packed = Packed::default();
            conv::pack_forward::<E>(c, &s, &w, None, &mut packed);
            let run = |s: &ConvShape, from: usize| {
                let mut y = vec![E::default(); s.out_len()];
                let residual = Some(&residual[from * one.out_len()..][..s.out_len()]);
                let epilogue = Epilogue { bias: Some(&bias), residual, relu: true };
                let x = &x[from * one.in_len()..][..s.in_len()];
                conv::forward(c, s, x, &packed, epilogue, &mut y);
                y
            };
            let together = run(&s, 0);
            for i in 0..3 {
                let part = &together[i * one.out_len()..][..one.out_len()];
                assert!(run(&one, i) == part, "{} {s:?} image {i}", c.isa());
            }
        }
    }
    each_isa(check::<f32>);
    each_isa(check::<Bf16>);
}
