//! Products in tiles that the clock chooses have the bits that they have in others.

use std::sync::{Arc, Mutex};

use headstart_gpu::kernels::conv::{
    Epilogue, forward, input_gradient, kernel_gradient, kernel_gradient_scratch, transpose,
};
use headstart_gpu::{Call, Context, Tiles};
use headstart_kernels::conv::{ConvShape, ConvSizes};

use crate::support::{contexts, noise, read, room, run, upload};

fn shapes() -> [ConvShape; 2] {
    let of = |batch, side, in_channels, out_channels, stride| {
        let size = ConvSizes { batch, height: side, width: side + 1, ..ConvSizes::default() };
        let sizes = ConvSizes { in_channels, out_channels, kernel: 3, stride, padding: 1, ..size };
        ConvShape::new(sizes).unwrap()
    };
    [of(3, 24, 12, 64, 1), of(2, 9, 16, 7, 2)]
}

/// The bits of a convolution with an epilogue, of its input's gradient, added and masked, and of its kernel's; `calls` are what
/// runs instead.
fn results(
    c: &Context,
    s: &ConvShape,
    calls: &mut dyn FnMut(Vec<Call>) -> Vec<Call>,
) -> Vec<Vec<u32>> {
    let (x, w) = (upload(c, &noise(s.in_len(), 1)), upload(c, &noise(s.kernel_len(), 2)));
    let (dy, bias) = (upload(c, &noise(s.out_len(), 3)), upload(c, &noise(s.out_channels(), 4)));
    let (y, dw, turned) = (room(c, s.out_len()), room(c, s.kernel_len()), room(c, s.kernel_len()));
    let dx = upload(c, &noise(s.in_len(), 5));
    let scratch = room(c, kernel_gradient_scratch(s));
    let epilogue = Epilogue { bias: Some(&bias), residual: None, relu: true };
    let mut all = vec![forward(s, &x, &w, &y, epilogue)];
    all.extend(transpose(s, &w, &turned));
    all.extend(input_gradient(s, &dy, &turned, &dx, true, Some(&x)).unwrap());
    all.extend(kernel_gradient(s, &x, &dy, &scratch, &dw));
    run(c, &calls(all));
    let spans = [(&y, s.out_len()), (&dx, s.in_len()), (&dw, s.kernel_len())];
    let bits = |(span, len)| read(c, span, len).into_iter().map(f32::to_bits).collect();
    spans.map(bits).to_vec()
}

#[test]
fn tiles_change_no_result() {
    for c in contexts() {
        let found = Arc::new(Mutex::new(Tiles::new()));
        let kept = Arc::clone(&found);
        c.tune(Tiles::new(), Box::new(move |tiles| *kept.lock().unwrap() = tiles.clone()));
        let expected = shapes().map(|s| results(c, &s, &mut |calls| calls));
        let tuned = |s: ConvShape| results(c, &s, &mut |calls| c.tuned(calls).unwrap());
        assert!(shapes().map(tuned) == expected, "as the clock chose");
        let tiles = found.lock().unwrap().clone();
        // Forward and the kernel's gradient of both; the input's gradient of the second in four parts.
        assert!(tiles.len() > 6, "{tiles:?}");
        for number in [0, 1, 2, 3, 4, usize::MAX] {
            let known = tiles.keys().map(|name| (name.clone(), number)).collect();
            c.tune(known, Box::new(|tiles| panic!("all were known: {tiles:?}")));
            assert!(shapes().map(tuned) == expected, "tile {number}");
        }
    }
}
