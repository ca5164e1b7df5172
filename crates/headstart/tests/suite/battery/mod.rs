//! What every device must do: whole nets against the f64 reference, which runs the graph and not the plan. `devices.rs`
//! runs all of it on each device.

pub mod gradients;
pub mod inference;
pub mod learning;
pub mod replicas;

use std::sync::Arc;

use crate::oracle::{Reference, assert_within, distance, random, reference};
use headstart::Device;
use headstart::execute::{Execute, Gradients, Input, Training, Turn, Weights};
use headstart::graph::{Graph, Op};
use headstart::init;
use headstart::optimizer::{Optimizer, Rule};
use headstart::parameters::{Parameters, Role};
use headstart::plan::{Request, frontier};
use headstart::preprocess::Preprocess;
use headstart::resnet::{
    Activation, Block, Naming, Net, Recipe, Stage, Stem, Stride, Surroundings,
};
use headstart_kernels::element::Values;
use headstart_kernels::loss::Labels;

/// Bound on relative L2 errors: float rounding (6e-8) through some twenty layers, each of which
/// sums up to 600 terms, times some hundreds for the cancellation of batch norm over few rows. A
/// wrong term shows as an error near 1.
pub const TOLERANCE: f64 = 5e-4;

pub fn recipe(stem: Stem, block: Block, bias: bool) -> Recipe {
    let stage = |filters, blocks, stride| Stage { filters, blocks, stride };
    Recipe {
        name: "small".into(),
        naming: Naming::Keras,
        activation: Activation::After,
        stride: Stride::First,
        unbiased: false,
        stem,
        stem_filters: 5,
        block,
        stages: vec![stage(3, 2, 1), stage(4, 2, 2)],
        bias,
        epsilon: 1e-3,
        momentum: 0.9,
        preprocess: Preprocess::Caffe,
        init: headstart::init::ConvInit::GlorotUniform,
        image_size: 32,
    }
}

pub fn around() -> Surroundings {
    Surroundings {
        height: 9,
        width: 8,
        preprocess: Some(Preprocess::Torch),
        upsample: 2,
        classes: Some(3),
    }
}

pub fn net(stem: Stem, block: Block, bias: bool) -> Net {
    Net::new(&recipe(stem, block, bias), &around()).unwrap()
}

/// Weights none of which is a special value.
pub fn weights(graph: &Graph, seed: u32) -> Parameters {
    let mut p = init::initial(graph, init::ConvInit::GlorotUniform, seed);
    for (i, t) in p.tensors.iter_mut().enumerate() {
        let (low, high) = match t.role {
            Role::Kernel => continue,
            Role::Gamma | Role::MovingVariance => (0.5, 1.5),
            _ => (-0.3, 0.3),
        };
        t.values = random(seed + 1000 + i as u32, t.values.len(), low, high);
    }
    p
}

pub struct Case {
    pub graph: Arc<Graph>,
    pub parameters: Parameters,
    /// Whole numbers, as bytes have them.
    pub images: Vec<f32>,
    pub labels: Vec<u32>,
}

pub fn case(net: &Net, count: usize) -> Case {
    let graph = Arc::clone(&net.graph);
    let parameters = weights(&graph, 7);
    let elements = graph.nodes[0].shape.elements();
    let images = random(11, count * elements, 0.0, 255.0).into_iter().map(f32::round).collect();
    let classes = graph.nodes[graph.output()].shape.channels();
    let labels = (0..count).map(|i| ((i * 7 + 1) % classes) as u32).collect();
    Case { graph, parameters, images, labels }
}

/// A plan for inference of some nodes.
pub fn infer(case: &Case, device: &Device, batch: usize, outputs: Vec<usize>) -> Box<dyn Execute> {
    let dtype = device.dtype();
    let request = Request { batch, sources: vec![0], outputs, trainable: None, dtype };
    device.executor(&case.graph, request, &case.parameters, 1).unwrap()
}

/// A plan for training from `sources`, with plain SGD.
pub fn trains(
    case: &Case,
    device: &Device,
    batch: usize,
    sources: Vec<usize>,
    trainable: &[bool],
) -> Box<dyn Execute> {
    let (outputs, trainable) = (vec![], Some(trainable.to_vec()));
    let request = Request { batch, sources, outputs, trainable, dtype: device.dtype() };
    let mut executor = device.executor(&case.graph, request, &case.parameters, 1).unwrap();
    executor.prepare(Training::new(Optimizer::new(Rule::SGD, 0.1).unwrap())).unwrap();
    executor
}

