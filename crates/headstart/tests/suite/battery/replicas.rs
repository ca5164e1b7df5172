//! Steps whose gradients are added up: replicas of a batch, and batches of one update.

use headstart::Device;
use headstart::collective::{Alone, Collective, share};
use headstart::execute::{Execute, Gradients, Input, Turn, Weights};
use headstart::resnet::{Block, FreezePoint, Stem};

use super::{Case, TOLERANCE, case, gradients, net, trains, weights_of};
use crate::oracle::{assert_within, distance, reference};

/// Takes the case through in shares; each is as `turns` says.
fn summed(e: &mut dyn Execute, case: &Case, turns: &[Turn]) -> Gradients {
    let count = case.labels.len();
    for (i, &turn) in turns.iter().enumerate() {
        let range = share(count, i, turns.len());
        let input = Input::from(&case.images).part(count, range.clone());
        e.train_step(&[input], case.labels[range].into(), turn).unwrap();
        e.accumulate().unwrap();
    }
    e.reduce(count, &mut |own, sum| Alone.all_reduce(own, sum)).unwrap();
    gradients(e)
}

/// The mean over all images of the gradients of each share, with batch norm's statistics of the share alone; the
/// moving statistics are those of replica 0.
pub fn replicas_have_statistics_of_their_own(device: &Device) {
    let net = net(Stem::Imagenet, Block::Bottleneck, false);
    let case = case(&net, 7);
    let trainable = net.trainable(FreezePoint(0));
    let each = case.graph.nodes[0].shape.elements();
    for replicas in [1, 2, 3] {
        let mut e = trains(&case, device, 7, vec![0], &trainable);
        let turns: Vec<Turn> = (0..replicas).map(|replica| Turn { step: 0, replica }).collect();
        let ours = summed(&mut *e, &case, &turns);
        let mut expected: Vec<Vec<f64>> = Vec::new();
        for r in 0..replicas {
            let range = share(7, r, replicas);
            let images = &case.images[range.start * each..range.end * each];
            let labels = &case.labels[range.clone()];
            let part = reference(&case.graph, &case.parameters, &trainable, images, labels);
            let weight = range.len() as f64 / 7.0;
            expected.resize(part.parameters.len(), Vec::new());
            for (sum, own) in expected.iter_mut().zip(&part.parameters) {
                sum.resize(own.len(), 0.0);
                sum.iter_mut().zip(own).for_each(|(s, g)| *s += weight * g);
            }
        }
        let scale = expected.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, t) in case.parameters.tensors.iter().enumerate() {
            if ours.tensors[i].is_empty() || expected[i].iter().all(|v| v.abs() < 1e-9 * scale) {
                continue;
            }
            let what = format!("{replicas} replicas: {}", t.name);
            assert_within(distance(&ours.tensors[i], &expected[i]), TOLERANCE, &what);
        }
        // Replica 0 alone moves the averages.
        let after = weights_of(&mut *e, &case, Weights::Current);
        let mut first = trains(&case, device, 7, vec![0], &trainable);
        let range = share(7, 0, replicas);
        let input = Input::from(&case.images).part(7, range.clone());
        first.train_step(&[input], case.labels[range].into(), Turn::default()).unwrap();
        assert!(after == weights_of(&mut *first, &case, Weights::Current));
    }
}

/// Two batches of one update weigh by their images, also where another process, or a later call, has a replica.
pub fn batches_add_up(device: &Device) {
    let net = net(Stem::Cifar, Block::Basic, false);
    let case = case(&net, 7);
    let trainable = net.head_only();
    let mut e = trains(&case, device, 7, vec![0], &trainable);
    assert!(e.reduce(0, &mut |own, sum| Alone.all_reduce(own, sum)).is_err());
    assert!(e.accumulate().is_err());
    let steps: Vec<Turn> = (0..3).map(|step| Turn { step, replica: 0 }).collect();
    let once = summed(&mut *e, &case, &steps);
    // No batch norm trains: the mean of the parts is the gradient of the whole.
    e.train_step(&[(&case.images).into()], (&case.labels).into(), Turn::default()).unwrap();
    let whole = gradients(&mut *e);
    for (sum, all) in once.tensors.iter().zip(&whole.tensors) {
        let all: Vec<f64> = all.iter().map(|&v| f64::from(v)).collect();
        if !all.is_empty() {
            assert_within(distance(sum, &all), 1e-5, "sum of batches");
        }
    }
    // Sums begin anew, and a failing sum is an error.
    assert!(summed(&mut *e, &case, &steps) == once);
    e.accumulate().unwrap();
    let failed = |_: &[&[f32]], _: &mut [f32]| {
        Err(headstart::Error::invalid("process 1", "an answer", "none", ""))
    };
    let mut failed = failed;
    assert!(e.reduce(7, &mut failed).is_err());
}
