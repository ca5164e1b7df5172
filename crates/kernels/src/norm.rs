//! Batch normalisation (Ioffe and Szegedy 2015) over rows of `channels` values.
//!
//! `x` is `[rows, channels]`, where rows are all pixels of all images; statistics and parameters
//! are `[channels]`. Variances are biased, as Keras and PyTorch normalise with.

use crate::element::Element;
use crate::rows::{map, vectorize_rounding};
use crate::simd::vectorize;
use crate::table::Compute;

/// Floats one task handles.
const TASK: usize = 1 << 15;

/// Rows one task handles: a matter of shape alone.
pub(crate) fn task_rows(channels: usize) -> usize {
    (TASK / channels.max(1)).max(1)
}

/// Sums over rows of `N` functions of a row, each `[channels]`, in f32 within a task and f64 in
/// task order across. `add(first_row, rows, sums)` adds the rows' values to `sums`.
pub(crate) fn sums<const N: usize>(
    c: &Compute,
    channels: usize,
    len: usize,
    add: impl Fn(usize, usize, [&mut [f32]; N]) + Sync,
) -> [Vec<f64>; N] {
    assert!(channels > 0 && len.is_multiple_of(channels), "length {len} is not rows of {channels}");
    let rows = len / channels;
    let step = task_rows(channels);
    let tasks = rows.div_ceil(step);
    let mut partial = vec![0.0f32; tasks * N * channels];
    if N > 0 {
        c.threads.chunks(&mut partial, N * channels, |task, part| {
            let first = task * step;
            let mut parts = part.chunks_exact_mut(channels);
            let parts = std::array::from_fn(|_| parts.next().unwrap_or_default());
            vectorize!(c.isa(), add(first, step.min(rows - first), parts));
        });
    }
    let mut totals: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; channels]);
    for part in partial.chunks_exact(N * channels) {
        for (total, part) in totals.iter_mut().zip(part.chunks_exact(channels)) {
            total.iter_mut().zip(part).for_each(|(t, &p)| *t += f64::from(p));
        }
    }
    totals
}

/// Sum over the rows of `x`, for instance the gradient of a bias.
///
/// # Panics
/// If `x` is not rows of `channels`, or there is not one sum a channel.
pub fn column_sums<E: Element>(c: &Compute, channels: usize, x: &[E], result: &mut [f32]) {
    assert_eq!(result.len(), channels, "sums length");
    let [total] = sums(
        c,
        channels,
        x.len(),
        #[inline(always)]
        |first, rows, [sum]| {
            for row in x[first * channels..(first + rows) * channels].chunks_exact(channels) {
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += x.to_f32());
            }
        },
    );
    result.iter_mut().zip(total).for_each(|(r, t)| *r = t as f32);
}

/// Mean and biased variance over the rows of `x`.
///
/// Sums are taken of `x - x[0]`, so that a large mean does not drown the variance.
///
/// # Panics
/// If `x` is not one or more rows of `channels`, or there is not one mean and variance a channel.
pub fn batch_norm_statistics<E: Element>(
    c: &Compute,
    channels: usize,
    x: &[E],
    mean: &mut [f32],
    variance: &mut [f32],
) {
    assert!(mean.len() == channels && variance.len() == channels, "statistics length");
    assert!(x.len() >= channels, "statistics of no rows");
    let shift: &Vec<f32> = &x[..channels].iter().map(|x| x.to_f32()).collect();
    let [s1, s2] = sums(
        c,
        channels,
        x.len(),
        #[inline(always)]
        |first, rows, [s1, s2]| {
            for row in x[first * channels..(first + rows) * channels].chunks_exact(channels) {
                for (((s1, s2), x), shift) in s1.iter_mut().zip(&mut *s2).zip(row).zip(shift) {
                    let d = x.to_f32() - shift;
                    *s1 += d;
                    *s2 += d * d;
                }
            }
        },
    );
    let n = (x.len() / channels) as f64;
    for k in 0..channels {
        let m = s1[k] / n;
        mean[k] = (f64::from(shift[k]) + m) as f32;
        variance[k] = (s2[k] / n - m * m).max(0.0) as f32;
    }
}

