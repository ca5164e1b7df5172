//! Phases as `--unfreeze` lists them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::range::UNFREEZE_EPOCHS;

/// The name of the phase that trains the head only.
pub const HEAD: &str = "head";

/// A phase: the layer from which on it trains, and its epochs. Its text is `WHERE:EPOCHS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Unfreeze {
    /// `head`, or the first layer that trains: a layer, block or stage by name, or an index.
    pub at: String,
    /// Its epochs, 1 or more.
    pub epochs: usize,
}

impl FromStr for Unfreeze {
    type Err = Error;

    fn from_str(text: &str) -> Result<Unfreeze> {
        let parts = text.rsplit_once(':');
        let read = parts.and_then(|(at, epochs)| Some((at.trim(), epochs.parse().ok()?)));
        match read {
            Some((at, epochs)) if !at.is_empty() && UNFREEZE_EPOCHS.contains(epochs as u64) => {
                Ok(Unfreeze { at: at.into(), epochs })
            }
            _ => {
                let expected = "head or a layer, and 1 to 1000000 epochs, such as conv5:3";
                Err(Error::invalid("unfreeze", expected, text, ""))
            }
        }
    }
}

impl fmt::Display for Unfreeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.at, self.epochs)
    }
}

impl From<Unfreeze> for String {
    fn from(unfreeze: Unfreeze) -> String {
        unfreeze.to_string()
    }
}

impl TryFrom<String> for Unfreeze {
    type Error = Error;

    fn try_from(text: String) -> Result<Unfreeze> {
        text.parse()
    }
}
