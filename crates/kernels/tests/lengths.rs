//! What sizes do not allow is refused: every slice one element too short or too long, products of sizes that leave a
//! machine word, shapes whose lengths do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use headstart_kernels::buffer::Buffer;
use headstart_kernels::cholesky;
use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, DType, Element, Slice, Values};
use headstart_kernels::elementwise::{self, Affine, FrameShape, FrameSizes};
use headstart_kernels::isa::Isa;
use headstart_kernels::linear;
use headstart_kernels::loss::{self, Labels, Targets};
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::optim::{self, Adam, RmsProp, Sgd};
use headstart_kernels::oracle;
use headstart_kernels::pool::{self, Normalize, PoolShape, PoolSizes};
use headstart_kernels::resample;
use headstart_kernels::table::Compute;

/// The message of the panic that `f` ends in, if it does.
fn panic_of(f: impl FnOnce()) -> Option<String> {
    let error = catch_unwind(AssertUnwindSafe(f)).err()?;
    let text = error.downcast_ref::<&str>().map(|text| (*text).to_owned());
    Some(text.or_else(|| error.downcast_ref::<String>().cloned()).unwrap_or_default())
}

/// Hands out slices of a call, one of which is too short or too long by an element.
#[derive(Default)]
struct Slices {
    made: usize,
    wrong: Option<(usize, bool)>,
}

impl Slices {
    fn len(&mut self, len: usize) -> usize {
        self.made += 1;
        match self.wrong {
            Some((which, longer)) if which + 1 == self.made => {
                if longer {
                    len + 1
                } else {
                    len - 1
                }
            }
            _ => len,
        }
    }

    fn of<T: Clone>(&mut self, len: usize, value: T) -> Vec<T> {
        vec![value; self.len(len)]
    }
}

/// Fails unless `call` takes slices as it makes them, and panics by a check of its own if any is an element off.
#[track_caller]
fn every_length_counts(what: &str, call: impl Fn(&mut Slices)) {
    let mut plain = Slices::default();
    call(&mut plain);
    assert!(plain.made > 0, "{what}: no slices");
    for which in 0..plain.made {
        for longer in [false, true] {
            let mut slices = Slices { made: 0, wrong: Some((which, longer)) };
            let panic = panic_of(|| call(&mut slices));
            let how = if longer { "too long" } else { "too short" };
            let Some(panic) = panic else { panic!("{what}: slice {which} may be {how}") };
            for late in ["overflow", "out of range", "out of bounds", "mid > len", "divide by zero"]
            {
                assert!(
                    !panic.contains(late),
                    "{what}: slice {which} {how} is noticed late: {panic}"
                );
            }
        }
    }
}

/// One convolution of each way that is taken, with several images.
fn convolutions() -> Vec<ConvShape> {
    let sizes = ConvSizes { batch: 2, height: 5, width: 6, ..ConvSizes::default() };
    [
        // One pass; several taps, in pairs of images for bfloat16; strides that leave pixels out.
        ConvSizes { in_channels: 3, out_channels: 5, ..sizes },
        ConvSizes { in_channels: 3, out_channels: 5, kernel: 3, padding: 1, ..sizes },
        ConvSizes { in_channels: 3, out_channels: 5, stride: 2, ..sizes },
        // Strides that no window lands on: no tap reaches the input.
        ConvSizes { in_channels: 1, height: 1, width: 1, padding: 1, stride: 3, ..sizes },
        // Winograd.
        ConvSizes {
            height: 8,
            width: 8,
            in_channels: 64,
            out_channels: 64,
            kernel: 3,
            padding: 1,
            ..sizes
        },
        // Upsampled.
        ConvSizes { in_channels: 3, out_channels: 5, kernel: 3, padding: 1, upsample: 2, ..sizes },
    ]
    .map(|sizes| ConvShape::new(sizes).unwrap())
    .to_vec()
}

