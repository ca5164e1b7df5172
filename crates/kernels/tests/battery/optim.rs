//! Optimizers, five steps of each.

use headstart_kernels::element::Element;
use headstart_kernels::optim::{self, Adam, RmsProp, Sgd};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want, gamma, wide};
use crate::support::noise;

/// `optim::rmsprop`, `optim::sgd` in its three ways, `optim::adam` and `optim::weight_decay`.
pub struct Rules;

const STEPS: usize = 5;
const RMSPROP: RmsProp = RmsProp { learning_rate: 1e-2, rho: 0.9, epsilon: 1e-7 };
const SGD: [Sgd; 3] = [
    Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false },
    Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: false },
    Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: true },
];
const ADAM: Adam = Adam { learning_rate: 1e-2, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, step: 0 };
const DECAY: [f32; 2] = [0.1, 0.3];

/// Changes weights by a step's number and their gradient.
type Rule<'a> = &'a mut dyn FnMut(usize, &mut [f32], &[f32]);

fn gradient(n: usize, step: usize) -> Vec<f32> {
    noise(n, 2 + step as u64)
}

impl Kernel for Rules {
    /// Weights.
    type Shape = usize;

    fn edges() -> Vec<usize> {
        vec![1, 1 << 15, 40_003]
    }

    fn small() -> BoxedStrategy<usize> {
        (0..200usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &n: &usize) -> Vec<Vec<f64>> {
        let steps = |rule: Rule<'_>| {
            let mut w = noise(n, 1);
            (0..STEPS).for_each(|step| rule(step, &mut w, &gradient(n, step)));
            wide(&w)
        };
        let mut v = vec![0.0; n];
        let mut outputs = vec![steps(&mut |_, w, g| optim::rmsprop(c, RMSPROP, w, g, &mut v))];
        for s in SGD {
            let mut m = vec![0.0; n];
            outputs.push(steps(&mut |_, w, g| optim::sgd(c, s, w, g, &mut m)));
        }
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        outputs.push(steps(&mut |step, w, g| {
            optim::adam(c, Adam { step: step as u64 + 1, ..ADAM }, w, g, &mut m, &mut v);
        }));
        let mut w = noise(n, 1);
        optim::weight_decay(c, DECAY[0], DECAY[1], &mut w);
        outputs.push(wide(&w));
        outputs
    }

    fn want<E: Element>(&n: &usize) -> Vec<Want> {
        let (start, gradients) =
            (wide(&noise(n, 1)), [0, 1, 2, 3, 4].map(|s| wide(&gradient(n, s))));
        // Each weight by itself: `rule(step, gradient)` is what it changes by.
        let steps = |what: &'static str, rule: &dyn Fn() -> Box<dyn FnMut(usize, f64) -> f64>| {
            let end = |i: usize| {
                let mut rule = rule();
                (0..STEPS).fold(start[i], |w, step| w + rule(step, gradients[step][i]))
            };
            // Weights stay below 3; a step is four roundings of its own size, a tenth of that, and one of the weight.
            Want::floats(what, (0..n).map(end).collect(), |_| 3.0 * gamma(2 * STEPS))
        };
        let rmsprop = || -> Box<dyn FnMut(usize, f64) -> f64> {
            let RmsProp { learning_rate, rho, epsilon } = RMSPROP;
            let [rate, rho, epsilon] = [learning_rate, rho, epsilon].map(f64::from);
            let mut square = 0.0f64;
            Box::new(move |_, g| {
                square = rho * square + (1.0 - rho) * g * g;
                -rate * g / (square + epsilon).sqrt()
            })
        };
        let mut wants = vec![steps("rmsprop", &rmsprop)];
        for Sgd { learning_rate, momentum, nesterov } in SGD {
            let sgd = move || -> Box<dyn FnMut(usize, f64) -> f64> {
                let [rate, momentum] = [learning_rate, momentum].map(f64::from);
                let mut velocity = 0.0f64;
                Box::new(move |_, g| {
                    velocity = momentum * velocity - rate * g;
                    if nesterov { momentum * velocity - rate * g } else { velocity }
                })
            };
            wants.push(steps("sgd", &sgd));
        }
        let adam = || -> Box<dyn FnMut(usize, f64) -> f64> {
            let Adam { learning_rate, beta_1, beta_2, epsilon, .. } = ADAM;
            let [rate, one, two, epsilon] = [learning_rate, beta_1, beta_2, epsilon].map(f64::from);
            let (mut mean, mut square) = (0.0f64, 0.0f64);
            Box::new(move |step, g| {
                let t = step as i32 + 1;
                mean = one * mean + (1.0 - one) * g;
                square = two * square + (1.0 - two) * g * g;
                let (first, second) = (1.0 - one.powi(t), 1.0 - two.powi(t));
                // Keras's epsilon is added before the bias is taken off.
                -rate * (mean / first) / ((square / second).sqrt() + epsilon / second.sqrt())
            })
        };
        wants.push(steps("adam", &adam));
        let [rate, decay] = DECAY.map(f64::from);
        let decayed = start.iter().map(|w| w * (1.0 - rate * decay)).collect();
        wants.push(Want::floats("weight decay", decayed, |i| start[i].abs() * gamma(3)));
        wants
    }
}
