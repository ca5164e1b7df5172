//! One step of training.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use headstart_kernels::loss::Labels;

use super::Trainer;
use super::inputs::Inputs;
use super::run::Run;
use crate::control::Control;
use crate::engine::execute::{Bucket, Execute, Input, Ready, Turn};
use crate::engine::gradients::StepResult;
use crate::error::{Error, Result};
use crate::train::cache::Part;
use crate::train::collective::{Alone, Collective, share};

/// The part of a batch that this process has, and which images of the batch these are.
struct Own<'b> {
    inputs: Vec<Input<'b>>,
    labels: Labels<'b>,
    images: Range<usize>,
    step: u64,
}

impl Own<'_> {
    /// The images `range` of the batch, which are those of a replica.
    fn replica(&self, replica: usize, range: &Range<usize>) -> (Vec<Input<'_>>, Labels<'_>, Turn) {
        let range = range.start - self.images.start..range.end - self.images.start;
        let parts = self.inputs.iter().map(|i| i.part(self.images.len(), range.clone()));
        let labels = Labels {
            first: &self.labels.first[range.clone()],
            second: self.labels.second.map(|(second, share)| (&second[range.clone()], share)),
        };
        (parts.collect(), labels, Turn { step: self.step, replica })
    }
}

impl Run<'_, '_> {
    /// Runs the next batch forward and backward, replica by replica. With `updates`, the gradients of this step and of those
    /// since the last update change the weights, unless the loss is not a number. With the result comes whether any of several
    /// processes was told to stop before it.
    pub fn step(
        &mut self,
        batches: &mut Inputs<'_>,
        learning_rate: f32,
        updates: bool,
    ) -> Result<(StepResult, Control)> {
        let Run { trainer, train, step, images, sums: spare, .. } = self;
        let (own, shared) = (trainer.own_replicas(), trainer.shares_batches());
        let portion = trainer.portion();
        let (model, frozen) = trainer.side_mut(Part::Train);
        let count = batches.next(model, frozen)?;
        let Trainer { frozen, smaller, settings, collective, .. } = &mut **trainer;
        let frozen = smaller.as_ref().map_or(frozen.as_ref(), |smaller| smaller.frozen.as_ref());
        let (inputs, labels) = batches.current(frozen);
        let replicas = settings.replicas;
        // Nothing to sum.
        let alone = replicas == 1 && updates && *images == 0;
        let batch = Own { inputs, labels, images: portion.range(count), step: *step };
        let ranges = own.map(|replica| (replica, share(count, replica, replicas)));
        let mut ranges: Vec<_> = ranges.filter(|(_, range)| !range.is_empty()).collect();
        // The gradients of the last one are summed over the processes while its backward pass goes on.
        let together = shared && updates && train.in_buckets().is_some();
        let last = if together { ranges.pop() } else { None };
        let mut results = Vec::new();
        for (replica, range) in ranges {
            let (inputs, labels, turn) = batch.replica(replica, &range);
            let result = train.train_step(&inputs, labels, turn)?;
            if result.loss.is_finite() && !alone {
                train.accumulate()?;
            }
            results.push(result);
        }
        let sums = match train.in_buckets().filter(|_| together) {
            None => None,
            Some(train) => {
                Some(summed(&mut **collective, std::mem::take(spare), |ready| match last {
                    None => train.all_buckets(ready),
                    Some((replica, range)) => {
                        let (inputs, labels, turn) = batch.replica(replica, &range);
                        results.push(train.step_in_buckets(&inputs, labels, turn, ready)?);
                        Ok(())
                    }
                })?)
            }
        };
        *step += 1;
        let (result, control) = self.together(&results)?;
        let Run { trainer, train, images, sums: spare, .. } = self;
        let collective = &mut *trainer.collective;
        if !result.loss.is_finite() {
            return Ok((result, control));
        }
        if !alone {
            *images += count;
        }
        if !updates {
            return Ok((result, control));
        }
        if !alone {
            match (sums, train.in_buckets()) {
                (Some(sums), Some(train)) => {
                    train.take_sums(*images, &sums)?;
                    *spare = sums;
                }
                _ => train.reduce(*images, &mut |own, sum| match shared {
                    true => collective.all_reduce(own, sum),
                    false => Alone.all_reduce(own, sum),
                })?,
            }
            *images = 0;
        }
        if shared {
            share_statistics(collective, &mut **train, replicas)?;
        }
        train.update(learning_rate)?;
        Ok((result, control))
    }
}

/// Does the work, and on a thread beside it sums the buckets that it tells; their sums in order, in the memory of `spare`.
fn summed(
    collective: &mut dyn Collective,
    spare: Vec<Vec<f32>>,
    work: impl FnOnce(&mut Ready<'_>) -> Result<()>,
) -> Result<Vec<Vec<f32>>> {
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel::<Bucket>();
        let adding = thread::Builder::new().spawn_scoped(scope, move || {
            let (mut spare, mut sums) = (spare.into_iter(), Vec::new());
            for Bucket { own, elements, .. } in receive {
                let own: Vec<&[f32]> = own.iter().map(|values| &values[..]).collect();
                let mut sum = spare.next().unwrap_or_default();
                sum.resize(elements, 0.0);
                collective.all_reduce(&own, &mut sum)?;
                sums.push(sum);
            }
            Ok(sums)
        });
        let adding = adding.map_err(|e| Error::threads(1, e))?;
        // Nobody receives it where a sum failed, which is the error then.
        let done = work(&mut |bucket| drop(send.send(bucket)));
        drop(send);
        let sums = adding.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        done.map(|()| sums)
    })
}

/// Gives every process the moving statistics of replica 0.
fn share_statistics(
    collective: &mut dyn Collective,
    train: &mut dyn Execute,
    replicas: usize,
) -> Result<()> {
    // Of more processes than replicas the first ones may have none.
    let size = collective.size();
    let owner = (0..size).find(|&rank| share(replicas, rank, size).contains(&0)).unwrap_or(0);
    let (first, mut values) = (collective.rank() == owner, Vec::new());
    if first {
        train.statistics(&mut values)?;
    }
    let own: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let all = collective.gather(&own)?;
    if let (false, Some(bytes)) = (first, all.get(owner)) {
        let (values, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        train.set_statistics(&values)?;
    }
    Ok(())
}
