//! Random initialisation of weights.
//!
//! ```
//! use headstart::Model;
//! use headstart::init::HeadInit;
//!
//! let mut model = Model::imagenet("resnet50")?;
//! model.reset_head(HeadInit::Zeros, 42);
//! assert!(model.parameters.find("predictions/kernel").unwrap().values.iter().all(|&v| v == 0.0));
//! # Ok::<(), headstart::Error>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::data::split::RandomState;
use crate::net::graph::{Graph, Op};
use crate::net::parameters::{Parameter, Parameters, Role};

/// Initialisation of the head's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadInit {
    /// Uniform in +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), Keras's default.
    #[default]
    GlorotUniform,
    /// All zero.
    Zeros,
}

/// Initialisation of convolution kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvInit {
    /// As [`HeadInit::GlorotUniform`]: Keras's default, with which its `applications` are built.
    GlorotUniform,
    /// Normal with variance 2 / fan in, truncated at two standard deviations (He et al. 2015): Keras's
    /// `he_normal`.
    HeNormal,
}

/// Initial weights for every layer: kernels of convolutions by `init`, dense ones Glorot uniform, biases
/// and shifts zero, scales one.
///
/// Each layer has its own random stream, so a head does not depend on the net below it.
pub fn initial(graph: &Graph, init: ConvInit, seed: u32) -> Parameters {
    let mut parameters = Parameters::zeros(graph);
    for tensor in parameters.tensors.iter_mut().filter(|t| t.role == Role::Kernel) {
        let conv = matches!(graph.nodes[tensor.node].op, Op::Conv2D { .. });
        match init {
            ConvInit::HeNormal if conv => he_normal(tensor, seed),
            _ => glorot_uniform(tensor, seed),
        }
    }
    parameters
}

/// Initialises one kernel.
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

fn he_normal(tensor: &mut Parameter, seed: u32) {
    /// Standard deviation of the standard normal distribution truncated at +-2.
    const CUT: f64 = 0.879_625_661_034_239_8;
    let [rest @ .., _] = &tensor.shape[..] else { return };
    let deviation = (2.0 / rest.iter().product::<usize>() as f64).sqrt() / CUT;
    let mut random = RandomState::new(seed ^ fnv1a(&tensor.name));
    for value in &mut tensor.values {
        let mut z = f64::INFINITY;
        // Box and Muller 1958, drawn again beyond the cut.
        while z.abs() > 2.0 {
            let [u, v] = [random.unit(), random.unit()].map(f64::from);
            z = (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos();
        }
        *value = (z * deviation) as f32;
    }
}

/// 32-bit FNV-1a.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn he_normal_has_its_deviation_and_its_cut() {
        let shape = vec![3, 3, 16, 64];
        let n: usize = shape.iter().product();
        let (name, values) = ("a/kernel".to_string(), vec![0.0; n]);
        let mut tensor = Parameter { node: 1, role: Role::Kernel, name, shape, values };
        he_normal(&mut tensor, 7);
        let values = || tensor.values.iter().map(|&v| f64::from(v));
        let mean = values().sum::<f64>() / n as f64;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        let want = 2.0 / 144.0;
        // Four deviations of both estimates.
        assert!(mean.abs() <= 4.0 * (want / n as f64).sqrt(), "{mean}");
        assert!((variance / want - 1.0).abs() <= 4.0 / (n as f64 / 2.0).sqrt(), "{variance}");
        let most = values().fold(0.0f64, |most, v| most.max(v.abs()));
        let cut = 2.0 * want.sqrt() / 0.8796;
        assert!(most <= cut * 1.0001 && most >= 0.95 * cut, "{most} {cut}");
    }
}
