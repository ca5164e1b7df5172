//! Every setting of a training run, as config.toml holds them.

use std::path::Path;

use headstart_kernels::element::DType;
use headstart_kernels::isa::Isa;
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::dataset;
use crate::error::{Error, Result};
use crate::image::Interpolation;
use crate::init::HeadInit;
use crate::optimizer::{DecayOf, Optimizer, Rule, WeightDecay};
use crate::preprocess::Preprocess;
use crate::resnet::FreezePoint;
use crate::schedule::Schedule;
use crate::trainer::Phase;
use crate::weights::embedded::{CIFAR10, CIFAR10_MODEL};

/// The settings of `headstart train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainConfig {
    /// Where images come from.
    pub data: String,
    /// Name of the net.
    pub model: String,
    /// A weight file, "imagenet", "cifar10" (inside the program) or "none".
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
    /// "rmsprop", "sgd", "adam" or "adamw".
    pub optimizer: OptimizerName,
    /// RMSprop's share of the old mean square.
    pub rho: f32,
    /// SGD's momentum.
    pub momentum: f32,
    /// Nesterov's variant of momentum.
    pub nesterov: bool,
    /// Adam's share of the old mean gradient.
    pub beta_1: f32,
    /// Adam's share of the old mean square.
    pub beta_2: f32,
    /// Share of the learning rate by which weights shrink at each step; none for the update rule's
    /// own: 0.004 for AdamW, 0 for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f32>,
    /// Which weights shrink.
    pub decay_of: DecayOf,
    /// Step size of the first phase; with a schedule, the largest.
    pub learning_rate: f32,
    /// Step size of fine-tuning; with a schedule, the largest.
    pub fine_tune_learning_rate: f32,
    /// How the step size changes over each phase.
    pub schedule: ScheduleName,
    /// Epochs at the start of each phase in which a cosine schedule goes up from 0.
    pub warmup_epochs: f32,
    /// Where a cosine schedule ends, as a share of where it goes down from.
    pub schedule_alpha: f32,
    /// Random changes of training images, in order.
    pub augment: Vec<Augmentation>,
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
    /// Whether TensorBoard's event files are written beside results.csv.
    pub tensorboard: bool,
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
    /// Adam, as Keras.
    Adam,
    /// Adam with weight decay, as Keras.
    #[serde(rename = "adamw")]
    AdamW,
}

/// Schedules by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// One step size.
    #[default]
    Constant,
    /// Up in a line, down in half a cosine.
    Cosine,
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

/// The article's job, for data of one's own.
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
            beta_1: 0.9,
            beta_2: 0.999,
            weight_decay: None,
            decay_of: DecayOf::All,
            learning_rate: 1e-4,
            fine_tune_learning_rate: 1e-4,
            schedule: ScheduleName::Constant,
            warmup_epochs: 0.0,
            schedule_alpha: 0.0,
            augment: Vec::new(),
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
            tensorboard: false,
        }
    }
}

impl TrainConfig {
    /// The job that needs no network: the digits inside the program on the net inside the program, a
    /// head, then everything from its second stage on, in about a minute on two cores.
    pub fn sample() -> TrainConfig {
        TrainConfig {
            data: dataset::SAMPLE.into(),
            model: CIFAR10_MODEL.into(),
            weights: CIFAR10.into(),
            epochs: 30,
            fine_tune_at: Some("conv3_block1_1_conv".into()),
            fine_tune_epochs: 8,
            batch_size: 32,
            optimizer: OptimizerName::Adam,
            learning_rate: 1e-2,
            fine_tune_learning_rate: 1e-3,
            schedule: ScheduleName::Cosine,
            image_size: Some(32),
            interpolation: Some(Interpolation::Bicubic),
            ..TrainConfig::default()
        }
    }

    /// What is not set otherwise, for the data and the net that are: [`TrainConfig::sample`] where both
    /// are its own or left out, else the article's job (with the weights inside the program for their net).
    pub fn defaults(data: Option<&str>, model: Option<&str>) -> TrainConfig {
        let sample = TrainConfig::sample();
        let own = |given: Option<&str>, own: &str| given.is_none_or(|text| text == own);
        if own(data, &sample.data) && own(model, &sample.model) {
            return sample;
        }
        let article = TrainConfig::default();
        match model {
            Some(CIFAR10_MODEL) => TrainConfig { weights: CIFAR10.into(), ..article },
            _ => article,
        }
    }

