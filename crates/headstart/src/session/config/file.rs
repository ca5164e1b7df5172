//! config.toml: reading and writing.

use std::path::Path;

use super::TrainConfig;
use crate::data::image::Decode;
use crate::error::{Error, Result};
use crate::memory::read_settings;
use crate::nearest::did_you_mean;
use crate::text::decode;

/// What stands before the folder that a run was begun in.
const BEGUN: &str = "# begun in ";
/// What stands before the flags that chose the settings.
const CHOSEN: &str = "# chosen by ";

impl TrainConfig {
    /// Reads a config.toml; what it leaves out has its default. A file that names no net has the
    /// [`TrainConfig::defaults`] of its data, or of the `data` and `model` given, which override it.
    ///
    /// # Errors
    /// If it cannot be read or has a setting that does not exist.
    pub fn read_for(
        path: impl AsRef<Path>,
        data: Option<&str>,
        model: Option<&str>,
    ) -> Result<TrainConfig> {
        let path = path.as_ref();
        read_settings(path, |bytes| TrainConfig::of_text(path, &decode(&bytes).0, data, model))?
    }

    /// The settings that the text of the file at `path` has, as [`TrainConfig::read_for`].
    fn of_text(
        path: &Path,
        text: &str,
        data: Option<&str>,
        model: Option<&str>,
    ) -> Result<TrainConfig> {
        let bad = |e: toml::de::Error| {
            let message = e.message().trim().to_string();
            let (message, hint) =
                unknown(&message).unwrap_or_else(|| (in_words(&message), String::new()));
            let start = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|&&b| b == b'\n').count();
            let found = format!("{message} (line {line})");
            Error::format(path, "settings of `headstart train`", found, hint)
        };
        let config: TrainConfig = toml::from_str(text).map_err(bad)?;
        let file: toml::Table = toml::from_str(text).map_err(bad)?;
        if file.contains_key("model") {
            return Ok(config);
        }
        let data = data.or(file.get("data").and_then(toml::Value::as_str));
        let mut whole: toml::Table =
            toml::from_str(&TrainConfig::defaults(data, model).to_toml()?).map_err(bad)?;
        whole.extend(file);
        whole.try_into().map_err(bad)
    }

    /// [`TrainConfig::read_for`] without anything that overrides the file.
    ///
    /// # Errors
    /// As there.
    pub fn read(path: impl AsRef<Path>) -> Result<TrainConfig> {
        TrainConfig::read_for(path, None, None)
    }

    /// The settings of a text as [`TrainConfig::to_toml`] makes it.
    ///
    /// # Errors
    /// As [`TrainConfig::read_for`].
    pub fn of_toml(text: &str) -> Result<TrainConfig> {
        TrainConfig::of_text(Path::new("config.toml"), text, None, None)
    }

    /// The settings of the run in `folder`, which decodes JPEGs in full where it does not say how. Where its data is not at the relative path that they have, seen from the current
    /// folder, the path is that from the folder that the run was begun in.
    ///
    /// # Errors
    /// As [`TrainConfig::read_for`].
    pub fn of_run(folder: impl AsRef<Path>) -> Result<TrainConfig> {
        let path = folder.as_ref().join("config.toml");
        let mut config = TrainConfig::read(&path)?;
        let text = read_settings(&path, |text| String::from_utf8_lossy(&text).into_owned())?;
        // Runs that were begun before there was a choice.
        if !text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("decode")) {
            config.decode = Decode::Full;
        }
        let begun = text.lines().next().and_then(|line| line.strip_prefix(BEGUN));
        let there =
            begun.map(|base| Path::new(base).join(&config.data)).filter(|data| data.exists());
        if let Some(data) = there.filter(|_| !Path::new(&config.data).exists()) {
            config.data = data.display().to_string();
        }
        Ok(config)
    }

    /// The flags of a recipe that chose the settings of the run in `folder`, `--recipe auto --budget 20m`; none where they were
    /// given.
    pub fn recipe_of_run(folder: impl AsRef<Path>) -> Option<String> {
        let path = folder.as_ref().join("config.toml");
        let text = read_settings(&path, String::from_utf8).ok()?.ok()?;
        text.lines().find_map(|line| line.strip_prefix(CHOSEN)).map(String::from)
    }

    /// The text of a run's config.toml: the settings, below the folder that relative paths begin in, where there is one, and
    /// above the flags of the `recipe` that chose them.
    ///
    /// # Errors
    /// As [`TrainConfig::to_toml`].
    pub fn to_run(&self, recipe: Option<&str>) -> Result<String> {
        let mut text = self.to_toml()?;
        if let Some(flags) = recipe.filter(|flags| !flags.chars().any(char::is_control)) {
            text = format!("{text}{CHOSEN}{flags}\n");
        }
        let base = std::env::current_dir().ok().and_then(|base| base.to_str().map(String::from));
        Ok(match base.filter(|base| !base.chars().any(char::is_control)) {
            Some(base) if Path::new(&self.data).is_relative() && Path::new(&self.data).exists() => {
                format!("{BEGUN}{base}\n{text}")
            }
            _ => text,
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
}

/// A message about a value of another type, with words for the names of Rust's types.
fn in_words(message: &str) -> String {
    let types = [
        ("expected usize", "expected a whole number from 0 on"),
        ("expected u64", "expected a whole number from 0 on"),
        ("expected u32", "expected a whole number from 0 on"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
    ];
    let known = types.iter().find_map(|(rust, words)| {
        let at = message.strip_suffix(rust)?;
        Some(format!("{at}{words}"))
    });
    known.unwrap_or_else(|| message.to_string())
}

/// The message for an unknown setting, instead of serde's list of all others.
fn unknown(message: &str) -> Option<(String, String)> {
    let rest = message.strip_prefix("unknown field `")?;
    let mut names = rest.split('`').step_by(2);
    let name = names.next()?;
    let near = did_you_mean(name, names);
    let hint = match near.is_empty() {
        true => {
            "was it written by a newer headstart? `headstart train --help-all` has all settings"
        }
        false => &near,
    };
    Some((format!("the unknown setting {name}"), hint.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::Augmentation;
    use crate::data::image::FitName;
    use crate::engine::optimizer::DecayOf;
    use crate::measure::monitor::Monitor;
    use crate::net::preprocess::Preprocess;
    use crate::session::config::{OptimizerName, ScheduleName};

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
            step_epochs: Some(3),
            monitor: Monitor::Loss,
            patience: Some(2),
            ema: Some(0.99),
            min_delta: Some(0.01),
            augment: vec![Augmentation::Flip, Augmentation::Crop { padding: 3 }],
            ..TrainConfig::default()
        };
        let more = TrainConfig {
            unfreeze: vec!["head:3".parse().unwrap(), "conv5:2".parse().unwrap()],
            freeze_bn: true,
            accumulate: 4,
            replicas: 2,
            scale_learning_rate: Some(256),
            layer_decay: Some(0.75),
            dropout: 0.25,
            head_mirror: true,
            head_crops: true,
            head_images: Some(5000),
            train_size: Some(160),
            best_within: 0.0125,
            mixup: Some(0.2),
            cutmix: Some(1.0),
            fit: Some(FitName::Crop),
            crop_share: Some(0.9),
            decode: Decode::Full,
            class_weight: Some("a=2,b c=0.5".parse().unwrap()),
            balance: true,
            ..TrainConfig::default()
        };
        for config in [TrainConfig::default(), TrainConfig::sample(), full, more] {
            std::fs::write(&path, config.to_toml().unwrap()).unwrap();
            assert_eq!(TrainConfig::read(&path).unwrap(), config);
            assert_eq!(TrainConfig::of_toml(&config.to_toml().unwrap()).unwrap(), config);
        }
        assert_eq!(TrainConfig::recipe_of_run(folder.path()), None);
        let text = TrainConfig::default().to_run(Some("--recipe auto --budget 20m")).unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(TrainConfig::of_run(folder.path()).unwrap(), TrainConfig::default());
        let text = TrainConfig::default().to_toml().unwrap().replace("decode = \"reduced\"\n", "");
        let old = folder.path().join("old");
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("config.toml"), text).unwrap();
        assert_eq!(TrainConfig::of_run(&old).unwrap().decode, Decode::Full);
        let recipe = TrainConfig::recipe_of_run(folder.path());
        assert_eq!(recipe.as_deref(), Some("--recipe auto --budget 20m"));
        std::fs::write(&path, "epochs = 3\nepoch = 4\n").unwrap();
        let error = TrainConfig::read(&path).unwrap_err();
        assert!(error.hint().unwrap().contains("did you mean epochs"), "{error:?}");
        let error = error.to_string();
        assert!(error.contains("the unknown setting epoch") && error.contains("line 2"), "{error}");
        for (line, words) in [
            ("epochs = 1.5", "floating point `1.5`, expected a whole number from 0 on (line 1)"),
            ("learning-rate = \"fast\"", "string \"fast\", expected a number (line 1)"),
            ("shuffle = 1", "integer `1`, expected true or false (line 1)"),
        ] {
            std::fs::write(&path, line).unwrap();
            let error = TrainConfig::read(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        std::fs::write(&path, "quantum-entanglement = 4\n").unwrap();
        let error = TrainConfig::read(&path).unwrap_err();
        assert!(error.to_string().contains("quantum-entanglement"), "{error}");
        assert!(error.hint().unwrap().contains("newer"), "{error:?}");
    }

    #[test]
    fn damaged_files_are_errors_or_settings_that_can_be_checked() {
        use proptest::prelude::*;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let good = TrainConfig::sample().to_toml().unwrap().into_bytes();
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
        proptest!(config, |(changes in changes, cut in any::<prop::sample::Index>())| {
            let mut bad = good.clone();
            for (at, byte) in changes {
                let place = at.index(bad.len());
                bad[place] = byte;
            }
            bad.truncate(bad.len() - cut.index(bad.len()) / 4);
            std::fs::write(&path, &bad).unwrap();
            if let Ok(config) = TrainConfig::read(&path) {
                let _ = config.check();
            }
        });
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
}
