//! Batch norm, pooling, elementwise passes, loss and optimizers against naive f64 formulas.

use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::elementwise::{self, Affine, FrameShape, FrameSizes};
use headstart_kernels::norm::{self, NormState};
use headstart_kernels::optim::{self, Adam, RmsProp, Sgd};
use headstart_kernels::pool::{self, PoolShape, PoolSizes};
use headstart_kernels::{loss, table::Compute};

mod support;
use support::{close, each_compute, elements, noise, same_bits};

const EPS: f64 = f32::EPSILON as f64;

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

struct Oracle {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

fn statistics(channels: usize, x: &[f64]) -> Oracle {
    let n = (x.len() / channels) as f64;
    let column = |k: usize| x.iter().skip(k).step_by(channels).copied();
    let mean: Vec<f64> = (0..channels).map(|k| column(k).sum::<f64>() / n).collect();
    let variance =
        (0..channels).map(|k| column(k).map(|x| (x - mean[k]).powi(2)).sum::<f64>() / n).collect();
    Oracle { mean, variance }
}

const SHAPES: [(usize, usize); 7] =
    [(1, 1), (1, 17), (2, 3), (33, 64), (700, 65), (40, 2048), (9000, 16)];

#[test]
fn statistics_survive_a_large_mean() {
    each_compute(|c| {
        for (rows, channels) in SHAPES {
            for offset in [0.0f32, 1000.0] {
                let x: Vec<f32> = noise(rows * channels, 7).iter().map(|x| x + offset).collect();
                let (mut mean, mut variance) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                norm::batch_norm_statistics(c, channels, &x, &mut mean, &mut variance);
                let want = statistics(channels, &wide(&x));
                let what = format!("{} {rows}x{channels} + {offset}", c.isa());
                // Deviations from the first row are below 2; a task adds up to 2^15 of them.
                let sum = EPS * 4.0 * (norm_rows(channels, rows) as f64);
                close(&what, &mean, &want.mean, sum + EPS * f64::from(offset));
                close(&what, &variance, &want.variance, 4.0 * sum);
            }
        }
    });
}

/// Rows that are added in f32 before the total goes on in f64.
fn norm_rows(channels: usize, rows: usize) -> usize {
    rows.min((1 << 15) / channels).max(1)
}

#[test]
fn apply_and_gradients_match_the_formula() {
    each_compute(|c| {
        for (rows, channels) in SHAPES {
            let len = rows * channels;
            let (x, dy, residual) = (noise(len, 1), noise(len, 2), noise(len, 3));
            let (gamma, beta) = (noise(channels, 4), noise(channels, 5));
            let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
            norm::batch_norm_statistics(c, channels, &x, &mut mean, &mut variance);
            let epsilon = 0.1;
            let what = format!("{} {rows}x{channels}", c.isa());
            let (mut scale, mut shift) = (vec![0.0; channels], vec![0.0; channels]);
            norm::batch_norm_fold(&gamma, &beta, &mean, &variance, epsilon, &mut scale, &mut shift);
            let sd = |k: usize| (f64::from(variance[k]) + f64::from(epsilon)).sqrt();
            for (r, relu) in [(None, false), (None, true), (Some(&residual[..]), true)] {
                let want: Vec<f64> = (0..len)
                    .map(|i| {
                        let k = i % channels;
                        let y = f64::from(gamma[k]) * (f64::from(x[i]) - f64::from(mean[k]))
                            / sd(k)
                            + f64::from(beta[k])
                            + r.map_or(0.0, |r| f64::from(r[i]));
                        if relu { y.max(0.0) } else { y }
                    })
                    .collect();
                let mut y = vec![f32::NAN; len];
                norm::batch_norm_apply(c, channels, &x, &scale, &shift, r, relu, &mut y);
                close(&what, &y, &want, 32.0 * EPS);
            }

            let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon };
            let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
            norm::batch_norm_parameter_gradients(
                c,
                channels,
                &x,
                &dy,
                state,
                &mut dgamma,
                &mut dbeta,
            );
            let hat =
                |i: usize| (f64::from(x[i]) - f64::from(mean[i % channels])) / sd(i % channels);
            let (mut g, mut b) = (vec![0.0; channels], vec![0.0; channels]);
            for i in 0..len {
                g[i % channels] += f64::from(dy[i]) * hat(i);
                b[i % channels] += f64::from(dy[i]);
            }
            let tolerance = EPS * 8.0 * (rows as f64) * 4.0;
            close(&what, &dgamma, &g, tolerance);
            close(&what, &dbeta, &b, tolerance);
            let n = rows as f64;
            let want: Vec<f64> = (0..len)
                .map(|i| {
                    let k = i % channels;
                    f64::from(gamma[k]) / sd(k) * (f64::from(dy[i]) - b[k] / n - hat(i) * g[k] / n)
                })
                .collect();
            let mut dx = dy.clone();
            norm::batch_norm_input_gradient(c, channels, &x, state, &dgamma, &dbeta, None, &mut dx);
            close(&what, &dx, &want, 4e-5);
            let mut dx = dy.clone();
            norm::batch_norm_frozen_input_gradient(c, channels, state, None, &mut dx);
            let want: Vec<f64> = (0..len)
                .map(|i| f64::from(dy[i]) * f64::from(gamma[i % channels]) / sd(i % channels))
                .collect();
            close(&what, &dx, &want, 16.0 * EPS);
        }
    });
}

