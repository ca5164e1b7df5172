//! Losses and updates against those of the CPU.

use headstart_gpu::kernels::{loss, optim};
use headstart_kernels::loss as host;
use headstart_kernels::loss::{Labels, Targets};
use headstart_kernels::optim as host_optim;
use headstart_kernels::table::Compute;

use crate::support::{close, contexts, noise, read, room, run, upload, wide, words};

#[test]
fn losses_are_those_of_the_cpu() {
    let compute = Compute::new(1).unwrap();
    for c in contexts() {
        for (rows, classes) in [(3usize, 4usize), (300, 10), (2, 1000)] {
            let logits: Vec<f32> = noise(rows * classes, 1).iter().map(|v| v * 9.0).collect();
            let mut p = vec![0.0; logits.len()];
            host::softmax(&compute, classes, &logits, &mut p);
            let (x, ps) = (upload(c, &logits), room(c, p.len()));
            run(c, &[loss::softmax(rows, classes, &x, &ps)]);
            close(&read(c, &ps, p.len()), &wide(&p), 100, "softmax");
            let label = |i: usize, by: usize| ((i * by + 1) % classes) as u32;
            let one: Vec<u32> = (0..rows).map(|i| label(i, 7)).collect();
            let two: Vec<u32> = (0..rows).map(|i| label(i, 3)).collect();
            let weights: Vec<f32> = noise(classes, 5).iter().map(|w| w.abs() + 0.1).collect();
            for (weights, smoothing, share) in [
                (vec![], 0.0, None),
                (weights.clone(), 0.0, None),
                (weights, 0.2, Some(0.3)),
                (vec![], 0.1, Some(0.8)),
            ] {
                let targets = Targets { weights, smoothing };
                let labels = Labels { first: &one, second: share.map(|share| (&two[..], share)) };
                let expected = targets.loss(classes, &p, labels);
                let mut dx = vec![0.0; p.len()];
                targets.gradient(classes, &p, labels, &mut dx);
                let each =
                    if targets.weights.is_empty() { vec![1.0; classes] } else { targets.weights };
                let (first, second, weights) = (words(c, &one), words(c, &two), upload(c, &each));
                let of = loss::Targets {
                    first: &first,
                    second: &second,
                    weights: &weights,
                    share: share.unwrap_or(0.0),
                    smoothing,
                };
                let (losses, hits, result) = (room(c, rows), room(c, rows), room(c, 2));
                let dxs = room(c, dx.len());
                let held = upload(c, &p);
                let mut calls =
                    loss::loss(rows, classes, &held, of, [&losses, &hits], &result).to_vec();
                calls.push(loss::gradient(rows, classes, &held, of, &dxs));
                run(c, &calls);
                let found = read(c, &result, 2);
                let mean = expected.loss / rows as f64;
                assert!((f64::from(found[0]) - mean).abs() <= 2e-6 * mean, "{} {mean}", found[0]);
                assert_eq!(found[1].to_bits() as usize, expected.correct);
                close(&read(c, &dxs, dx.len()), &wide(&dx), 16, "gradient");
            }
        }
    }
}

