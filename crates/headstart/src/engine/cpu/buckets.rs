//! Gradients in the order in which the backward pass completes them, so that they are summed over processes while it goes on.

use super::training::no_gradients;
use super::{Executor, not_prepared};
use crate::engine::execute::{Bucket, InBuckets, Input, Ready, Turn};
use crate::engine::gradients::{Accumulated, Gradients, StepResult};
use crate::engine::plan::{Main, Plan, Step};
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;
use headstart_kernels::loss::Labels;

/// Tensors that are summed together, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tensors {
    numbers: Vec<usize>,
    elements: usize,
    /// The step of the plan after which all of them are complete.
    after: usize,
}

/// All tensors that train, in the order in which they are complete; small ones together, up to `most` elements.
pub(super) fn buckets(plan: &Plan, parameters: &Parameters, most: usize) -> Vec<Tensors> {
    // A tensor is complete after the last step that writes to it.
    let after = |node| {
        let writes = |step: &Step| match *step {
            Step::Kernel { group, .. } | Step::Norm { group, .. } => {
                matches!(plan.groups[group].main, Main::Conv { node: n, .. } | Main::Norm { node: n, .. } if n == node)
            }
            _ => false,
        };
        plan.steps.iter().rposition(writes).unwrap_or(plan.steps.len().saturating_sub(1))
    };
    let trained = parameters.tensors.iter().enumerate();
    let trained = trained.filter(|(_, p)| plan.trains(p.node) && p.role.has_gradient());
    let mut all: Vec<(usize, usize, usize)> =
        trained.map(|(i, p)| (after(p.node), i, p.values.len())).collect();
    all.sort_unstable();
    let mut buckets: Vec<Tensors> = Vec::new();
    for (after, number, length) in all {
        match buckets.last_mut() {
            Some(last) if last.elements + length <= most => {
                last.numbers.push(number);
                (last.elements, last.after) = (last.elements + length, after);
            }
            _ => buckets.push(Tensors { numbers: vec![number], elements: length, after }),
        }
    }
    buckets
}

/// What a step tells of the replica that it computes, beside those that were computed before.
pub(super) struct Telling<'t> {
    buckets: &'t [Tensors],
    sums: &'t [Accumulated],
    replica: usize,
    images: usize,
    next: usize,
    ready: &'t mut Ready<'t>,
}

impl Telling<'_> {
    /// Tells what is complete after that step.
    pub fn after(&mut self, step: usize, gradients: &Gradients) {
        while let Some(tensors) = self.buckets.get(self.next).filter(|t| t.after <= step) {
            let running = Some((self.replica, gradients, self.images));
            (self.ready)(bucket(self.next, tensors, self.sums, running));
            self.next += 1;
        }
    }
}

/// The sums of some tensors, with the gradients of a replica that are not in its sum yet, of so many images.
fn bucket(
    number: usize,
    tensors: &Tensors,
    sums: &[Accumulated],
    running: Option<(usize, &Gradients, usize)>,
) -> Bucket {
    let of = |sum: &Accumulated| {
        let mut all = Vec::with_capacity(tensors.elements);
        let new = running.filter(|&(replica, ..)| replica == sum.replica);
        for &i in &tensors.numbers {
            match new {
                Some((_, gradients, images)) => {
                    sum.append_with(i, (gradients, images), &mut all);
                }
                None => sum.append(i, &mut all),
            }
        }
        all
    };
    Bucket { number, own: sums.iter().map(of).collect(), elements: tensors.elements }
}

impl InBuckets for Executor {
    fn step_in_buckets(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
        ready: &mut Ready<'_>,
    ) -> Result<StepResult> {
        let mut gradients = std::mem::take(&mut self.gradients);
        self.fit_gradients(&self.parameters, &mut gradients);
        let (mut sums, buckets) =
            (std::mem::take(&mut self.sums), std::mem::take(&mut self.buckets));
        if sums.iter().all(|sum| sum.replica != turn.replica) {
            sums.push(Accumulated::of(turn.replica));
            sums.sort_by_key(|sum| sum.replica);
        }
        sums.iter_mut().for_each(|sum| sum.fit(&gradients));
        self.gradients = gradients;
        let mut telling = Telling {
            buckets: &buckets,
            sums: &sums,
            replica: turn.replica,
            images: labels.first.len(),
            next: 0,
            ready: &mut |bucket| ready(bucket),
        };
        let result = self.run_step(inputs, labels, turn, Some(&mut telling));
        (self.sums, self.buckets) = (sums, buckets);
        result
    }

    fn all_buckets(&mut self, ready: &mut Ready<'_>) -> Result<()> {
        if self.training.is_none() {
            return Err(not_prepared());
        }
        for (number, tensors) in self.buckets.iter().enumerate() {
            ready(bucket(number, tensors, &self.sums, None));
        }
        Ok(())
    }