    /// Reads a config.toml; what it leaves out has its default. A file that names no net has the
    /// [`TrainConfig::defaults`] of its data, or of the `data` and `model` given, which go before it.
    ///
    /// # Errors
    /// If it cannot be read or has a setting that does not exist.
    pub fn read_for(
        path: impl AsRef<Path>,
        data: Option<&str>,
        model: Option<&str>,
    ) -> Result<TrainConfig> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let bad = |e: toml::de::Error| {
            let message = e.message().trim().to_string();
            let start = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count();
            let found = format!("{message} (line {line})");
            Error::format(path, "settings of `headstart train`", found, "")
        };
        let config: TrainConfig = toml::from_str(&text).map_err(bad)?;
        let file: toml::Table = toml::from_str(&text).map_err(bad)?;
        if file.contains_key("model") {
            return Ok(config);
        }
        let data = data.or(file.get("data").and_then(toml::Value::as_str));
        let mut whole: toml::Table =
            toml::from_str(&TrainConfig::defaults(data, model).to_toml()?).map_err(bad)?;
        whole.extend(file);
        whole.try_into().map_err(bad)
    }

    /// [`TrainConfig::read_for`] without anything that goes before the file.
    ///
    /// # Errors
    /// As there.
    pub fn read(path: impl AsRef<Path>) -> Result<TrainConfig> {
        TrainConfig::read_for(path, None, None)
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
            OptimizerName::Adam | OptimizerName::AdamW => {
                let TrainConfig { beta_1, beta_2, .. } = *self;
                Rule::Adam { beta_1, beta_2, epsilon: 1e-7 }
            }
        }
    }

    /// How weights shrink.
    pub fn weight_decay(&self) -> WeightDecay {
        let own = if self.optimizer == OptimizerName::AdamW { 0.004 } else { 0.0 };
        WeightDecay { rate: self.weight_decay.unwrap_or(own), of: self.decay_of }
    }

    /// How the step size changes over each phase.
    pub fn schedule(&self) -> Schedule {
        let TrainConfig { warmup_epochs, schedule_alpha: alpha, .. } = *self;
        match self.schedule {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Cosine => Schedule::Cosine { warmup_epochs, alpha },
        }
    }

    /// Whether everything trains from random numbers, in one phase: there are no weights, and no
    /// layer is named from which on to fine-tune.
    pub fn from_scratch(&self) -> bool {
        self.weights == "none" && self.fine_tune_at.is_none()
    }

    /// The phases that have epochs, in order; `from` is the layer that `fine_tune_at` names.
    pub fn phases(&self, from: Option<FreezePoint>) -> Vec<Phase> {
        let (epochs, rate) = (self.epochs, self.learning_rate);
        let first = match self.from_scratch() {
            true => Phase::full(epochs, rate),
            false => Phase::head(epochs, rate),
        };
        let second = from.map(|from| {
            Phase::fine_tune(from, self.fine_tune_epochs, self.fine_tune_learning_rate)
        });
        let phases = std::iter::once(first).chain(second).filter(|p| p.epochs > 0);
        phases.map(|p| p.with_schedule(self.schedule())).collect()
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
        if self.optimizer != OptimizerName::Sgd && (self.momentum != 0.0 || self.nesterov) {
            return against(
                "momentum",
                "optimizer sgd with it",
                self.rule().name().into(),
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
        if self.schedule == ScheduleName::Constant
            && (self.warmup_epochs != 0.0 || self.schedule_alpha != 0.0)
        {
            let hint = "add --schedule cosine";
            return against("warm-up and alpha", "a schedule with them", "constant".into(), hint);
        }
        for phase in self.phases(fine_tunes.then_some(FreezePoint(0))) {
            phase.schedule.over(phase.learning_rate, phase.epochs, 1)?;
        }
        for rate in [self.learning_rate, self.fine_tune_learning_rate] {
            Optimizer::new(self.rule(), rate)?.with_weight_decay(self.weight_decay())?;
        }
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
            optimizer: OptimizerName::AdamW,
            weight_decay: Some(0.01),
            decay_of: DecayOf::Kernels,
            schedule: ScheduleName::Cosine,
            warmup_epochs: 0.5,
            augment: vec![Augmentation::Flip, Augmentation::Crop { padding: 3 }],
            ..TrainConfig::default()
        };
        for config in [TrainConfig::default(), TrainConfig::sample(), full] {
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(TrainConfig::read(&path).unwrap(), config);
        }
        std::fs::write(&path, "epochs = 3\nepoch = 4\n").unwrap();
        let error = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("epoch") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn what_a_file_leaves_out_follows_from_its_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let read = |text: &str, data, model| {
            std::fs::write(&path, text).unwrap();
            TrainConfig::read_for(&path, data, model).unwrap()
        };
        let sample = TrainConfig { epochs: 3, ..TrainConfig::sample() };
        let article = TrainConfig { epochs: 3, ..TrainConfig::default() };
        assert_eq!(read("epochs = 3", None, None), sample);
        assert_eq!(read("epochs = 3\ndata = \"sample\"", None, None), sample);
        let photos = TrainConfig { data: "photos".into(), ..article.clone() };
        assert_eq!(read("epochs = 3\ndata = \"photos\"", None, None), photos);
        // The flags' data and model are put over the file by the caller.
        assert_eq!(read("epochs = 3", Some("photos"), None), article);
        assert_eq!(read("epochs = 3", None, Some("resnet50")), article);
        // A file with everything in it is taken as it is, also what it leaves open.
        let open = TrainConfig { fine_tune_at: None, image_size: None, ..sample };
        assert_eq!(read(&open.to_toml().unwrap(), None, None), open);
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
            TrainConfig { optimizer: OptimizerName::Adam, momentum: 0.9, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::Adam, beta_1: 1.0, ..base.clone() },
            TrainConfig { optimizer: OptimizerName::AdamW, beta_2: -0.1, ..base.clone() },
            TrainConfig { weight_decay: Some(-1.0), ..base.clone() },
            TrainConfig { weight_decay: Some(f32::NAN), ..base.clone() },
            TrainConfig { warmup_epochs: 1.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, warmup_epochs: 5.0, ..base.clone() },
            TrainConfig { schedule: ScheduleName::Cosine, schedule_alpha: 2.0, ..base.clone() },
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
