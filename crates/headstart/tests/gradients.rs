//! Executed plans against the f64 reference: values, loss and every gradient, at every freeze point.

mod oracle;

use std::sync::Arc;

use headstart::execute::{Executor, Gradients};
use headstart::graph::{Graph, Op, Shape};
use headstart::init;
use headstart::parameters::{Parameters, Role};
use headstart::plan::{Plan, Request, frontier};
use headstart::preprocess::Preprocess;
use headstart::resnet::{
    Activation, Block, FreezePoint, Naming, Net, Recipe, Stage, Stem, Stride, Surroundings,
};
use headstart_kernels::element::{DType, Slice, Values};
use headstart_kernels::isa::Isa;
use headstart_kernels::loss::Labels;
use headstart_kernels::table::Compute;
use oracle::{Reference, assert_within, distance, random, reference, rounded_reference};

/// Bound on relative L2 errors: float rounding (6e-8) through some twenty layers, each of which
/// sums up to 600 terms, times some hundreds for the cancellation of batch norm over few rows. A
/// wrong term shows as an error near 1.
const TOLERANCE: f64 = 5e-4;

fn recipe(stem: Stem, block: Block, bias: bool) -> Recipe {
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

fn around() -> Surroundings {
    Surroundings {
        height: 9,
        width: 8,
        preprocess: Some(Preprocess::Torch),
        upsample: 2,
        classes: Some(3),
    }
}

fn net(stem: Stem, block: Block, bias: bool) -> Net {
    Net::new(&recipe(stem, block, bias), &around()).unwrap()
}

/// Weights none of which is a special value.
fn weights(graph: &Graph, seed: u32) -> Parameters {
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

struct Case {
    graph: Arc<Graph>,
    parameters: Parameters,
    images: Vec<f32>,
    labels: Vec<u32>,
}

fn case(net: &Net, count: usize) -> Case {
    let graph = Arc::clone(&net.graph);
    let parameters = weights(&graph, 7);
    let elements = graph.nodes[0].shape.elements();
    let images = random(11, count * elements, 0.0, 255.0);
    let classes = graph.nodes[graph.output()].shape.channels();
    let labels = (0..count).map(|i| ((i * 7 + 1) % classes) as u32).collect();
    Case { graph, parameters, images, labels }
}

/// Prefix then training plan, as the trainer runs them.
fn step(
    case: &Case,
    trainable: &[bool],
    batch: usize,
    compute: &Arc<Compute>,
) -> (f32, Parameters, Gradients) {
    mixed_step(case, (&case.labels).into(), trainable, batch, compute)
}

/// [`step`] with other labels than the case's.
fn mixed_step(
    case: &Case,
    labels: Labels<'_>,
    trainable: &[bool],
    batch: usize,
    compute: &Arc<Compute>,
) -> (f32, Parameters, Gradients) {
    let Case { graph, parameters, images, .. } = case;
    let dtype = compute.dtype;
    let count = labels.first.len();
    let sources = frontier(graph, trainable);
    let mut p = parameters.clone();
    let mut features: Vec<Values> = vec![Values::F32(images.clone())];
    if sources != [0] {
        let request =
            Request { batch, sources: vec![0], outputs: sources.clone(), trainable: None, dtype };
        let plan = Plan::new(graph, request).unwrap();
        let mut prefix =
            Executor::new(Arc::clone(graph), plan, Arc::clone(compute), &p, 1).unwrap();
        prefix.forward(&[images], count).unwrap();
        let keep = |i: usize| {
            let value = prefix.stored_output(i, count);
            let mut kept = Values::with_capacity(value.dtype(), value.len());
            kept.extend(value);
            kept
        };
        features = (0..sources.len()).map(keep).collect();
    }
    let inputs: Vec<Slice<'_>> = features.iter().map(Values::as_slice).collect();
    let (outputs, trainable) = (vec![], Some(trainable.to_vec()));
    let request = Request { batch, sources, outputs, trainable, dtype };
    let plan = Plan::new(graph, request).unwrap();
    let mut train = Executor::new(Arc::clone(graph), plan, Arc::clone(compute), &p, 1).unwrap();
    let mut gradients = Gradients::default();
    let result = train.train_step(&inputs, labels, &mut p, &mut gradients).unwrap();
    assert_eq!(result.count, count);
    (result.loss, p, gradients)
}

fn check(case: &Case, trainable: &[bool], batch: usize, compute: &Arc<Compute>, what: &str) {
    let Case { graph, parameters, images, labels } = case;
    let r: Reference = reference(graph, parameters, trainable, images, labels);
    let (loss, after, gradients) = step(case, trainable, batch, compute);
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

fn compute() -> Arc<Compute> {
    Arc::new(Compute::new(2).unwrap())
}

#[test]
fn every_freeze_point_of_small_nets() {
    let c = compute();
    for (stem, block, bias) in [
        (Stem::Imagenet, Block::Bottleneck, true),
        (Stem::Cifar, Block::Basic, false),
        (Stem::Cifar, Block::Bottleneck, false),
        (Stem::Imagenet, Block::Basic, true),
    ] {
        let net = net(stem, block, bias);
        let case = case(&net, 5);
        for from in 0..=net.base_layers() {
            let trainable = net.trainable(FreezePoint(from));
            let what = format!("{stem:?} {block:?} from {from}");
            check(&case, &trainable, 5, &c, &what);
        }
    }
}

#[test]
fn every_freeze_point_of_the_other_families() {
    let c = compute();
    let v2 = Recipe {
        activation: Activation::Before,
        stride: Stride::Middle,
        stages: vec![
            Stage { filters: 3, blocks: 2, stride: 2 },
            Stage { filters: 4, blocks: 2, stride: 1 },
        ],
        ..recipe(Stem::Imagenet, Block::Bottleneck, false)
    };
    let torch = |block| Recipe {
        naming: Naming::Torchvision,
        stride: Stride::Middle,
        unbiased: true,
        ..recipe(Stem::Imagenet, block, false)
    };
    for recipe in [v2, torch(Block::Bottleneck), torch(Block::Basic)] {
        let net = Net::new(&recipe, &around()).unwrap();
        let case = case(&net, 5);
        for from in 0..=net.base_layers() {
            let trainable = net.trainable(FreezePoint(from));
            let what = format!("{:?} {:?} from {from}", recipe.activation, recipe.block);
            check(&case, &trainable, 5, &c, &what);
        }
    }
}

#[test]
fn mixed_labels_have_the_mean_of_both_gradients() {
    let net = net(Stem::Cifar, Block::Basic, false);
    let case = case(&net, 3);
    let Case { graph, parameters, images, labels } = &case;
    let trainable = vec![true; graph.nodes.len()];
    let mut others = labels.clone();
    others.rotate_right(1);
    assert_ne!(*labels, others);
    let share = 0.3f32;
    let both = [labels, &others].map(|l| reference(graph, parameters, &trainable, images, l));
    let mean = |a: f64, b: f64| (1.0 - f64::from(share)) * a + f64::from(share) * b;
    let mixed = Labels { first: labels, second: Some((&others, share)) };
    let (loss, _, gradients) = mixed_step(&case, mixed, &trainable, 3, &compute());
    let want = mean(both[0].loss, both[1].loss);
    assert_within((f64::from(loss) - want).abs(), TOLERANCE * want, "loss");
    let scale = both[0].parameters.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
    let mut compared = 0;
    for (i, t) in parameters.tensors.iter().enumerate().filter(|(_, t)| t.role.has_gradient()) {
        let pairs = both[0].parameters[i].iter().zip(&both[1].parameters[i]);
        let want: Vec<f64> = pairs.map(|(&a, &b)| mean(a, b)).collect();
        // A bias before a training batch norm has no effect; its gradient is rounding noise.
        if want.iter().any(|v| v.abs() > 1e-9 * scale) {
            assert_within(distance(&gradients.tensors[i], &want), TOLERANCE, &t.name);
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn second_labels_out_of_range_are_errors() {
    let net = net(Stem::Cifar, Block::Basic, false);
    let Case { graph, parameters, images, labels } = case(&net, 3);
    let (outputs, trainable) = (vec![], Some(vec![true; graph.nodes.len()]));
    let request =
        Request { batch: 3, sources: vec![0], outputs, trainable, dtype: compute().dtype };
    let plan = Plan::new(&graph, request).unwrap();
    let mut train = Executor::new(graph, plan, compute(), &parameters, 1).unwrap();
    let (mut p, mut gradients) = (parameters.clone(), Gradients::default());
    let far = [1_000_000; 3];
    for (second, share) in
        [(&labels[..2], 0.5), (&far[..], 0.5), (&labels[..], f32::NAN), (&labels[..], 1.5)]
    {
        let mixed = Labels { first: &labels, second: Some((second, share)) };
        assert!(train.train_step(&[&images], mixed, &mut p, &mut gradients).is_err());
    }
    assert_eq!(p, parameters);
}

#[test]
fn a_short_batch_is_as_good_as_a_full_one() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    for from in [0, 9, 30] {
        check(&case(&net, 3), &net.trainable(FreezePoint(from)), 8, &compute(), "short");
    }
}

#[test]
fn trainable_layers_need_not_be_the_last_ones() {
    let net = net(Stem::Cifar, Block::Bottleneck, true);
    let case = case(&net, 4);
    let c = compute();
    for pattern in 1..12u32 {
        let mut bits = random(pattern, net.graph.nodes.len(), 0.0, 1.0);
        bits[0] = 1.0;
        let mut trainable: Vec<bool> = bits.iter().map(|&b| b < 0.3).collect();
        *trainable.iter_mut().rev().nth(1).unwrap() = true;
        check(&case, &trainable, 4, &c, &format!("pattern {pattern}"));
    }
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    for isa in Isa::ALL {
        if !isa.available() {
            println!("skipped {}: this machine has not got it", isa.name());
            continue;
        }
        let c = Arc::new(Compute::with_isa(1, isa).unwrap());
        for from in [0, 12, 40] {
            check(&case(&net, 5), &net.trainable(FreezePoint(from)), 5, &c, isa.name());
        }
    }
}

/// How far a step in bfloat16 is from the f64 reference, and how far rounding leads the reference itself at
/// the same places: relative L2 distances of all gradients. The errors are of the same size but not the same
/// ones, as kernels fuse what the reference rounds one by one.
fn distances_bf16(case: &Case, trainable: &[bool], compute: &Arc<Compute>, what: &str) -> [f64; 2] {
    let Case { graph, parameters, images, labels } = case;
    let exact = reference(graph, parameters, trainable, images, labels);
    let rounded = rounded_reference(graph, parameters, trainable, images, labels);
    let (loss, _, gradients) = step(case, trainable, labels.len(), compute);
    // Rounding may happen to hardly change the loss of one batch; a few bfloat16 steps it may.
    let bound = 2.0 * (rounded.loss - exact.loss).abs().max(exact.loss / 128.0);
    assert_within((f64::from(loss) - exact.loss).abs(), bound, &format!("{what}: loss"));
    let (mut ours, mut theirs, mut norm) = (0.0, 0.0, 0.0);
    for (i, mine) in gradients.tensors.iter().enumerate() {
        for (j, &g) in mine.iter().enumerate() {
            let e = exact.parameters[i][j];
            ours += (f64::from(g) - e).powi(2);
            theirs += (rounded.parameters[i][j] - e).powi(2);
            norm += e * e;
        }
    }
    [(ours / norm).sqrt(), (theirs / norm).sqrt()]
}

#[test]
fn bf16_follows_the_reference_at_every_freeze_point() {
    let torch = Recipe {
        naming: Naming::Torchvision,
        stride: Stride::Middle,
        unbiased: true,
        ..recipe(Stem::Imagenet, Block::Basic, false)
    };
    let v2 = Recipe {
        activation: Activation::Before,
        ..recipe(Stem::Imagenet, Block::Bottleneck, false)
    };
    let keras = recipe(Stem::Imagenet, Block::Bottleneck, true);
    for recipe in [keras, torch, v2, recipe(Stem::Cifar, Block::Basic, false)] {
        let net = Net::new(&recipe, &around()).unwrap();
        let case = case(&net, 12);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let c = Arc::new(Compute::with_isa(2, isa).unwrap().storing(DType::Bf16));
            let what = format!("{:?} {:?} on {isa}", recipe.naming, recipe.block);
            let list: Vec<[f64; 2]> = (0..=net.base_layers())
                .step_by(if isa == Isa::best() { 1 } else { 11 })
                .map(|from| {
                    let trainable = net.trainable(FreezePoint(from));
                    distances_bf16(&case, &trainable, &c, &format!("{what} from {from}"))
                })
                .collect();
            let total = |i: usize| list.iter().map(|d| d[i] * d[i]).sum::<f64>().sqrt();
            assert_within(total(0), 1.5 * total(1), &format!("{what}: all freeze points"));
            // One ReLU that rounding turns over weighs much in a gradient of few layers.
            let most = list.iter().map(|d| d[1]).fold(0.0, f64::max);
            for (i, d) in list.iter().enumerate() {
                assert_within(d[0], 2.0 * most, &format!("{what}: freeze point {i}"));
            }
        }
    }
}

#[test]
fn a_source_of_the_wrong_type_is_an_error() {
    let net = net(Stem::Cifar, Block::Basic, false);
    let Case { graph, parameters, images, .. } = case(&net, 2);
    let outputs = vec![graph.output()];
    let request =
        Request { batch: 2, sources: vec![0], outputs, trainable: None, dtype: DType::Bf16 };
    let plan = Plan::new(&graph, request).unwrap();
    let mut e = Executor::new(graph, plan, compute(), &parameters, 1).unwrap();
    let halves = vec![headstart_kernels::element::Bf16(0); images.len()];
    assert!(e.forward(&[&halves], 2).is_err());
    assert!(e.forward(&[&images], 2).is_ok());
}

#[test]
fn threads_and_batches_do_not_change_a_bit() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    let all = case(&net, 7);
    let trainable = net.trainable(FreezePoint(9));
    for dtype in [DType::F32, DType::Bf16] {
        let on = |threads| {
            let compute = Compute::new(threads).unwrap().storing(dtype);
            step(&all, &trainable, 7, &Arc::new(compute))
        };
        let one = on(1);
        for threads in 2..5 {
            assert!(one == on(threads), "{} on {threads} threads", dtype.name());
        }
    }

    // The features of an image do not depend on the images beside it.
    let graph = &all.graph;
    let outputs = frontier(graph, &trainable);
    let c = compute();
    let features = |batch: usize| -> Vec<f32> {
        let request = Request {
            batch,
            sources: vec![0],
            outputs: outputs.clone(),
            trainable: None,
            dtype: DType::F32,
        };
        let plan = Plan::new(graph, request).unwrap();
        let mut e =
            Executor::new(Arc::clone(graph), plan, Arc::clone(&c), &all.parameters, 1).unwrap();
        let elements = graph.nodes[0].shape.elements();
        let mut first = Vec::new();
        for images in all.images.chunks(batch * elements) {
            let count = images.len() / elements;
            e.forward(&[images], count).unwrap();
            first.extend_from_slice(e.output(0, count));
        }
        first
    };
    let alone = features(1);
    for batch in [2, 3, 7] {
        assert!(alone == features(batch), "batch {batch}");
    }
}

#[test]
fn inference_gives_the_reference_values() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    let Case { graph, parameters, images, labels } = case(&net, 5);
    let frozen = vec![false; graph.nodes.len()];
    let r = reference(&graph, &parameters, &frozen, &images, &labels);
    for output in 1..graph.nodes.len() {
        let request = Request {
            batch: 5,
            sources: vec![0],
            outputs: vec![output],
            trainable: None,
            dtype: DType::F32,
        };
        let plan = Plan::new(&graph, request).unwrap();
        let mut e = Executor::new(Arc::clone(&graph), plan, compute(), &parameters, 1).unwrap();
        e.forward(&[&images], 5).unwrap();
        let name = &graph.nodes[output].name;
        assert_within(distance(e.output(0, 5), &r.values[output]), TOLERANCE, name);
    }
}

#[test]
fn a_plan_that_cannot_be_is_an_error() {
    let net = net(Stem::Cifar, Block::Basic, false);
    let n = net.graph.nodes.len();
    let request = Request {
        batch: 1,
        sources: vec![0],
        outputs: vec![n - 1],
        trainable: None,
        dtype: DType::F32,
    };
    for bad in [
        Request { batch: 0, ..request.clone() },
        Request { sources: vec![], ..request.clone() },
        Request { outputs: vec![n], ..request.clone() },
        Request { trainable: Some(vec![true]), ..request.clone() },
    ] {
        assert!(Plan::new(&net.graph, bad).is_err());
    }
    let mut headless = Graph::default();
    let shape = Shape::Map { height: 4, width: 4, channels: 3 };
    headless.push("input_layer", Op::Input(shape), &[]).unwrap();
    let train = Request { outputs: vec![], trainable: Some(vec![false]), ..request };
    assert!(Plan::new(&headless, train).is_err());
}