/// Scale and shift so that batch norm with these statistics is `x * scale + shift`.
///
/// # Panics
/// If the lengths differ.
pub fn batch_norm_fold(
    gamma: &[f32],
    beta: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    scale: &mut [f32],
    shift: &mut [f32],
) {
    let n = gamma.len();
    assert!(beta.len() == n && mean.len() == n && variance.len() == n, "parameter length");
    assert!(scale.len() == n && shift.len() == n, "scale length");
    for k in 0..n {
        let s = f64::from(gamma[k]) / (f64::from(variance[k]) + f64::from(epsilon)).sqrt();
        scale[k] = s as f32;
        shift[k] = (f64::from(beta[k]) - f64::from(mean[k]) * s) as f32;
    }
}

/// Keras's update of a moving statistic: `moving * momentum + batch * (1 - momentum)`.
///
/// # Panics
/// If the lengths differ.
pub fn batch_norm_moving(batch: &[f32], momentum: f32, moving: &mut [f32]) {
    assert_eq!(batch.len(), moving.len(), "statistics length");
    for (m, b) in moving.iter_mut().zip(batch) {
        *m = *m * momentum + b * (1.0 - momentum);
    }
}

/// `y = x * scale + shift`, plus `residual`, then `max(y, 0)` with `relu`, in one pass.
///
/// # Panics
/// If `x` is not rows of `channels`, or a slice has another length than it or than its channels.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_apply<E: Element>(
    c: &Compute,
    channels: usize,
    x: &[E],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[E]>,
    relu: bool,
    y: &mut [E],
) {
    assert!(channels > 0 && x.len().is_multiple_of(channels), "length is not rows of {channels}");
    assert!(scale.len() == channels && shift.len() == channels, "parameter length");
    assert!(x.len() == y.len() && residual.is_none_or(|r| r.len() == x.len()), "lengths differ");
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let step = task_rows(channels) * channels;
    c.threads.chunks(y, step, |task, y| {
        let first = task * step;
        let x = &x[first..first + y.len()];
        let residual = residual.map(|r| &r[first..first + y.len()]);
        vectorize_rounding!(c.isa(), |round| {
            let parameters = [scale, shift];
            match residual {
                None => map(
                    round,
                    channels,
                    [x],
                    parameters,
                    y,
                    #[inline(always)]
                    |[x], [a, b], _| {
                        let v = x * a + b;
                        if v < floor { floor } else { v }
                    },
                ),
                Some(r) => map(
                    round,
                    channels,
                    [x, r],
                    parameters,
                    y,
                    #[inline(always)]
                    |[x, r], [a, b], _| {
                        let v = x * a + b + r;
                        if v < floor { floor } else { v }
                    },
                ),
            }
        });
    });
}

/// What the backward pass of batch norm needs of the forward pass, each `[channels]`.
#[derive(Clone, Copy, Debug)]
pub struct NormState<'a> {
    /// Mean that was subtracted.
    pub mean: &'a [f32],
    /// Variance that was divided by.
    pub variance: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl NormState<'_> {
    /// # Panics
    /// If there is not one value a channel.
    pub(crate) fn check(&self, channels: usize) {
        let lengths = [self.mean, self.variance, self.gamma].map(<[f32]>::len);
        assert!(
            lengths == [channels; 3],
            "batch norm of {channels} channels with {lengths:?} values"
        );
    }

    fn deviation(&self, k: usize) -> f64 {
        (f64::from(self.variance[k]) + f64::from(self.epsilon)).sqrt()
    }
}

/// Gradients of `gamma` and `beta`: `sum dy * (x - mean) / sqrt(variance + epsilon)` and `sum dy`.
///
/// # Panics
/// If `x` is not rows of `channels`, or a slice has another length than it or than its channels.
pub fn batch_norm_parameter_gradients<E: Element>(
    c: &Compute,
    channels: usize,
    x: &[E],
    dy: &[E],
    state: NormState<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    assert_eq!(x.len(), dy.len(), "lengths differ");
    assert!(dgamma.len() == channels && dbeta.len() == channels, "gradient length");
    state.check(channels);
    let mean = state.mean;
    let [sum, product] = sums(
        c,
        channels,
        x.len(),
        #[inline(always)]
        |first, rows, [sum, product]| {
            let part = first * channels..(first + rows) * channels;
            let rows = x[part.clone()].chunks_exact(channels).zip(dy[part].chunks_exact(channels));
            for (x, dy) in rows {
                let targets = sum.iter_mut().zip(&mut *product);
                for ((((s, p), x), dy), m) in targets.zip(x).zip(dy).zip(mean) {
                    let dy = dy.to_f32();
                    *s += dy;
                    *p += dy * (x.to_f32() - m);
                }
            }
        },
    );
    for k in 0..channels {
        dgamma[k] = (product[k] / state.deviation(k)) as f32;
        dbeta[k] = sum[k] as f32;
    }
}

