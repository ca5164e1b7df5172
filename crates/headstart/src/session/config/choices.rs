//! Settings that are one name of several.

use headstart_kernels::element::DType;
use headstart_kernels::isa::Isa;
use serde::{Deserialize, Serialize};

/// Optimizers by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// RMSprop, as in Keras.
    #[default]
    Rmsprop,
    /// Gradient descent.
    Sgd,
    /// Adam, as in Keras.
    Adam,
    /// Adam with weight decay, as in Keras.
    #[serde(rename = "adamw")]
    AdamW,
}

/// Schedules by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// One learning rate.
    #[default]
    Constant,
    /// Falls in half a cosine.
    Cosine,
    /// Rises and falls in half a cosine each.
    OneCycle,
    /// Multiplied by a factor after every given number of epochs.
    Step,
    /// Multiplied by a factor when the loss stops falling.
    Plateau,
}

impl ScheduleName {
    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            ScheduleName::Constant => "constant",
            ScheduleName::Cosine => "cosine",
            ScheduleName::OneCycle => "one-cycle",
            ScheduleName::Step => "step",
            ScheduleName::Plateau => "plateau",
        }
    }
}

/// How the head is trained over the frozen net.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadSolver {
    /// Gradient steps of the optimizer.
    #[default]
    Gradient,
    /// L-BFGS on all images at once, to the optimum.
    Lbfgs,
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 where the CPU has instructions for it, else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Feature maps, their gradients and packed weights in bfloat16; sums, weights, statistics and the
    /// optimizer's state in f32.
    Bf16,
}

impl Precision {
    /// What plans store on a CPU of this instruction set.
    pub fn dtype(self, isa: Isa) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::Auto if isa.multiplies_bf16() => DType::Bf16,
            Precision::Auto => DType::F32,
        }
    }

    /// The choice that always means `dtype`.
    pub fn exactly(dtype: DType) -> Precision {
        match dtype {
            DType::F32 => Precision::F32,
            DType::Bf16 => Precision::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_bf16_only_where_the_cpu_multiplies_it() {
        for isa in Isa::ALL {
            let auto = Precision::Auto.dtype(isa);
            assert_eq!(auto == DType::Bf16, isa == Isa::Avx512Bf16, "{isa}");
            for dtype in [DType::F32, DType::Bf16] {
                assert_eq!(Precision::exactly(dtype).dtype(isa), dtype);
            }
        }
    }
}
