//! Weights that a phase keeps beside those at hand: of its best epoch, and their average.

use std::borrow::Cow;

use super::run::Run;
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;
use crate::net::weights::Tensor;

/// Prefixes of names in last.safetensors' state: weights of the phase's best epoch, and those that gradient
/// descent changes where the model has their average.
const BEST: &str = "best/";
const RAW: &str = "raw/";

/// The values of some tensors, by their place in [`Parameters::tensors`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot(Vec<(usize, Vec<f32>)>);

impl Snapshot {
    /// Of the tensors of layers that train, moving statistics included.
    pub fn of(parameters: &Parameters, trainable: &[bool]) -> Snapshot {
        let tensors = parameters.tensors.iter().enumerate().filter(|(_, t)| trainable[t.node]);
        Snapshot(tensors.map(|(i, t)| (i, t.values.clone())).collect())
    }

    /// Of the moving statistics among those tensors alone.
    pub fn statistics(&self, parameters: &Parameters) -> Snapshot {
        let tensors = self.0.iter().map(|&(i, _)| (i, &parameters.tensors[i]));
        let moving = tensors.filter(|(_, t)| !t.role.has_gradient());
        Snapshot(moving.map(|(i, t)| (i, t.values.clone())).collect())
    }

    /// The same tensors as `parameters` have them.
    fn again(&self, parameters: &Parameters) -> Snapshot {
        let values = |&(i, _): &(usize, Vec<f32>)| (i, parameters.tensors[i].values.clone());
        Snapshot(self.0.iter().map(values).collect())
    }

    pub fn put(&self, parameters: &mut Parameters) {
        for (i, values) in &self.0 {
            parameters.tensors[*i].values.clone_from(values);
        }
    }

    /// As tensors to be stored.
    fn tensors(&self, prefix: &str, parameters: &Parameters) -> Vec<Tensor> {
        let tensor = |(i, values): &(usize, Vec<f32>)| {
            let own = &parameters.tensors[*i];
            let (name, shape) = (format!("{prefix}{}", own.name), own.shape.clone());
            Tensor { name, shape, values: values.clone() }
        };
        self.0.iter().map(tensor).collect()
    }

    /// Takes what [`Self::tensors`] gave out of `state`, if anything; it must be of the same tensors.
    fn take(
        &self,
        prefix: &str,
        parameters: &Parameters,
        state: &mut Vec<Tensor>,
    ) -> Result<Option<Snapshot>> {
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(state).into_iter().partition(|t| t.name.starts_with(prefix));
        *state = rest;
        if own.is_empty() {
            return Ok(None);
        }
        let mut taken = Vec::with_capacity(self.0.len());
        for (i, values) in &self.0 {
            let name = &parameters.tensors[*i].name;
            let found = own.iter().find(|t| t.name[prefix.len()..] == **name);
            match found.filter(|t| t.values.len() == values.len()) {
                Some(tensor) => taken.push((*i, tensor.values.clone())),
                None => {
                    let expected = format!("{} values", values.len());
                    let found = found.map_or("none".into(), |t| format!("{}", t.values.len()));
                    return Err(Error::invalid(format!("{prefix}{name}"), expected, found, ""));
                }
            }
        }
        Ok(Some(Snapshot(taken)))
    }
}

/// An exponential moving average of all that training changes, batch norm's moving statistics included, as timm's
/// `ModelEmaV2`: `average = decay average + (1 - decay) value` after each update, from the phase's first values on.
#[derive(Clone, Debug)]
pub(super) struct Average {
    pub decay: f32,
    pub values: Snapshot,
}

impl Average {
    /// Takes an update in.
    pub fn update(&mut self, parameters: &Parameters) {
        let rest = 1.0 - self.decay;
        for (i, average) in &mut self.values.0 {
            for (a, &w) in average.iter_mut().zip(&parameters.tensors[*i].values) {
                *a = self.decay * *a + rest * w;
            }
        }
    }
}