fn convolution<E: Element>(c: &Compute) {
    let zero = E::default();
    for s in convolutions() {
        let (n, m) = (s.out_channels(), s.in_channels());
        let what = |call: &str| format!("{call} {} {s:?}", E::DTYPE.name());
        let mut packed = Packed::default();
        conv::pack_forward::<E>(c, &s, &vec![0.0; s.kernel_len()], None, &mut packed);
        every_length_counts(&what("pack_forward"), |l| {
            let (kernel, scale) = (l.of(s.kernel_len(), 0.0), l.of(n, 0.0));
            conv::pack_forward::<E>(c, &s, &kernel, Some(&scale), &mut Packed::default());
        });
        every_length_counts(&what("forward"), |l| {
            let (x, bias, residual) =
                (l.of(s.in_len(), zero), l.of(n, 0.0), l.of(s.out_len(), zero));
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
            conv::forward(c, &s, &x, &packed, epilogue, &mut l.of(s.out_len(), zero));
        });
        every_length_counts(&what("forward_statistics"), |l| {
            let (x, mut y) = (l.of(s.in_len(), zero), l.of(s.out_len(), zero));
            let (mut mean, mut variance) = (l.of(n, 0.0), l.of(n, 0.0));
            let none = Epilogue::default();
            conv::forward_statistics(c, &s, &x, &packed, none, &mut y, &mut mean, &mut variance);
        });
        every_length_counts(&what("backward_kernel"), |l| {
            let (x, dy) = (l.of(s.in_len(), zero), l.of(s.out_len(), zero));
            conv::backward_kernel(c, &s, &x, &dy, &mut l.of(s.kernel_len(), 0.0));
        });
        if s.upsample() > 1 {
            let sizes = PoolSizes {
                batch: 2,
                height: s.out_height(),
                width: s.out_width(),
                ..PoolSizes::default()
            };
            let pool =
                PoolShape::new(PoolSizes { channels: n, pool: 3, stride: 2, padding: 1, ..sizes })
                    .unwrap();
            every_length_counts(&what("forward_pooled"), |l| {
                let (x, bias) = (l.of(s.in_len(), zero), l.of(n, 0.0));
                let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
                conv::forward_pooled(
                    c,
                    &s,
                    &pool,
                    &x,
                    &packed,
                    epilogue,
                    &mut l.of(pool.out_len(), zero),
                );
            });
            let shorter = pool.first(1);
            let mut y = vec![zero; shorter.out_len()];
            let x = vec![zero; s.in_len()];
            let none = Epilogue::default();
            let refused =
                panic_of(|| conv::forward_pooled(c, &s, &shorter, &x, &packed, none, &mut y));
            assert!(refused.is_some_and(|panic| panic.contains("what is pooled")));
            continue;
        }
        every_length_counts(&what("pack_backward_input"), |l| {
            let kernel = l.of(s.kernel_len(), 0.0);
            conv::pack_backward_input::<E>(c, &s, &kernel, &mut Packed::default());
        });
        conv::pack_backward_input::<E>(c, &s, &vec![0.0; s.kernel_len()], &mut packed);
        for onto in [Onto::Nothing, Onto::Gradient, Onto::SameGrid] {
            every_length_counts(&what("backward_input"), |l| {
                let (dy, mask) = (l.of(s.out_len(), zero), l.of(s.in_len(), zero));
                let mut dx = l.of(s.in_len(), zero);
                conv::backward_input(c, &s, &dy, &packed, onto, Some(&mask), &mut dx);
            });
            every_length_counts(&what("backward_input_norm"), |l| {
                let (dy, x, mut dx) =
                    (l.of(s.out_len(), zero), l.of(s.in_len(), zero), l.of(s.in_len(), zero));
                let (mean, variance, gamma) = (l.of(m, 0.0), l.of(m, 1.0), l.of(m, 1.0));
                let state =
                    NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 1e-3 };
                let (mut g, mut b) = (l.of(m, 0.0), l.of(m, 0.0));
                conv::backward_input_norm(
                    c, &s, &dy, &packed, onto, None, &mut dx, &x, state, &mut g, &mut b,
                );
            });
        }
    }
}

