//! What groups read beside maps: kernels with frozen batch norms folded in, biases, and the state of batch norms.

use headstart_gpu::kernels::conv;
use headstart_gpu::{Context, Places, Space, Span, Store};
use headstart_kernels::element::F16;
use headstart_kernels::norm;

use super::weights::Trained;
use super::{failed, stored, write_halves};
use crate::engine::plan::{Folded, Main, Plan, Step, tensor};
use crate::error::Result;
use crate::net::graph::{Graph, Op};
use crate::net::parameters::{Parameters, Role};

/// Of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Of {
    /// A convolution's kernel and bias.
    pub kernel: Option<Span>,
    pub bias: Option<Span>,
    /// The weights of which a kernel that trains is the rounded copy, made again in each step.
    pub master: Option<Span>,
    /// The kernel as the gradient of the input reads it; one that trains is made again in each step.
    pub backward: Option<Span>,
    /// Mean, variance, scale and shift of a batch norm.
    pub state: Option<Span>,
}

/// Of all groups.
#[derive(Debug)]
pub(super) struct Held {
    pub groups: Vec<Of>,
}

impl Held {
    /// Takes memory; what trains is where `trained` has it.
    pub fn new(
        c: &Context,
        graph: &Graph,
        plan: &Plan,
        trained: &Trained,
        parameters: &Parameters,
    ) -> Result<Held> {
        let mut places = Places::new(c.page());
        let mut wanted: Vec<[Option<(u64, u64)>; 4]> = Vec::new();
        let mut place = |elements: usize, store: Store| {
            let bytes = store.bytes() * elements as u64;
            places.place(bytes).map(|at| Some((at, bytes))).map_err(failed)
        };
        for (group, g) in plan.groups.iter().enumerate() {
            let (mut own, store) = ([None; 4], kernel_store(plan, group));
            match (g.main, plan.shapes[group].conv) {
                (Main::Conv { node, .. }, Some(shape)) => {
                    let (trains, backward) = (plan.trains(node), passes(plan, group));
                    if !trains || store != Store::F32 {
                        own[0] = place(shape.kernel_len(), store)?;
                    }
                    if !trains {
                        own[1] = place(shape.out_channels(), Store::F32)?;
                    }
                    if backward {
                        own[2] = place(shape.kernel_len(), store)?;
                    }
                }
                (Main::Norm { node, .. }, _) => {
                    own[3] = place(4 * graph.nodes[node].shape.channels(), Store::F32)?;
                }
                _ => {}
            }
            wanted.push(own);
        }
        let space = Space::new(c, places.end()).map_err(failed)?;
        let mut groups = Vec::new();
        for (group, (g, own)) in plan.groups.iter().zip(wanted).enumerate() {
            let span = |i: usize| {
                own[i].map(|(at, bytes)| space.span(at, bytes)).transpose().map_err(failed)
            };
            let store = kernel_store(plan, group);
            let kernel = span(0)?.map(|span| span.storing(store));
            let backward = span(2)?.map(|span| span.storing(store));
            let mut of = Of { kernel, bias: span(1)?, backward, state: span(3)?, master: None };
            if let Main::Conv { node, .. } = g.main
                && plan.trains(node)
            {
                let get = |role| parameters.index(node, role).and_then(|i| trained.value(i));
                of.bias = get(Role::Bias);
                match of.kernel {
                    None => of.kernel = get(Role::Kernel),
                    Some(_) => of.master = get(Role::Kernel),
                }
            }
            groups.push(of);
        }
        Ok(Held { groups })
    }

    /// Uploads all that does not train.
    pub fn load(
        &self,
        c: &Context,
        graph: &Graph,
        plan: &Plan,
        parameters: &Parameters,
    ) -> Result<()> {
        let write = |span: &Option<Span>, values: &[f32]| match span {
            Some(span) => c.write_floats(span, values).map_err(failed),
            None => Ok(()),
        };
        for (group, own) in self.groups.iter().enumerate() {
            match (plan.groups[group].main, plan.shapes[group].conv) {
                (Main::Conv { node, norm, .. }, Some(shape)) => {
                    let folded = Folded::new(graph, parameters, node, norm)?;
                    if plan.trains(node) {
                        continue;
                    }
                    let kernel = folded.scaled();
                    match (&own.kernel, kernel_store(plan, group)) {
                        (Some(span), Store::F16) => {
                            let halves: Vec<F16> =
                                kernel.iter().map(|&v| F16::from_f32(v)).collect();
                            write_halves(c, span, &halves)?;
                        }
                        (span, _) => write(span, &kernel)?,
                    }
                    write(&own.bias, &folded.bias)?;
                    if let (Some(kernel), Some(to)) = (&own.kernel, &own.backward) {
                        let calls = conv::transpose(&shape, kernel, to);
                        let program = headstart_gpu::Program::new(c, &calls).map_err(failed)?;
                        program.run(c).map_err(failed)?;
                    }
                }
                (Main::Norm { node, training }, _) => {
                    let n = graph.nodes[node].shape.channels();
                    let get = |role| tensor(graph, parameters, node, role, n);
                    let (gamma, beta) = (get(Role::Gamma)?, get(Role::Beta)?);
                    let (mean, variance) = (get(Role::MovingMean)?, get(Role::MovingVariance)?);
                    if let (false, Op::BatchNorm { epsilon, .. }) = (training, graph.nodes[node].op)
                    {
                        let mut state = [mean, variance].concat();
                        let (mut scale, mut shift) = (vec![0.0; n], vec![0.0; n]);
                        let to = (&mut scale[..], &mut shift[..]);
                        norm::batch_norm_fold(gamma, beta, mean, variance, epsilon, to.0, to.1);
                        state.extend(scale);
                        state.extend(shift);
                        write(&own.state, &state)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// How a convolution's kernel is stored: as the maps that it is multiplied for.
fn kernel_store(plan: &Plan, group: usize) -> Store {
    stored(plan.dtypes[plan.groups[group].output])
}

/// Whether the gradient passes through a group to its input.
fn passes(plan: &Plan, group: usize) -> bool {
    plan.steps.iter().any(|step| matches!(*step, Step::Input { group: g, .. } if g == group))
}
