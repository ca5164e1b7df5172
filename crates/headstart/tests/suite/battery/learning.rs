//! From gradients to weights: optimizers, clipping, averages, and what is stored of them.

use headstart::Device;
use headstart::execute::{Execute, Training, Turn, Weights};
use headstart::optimizer::{DecayOf, Optimizer, Rule, WeightDecay};
use headstart::parameters::{Parameters, Role};
use headstart::resnet::{Block, FreezePoint, Net, Stem};
use headstart_kernels::loss::Targets;

use super::{Case, case, gradients, net, trains, weights_of};
use crate::oracle::assert_within;

const RATE: f64 = 0.01;

fn small() -> (Net, Case) {
    let net = net(Stem::Cifar, Block::Basic, false);
    let case = case(&net, 5);
    (net, case)
}

fn training(rule: Rule) -> Training {
    Training::new(Optimizer::new(rule, RATE as f32).unwrap())
}

/// The rules by their definitions, in f64.
fn updated(rule: Rule, decay: f64, t: u64, w: f64, g: f64, state: &mut [f64; 2]) -> f64 {
    let w = w - RATE * decay * w;
    match rule {
        Rule::Sgd { momentum, nesterov } => {
            let m = f64::from(momentum);
            state[0] = m * state[0] - RATE * g;
            match (momentum == 0.0, nesterov) {
                (true, _) => w - RATE * g,
                (false, false) => w + state[0],
                (false, true) => w + m * state[0] - RATE * g,
            }
        }
        Rule::RmsProp { rho, epsilon } => {
            let rho = f64::from(rho);
            state[0] = rho * state[0] + (1.0 - rho) * g * g;
            w - RATE * g / (state[0] + f64::from(epsilon)).sqrt()
        }
        Rule::Adam { beta_1, beta_2, epsilon } => {
            let (b1, b2) = (f64::from(beta_1), f64::from(beta_2));
            state[0] = b1 * state[0] + (1.0 - b1) * g;
            state[1] = b2 * state[1] + (1.0 - b2) * g * g;
            let rate = RATE * (1.0 - b2.powi(t as i32)).sqrt() / (1.0 - b1.powi(t as i32));
            w - rate * state[0] / (state[1].sqrt() + f64::from(epsilon))
        }
    }
}

/// Weights after three steps follow from the gradients that the device says it had.
pub fn every_optimizer_follows_its_rule(device: &Device) {
    let (net, case) = small();
    let trainable = net.trainable(FreezePoint(3));
    let kernels = WeightDecay { rate: 0.5, of: DecayOf::Kernels };
    for (rule, decay) in [
        (Rule::SGD, WeightDecay::default()),
        (Rule::Sgd { momentum: 0.9, nesterov: false }, kernels),
        (Rule::Sgd { momentum: 0.9, nesterov: true }, WeightDecay::default()),
        (Rule::RMSPROP, WeightDecay { rate: 0.5, of: DecayOf::All }),
        (Rule::ADAM, kernels),
    ] {
        let mut e = trains(&case, device, 5, vec![0], &trainable);
        let optimizer = Optimizer::new(rule, 1.0).unwrap().with_weight_decay(decay).unwrap();
        let ema = 0.75;
        e.prepare(Training { average: Some(ema), ..Training::new(optimizer) }).unwrap();
        let wide = |p: &Parameters| -> Vec<Vec<f64>> {
            p.tensors.iter().map(|t| t.values.iter().map(|&v| f64::from(v)).collect()).collect()
        };
        let (mut expected, mut average) = (wide(&case.parameters), wide(&case.parameters));
        let mut states: Vec<Vec<[f64; 2]>> =
            expected.iter().map(|t| vec![[0.0; 2]; t.len()]).collect();
        for step in 0..3 {
            let turn = Turn { step, replica: 0 };
            e.train_step(&[(&case.images).into()], (&case.labels).into(), turn).unwrap();
            let g = gradients(&mut *e);
            e.update(RATE as f32).unwrap();
            let after = weights_of(&mut *e, &case, Weights::Current);
            for (i, t) in case.parameters.tensors.iter().enumerate() {
                let decay = match decay.of {
                    DecayOf::Kernels if t.role != Role::Kernel => 0.0,
                    _ => f64::from(decay.rate),
                };
                for (k, &g) in g.tensors[i].iter().enumerate() {
                    let (w, state) = (expected[i][k], &mut states[i][k]);
                    expected[i][k] = updated(rule, decay, step + 1, w, f64::from(g), state);
                    let error = (f64::from(after.tensors[i].values[k]) - expected[i][k]).abs();
                    // Adam and RMSprop divide by roots of what may be close to nothing.
                    let bound = 2e-5 * expected[i][k].abs().max(0.1);
                    assert_within(error, bound, &format!("{rule:?} {} {k}", t.name));
                }
                for (a, &w) in average[i].iter_mut().zip(&after.tensors[i].values) {
                    *a = f64::from(ema) * *a + (1.0 - f64::from(ema)) * f64::from(w);
                }
            }
        }
        let shown = weights_of(&mut *e, &case, Weights::Average);
        for ((t, want), own) in shown.tensors.iter().zip(&average).zip(&case.parameters.tensors) {
            for (&a, want) in t.values.iter().zip(want) {
                let want = if trainable[own.node] { *want } else { f64::from(a) };
                assert_within((f64::from(a) - want).abs(), 1e-6, &format!("mean of {}", t.name));
            }
            assert!(trainable[own.node] || t == own, "{} is frozen", t.name);
        }
    }
}

