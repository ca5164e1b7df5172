//! One step of training.

use headstart_kernels::loss::Labels;

use super::Trainer;
use super::inputs::Inputs;
use super::run::Run;
use crate::engine::execute::{Execute, Input, Turn};
use crate::engine::gradients::StepResult;
use crate::error::{Error, Result};
use crate::train::cache::Part;
use crate::train::collective::{Collective, own_replicas, share};

impl Run<'_, '_> {
    /// Runs the next batch forward and backward, replica by replica. With `updates`, the gradients of this step and of those
    /// since the last update change the weights, unless the loss is not a number.
    pub fn step(
        &mut self,
        batches: &mut Inputs<'_>,
        learning_rate: f32,
        updates: bool,
    ) -> Result<StepResult> {
        let Run { trainer, train, step, images, .. } = self;
        let (model, frozen) = trainer.side_mut(Part::Train);
        let count = batches.next(model, frozen)?;
        let Trainer { frozen, smaller, settings, collective, .. } = &mut **trainer;
        let frozen = smaller.as_ref().map_or(frozen.as_ref(), |smaller| smaller.frozen.as_ref());
        let (inputs, labels) = batches.current(frozen);
        let replicas = settings.replicas;
        // Nothing to sum.
        let alone = replicas == 1 && collective.size() == 1 && updates && *images == 0;
        let mut results = Vec::new();
        for replica in own_replicas(replicas, &**collective) {
            let range = share(count, replica, replicas);
            if range.is_empty() {
                continue;
            }
            let parts = inputs.iter().map(|input| input.part(count, range.clone()));
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
        let result = together(&mut **collective, &results)?;
        if !result.loss.is_finite() {
            return Ok(result);
        }
        if !alone {
            *images += count;
        }
        if !updates {
            return Ok(result);
        }
        if !alone {
            train.reduce(*images, &mut |own, sum| collective.all_reduce(own, sum))?;
            *images = 0;
        }
        if collective.size() > 1 {
            share_statistics(&mut **collective, &mut **train)?;
        }
        train.update(learning_rate)?;
        Ok(result)
    }
}

/// Gives every process the moving statistics of replica 0.
fn share_statistics(collective: &mut dyn Collective, train: &mut dyn Execute) -> Result<()> {
    let (first, mut values) = (collective.rank() == 0, Vec::new());
    if first {
        train.statistics(&mut values)?;
    }
    let own: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let all = collective.gather(&own)?;
    if let (false, Some(bytes)) = (first, all.first()) {
        let (values, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        train.set_statistics(&values)?;
    }
    Ok(())
}

/// The mean loss and the number of correct predictions of all replicas of all processes.
fn together(collective: &mut dyn Collective, own: &[StepResult]) -> Result<StepResult> {
    if let ([one], 1) = (own, collective.size()) {
        return Ok(*one);
    }
    let encode = |r: &StepResult| {
        let numbers = [u64::from(r.loss.to_bits()), r.correct as u64, r.count as u64];
        numbers.map(u64::to_le_bytes).concat()
    };
    let own: Vec<u8> = own.iter().flat_map(encode).collect();
    let (mut loss, mut correct, mut count) = (0.0, 0, 0);
    for process in collective.gather(&own)? {
        let (numbers, rest) = process.as_chunks::<8>();
        let (replicas, odd) = numbers.as_chunks::<3>();
        if !rest.is_empty() || !odd.is_empty() {
            let found = format!("{} bytes", process.len());
            return Err(Error::invalid("result of a process", "24 bytes per replica", found, ""));
        }
        for replica in replicas {
            let [bits, hits, images] = replica.map(u64::from_le_bytes);
            loss += f64::from(f32::from_bits(bits as u32)) * images as f64;
            correct += hits as usize;
            count += images as usize;
        }
    }
    Ok(StepResult { loss: (loss / count as f64) as f32, correct, count })
}