/// An output of the last run as floats.
pub fn floats(executor: &mut dyn Execute, output: usize) -> Vec<f32> {
    let mut values = Values::default();
    executor.read(output, &mut values).unwrap();
    values.as_slice().to_f32()
}

pub fn gradients(executor: &mut dyn Execute) -> Gradients {
    let mut gradients = Gradients::default();
    executor.gradients(&mut gradients).unwrap();
    gradients
}

/// The case's weights with those that the executor trains in their place.
pub fn weights_of(executor: &mut dyn Execute, case: &Case, which: Weights) -> Parameters {
    let mut parameters = case.parameters.clone();
    executor.download(which, &mut parameters).unwrap();
    parameters
}

/// Prefix then training plan, as the trainer runs them.
pub fn step(
    case: &Case,
    trainable: &[bool],
    batch: usize,
    device: &Device,
) -> (f32, Parameters, Gradients) {
    mixed_step(case, (&case.labels).into(), trainable, batch, device)
}

/// [`step`] with other labels than the case's.
pub fn mixed_step(
    case: &Case,
    labels: Labels<'_>,
    trainable: &[bool],
    batch: usize,
    device: &Device,
) -> (f32, Parameters, Gradients) {
    let count = labels.first.len();
    let sources = frontier(&case.graph, trainable);
    let mut features: Vec<Values> = vec![Values::F32(case.images.clone())];
    if sources != [0] {
        let mut prefix = infer(case, device, batch, sources.clone());
        prefix.forward(&[(&case.images).into()], count).unwrap();
        features = vec![Values::default(); sources.len()];
        for (i, values) in features.iter_mut().enumerate() {
            prefix.read(i, values).unwrap();
        }
    }
    let inputs: Vec<Input<'_>> = features.iter().map(Input::from).collect();
    let mut train = trains(case, device, batch, sources, trainable);
    let result = train.train_step(&inputs, labels, Turn::default()).unwrap();
    assert_eq!(result.count, count);
    let after = weights_of(&mut *train, case, Weights::Current);
    (result.loss, after, gradients(&mut *train))
}

pub fn check(case: &Case, trainable: &[bool], batch: usize, device: &Device, what: &str) {
    let Case { graph, parameters, images, labels } = case;
    let r: Reference = reference(graph, parameters, trainable, images, labels);
    let (loss, after, gradients) = step(case, trainable, batch, device);
    assert_within((f64::from(loss) - r.loss).abs(), TOLERANCE * r.loss, &format!("{what}: loss"));
    // A bias before a training batch norm has no effect; its gradient is rounding noise.
    let scale = r.parameters.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, t) in parameters.tensors.iter().enumerate() {
        if !trainable[t.node] || !t.role.has_gradient() {
            assert!(gradients.tensors[i].is_empty(), "{what}: {} has a gradient", t.name);
            if !trainable[t.node] {
                assert_eq!(after.tensors[i], *t, "{what}: {} is frozen", t.name);
            }
            continue;
        }
        let largest = r.parameters[i].iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if largest < 1e-9 * scale {
            let noise = gradients.tensors[i].iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
            assert_within(noise, TOLERANCE * scale, &format!("{what}: {}", t.name));
            continue;
        }
        let error = distance(&gradients.tensors[i], &r.parameters[i]);
        assert_within(error, TOLERANCE, &format!("{what}: {}", t.name));
    }
    for (id, statistics) in r.statistics.iter().enumerate() {
        let Some((mean, variance)) = statistics else { continue };
        let Op::BatchNorm { momentum, unbiased, .. } = graph.nodes[id].op else { unreachable!() };
        let (height, width) = graph.nodes[id].shape.spatial();
        let rows = (labels.len() * height * width) as f64;
        let factor = if unbiased { rows / (rows - 1.0) } else { 1.0 };
        let variance = &variance.iter().map(|v| v * factor).collect();
        for (role, batch) in [(Role::MovingMean, mean), (Role::MovingVariance, variance)] {
            let before = parameters.get(id, role).unwrap();
            let keep = f64::from(momentum);
            let expected: Vec<f64> = before
                .values
                .iter()
                .zip(batch)
                .map(|(&old, new)| keep * f64::from(old) + (1.0 - keep) * new)
                .collect();
            let ours = &after.get(id, role).unwrap().values;
            assert_within(distance(ours, &expected), 1e-5, &format!("{what}: {}", before.name));
        }
    }
}
