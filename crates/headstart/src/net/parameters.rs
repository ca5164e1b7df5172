//! A net's weights: one tensor per (layer, role), in Keras's order and layout.
//!
//! ```
//! use headstart::Model;
//!
//! let model = Model::imagenet("resnet50")?;
//! let kernel = model.parameters.find("conv1_conv/kernel").unwrap();
//! assert_eq!(kernel.shape, [7, 7, 3, 64]);
//! # Ok::<(), headstart::Error>(())
//! ```

use sha2::{Digest, Sha256};

use crate::net::graph::{Graph, NodeId, Op};

/// What a tensor is to its layer, named as Keras names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Convolution (height x width x in x out) or dense (in x out) kernel.
    Kernel,
    /// Bias of a convolution or dense layer.
    Bias,
    /// Batch norm scale.
    Gamma,
    /// Batch norm shift.
    Beta,
    /// Batch norm moving mean; never trained by gradient.
    MovingMean,
    /// Batch norm moving variance; never trained by gradient.
    MovingVariance,
}

impl Role {
    /// Keras's variable name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Kernel => "kernel",
            Role::Bias => "bias",
            Role::Gamma => "gamma",
            Role::Beta => "beta",
            Role::MovingMean => "moving_mean",
            Role::MovingVariance => "moving_variance",
        }
    }

    /// Whether gradient descent updates it (moving statistics are updated by running the net).
    pub fn has_gradient(self) -> bool {
        !matches!(self, Role::MovingMean | Role::MovingVariance)
    }
}

/// One weight tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The layer it belongs to.
    pub node: NodeId,
    /// What it is to that layer.
    pub role: Role,
    /// `layer/role`, for instance `conv1_conv/kernel`.
    pub name: String,
    /// Keras's shape, row-major.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: Vec<f32>,
}

/// All tensors of a net, in layer order, then in Keras's order within a layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// The tensors.
    pub tensors: Vec<Parameter>,
}

impl Parameters {
    /// A SHA-256 in hex that changes when any weight does.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for tensor in &self.tensors {
            hash.update((tensor.name.len() as u64).to_le_bytes());
            hash.update(tensor.name.as_bytes());
            let values: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hash.update((values.len() as u64).to_le_bytes());
            hash.update(values);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every tensor of `graph`: kernels, biases, beta and moving mean zero; gamma and moving variance one.
    pub fn zeros(graph: &Graph) -> Parameters {
        let mut tensors = Vec::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            for (role, shape) in layer_shapes(graph, id) {
                let count = shape.iter().product();
                let fill =
                    if matches!(role, Role::Gamma | Role::MovingVariance) { 1.0 } else { 0.0 };
                tensors.push(Parameter {
                    node: id,
                    role,
                    name: format!("{}/{}", node.name, role.name()),
                    shape,
                    values: vec![fill; count],
                });
            }
        }
        Parameters { tensors }
    }

    /// Position of a layer's tensor in `tensors`.
    pub fn index(&self, node: NodeId, role: Role) -> Option<usize> {
        let first = self.tensors.partition_point(|t| t.node < node);
        self.tensors[first..]
            .iter()
            .take_while(|t| t.node == node)
            .position(|t| t.role == role)
            .map(|i| first + i)
    }

    /// A layer's tensor.
    pub fn get(&self, node: NodeId, role: Role) -> Option<&Parameter> {
        self.index(node, role).map(|i| &self.tensors[i])
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// Roles and shapes of a layer's tensors, in Keras's order.
pub fn layer_shapes(graph: &Graph, id: NodeId) -> Vec<(Role, Vec<usize>)> {
    let node = &graph.nodes[id];
    let fan_in = || graph.nodes[node.inputs[0]].shape.channels();
    match node.op {
        Op::Conv2D { filters, kernel, bias, .. } => {
            let mut list = vec![(Role::Kernel, vec![kernel, kernel, fan_in(), filters])];
            if bias {
                list.push((Role::Bias, vec![filters]));
            }
            list
        }
        Op::Dense { units } => {
            vec![(Role::Kernel, vec![fan_in(), units]), (Role::Bias, vec![units])]
        }
        Op::BatchNorm { .. } => [Role::Gamma, Role::Beta, Role::MovingMean, Role::MovingVariance]
            .map(|role| (role, vec![fan_in()]))
            .to_vec(),
        _ => Vec::new(),
    }
}
