//! Each kernel alone, in both types: `cargo bench -p headstart-kernels [-- FILTER]`.
//!
//! Convolutions report multiply-adds a second (compare with `headstart bench`, which measures the peak),
//! packing bytes of kernel, passes over memory bytes.

// `criterion_group!` makes a public function without documentation.
#![allow(missing_docs)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::linear;
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::{elementwise, table::Compute};

/// Size, channels in and out, kernel, stride: one of each kind in ResNet-50.
const LAYERS: [(usize, usize, usize, usize, usize); 6] = [
    (230, 3, 64, 7, 2),
    (56, 64, 64, 3, 1),
    (56, 64, 256, 1, 1),
    (28, 512, 128, 1, 1),
    (14, 256, 256, 3, 1),
    (7, 512, 2048, 1, 1),
];

fn convolutions<E: Element>(criterion: &mut Criterion) {
    let c = Compute::new(0).expect("threads");
    for (size, in_channels, out_channels, kernel, stride) in LAYERS {
        let s = ConvShape::new(ConvSizes {
            batch: 20,
            height: size,
            width: size,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding: if kernel == 3 { 1 } else { 0 },
            upsample: 1,
        })
        .expect("sizes");
        let name = format!(
            "{} {size} {in_channels}-{out_channels} {kernel}x{kernel}/{stride}",
            E::DTYPE.name()
        );
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Bytes(4 * s.kernel_len() as u64));
        let (x, w) = (vec![E::from_f32(0.5); s.in_len()], vec![0.25; s.kernel_len()]);
        let (mut y, mut dx) = (vec![E::default(); s.out_len()], vec![E::default(); s.in_len()]);
        let mut dw = vec![0.0; s.kernel_len()];
        let (mut p, mut q) = (Packed::default(), Packed::default());
        group.bench_function("pack", |b| {
            b.iter(|| conv::pack_forward::<E>(&c, &s, &w, None, &mut p));
        });
        group.bench_function("pack for the input's gradient", |b| {
            b.iter(|| conv::pack_backward_input::<E>(&c, &s, &w, &mut q));
        });
        group.throughput(Throughput::Elements(s.flops() / 2));
        group.bench_function("forward", |b| {
            b.iter(|| conv::forward(&c, &s, &x, &p, Epilogue::default(), &mut y));
        });
        group.bench_function("gradient of the input", |b| {
            b.iter(|| conv::backward_input(&c, &s, &y, &q, Onto::Nothing, None, &mut dx));
        });
        group.bench_function("gradient of the kernel", |b| {
            b.iter(|| conv::backward_kernel(&c, &s, &x, &y, &mut dw));
        });
        group.finish();
    }
}

/// The stem over images upsampled seven times, alone and with the pooling after it.
fn enlarged<E: Element>(criterion: &mut Criterion) {
    let c = Compute::new(0).expect("threads");
    let s = ConvShape::new(ConvSizes {
        batch: 20,
        height: 32,
        width: 32,
        in_channels: 3,
        out_channels: 64,
        kernel: 7,
        stride: 2,
        padding: 3,
        upsample: 7,
    })
    .expect("sizes");
    let pool = PoolShape::new(PoolSizes {
        batch: s.batch(),
        height: s.out_height(),
        width: s.out_width(),
        channels: s.out_channels(),
        pool: 3,
        stride: 2,
        padding: 1,
    })
    .expect("sizes");
    let mut group = criterion.benchmark_group(format!("{} stem x7", E::DTYPE.name()));
    group.sample_size(10).throughput(Throughput::Elements(s.flops() / 2));
    let (x, w) = (vec![E::from_f32(0.5); s.in_len()], vec![0.25; s.kernel_len()]);
    let (mut y, mut dw) = (vec![E::default(); s.out_len()], vec![0.0; s.kernel_len()]);
    let (mut small, mut p) = (vec![E::default(); pool.out_len()], Packed::default());
    group.bench_function("pack", |b| {
        b.iter(|| conv::pack_forward::<E>(&c, &s, &w, None, &mut p));
    });
    group.bench_function("forward", |b| {
        b.iter(|| conv::forward(&c, &s, &x, &p, Epilogue::default(), &mut y));
    });
    group.bench_function("forward and max pool", |b| {
        let none = Epilogue::default;
        b.iter(|| conv::forward_pooled(&c, &s, &pool, &x, &p, none(), &mut small));
    });
    group.bench_function("gradient of the kernel", |b| {
        b.iter(|| conv::backward_kernel(&c, &s, &x, &y, &mut dw));
    });
    group.finish();
}