#[test]
fn convolutions_take_no_other_length() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let c = Compute::with_isa(2, isa).unwrap();
        convolution::<f32>(&c);
        convolution::<Bf16>(&c);
    }
}

#[test]
fn the_reference_takes_no_other_length() {
    let s = convolutions()[1];
    every_length_counts("oracle forward", |l| {
        oracle::conv_forward(&s, &l.of(s.in_len(), 0.0), &l.of(s.kernel_len(), 0.0));
    });
    every_length_counts("oracle input", |l| {
        oracle::conv_backward_input(&s, &l.of(s.out_len(), 0.0), &l.of(s.kernel_len(), 0.0));
    });
    every_length_counts("oracle kernel", |l| {
        oracle::conv_backward_kernel(&s, &l.of(s.in_len(), 0.0), &l.of(s.out_len(), 0.0));
    });
}

/// A packed kernel goes with the sizes, direction, instruction set and type that it was packed for.
#[test]
fn a_kernel_packed_for_something_else_is_refused() {
    let c = Compute::new(1).unwrap();
    let s = convolutions()[1];
    let kernel = vec![0.0; s.kernel_len()];
    let (x, mut y) = (vec![0.0; s.in_len()], vec![0.0; s.out_len()]);
    let mut forward = |c: &Compute, s: &ConvShape, packed: &Packed| {
        panic_of(|| conv::forward(c, s, &x, packed, Epilogue::default(), &mut y))
    };
    let mut packed = Packed::default();
    assert!(forward(&c, &s, &packed).is_some_and(|panic| panic.contains("packed for")));
    conv::pack_backward_input::<f32>(&c, &s, &kernel, &mut packed);
    assert!(forward(&c, &s, &packed).is_some_and(|panic| panic.contains("packed for")));
    conv::pack_forward::<Bf16>(&c, &s, &kernel, None, &mut packed);
    assert!(forward(&c, &s, &packed).is_some_and(|panic| panic.contains("packed for")));
    conv::pack_forward::<f32>(&c, &s, &kernel, None, &mut packed);
    assert_eq!(forward(&c, &s, &packed), None);
    let other = ConvShape::new(ConvSizes { padding: 2, kernel: 5, ..s.sizes() }).unwrap();
    assert!(forward(&c, &other, &packed).is_some_and(|panic| panic.contains("packed for")));
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available() && *isa != c.isa()) {
        let other = Compute::with_isa(1, isa).unwrap();
        assert!(forward(&other, &s, &packed).is_some_and(|panic| panic.contains("packed for")));
    }
}

