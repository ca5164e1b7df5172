//! Keras's `class_weight`: how much a training image counts in the loss, by its class.
//!
//! ```
//! use headstart::class_weight::ClassWeight;
//!
//! let classes = ["cat".to_string(), "dog".to_string()];
//! assert_eq!(ClassWeight::Balanced.weights(&classes, &[30, 10])?, [2.0 / 3.0, 2.0]);
//! let weights: ClassWeight = "dog=2.5".parse()?;
//! assert_eq!(weights.weights(&classes, &[30, 10])?, [1.0, 2.5]);
//! # Ok::<(), headstart::Error>(())
//! ```

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Formatter};
use std::path::Path;
use std::str::FromStr;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::memory::read_records;
use crate::nearest::one_of;
use crate::text::{composed, decode, is_same};

/// Weights of classes in the loss; its text is that of `--class-weight` and config.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClassWeight {
    /// `balanced`: as scikit-learn's `compute_class_weight("balanced")`, images over classes times images of the
    /// class.
    Balanced,
    /// `CLASS=WEIGHT,...`: 0 or more; classes that are not named count 1.
    Classes(BTreeMap<String, f32>),
}

/// Largest weight.
const MOST: f32 = 1e6;

/// Weights by class in a JSON object. One that names a class twice is refused: which of the two is meant is not known.
struct Named(BTreeMap<String, f32>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Named, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Named;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an object of classes and weights")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Named, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                named(pairs).map(Named).map_err(|class| {
                    serde::de::Error::custom(format!("two weights of the class {class}"))
                })
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// The pairs by class; the class that is there twice, if one is.
fn named(pairs: Vec<(String, f32)>) -> std::result::Result<BTreeMap<String, f32>, String> {
    let mut seen = HashSet::new();
    for (class, _) in &pairs {
        if !seen.insert(composed(class).into_owned()) {
            return Err(class.clone());
        }
    }
    Ok(pairs.into_iter().collect())
}

impl ClassWeight {
    /// Reads a JSON object of class names and weights.
    ///
    /// # Errors
    /// If it cannot be read or is of another form.
    pub fn read(path: impl AsRef<Path>) -> Result<ClassWeight> {
        let path = path.as_ref();
        let weights = read_records(path, |bytes| serde_json::from_str(&decode(&bytes).0))?;
        weights.map(|Named(map)| ClassWeight::Classes(map)).map_err(|e: serde_json::Error| {
            let expected = "a JSON object such as {\"cat\": 1, \"dog\": 2.5}";
            Error::format(path, expected, e.to_string(), "")
        })
    }

    /// The weight of each of `classes`, of which there are `counts` training images.
    ///
    /// # Errors
    /// If a class that is named does not exist, or a weight is not a number from 0 on.
    pub fn weights(&self, classes: &[String], counts: &[usize]) -> Result<Vec<f32>> {
        let named = match self {
            ClassWeight::Balanced => {
                let images = counts.iter().sum::<usize>() as f64;
                let weight = |&n: &usize| images / (classes.len() as f64 * n.max(1) as f64);
                return Ok(counts.iter().map(|n| weight(n) as f32).collect());
            }
            ClassWeight::Classes(named) => named,
        };
        let mut weights = vec![1.0; classes.len()];
        for (name, &weight) in named {
            let Some(class) = classes.iter().position(|class| is_same(class, name)) else {
                let hint = one_of("the classes", name, classes);
                return Err(Error::invalid("class weight", "a class of the data", name, hint));
            };
            if !(0.0..=MOST).contains(&weight) {
                let (what, found) = (format!("class weight of {name}"), weight.to_string());
                return Err(Error::invalid(what, "from 0 to 1e6", found, ""));
            }
            weights[class] = weight;
        }
        if weights.iter().all(|&w| w == 0.0) {
            return Err(Error::invalid("class weights", "one above 0", "zeros alone", ""));
        }
        Ok(weights)
    }
}

