//! A step of training on a GPU, what replicas add up, and the update.

use headstart_gpu::kernels::optim::{self, BLOCK};
use headstart_gpu::kernels::{elementwise, loss, norm};
use headstart_gpu::{Call, Context, Program, Space, Span};
use headstart_kernels::element::DType;
use headstart_kernels::loss::Labels;

use super::weights::Sum;
use super::{Executor, failed, room};
use crate::engine::execute::{Input, SumReplicas, Training, Turn, check_inputs, check_labels};
use crate::engine::gradients::StepResult;
use crate::engine::loss_scale::LossScale;
use crate::engine::optimizer::{Optimizer, Rule};
use crate::error::{Error, Result};

/// Labels of a batch, weights of classes, and what a step finds.
#[derive(Debug)]
pub(super) struct Memory {
    first: Span,
    second: Span,
    weights: Span,
    pub losses: Span,
    pub hits: Span,
    pub result: Span,
    /// The program of an update, and its calls that have the learning rate.
    update: Option<(Program, Vec<usize>)>,
    /// In half precision, what takes the scale off the gradients and counts those that are not finite.
    unscale: Option<Program>,
    /// Whether there are gradients, and whether all of them are known to be finite or none is in half precision.
    ready: bool,
    finite: bool,
}

/// Where the parameters of an update have the learning rate, and what unbiases Adam.
const RATE: usize = 3;
const UNBIAS: usize = 7;
/// Words of what a step finds: loss, hits, and gradients that are not finite.
const FOUND: usize = 3;

impl Memory {
    pub fn new(c: &Context, batch: usize, classes: usize) -> Result<Memory> {
        let words = |n: usize| room(c, 4 * n as u64);
        Ok(Memory {
            first: words(batch)?,
            second: words(batch)?,
            weights: words(classes)?,
            losses: words(batch)?,
            hits: words(batch)?,
            result: words(FOUND)?,
            update: None,
            unscale: None,
            ready: false,
            finite: true,
        })
    }

    /// What the kernels of the loss read; the second label's share comes with each step.
    pub fn targets(&self, training: Option<&Training>) -> loss::Targets<'_> {
        let smoothing = training.map_or(0.0, |t| t.targets.smoothing);
        let (first, second, weights) = (&self.first, &self.second, &self.weights);
        loss::Targets { first, second, weights, share: 0.0, smoothing }
    }
}

/// The error of training without [`Execute::prepare`](crate::engine::execute::Execute::prepare).
pub(super) fn not_prepared() -> Error {
    Error::invalid("executor", "one that is prepared for training", "one that is not", "")
}