    fn take_sums(&mut self, images: usize, sums: &[Vec<f32>]) -> Result<()> {
        if images == 0 {
            return Err(no_gradients());
        }
        let mut gradients = std::mem::take(&mut self.gradients);
        self.fit_gradients(&self.parameters, &mut gradients);
        let share = 1.0 / images as f32;
        let elements = |sums: &[Vec<f32>]| sums.iter().map(Vec::len).collect::<Vec<_>>();
        let expected: Vec<usize> = self.buckets.iter().map(|tensors| tensors.elements).collect();
        if elements(sums) != expected {
            let (expected, found) = (format!("{expected:?}"), format!("{:?}", elements(sums)));
            return Err(Error::invalid("elements of the sums", expected, found, ""));
        }
        for (tensors, sum) in self.buckets.iter().zip(sums) {
            let mut rest = &sum[..];
            for &i in &tensors.numbers {
                let tensor = &mut gradients.tensors[i];
                let (own, others) = rest.split_at(tensor.len());
                tensor.iter_mut().zip(own).for_each(|(g, &sum)| *g = sum * share);
                rest = others;
            }
        }
        self.gradients = gradients;
        self.sums.iter_mut().for_each(Accumulated::clear);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headstart_kernels::table::Compute;

    use super::super::training::TOGETHER;
    use super::*;
    use crate::engine::execute::{Execute, Training};
    use crate::engine::optimizer::{Optimizer, Rule};
    use crate::engine::plan::Request;
    use crate::train::collective::{Alone, Collective};
    use crate::{Dataset, Model};

    /// ResNet-20, all of which trains.
    fn executor() -> Executor {
        let data = Dataset::load("synthetic:2x4x32").unwrap();
        let model = Model::builder("resnet20").weights("cifar10").build(&data).unwrap();
        let compute = Arc::new(Compute::new(1).unwrap());
        let (graph, dtype) = (model.net.graph.clone(), compute.dtype);
        let trainable = Some(vec![true; graph.nodes.len()]);
        let request = Request { batch: 4, sources: vec![0], outputs: vec![], trainable, dtype };
        let plan = Plan::new(&graph, request).unwrap();
        let mut executor = Executor::new(graph, plan, compute, &model.parameters, 0).unwrap();
        executor.prepare(Training::new(Optimizer::new(Rule::ADAM, 1e-3).unwrap())).unwrap();
        executor
    }

    #[test]
    fn every_tensor_is_in_one_bucket_and_the_last_layers_come_first() {
        let e = executor();
        let trained: usize = e.parameters.tensors.iter().filter(|p| p.role.has_gradient()).count();
        for most in [1, 5_000, TOGETHER] {
            let buckets = buckets(&e.plan, &e.parameters, most);
            let mut numbers: Vec<usize> =
                buckets.iter().flat_map(|b| b.numbers.iter().copied()).collect();
            let head =
                e.parameters.index(e.graph.nodes.len() - 2, crate::net::parameters::Role::Kernel);
            assert!(head.is_some_and(|head| buckets[0].numbers.contains(&head)));
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), trained);
            assert!(buckets.iter().all(|b| b.numbers.len() == 1 || b.elements <= most));
            assert!(buckets.windows(2).all(|pair| pair[0].after <= pair[1].after));
            assert!(buckets.len() == 1 || buckets[0].after + 10 < buckets[buckets.len() - 1].after);
        }
    }

    #[test]
    fn sums_in_buckets_have_the_bits_of_sums_at_the_end() {
        let images: Vec<u8> = (0..4 * 32 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let (labels, half) = ([0u32, 1, 1, 0], images.len() / 2);
        let parts = [(&images[..half], &labels[..2]), (&images[half..], &labels[2..])];
        let turn = |replica| Turn { step: 0, replica };
        let mut plain = executor();
        for (replica, (images, labels)) in parts.into_iter().enumerate() {
            plain.train_step(&[images.into()], labels.into(), turn(replica)).unwrap();
            plain.accumulate().unwrap();
        }
        plain.reduce(4, &mut |own, sum| Alone.all_reduce(own, sum)).unwrap();
        for most in [1, 5_000, TOGETHER] {
            let (mut e, mut idle) = (executor(), executor());
            e.buckets = buckets(&e.plan, &e.parameters, most);
            idle.buckets.clone_from(&e.buckets);
            let add = |bucket: &Bucket| {
                let own: Vec<&[f32]> = bucket.own.iter().map(|v| &v[..]).collect();
                let mut sum = vec![0.0; bucket.elements];
                Alone.all_reduce(&own, &mut sum).unwrap();
                sum
            };
            // Twice, since sums begin anew.
            for _ in 0..2 {
                let [(first, of_first), (second, of_second)] = parts;
                e.train_step(&[first.into()], of_first.into(), turn(0)).unwrap();
                e.accumulate().unwrap();
                let (mut sums, mut numbers) = (Vec::new(), Vec::new());
                e.step_in_buckets(&[second.into()], of_second.into(), turn(1), &mut |bucket| {
                    numbers.push(bucket.number);
                    sums.push(add(&bucket));
                })
                .unwrap();
                assert_eq!(numbers, (0..e.buckets.len()).collect::<Vec<_>>());
                // Of a process without images in the last step they are the same.
                let mut again = Vec::new();
                idle.train_step(&[first.into()], of_first.into(), turn(0)).unwrap();
                idle.accumulate().unwrap();
                idle.train_step(&[second.into()], of_second.into(), turn(1)).unwrap();
                idle.accumulate().unwrap();
                idle.all_buckets(&mut |bucket| again.push(add(&bucket))).unwrap();
                assert!(again == sums);
                // A new sum begins with zeros.
                idle.take_sums(4, &sums).unwrap();
                idle.all_buckets(&mut |bucket| assert!(add(&bucket).iter().all(|&v| v == 0.0)))
                    .unwrap();
                e.take_sums(4, &sums).unwrap();
                let mut others = (Gradients::default(), Gradients::default());
                plain.gradients(&mut others.0).unwrap();
                e.gradients(&mut others.1).unwrap();
                assert!(
                    others.0 == others.1 && others.0.tensors.iter().flatten().any(|&g| g != 0.0)
                );
            }
            assert!(e.take_sums(4, &[vec![0.0]]).is_err() && e.take_sums(0, &[]).is_err());
        }
    }
}