#[test]
fn reductions_do_not_depend_on_threads() {
    same_bits(|c| {
        let (rows, channels) = (9000, 33);
        let (x, dy) = (noise(rows * channels, 1), noise(rows * channels, 2));
        let (mut a, mut b) = (vec![0.0; channels], vec![0.0; channels]);
        norm::batch_norm_statistics(c, channels, &x, &mut a, &mut b);
        let state = NormState { mean: &a, variance: &b, gamma: &a, epsilon: 1e-3 };
        let (mut g, mut h) = (vec![0.0; channels], vec![0.0; channels]);
        norm::batch_norm_parameter_gradients(c, channels, &x, &dy, state, &mut g, &mut h);
        let mut s = vec![0.0; channels];
        norm::column_sums(c, channels, &x, &mut s);
        [a.clone(), b.clone(), g, h, s].concat()
    });
}

#[test]
fn moving_statistics_follow_keras() {
    let mut moving = [1.0, -2.0];
    norm::batch_norm_moving(&[2.0, 0.0], 0.75, &mut moving);
    assert_eq!(moving, [1.25, -1.5]);
}

/// Brute force over every (output, input) pair of the window.
fn pool_oracle(s: &PoolShape, x: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut dx) = (Vec::new(), vec![0.0; x.len()]);
    for b in 0..s.batch() {
        for oy in 0..s.out_height() {
            for ox in 0..s.out_width() {
                for k in 0..s.channels() {
                    let mut best: Option<(f32, Option<usize>)> = None;
                    for r in oy * s.stride()..oy * s.stride() + s.pool() {
                        for q in ox * s.stride()..ox * s.stride() + s.pool() {
                            let (r, q) = (
                                r as isize - s.padding() as isize,
                                q as isize - s.padding() as isize,
                            );
                            let inside = r >= 0
                                && q >= 0
                                && r < s.height() as isize
                                && q < s.width() as isize;
                            let at = ((b * s.height()) as isize + r) * s.width() as isize + q;
                            let cell = if inside {
                                let at = at as usize * s.channels() + k;
                                (x[at], Some(at))
                            } else {
                                (0.0, None)
                            };
                            if best.is_none_or(|(v, _)| cell.0 > v) {
                                best = Some(cell);
                            }
                        }
                    }
                    let (value, at) = best.unwrap();
                    if let Some(at) = at {
                        dx[at] += f64::from(dy[y.len()]);
                    }
                    y.push(f64::from(value));
                }
            }
        }
    }
    (y, dx)
}

