//! Optimizer updates with Keras's formulas.

use crate::simd::vectorize;
use crate::table::Compute;
use crate::threads::Shared;

/// Floats one task handles.
const TASK: usize = 1 << 15;

/// Settings of RMSprop (Keras's `RMSprop` without momentum and centering).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Step size.
    pub learning_rate: f32,
    /// Share of the old mean square that is kept.
    pub rho: f32,
    /// Added under the root.
    pub epsilon: f32,
}

/// `v = rho v + (1 - rho) g^2; w -= learning_rate g / sqrt(v + epsilon)`
///
/// # Panics
/// If the lengths differ.
pub fn rmsprop(c: &Compute, s: RmsProp, w: &mut [f32], g: &[f32], v: &mut [f32]) {
    update(c, w, g, v, |w, g, v| {
        *v = s.rho * *v + (1.0 - s.rho) * g * g;
        *w -= s.learning_rate * g / (*v + s.epsilon).sqrt();
    });
}

/// Settings of gradient descent with momentum (Keras's `SGD`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
    /// Share of the last step that is repeated.
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
    update(c, w, g, m, |w, g, m| {
        let step = learning_rate * g;
        *m = momentum * *m - step;
        *w += if nesterov { momentum * *m - step } else { *m };
    });
}

fn update(
    c: &Compute,
    w: &mut [f32],
    g: &[f32],
    state: &mut [f32],
    f: impl Fn(&mut f32, f32, &mut f32) + Sync,
) {
    assert!(w.len() == g.len() && w.len() == state.len(), "lengths differ");
    let state = Shared::new(state);
    c.threads.chunks(w, TASK, |task, w| {
        let g = &g[task * TASK..][..w.len()];
        // SAFETY: tasks own disjoint parts.
        let state = unsafe { state.slice(task * TASK, w.len()) };
        vectorize(c.isa(), || {
            for ((w, &g), s) in w.iter_mut().zip(g).zip(state) {
                f(w, g, s);
            }
        });
    });
}
