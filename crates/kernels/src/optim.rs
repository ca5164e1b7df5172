//! Optimizer updates with Keras's formulas.

use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

/// Floats one task handles.
const TASK: usize = 1 << 15;

/// Settings of RMSprop (Keras's `RMSprop` without momentum and centering).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Learning rate.
    pub learning_rate: f32,
    /// Decay of the mean square.
    pub rho: f32,
    /// Added under the root.
    pub epsilon: f32,
}

/// `v = rho v + (1 - rho) g^2; w -= learning_rate g / sqrt(v + epsilon)`
///
/// # Panics
/// If the lengths differ.
pub fn rmsprop(c: &Compute, s: RmsProp, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    update(
        c,
        w,
        g,
        [v],
        #[inline(always)]
        |w, g, [v]| {
            for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
                *v = s.rho * *v + (1.0 - s.rho) * g * g;
                *w -= s.learning_rate * g / (*v + s.epsilon).sqrt();
            }
        },
    );
}

/// Settings of gradient descent with momentum (Keras's `SGD`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub learning_rate: f32,
    /// Momentum: fraction of the last step that is repeated.
    pub momentum: f32,
    /// Whether the gradient step is taken from where momentum leads.
    pub nesterov: bool,
}

/// Without momentum `w -= learning_rate g`; with it `m = momentum m - learning_rate g`, then
/// `w += m`, or `w += momentum m - learning_rate g` for Nesterov.
///
/// # Panics
/// If the lengths differ.
pub fn sgd(c: &Compute, s: Sgd, w: &mut [f32], g: &[f32], m: &mut [f32]) {
    let Sgd { learning_rate, momentum, nesterov } = s;
    update(
        c,
        w,
        g,
        [m],
        #[inline(always)]
        |w, g, [m]| {
            for ((w, &g), m) in w.iter_mut().zip(g).zip(m) {
                let step = learning_rate * g;
                *m = momentum * *m - step;
                *w += if nesterov { momentum * *m - step } else { *m };
            }
        },
    );
}

/// Settings of Adam (Kingma and Ba 2014; Keras's `Adam` without `amsgrad`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f32,
    /// Decay of the mean gradient.
    pub beta_1: f32,
    /// Decay of the mean square.
    pub beta_2: f32,
    /// Added to the root: the paper's "epsilon hat".
    pub epsilon: f32,
    /// Number of this update, from 1, which takes the bias of the young means off.
    pub step: u64,
}

/// `m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= alpha m / (sqrt(v) + epsilon)` with
/// `alpha = learning_rate sqrt(1 - beta_2^step) / (1 - beta_1^step)`
///
/// # Panics
/// If the lengths differ.
pub fn adam(c: &Compute, s: Adam, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let power = |beta: f32| f64::from(beta).powf(s.step as f64);
    let unbias = (1.0 - power(s.beta_2)).sqrt() / (1.0 - power(s.beta_1));
    let alpha = (f64::from(s.learning_rate) * unbias) as f32;
    update(
        c,
        w,
        g,
        [m, v],
        #[inline(always)]
        |w, g, [m, v]| {
            for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                *m += (1.0 - s.beta_1) * (g - *m);
                *v += (1.0 - s.beta_2) * (g * g - *v);
                *w -= alpha * *m / (v.sqrt() + s.epsilon);
            }
        },
    );
}

/// Decoupled weight decay (Loshchilov and Hutter 2017), which goes before the update as in Keras:
/// `w -= learning_rate weight_decay w`
pub fn weight_decay(c: &Compute, learning_rate: f32, weight_decay: f32, w: &mut [f32]) {
    c.threads.chunks(w, TASK, |_, w| {
        vectorize!(c.isa(), w.iter_mut().for_each(|w| *w -= *w * weight_decay * learning_rate));
    });
}

/// Cuts weights, gradient and memory into tasks.
fn update<const N: usize>(
    c: &Compute,
    w: &mut [f32],
    g: &[f32],
    state: [&mut [f32]; N],
    f: impl Fn(&mut [f32], &[f32], [&mut [f32]; N]) + Sync,
) {
    let n = w.len();
    assert!(g.len() == n && state.iter().all(|s| s.len() == n), "lengths differ");
    let state = state.map(Shared::new);
    c.threads.chunks(w, TASK, |task, w| {
        let start = task * TASK;
        let g = &g[start..][..w.len()];
        // SAFETY: tasks own disjoint parts.
        let state = std::array::from_fn(|i| unsafe { state[i].slice(start, w.len()) });
        vectorize!(c.isa(), f(w, g, state));
    });
}
