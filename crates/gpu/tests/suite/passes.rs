//! Pooling, frames, dropout and the like, against the kernels of the CPU, which have oracles of their own.

use headstart_gpu::kernels::{elementwise, frame, norm, pool};
use headstart_gpu::{Context, Store};
use headstart_kernels::elementwise::{self as host, Affine, FrameShape, FrameSizes};
use headstart_kernels::pool::{self as host_pool, Normalize, PoolShape, PoolSizes};
use headstart_kernels::table::Compute;

use crate::support::{
    close, close_as, contexts, noise, read, room, room_as, run, stored, stores, upload, upload_as,
    wide, words,
};

/// Values with many equal ones, so that maxima tie.
fn coarse(len: usize, seed: u64) -> Vec<f32> {
    noise(len, seed).into_iter().map(|v| (v * 3.0).round()).collect()
}

#[test]
fn poolings_are_those_of_the_cpu() {
    let host = Compute::new(1).unwrap();
    for c in contexts() {
        stores(c).into_iter().for_each(|store| poolings(&host, c, store));
    }
}

fn poolings(host: &Compute, c: &Context, store: Store) {
    for (side, channels, pool, stride, padding) in
        [(7, 5, 3, 2, 1), (8, 4, 2, 2, 0), (6, 3, 3, 1, 1), (5, 2, 3, 3, 2)]
    {
        let sizes =
            PoolSizes { batch: 2, height: side, width: side + 1, channels, ..PoolSizes::default() };
        let s = &PoolShape::new(PoolSizes { pool, stride, padding, ..sizes }).unwrap();
        let (x, dy) = (coarse(s.in_len(), 1), stored(noise(s.out_len(), 2), store));
        let (scale, shift) = (noise(channels, 3), noise(channels, 4));
        let state = upload(c, &[vec![0.0; 2 * channels], scale.clone(), shift.clone()].concat());
        let (xs, dys) = (upload_as(c, &x, store), upload_as(c, &dy, store));
        for (normalized, relu, mask) in
            [(false, false, false), (false, false, true), (true, false, false), (true, true, true)]
        {
            let here = normalized.then_some(Normalize { scale: &scale, shift: &shift, relu });
            let there = normalized.then_some(pool::Normalize { state: &state, relu });
            let (mut y, mut dx) = (vec![0.0; s.out_len()], vec![0.0; s.in_len()]);
            host_pool::max_pool(host, s, &x, here, &mut y);
            host_pool::max_pool_backward(host, s, &x, here, &dy, mask, &mut dx);
            let [ys, dxs] = [s.out_len(), s.in_len()].map(|len| room_as(c, len, store));
            run(c, &[pool::max_pool(s, &xs, there, &ys)]);
            run(c, &[pool::max_pool_gradient(s, &xs, there, &dys, mask, &dxs)]);
            let what = format!("{s:?} {normalized} {relu} {mask}");
            close_as(store, &read(c, &ys, y.len()), &wide(&y), 4, &what);
            let gradient = format!("gradient of {what}");
            close_as(store, &read(c, &dxs, dx.len()), &wide(&dx), 9, &gradient);
        }
    }
    let x = stored(noise(2 * 12 * 5, 9), store);
    let (xs, ys, dxs) = (upload_as(c, &x, store), room(c, 10), room_as(c, 120, store));
    run(c, &[pool::average(2, 12, 5, &xs, &ys), pool::average_gradient(2, 12, 5, &ys, &dxs)]);
    let (mut y, mut dx) = (vec![0.0; 10], vec![0.0; 120]);
    host_pool::global_average_pool(host, 12, 5, &x, &mut y);
    host_pool::global_average_pool_backward(host, 12, 5, &y, &mut dx);
    close(&read(c, &ys, 10), &wide(&y), 12, "mean");
    close_as(store, &read(c, &dxs, 120), &wide(&dx), 12, "gradient of the mean");
}

