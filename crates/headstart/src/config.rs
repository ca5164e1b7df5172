//! Every setting of a training run, as config.toml holds them.

use std::path::Path;

use headstart_kernels::element::DType;
use headstart_kernels::isa::Isa;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::Interpolation;
use crate::init::HeadInit;
use crate::optimizer::Rule;
use crate::preprocess::Preprocess;

/// The settings of `headstart train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Where images come from.
    pub data: String,
    /// Name of the net.
    pub model: String,
    /// A weight file, or "none".
    pub weights: String,
    /// Epochs of the head over the frozen net.
    pub epochs: usize,
    /// First layer to fine-tune, by index or name; none to train the head only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tune_at: Option<String>,
    /// Epochs of fine-tuning.
    pub fine_tune_epochs: usize,
    /// Images a step.
    pub batch_size: usize,
    /// "rmsprop" or "sgd".
    pub optimizer: OptimizerName,
    /// RMSprop's share of the old mean square.
    pub rho: f32,
    /// SGD's momentum.
    pub momentum: f32,
    /// Nesterov's variant of momentum.
    pub nesterov: bool,
    /// Step size of the head's phase.
    pub learning_rate: f32,
    /// Step size of fine-tuning.
    pub fine_tune_learning_rate: f32,
    /// Nearest-neighbour enlargement inside the net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upsample: Option<usize>,
    /// Size to which images are brought before they enter the net.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// How images are brought to that size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// Pixel normalisation; none for what the weights expect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Whether images come in a new order every epoch.
    pub shuffle: bool,
    /// How the head's kernel starts.
    pub head_init: HeadInit,
    /// Share of the training images held out.
    pub validation_split: f64,
    /// Share of the images split off for testing.
    pub test_split: f64,
    /// What every random choice follows from.
    pub seed: u32,
    /// Most training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Arithmetic.
    pub precision: Precision,
    /// Threads, 0 for one per core; results do not depend on it.
    pub threads: usize,
    /// Most megabytes for kept outputs of frozen layers; none for half of the free memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_memory: Option<u64>,
}

/// Update rules by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// RMSprop, as Keras.
    #[default]
    Rmsprop,
    /// Gradient descent.
    Sgd,
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// bf16 where the CPU multiplies it by itself, else f32.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Feature maps, their gradients and packed weights in bfloat16; sums, weights, statistics and the
    /// optimizer's memory in f32.
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

    /// The choice that is sure to mean `dtype`.
    pub fn exactly(dtype: DType) -> Precision {
        match dtype {
            DType::F32 => Precision::F32,
            DType::Bf16 => Precision::Bf16,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            data: "sample".into(),
            model: "resnet50".into(),
            weights: "imagenet".into(),
            epochs: 5,
            fine_tune_at: None,
            fine_tune_epochs: 5,
            batch_size: 20,
            optimizer: OptimizerName::Rmsprop,
            rho: 0.9,
            momentum: 0.0,
            nesterov: false,
            learning_rate: 1e-4,
            fine_tune_learning_rate: 1e-4,
            upsample: None,
            image_size: None,
            interpolation: None,
            preprocess: None,
            shuffle: true,
            head_init: HeadInit::GlorotUniform,
            validation_split: 0.1,
            test_split: 0.0,
            seed: 42,
            limit: None,
            precision: Precision::Auto,
            threads: 0,
            cache_memory: None,
        }
    }
}

impl TrainConfig {
    /// Reads a config.toml; what it leaves out has its default.
    ///
    /// # Errors
    /// If it cannot be read or has a setting that does not exist.
    pub fn read(path: impl AsRef<Path>) -> Result<TrainConfig> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        toml::from_str(&text).map_err(|e: toml::de::Error| {
            let message = e.message().trim().to_string();
            let start = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count();
            let found = format!("{message} (line {line})");
            Error::format(path, "settings of `headstart train`", found, "")
        })
    }

    /// The text of config.toml.
    ///
    /// # Errors
    /// If a value does not fit TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::invalid("settings", "values that fit TOML", e.to_string(), ""))
    }

    /// The update rule.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            OptimizerName::Rmsprop => Rule::RmsProp { rho: self.rho, epsilon: 1e-7 },
            OptimizerName::Sgd => Rule::Sgd { momentum: self.momentum, nesterov: self.nesterov },
        }
    }

    /// Settings that contradict each other, as an error that names both.
    ///
    /// # Errors
    /// If there are any.
    pub fn check(&self) -> Result<()> {
        let against = |what: &str, expected: &str, found: String, hint: &str| {
            Err(Error::invalid(what, expected, found, hint))
        };
        if self.upsample.is_some() && self.image_size.is_some() {
            return against(
                "image size",
                "either upsample or image-size",
                "both".into(),
                "upsample enlarges by nearest neighbour inside the net, image-size resizes before it",
            );
        }
        if let (Some(_), Some(i)) = (self.upsample, self.interpolation)
            && i != Interpolation::Nearest
        {
            return against(
                "interpolation",
                "nearest with upsample",
                i.name().into(),
                "resize with image-size instead",
            );
        }
        if self.optimizer == OptimizerName::Rmsprop && (self.momentum != 0.0 || self.nesterov) {
            return against(
                "momentum",
                "optimizer sgd with it",
                "rmsprop".into(),
                "add --optimizer sgd",
            );
        }
        let fine_tunes = self.fine_tune_at.is_some() && self.fine_tune_epochs > 0;
        if self.epochs == 0 && !fine_tunes {
            return against(
                "epochs",
                "at least one epoch in one of the phases",
                "none".into(),
                "give --fine-tune-at with --epochs 0 to train without a frozen phase",
            );
        }
        for (what, value, expected) in [
            ("upsample", self.upsample, "1 to 64"),
            ("image-size", self.image_size, "1 to 4096"),
            ("limit", self.limit, "1 or more"),
        ] {
            let most = match what {
                "upsample" => 64,
                "image-size" => 4096,
                _ => usize::MAX,
            };
            if value.is_some_and(|v| v == 0 || v > most) {
                return against(what, expected, value.unwrap_or(0).to_string(), "");
            }
        }
        crate::optimizer::Optimizer::new(self.rule(), self.learning_rate)?;
        crate::optimizer::Optimizer::new(self.rule(), self.fine_tune_learning_rate)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_comes_back_from_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let full = TrainConfig {
            fine_tune_at: Some("100".into()),
            upsample: Some(7),
            preprocess: Some(Preprocess::Unit),
            limit: Some(10),
            cache_memory: Some(1000),
            ..TrainConfig::default()
        };
        for config in [TrainConfig::default(), full] {
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(TrainConfig::read(&path).unwrap(), config);
        }
        std::fs::write(&path, "epochs = 3\nepoch = 4\n").unwrap();
        let error = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("epoch") && error.contains("line 2"), "{error}");
    }

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

    #[test]
    fn contradictions_are_errors() {
        let base = TrainConfig::default();
        assert!(base.check().is_ok());
        for bad in [
            TrainConfig { upsample: Some(7), image_size: Some(224), ..base.clone() },
            TrainConfig {
                upsample: Some(7),
                interpolation: Some(Interpolation::Bicubic),
                ..base.clone()
            },
            TrainConfig { momentum: 0.9, ..base.clone() },
            TrainConfig { epochs: 0, ..base.clone() },
            TrainConfig {
                epochs: 0,
                fine_tune_epochs: 0,
                fine_tune_at: Some("1".into()),
                ..base.clone()
            },
            TrainConfig { upsample: Some(0), ..base.clone() },
            TrainConfig { learning_rate: f32::NAN, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Sgd, nesterov: true, ..base.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
