//! Values and losses without training.

use headstart::Device;
use headstart::resnet::{Activation, Block, Naming, Net, Recipe, Stem, Stride};
use headstart_kernels::element::Bf16;
use headstart_kernels::loss::cross_entropy;

use super::{Case, TOLERANCE, around, case, floats, infer, net, recipe};
use crate::oracle::{assert_within, distance, reference, rounded_reference};

/// Every node of a net of each family as an output of its own.
pub fn values_are_those_of_the_reference(device: &Device) {
    let v2 = Recipe {
        activation: Activation::Before,
        stride: Stride::Middle,
        ..recipe(Stem::Imagenet, Block::Bottleneck, false)
    };
    let torch = Recipe {
        naming: Naming::Torchvision,
        stride: Stride::Middle,
        unbiased: true,
        ..recipe(Stem::Imagenet, Block::Basic, false)
    };
    let cifar = recipe(Stem::Cifar, Block::Basic, false);
    for recipe in [recipe(Stem::Imagenet, Block::Bottleneck, true), v2, torch, cifar] {
        let case = case(&Net::new(&recipe, &around()).unwrap(), 5);
        let frozen = vec![false; case.graph.nodes.len()];
        let r = reference(&case.graph, &case.parameters, &frozen, &case.images, &case.labels);
        for output in 1..case.graph.nodes.len() {
            let mut e = infer(&case, device, 5, vec![output]);
            e.forward(&[(&case.images).into()], 5).unwrap();
            let what = format!("{:?} {}", recipe.naming, case.graph.nodes[output].name);
            assert_within(distance(&floats(&mut *e, 0), &r.values[output]), TOLERANCE, &what);
        }
    }
}

/// Values of nodes in 16 bits: in all as far from the reference as rounding leads the reference itself.
pub fn rounded_values_follow_the_reference(device: &Device) {
    for recipe in
        [recipe(Stem::Imagenet, Block::Bottleneck, true), recipe(Stem::Cifar, Block::Basic, false)]
    {
        let case = case(&Net::new(&recipe, &around()).unwrap(), 5);
        let Case { graph, parameters, images, labels } = &case;
        let (frozen, dtype) = (vec![false; graph.nodes.len()], device.dtype());
        let exact = reference(graph, parameters, &frozen, images, labels);
        let rounded = rounded_reference(dtype, graph, parameters, &frozen, images, labels);
        let (mut ours, mut theirs) = (0.0, 0.0);
        for output in (1..graph.nodes.len()).step_by(3) {
            let mut e = infer(&case, device, 5, vec![output]);
            e.forward(&[images.into()], 5).unwrap();
            let exact = &exact.values[output];
            let nearest: Vec<f32> = rounded.values[output].iter().map(|&v| v as f32).collect();
            ours += distance(&floats(&mut *e, 0), exact).powi(2);
            theirs += distance(&nearest, exact).powi(2);
        }
        assert_within(ours.sqrt(), 1.5 * theirs.sqrt(), &format!("{:?}", recipe.block));
    }
}

/// Images as bytes give the bits of the same images as floats, with upsampling and without, normalised or not.
pub fn bytes_are_as_good_as_floats(device: &Device) {
    for (upsample, preprocess) in [(2, true), (1, true), (1, false), (2, false)] {
        for stem in [Stem::Imagenet, Stem::Cifar] {
            let mut around = around();
            around.upsample = upsample;
            around.preprocess = around.preprocess.filter(|_| preprocess);
            let net = Net::new(&recipe(stem, Block::Basic, false), &around).unwrap();
            let case = case(&net, 3);
            let bytes: Vec<u8> = case.images.iter().map(|&v| v as u8).collect();
            let mut e = infer(&case, device, 3, vec![case.graph.output()]);
            e.forward(&[(&bytes).into()], 3).unwrap();
            let from_bytes = floats(&mut *e, 0);
            e.forward(&[(&case.images).into()], 3).unwrap();
            assert!(from_bytes == floats(&mut *e, 0), "{stem:?} {upsample} {preprocess}");
        }
    }
}

pub fn loss_and_hits_are_those_of_the_probabilities(device: &Device) {
    let case = case(&net(Stem::Imagenet, Block::Bottleneck, true), 5);
    let mut e = infer(&case, device, 8, vec![case.graph.output()]);
    let evaluated = e.evaluate(&[(&case.images).into()], &case.labels).unwrap();
    let p = floats(&mut *e, 0);
    let expected = cross_entropy(3, &p, &case.labels);
    assert_within((evaluated.loss - expected.loss).abs(), 1e-5 * expected.loss, "loss");
    assert_eq!(evaluated.correct, expected.correct);
    assert!(e.evaluate(&[(&case.images).into()], &[7; 5]).is_err());
    let mut other = infer(&case, device, 5, vec![3]);
    assert!(other.evaluate(&[(&case.images).into()], &case.labels).is_err());
}

pub fn what_does_not_fit_is_an_error(device: &Device) {
    let case = case(&net(Stem::Cifar, Block::Basic, false), 2);
    let mut e = infer(&case, device, 2, vec![case.graph.output()]);
    let halves = vec![Bf16(0); case.images.len()];
    assert!(e.forward(&[(&halves).into()], 2).is_err());
    assert!(e.forward(&[(&case.images).into()], 3).is_err());
    assert!(e.forward(&[(&case.images).into()], 1).is_err());
    assert!(e.forward(&[], 2).is_err());
    assert!(e.forward(&[(&case.images).into()], 2).is_ok());
    assert!(e.read(1, &mut Default::default()).is_err());
    assert!(e.update(0.1).is_err());
    let images = (&case.images).into();
    assert!(e.train_step(&[images], (&case.labels).into(), Default::default()).is_err());
}
