//! Convolutions and their gradients against their definitions.

use headstart_gpu::kernels::conv::{
    Epilogue, forward, input_gradient, kernel_gradient, kernel_gradient_scratch, transpose,
};
use headstart_gpu::{Context, Store};
use headstart_kernels::conv::{ConvShape, ConvSizes};
use headstart_kernels::oracle;

use crate::support::{
    close, close_as, contexts, noise, read, room, room_as, run, stored, stores, upload, upload_as,
    wide,
};

/// Every kernel size, stride and edge: channels in fours and not, one pixel, more taps than pixels, each tile.
fn shapes() -> Vec<ConvShape> {
    let square = |side: usize, c: [usize; 2], kernel: usize, stride: usize, padding: usize| {
        let [in_channels, out_channels] = c;
        let size = ConvSizes { batch: 2, height: side, width: side + 1, ..ConvSizes::default() };
        ConvSizes { in_channels, out_channels, kernel, stride, padding, ..size }
    };
    let mut list = vec![
        square(5, [3, 5], 3, 1, 1),
        square(9, [3, 8], 7, 2, 3),
        square(6, [4, 4], 1, 1, 0),
        square(7, [8, 12], 1, 2, 0),
        square(8, [16, 8], 3, 2, 1),
        square(4, [5, 4], 3, 3, 0),
        square(3, [20, 36], 3, 1, 1),
        square(1, [33, 7], 1, 1, 0),
        square(2, [4, 3], 5, 1, 2),
        square(5, [4, 8], 2, 3, 1),
        // The larger tiles.
        ConvSizes { batch: 3, ..square(24, [12, 64], 3, 1, 1) },
        ConvSizes { batch: 2, ..square(128, [4, 68], 1, 1, 0) },
    ];
    list.push(ConvSizes { batch: 5, in_channels: 37, out_channels: 10, ..ConvSizes::default() });
    list.into_iter().map(|sizes| ConvShape::new(sizes).unwrap()).collect()
}

fn upsampled() -> ConvShape {
    let sizes = ConvSizes { batch: 2, height: 4, width: 5, upsample: 3, ..ConvSizes::default() };
    let sizes = ConvSizes { in_channels: 3, out_channels: 8, kernel: 7, stride: 2, ..sizes };
    ConvShape::new(ConvSizes { padding: 3, ..sizes }).unwrap()
}

/// Images and kernels small enough for sums about 1.
fn input(s: &ConvShape, store: Store) -> (Vec<f32>, Vec<f32>) {
    (stored(noise(s.in_len(), 1), store), stored(noise(s.kernel_len(), 2), store))
}

/// How the input of a convolution is stored: pixels, which alone are upsampled, as floats.
fn input_store(s: &ConvShape, store: Store) -> Store {
    if s.upsample() > 1 { Store::F32 } else { store }
}

fn forwards(c: &Context, s: &ConvShape, store: Store) {
    let (x, w) = input(s, store);
    let n = s.out_channels();
    let (bias, residual) = (noise(n, 3), stored(noise(s.out_len(), 4), store));
    let plain = oracle::conv_forward(s, &x, &w);
    let xs = upload_as(c, &x, input_store(s, store));
    let (ws, y) = (upload_as(c, &w, store), room_as(c, s.out_len(), store));
    let (b, r) = (upload(c, &bias), upload_as(c, &residual, store));
    for (with, relu) in [([false, false], false), ([true, false], true), ([true, true], true)] {
        let epilogue =
            Epilogue { bias: with[0].then_some(&b), residual: with[1].then_some(&r), relu };
        run(c, &[forward(s, &xs, &ws, &y, epilogue)]);
        let each = plain.iter().enumerate().map(|(i, &v)| {
            let v = v + if with[0] { f64::from(bias[i % n]) } else { 0.0 };
            let v = v + if with[1] { f64::from(residual[i]) } else { 0.0 };
            if relu { v.max(0.0) } else { v }
        });
        let terms = s.kernel() * s.kernel() * s.in_channels();
        let what = format!("{s:?} {with:?} {relu}");
        let ours = read(c, &y, s.out_len());
        close_as(store, &ours, &each.collect::<Vec<_>>(), terms, &what);
    }
}

