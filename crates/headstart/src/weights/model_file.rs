//! headstart's model files: one safetensors file whose metadata says how to use it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::{Tensor, WeightFile, torch};
use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use crate::image::Interpolation;
use crate::parameters::Parameters;
use crate::preprocess::Preprocess;

/// The metadata key under which the card lies.
const KEY: &str = "headstart";
/// Prefix of optimizer state among the tensors.
const OPTIMIZER: &str = "optimizer/";
/// What this program writes; it reads this and lower.
pub const VERSION: u32 = 1;

/// Everything needed to use a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Version of this card's layout.
    pub version: u32,
    /// Name of the net, as [`crate::resnet::Recipe::named`] knows it.
    pub architecture: String,
    /// Class names in the order of the outputs.
    pub classes: Vec<String>,
    /// Height to which images are brought before they enter the net.
    pub height: usize,
    /// Width to which images are brought before they enter the net.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
    /// Nearest-neighbour enlargement inside the net.
    pub upsample: usize,
    /// Pixel normalisation inside the net.
    pub preprocess: Preprocess,
    /// Where training stood when the file was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Where a run stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// "head", "fine-tune" or "full".
    pub phase: String,
    /// Epochs done in the run, over all phases.
    pub epochs: usize,
    /// Steps done in the epoch after those.
    pub steps: usize,
    /// Seed from which the order of the images follows.
    pub seed: u32,
    /// What going on needs beside; files of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where within its phase a run stood, and what it had recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Number of the phase, from 1.
    pub phase: usize,
    /// Epochs of the phase that are done.
    pub epochs: usize,
    /// Steps of the phase that are done.
    pub step: u64,
    /// Sum of the losses of the epoch at hand, as the bits of a 64-bit float.
    pub loss_bits: u64,
    /// Hits of the epoch at hand.
    pub correct: usize,
    /// Training images of the epoch at hand that are done.
    pub count: usize,
    /// Seconds of the epoch at hand.
    pub seconds: f64,
    /// Bytes of events.jsonl.
    pub events: u64,
    /// The text of results.csv.
    pub history: String,
    /// Fingerprint of the images.
    pub data: String,
}

/// Writes a model file.
///
/// # Errors
/// If the file cannot be written; nothing is then left behind.
pub fn write(
    path: impl AsRef<Path>,
    card: &ModelCard,
    parameters: &Parameters,
    optimizer: &[Tensor],
) -> Result<()> {
    let path = path.as_ref();
    let failed = |e: &dyn std::fmt::Display| {
        Error::format(path, "tensors that can be written", e.to_string(), "")
    };
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut data: Vec<(String, &[usize], Vec<u8>)> = parameters
        .tensors
        .iter()
        .map(|t| (t.name.clone(), &t.shape[..], bytes(&t.values)))
        .collect();
    let state = optimizer.iter();
    data.extend(state.map(|t| (format!("{OPTIMIZER}{}", t.name), &t.shape[..], bytes(&t.values))));
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(|e| failed(&e))?;
        views.push((name.as_str(), view));
    }
    let card = serde_json::to_string(card).map_err(|e| failed(&e))?;
    // One key only: the library writes keys in no fixed order, and equal models are equal files.
    let metadata = HashMap::from([(KEY.into(), card)]);
    let file = serialize(views, Some(metadata)).map_err(|e| failed(&e))?;
    write_atomic(path, |out| out.write_all(&file))
}

/// Reads a safetensors file with tensors named as headstart names them.
///
/// # Errors
/// If the file is damaged, holds other than floats of 32 or 16 bits, or its card is of a later version.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    parse(path, &fs::read(path).map_err(Error::io("read", path))?)
}

/// [`read`] for the bytes of a file.
///
/// # Errors
/// As there.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<WeightFile> {
    let damaged = |found: String| {
        let hint = "the file may be cut short; copy or fetch it again";
        Error::format(path, "a whole safetensors file", found, hint)
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let card = match header.metadata().as_ref().and_then(|m| m.get(KEY)) {
        None => None,
        Some(text) => Some(card(path, text)?),
    };
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    let (mut tensors, mut optimizer) = (Vec::new(), Vec::new());
    for (name, view) in file.iter() {
        let values = floats(view.dtype(), view.data()).ok_or_else(|| {
            let expected = format!("floats of 32 or 16 bits in {name}");
            Error::format(path, expected, format!("{:?}", view.dtype()), "")
        })?;
        let shape = view.shape().to_vec();
        match name.strip_prefix(OPTIMIZER) {
            Some(rest) => optimizer.push(Tensor { name: rest.to_string(), shape, values }),
            None => tensors.push(Tensor { name: name.to_string(), shape, values }),
        }
    }
    if card.is_none() && torch::is_state_dict(tensors.iter().map(|t: &Tensor| t.name.as_str())) {
        let raw = tensors.into_iter().map(|t| torch::Raw {
            name: t.name,
            shape: t.shape,
            values: t.values,
        });
        tensors = torch::convert(path, raw.collect())?;
    }
    Ok(WeightFile { path: path.to_path_buf(), tensors, card, optimizer })
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let two = |f: fn([u8; 2]) -> f32| bytes.chunks_exact(2).map(|b| f([b[0], b[1]])).collect();
    match dtype {
        Dtype::F32 => {
            let four = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Some(four.collect())
        }
        Dtype::F16 => Some(two(torch::half)),
        Dtype::BF16 => Some(two(torch::brain)),
        _ => None,
    }
}

fn card(path: &Path, text: &str) -> Result<ModelCard> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let bad = |e: serde_json::Error| {
        Error::format(path, "a readable model card in its metadata", e.to_string(), "")
    };
    let version = serde_json::from_str::<Version>(text).map_err(bad)?.version;
    if version > VERSION {
        return Err(Error::format(
            path,
            format!("a model card of version {VERSION} or lower"),
            format!("version {version}"),
            "a newer headstart wrote this file; update headstart",
        ));
    }
    let card: ModelCard = serde_json::from_str(text).map_err(bad)?;
    // Bounds that keep a hostile card from asking for absurd amounts of memory.
    let sane = (1..=4096).contains(&card.height)
        && (1..=4096).contains(&card.width)
        && (1..=64).contains(&card.upsample)
        && card.height.max(card.width) * card.upsample <= 8192
        && (1..=1_000_000).contains(&card.classes.len());
    if !sane {
        return Err(Error::format(
            path,
            "a model card with sizes in range",
            format!(
                "{}x{} upsampled x{}, {} classes",
                card.height,
                card.width,
                card.upsample,
                card.classes.len()
            ),
            "",
        ));
    }
    Ok(card)
}
