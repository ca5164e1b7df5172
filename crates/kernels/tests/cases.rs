//! Single cases with known answers.

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Packed};
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::{cholesky, elementwise, loss, norm, table::Compute};

#[test]
fn moving_statistics_follow_keras() {
    let mut moving = [1.0, -2.0];
    norm::batch_norm_moving(&[2.0, 0.0], 0.75, &mut moving);
    assert_eq!(moving, [1.25, -1.5]);
}

#[test]
fn nan_passes_through_pooling_and_relu() {
    let c = Compute::new(1).unwrap();
    let s = PoolShape::new(PoolSizes {
        batch: 1,
        height: 2,
        width: 2,
        channels: 1,
        pool: 2,
        stride: 2,
        padding: 0,
    })
    .unwrap();
    for at in 0..4 {
        let mut x = [1.0, 2.0, 3.0, 4.0];
        x[at] = f32::NAN;
        let mut y = [0.0];
        pool::max_pool(&c, &s, &x, None, &mut y);
        assert!(y[0].is_nan(), "NaN at {at} was lost");
    }
    let mut y = [0.0; 2];
    elementwise::relu(&c, &[f32::NAN, -1.0], &mut y);
    assert!(y[0].is_nan() && y[1] == 0.0);
}

#[test]
fn a_row_with_nan_is_never_correct_and_its_loss_is_nan() {
    let p = [f32::NAN, 0.0, 0.9, 0.1];
    let total = loss::cross_entropy(2, &p, &[0, 0]);
    assert_eq!(total.correct, 1);
    assert!(total.loss.is_nan());
}

#[test]
fn two_labels_share_the_loss_and_its_gradient() {
    let logits = [0.3f32, -0.8, 1.1, 2.0, 0.1, -0.4, -3.0, 0.5, 0.2];
    let (first, second) = ([2u32, 0, 1], [0u32, 0, 2]);
    let c = Compute::new(1).unwrap();
    let mut p = [0.0; 9];
    loss::softmax(&c, 3, &logits, &mut p);
    for (weights, smoothing) in [(&[][..], 0.0), (&[0.5, 1.0, 2.0][..], 0.2)] {
        let targets = loss::Targets { weights: weights.to_vec(), smoothing };
        for share in [0.0f32, 0.3, 0.5, 0.8, 1.0] {
            let labels = loss::Labels { first: &first, second: Some((&second, share)) };
            // The definition in f64: each label's smoothed cross-entropy, weighted by its class and its share.
            let (mut want, mut slope) = (0.0f64, [0.0f64; 9]);
            for (row, logits) in logits.chunks_exact(3).enumerate() {
                let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                for (label, part) in [(first[row], 1.0 - share), (second[row], share)] {
                    let weight = weights.get(label as usize).map_or(1.0, |&w| f64::from(w));
                    for (k, &x) in logits.iter().enumerate() {
                        let (q, part) = (f64::from(x).exp() / total, f64::from(part) * weight);
                        let smoothing = f64::from(smoothing);
                        let own = f64::from(u8::from(k == label as usize));
                        let target = own * (1.0 - smoothing) + smoothing / 3.0;
                        want -= part * target * q.ln();
                        slope[row * 3 + k] += part * (q - target) / 3.0;
                    }
                }
            }
            let found = targets.loss(3, &p, labels);
            assert!((found.loss - want).abs() <= 1e-6 * want, "{share}: {} {want}", found.loss);
            // The answers are 2, 0, 1: all of the first labels, and one of the second.
            assert_eq!(found.correct, if share > 0.5 { 1 } else { 3 }, "{share}");
            let mut d = [0.0; 9];
            targets.gradient(3, &p, labels, &mut d);
            let close = |(d, want): (&f32, &f64)| (f64::from(*d) - want).abs() <= 1e-7;
            assert!(d.iter().zip(&slope).all(close), "{share}: {d:?} {slope:?}");
        }
    }
}

#[test]
fn smoothed_labels_are_keras_and_the_gradient_is_the_losses_slope() {
    let (logits, labels, weights) =
        ([0.3f32, -0.8, 1.1, 2.0, 0.1, -0.4], [2u32, 0], [0.5, 1.0, 2.0]);
    let c = Compute::new(1).unwrap();
    let loss = |logits: &[f32], weights: &[f32]| {
        let mut p = [0.0; 6];
        loss::softmax(&c, 3, logits, &mut p);
        let targets = loss::Targets { weights: weights.to_vec(), smoothing: 0.2 };
        targets.loss(3, &p, &labels).loss / 2.0
    };
    // keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(one_hot([2, 0]), logits) = 0.57566172
    assert!((loss(&logits, &[]) - 0.575_661_72).abs() <= 1e-6, "{}", loss(&logits, &[]));
    for weights in [&[][..], &weights] {
        let (mut p, mut d) = ([0.0; 6], [0.0; 6]);
        loss::softmax(&c, 3, &logits, &mut p);
        let targets = loss::Targets { weights: weights.to_vec(), smoothing: 0.2 };
        targets.gradient(3, &p, &labels, &mut d);
        for i in 0..6 {
            let moved = |by: f32| {
                let mut logits = logits;
                logits[i] += by;
                loss(&logits, weights)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(d[i])).abs() <= 2e-5, "{i}: {slope} {}", d[i]);
        }
    }
}

#[test]
fn what_is_not_positive_definite_has_no_factor() {
    let c = Compute::new(1).unwrap();
    assert!(!cholesky::cholesky(&c, 2, &mut [1.0, 2.0, 2.0, 1.0]));
    assert!(!cholesky::cholesky(&c, 1, &mut [f64::NAN]));
    assert!(cholesky::cholesky(&c, 0, &mut []));
}

#[test]
#[should_panic(expected = "upsampled")]
fn an_enlarged_image_takes_no_gradient() {
    let sizes = ConvSizes { height: 4, width: 4, kernel: 3, upsample: 2, ..ConvSizes::default() };
    let (c, s) = (Compute::new(1).unwrap(), ConvShape::new(sizes).unwrap());
    conv::pack_backward_input::<f32>(&c, &s, &vec![0.0; s.kernel_len()], &mut Packed::default());
}