impl FromStr for ClassWeight {
    type Err = Error;

    fn from_str(text: &str) -> Result<ClassWeight> {
        if text == "balanced" {
            return Ok(ClassWeight::Balanced);
        }
        let pair = |part: &str| {
            let (name, weight) = part.rsplit_once('=')?;
            Some((name.trim().to_string(), weight.trim().parse().ok()?))
        };
        let pairs: Option<Vec<(String, f32)>> = text.split(',').map(pair).collect();
        let pairs = pairs.ok_or_else(|| {
            let expected = "balanced, CLASS=WEIGHT,... or a JSON file";
            let hint = "classes with a comma in their name need a file: {\"a, b\": 2}";
            Error::invalid("class weight", expected, text, hint)
        })?;
        named(pairs).map(ClassWeight::Classes).map_err(|class| {
            let found = format!("two of {class} in {text}");
            Error::invalid("class weight", "one weight for each class", found, "leave one out")
        })
    }
}

impl fmt::Display for ClassWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassWeight::Balanced => f.write_str("balanced"),
            ClassWeight::Classes(named) if named.keys().any(|name| name.contains(',')) => {
                f.write_str(&serde_json::to_string(named).map_err(|_| fmt::Error)?)
            }
            ClassWeight::Classes(named) => {
                let pairs: Vec<String> = named.iter().map(|(n, w)| format!("{n}={w}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl From<ClassWeight> for String {
    fn from(weight: ClassWeight) -> String {
        weight.to_string()
    }
}

impl TryFrom<String> for ClassWeight {
    type Error = Error;

    fn try_from(text: String) -> Result<ClassWeight> {
        match serde_json::from_str(&text) {
            Ok(Named(map)) => Ok(ClassWeight::Classes(map)),
            Err(error) if text.starts_with('{') => {
                Err(Error::invalid("class weight", "a JSON object", error.to_string(), ""))
            }
            Err(_) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_scikit_learns_or_those_named() {
        let classes: Vec<String> = ["a", "b", "c d"].map(String::from).into();
        // compute_class_weight("balanced", classes=[0, 1, 2], y=[0] * 2 + [1] * 4 + [2] * 12)
        let balanced = ClassWeight::Balanced.weights(&classes, &[2, 4, 12]).unwrap();
        assert_eq!(balanced, [3.0, 1.5, 0.5]);
        let parse = |text: &str| text.parse::<ClassWeight>();
        let named = parse("c d=3, a=0").unwrap();
        assert_eq!(named.weights(&classes, &[1, 1, 1]).unwrap(), [0.0, 1.0, 3.0]);
        for bad in
            ["", "a", "a=", "a=x", "balance", "a=1,a=2", "a=1, a=1", "caf\u{e9}=1,cafe\u{301}=2"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["x=1", "a=-1", "a=NaN", "a=0,b=0,c d=0"] {
            assert!(parse(bad).unwrap().weights(&classes, &[1, 1, 1]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_class_has_one_weight_in_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.json");
        std::fs::write(&path, r#"{"a": 1, "b": 2}"#).unwrap();
        assert!(ClassWeight::read(&path).is_ok());
        let twice = r#"{"a": 1, "a": 2}"#;
        std::fs::write(&path, twice).unwrap();
        let error = ClassWeight::read(&path).unwrap_err().to_string();
        assert!(error.contains("two weights of the class a"), "{error}");
        assert!(ClassWeight::try_from(twice.to_string()).is_err());
    }

    #[test]
    fn the_text_gives_the_weights_back() {
        let comma = ClassWeight::Classes(BTreeMap::from([("a, b".into(), 2.5), ("c".into(), 1.0)]));
        for weight in ["balanced".parse().unwrap(), "a=2,b=0.5".parse().unwrap(), comma] {
            assert_eq!(ClassWeight::try_from(String::from(weight.clone())).unwrap(), weight);
        }
    }
}
