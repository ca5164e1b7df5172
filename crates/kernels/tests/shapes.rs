//! Shapes are made of sizes that fit each other and this machine, or not at all.

use headstart_kernels::conv::{ConvShape, ConvSizes};
use headstart_kernels::elementwise::{FrameShape, FrameSizes};
use headstart_kernels::pool::{PoolShape, PoolSizes};
use proptest::prelude::*;

const HUGE: usize = 1 << (usize::BITS - 2);

/// Sizes as nets have them, powers of two up to the largest, and any others.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..9usize, 2 => (0..usize::BITS).prop_map(|bit| 1 << bit), 1 => any::<usize>()]
}

/// The exact product.
fn product<const N: usize>(sizes: [usize; N]) -> Option<u128> {
    sizes.iter().try_fold(1u128, |product, &size| product.checked_mul(size as u128))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lengths_of_a_convolution_never_wrap(s in prop::array::uniform9(size())) {
        let [batch, height, width, in_channels, out_channels, kernel, stride, padding, upsample] = s;
        let sizes = ConvSizes {
            batch, height, width, in_channels, out_channels, kernel, stride, padding, upsample,
        };
        let Ok(shape) = ConvShape::new(sizes) else { return Ok(()) };
        let out = |side: usize| {
            let padded = side as u128 * upsample as u128 + 2 * padding as u128;
            (padded - kernel as u128) / stride as u128 + 1
        };
        prop_assert_eq!(shape.out_height() as u128, out(height));
        prop_assert_eq!(shape.out_width() as u128, out(width));
        let (down, across) = (shape.out_height(), shape.out_width());
        prop_assert_eq!(Some(shape.in_len() as u128), product([batch, height, width, in_channels]));
        prop_assert_eq!(Some(shape.out_len() as u128), product([batch, down, across, out_channels]));
        let kernel_len = product([kernel, kernel, in_channels, out_channels]);
        prop_assert_eq!(Some(shape.kernel_len() as u128), kernel_len);
        let flops = product([2, batch, down, across, shape.kernel_len()]);
        prop_assert_eq!(Some(u128::from(shape.flops())), flops);
        let most = shape.in_len().max(shape.out_len()).max(shape.kernel_len());
        prop_assert!(most <= isize::MAX as usize / 8, "{} elements", most);
    }

    #[test]
    fn lengths_of_a_pooling_never_wrap(s in prop::array::uniform7(size())) {
        let [batch, height, width, channels, pool, stride, padding] = s;
        let sizes = PoolSizes { batch, height, width, channels, pool, stride, padding };
        let Ok(shape) = PoolShape::new(sizes) else { return Ok(()) };
        let out = |side: usize| {
            (side as u128 + 2 * padding as u128 - pool as u128) / stride as u128 + 1
        };
        prop_assert_eq!(shape.out_height() as u128, out(height));
        prop_assert_eq!(shape.out_width() as u128, out(width));
        let out = product([batch, shape.out_height(), shape.out_width(), channels]);
        prop_assert_eq!(Some(shape.out_len() as u128), out);
        prop_assert_eq!(Some(shape.in_len() as u128), product([batch, height, width, channels]));
    }

    #[test]
    fn lengths_of_a_frame_never_wrap(s in prop::array::uniform6(size())) {
        let [batch, height, width, channels, factor, padding] = s;
        let sizes = FrameSizes { batch, height, width, channels, factor, padding };
        let Ok(shape) = FrameShape::new(sizes) else { return Ok(()) };
        let out = |side: usize| side as u128 * factor as u128 + 2 * padding as u128;
        prop_assert_eq!(shape.out_height() as u128, out(height));
        prop_assert_eq!(shape.out_width() as u128, out(width));
        let out = product([batch, shape.out_height(), shape.out_width(), channels]);
        prop_assert_eq!(Some(shape.out_len() as u128), out);
        prop_assert_eq!(Some(shape.in_len() as u128), product([batch, height, width, channels]));
    }
}