#[test]
fn frames_are_those_of_the_cpu() {
    let compute = Compute::new(1).unwrap();
    let map = Affine { source: [2, 1, 0], scale: [0.5, 2.0, -1.0], offset: [1.0, -3.0, 0.25] };
    for c in contexts() {
        for (factor, padding, map) in
            [(1, 0, None), (3, 2, Some(&map)), (1, 3, Some(&map)), (2, 1, None)]
        {
            let sizes = FrameSizes { batch: 3, height: 3, width: 5, channels: 3, factor, padding };
            let s = &FrameShape::new(sizes).unwrap();
            let bytes: Vec<u8> = (0..s.in_len()).map(|i| (i * 37 % 256) as u8).collect();
            let floats: Vec<f32> = bytes.iter().map(|&b| f32::from(b)).collect();
            let mut expected = vec![0.0f32; s.out_len()];
            host::frame(&compute, s, map, &bytes, &mut expected);
            let packed: Vec<u32> = bytes
                .chunks(4)
                .map(|b| b.iter().rev().fold(0, |word, &b| word << 8 | u32::from(b)))
                .collect();
            for store in stores(c) {
                // Frames are of pixels or of maps.
                let of_map = (upload_as(c, &floats, store), false);
                for (x, is_bytes) in
                    [(words(c, &packed), true), (upload(c, &floats), false), of_map]
                {
                    let y = room_as(c, s.out_len(), store);
                    run(c, &[frame::frame(s, map, is_bytes, &x, &y)]);
                    let what = format!("{s:?} {is_bytes}");
                    close_as(store, &read(c, &y, s.out_len()), &wide(&expected), 4, &what);
                }
                let dy = stored(noise(s.out_len(), 8), store);
                let (dys, dxs) = (upload_as(c, &dy, store), room_as(c, s.in_len(), store));
                run(c, &[frame::frame_gradient(s, &dys, &dxs)]);
                let mut dx = vec![0.0f32; s.in_len()];
                host::frame_backward(&compute, s, &dy, &mut dx);
                let what = format!("gradient of {s:?}");
                close_as(store, &read(c, &dxs, dx.len()), &wide(&dx), 9, &what);
            }
        }
    }
}

#[test]
fn dropout_is_the_cpus_bit_by_bit() {
    let compute = Compute::new(1).unwrap();
    for c in contexts() {
        let x = noise(5001, 1);
        for (rate, seed) in [(0.5, 7), (0.1, 0xdead_beef_0123_4567), (0.0, 0)] {
            let mut expected = vec![0.0; x.len()];
            host::dropout(&compute, rate, seed, &x, &mut expected);
            let (xs, ys) = (upload(c, &x), room(c, x.len()));
            run(c, &[elementwise::dropout(x.len(), rate, seed, &xs, &ys)]);
            assert!(read(c, &ys, x.len()) == expected, "{rate} {seed}");
        }
    }
}

#[test]
fn passes_are_their_definitions() {
    for c in contexts() {
        let all = [1usize, 7, 1000].map(|len| stores(c).into_iter().map(move |store| (len, store)));
        for (len, store) in all.into_iter().flatten() {
            let (a, b) = (stored(noise(len, 1), store), stored(noise(len, 2), store));
            let (xs, bs) = (upload_as(c, &a, store), upload_as(c, &b, store));
            let check = |call: &dyn Fn(&headstart_gpu::Span) -> headstart_gpu::Call,
                         f: &dyn Fn(f64, f64) -> f64| {
                let y = upload_as(c, &b, store);
                run(c, &[call(&y)]);
                let expected: Vec<f64> =
                    wide(&a).iter().zip(wide(&b)).map(|(&a, b)| f(a, b)).collect();
                close_as(store, &read(c, &y, len), &expected, 4, &format!("{len}"));
            };
            check(&|y| elementwise::copy(len, &xs, false, y), &|a, _| a);
            check(&|y| elementwise::copy(len, &xs, true, y), &|a, _| a.max(0.0));
            check(&|y| elementwise::add(len, &xs, &bs, true, y), &|a, b| (a + b).max(0.0));
            check(&|y| elementwise::accumulate(len, 3.0, &xs, y), &|a, b| b + 3.0 * a);
            check(&|y| elementwise::relu_gradient(len, &xs, y), &|a, b| {
                if a > 0.0 { b } else { 0.0 }
            });
            // Weights are rounded to what kernels multiply with.
            let (weights, y) = (noise(len, 3), room_as(c, len, store));
            run(c, &[elementwise::copy(len, &upload(c, &weights), false, &y)]);
            assert!(read(c, &y, len) == stored(weights, store), "{len} {store:?}");
        }
    }
}