#[test]
fn pooling_matches_brute_force() {
    each_compute(|c| {
        for (height, width, channels, pool, stride, padding) in
            [(7, 6, 5, 3, 2, 0), (8, 9, 64, 3, 2, 1), (6, 7, 131, 3, 2, 1), (4, 4, 17, 1, 2, 0)]
        {
            let s = PoolShape::new(PoolSizes {
                batch: 2,
                height,
                width,
                channels,
                pool,
                stride,
                padding,
            })
            .unwrap();
            let x: Vec<f32> = noise(s.in_len(), 3).iter().map(|x| (x * 4.0).round()).collect();
            let dy = noise(s.out_len(), 4);
            let (want, gradient) = pool_oracle(&s, &x, &dy);
            let mut y = vec![f32::NAN; s.out_len()];
            pool::max_pool(c, &s, &x, None, &mut y);
            close(&format!("{s:?}"), &y, &want, 0.0);
            let mut dx = vec![f32::NAN; s.in_len()];
            pool::max_pool_backward(c, &s, &x, None, &dy, false, &mut dx);
            close(&format!("{s:?}"), &dx, &gradient, 16.0 * EPS);
        }
        let (batch, pixels, channels) = (3, 49, 70);
        let x = noise(batch * pixels * channels, 5);
        let mut y = vec![f32::NAN; batch * channels];
        pool::global_average_pool(c, pixels, channels, &x, &mut y);
        let want: Vec<f64> = (0..batch * channels)
            .map(|i| {
                let image = &x[i / channels * pixels * channels..][..pixels * channels];
                image
                    .iter()
                    .skip(i % channels)
                    .step_by(channels)
                    .map(|&x| f64::from(x))
                    .sum::<f64>()
                    / pixels as f64
            })
            .collect();
        close("average", &y, &want, pixels as f64 * EPS);
        let mut dx = vec![f32::NAN; x.len()];
        pool::global_average_pool_backward(c, pixels, channels, &y, &mut dx);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                f64::from(y[i / (pixels * channels) * channels + i % channels]) / pixels as f64
            })
            .collect();
        close("average gradient", &dx, &want, EPS);
    });
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
fn elementwise_passes() {
    each_compute(|c| {
        let n = 70_001;
        let (a, b) = (noise(n, 1), noise(n, 2));
        let mut y = vec![f32::NAN; n];
        elementwise::relu(c, &a, &mut y);
        assert!(y.iter().zip(&a).all(|(y, a)| *y == a.max(0.0)));
        let mut d = b.clone();
        elementwise::relu_backward(c, &y, &mut d);
        assert!((0..n).all(|i| d[i] == if a[i] > 0.0 { b[i] } else { 0.0 }));
        elementwise::add(c, &a, &b, true, &mut y);
        assert!((0..n).all(|i| y[i] == (a[i] + b[i]).max(0.0)));
        elementwise::accumulate(c, &a, &mut y);
        assert!((0..n).all(|i| y[i] == (a[i] + b[i]).max(0.0) + a[i]));
        elementwise::dropout(c, 0.25, 9, &a, &mut y);
        let kept = y.iter().filter(|y| **y != 0.0).count() as f64 / n as f64;
        assert!((kept - 0.75).abs() < 0.01, "kept {kept}");
        assert!((0..n).all(|i| y[i] == 0.0 || y[i] == a[i] * (1.0 / 0.75)));
    });
}

#[test]
fn frames_enlarge_map_and_pad() {
    each_compute(|c| {
        let s = FrameShape::new(FrameSizes {
            batch: 2,
            height: 3,
            width: 4,
            channels: 3,
            factor: 2,
            padding: 1,
        })
        .unwrap();
        let affine = Affine { source: [2, 1, 0], scale: [1.0, 2.0, 0.5], offset: [-1.0, 0.0, 3.0] };
        let x = noise(s.in_len(), 1);
        let mut y = vec![f32::NAN; s.out_len()];
        elementwise::frame(c, &s, Some(&affine), &x, &mut y);
        let mut sums = vec![0.0; s.in_len()];
        for b in 0..2 {
            for r in 0..8 {
                for q in 0..10 {
                    for k in 0..3 {
                        let got = y[((b * 8 + r) * 10 + q) * 3 + k];
                        if r == 0 || q == 0 || r == 7 || q == 9 {
                            assert_eq!(got, 0.0);
                            continue;
                        }
                        let pixel = (b * 3 + (r - 1) / 2) * 4 + (q - 1) / 2;
                        let want = x[pixel * 3 + 2 - k] * affine.scale[k] + affine.offset[k];
                        assert!((got - want).abs() <= 1e-6);
                        sums[pixel * 3 + k] += f64::from(got);
                    }
                }
            }
        }
        let mut dx = vec![f32::NAN; s.in_len()];
        elementwise::frame_backward(c, &s, &y, &mut dx);
        close("frame gradient", &dx, &sums, 32.0 * EPS);
    });
}

