//! Frozen batch norms, folded into the convolution or dense layer before them.

use headstart_kernels::norm;

use crate::error::{Error, Result};
use crate::net::graph::{Graph, NodeId, Op};
use crate::net::parameters::{Parameters, Role};

/// A convolution or dense layer with a frozen batch norm folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded<'p> {
    /// The layer's own kernel, in Keras's layout; each output channel is the innermost index.
    pub kernel: &'p [f32],
    /// Factor on the kernel of each output channel; none where no batch norm is folded in.
    pub scale: Option<Vec<f32>>,
    /// What is added to each output channel, after the scale.
    pub bias: Vec<f32>,
}

impl<'p> Folded<'p> {
    /// The layer `node`, with the batch norm `norm`: `y = gamma (conv(x) + bias - mean) / sqrt(variance + epsilon) + beta`
    /// (Ioffe and Szegedy 2015, with the moving statistics).
    ///
    /// # Errors
    /// If a tensor is missing or has another size than the layer.
    pub fn new(
        graph: &Graph,
        parameters: &'p Parameters,
        node: NodeId,
        norm: Option<NodeId>,
    ) -> Result<Folded<'p>> {
        let n = graph.nodes[node].shape.channels();
        let inputs = graph.nodes[node].inputs.first().map(|&i| graph.nodes[i].shape);
        let (taps, bias) = match graph.nodes[node].op {
            Op::Conv2D { kernel, bias, .. } => (kernel * kernel, bias),
            _ => (1, true),
        };
        let rows = taps * inputs.map_or(0, |shape| shape.channels());
        let kernel = tensor(graph, parameters, node, Role::Kernel, rows * n)?;
        let mut bias = match bias {
            false => vec![0.0; n],
            true => tensor(graph, parameters, node, Role::Bias, n)?.to_vec(),
        };
        let mut scale = None;
        if let Some(id) = norm
            && let Op::BatchNorm { epsilon, .. } = graph.nodes[id].op
        {
            let get = |role| tensor(graph, parameters, id, role, n);
            let (mut factor, mut shift) = (vec![0.0; n], vec![0.0; n]);
            norm::batch_norm_fold(
                get(Role::Gamma)?,
                get(Role::Beta)?,
                get(Role::MovingMean)?,
                get(Role::MovingVariance)?,
                epsilon,
                &mut factor,
                &mut shift,
            );
            for ((b, a), s) in bias.iter_mut().zip(&factor).zip(shift) {
                *b = *b * a + s;
            }
            scale = Some(factor);
        }
        Ok(Folded { kernel, scale, bias })
    }

    /// The kernel times the scale; the layer's own where there is none.
    pub fn scaled(&self) -> std::borrow::Cow<'p, [f32]> {
        match &self.scale {
            None => self.kernel.into(),
            Some(scale) => {
                let scaled =
                    self.kernel.iter().enumerate().map(|(i, w)| w * scale[i % scale.len()]);
                scaled.collect::<Vec<f32>>().into()
            }
        }
    }
}

/// A layer's tensor, of `len` values.
///
/// # Errors
/// If there is none, or one of another size.
pub fn tensor<'p>(
    graph: &Graph,
    parameters: &'p Parameters,
    node: NodeId,
    role: Role,
    len: usize,
) -> Result<&'p [f32]> {
    let name = || format!("{}/{}", graph.nodes[node].name, role.name());
    match parameters.get(node, role) {
        Some(t) if t.values.len() == len => Ok(&t.values),
        Some(t) => {
            let found = format!("{} values", t.values.len());
            Err(Error::invalid(name(), format!("{len} values"), found, ""))
        }
        None => Err(Error::invalid(name(), "a tensor", "none", "")),
    }
}
