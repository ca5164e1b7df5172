//! A small net of Keras's own ResNet builder: activations, loss, every gradient, statistics and
//! weights after three steps, as Keras computed them (`golden/keras_resnet/generate.py`).

use std::sync::Arc;

use headstart::Compute;
use headstart::execute::{Execute, Executor, Gradients, StepResult, Training, Turn, Weights};
use headstart::graph::NodeId;
use headstart::optimizer::{DecayOf, Optimizer, Rule, WeightDecay};
use headstart::parameters::{Parameter, Parameters, Role};
use headstart::plan::{Plan, Request};
use headstart::preprocess::Preprocess;
use headstart::resnet::{
    Activation, Block, FreezePoint, Naming, Net, Recipe, Stage, Stem, Stride, Surroundings,
};
use headstart::schedule::{CosineDecay, Rates};
use headstart_kernels::element::DType;
use safetensors::SafeTensors;

use crate::oracle::{assert_within, distance};

const FREEZE: [usize; 4] = [0, 15, 30, 1000];
const BATCH: usize = 4;
/// Relative L2. Both sides round to f32 (6e-8) in each of some fifteen layers, and batch norm over
/// few values divides differences of nearly equal numbers.
const ACTIVATIONS: f64 = 2e-5;
const GRADIENTS: f64 = 5e-4;
const AFTER_STEPS: f64 = 5e-4;

struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn read() -> Golden {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/keras_resnet/small.safetensors");
        Golden { bytes: std::fs::read(path).unwrap() }
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.get(name).into_iter().map(f64::from).collect()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let names = file.names().into_iter().filter_map(|n| n.strip_prefix(prefix));
        names.map(str::to_string).collect()
    }

    fn labels(&self) -> Vec<u32> {
        self.get("labels").into_iter().map(|l| l as u32).collect()
    }
}

fn net() -> Net {
    let recipe = Recipe {
        name: "small".into(),
        naming: Naming::Keras,
        activation: Activation::After,
        stride: Stride::First,
        unbiased: false,
        stem: Stem::Imagenet,
        stem_filters: 64,
        block: Block::Bottleneck,
        stages: vec![
            Stage { filters: 4, blocks: 2, stride: 1 },
            Stage { filters: 6, blocks: 1, stride: 2 },
        ],
        bias: true,
        epsilon: 1.001e-5,
        momentum: 0.99,
        preprocess: Preprocess::Caffe,
        init: headstart::init::ConvInit::GlorotUniform,
        image_size: 32,
    };
    let around = Surroundings {
        height: 32,
        width: 32,
        preprocess: Some(Preprocess::Caffe),
        upsample: 1,
        classes: Some(3),
    };
    Net::new(&recipe, &around).unwrap()
}

fn weights(golden: &Golden, net: &Net) -> Parameters {
    let mut p = Parameters::zeros(&net.graph);
    for t in &mut p.tensors {
        let values = golden.get(&format!("weights/{}", t.name));
        assert_eq!(values.len(), t.values.len(), "{}", t.name);
        t.values = values;
    }
    assert_eq!(p.tensors.len(), golden.names("weights/").len());
    p
}

/// A layer's value; Keras's dense layer ends in its softmax.
fn node(net: &Net, name: &str) -> NodeId {
    let name = if name == "predictions" { "predictions_softmax" } else { name };
    net.graph.find(name).unwrap()
}

fn compute() -> Arc<Compute> {
    Arc::new(Compute::new(2).unwrap())
}

fn plan(net: &Net, outputs: Vec<NodeId>, trainable: Option<Vec<bool>>) -> Plan {
    let request = Request { batch: BATCH, sources: vec![0], outputs, trainable, dtype: DType::F32 };
    Plan::new(&net.graph, request).unwrap()
}

fn executor(net: &Net, plan: Plan, p: &Parameters) -> Executor {
    let mut e = Executor::new(Arc::clone(&net.graph), plan, compute(), p, 0).unwrap();
    if e.plan().request.trainable.is_some() {
        let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
        e.prepare(Training::new(Optimizer::new(rule, 0.01).unwrap())).unwrap();
    }
    e
}

/// A training step from the golden weights; its gradients, and the values of `layers`.
fn step(
    golden: &Golden,
    net: &Net,
    from: usize,
    layers: &[NodeId],
) -> (StepResult, Gradients, Vec<Vec<f32>>) {
    let p = weights(golden, net);
    let trainable = net.trainable(FreezePoint(from));
    let mut e = executor(net, plan(net, layers.to_vec(), Some(trainable)), &p);
    let mut gradients = Gradients::default();
    let images = golden.get("images");
    let labels = golden.labels();
    let turn = Turn::default();
    let result = e.train_step(&[(&images).into()], (&labels).into(), turn).unwrap();
    e.gradients(&mut gradients).unwrap();
    let values = (0..layers.len()).map(|i| e.output(i, BATCH).to_vec()).collect();
    (result, gradients, values)
}