#[test]
fn cross_entropy_and_its_gradient() {
    each_compute(|c| {
        for (batch, classes) in [(1, 2), (20, 10), (7, 1000)] {
            let logits: Vec<f32> = noise(batch * classes, 3).iter().map(|x| x * 30.0).collect();
            let labels: Vec<u32> = (0..batch).map(|i| (i * 7 % classes) as u32).collect();
            let mut p = vec![f32::NAN; logits.len()];
            loss::softmax(c, classes, &logits, &mut p);
            let mut want = Vec::new();
            for row in logits.chunks(classes) {
                let e: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
                let sum: f64 = e.iter().sum();
                want.extend(e.iter().map(|e| e / sum));
            }
            close("softmax", &p, &want, 1e-5);
            let total = loss::cross_entropy(classes, &p, &labels);
            let expected: f64 = (0..batch)
                .map(|i| {
                    -want[i * classes + labels[i] as usize].max(f64::from(f32::MIN_POSITIVE)).ln()
                })
                .sum();
            assert!(
                (total.loss - expected).abs() <= 1e-4 * expected.max(1.0),
                "{total:?} {expected}"
            );
            let mut d = vec![f32::NAN; p.len()];
            loss::cross_entropy_gradient(classes, &p, &labels, &mut d);
            let gradient: Vec<f64> = (0..p.len())
                .map(|i| {
                    let hit = i % classes == labels[i / classes] as usize;
                    (want[i] - f64::from(u8::from(hit))) / batch as f64
                })
                .collect();
            close("cross-entropy gradient", &d, &gradient, 1e-5);
        }
    });
}

#[test]
fn a_row_with_nan_is_never_correct_and_its_loss_is_nan() {
    let p = [f32::NAN, 0.0, 0.9, 0.1];
    let total = loss::cross_entropy(2, &p, &[0, 0]);
    assert_eq!(total.correct, 1);
    assert!(total.loss.is_nan());
}

