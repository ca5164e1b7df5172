//! The tensors that a plan trains, and what goes with each: gradient, optimizer state, moving average, replicas' sums. All
//! have the same addresses in memory of their own, so that one kernel passes over all tensors.

use headstart_gpu::kernels::optim::BLOCK;
use headstart_gpu::{Context, Places, Space, Span};

use super::failed;
use crate::engine::execute::Weights;
use crate::engine::optimizer::Optimizer;
use crate::engine::plan::Plan;
use crate::error::{Error, Result};
use crate::net::parameters::{Parameter, Parameters};

/// A replica's sum of gradients.
#[derive(Debug)]
pub(super) struct Sum {
    pub replica: usize,
    pub space: Space,
}

#[derive(Debug)]
pub(super) struct Trained {
    /// Names and sizes of all tensors; of those that train also values, which are not the current ones.
    pub parameters: Parameters,
    /// Where each tensor that trains is.
    at: Vec<Option<u64>>,
    bytes: u64,
    pub values: Space,
    pub gradients: Option<Space>,
    pub memory: Vec<Space>,
    pub average: Option<Space>,
    pub sums: Vec<Sum>,
}

impl Trained {
    /// Takes memory for what `plan` trains.
    pub fn new(c: &Context, plan: &Plan, parameters: &Parameters) -> Result<Trained> {
        let mut places = Places::new(c.page());
        let mut at = Vec::new();
        for t in &parameters.tensors {
            let bytes = 4 * t.shape.iter().product::<usize>() as u64;
            let trains = plan.trains(t.node);
            at.push(trains.then(|| places.place(bytes)).transpose().map_err(failed)?);
        }
        let bytes = places.end();
        let values = Space::new(c, bytes).map_err(failed)?;
        let parameters = own(plan, parameters)?;
        let (memory, sums) = (Vec::new(), Vec::new());
        Ok(Trained { parameters, at, bytes, values, gradients: None, memory, average: None, sums })
    }

    /// Memory with the addresses of all tensors.
    pub fn space(&self, c: &Context) -> Result<Space> {
        Space::new(c, self.bytes).map_err(failed)
    }

    /// Blocks of floats, each with its own learning rate.
    pub fn blocks(&self) -> usize {
        self.bytes as usize / (4 * BLOCK)
    }

    /// Tensors that train: number and address.
    pub fn each(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.at.iter().enumerate().filter_map(|(i, at)| at.map(|at| (i, at)))
    }

    fn len(&self, i: usize) -> usize {
        self.parameters.tensors[i].shape.iter().product()
    }

    fn span(&self, space: &Space, i: usize) -> Option<Span> {
        self.at[i].and_then(|at| space.span(at, 4 * self.len(i) as u64).ok())
    }

    /// A tensor that trains.
    pub fn value(&self, i: usize) -> Option<Span> {
        self.span(&self.values, i)
    }

    /// Its gradient, if it has one.
    pub fn gradient(&self, i: usize) -> Option<Span> {
        let has = self.parameters.tensors[i].role.has_gradient();
        self.gradients.as_ref().filter(|_| has).and_then(|space| self.span(space, i))
    }

    /// Uploads all that trains; an average starts again from it.
    pub fn load(&mut self, c: &Context, plan: &Plan, parameters: &Parameters) -> Result<()> {
        self.parameters = own(plan, parameters)?;
        self.write(c, &self.values, &self.parameters)?;
        match &self.average {
            Some(average) => self.write(c, average, &self.parameters),
            None => Ok(()),
        }
    }