fn passes<E: Element>(c: &Compute) {
    let (n, len, zero) = (3, 12, E::default());
    every_length_counts("column_sums", |l| {
        norm::column_sums(c, n, &l.of(len, zero), &mut l.of(n, 0.0));
    });
    every_length_counts("batch_norm_statistics", |l| {
        let (x, mut mean, mut variance) = (l.of(len, zero), l.of(n, 0.0), l.of(n, 0.0));
        norm::batch_norm_statistics(c, n, &x, &mut mean, &mut variance);
    });
    every_length_counts("batch_norm_apply", |l| {
        let (x, scale, shift, residual) =
            (l.of(len, zero), l.of(n, 0.0), l.of(n, 0.0), l.of(len, zero));
        let mut y = l.of(len, zero);
        norm::batch_norm_apply(c, n, &x, &scale, &shift, Some(&residual), true, &mut y);
    });
    every_length_counts("batch_norm_parameter_gradients", |l| {
        let (x, dy, mean, variance) =
            (l.of(len, zero), l.of(len, zero), l.of(n, 0.0), l.of(n, 1.0));
        let (gamma, mut g, mut b) = (l.of(n, 1.0), l.of(n, 0.0), l.of(n, 0.0));
        let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 1e-3 };
        norm::batch_norm_parameter_gradients(c, n, &x, &dy, state, &mut g, &mut b);
    });
    every_length_counts("batch_norm_input_gradient", |l| {
        let (x, dy, mean, variance) =
            (l.of(len, zero), l.of(len, zero), l.of(n, 0.0), l.of(n, 1.0));
        let (gamma, g, b, mut dx) = (l.of(n, 1.0), l.of(n, 0.0), l.of(n, 0.0), l.of(len, zero));
        let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 1e-3 };
        norm::batch_norm_input_gradient(c, n, &x, state, &g, &b, Some(&dy), &mut dx);
    });
    every_length_counts("batch_norm_frozen_input_gradient", |l| {
        let (dy, mean, variance) = (l.of(len, zero), l.of(n, 0.0), l.of(n, 1.0));
        let (gamma, mut dx) = (l.of(n, 1.0), l.of(len, zero));
        let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 1e-3 };
        norm::batch_norm_frozen_input_gradient(c, n, state, Some(&dy), &mut dx);
    });
    let sizes = PoolSizes { batch: 2, height: 5, width: 4, channels: 3, ..PoolSizes::default() };
    let s = PoolShape::new(PoolSizes { pool: 3, stride: 2, padding: 1, ..sizes }).unwrap();
    every_length_counts("max_pool", |l| {
        let (x, scale, shift) = (l.of(s.in_len(), zero), l.of(3, 0.0), l.of(3, 0.0));
        let normalize = Normalize { scale: &scale, shift: &shift, relu: true };
        pool::max_pool(c, &s, &x, Some(normalize), &mut l.of(s.out_len(), zero));
    });
    every_length_counts("max_pool_backward", |l| {
        let (x, dy) = (l.of(s.in_len(), zero), l.of(s.out_len(), zero));
        let (scale, shift) = (l.of(3, 0.0), l.of(3, 0.0));
        let normalize = Normalize { scale: &scale, shift: &shift, relu: true };
        pool::max_pool_backward(c, &s, &x, Some(normalize), &dy, true, &mut l.of(s.in_len(), zero));
    });
    every_length_counts("global_average_pool", |l| {
        pool::global_average_pool(c, 4, 3, &l.of(24, zero), &mut l.of(6, 0.0));
    });
    every_length_counts("global_average_pool_backward", |l| {
        pool::global_average_pool_backward(c, 4, 3, &l.of(6, 0.0), &mut l.of(24, zero));
    });
    every_length_counts("relu", |l| elementwise::relu(c, &l.of(len, zero), &mut l.of(len, zero)));
    every_length_counts("relu_backward", |l| {
        elementwise::relu_backward(c, &l.of(len, zero), &mut l.of(len, zero));
    });
    every_length_counts("add", |l| {
        let (a, b) = (l.of(len, zero), l.of(len, zero));
        elementwise::add(c, &a, &b, true, &mut l.of(len, zero));
    });
    every_length_counts("accumulate", |l| {
        elementwise::accumulate(c, &l.of(len, zero), &mut l.of(len, zero))
    });
    every_length_counts("copy", |l| elementwise::copy(c, &l.of(len, zero), &mut l.of(len, zero)));
    every_length_counts("dropout", |l| {
        elementwise::dropout(c, 0.5, 1, &l.of(len, zero), &mut l.of(len, zero));
    });
    let sizes = FrameSizes { batch: 2, height: 2, width: 4, channels: 3, factor: 2, padding: 1 };
    let s = FrameShape::new(sizes).unwrap();
    let affine = Affine { source: [2, 1, 0], scale: [1.0; 3], offset: [0.0; 3] };
    every_length_counts("frame", |l| {
        let x = l.of(s.in_len(), zero);
        elementwise::frame(c, &s, Some(&affine), &x, &mut l.of(s.out_len(), zero));
    });
    every_length_counts("frame_backward", |l| {
        elementwise::frame_backward(c, &s, &l.of(s.out_len(), zero), &mut l.of(s.in_len(), zero));
    });
}