#[test]
fn batch_norms_are_their_definitions() {
    for c in contexts() {
        let all = [(5, 3), (700, 8), (2000, 40)]
            .map(|size| stores(c).into_iter().map(move |store| (size, store)));
        for ((rows, channels), store) in all.into_iter().flatten() {
            let of = norm::Rows { rows, channels };
            let x = noise(rows * channels, 1).iter().map(|v| v * 2.0 + 30.0).collect();
            let (x, dy) = (stored(x, store), stored(noise(rows * channels, 2), store));
            let [gamma, beta, mean, variance] = [3, 4, 5, 6].map(|seed| noise(channels, seed));
            let [g, b, m, v] = [&gamma, &beta, &mean, &variance].map(|values| upload(c, values));
            let [xs, dys] = [&x, &dy].map(|values| upload_as(c, values, store));
            let [ys, dxs] = [0; 2].map(|_| room_as(c, x.len(), store));
            let (scratch, state) = (room(c, of.scratch()), room(c, 4 * channels));
            let (dg, db, sums) = (room(c, channels), room(c, channels), room(c, channels));
            let layer = norm::Layer {
                gamma: &g,
                beta: &b,
                moving_mean: &m,
                moving_variance: &v,
                epsilon: 1e-3,
                momentum: 0.9,
                unbiased: true,
            };
            let held = (&state, 1e-3);
            let mut calls = norm::statistics(of, &xs, &scratch, &state, layer).to_vec();
            calls.push(norm::apply(of, &xs, &state, Some(&dys), true, &ys));
            calls.extend(norm::gradients(of, &xs, &dys, &scratch, held, [&dg, &db]));
            calls.push(norm::input_gradient(of, &xs, held, [&g, &dg, &db], Some(&dys), &dxs));
            calls.extend(norm::column_sums(of, &dys, &scratch, &sums));
            run(c, &calls);
            let (xw, dyw, n) = (wide(&x), wide(&dy), rows as f64);
            let column = |k: usize, f: &dyn Fn(usize) -> f64| -> f64 {
                (0..rows).map(|r| f(r * channels + k)).sum()
            };
            let mut want = [vec![], vec![], vec![], vec![], vec![]];
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            for k in 0..channels {
                let mu = column(k, &|i| xw[i]) / n;
                let var = column(k, &|i| (xw[i] - mu).powi(2)) / n;
                let s = (var + 1e-3).sqrt();
                let d_gamma = column(k, &|i| dyw[i] * (xw[i] - mu) / s);
                let d_beta = column(k, &|i| dyw[i]);
                for r in 0..rows {
                    let i = r * channels + k;
                    let hat = (xw[i] - mu) / s;
                    y[i] = (hat * f64::from(gamma[k]) + f64::from(beta[k]) + dyw[i]).max(0.0);
                    dx[i] = f64::from(gamma[k]) / s * (dyw[i] - d_beta / n - hat * d_gamma / n);
                }
                let moved = |old: f32, new: f64| 0.9 * f64::from(old) + 0.1 * new;
                want[0].push(moved(mean[k], mu));
                want[1].push(moved(variance[k], var * n / (n - 1.0)));
                want[2].push(d_gamma);
                want[3].push(d_beta);
                want[4].push(d_beta);
            }
            for (span, want) in [&m, &v, &dg, &db, &sums].into_iter().zip(&want) {
                close(&read(c, span, channels), want, 40 * rows, &format!("{of:?} {store:?}"));
            }
            close_as(store, &read(c, &ys, x.len()), &y, 40 * rows, &format!("{of:?}"));
            close_as(store, &read(c, &dxs, x.len()), &dx, 40 * rows, &format!("{of:?}"));
        }
    }
}