pub fn gradients_are_clipped(device: &Device) {
    let (net, case) = small();
    let trainable = net.trainable(FreezePoint(0));
    let moved = |clip: &dyn Fn(&mut Training)| -> Vec<f64> {
        let mut e = trains(&case, device, 5, vec![0], &trainable);
        let mut training = training(Rule::SGD);
        clip(&mut training);
        e.prepare(training).unwrap();
        e.train_step(&[(&case.images).into()], (&case.labels).into(), Turn::default()).unwrap();
        e.update(1.0).unwrap();
        let after = weights_of(&mut *e, &case, Weights::Current);
        let pairs = case.parameters.tensors.iter().zip(&after.tensors);
        let trained = pairs.filter(|(t, _)| t.role.has_gradient());
        let way = trained.flat_map(|(a, b)| a.values.iter().zip(&b.values));
        way.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect()
    };
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let whole = moved(&|_| {});
    let most = norm(&whole) / 3.0;
    let by_norm = moved(&|t| t.clip_norm = Some(most as f32));
    assert_within((norm(&by_norm) - most).abs(), 1e-4 * most, "norm");
    for (a, b) in whole.iter().zip(&by_norm) {
        assert_within((a / 3.0 - b).abs(), 1e-5 * norm(&whole), "direction");
    }
    let largest = whole.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let by_value = moved(&|t| t.clip_value = Some((largest / 4.0) as f32));
    for (a, b) in whole.iter().zip(&by_value) {
        let want = a.clamp(-largest / 4.0, largest / 4.0);
        assert_within((want - b).abs(), 1e-5 * largest, "element");
    }
}

pub fn targets_are_checked_and_weigh(device: &Device) {
    let (net, case) = small();
    let mut e = trains(&case, device, 5, vec![0], &net.head_only());
    let targets = |weights: &[f32], smoothing| Targets { weights: weights.into(), smoothing };
    let with = |targets| Training { targets, ..training(Rule::SGD) };
    assert!(e.prepare(with(targets(&[1.0; 2], 0.0))).is_err());
    assert!(e.prepare(with(targets(&[], 1.0))).is_err());
    let mut loss = |targets| {
        e.prepare(with(targets)).unwrap();
        let labels = (&case.labels).into();
        e.train_step(&[(&case.images).into()], labels, Turn::default()).unwrap().loss
    };
    let (plain, double) = (loss(targets(&[], 0.0)), loss(targets(&[2.0; 3], 0.0)));
    assert_within(f64::from(double - 2.0 * plain).abs(), 1e-5, "weights");
    assert!(loss(targets(&[], 0.3)) != plain);
}

