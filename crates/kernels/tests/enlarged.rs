//! Convolutions over upsampled images against the f64 oracle, which walks over the upsampled image.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::oracle;
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;

mod support;
use support::{close, each_compute, elements, noise, same_bits, unit_roundoff};

/// Factors and strides with and without a common divisor, windows of one to five pixels, padding that is no whole
/// number of pixels, edges of tiles in pixels and channels, rows longer than a block of the gradient.
fn shapes() -> Vec<ConvShape> {
    let list = [
        (2, 8, 8, 3, 64, 7, 2, 3, 7),
        (1, 5, 6, 3, 64, 7, 2, 3, 2),
        (3, 8, 8, 3, 16, 3, 1, 1, 4),
        (1, 4, 3, 3, 65, 3, 2, 0, 3),
        (2, 3, 5, 5, 20, 5, 3, 2, 6),
        (1, 2, 2, 1, 1, 1, 1, 0, 2),
        (1, 1, 1, 3, 8, 3, 1, 1, 5),
        (1, 2, 150, 3, 16, 3, 1, 1, 2),
        (20, 3, 3, 2, 70, 7, 2, 3, 5),
    ];
    list.map(
        |(batch, height, width, in_channels, out_channels, kernel, stride, padding, upsample)| {
            ConvShape::new(ConvSizes {
                batch,
                height,
                width,
                in_channels,
                out_channels,
                kernel,
                stride,
                padding,
                upsample,
            })
            .unwrap()
        },
    )
    .to_vec()
}

/// Fails unless every element is as near as rounding the summed kernels, the sums and the results allows: `size`
/// is the sum of the terms' absolute values.
fn near<E: Element>(what: &str, got: &[E], want: &[f64], size: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, ((&g, &w), &size)) in got.iter().zip(want).zip(size).enumerate() {
        let g = f64::from(g.to_f32());
        let bound = size * (2e-6 + 2.0 * unit_roundoff::<E>());
        assert!(
            (g - w).abs() <= bound,
            "{what}: element {i} is {g}, expected {w} within {bound:e}"
        );
    }
}

fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| v.abs()).collect()
}

fn forward<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = 10 * seed as u64;
        let (x, xv) = elements::<E>(s.in_len(), seed + 1);
        let (w, bias) = (noise(s.kernel_len(), seed + 2), noise(s.out_channels(), seed + 3));
        let (residual, rv) = elements::<E>(s.out_len(), seed + 4);
        let scale = noise(s.out_channels(), seed + 5);
        let scaled: Vec<f32> =
            w.iter().enumerate().map(|(i, w)| w * scale[i % s.out_channels()]).collect();
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, Some(&scale), &mut packed);
        let plain = oracle::conv_forward(s, &xv, &scaled);
        let size = oracle::conv_forward(s, &absolute(&xv), &absolute(&scaled));
        for mode in 0..8 {
            let epilogue = Epilogue {
                bias: (mode & 1 > 0).then_some(&bias[..]),
                residual: (mode & 2 > 0).then_some(&residual[..]),
                relu: mode & 4 > 0,
            };
            let added = |i: usize| {
                let bias = epilogue.bias.map_or(0.0, |b| f64::from(b[i % s.out_channels()]));
                [bias, epilogue.residual.map_or(0.0, |_| f64::from(rv[i]))]
            };
            let value = |(i, &y): (usize, &f64)| {
                let y = y + added(i).iter().sum::<f64>();
                if epilogue.relu { y.max(0.0) } else { y }
            };
            let want: Vec<f64> = plain.iter().enumerate().map(value).collect();
            let size = size.iter().enumerate();
            let size: Vec<f64> =
                size.map(|(i, &y)| y + added(i).iter().map(|v| v.abs()).sum::<f64>()).collect();
            let mut y = vec![E::from_f32(f32::NAN); s.out_len()];
            conv::forward(c, s, &x, &packed, epilogue, &mut y);
            let what = format!("{} {} {s:?} mode {mode}", c.isa(), E::DTYPE.name());
            near(&what, &y, &want, &size);
        }
    }
}

#[test]
fn forward_matches_the_oracle() {
    each_compute(forward::<f32>);
    each_compute(forward::<Bf16>);
}

fn statistics<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = 10 * seed as u64;
        let x = elements::<E>(s.in_len(), seed + 1).0;
        let (n, w) = (s.out_channels(), noise(s.kernel_len(), seed + 2));
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, s, &w, None, &mut packed);
        let mut plain = vec![E::default(); s.out_len()];
        let mut y = vec![E::from_f32(f32::NAN); s.out_len()];
        conv::forward(c, s, &x, &packed, Epilogue::default(), &mut plain);
        let (mut mean, mut variance) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        let none = Epilogue::default();
        conv::forward_statistics(c, s, &x, &packed, none, &mut y, &mut mean, &mut variance);
        assert!(y == plain, "{s:?}");
        // What is stored is what was summed, rounded.
        let rows = (y.len() / n) as f64;
        let mut sums = vec![[0.0f64; 2]; n];
        for (i, y) in y.iter().enumerate() {
            let y = f64::from(y.to_f32());
            sums[i % n][0] += y / rows;
            sums[i % n][1] += y * y / rows;
        }
        let m: Vec<f64> = sums.iter().map(|s| s[0]).collect();
        let v: Vec<f64> = sums.iter().map(|s| s[1] - s[0] * s[0]).collect();
        let most = sums.iter().fold(1.0, |most: f64, s| most.max(s[1]));
        let tolerance = (1e-5 + 2.0 * unit_roundoff::<E>()) * most;
        close(&format!("mean {s:?}"), &mean, &m, tolerance);
        close(&format!("variance {s:?}"), &variance, &v, tolerance);
    }
}