#[test]
fn updates_are_those_of_the_cpu() {
    let compute = Compute::new(1).unwrap();
    for c in contexts() {
        let len = 200;
        let (rate, decay) = (0.01, 0.5);
        for rule in [
            optim::Rule::Sgd { momentum: 0.0, nesterov: false },
            optim::Rule::Sgd { momentum: 0.9, nesterov: false },
            optim::Rule::Sgd { momentum: 0.9, nesterov: true },
            optim::Rule::RmsProp { rho: 0.9, epsilon: 1e-7 },
            optim::Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 },
        ] {
            let (mut w, mut m, mut v) = (noise(len, 1), vec![0.0; len], vec![0.0; len]);
            // The third block has no decay and twice the rate, the fourth does not train.
            let [ws, ms, vs] = [&w, &m, &v].map(|values| upload(c, values));
            let blocks = upload(c, &[1.0, decay, 1.0, decay, 2.0, 0.0, -1.0, decay]);
            let factor = upload(c, &[1.0]);
            for step in 1..4u64 {
                let g = noise(len, 10 + step);
                let gs = upload(c, &g);
                let unbias = match rule {
                    optim::Rule::Adam { beta_1, beta_2, .. } => {
                        let power = |beta: f32| f64::from(beta).powf(step as f64);
                        ((1.0 - power(beta_2)).sqrt() / (1.0 - power(beta_1))) as f32
                    }
                    _ => 1.0,
                };
                let of = optim::Update {
                    w: &ws,
                    g: &gs,
                    blocks: &blocks,
                    first_block: 0,
                    memory: [&ms, &vs],
                    clip: None,
                    factor: (&factor, false),
                };
                run(c, &[optim::update(rule, len, rate, unbias, of)]);
                for (part, learning_rate, decay) in
                    [(0..128, rate, decay), (128..192, 2.0 * rate, 0.0)]
                {
                    let (w, g) = (&mut w[part.clone()], &g[part.clone()]);
                    let (m, v) = (&mut m[part.clone()], &mut v[part]);
                    host_optim::weight_decay(&compute, learning_rate, decay, w);
                    match rule {
                        optim::Rule::Sgd { momentum, nesterov } => {
                            let s = host_optim::Sgd { learning_rate, momentum, nesterov };
                            host_optim::sgd(&compute, s, w, g, m);
                        }
                        optim::Rule::RmsProp { rho, epsilon } => {
                            let s = host_optim::RmsProp { learning_rate, rho, epsilon };
                            host_optim::rmsprop(&compute, s, w, g, m);
                        }
                        optim::Rule::Adam { beta_1, beta_2, epsilon } => {
                            let s =
                                host_optim::Adam { learning_rate, beta_1, beta_2, epsilon, step };
                            host_optim::adam(&compute, s, w, g, m, v);
                        }
                    }
                }
            }
            close(&read(c, &ws, len), &wide(&w), 64, &format!("{rule:?}"));
        }
    }
}

#[test]
fn gradients_are_clipped_by_their_global_norm() {
    for c in contexts() {
        let g = noise(50_000, 3);
        let gs = upload(c, &g);
        for clip in [None, Some(0.5f32)] {
            let clipped: Vec<f64> = wide(&g)
                .iter()
                .map(|&v| clip.map_or(v, |most| v.clamp(-f64::from(most), f64::from(most))))
                .collect();
            let norm = clipped.iter().map(|v| v * v).sum::<f64>().sqrt();
            for most in [norm * 0.25, norm * 2.0] {
                let parts = optim::square_parts(g.len());
                let (sums, factor) = (room(c, parts + 3), room(c, 1));
                c.write_floats(&sums, &[1.0, 2.0, 1.0]).unwrap();
                let calls = [
                    optim::square_sums(g.len(), clip, &gs, 3, &sums),
                    optim::clip_factor(parts + 3, most as f32, &sums, &factor),
                ];
                run(c, &calls);
                let whole = (norm * norm + 4.0).sqrt();
                let expected = (most / whole).min(1.0);
                close(&read(c, &factor, 1), &[expected], 64, "factor");
            }
        }
        let (w, average) = (noise(100, 1), noise(100, 2));
        let (ws, averages) = (upload(c, &w), upload(c, &average));
        run(c, &[optim::moving_average(100, 0.75, &ws, &averages)]);
        let mean = wide(&w)
            .iter()
            .zip(wide(&average))
            .map(|(w, a)| 0.75 * a + 0.25 * w)
            .collect::<Vec<_>>();
        close(&read(c, &averages, 100), &mean, 4, "average");
    }
}

/// Values that are not finite are counted wherever they are, and the factor is a power of two.
#[test]
fn scaled_gradients_are_unscaled_and_counted() {
    for c in contexts() {
        let g = noise(50_000, 3);
        for bad in [&[][..], &[0], &[16_383, 16_384, 49_999]] {
            let mut scaled: Vec<f32> = g.iter().map(|v| v * 1024.0).collect();
            let kinds = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            bad.iter().zip(kinds).for_each(|(&i, kind)| scaled[i] = kind);
            let parts = optim::square_parts(g.len());
            let (gs, result) = (upload(c, &scaled), words(c, &[7; 3]));
            let counts = words(c, &vec![2; parts + 1]);
            let calls = [
                optim::unscale(g.len(), 1.0 / 1024.0, &gs, 1, &counts),
                optim::count(parts + 1, &counts, 2, &result),
            ];
            run(c, &calls);
            let found: Vec<u32> = read(c, &result, 3).into_iter().map(f32::to_bits).collect();
            assert_eq!(found, [7, 7, 2 + bad.len() as u32]);
            let after = read(c, &gs, g.len());
            let same = |i: usize| after[i] == g[i] || bad.contains(&i) && !after[i].is_finite();
            assert!((0..g.len()).all(same), "{bad:?}");
        }
    }
}