/// What is stored of weights, their average and the optimizer leads another executor to the same bits.
pub fn a_resumed_step_has_the_same_bits(device: &Device) {
    let (net, case) = small();
    let trainable = net.trainable(FreezePoint(5));
    for rule in [Rule::SGD, Rule::RMSPROP, Rule::ADAM, Rule::Sgd { momentum: 0.9, nesterov: true }]
    {
        let learn = || Training { average: Some(0.9), ..training(rule) };
        let run = |e: &mut dyn Execute, steps: std::ops::Range<u64>| {
            for step in steps {
                let turn = Turn { step, replica: 0 };
                e.train_step(&[(&case.images).into()], (&case.labels).into(), turn).unwrap();
                e.update(RATE as f32).unwrap();
            }
        };
        let mut whole = trains(&case, device, 5, vec![0], &trainable);
        whole.prepare(learn()).unwrap();
        run(&mut *whole, 0..2);
        let state = whole.optimizer_state().unwrap();
        let raw = weights_of(&mut *whole, &case, Weights::Current);
        let average = weights_of(&mut *whole, &case, Weights::Average);
        run(&mut *whole, 2..4);

        let mut resumed = trains(&case, device, 5, vec![0], &trainable);
        resumed.prepare(learn()).unwrap();
        resumed.load(&raw).unwrap();
        resumed.set_average(&average).unwrap();
        resumed.set_optimizer_state(&state).unwrap();
        run(&mut *resumed, 2..4);
        for which in [Weights::Current, Weights::Average] {
            let [a, b] = [&mut whole, &mut resumed].map(|e| weights_of(&mut **e, &case, which));
            assert!(a == b, "{rule:?} {which:?}");
        }
        let mut statistics = Vec::new();
        whole.statistics(&mut statistics).unwrap();
        assert!(!statistics.is_empty() && whole.set_statistics(&statistics[1..]).is_err());
        statistics.fill(0.25);
        whole.set_statistics(&statistics).unwrap();
        let after = weights_of(&mut *whole, &case, Weights::Current);
        let moved = after.tensors.iter().filter(|t| trainable[t.node] && !t.role.has_gradient());
        assert!(moved.flat_map(|t| &t.values).all(|&v| v == 0.25));
        let momentum = Rule::Sgd { momentum: 0.9, nesterov: true };
        let other = if rule == Rule::ADAM { Rule::RMSPROP } else { Rule::ADAM };
        resumed.prepare(training(other)).unwrap();
        let fits = rule == Rule::SGD || rule == momentum || rule == Rule::RMSPROP;
        assert_eq!(resumed.set_optimizer_state(&state).is_ok(), fits, "{rule:?}");
    }
}

/// Dropout's numbers follow from the turn and nothing else.
pub fn dropout_follows_the_turn(device: &Device) {
    let mut model = headstart::Model::imagenet("resnet20").unwrap();
    model.set_dropout(0.5).unwrap();
    let graph = model.net.graph.clone();
    let elements = graph.nodes[0].shape.elements();
    let images = vec![99u8; 4 * elements];
    let request = headstart::plan::Request {
        batch: 4,
        sources: vec![0],
        outputs: vec![],
        trainable: Some(model.net.head_only()),
        dtype: device.dtype(),
    };
    let mut e = device.executor(&graph, request, &model.parameters, 3).unwrap();
    e.prepare(training(Rule::SGD)).unwrap();
    let mut loss = |step, replica| {
        let turn = Turn { step, replica };
        e.train_step(&[(&images).into()], (&[0, 1, 2, 3]).into(), turn).unwrap();
        gradients(&mut *e)
    };
    let first = loss(0, 0);
    assert!(loss(1, 0) != first && loss(0, 1) != first);
    assert!(loss(0, 0) == first);
}