#[test]
fn statistics_are_those_of_the_output() {
    each_compute(statistics::<f32>);
    each_compute(statistics::<Bf16>);
}

fn kernel_gradient<E: Element>(c: &Compute) {
    for (seed, s) in shapes().iter().enumerate() {
        let seed = 10 * seed as u64;
        let (x, xv) = elements::<E>(s.in_len(), seed + 1);
        let (dy, dyv) = elements::<E>(s.out_len(), seed + 2);
        let mut dw = vec![f32::NAN; s.kernel_len()];
        conv::backward_kernel(c, s, &x, &dy, &mut dw);
        let want = oracle::conv_backward_kernel(s, &xv, &dyv);
        let size = oracle::conv_backward_kernel(s, &absolute(&xv), &absolute(&dyv));
        near(&format!("{} {s:?} {}", c.isa(), E::DTYPE.name()), &dw, &want, &size);
    }
}

#[test]
fn kernel_gradient_matches_the_oracle() {
    each_compute(kernel_gradient::<f32>);
    each_compute(kernel_gradient::<Bf16>);
}

fn bits<E: Element>() {
    for s in shapes() {
        let (x, dy) = (elements::<E>(s.in_len(), 1).0, elements::<E>(s.out_len(), 3).0);
        let w = noise(s.kernel_len(), 2);
        same_bits(|c| {
            let mut packed = Packed::default();
            conv::pack_forward::<E>(c, &s, &w, None, &mut packed);
            let mut y = vec![E::default(); s.out_len()];
            let n = s.out_channels();
            let (mut mean, mut variance) = (vec![0.0; n], vec![0.0; n]);
            let none = Epilogue::default();
            conv::forward_statistics(c, &s, &x, &packed, none, &mut y, &mut mean, &mut variance);
            let mut dw = vec![0.0; s.kernel_len()];
            conv::backward_kernel(c, &s, &x, &dy, &mut dw);
            y.iter().map(|y| y.to_f32()).chain(mean).chain(variance).chain(dw).collect()
        });
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    bits::<f32>();
    bits::<Bf16>();
}

#[test]
fn an_image_alone_has_the_bits_it_has_in_a_batch() {
    each_compute(|c| {
        for s in shapes() {
            let s = ConvShape::new(ConvSizes { batch: 3, ..s.sizes() }).unwrap();
            let one = s.first(1);
            let (x, w) = (noise(s.in_len(), 1), noise(s.kernel_len(), 2));
            let mut packed = Packed::default();
            conv::pack_forward::<f32>(c, &s, &w, None, &mut packed);
            let run = |s: &ConvShape, x: &[f32]| {
                let mut y = vec![0.0; s.out_len()];
                conv::forward(c, s, x, &packed, Epilogue::default(), &mut y);
                y
            };
            let together = run(&s, &x);
            for (x, y) in x.chunks_exact(one.in_len()).zip(together.chunks_exact(one.out_len())) {
                assert!(run(&one, x) == y, "{} {s:?}", c.isa());
            }
        }
    });
}

#[test]
#[should_panic(expected = "enlarged")]
fn an_enlarged_image_takes_no_gradient() {
    let (c, s) = (Compute::new(1).unwrap(), shapes()[0]);
    conv::pack_backward_input::<f32>(&c, &s, &vec![0.0; s.kernel_len()], &mut Packed::default());
}

fn pooled<E: Element>(c: &Compute) {
    for s in shapes() {
        for (size, stride, padding) in [(3, 2, 1), (2, 2, 0)] {
            if s.out_height() + 2 * padding < size || s.out_width() + 2 * padding < size {
                continue;
            }
            let (batch, channels) = (s.batch(), s.out_channels());
            let (height, width) = (s.out_height(), s.out_width());
            let sizes = PoolSizes { batch, height, width, channels, pool: size, stride, padding };
            let pool = PoolShape::new(sizes).unwrap();
            let x = elements::<E>(s.in_len(), 1).0;
            let (w, bias) = (noise(s.kernel_len(), 2), noise(s.out_channels(), 3));
            let mut packed = Packed::default();
            conv::pack_forward::<E>(c, &s, &w, None, &mut packed);
            let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
            let mut map = vec![E::default(); s.out_len()];
            conv::forward(c, &s, &x, &packed, epilogue, &mut map);
            let nan = || vec![E::from_f32(f32::NAN); pool.out_len()];
            let (mut want, mut got) = (nan(), nan());
            pool::max_pool(c, &pool, &map, None, &mut want);
            conv::forward_pooled(c, &s, &pool, &x, &packed, epilogue, &mut got);
            assert!(got == want, "{} {} {s:?} {pool:?}", c.isa(), E::DTYPE.name());
        }
    }
}

#[test]
fn pooling_on_the_way_gives_the_bits_of_pooling_afterwards() {
    each_compute(pooled::<f32>);
    each_compute(pooled::<Bf16>);
}