    fn write(&self, c: &Context, space: &Space, parameters: &Parameters) -> Result<()> {
        for (i, _) in self.each() {
            if let Some(span) = self.span(space, i) {
                c.write_floats(&span, &parameters.tensors[i].values).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// One vector for each tensor, empty where `wanted` says so.
    pub fn read(
        &self,
        c: &Context,
        space: &Space,
        wanted: impl Fn(&Parameter) -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        let tensors = &self.parameters.tensors;
        let chosen: Vec<usize> =
            self.each().map(|(i, _)| i).filter(|&i| wanted(&tensors[i])).collect();
        let spans = chosen.iter().filter_map(|&i| Some((self.span(space, i)?, self.len(i))));
        let mut words = Vec::new();
        c.read(&spans.collect::<Vec<_>>(), &mut words).map_err(failed)?;
        let mut rest = &words[..];
        let mut list = vec![Vec::new(); tensors.len()];
        for i in chosen {
            let (own, others) = rest.split_at(self.len(i));
            list[i] = own.iter().map(|&word| f32::from_bits(word)).collect();
            rest = others;
        }
        Ok(list)
    }

    /// The gradients; empty for what has none.
    pub fn read_gradients(&self, c: &Context) -> Result<Vec<Vec<f32>>> {
        match &self.gradients {
            Some(space) => self.read(c, space, |t| t.role.has_gradient()),
            None => Ok(Vec::new()),
        }
    }

    /// Copies what trains into the same net's `parameters`.
    pub fn download(&self, c: &Context, which: Weights, parameters: &mut Parameters) -> Result<()> {
        self.check_same_net(parameters)?;
        let space = match which {
            Weights::Average => self.average.as_ref().unwrap_or(&self.values),
            Weights::Current => &self.values,
        };
        let values = self.read(c, space, |_| true)?;
        for (i, _) in self.each() {
            parameters.tensors[i].values.clone_from(&values[i]);
        }
        Ok(())
    }

    fn check_same_net(&self, parameters: &Parameters) -> Result<()> {
        let own = &self.parameters.tensors;
        let same = |(a, b): (&Parameter, &Parameter)| {
            a.node == b.node && a.role == b.role && a.shape == b.shape
        };
        match own.len() == parameters.tensors.len() && own.iter().zip(&parameters.tensors).all(same)
        {
            true => Ok(()),
            false => Err(Error::invalid("weights", "those of the executor's net", "others", "")),
        }
    }

    pub fn statistics(&self, c: &Context) -> Result<Vec<f32>> {
        Ok(self.read(c, &self.values, |t| !t.role.has_gradient())?.concat())
    }

    pub fn set_statistics(&self, c: &Context, values: &[f32]) -> Result<()> {
        let moving: Vec<usize> = self
            .each()
            .map(|(i, _)| i)
            .filter(|&i| !self.parameters.tensors[i].role.has_gradient())
            .collect();
        let expected: usize = moving.iter().map(|&i| self.len(i)).sum();
        if values.len() != expected {
            let (expected, found) = (expected.to_string(), values.len().to_string());
            return Err(Error::invalid("moving statistics", expected, found, ""));
        }
        let mut rest = values;
        for i in moving {
            let (own, others) = rest.split_at(self.len(i));
            if let Some(span) = self.value(i) {
                c.write_floats(&span, own).map_err(failed)?;
            }
            rest = others;
        }
        Ok(())
    }

    pub fn set_average(&self, c: &Context, parameters: &Parameters) -> Result<()> {
        self.check_same_net(parameters)?;
        match &self.average {
            Some(average) => self.write(c, average, parameters),
            None => Ok(()),
        }
    }

    /// Copies the optimizer's memory into `optimizer`, as the CPU has it there.
    pub fn read_memory(&self, c: &Context, optimizer: &mut Optimizer) -> Result<()> {
        optimizer.state.clear();
        if optimizer.iterations == 0 {
            return Ok(());
        }
        optimizer.state.resize(self.parameters.tensors.len(), Default::default());
        for (k, space) in self.memory.iter().enumerate() {
            let values = self.read(c, space, |t| t.role.has_gradient())?;
            for (state, values) in optimizer.state.iter_mut().zip(values) {
                state[k] = values;
            }
        }
        Ok(())
    }

    /// Uploads the optimizer's memory; what it has none of is zero.
    pub fn write_memory(&self, c: &Context, optimizer: &Optimizer) -> Result<()> {
        for (k, space) in self.memory.iter().enumerate() {
            for (i, _) in self.each() {
                let held = optimizer.state.get(i).map(|state| &state[k][..]).unwrap_or_default();
                let zeros = vec![0.0; if held.is_empty() { self.len(i) } else { 0 }];
                if let Some(span) = self.span(space, i) {
                    let values = if held.is_empty() { &zeros[..] } else { held };
                    c.write_floats(&span, values).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

/// The weights that the plan trains; of all others only names and sizes.
fn own(plan: &Plan, parameters: &Parameters) -> Result<Parameters> {
    let mut tensors = Vec::with_capacity(parameters.tensors.len());
    for t in &parameters.tensors {
        let trains = plan.trains(t.node);
        let expected: usize = t.shape.iter().product();
        if trains && t.values.len() != expected {
            let (expected, found) = (format!("{expected} values"), t.values.len().to_string());
            return Err(Error::invalid(t.name.clone(), expected, found, ""));
        }
        let values = if trains { t.values.clone() } else { Vec::new() };
        tensors.push(Parameter { values, name: t.name.clone(), shape: t.shape.clone(), ..*t });
    }
    Ok(Parameters { tensors })
}