/// The same from `sum dy` and `sum dy * x`.
pub(crate) fn parameter_gradients_of_sums(
    [sum, product]: &[Vec<f64>; 2],
    state: NormState<'_>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    assert!(dgamma.len() == sum.len() && dbeta.len() == sum.len(), "gradient length");
    for k in 0..sum.len() {
        let centred = product[k] - f64::from(state.mean[k]) * sum[k];
        dgamma[k] = (centred / state.deviation(k)) as f32;
        dbeta[k] = sum[k] as f32;
    }
}

/// Gradient of the input of a training-mode batch norm,
/// `gamma / sd * (dy - dbeta / n - (x - mean) / sd * dgamma / n)`; without `dy` it is what `dx` holds.
///
/// # Panics
/// If `x` is not rows of `channels`, or a slice has another length than it or than its channels.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm_input_gradient<E: Element>(
    c: &Compute,
    channels: usize,
    x: &[E],
    state: NormState<'_>,
    dgamma: &[f32],
    dbeta: &[f32],
    dy: Option<&[E]>,
    dx: &mut [E],
) {
    assert!(x.len() == dx.len() && dy.is_none_or(|d| d.len() == dx.len()), "lengths differ");
    assert!(channels > 0 && x.len().is_multiple_of(channels), "length is not rows of {channels}");
    assert!(dgamma.len() == channels && dbeta.len() == channels, "gradient length");
    state.check(channels);
    let n = (x.len() / channels) as f64;
    let of = |f: &dyn Fn(usize) -> f64| (0..channels).map(|k| f(k) as f32).collect::<Vec<f32>>();
    let scale = of(&|k| f64::from(state.gamma[k]) / state.deviation(k));
    let offset = of(&|k| f64::from(dbeta[k]) / n);
    let slope = of(&|k| f64::from(dgamma[k]) / n / state.deviation(k));
    let mean = state.mean;
    let step = task_rows(channels) * channels;
    c.threads.chunks(dx, step, |task, dx| {
        let part = task * step..task * step + dx.len();
        let dy = dy.map(|dy| &dy[part.clone()]);
        let x = &x[part];
        vectorize_rounding!(c.isa(), |round| {
            let parameters = [&scale[..], &offset, &slope, mean];
            match dy {
                None => map(
                    round,
                    channels,
                    [x],
                    parameters,
                    dx,
                    #[inline(always)]
                    |[x], [s, o, l, m], d| s * (d - o - (x - m) * l),
                ),
                Some(dy) => map(
                    round,
                    channels,
                    [x, dy],
                    parameters,
                    dx,
                    #[inline(always)]
                    |[x, d], [s, o, l, m], _| s * (d - o - (x - m) * l),
                ),
            }
        });
    });
}

/// Gradient of the input of an inference-mode batch norm, `dy * gamma / sqrt(variance + epsilon)`; without `dy` it
/// is what `dx` holds.
///
/// # Panics
/// If `dx` is not rows of `channels`, or a slice has another length than it or than its channels.
pub fn batch_norm_frozen_input_gradient<E: Element>(
    c: &Compute,
    channels: usize,
    state: NormState<'_>,
    dy: Option<&[E]>,
    dx: &mut [E],
) {
    assert!(channels > 0 && dx.len().is_multiple_of(channels), "length is not rows of {channels}");
    assert!(dy.is_none_or(|d| d.len() == dx.len()), "lengths differ");
    state.check(channels);
    let scale: Vec<f32> =
        (0..channels).map(|k| (f64::from(state.gamma[k]) / state.deviation(k)) as f32).collect();
    let step = task_rows(channels) * channels;
    c.threads.chunks(dx, step, |task, dx| {
        vectorize!(c.isa(), {
            let rows = dx.chunks_exact_mut(channels);
            match dy.map(|dy| &dy[task * step..]) {
                None => {
                    for row in rows {
                        let scaled = row.iter_mut().zip(&scale);
                        scaled.for_each(|(d, s)| *d = E::from_f32(d.to_f32() * s));
                    }
                }
                Some(dy) => {
                    for (dx, dy) in rows.zip(dy.chunks_exact(channels)) {
                        let scaled = dx.iter_mut().zip(dy).zip(&scale);
                        scaled.for_each(|((dx, dy), s)| *dx = E::from_f32(dy.to_f32() * s));
                    }
                }
            }
        });
    });
}
