//! Several callers share one pool of threads.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Packed};
use headstart_kernels::table::Compute;

mod support;
use support::noise;

#[test]
fn callers_do_not_wait_for_one_another() {
    let c = Compute::new(2).unwrap();
    // 3x3 in floats: both directions take memory for partial results.
    let s = ConvShape::new(ConvSizes {
        batch: 2,
        height: 12,
        width: 12,
        in_channels: 32,
        out_channels: 32,
        kernel: 3,
        stride: 1,
        padding: 1,
        upsample: 1,
    })
    .unwrap();
    let (x, kernel) = (noise(s.in_len(), 1), noise(s.kernel_len(), 2));
    let mut packed = Packed::default();
    conv::pack_forward::<f32>(&c, &s, &kernel, None, &mut packed);
    let work = || {
        let (mut y, mut gradient) = (vec![f32::NAN; s.out_len()], vec![f32::NAN; s.kernel_len()]);
        c.threads.enter(|| {
            conv::forward(&c, &s, &x, &packed, Epilogue::default(), &mut y);
            conv::backward_kernel(&c, &s, &x, &y, &mut gradient);
        });
        (y, gradient)
    };
    let alone = work();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| assert!(work() == alone)));
        }
    });
}
