//! Settings that are one name of several.

use std::sync::OnceLock;

use headstart_kernels::element::DType;
use headstart_kernels::table::Compute;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    /// bf16 where the CPU multiplies it at least 1.2 times as fast as f32, measured in short bursts; else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Feature maps, their gradients and packed weights in bfloat16; sums, weights, statistics and the
    /// optimizer's state in f32.
    Bf16,
    /// Keras's `mixed_float16`: feature maps, their gradients and the weights that kernels multiply with in half precision, on
    /// GPUs that can; sums, weights, statistics and the optimizer's state in f32, and the loss scaled.
    #[serde(alias = "mixed_float16")]
    F16,
}

impl Precision {
    /// What plans store on this machine. Within a process the answer stays the same.
    pub fn dtype(self, compute: &Compute) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
            Precision::Auto if multiplies_bf16_fast(compute) => DType::Bf16,
            Precision::Auto => DType::F32,
        }
    }

    /// The choice that always means `dtype`.
    pub fn exactly(dtype: DType) -> Precision {
        match dtype {
            DType::F32 => Precision::F32,
            DType::Bf16 => Precision::Bf16,
            DType::F16 => Precision::F16,
        }
    }
}

/// Not every CPU with instructions for bf16 is faster with them.
fn multiplies_bf16_fast(compute: &Compute) -> bool {
    static FAST: OnceLock<bool> = OnceLock::new();
    let rate = |dtype| compute.measure_burst(dtype);
    compute.isa().multiplies_bf16()
        && *FAST.get_or_init(|| is_faster(rate(DType::Bf16), rate(DType::F32)))
}

/// Faster by what is lost around the multiplications.
fn is_faster(bf16: f64, f32: f64) -> bool {
    bf16 >= 1.2 * f32
}

/// Where nets run: `auto`, `cpu`, `gpu` or `gpu:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The faster of the processor and the first GPU that is no software, if there is one.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU with this number in the list of `headstart doctor`; the first that is no software.
    Gpu(Option<usize>),
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Gpu(None) => f.write_str("gpu"),
            DeviceChoice::Gpu(Some(number)) => write!(f, "gpu:{number}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice> {
        let number = |text: &str| text.strip_prefix("gpu:").and_then(|n| n.parse().ok());
        match (text, number(text)) {
            ("auto", _) => Ok(DeviceChoice::Auto),
            ("cpu", _) => Ok(DeviceChoice::Cpu),
            ("gpu", _) => Ok(DeviceChoice::Gpu(None)),
            (_, Some(number)) => Ok(DeviceChoice::Gpu(Some(number))),
            _ => {
                let hint = "`headstart doctor` lists devices";
                Err(Error::invalid("device", "auto, cpu, gpu or gpu:N", text, hint))
            }
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<DeviceChoice> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> String {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use headstart_kernels::isa::Isa;

    use super::*;

    #[test]
    fn devices_are_spelled_one_way() {
        for text in ["auto", "cpu", "gpu", "gpu:0", "gpu:12"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for bad in ["", "GPU", "gpu:", "gpu:-1", "cuda", "gpu:0x"] {
            assert!(
                bad.parse::<DeviceChoice>().unwrap_err().to_string().contains("gpu:N"),
                "{bad}"
            );
        }
    }

    #[test]
    fn auto_is_bf16_only_where_the_cpu_multiplies_it_fast() {
        for isa in Isa::ALL {
            let Ok(compute) = Compute::with_isa(1, isa) else { continue };
            let auto = Precision::Auto.dtype(&compute);
            assert!(auto == DType::F32 || isa.multiplies_bf16(), "{isa}");
            assert_eq!(Precision::Auto.dtype(&compute), auto);
            for dtype in [DType::F32, DType::Bf16, DType::F16] {
                assert_eq!(Precision::exactly(dtype).dtype(&compute), dtype);
            }
        }
        assert!(is_faster(2.0, 1.0) && !is_faster(1.1, 1.0) && !is_faster(f64::NAN, 1.0));
    }
}