#[test]
fn a_wrong_size_is_named() {
    let fits = ConvSizes { height: 5, width: 7, kernel: 3, ..ConvSizes::default() };
    assert!(ConvShape::new(fits).is_ok());
    for (sizes, expected) in [
        (ConvSizes { height: 0, ..fits }, "input height: expected at least 1, found 0"),
        (ConvSizes { width: 0, ..fits }, "input width: expected at least 1, found 0"),
        (ConvSizes { in_channels: 0, ..fits }, "input channels: expected at least 1, found 0"),
        (ConvSizes { out_channels: 0, ..fits }, "output channels: expected at least 1, found 0"),
        (ConvSizes { kernel: 0, ..fits }, "kernel: expected at least 1, found 0"),
        (ConvSizes { stride: 0, ..fits }, "stride: expected at least 1, found 0"),
        (ConvSizes { upsample: 0, ..fits }, "upsample: expected at least 1, found 0"),
        (
            ConvSizes { kernel: 6, ..fits },
            "kernel: expected at most 5 (the input with padding is 5 x 7), found 6",
        ),
    ] {
        assert_eq!(ConvShape::new(sizes).unwrap_err().to_string(), expected);
    }
    // Lengths that are 0 or small once 2^64 is taken off.
    for (sizes, size) in [
        (ConvSizes { batch: HUGE, in_channels: 4, ..fits }, "input"),
        (ConvSizes { batch: HUGE, out_channels: 4, ..fits }, "input"),
        (ConvSizes { out_channels: HUGE, ..fits }, "output"),
        (ConvSizes { height: HUGE, width: 4, ..fits }, "input height with padding"),
        (ConvSizes { padding: HUGE, ..fits }, "input height with padding"),
        (ConvSizes { upsample: HUGE, ..fits }, "input height with padding"),
        (ConvSizes { stride: HUGE, ..fits }, "stride"),
        (ConvSizes { in_channels: 1 << 31, out_channels: 1 << 31, ..fits }, "kernel"),
        (ConvSizes { padding: 1 << 30, kernel: 1 << 31, ..fits }, "kernel"),
        (ConvSizes { batch: 1 << 50, out_channels: 1 << 5, ..fits }, "output"),
    ] {
        let error = ConvShape::new(sizes).unwrap_err();
        assert_eq!(error.size, size, "{sizes:?}: {error}");
    }
    let fits = PoolSizes { height: 5, width: 7, pool: 3, ..PoolSizes::default() };
    assert!(PoolShape::new(fits).is_ok());
    for (sizes, size) in [
        (PoolSizes { height: 0, ..fits }, "input height"),
        (PoolSizes { width: 0, ..fits }, "input width"),
        (PoolSizes { channels: 0, ..fits }, "channels"),
        (PoolSizes { pool: 0, ..fits }, "window"),
        (PoolSizes { pool: 6, ..fits }, "window"),
        (PoolSizes { stride: 0, ..fits }, "stride"),
        (PoolSizes { stride: usize::MAX, ..fits }, "stride"),
        (PoolSizes { padding: HUGE, ..fits }, "input height with padding"),
        (PoolSizes { batch: HUGE, channels: 4, ..fits }, "input with padding"),
    ] {
        assert_eq!(PoolShape::new(sizes).unwrap_err().size, size, "{sizes:?}");
    }
    let fits = FrameSizes { height: 5, width: 7, factor: 2, ..FrameSizes::default() };
    assert!(FrameShape::new(fits).is_ok());
    for (sizes, size) in [
        (FrameSizes { height: 0, ..fits }, "input height"),
        (FrameSizes { width: 0, ..fits }, "input width"),
        (FrameSizes { channels: 0, ..fits }, "channels"),
        (FrameSizes { factor: 0, ..fits }, "factor"),
        (FrameSizes { factor: HUGE, ..fits }, "output height"),
        (FrameSizes { batch: HUGE, channels: 4, ..fits }, "output"),
    ] {
        assert_eq!(FrameShape::new(sizes).unwrap_err().size, size, "{sizes:?}");
    }
}

#[test]
fn the_first_images_are_a_shape_of_their_own() {
    let s = ConvShape::new(ConvSizes { batch: 5, height: 4, width: 4, ..ConvSizes::default() })
        .unwrap();
    for (count, batch) in [(0, 0), (1, 1), (5, 5), (6, 5), (usize::MAX, 5)] {
        let first = s.first(count);
        assert_eq!(first.sizes(), ConvSizes { batch, ..s.sizes() });
        assert_eq!((first.in_len(), first.out_len()), (16 * batch, 16 * batch));
    }
    assert!(ConvShape::dense(3, 0, 5).is_err());
    assert_eq!(ConvShape::dense(3, 7, 5).unwrap().kernel_len(), 35);
}