#[test]
fn optimizers_follow_their_formulas() {
    each_compute(|c| {
        let n = 40_003;
        let start = noise(n, 1);
        let steps: Vec<Vec<f32>> = (2..7).map(|seed| noise(n, seed)).collect();
        let s = RmsProp { learning_rate: 1e-2, rho: 0.9, epsilon: 1e-7 };
        let (mut w, mut v) = (start.clone(), vec![0.0; n]);
        let (mut want, mut square) = (wide(&start), vec![0.0f64; n]);
        for g in &steps {
            optim::rmsprop(c, s, &mut w, g, &mut v);
            for i in 0..n {
                let g = f64::from(g[i]);
                square[i] = 0.9 * square[i] + 0.1 * g * g;
                want[i] -= 1e-2 * g / (square[i] + 1e-7).sqrt();
            }
        }
        close("rmsprop", &w, &want, 1e-6);
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            let s = Sgd { learning_rate: 0.1, momentum, nesterov };
            let (mut w, mut m) = (start.clone(), vec![0.0; n]);
            let (mut want, mut velocity) = (wide(&start), vec![0.0f64; n]);
            for g in &steps {
                optim::sgd(c, s, &mut w, g, &mut m);
                for i in 0..n {
                    let step = 0.1 * f64::from(g[i]);
                    velocity[i] = f64::from(momentum) * velocity[i] - step;
                    want[i] += if nesterov {
                        f64::from(momentum) * velocity[i] - step
                    } else {
                        velocity[i]
                    };
                }
            }
            close("sgd", &w, &want, 2e-6);
        }
        let (rate, beta_1, beta_2, epsilon) = (1e-2, 0.9, 0.999, 1e-7);
        let (mut w, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
        let (mut want, mut mean, mut square) = (wide(&start), vec![0.0f64; n], vec![0.0f64; n]);
        for (g, step) in steps.iter().zip(1..) {
            let s = Adam { learning_rate: rate, beta_1, beta_2, epsilon, step };
            optim::adam(c, s, &mut w, g, &mut m, &mut v);
            let [rate, beta_1, beta_2, epsilon] = [rate, beta_1, beta_2, epsilon].map(f64::from);
            let (first, second) = (1.0 - beta_1.powi(step as i32), 1.0 - beta_2.powi(step as i32));
            for i in 0..n {
                let g = f64::from(g[i]);
                mean[i] = beta_1 * mean[i] + (1.0 - beta_1) * g;
                square[i] = beta_2 * square[i] + (1.0 - beta_2) * g * g;
                // Keras's epsilon is added before the bias is taken off.
                let root = (square[i] / second).sqrt() + epsilon / second.sqrt();
                want[i] -= rate * (mean[i] / first) / root;
            }
        }
        close("adam", &w, &want, 1e-6);
        let mut w = start.clone();
        optim::weight_decay(c, 0.1, 0.3, &mut w);
        let want: Vec<f64> = start.iter().map(|&w| f64::from(w) * (1.0 - 0.03)).collect();
        close("weight decay", &w, &want, 1e-6);
    });
}

