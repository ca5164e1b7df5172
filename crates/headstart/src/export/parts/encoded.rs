//! Numbers in a line of JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Numbers of a row, as little-endian 32-bit floats in base64.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoded(String);

impl Encoded {
    /// Of these numbers.
    pub fn of(values: &[f32]) -> Encoded {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Encoded(STANDARD.encode(bytes))
    }

    /// The numbers.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn values(&self) -> Result<Vec<f32>> {
        let bytes = STANDARD.decode(&self.0).ok().filter(|bytes| bytes.len() % 4 == 0);
        let bytes = bytes.ok_or_else(|| {
            Error::invalid("numbers of a row", "32-bit floats in base64", "another text", "")
        })?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}
