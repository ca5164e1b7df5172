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
        let (flags, missing) = self.differences(&[])?;
        let mut flags = flags.concat();
        for key in missing {
            if key != "fine-tune-at" || !self.unfreeze.is_empty() {
                return Err(Error::invalid(key, "a value", "none, for which there is no flag", ""));
            }
            // Without epochs no layer is fine-tuned.
            let last = flags.iter().position(|flag| flag == "--fine-tune-epochs");
            if let Some(at) = last {
                flags.drain(at..at + 2);
            }
            flags.extend(["--fine-tune-epochs", "0"].map(String::from));
        }
        Ok(flags)
    }

    /// What differs from the defaults, for a reader: flags as a shell reads them, and "no fine-tune-at" for a setting
    /// that has a default value and is none here. What is in `apart` is left out.
    ///
    /// # Errors
    /// If the settings do not fit TOML.
    pub fn changed(&self, apart: &[&str]) -> Result<Vec<String>> {
        let (flags, missing) = self.differences(apart)?;
        let missing = missing.iter().map(|key| format!("no {key}"));
        Ok(flags.iter().map(|words| shell_words(words)).chain(missing).collect())
    }

    /// Each flag with its value, and the settings that are none though they have a default value.
    fn differences(&self, apart: &[&str]) -> Result<(Vec<Vec<String>>, Vec<String>)> {
        let mut usual = TrainConfig::defaults(Some(&self.data), None);
        if usual.model != self.model {
            usual = TrainConfig::defaults(Some(&self.data), Some(&self.model));
            usual.model.clear();
        }
        let (usual, own) = (table(&usual)?, table(self)?);
        let listed = |key: &&String| !apart.contains(&key.as_str());
        let missing = usual.keys().filter(|key| !own.contains_key(*key)).filter(listed);
        let missing = missing.cloned().collect();
        let mut flags = Vec::new();
        let differs =
            |(key, value): &(&String, &Value)| listed(key) && usual.get(*key) != Some(*value);
        let mut changed: Vec<_> = own.iter().filter(differs).collect();
        changed.sort_by_key(|(key, _)| FIRST.iter().position(|f| f == key).unwrap_or(FIRST.len()));
        for (key, value) in changed {
            match value {
                Value::Boolean(true) => flags.push(vec![format!("--{key}")]),
                Value::Boolean(false) => flags.push(vec![format!("--no-{key}")]),
                value => flags.push(vec![format!("--{key}"), word(value)]),
            }
        }
        Ok((flags, missing))
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

pub(super) fn table(config: &TrainConfig) -> Result<Table> {
    Table::try_from(config)
        .map_err(|e| Error::invalid("settings", "values that fit TOML", e.to_string(), ""))
}

/// A value as a flag has it.
pub(in crate::session) fn word(value: &Value) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none_has_no_flag_and_is_said() {
        let config = TrainConfig { fine_tune_at: None, epochs: 7, ..TrainConfig::sample() };
        // No epochs say that no layer is fine-tuned.
        assert_eq!(config.flags().unwrap(), ["--epochs", "7", "--fine-tune-epochs", "0"]);
        let config = TrainConfig { image_size: None, ..config };
        assert!(config.flags().unwrap_err().to_string().contains("image-size"));
        let config = TrainConfig { image_size: TrainConfig::sample().image_size, ..config };
        assert_eq!(config.changed(&[]).unwrap(), ["--epochs 7", "no fine-tune-at"]);
        assert_eq!(config.changed(&["epochs"]).unwrap(), ["no fine-tune-at"]);
    }
}