#[test]
fn passes_take_no_other_length() {
    let c = Compute::new(2).unwrap();
    passes::<f32>(&c);
    passes::<Bf16>(&c);
    every_length_counts("batch_norm_fold", |l| {
        let (gamma, beta, mean, variance) =
            (l.of(3, 0.0), l.of(3, 0.0), l.of(3, 0.0), l.of(3, 0.0));
        let (mut scale, mut shift) = (l.of(3, 0.0), l.of(3, 0.0));
        norm::batch_norm_fold(&gamma, &beta, &mean, &variance, 1e-3, &mut scale, &mut shift);
    });
    every_length_counts("batch_norm_moving", |l| {
        norm::batch_norm_moving(&l.of(3, 0.0), 0.5, &mut l.of(3, 0.0));
    });
}

#[test]
fn losses_optimizers_and_solvers_take_no_other_length() {
    let c = &Compute::new(2).unwrap();
    let (classes, rows) = (3, 4);
    every_length_counts("softmax", |l| {
        loss::softmax(c, classes, &l.of(12, 0.0), &mut l.of(12, 0.0));
    });
    every_length_counts("cross_entropy", |l| {
        loss::cross_entropy(classes, &l.of(12, 0.5), &l.of(rows, 0));
    });
    every_length_counts("cross_entropy_gradient", |l| {
        let (p, labels) = (l.of(12, 0.5), l.of(rows, 0));
        loss::cross_entropy_gradient(classes, &p, &labels, &mut l.of(12, 0.0));
    });
    for smoothing in [0.0, 0.1] {
        every_length_counts("Targets::loss", |l| {
            let targets = Targets { weights: l.of(classes, 1.0), smoothing };
            let (p, first, second) = (l.of(12, 0.5), l.of(rows, 0), l.of(rows, 1));
            targets.loss(classes, &p, Labels { first: &first, second: Some((&second, 0.5)) });
        });
        every_length_counts("Targets::gradient", |l| {
            let targets = Targets { weights: l.of(classes, 1.0), smoothing };
            let (p, first, second) = (l.of(12, 0.5), l.of(rows, 0), l.of(rows, 1));
            let labels = Labels { first: &first, second: Some((&second, 0.5)) };
            targets.gradient(classes, &p, labels, &mut l.of(12, 0.0));
        });
    }
    every_length_counts("rmsprop", |l| {
        let s = RmsProp { learning_rate: 0.1, rho: 0.9, epsilon: 1e-7 };
        optim::rmsprop(c, s, &mut l.of(5, 0.0), &l.of(5, 0.0), &mut l.of(5, 0.0));
    });
    every_length_counts("sgd", |l| {
        let s = Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: true };
        optim::sgd(c, s, &mut l.of(5, 0.0), &l.of(5, 0.0), &mut l.of(5, 0.0));
    });
    every_length_counts("adam", |l| {
        let s = Adam { learning_rate: 0.1, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, step: 1 };
        let (mut w, g, mut m) = (l.of(5, 0.0), l.of(5, 0.0), l.of(5, 0.0));
        optim::adam(c, s, &mut w, &g, &mut m, &mut l.of(5, 0.0));
    });
    every_length_counts("dense", |l| {
        let (x, kernel) = (l.of(8, 0.0), l.of(12, 0.0));
        linear::dense(c, &x, &kernel, &[0.0; 3], &mut l.of(6, 0.0));
    });
    every_length_counts("dense_kernel_gradient", |l| {
        let (x, d) = (l.of(8, 0.0), l.of(6, 0.0));
        linear::dense_kernel_gradient(c, &x, &d, 3, &mut l.of(12, 0.0));
    });
    every_length_counts("dense_kernel_gradient_part", |l| {
        let (x, d) = (l.of(8, 0.0), l.of(6, 0.0));
        linear::dense_kernel_gradient_part(c, (&x, 4), &d, 3, 2, &mut l.of(6, 0.0));
    });
    every_length_counts("symmetric_products_part", |l| {
        let (x, d) = (l.of(8, 0.0), l.of(8, 0.0));
        linear::symmetric_products_part(c, &x, &d, 4, 2, &mut l.of(8, 0.0));
    });
    every_length_counts("symmetric_products", |l| {
        let (x, d) = (l.of(8, 0.0), l.of(8, 0.0));
        linear::symmetric_products(c, &x, &d, 4, &mut l.of(16, 0.0));
    });
    every_length_counts("cholesky", |l| {
        let _ = cholesky::cholesky(c, 2, &mut l.of(4, 1.0));
    });
    every_length_counts("inverse_lower", |l| {
        cholesky::inverse_lower(c, 2, &l.of(4, 1.0));
    });
    for solve in
        [cholesky::solve_lower, cholesky::solve_lower_transposed, cholesky::times_lower_transposed]
    {
        every_length_counts("triangular systems", |l| {
            let factor = l.of(4, 1.0);
            solve(2, &factor, 3, &mut l.of(6, 1.0));
        });
    }
}