/// Bytes of `tensors` tensors of `len` elements.
fn bytes<E: Element>(group: &mut BenchmarkGroup<'_, WallTime>, len: usize, tensors: usize) {
    group.throughput(Throughput::Bytes((len * tensors * E::DTYPE.bytes()) as u64));
}

fn passes<E: Element>(criterion: &mut Criterion) {
    let c = Compute::new(0).expect("threads");
    let (channels, len) = (256, 20 * 56 * 56 * 256);
    let mut group = criterion.benchmark_group(format!("{} 56x56x256", E::DTYPE.name()));
    group.sample_size(10);
    let (x, r) = (vec![E::from_f32(0.5); len], vec![E::from_f32(-0.25); len]);
    let (mut y, mut dy) = (vec![E::default(); len], vec![E::from_f32(0.1); len]);
    let (mut a, mut b) = (vec![0.5; channels], vec![0.5; channels]);
    bytes::<E>(&mut group, len, 1);
    group.bench_function("batch norm: statistics", |bench| {
        bench.iter(|| norm::batch_norm_statistics(&c, channels, &x, &mut a, &mut b));
    });
    bytes::<E>(&mut group, len, 3);
    group.bench_function("batch norm: apply, add, relu", |bench| {
        bench.iter(|| norm::batch_norm_apply(&c, channels, &x, &a, &b, Some(&r), true, &mut y));
    });
    let ones = vec![1.0; channels];
    let state = NormState { mean: &ones, variance: &ones, gamma: &ones, epsilon: 1e-3 };
    bytes::<E>(&mut group, len, 2);
    group.bench_function("batch norm: gradients of parameters", |bench| {
        bench.iter(|| {
            norm::batch_norm_parameter_gradients(&c, channels, &x, &r, state, &mut a, &mut b);
        });
    });
    bytes::<E>(&mut group, len, 3);
    group.bench_function("batch norm: gradient of the input", |bench| {
        bench.iter(|| {
            norm::batch_norm_input_gradient(&c, channels, &x, state, &a, &b, None, &mut dy)
        });
    });
    group.bench_function("accumulate", |bench| {
        bench.iter(|| elementwise::accumulate(&c, &x, &mut y));
    });
    let s = PoolShape::new(PoolSizes {
        batch: 20,
        height: 112,
        width: 112,
        channels: 64,
        pool: 3,
        stride: 2,
        padding: 1,
    })
    .expect("sizes");
    let (mut p, dp) = (vec![E::default(); s.out_len()], vec![E::from_f32(0.1); s.out_len()]);
    let mut dx = vec![E::default(); s.in_len()];
    bytes::<E>(&mut group, s.in_len() + s.out_len(), 1);
    group.bench_function("max pool 112x112x64", |bench| {
        bench.iter(|| pool::max_pool(&c, &s, &x[..s.in_len()], None, &mut p));
    });
    bytes::<E>(&mut group, 2 * s.in_len() + s.out_len(), 1);
    group.bench_function("max pool gradient 112x112x64", |bench| {
        bench.iter(|| pool::max_pool_backward(&c, &s, &x[..s.in_len()], None, &dp, true, &mut dx));
    });
    group.finish();
}

/// The dense layer in f64 over cached features of ResNet-50, ten classes.
fn linear(criterion: &mut Criterion) {
    let c = Compute::new(0).expect("threads");
    let (rows, width, columns) = (512, 2048, 10);
    let mut group = criterion.benchmark_group("f64 dense 512 x 2048-10");
    group.sample_size(10).throughput(Throughput::Elements((rows * width * columns) as u64));
    let (x, kernel) = (vec![0.5; rows * width], vec![0.25; width * columns]);
    let (bias, mut y) = (vec![0.0; columns], vec![0.0; rows * columns]);
    group.bench_function("forward", |b| {
        b.iter(|| linear::dense(&c, &x, &kernel, &bias, &mut y));
    });
    let mut gradient = vec![0.0; width * columns];
    group.bench_function("gradient of the kernel", |b| {
        b.iter(|| linear::dense_kernel_gradient(&c, &x, &y, columns, &mut gradient));
    });
    group.finish();
}

criterion_group!(
    benches,
    convolutions::<f32>,
    convolutions::<Bf16>,
    enlarged::<f32>,
    enlarged::<Bf16>,
    passes::<f32>,
    passes::<Bf16>,
    linear
);
criterion_main!(benches);
