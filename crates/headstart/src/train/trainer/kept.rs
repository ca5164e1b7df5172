//! Weights that a phase stores besides the current ones: those of its best epoch, and EMA weights.

use super::run::Run;
use crate::engine::execute::Weights;
use crate::error::{Error, Result};
use crate::net::parameters::Parameters;
use crate::net::weights::Tensor;

/// Prefixes of names in last.safetensors' state: weights of the phase's best epoch, and raw weights where
/// the model has the EMA weights.
const BEST: &str = "best/";
const RAW: &str = "raw/";

/// The values of some tensors, by their position in [`Parameters::tensors`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot(Vec<(usize, Vec<f32>)>);

impl Snapshot {
    /// Of the tensors of layers that train, moving statistics included.
    pub fn of(parameters: &Parameters, trainable: &[bool]) -> Snapshot {
        let tensors = parameters.tensors.iter().enumerate().filter(|(_, t)| trainable[t.node]);
        Snapshot(tensors.map(|(i, t)| (i, t.values.clone())).collect())
    }

    /// The same tensors as `parameters` have them.
    fn again(&self, parameters: &Parameters) -> Snapshot {
        let values = |&(i, _): &(usize, Vec<f32>)| (i, parameters.tensors[i].values.clone());
        Snapshot(self.0.iter().map(values).collect())
    }

    fn put(&self, parameters: &mut Parameters) {
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

    /// Removes what [`Self::tensors`] returned from `state`, if it is there; it must be of the same tensors.
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

impl Run<'_, '_> {
    fn weights(&mut self, which: Weights) -> Result<Parameters> {
        let mut parameters = self.trainer.model.parameters.clone();
        self.train.download(which, &mut parameters)?;
        Ok(parameters)
    }

    /// Which weights are evaluated and written: the EMA weights, if there are any.
    fn which(&self) -> Weights {
        if self.averages { Weights::Average } else { Weights::Current }
    }

    /// The weights that are evaluated and written.
    pub fn shown(&mut self) -> Result<Parameters> {
        self.weights(self.which())
    }

    /// Gives the model the raw weights.
    pub fn sync(&mut self) -> Result<()> {
        self.train.download(Weights::Current, &mut self.trainer.model.parameters)
    }

    /// Gives the model the weights that are evaluated.
    pub fn hand_over(&mut self) -> Result<()> {
        let which = self.which();
        self.train.download(which, &mut self.trainer.model.parameters)
    }

    /// Replaces the current weights, and the EMA weights, by `parameters`.
    pub fn replace(&mut self, parameters: &Parameters) -> Result<()> {
        self.averages = false;
        self.train.load(parameters)
    }

    /// Stores the evaluated weights as those of the best epoch.
    pub fn keep_best(&mut self, shown: &Parameters) {
        self.best = Some(self.changed.again(shown));
    }

    /// Restores the weights of the phase's best epoch, if they are stored.
    pub fn restore_best(&mut self) -> Result<bool> {
        let Some(best) = self.best.take() else { return Ok(false) };
        let mut parameters = self.trainer.model.parameters.clone();
        best.put(&mut parameters);
        self.replace(&parameters)?;
        Ok(true)
    }

    /// What last.safetensors has besides weights and optimizer state.
    pub fn kept_tensors(&mut self) -> Result<Vec<Tensor>> {
        let raw = match self.averages {
            true => Some(self.weights(Weights::Current)?),
            false => None,
        };
        let parameters = &self.trainer.model.parameters;
        let best = self.best.as_ref().map(|best| best.tensors(BEST, parameters));
        let raw = raw.map(|raw| self.changed.again(&raw).tensors(RAW, parameters));
        Ok(best.into_iter().chain(raw).flatten().collect())
    }

    /// Removes [`Self::kept_tensors`] from `state`; the model has the weights that were evaluated.
    pub fn take_kept(&mut self, state: &mut Vec<Tensor>) -> Result<()> {
        let parameters = &mut self.trainer.model.parameters;
        self.best = self.changed.take(BEST, parameters, state)?;
        let raw = self.changed.take(RAW, parameters, state)?;
        match (self.averages, raw) {
            (true, Some(raw)) => {
                let shown = parameters.clone();
                raw.put(parameters);
                self.train.load(parameters)?;
                self.train.set_average(&shown)?;
            }
            // The phase was done, and the model has its result.
            (_, None) => self.averages = false,
            (false, Some(_)) => {
                let hint = "undo what was edited in config.toml, or start another run";
                return Err(Error::invalid("EMA weights", "none", "some", hint));
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