#[test]
fn resizing_takes_no_other_length_and_no_span_outside() {
    let (isa, spans) = (Isa::best(), [(0, 2), (1, 3), (1, 5)]);
    let weights = [1; 5];
    every_length_counts("horizontal", |l| {
        let source = l.of(2 * 3 * 3, 0);
        resample::horizontal(isa, &source, 3, &spans, &weights, &mut l.of(2 * 3 * 3, 0));
    });
    every_length_counts("vertical", |l| {
        let source = l.of(3 * 6, 0);
        resample::vertical(isa, &source, 6, &spans, &weights, &mut l.of(3 * 6, 0));
    });
    // Past the positions, past the weights, backwards, and where the first byte's number wraps.
    for wrong in [
        [(0, 2), (1, 3), (2, 5)],
        [(0, 2), (1, 3), (1, 6)],
        [(0, 2), (1, 1), (1, 5)],
        [(0, 2), (usize::MAX / 2 + 1, 2), (1, 5)],
    ] {
        let mut out = [0; 18];
        let of =
            |call: &mut dyn FnMut()| panic_of(call).is_some_and(|panic| panic.contains("span"));
        assert!(
            of(&mut || resample::horizontal(isa, &[0; 18], 3, &wrong, &weights, &mut out)),
            "{wrong:?}"
        );
        assert!(
            of(&mut || resample::vertical(isa, &[0; 18], 6, &wrong, &weights, &mut out)),
            "{wrong:?}"
        );
    }
}