impl Run<'_, '_> {
    /// The weights that are evaluated and written: the average, where there is one.
    pub fn shown(&self) -> Cow<'_, Parameters> {
        let parameters = &self.trainer.model.parameters;
        match &self.average {
            None => Cow::Borrowed(parameters),
            Some(average) => {
                let mut shown = parameters.clone();
                average.values.put(&mut shown);
                Cow::Owned(shown)
            }
        }
    }

    /// Gives the model the weights that are shown.
    pub fn hand_over(&mut self) {
        if let Some(average) = self.average.take() {
            average.values.put(&mut self.trainer.model.parameters);
        }
    }

    /// Keeps the weights that are shown as those of the best epoch.
    pub fn keep_best(&mut self) {
        let shown = self.shown();
        self.best = Some(self.changed.again(&shown));
    }

    /// Gives the model the weights of the phase's best epoch, if they are kept.
    pub fn restore_best(&mut self) -> bool {
        let Some(best) = self.best.take() else { return false };
        self.average = None;
        best.put(&mut self.trainer.model.parameters);
        true
    }

    /// What last.safetensors holds beside weights and optimizer state.
    pub fn kept_tensors(&self) -> Vec<Tensor> {
        let parameters = &self.trainer.model.parameters;
        let best = self.best.as_ref().map(|best| best.tensors(BEST, parameters));
        let raw = self.average.as_ref();
        let raw = raw.map(|a| a.values.again(parameters).tensors(RAW, parameters));
        best.into_iter().chain(raw).flatten().collect()
    }

    /// Takes [`Self::kept_tensors`] out of `state`; the model has the weights that were shown.
    pub fn take_kept(&mut self, state: &mut Vec<Tensor>) -> Result<()> {
        let parameters = &mut self.trainer.model.parameters;
        self.best = self.changed.take(BEST, parameters, state)?;
        let raw = self.changed.take(RAW, parameters, state)?;
        match (&mut self.average, raw) {
            (Some(average), Some(raw)) => {
                average.values = self.changed.again(parameters);
                raw.put(parameters);
                self.train.load(parameters)?;
            }
            // The phase was done, and the model has what it led to.
            (average, None) => *average = None,
            (None, Some(_)) => {
                let hint = "use the config.toml that the run began with";
                return Err(Error::invalid("averaged weights", "none", "some", hint));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::parameters::{Parameter, Role};

    fn parameters(values: [f32; 2]) -> Parameters {
        let tensor = |node, value| {
            let (name, shape) = (format!("layer{node}/kernel"), vec![1]);
            Parameter { node, role: Role::Kernel, name, shape, values: vec![value] }
        };
        Parameters { tensors: vec![tensor(0, values[0]), tensor(1, values[1])] }
    }

    #[test]
    fn an_average_is_timms_of_what_trains() {
        let start = parameters([1.0, 2.0]);
        let values = Snapshot::of(&start, &[false, true]);
        let mut average = Average { decay: 0.75, values };
        for value in [4.0, 8.0] {
            average.update(&parameters([9.0, value]));
        }
        // 0.75 (0.75 2 + 0.25 4) + 0.25 8
        assert_eq!(average.values, Snapshot(vec![(1, vec![3.875])]));
        let mut shown = parameters([5.0, 6.0]);
        average.values.put(&mut shown);
        assert_eq!(shown, parameters([5.0, 3.875]));
    }

    #[test]
    fn what_is_stored_comes_back_and_nothing_else_is_taken() {
        let p = parameters([1.0, 2.0]);
        let snapshot = Snapshot::of(&p, &[true, true]);
        let other =
            Tensor { name: "layer0/kernel/momentum".into(), shape: vec![1], values: vec![7.0] };
        let mut state = snapshot.tensors(BEST, &p);
        state.push(other.clone());
        let zeros = snapshot.again(&parameters([0.0; 2]));
        assert_eq!(zeros.take(RAW, &p, &mut state).unwrap(), None);
        assert_eq!(zeros.take(BEST, &p, &mut state).unwrap(), Some(snapshot.clone()));
        assert_eq!(state, [other]);
        let mut short = snapshot.tensors(BEST, &p)[..1].to_vec();
        assert!(zeros.take(BEST, &p, &mut short).is_err());
    }
}