fn no_gradients() -> Error {
    Error::invalid("gradients", "those of a step", "none", "")
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Executor {
    pub(super) fn prepare_training(&mut self, mut training: Training) -> Result<()> {
        self.check_trains()?;
        let classes = self.graph.nodes[self.graph.output()].shape.elements();
        training.check(classes)?;
        let half = self.plan.request.dtype == DType::F16;
        let scale = training.optimizer.loss_scale.unwrap_or_default();
        training.optimizer.loss_scale = half.then_some(scale);
        let c = &*self.context;
        let weights = &training.targets.weights;
        let each = if weights.is_empty() { vec![1.0; classes] } else { weights.clone() };
        c.write_floats(&self.labels.weights, &each).map_err(failed)?;
        let trained = &mut self.trained;
        trained.gradients = Some(trained.space(c)?);
        trained.memory.clear();
        for _ in training.optimizer.rule.memory() {
            trained.memory.push(trained.space(c)?);
        }
        trained.sums.clear();
        trained.write_memory(c, &training.optimizer)?;
        training.optimizer.state.clear();
        trained.average = match training.average {
            Some(_) => Some(trained.space(c)?),
            None => None,
        };
        if let Some(average) = &trained.average {
            // From the current weights on.
            let pairs = trained.values.spans().into_iter().zip(average.spans());
            let copies: Vec<Call> = pairs
                .map(|(from, to)| elementwise::copy(floats(&from), &from, false, &to))
                .collect();
            Program::new(c, &copies).and_then(|program| program.run(c)).map_err(failed)?;
        }
        self.made.clear();
        let update = self.update_program(&training)?;
        self.labels.update = Some(update);
        self.labels.unscale = if half { Some(self.unscale_program()?) } else { None };
        self.labels.finite = true;
        self.labels.ready = false;
        self.training = Some(training);
        Ok(())
    }

    fn check_trains(&self) -> Result<()> {
        match self.plan.request.trainable {
            Some(_) => Ok(()),
            None => Err(Error::invalid("plan", "one made for training", "one for inference", "")),
        }
    }

    /// Clipping, the rule, and the moving average, over all tensors at once.
    fn update_program(&self, training: &Training) -> Result<(Program, Vec<usize>)> {
        let (c, trained, optimizer) = (&*self.context, &self.trained, &training.optimizer);
        let Some(gradients) = &trained.gradients else { return Err(not_prepared()) };
        let blocks = room(c, 8 * trained.blocks().max(1) as u64)?;
        c.write_floats(&blocks, &self.block_settings(optimizer)).map_err(failed)?;
        let pages: Vec<(Span, Span)> =
            trained.values.spans().into_iter().zip(gradients.spans()).collect();
        let memory: Vec<Vec<Span>> = trained.memory.iter().map(Space::spans).collect();
        let parts: usize = pages.iter().map(|(w, _)| optim::square_parts(floats(w))).sum();
        let (sums, factor) = (room(c, 4 * parts.max(1) as u64)?, room(c, 4)?);
        let mut calls = Vec::new();
        if let Some(most) = training.clip_norm {
            let mut to = 0;
            for (_, g) in &pages {
                calls.push(optim::square_sums(floats(g), training.clip_value, g, to, &sums));
                to += optim::square_parts(floats(g));
            }
            calls.push(optim::clip_factor(parts, most, &sums, &factor));
        }
        let rule = match optimizer.rule {
            Rule::Sgd { momentum, nesterov } => optim::Rule::Sgd { momentum, nesterov },
            Rule::RmsProp { rho, epsilon } => optim::Rule::RmsProp { rho, epsilon },
            Rule::Adam { beta_1, beta_2, epsilon } => optim::Rule::Adam { beta_1, beta_2, epsilon },
        };
        let (mut rates, mut first_block) = (Vec::new(), 0);
        for (page, (w, g)) in pages.iter().enumerate() {
            let own = |k: usize| memory.get(k).map_or(&memory[0][page], |spans| &spans[page]);
            let update = optim::Update {
                w,
                g,
                blocks: &blocks,
                first_block,
                memory: [own(0), own(1)],
                clip: training.clip_value,
                factor: (&factor, training.clip_norm.is_some()),
            };
            rates.push(calls.len());
            calls.push(optim::update(rule, floats(w), 0.0, 1.0, update));
            first_block += floats(w) / BLOCK;
        }
        if let (Some(keep), Some(average)) = (training.average, &trained.average) {
            for ((w, _), to) in pages.iter().zip(average.spans()) {
                calls.push(optim::moving_average(floats(w), keep, w, &to));
            }
        }
        Ok((Program::new(c, &calls).map_err(failed)?, rates))
    }

    /// Over all gradients at once; each call but the last has the factor.
    fn unscale_program(&self) -> Result<Program> {
        let c = &*self.context;
        let Some(gradients) = &self.trained.gradients else { return Err(not_prepared()) };
        let pages = gradients.spans();
        let parts: usize = pages.iter().map(|g| optim::square_parts(floats(g))).sum();
        let counts = room(c, 4 * parts.max(1) as u64)?;
        let (mut calls, mut to) = (Vec::new(), 0);
        for g in &pages {
            calls.push(optim::unscale(floats(g), 1.0, g, to, &counts));
            to += optim::square_parts(floats(g));
        }
        calls.push(optim::count(parts, &counts, FOUND - 1, &self.labels.result));
        Program::new(c, &calls).map_err(failed)
    }

    /// For each block of floats its factor on the learning rate, below 0 where nothing trains, and its weight decay.
    fn block_settings(&self, optimizer: &Optimizer) -> Vec<f32> {
        let trained = &self.trained;
        let mut settings = [-1.0, 0.0].repeat(trained.blocks().max(1));
        for (i, at) in trained.each() {
            let t = &trained.parameters.tensors[i];
            if !t.role.has_gradient() {
                continue;
            }
            let first = at as usize / (4 * BLOCK);
            let count = t.shape.iter().product::<usize>().div_ceil(BLOCK);
            let decay = match optimizer.weight_decay.applies(t.role) {
                true => optimizer.weight_decay.rate,
                false => 0.0,
            };
            let scale = *optimizer.scales.get(i).unwrap_or(&1.0);
            for block in settings.chunks_mut(2).skip(first).take(count) {
                block.copy_from_slice(&[scale, decay]);
            }
        }
        settings
    }

    pub(super) fn run_step(
        &mut self,
        inputs: &[Input<'_>],
        labels: Labels<'_>,
        turn: Turn,
    ) -> Result<StepResult> {
        let count = labels.first.len();
        check_inputs(&self.graph, &self.plan, inputs, count)?;
        self.check_trains()?;
        check_labels(labels, self.graph.nodes[self.graph.output()].shape.elements())?;
        let Some(training) = &self.training else { return Err(not_prepared()) };
        let scale = training.optimizer.loss_scale.map(LossScale::scale);
        self.turn = turn;
        self.upload(inputs)?;
        let (second, share) = labels.second.unwrap_or((labels.first, 0.0));
        let c = &*self.context;
        c.write(&self.labels.first, &bytes_of(labels.first)).map_err(failed)?;
        c.write(&self.labels.second, &bytes_of(second)).map_err(failed)?;
        let made = self.program(count)?;
        self.follow_turn(made, share)?;
        self.follow_scale(made, scale.unwrap_or(1.0))?;
        self.run(made)?;
        let c = &*self.context;
        if let Some(unscale) = &self.labels.unscale {
            unscale.run(c).map_err(failed)?;
        }
        let mut words = Vec::new();
        let found = if self.labels.unscale.is_some() { FOUND } else { FOUND - 1 };
        c.read(&[(self.labels.result.clone(), found)], &mut words).map_err(failed)?;
        self.count = count;
        self.labels.ready = true;
        self.labels.finite = words.get(FOUND - 1).is_none_or(|&bad| bad == 0);
        let (loss, correct) = (f32::from_bits(words[0]), words[1] as usize);
        Ok(StepResult { loss, correct, count })
    }

    /// Sets what differs from step to step: dropout's seeds, whether statistics move, and the second label's share.
    fn follow_turn(&mut self, made: usize, share: f32) -> Result<()> {
        let (c, turn, seed) = (&*self.context, self.turn, self.seed);
        let made = &mut self.made[made];
        for &(call, node) in &made.seeds {
            let seed =
                seed ^ (turn.step << 20) ^ (turn.replica as u64).rotate_right(12) ^ node as u64;
            let words = [seed as u32, (seed >> 32) as u32];
            made.program.set(c, call, elementwise::DROPOUT_SEED, &words).map_err(failed)?;
        }
        let moves = turn.replica == 0;
        if moves != made.moves {
            for &call in &made.moving {
                let words = [u32::from(moves)];
                made.program.set(c, call, norm::MOVES, &words).map_err(failed)?;
            }
            made.moves = moves;
        }
        if share != made.share {
            for &(call, word) in &made.shares {
                made.program.set(c, call, word, &[share.to_bits()]).map_err(failed)?;
            }
            made.share = share;
        }
        Ok(())
    }

    /// Scales the loss in the backward pass, and takes the scale off its gradients.
    fn follow_scale(&mut self, made: usize, scale: f32) -> Result<()> {
        let (c, made) = (&*self.context, &mut self.made[made]);
        if let (Some(call), true) = (made.loss, scale != made.scale) {
            // As the scale is a power of two, this rounds nothing.
            let rows = made.count as f32 / scale;
            made.program.set(c, call, loss::GRADIENT_ROWS, &[rows.to_bits()]).map_err(failed)?;
            made.scale = scale;
        }
        if let Some(unscale) = &self.labels.unscale {
            for call in 0..unscale.len() - 1 {
                let factor = [(1.0 / scale).to_bits()];
                unscale.set(c, call, optim::UNSCALE, &factor).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn add_gradients(&mut self) -> Result<()> {
        let c = &*self.context;
        let trained = &mut self.trained;
        if !self.labels.ready || trained.gradients.is_none() {
            return Err(no_gradients());
        }
        let replica = self.turn.replica;
        if trained.sums.iter().all(|sum| sum.replica != replica) {
            let space = trained.space(c)?;
            trained.sums.push(Sum { replica, space });
            trained.sums.sort_by_key(|sum| sum.replica);
        }
        let images = self.count as f32;
        let sum = trained.sums.iter().find(|sum| sum.replica == replica);
        let (Some(sum), Some(gradients)) = (sum, &trained.gradients) else {
            return Err(no_gradients());
        };
        let pairs = gradients.spans().into_iter().zip(sum.space.spans());
        let calls: Vec<Call> =
            pairs.map(|(g, sum)| elementwise::accumulate(floats(&g), images, &g, &sum)).collect();
        Program::new(c, &calls).and_then(|program| program.run(c)).map_err(failed)
    }

    pub(super) fn sum_replicas(&mut self, images: usize, sum: &mut SumReplicas<'_>) -> Result<()> {
        let c = &*self.context;
        let trained = &self.trained;
        if images == 0 || trained.gradients.is_none() {
            return Err(no_gradients());
        }
        let has = |t: &crate::net::parameters::Parameter| t.role.has_gradient();
        let replicas = trained.sums.iter().map(|own| trained.read(c, &own.space, has));
        let replicas = replicas.collect::<Result<Vec<_>>>()?;
        let (share, mut finite) = (1.0 / images as f32, true);
        for (i, _) in trained.each() {
            let Some(span) = trained.gradient(i) else { continue };
            let own: Vec<&[f32]> = replicas.iter().map(|tensors| &tensors[i][..]).collect();
            let mut total = vec![0.0; trained.parameters.tensors[i].shape.iter().product()];
            sum(&own, &mut total)?;
            total.iter_mut().for_each(|g| *g *= share);
            finite &= total.iter().all(|g| g.is_finite());
            c.write_floats(&span, &total).map_err(failed)?;
        }
        let zeros = trained.sums.iter().flat_map(|own| own.space.spans());
        let calls: Vec<Call> =
            zeros.map(|span| elementwise::fill(floats(&span), 0, &span)).collect();
        Program::new(c, &calls).and_then(|program| program.run(c)).map_err(failed)?;
        (self.labels.ready, self.labels.finite) = (true, finite);
        Ok(())
    }

    pub(super) fn update_weights(&mut self, learning_rate: f32) -> Result<()> {
        let Some(training) = &mut self.training else { return Err(not_prepared()) };
        let Some((program, rates)) = &self.labels.update else { return Err(not_prepared()) };
        if !self.labels.ready {
            return Err(no_gradients());
        }
        let optimizer = &mut training.optimizer;
        match &mut optimizer.loss_scale {
            Some(scale) if !self.labels.finite => return scale.skip(),
            Some(scale) => scale.good(),
            None => {}
        }
        optimizer.learning_rate = learning_rate;
        optimizer.iterations += 1;
        let unbias = match optimizer.rule {
            Rule::Adam { beta_1, beta_2, .. } => {
                let power = |beta: f32| f64::from(beta).powf(optimizer.iterations as f64);
                ((1.0 - power(beta_2)).sqrt() / (1.0 - power(beta_1))) as f32
            }
            _ => 1.0,
        };
        let c = &*self.context;
        for &call in rates {
            program.set(c, call, RATE, &[learning_rate.to_bits()]).map_err(failed)?;
            program.set(c, call, UNBIAS, &[unbias.to_bits()]).map_err(failed)?;
        }
        program.run(c).map_err(failed)
    }
}

/// Floats of a span.
fn floats(span: &Span) -> usize {
    span.bytes as usize / 4
}