fn kernel_gradients(c: &Context, s: &ConvShape, store: Store) {
    let from = input_store(s, store);
    let (x, dy) = (stored(noise(s.in_len(), 5), from), stored(noise(s.out_len(), 6), store));
    let (xs, dys) = (upload_as(c, &x, from), upload_as(c, &dy, store));
    let dw = room(c, s.kernel_len());
    let scratch = room(c, kernel_gradient_scratch(s));
    run(c, &kernel_gradient(s, &xs, &dys, &scratch, &dw));
    let terms = s.batch() * s.out_height() * s.out_width();
    let expected = oracle::conv_backward_kernel(s, &x, &dy);
    close(&read(c, &dw, s.kernel_len()), &expected, terms, &format!("kernel of {s:?}, {store:?}"));
}

fn input_gradients(c: &Context, s: &ConvShape, store: Store) {
    let (old, w) = input(s, store);
    let dy = stored(noise(s.out_len(), 7), store);
    let mask = stored(noise(s.in_len(), 8), store);
    let (dys, ws) = (upload_as(c, &dy, store), upload_as(c, &w, store));
    let turned = room_as(c, s.kernel_len(), store);
    run(c, &transpose(s, &ws, &turned));
    let masks = upload_as(c, &mask, store);
    let plain = oracle::conv_backward_input(s, &dy, &w);
    for (add, masked) in [(false, false), (true, false), (false, true), (true, true)] {
        let dx = if add { upload_as(c, &old, store) } else { room_as(c, s.in_len(), store) };
        let mask_span = masked.then_some(&masks);
        run(c, &input_gradient(s, &dys, &turned, &dx, add, mask_span).unwrap());
        let each = plain.iter().enumerate().map(|(i, &v)| {
            let v = v + if add { f64::from(old[i]) } else { 0.0 };
            if masked && mask[i] <= 0.0 { 0.0 } else { v }
        });
        let terms = s.kernel() * s.kernel() * s.out_channels();
        let what = format!("input of {s:?}, add {add}, mask {masked}");
        let ours = read(c, &dx, s.in_len());
        close_as(store, &ours, &each.collect::<Vec<_>>(), terms, &what);
    }
}

#[test]
fn forward_is_the_definition() {
    for c in contexts() {
        for store in stores(c) {
            shapes().iter().chain([&upsampled()]).for_each(|s| forwards(c, s, store));
        }
    }
}

#[test]
fn the_gradient_of_the_kernel_is_the_definition() {
    for c in contexts() {
        for store in stores(c) {
            shapes().iter().chain([&upsampled()]).for_each(|s| kernel_gradients(c, s, store));
        }
    }
}

#[test]
fn the_gradient_of_the_input_is_the_definition() {
    for c in contexts() {
        for store in stores(c) {
            shapes().iter().for_each(|s| input_gradients(c, s, store));
        }
        let span = room(c, 1);
        assert!(input_gradient(&upsampled(), &span, &span, &span, false, None).is_err());
    }
}

#[test]
fn the_same_run_gives_the_same_bits() {
    for c in contexts() {
        let s = &shapes()[10];
        let (x, dy) = (noise(s.in_len(), 5), noise(s.out_len(), 6));
        let (xs, dys, scratch) =
            (upload(c, &x), upload(c, &dy), room(c, kernel_gradient_scratch(s)));
        assert!(kernel_gradient_scratch(s) > 0, "the sums are shared");
        let once = || {
            let dw = room(c, s.kernel_len());
            run(c, &kernel_gradient(s, &xs, &dys, &scratch, &dw));
            wide(&read(c, &dw, s.kernel_len()))
        };
        let first = once();
        assert!((0..3).all(|_| once() == first));
    }
}
