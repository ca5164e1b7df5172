//! Losses, gradients and statistics of a step at every freeze point.

use headstart::Device;
use headstart::execute::Turn;
use headstart::resnet::{Activation, Block, FreezePoint, Naming, Net, Recipe, Stage, Stem, Stride};
use headstart_kernels::element::DType;
use headstart_kernels::loss::Labels;

use super::{
    Case, TOLERANCE, around, case, check, mixed_step, net, recipe, step, trains, weights_of,
};
use crate::oracle::{assert_within, distance, random, reference, rounded_reference};
use headstart::execute::Weights;

fn every_freeze_point(recipe: &Recipe, device: &Device) {
    let net = Net::new(recipe, &around()).unwrap();
    let case = case(&net, 5);
    for from in 0..=net.base_layers() {
        let what = format!("{:?} {:?} {:?} from {from}", recipe.naming, recipe.stem, recipe.block);
        check(&case, &net.trainable(FreezePoint(from)), 5, device, &what);
    }
}

pub fn keras_nets(device: &Device) {
    for (stem, block, bias) in [
        (Stem::Imagenet, Block::Bottleneck, true),
        (Stem::Cifar, Block::Basic, false),
        (Stem::Cifar, Block::Bottleneck, false),
        (Stem::Imagenet, Block::Basic, true),
    ] {
        every_freeze_point(&recipe(stem, block, bias), device);
    }
}

pub fn other_families(device: &Device) {
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
        every_freeze_point(&recipe, device);
    }
}

pub fn mixed_labels_have_the_mean_of_both_gradients(device: &Device) {
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
    let (loss, _, gradients) = mixed_step(&case, mixed, &trainable, 3, device);
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

pub fn labels_out_of_range_are_errors(device: &Device) {
    let net = net(Stem::Cifar, Block::Basic, false);
    let case = case(&net, 3);
    let Case { graph, parameters, images, labels } = &case;
    let mut train = trains(&case, device, 3, vec![0], &vec![true; graph.nodes.len()]);
    let far = [1_000_000; 3];
    for (second, share) in
        [(&labels[..2], 0.5), (&far[..], 0.5), (&labels[..], f32::NAN), (&labels[..], 1.5)]
    {
        let mixed = Labels { first: labels, second: Some((second, share)) };
        assert!(train.train_step(&[images.into()], mixed, Turn::default()).is_err());
    }
    assert!(train.train_step(&[images.into()], (&far).into(), Turn::default()).is_err());
    assert_eq!(weights_of(&mut *train, &case, Weights::Current), *parameters);
}

pub fn a_short_batch_is_as_good_as_a_full_one(device: &Device) {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    for from in [0, 9, 30] {
        check(&case(&net, 3), &net.trainable(FreezePoint(from)), 8, device, "short");
    }
}

pub fn trainable_layers_need_not_be_the_last_ones(device: &Device) {
    let net = net(Stem::Cifar, Block::Bottleneck, true);
    let case = case(&net, 4);
    for pattern in 1..12u32 {
        let mut bits = random(pattern, net.graph.nodes.len(), 0.0, 1.0);
        bits[0] = 1.0;
        let mut trainable: Vec<bool> = bits.iter().map(|&b| b < 0.3).collect();
        *trainable.iter_mut().rev().nth(1).unwrap() = true;
        check(&case, &trainable, 4, device, &format!("pattern {pattern}"));
    }
}

/// How far a step in 16 bits is from the f64 reference, and how far rounding leads the reference itself at
/// the same places: relative L2 distances of all gradients. The errors are of the same size but not the same
/// ones, as kernels fuse what the reference rounds one by one.
fn rounded_distances(case: &Case, trainable: &[bool], device: &Device, what: &str) -> [f64; 2] {
    let (Case { graph, parameters, images, labels }, dtype) = (case, device.dtype());
    let exact = reference(graph, parameters, trainable, images, labels);
    let rounded = rounded_reference(dtype, graph, parameters, trainable, images, labels);
    let (loss, _, gradients) = step(case, trainable, labels.len(), device);
    // Rounding may happen to hardly change the loss of one batch; a few steps of the type it may.
    let steps = if dtype == DType::F16 { 1024.0 } else { 128.0 };
    let bound = 2.0 * (rounded.loss - exact.loss).abs().max(exact.loss / steps);
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

/// A device that stores maps in 16 bits, with this many images at every `step`th freeze point.
pub fn rounding_follows_the_reference(device: &Device, images: usize, step: usize) {
    assert_ne!(device.dtype(), DType::F32);
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
        let case = case(&net, images);
        let what = format!("{:?} {:?}", recipe.naming, recipe.block);
        let list: Vec<[f64; 2]> = (0..=net.base_layers())
            .step_by(step)
            .map(|from| {
                let trainable = net.trainable(FreezePoint(from));
                rounded_distances(&case, &trainable, device, &format!("{what} from {from}"))
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