/// Sizes whose product is 2^64 times something are not those of an empty slice.
#[test]
fn products_that_wrap_are_no_lengths() {
    let c = &Compute::new(1).unwrap();
    let half = 1usize << (usize::BITS / 2);
    let refuses = |what: &str, call: &mut dyn FnMut()| {
        let panic = panic_of(call).unwrap_or_else(|| panic!("{what}: taken"));
        let wrapped = ["overflow", "out of", "chunk size"].iter().any(|late| panic.contains(late));
        assert!(!wrapped, "{what}: {panic}");
    };
    refuses("cross_entropy", &mut || {
        loss::cross_entropy(usize::MAX / 4 + 1, &[], &[0; 4]);
    });
    refuses("cross_entropy_gradient", &mut || {
        loss::cross_entropy_gradient(usize::MAX / 4 + 1, &[], &[0; 4], &mut []);
    });
    refuses("Targets::loss", &mut || {
        Targets { smoothing: 0.1, ..Targets::default() }.loss(usize::MAX / 4 + 1, &[], &[0; 4]);
    });
    refuses("no classes", &mut || {
        loss::cross_entropy(0, &[], &[]);
    });
    refuses("global_average_pool", &mut || {
        pool::global_average_pool::<f32>(c, usize::MAX / 4 + 1, 4, &[], &mut [0.0; 4]);
    });
    refuses("global_average_pool_backward", &mut || {
        pool::global_average_pool_backward::<f32>(c, usize::MAX / 4 + 1, 4, &[0.0; 4], &mut []);
    });
    refuses("symmetric_products", &mut || {
        linear::symmetric_products(c, &[], &[], half, &mut []);
    });
    refuses("dense_kernel_gradient_part", &mut || {
        linear::dense_kernel_gradient_part(c, (&[0.0; 4], 4), &[0.0], 1, usize::MAX, &mut [0.0]);
    });
    refuses("cholesky", &mut || {
        let _ = cholesky::cholesky(c, half, &mut []);
    });
    refuses("inverse_lower", &mut || {
        cholesky::inverse_lower(c, half, &[]);
    });
    refuses("solve_lower", &mut || cholesky::solve_lower(half, &[], half, &mut []));
    refuses("horizontal", &mut || {
        resample::horizontal(
            Isa::best(),
            &[0; 3],
            usize::MAX / 3 + 1,
            &[(0, 1)],
            &[1],
            &mut [0; 3],
        );
    });
    refuses("vertical", &mut || {
        resample::vertical(Isa::best(), &[], usize::MAX / 8 + 1, &[(0, 0); 8], &[], &mut []);
    });
    let values = Values::F32(vec![1.0; 12]);
    refuses("rows", &mut || {
        values.gather(4, &[usize::MAX / 4 + 1], &mut Values::with_capacity(DType::F32, 0));
    });
    refuses("a buffer", &mut || drop(Buffer::zeros(usize::MAX - 3)));
    refuses("a buffer", &mut || drop(Buffer::zeros(usize::MAX / 4)));
}

/// An empty batch is computed: nothing is read or written, and gradients of kernels are zero.
#[test]
fn an_empty_batch_is_no_work() {
    fn run<E: Element>(c: &Compute) {
        for s in convolutions() {
            let s = s.first(0);
            let kernel = vec![1.0; s.kernel_len()];
            let mut packed = Packed::default();
            conv::pack_forward::<E>(c, &s, &kernel, None, &mut packed);
            conv::forward::<E>(c, &s, &[], &packed, Epilogue::default(), &mut []);
            let mut gradient = vec![f32::NAN; s.kernel_len()];
            conv::backward_kernel::<E>(c, &s, &[], &[], &mut gradient);
            assert!(gradient.iter().all(|&g| g == 0.0), "{s:?}");
            if s.upsample() == 1 {
                conv::pack_backward_input::<E>(c, &s, &kernel, &mut packed);
                conv::backward_input::<E>(c, &s, &[], &packed, Onto::Nothing, None, &mut []);
            }
        }
        let sizes =
            PoolSizes { batch: 0, height: 5, width: 4, channels: 3, ..PoolSizes::default() };
        let s = PoolShape::new(PoolSizes { pool: 3, stride: 2, padding: 1, ..sizes }).unwrap();
        pool::max_pool::<E>(c, &s, &[], None, &mut []);
        pool::max_pool_backward::<E>(c, &s, &[], None, &[], true, &mut []);
        let sizes = FrameSizes { batch: 0, factor: 2, padding: 1, ..FrameSizes::default() };
        let s = FrameShape::new(sizes).unwrap();
        elementwise::frame::<E, E>(c, &s, None, &[], &mut []);
        elementwise::frame_backward::<E>(c, &s, &[], &mut []);
    }
    let c = Compute::new(2).unwrap();
    run::<f32>(&c);
    run::<Bf16>(&c);
    let mut y = [0.0; 4];
    linear::dense(&c, &[], &[], &[1.0, 2.0], &mut y);
    assert_eq!(y, [1.0, 2.0, 1.0, 2.0], "a layer without inputs is its bias");
    let mut rows = Values::with_capacity(DType::Bf16, 0);
    Values::F32(vec![1.0, 2.0, 3.0, 4.0]).gather(2, &[1, 0], &mut rows);
    assert_eq!(rows.as_slice(), Slice::F32(&[3.0, 4.0, 1.0, 2.0]));
}
