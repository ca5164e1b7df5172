//! Weights before any training.

use serde::{Deserialize, Serialize};

use crate::graph::Graph;
use crate::parameters::{Parameter, Parameters, Role};
use crate::split::RandomState;

/// How the head's kernel starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInit {
    /// Uniform in +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), Keras's default.
    #[default]
    GlorotUniform,
    /// All zero.
    Zeros,
}

/// Fresh weights for every layer: kernels Glorot uniform, biases and shifts zero, scales one.
///
/// Each layer draws from a stream of its own, so a head does not depend on the net below it.
pub fn initial(graph: &Graph, seed: u32) -> Parameters {
    let mut parameters = Parameters::zeros(graph);
    for tensor in parameters.tensors.iter_mut().filter(|t| t.role == Role::Kernel) {
        glorot_uniform(tensor, seed);
    }
    parameters
}

/// Starts one kernel anew.
pub fn kernel(tensor: &mut Parameter, init: HeadInit, seed: u32) {
    match init {
        HeadInit::GlorotUniform => glorot_uniform(tensor, seed),
        HeadInit::Zeros => tensor.values.fill(0.0),
    }
}

fn glorot_uniform(tensor: &mut Parameter, seed: u32) {
    let [rest @ .., fan_in, fan_out] = &tensor.shape[..] else { return };
    let receptive: usize = rest.iter().product();
    let limit = (6.0 / (receptive * (fan_in + fan_out)) as f64).sqrt() as f32;
    let mut random = RandomState::new(seed ^ fnv1a(&tensor.name));
    for value in &mut tensor.values {
        *value = (2.0 * random.unit() - 1.0) * limit;
    }
}

/// 32-bit FNV-1a.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}