#[test]
fn inference_values_are_those_of_keras() {
    let (golden, net) = (Golden::read(), net());
    let p = weights(&golden, &net);
    let images = golden.get("images");
    let names = golden.names("inference/");
    assert_eq!(names.len(), 6);
    for name in names {
        let mut e = executor(&net, plan(&net, vec![node(&net, &name)], None), &p);
        e.forward(&[(&images).into()], BATCH).unwrap();
        let expected = golden.wide(&format!("inference/{name}"));
        assert_within(distance(e.output(0, BATCH), &expected), ACTIVATIONS, &name);
    }
}

#[test]
fn training_values_and_loss_are_those_of_keras() {
    let (golden, net) = (Golden::read(), net());
    for from in FREEZE {
        let names = golden.names(&format!("{from}/activation/"));
        let nodes: Vec<NodeId> = names.iter().map(|n| node(&net, n)).collect();
        let (result, _, values) = step(&golden, &net, from, &nodes);
        let loss = golden.wide(&format!("{from}/loss"))[0];
        assert_within((f64::from(result.loss) - loss).abs(), 2e-5 * loss, &format!("{from}: loss"));
        for (name, value) in names.iter().zip(values) {
            let expected = golden.wide(&format!("{from}/activation/{name}"));
            assert_within(distance(&value, &expected), ACTIVATIONS, &format!("{from}: {name}"));
        }
    }
}

/// Biases before a training batch norm have no effect: their gradients are rounding noise on both sides.
fn has_effect(net: &Net, t: &Parameter, from: usize) -> bool {
    let next = net.graph.nodes.iter().position(|n| n.inputs.first() == Some(&t.node));
    let trained = next.and_then(|n| net.base_index[n]).is_some_and(|i| i >= from);
    let name = &net.graph.nodes[t.node].name;
    t.role != Role::Bias || name == "predictions" || !trained
}

#[test]
fn every_gradient_is_that_of_keras() {
    let (golden, net) = (Golden::read(), net());
    let p = weights(&golden, &net);
    for from in FREEZE {
        let (_, gradients, _) = step(&golden, &net, from, &[]);
        let mut expected = golden.names(&format!("{from}/gradient/"));
        expected.sort();
        let with = p.tensors.iter().zip(&gradients.tensors).filter(|(_, g)| !g.is_empty());
        let mut ours: Vec<String> = with.clone().map(|(t, _)| t.name.clone()).collect();
        ours.sort();
        assert_eq!(ours, expected, "{from}");
        for (t, g) in with {
            let keras = golden.wide(&format!("{from}/gradient/{}", t.name));
            if has_effect(&net, t, from) {
                assert_within(distance(g, &keras), GRADIENTS, &format!("{from}: {}", t.name));
            } else {
                let largest = g.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
                assert_within(largest, 1e-4, &format!("{from}: {}", t.name));
            }
        }
    }
}

#[test]
fn weights_and_statistics_after_three_steps_are_those_of_keras() {
    let (golden, net) = (Golden::read(), net());
    let (images, labels) = (golden.get("images"), golden.labels());
    for from in FREEZE {
        let mut p = weights(&golden, &net);
        let trainable = net.trainable(FreezePoint(from));
        let mut e = executor(&net, plan(&net, vec![], Some(trainable)), &p);
        for (i, loss) in golden.wide(&format!("{from}/losses")).into_iter().enumerate() {
            let turn = Turn { step: i as u64, replica: 0 };
            let r = e.train_step(&[(&images).into()], (&labels).into(), turn).unwrap();
            let what = format!("{from}: loss of step {i}");
            assert_within((f64::from(r.loss) - loss).abs(), AFTER_STEPS * loss, &what);
            e.update(0.01).unwrap();
        }
        e.download(Weights::Current, &mut p).unwrap();
        let start = weights(&golden, &net);
        for (t, before) in p.tensors.iter().zip(&start.tensors) {
            let keras = golden.wide(&format!("{from}/sgd/{}", t.name));
            assert_within(distance(&t.values, &keras), AFTER_STEPS, &format!("{from}: {}", t.name));
            // What moved, moved alike: the error is measured against the way gone, too.
            let way: Vec<f64> =
                keras.iter().zip(&before.values).map(|(k, &b)| k - f64::from(b)).collect();
            let ours: Vec<f32> = t.values.iter().zip(&before.values).map(|(a, b)| a - b).collect();
            if way.iter().any(|w| w.abs() > 1e-4) && has_effect(&net, t, from) {
                assert_within(distance(&ours, &way), 5e-3, &format!("{from}: way of {}", t.name));
            }
        }
    }
}

