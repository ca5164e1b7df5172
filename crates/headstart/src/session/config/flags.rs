//! Settings as the flags of `headstart train`.

use toml::{Table, Value};

use super::TrainConfig;
use crate::error::{Error, Result};

/// These come first; the rest follows by name.
const FIRST: [&str; 3] = ["data", "model", "weights"];

impl TrainConfig {
    /// The flags that change the [`TrainConfig::defaults`] of the same data and net to these settings, each with its
    /// value as a separate word: `["--data", "photos", "--balance", "--epochs", "3"]`.
    ///
    /// # Errors
    /// If a setting that has a default value is none here, for which there is no flag.
    ///
    /// ```
    /// use headstart::config::TrainConfig;
    ///
    /// let mut config = TrainConfig { data: "photos".into(), ..TrainConfig::default() };
    /// (config.epochs, config.balance) = (3, true);
    /// assert_eq!(config.flags()?.join(" "), "--data photos --balance --epochs 3");
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn flags(&self) -> Result<Vec<String>> {
        let mut usual = TrainConfig::defaults(Some(&self.data), None);
        if usual.model != self.model {
            usual = TrainConfig::defaults(Some(&self.data), Some(&self.model));
            usual.model.clear();
        }
        let (usual, own) = (table(&usual)?, table(self)?);
        if let Some(key) = usual.keys().find(|key| !own.contains_key(*key)) {
            return Err(Error::invalid(key, "a value", "none, for which there is no flag", ""));
        }
        let mut flags = Vec::new();
        let mut changed: Vec<_> =
            own.iter().filter(|(key, value)| usual.get(*key) != Some(value)).collect();
        changed.sort_by_key(|(key, _)| FIRST.iter().position(|f| f == key).unwrap_or(FIRST.len()));
        for (key, value) in changed {
            match value {
                Value::Boolean(true) => flags.push(format!("--{key}")),
                Value::Boolean(false) => flags.push(format!("--no-{key}")),
                value => flags.extend([format!("--{key}"), word(value)]),
            }
        }
        Ok(flags)
    }
}

/// Words as a shell reads them: those with other signs than the usual ones in quotes.
pub fn shell_words(words: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    let word = |word: &String| match word.chars().all(plain) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn table(config: &TrainConfig) -> Result<Table> {
    Table::try_from(config)
        .map_err(|e| Error::invalid("settings", "values that fit TOML", e.to_string(), ""))
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // An f32 in the digits it was written with.
        Value::Float(number) if f64::from(*number as f32) == *number => {
            (*number as f32).to_string()
        }
        Value::Array(list) => list.iter().map(word).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