/// Every pass over bfloat16 is the pass over floats on the same values, rounded at the end. Float passes
/// are tested above against their formulas.
#[test]
fn passes_over_bf16_round_what_passes_over_floats_give() {
    fn rounds(what: &str, got: &[Bf16], want: &[f32]) {
        let want: Vec<Bf16> = want.iter().map(|&x| Bf16::from_f32(x)).collect();
        assert!(got == want, "{what}");
    }
    each_compute(|c| {
        for (rows, channels) in SHAPES {
            let len = rows * channels;
            let (x, xv) = elements::<Bf16>(len, 1);
            let (dy, dv) = elements::<Bf16>(len, 2);
            let (r, rv) = elements::<Bf16>(len, 3);
            let (gamma, beta) = (noise(channels, 4), noise(channels, 5));
            let pair = || (vec![f32::NAN; channels], vec![f32::NAN; channels]);
            let ((mut mean, mut variance), (mut a, mut b)) = (pair(), pair());
            norm::batch_norm_statistics(c, channels, &xv, &mut mean, &mut variance);
            norm::batch_norm_statistics(c, channels, &x, &mut a, &mut b);
            assert!(a == mean && b == variance, "statistics");
            for (half, full, relu) in [(None, None, false), (Some(&r[..]), Some(&rv[..]), true)] {
                let (mut y, mut want) = (vec![Bf16::default(); len], vec![f32::NAN; len]);
                norm::batch_norm_apply(c, channels, &x, &gamma, &beta, half, relu, &mut y);
                norm::batch_norm_apply(c, channels, &xv, &gamma, &beta, full, relu, &mut want);
                rounds("apply", &y, &want);
            }
            let state = NormState { mean: &mean, variance: &variance, gamma: &gamma, epsilon: 0.1 };
            let ((mut g, mut h), (mut i, mut j)) = (pair(), pair());
            norm::batch_norm_parameter_gradients(c, channels, &xv, &dv, state, &mut g, &mut h);
            norm::batch_norm_parameter_gradients(c, channels, &x, &dy, state, &mut i, &mut j);
            assert!(g == i && h == j, "parameter gradients");
            let (mut d, mut want) = (dy.clone(), dv.clone());
            norm::batch_norm_input_gradient(c, channels, &x, state, &g, &h, None, &mut d);
            norm::batch_norm_input_gradient(c, channels, &xv, state, &g, &h, None, &mut want);
            rounds("input gradient", &d, &want);
            let (mut d, mut want) = (dy.clone(), dv.clone());
            norm::batch_norm_frozen_input_gradient(c, channels, state, None, &mut d);
            norm::batch_norm_frozen_input_gradient(c, channels, state, None, &mut want);
            rounds("frozen input gradient", &d, &want);
            norm::column_sums(c, channels, &xv, &mut g);
            norm::column_sums(c, channels, &x, &mut h);
            assert!(g == h, "column sums");

            let (mut y, mut want) = (vec![Bf16::default(); len], vec![f32::NAN; len]);
            elementwise::add(c, &x, &r, true, &mut y);
            elementwise::add(c, &xv, &rv, true, &mut want);
            rounds("add", &y, &want);
            elementwise::accumulate(c, &x, &mut y);
            let mut want: Vec<f32> = want.iter().map(|&x| Bf16::from_f32(x).to_f32()).collect();
            elementwise::accumulate(c, &xv, &mut want);
            rounds("accumulate", &y, &want);
            elementwise::relu(c, &x, &mut y);
            elementwise::relu(c, &xv, &mut want);
            rounds("relu", &y, &want);
            let (mut d, mut e) = (dy.clone(), dv.clone());
            elementwise::relu_backward(c, &y, &mut d);
            elementwise::relu_backward(c, &want, &mut e);
            rounds("relu gradient", &d, &e);
            elementwise::dropout(c, 0.3, 5, &x, &mut y);
            elementwise::dropout(c, 0.3, 5, &xv, &mut want);
            rounds("dropout", &y, &want);
        }
        let s = PoolShape::new(PoolSizes {
            batch: 2,
            height: 8,
            width: 9,
            channels: 33,
            pool: 3,
            stride: 2,
            padding: 1,
        })
        .unwrap();
        let (x, xv) = elements::<Bf16>(s.in_len(), 1);
        let (dy, dv) = elements::<Bf16>(s.out_len(), 2);
        let (mut y, mut want) = (vec![Bf16::default(); s.out_len()], vec![0.0; s.out_len()]);
        pool::max_pool(c, &s, &x, None, &mut y);
        pool::max_pool(c, &s, &xv, None, &mut want);
        rounds("pool", &y, &want);
        let (mut dx, mut want) = (vec![Bf16::default(); s.in_len()], vec![0.0; s.in_len()]);
        pool::max_pool_backward(c, &s, &x, None, &dy, false, &mut dx);
        pool::max_pool_backward(c, &s, &xv, None, &dv, false, &mut want);
        rounds("pool gradient", &dx, &want);
        let (pixels, n) = (s.height() * s.width(), s.channels());
        let (mut m, mut w) = (vec![0.0; 2 * n], vec![0.0; 2 * n]);
        pool::global_average_pool(c, pixels, n, &x, &mut m);
        pool::global_average_pool(c, pixels, n, &xv, &mut w);
        assert!(m == w, "average");
        pool::global_average_pool_backward(c, pixels, n, &m, &mut dx);
        pool::global_average_pool_backward(c, pixels, n, &m, &mut want);
        rounds("average gradient", &dx, &want);
        let s = FrameShape::new(FrameSizes {
            batch: 2,
            height: 3,
            width: 4,
            channels: 3,
            factor: 2,
            padding: 1,
        })
        .unwrap();
        let affine = Affine { source: [2, 1, 0], scale: [1.0, 2.0, 0.5], offset: [-1.0, 0.0, 3.0] };
        let x = noise(s.in_len(), 1);
        let (mut y, mut want) = (vec![Bf16::default(); s.out_len()], vec![0.0; s.out_len()]);
        elementwise::frame(c, &s, Some(&affine), &x, &mut y);
        elementwise::frame(c, &s, Some(&affine), &x, &mut want);
        rounds("frame", &y, &want);
        let values: Vec<f32> = y.iter().map(|x| x.to_f32()).collect();
        let (mut dx, mut want) = (vec![Bf16::default(); s.in_len()], vec![0.0; s.in_len()]);
        elementwise::frame_backward(c, &s, &y, &mut dx);
        elementwise::frame_backward(c, &s, &values, &mut want);
        rounds("frame gradient", &dx, &want);
    });
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
