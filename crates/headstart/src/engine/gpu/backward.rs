//! Steps of the backward pass as calls of kernels.

use headstart_gpu::Span;
use headstart_gpu::kernels::norm::{self, Rows};
use headstart_gpu::kernels::pool::{self, Normalize};
use headstart_gpu::kernels::{conv, elementwise, frame};
use headstart_kernels::conv::Onto;

use super::calls::{Calls, lacking};
use super::failed;
use crate::engine::plan::{Main, Step};
use crate::error::Result;
use crate::net::graph::{NodeId, Op};
use crate::net::parameters::Role;

impl Calls<'_> {
    /// A step after the forward pass.
    pub fn backward(&mut self, step: Step) -> Result<()> {
        let e = self.executor;
        match step {
            Step::Forward { .. } => {}
            Step::Loss { group, output } => self.loss_gradient(group, output)?,
            Step::Again { group, output } => {
                let g = &e.plan.groups[group];
                let (x, y) = (self.value(g.inputs[0])?, e.buffer(output)?);
                let rows = self.rows(g.output);
                self.push([norm::apply(rows, &x, self.state(group)?, None, g.relu, &y)]);
            }
            Step::Mask { group, gradient } => {
                let node = e.plan.groups[group].output;
                let (y, d) = (self.kept(node)?, e.buffer(gradient)?);
                self.push([elementwise::relu_gradient(self.elements(node), &y, &d)]);
            }
            Step::Accumulate { from, to } => {
                let len = e.plan.buffers[to].elements * self.count;
                let (from, to) = (e.buffer(from)?, e.buffer(to)?);
                self.push([elementwise::accumulate(len, 1.0, &from, &to)]);
            }
            Step::Copy { from, to } => {
                let len = e.plan.buffers[to].elements * self.count;
                let (from, to) = (e.buffer(from)?, e.buffer(to)?);
                self.push([elementwise::copy(len, &from, false, &to)]);
            }
            Step::Kernel { group, gradient } => self.kernel(group, gradient)?,
            Step::Unpool { group, gradient, output } => {
                let g = &e.plan.groups[group];
                let Some(shape) = e.plan.shapes[group].pool else { return Ok(()) };
                let x = self.kept(g.inputs[0])?;
                let (dy, dx) = (e.buffer(gradient)?, e.buffer(output)?);
                let normalize = Some(Normalize { state: self.state(group)?, relu: g.relu });
                let shape = shape.first(self.count);
                self.push([pool::max_pool_gradient(&shape, &x, normalize, &dy, g.relu, &dx)]);
            }
            Step::Norm { group, gradient, output, .. } => {
                self.norm_gradient(group, gradient, output)?;
            }
            Step::Input { .. } => self.input(step)?,
        }
        Ok(())
    }

    /// The gradient of a tensor that trains.
    fn gradient(&self, node: NodeId, role: Role) -> Option<Span> {
        let trained = &self.executor.trained;
        trained.parameters.index(node, role).and_then(|i| trained.gradient(i))
    }

    fn kernel(&mut self, group: usize, gradient: usize) -> Result<()> {
        let e = self.executor;
        let g = &e.plan.groups[group];
        let (Main::Conv { node, .. }, Some(shape)) = (g.main, e.plan.shapes[group].conv) else {
            return Ok(());
        };
        let shape = shape.first(self.count);
        let (x, d) = (self.kept(g.inputs[0])?, e.buffer(gradient)?);
        if let Some(dw) = self.gradient(node, Role::Kernel) {
            self.push(conv::kernel_gradient(&shape, &x, &d, &e.scratch, &dw));
        }
        if let Some(bias) = self.gradient(node, Role::Bias) {
            let pixels = shape.batch() * shape.out_height() * shape.out_width();
            let rows = Rows { rows: pixels, channels: shape.out_channels() };
            self.push(norm::column_sums(rows, &d, &e.scratch, &bias));
        }
        Ok(())
    }

    fn norm_gradient(
        &mut self,
        group: usize,
        gradient: usize,
        output: Option<usize>,
    ) -> Result<()> {
        let e = self.executor;
        let Main::Norm { node, training } = e.plan.groups[group].main else { return Ok(()) };
        let Op::BatchNorm { epsilon, .. } = e.graph.nodes[node].op else { return Ok(()) };
        let x = self.kept(e.plan.groups[group].inputs[0])?;
        let (rows, state) = (self.rows(node), self.state(group)?);
        let from = e.buffer(gradient)?;
        let to = output.map(|output| e.buffer(output)).transpose()?;
        let apart = output.is_some_and(|output| output != gradient).then_some(&from);
        if !training {
            if let Some(to) = &to {
                self.push([norm::frozen_input_gradient(rows, state, apart, to)]);
            }
            return Ok(());
        }
        let gamma = self.trained(node, Role::Gamma)?;
        let own = [Role::Gamma, Role::Beta].map(|role| self.gradient(node, role));
        let [Some(dgamma), Some(dbeta)] = own else { return Err(lacking()) };
        let held = (state, epsilon);
        self.push(norm::gradients(rows, &x, &from, &e.scratch, held, [&dgamma, &dbeta]));
        if let Some(to) = &to {
            let spans = [&gamma, &dgamma, &dbeta];
            self.push([norm::input_gradient(rows, &x, held, spans, apart, to)]);
        }
        Ok(())
    }

    fn input(&mut self, step: Step) -> Result<()> {
        let Step::Input { group, gradient, output, onto, mask, .. } = step else { return Ok(()) };
        let e = self.executor;
        let (g, shapes) = (&e.plan.groups[group], e.plan.shapes[group]);
        let (dy, dx) = (e.buffer(gradient)?, e.buffer(output)?);
        let source = e.graph.nodes[g.inputs[0]].shape;
        match g.main {
            Main::Conv { node, .. } => {
                let Some(shape) = shapes.conv else { return Ok(()) };
                let held = &e.held.groups[group];
                let turned = held.backward.as_ref().ok_or_else(lacking)?;
                if e.plan.trains(node) {
                    let kernel = held.kernel.as_ref().ok_or_else(lacking)?;
                    self.push(conv::transpose(&shape, kernel, turned));
                }
                let value = mask.then(|| self.kept(g.inputs[0])).transpose()?;
                let add = onto != Onto::Nothing;
                let shape = shape.first(self.count);
                let calls = conv::input_gradient(&shape, &dy, turned, &dx, add, value.as_ref());
                self.push(calls.map_err(failed)?);
            }
            Main::MaxPool(_) => {
                let Some(shape) = shapes.pool else { return Ok(()) };
                let x = self.kept(g.inputs[0])?;
                let shape = shape.first(self.count);
                self.push([pool::max_pool_gradient(&shape, &x, None, &dy, mask, &dx)]);
            }
            Main::Frame { .. } => {
                let Some(shape) = shapes.frame else { return Ok(()) };
                self.push([frame::frame_gradient(&shape.first(self.count), &dy, &dx)]);
            }
            Main::Average => {
                let (height, width) = source.spatial();
                let (pixels, channels) = (height * width, source.channels());
                self.push([pool::average_gradient(self.count, pixels, channels, &dy, &dx)]);
            }
            Main::Dropout { node, rate } => self.dropout(node, rate, &dy, &dx),
            Main::Norm { .. } | Main::Identity | Main::Add | Main::Softmax => {}
        }
        Ok(())
    }
}
