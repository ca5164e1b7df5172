//! One step of training.

use headstart_kernels::loss::Labels;

use super::Trainer;
use super::inputs::Inputs;
use super::run::Run;
use crate::control::Control;
use crate::engine::execute::{Execute, Input, Turn};
use crate::engine::gradients::StepResult;
use crate::error::Result;
use crate::train::cache::Part;
use crate::train::collective::{Alone, Collective, share};

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
        let Run { trainer, train, step, images, .. } = self;
        let (own, shared) = (trainer.own_replicas(), trainer.shares_batches());
        let portion = trainer.portion();
        let (model, frozen) = trainer.side_mut(Part::Train);
        let count = batches.next(model, frozen)?;
        let Trainer { frozen, smaller, settings, .. } = &**trainer;
        let frozen = smaller.as_ref().map_or(frozen.as_ref(), |smaller| smaller.frozen.as_ref());
        let (inputs, labels) = batches.current(frozen);
        let replicas = settings.replicas;
        // Nothing to sum.
        let alone = replicas == 1 && updates && *images == 0;
        let mut results = Vec::new();
        // The images that this process has of the batch.
        let has = portion.range(count);
        for replica in own {
            let range = share(count, replica, replicas);
            if range.is_empty() {
                continue;
            }
            let range = range.start - has.start..range.end - has.start;
            let parts = inputs.iter().map(|input| input.part(has.len(), range.clone()));
            let inputs: Vec<Input<'_>> = parts.collect();
            let labels = Labels {
                first: &labels.first[range.clone()],
                second: labels.second.map(|(second, share)| (&second[range.clone()], share)),
            };
            let turn = Turn { step: *step, replica };
            let result = train.train_step(&inputs, labels, turn)?;
            if result.loss.is_finite() && !alone {
                train.accumulate()?;
            }
            results.push(result);
        }
        *step += 1;
        let (result, control) = self.together(&results)?;
        let Run { trainer, train, images, .. } = self;
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
            train.reduce(*images, &mut |own, sum| match shared {
                true => collective.all_reduce(own, sum),
                false => Alone.all_reduce(own, sum),
            })?;
            *images = 0;
        }
        if shared {
            share_statistics(collective, &mut **train, replicas)?;
        }
        train.update(learning_rate)?;
        Ok((result, control))
    }
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