#[test]
fn rmsprop_on_given_gradients_is_that_of_keras() {
    let golden = Golden::read();
    let values = golden.get("rmsprop/weights");
    let name = "w".to_string();
    let shape = vec![values.len()];
    let n = values.len();
    let mut p = Parameters {
        tensors: vec![Parameter { node: 0, role: Role::Kernel, name, shape, values }],
    };
    let mut optimizer = Optimizer::new(Rule::RMSPROP, 1e-3).unwrap();
    for g in golden.get("rmsprop/gradients").chunks_exact(n) {
        optimizer.step(&compute(), &mut p, &Gradients { tensors: vec![g.to_vec()] });
    }
    let expected = golden.wide("rmsprop/after");
    assert_within(distance(&p.tensors[0].values, &expected), 1e-6, "weights");
}

/// What `golden/optimizers/generate.py` wrote.
fn optimizers() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizers/keras.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn every_update_rule_and_weight_decay_are_those_of_keras() {
    let golden = optimizers();
    let roles = [("kernel", Role::Kernel), ("bias", Role::Bias)];
    let floats = |v: &serde_json::Value| numbers(v).iter().map(|&v| v as f32).collect::<Vec<_>>();
    let cosine = CosineDecay {
        initial_learning_rate: 0.0,
        decay_steps: 4,
        alpha: 0.1,
        warmup_target: Some(0.1),
        warmup_steps: 2,
    };
    let (all, kernels) = (DecayOf::All, DecayOf::Kernels);
    let rate = Rates::constant(0.01);
    let nesterov = Rule::Sgd { momentum: 0.9, nesterov: true };
    for (name, rule, rates, decay, of) in [
        ("adam", Rule::ADAM, rate, 0.0, all),
        ("adam_betas", Rule::Adam { beta_1: 0.5, beta_2: 0.9, epsilon: 1e-7 }, rate, 0.0, all),
        ("adamw", Rule::ADAM, rate, 0.004, all),
        ("adamw_kernels", Rule::ADAM, rate, 0.3, kernels),
        ("rmsprop_decay", Rule::RMSPROP, rate, 0.2, all),
        ("sgd_decay_cosine", nesterov, Rates::from(cosine), 0.2, all),
    ] {
        let tensors = roles.map(|(key, role)| {
            let values = floats(&golden["weights"][key]);
            let (name, shape) = (format!("w/{key}"), vec![values.len()]);
            Parameter { node: 0, role, name, shape, values }
        });
        let mut p = Parameters { tensors: tensors.into() };
        let weight_decay = WeightDecay { rate: decay, of };
        let fresh = |rule| Optimizer::new(rule, 0.01).unwrap().with_weight_decay(weight_decay);
        let mut optimizer = fresh(rule).unwrap();
        let steps = golden["gradients"].as_array().unwrap();
        let after = golden["after"][name].as_array().unwrap();
        for (i, (step, want)) in steps.iter().zip(after).enumerate() {
            let g = roles.map(|(key, _)| floats(&step[key]));
            optimizer.learning_rate = rates.at(i as u64);
            optimizer.step(&compute(), &mut p, &Gradients { tensors: g.into() });
            for (t, (key, _)) in p.tensors.iter().zip(roles) {
                let distance = distance(&t.values, &numbers(&want[key]));
                assert_within(distance, 1e-6, &format!("{name}: {key} after step {i}"));
            }
            if i == 2 {
                // What is stored and read again continues as if nothing had happened.
                let tensors = optimizer.tensors(&p);
                let mut again = fresh(rule).unwrap();
                again.restore(&p, &tensors).unwrap();
                assert_eq!(again.tensors(&p), tensors, "{name}");
                optimizer = again;
                let mut other = fresh(Rule::SGD).unwrap();
                assert_eq!(other.restore(&p, &tensors).is_ok(), rule == nesterov, "{name}");
            }
        }
    }
}

#[test]
fn cosine_schedules_are_those_of_keras() {
    for (name, case) in optimizers()["schedules"].as_object().unwrap() {
        let settings = &case["settings"];
        let number = |key: &str| settings[key].as_f64();
        let cosine = CosineDecay {
            initial_learning_rate: number("initial_learning_rate").unwrap() as f32,
            decay_steps: settings["decay_steps"].as_u64().unwrap(),
            alpha: number("alpha").unwrap_or(0.0) as f32,
            warmup_target: number("warmup_target").map(|v| v as f32),
            warmup_steps: settings["warmup_steps"].as_u64().unwrap_or(0),
        };
        for (step, want) in numbers(&case["rates"]).into_iter().enumerate() {
            let ours = f64::from(cosine.at(step as u64));
            assert_within((ours - want).abs(), 1e-7, &format!("{name}: step {step}"));
        }
    }
}
