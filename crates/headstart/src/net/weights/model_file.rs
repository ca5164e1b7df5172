//! headstart's model files: one safetensors file whose metadata says how to use it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use super::floats::Stored;
use super::pickle::MOST_TENSORS;
use super::{Format, Listed, Tensor, WeightFile, torch};
use crate::atomic::write_atomic;
use crate::data::dataset::Grouping;
use crate::data::image::{Decode, Fit, Interpolation};
use crate::data::prints::Prints;
use crate::error::{Error, Result};
use crate::memory::{self, Claim, Over};
use crate::net::parameters::Parameters;
use crate::net::preprocess::Preprocess;
use crate::net::resnet::Surroundings;
use crate::numbers::grouped;
use crate::task::Task;
use crate::text;

/// Most axes of a tensor.
const MOST_AXES: usize = 16;
/// The metadata key of the card.
const KEY: &str = "headstart";
/// Prefix of optimizer state among the tensors.
const OPTIMIZER: &str = "optimizer/";
/// The version of a card without what later ones have: readers of a version would ignore what they do not know.
pub const VERSION: u32 = 1;
/// The version of a card with a temperature.
const WITH_TEMPERATURE: u32 = 2;
/// The version of a card of a model that does not stretch images.
const WITH_FIT: u32 = 3;
/// The version of a card of a model that has large JPEGs decoded smaller; the one up to which cards are read.
pub const NEWEST: u32 = 4;

/// Everything needed to use a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Version of this card's layout.
    pub version: u32,
    /// Name of the net, as in [`crate::net::resnet::Recipe::named`].
    pub architecture: String,
    /// What a label is; files leave it out where it is one class.
    #[serde(default, skip_serializing_if = "Task::is_default")]
    pub task: Task,
    /// Class names in the order of the outputs.
    #[serde(deserialize_with = "text::read_all_visible")]
    pub classes: Vec<String>,
    /// Height to which images are resized before they enter the net.
    pub height: usize,
    /// Width to which images are resized before they enter the net.
    pub width: usize,
    /// How images of other sizes are resized.
    pub interpolation: Interpolation,
    /// What becomes of images of other proportions; files leave it out where they are stretched.
    #[serde(default, skip_serializing_if = "Fit::is_stretch")]
    pub fit: Fit,
    /// How JPEGs are decoded; files leave it out where that is in full, as in those of earlier versions.
    #[serde(default, skip_serializing_if = "Decode::is_full")]
    pub decode: Decode,
    /// Nearest-neighbour upsampling factor inside the net.
    pub upsample: usize,
    /// Pixel normalisation inside the net.
    pub preprocess: Preprocess,
    /// What the logits are divided by before the softmax, where it is not 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How that was chosen, or why there is none; nothing where no temperature was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<TemperatureFit>,
    /// What it was trained on; none where it was not trained by a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Trained>,
    /// State of the training when the file was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// A temperature that was fitted, and what it gains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureFit {
    /// The temperature.
    pub temperature: f64,
    /// Images that it was fitted on.
    pub images: usize,
    /// By how much it lowers the mean cross-entropy, cross-validated.
    pub gain: f64,
    /// The standard error of that.
    pub standard_error: f64,
}

impl TemperatureFit {
    /// Whether the gain is more than its standard error.
    pub fn is_kept(&self) -> bool {
        self.gain > self.standard_error
    }

    /// What a card has as its temperature.
    pub fn stored(&self) -> Option<f64> {
        self.is_kept().then_some(self.temperature)
    }
}

/// What was done, and why.
impl fmt::Display for TemperatureFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TemperatureFit { temperature, images, gain, standard_error } = *self;
        let images = grouped(images);
        let shown = |loss: f64| match loss.abs() {
            size if size > 0.0 && size < 5e-5 => format!("{loss:.0e}"),
            _ => format!("{loss:.4}"),
        };
        let (gain, standard_error) = (shown(gain), shown(standard_error));
        match self.is_kept() {
            true => write!(
                f,
                "temperature {temperature:.4}, fitted on {images} validation images (cross-validated, their loss falls by \
                 {gain} +- {standard_error})"
            ),
            false => write!(
                f,
                "no temperature: {temperature:.4}, fitted on {images} validation images, does not lower their cross-validated \
                 loss by more than its standard error (by {gain} +- {standard_error})"
            ),
        }
    }
}

/// What a model was trained on, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Where the images came from, as the settings say.
    pub data: String,
    /// Fraction of the training images held out for validation.
    pub validation_split: f64,
    /// Fraction of the images split off for testing.
    pub test_split: f64,
    /// Whether both splits kept every class in proportion.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stratify: bool,
    /// Which images no split tore apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Grouping>,
    /// Seed of both splits.
    pub seed: u32,
    /// At most this many images were trained on, every class in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The images that it was trained on.
    pub images: Prints,
    /// The validation images that its head was fitted on at the run's end, besides these.
    #[serde(default, skip_serializing_if = "Prints::is_empty")]
    pub refit: Prints,
    /// Those that the weights it started from were trained on, where they are another run's.
    #[serde(default, skip_serializing_if = "Prints::is_empty")]
    pub before: Prints,
    /// All settings, as the text of config.toml.
    pub settings: String,
    /// The fingerprint of the device that it was trained on: its instruction set and arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Whether a flag is not set, so that a card leaves it out.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Trained {
    /// Whether the image with this hash was trained on, in this run or in one whose weights it started from.
    pub fn has_seen(&self, hash: &[u8; 32]) -> bool {
        [&self.images, &self.refit, &self.before].iter().any(|prints| prints.contains(hash))
    }

    /// How the images were split: "validation split 0.1, test split 0.2, by class, seed 42".
    pub fn split(&self) -> String {
        let Trained { validation_split, test_split, stratify, group, seed, .. } = self;
        let class = if *stratify { ", by class" } else { "" };
        let group = group.as_ref().map_or(String::new(), |group| format!(", by group ({group})"));
        format!(
            "validation split {validation_split}, test split {test_split}{class}{group}, seed {seed}"
        )
    }
}

/// Most classes that the text of a card names.
const NAMED: usize = 12;

/// What the model is, how images enter it, and what it was trained on: two or three lines.
impl fmt::Display for ModelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.classes.len();
        let names = self.classes[..count.min(NAMED)].join(", ");
        let more = if count > NAMED { ", ..." } else { "" };
        writeln!(f, "{}, {} classes: {names}{more}", self.architecture, grouped(count))?;
        let ModelCard { height, width, upsample, .. } = *self;
        write!(f, "images enter at {width}x{height}, {}", self.interpolation.name())?;
        if !self.fit.is_stretch() {
            write!(f, ", {}", self.fit)?;
        }
        if !self.decode.is_full() {
            write!(f, ", large JPEGs decoded {}", self.decode.name())?;
        }
        if upsample > 1 {
            write!(f, ", upsampled x{upsample}")?;
        }
        write!(f, ", {} preprocessing", self.preprocess.name())?;
        match (&self.calibration, self.temperature) {
            (Some(fit), _) => write!(f, "\n{fit}")?,
            (None, Some(temperature)) => write!(f, "; temperature {temperature:.4}")?,
            (None, None) => {}
        }
        let Some(trained) = &self.trained else { return Ok(()) };
        let (count, split) = (grouped(trained.images.len()), trained.split());
        write!(f, "\ntrained on {count} images of {} ({split})", trained.data)?;
        match trained.refit.len() {
            0 => Ok(()),
            more => write!(f, "; its head also on the {} validation images", grouped(more)),
        }
    }
}

impl ModelCard {
    /// What surrounds the net.
    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            height: self.height,
            width: self.width,
            preprocess: Some(self.preprocess),
            upsample: self.upsample,
            classes: Some(self.classes.len()),
        }
    }
}

/// State of a run.
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
    /// What resuming needs besides; files of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Position of a run within its phase, and what it had recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Number of the phase, from 1.
    pub phase: usize,
    /// Epochs of the phase that are done.
    pub epochs: usize,
    /// Steps of the phase that are done.
    pub step: u64,
    /// Sum of the losses of the current epoch, as the bits of a 64-bit float.
    pub loss_bits: u64,
    /// Correct predictions of the current epoch.
    pub correct: usize,
    /// Training images of the current epoch that are done.
    pub count: usize,
    /// Seconds of the current epoch.
    pub seconds: f64,
    /// Seconds of the whole run.
    #[serde(default)]
    pub spent: f64,
    /// Whether the run's time was over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub over: bool,
    /// Bytes of events.jsonl.
    pub events: u64,
    /// The text of results.csv.
    pub history: String,
    /// Fingerprint of the images.
    pub data: String,
    /// CRC-32C of the file's tensors and card, with 0 for itself; [`write()`] sets it, and files of earlier
    /// versions have none. A run that resumes from values other than those it wrote would silently reach other weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u32>,
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
    let own = parameters.tensors.iter();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        own.map(|t| (t.name.clone(), t.shape.clone(), bytes(&t.values))).collect();
    let state = optimizer.iter();
    tensors.extend(
        state.map(|t| (format!("{OPTIMIZER}{}", t.name), t.shape.clone(), bytes(&t.values))),
    );
    let file = encode(path.as_ref(), card, tensors)?;
    write_atomic(path, |out| out.write_all(&file))
}

/// Numbers as a file has them.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The bytes of a file of tensors, each a name, a shape and the bytes of 32-bit floats, and the card; `path` names the
/// file in errors.
///
/// # Errors
/// If a tensor's bytes do not suit its shape.
pub(crate) fn encode(
    path: &Path,
    card: &ModelCard,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::format(path, "tensors that can be written", e.to_string(), "")
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, shape, bytes) in &tensors {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| failed(&e))?;
        views.push((name.as_str(), view));
    }
    let version = match (card.decode, card.fit.is_stretch(), card.temperature) {
        (Decode::Reduced, ..) => NEWEST,
        (Decode::Full, false, _) => WITH_FIT,
        (Decode::Full, true, Some(_)) => WITH_TEMPERATURE,
        (Decode::Full, true, None) => VERSION,
    };
    let mut card = ModelCard { version, ..card.clone() };
    if let Some(place) = card.progress.as_mut().and_then(|p| p.place.as_mut()) {
        place.checksum = Some(0);
    }
    let mut text = serde_json::to_string(&card).map_err(|e| failed(&e))?;
    if checksum(&card).is_some() {
        let parts = tensors.iter().map(|(name, shape, bytes)| (&name[..], &shape[..], &bytes[..]));
        text = with_checksum(&text, 0, sum(&text, parts.collect()));
    }
    // One key only: the library writes keys in no fixed order, and equal models are equal files.
    let metadata = HashMap::from([(KEY.into(), text)]);
    serialize(views, Some(metadata)).map_err(|e| failed(&e))
}

/// The checksum that a card states.
fn checksum(card: &ModelCard) -> Option<u32> {
    card.progress.as_ref()?.place.as_ref()?.checksum
}

/// A card's text with another checksum. Quotes inside its strings are escaped, so that only the key is found.
fn with_checksum(text: &str, from: u32, to: u32) -> String {
    text.replacen(&format!("\"checksum\":{from}"), &format!("\"checksum\":{to}"), 1)
}

/// The checksum of a card's text and tensors, each a name, a shape and bytes, in any order.
fn sum(card: &str, mut tensors: Vec<(&str, &[usize], &[u8])>) -> u32 {
    tensors.sort_unstable();
    tensors.iter().fold(crc32c::crc32c(card.as_bytes()), |sum, (name, shape, bytes)| {
        let sum = crc32c::crc32c_append(sum, format!("{name}{shape:?}").as_bytes());
        crc32c::crc32c_append(sum, bytes)
    })
}

/// Reads a safetensors file with tensors named as headstart names them.
///
/// # Errors
/// If the file is damaged, holds other than floats, or its card is of a later version.
pub(super) fn read(path: &Path) -> Result<WeightFile> {
    let mut claim = Claim::default();
    parse(path, &memory::read(path, u64::MAX, &mut claim)?)
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
    let mut claim = Claim::default();
    let over = |over: Over| over.of(path);
    // The library reads a header twice, and the card in it is read after that.
    let length = bytes.first_chunk().map_or(0, |n| u64::from_le_bytes(*n)).min(bytes.len() as u64);
    claim.parse_records(length as usize).map_err(over)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
    let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let card = text.map(|text| card(path, text)).transpose()?;
    let count = header.tensors().len();
    if count > MOST_TENSORS {
        return Err(damaged(format!("{count} tensors, where {MOST_TENSORS} are read")));
    }
    if let Some((name, axes)) = header
        .tensors()
        .iter()
        .find_map(|(name, info)| (info.shape.len() > MOST_AXES).then_some((name, info.shape.len())))
    {
        return Err(damaged(format!("{name} of {axes} axes, where {MOST_AXES} are read")));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
    // The library gives them in no fixed order; here they come as the file has them.
    let mut views: Vec<_> = file.iter().collect();
    views.sort_by_key(|(name, view)| (view.data().as_ptr(), *name));
    if let (Some(text), Some(stated)) = (text, card.as_ref().and_then(checksum)) {
        let tensors = views.iter().map(|(name, view)| (*name, view.shape(), view.data()));
        if sum(&with_checksum(text, stated, 0), tensors.collect()) != stated {
            return Err(damaged("values that are not what was written".into()));
        }
    }
    let format = if card.is_some() { Format::Model } else { Format::Safetensors };
    let mut out = WeightFile { card, ..WeightFile::bare(path, format) };
    for (name, view) in views {
        let Some(stored) = stored(view.dtype()) else {
            if torch::is_weight(name) {
                let expected = format!("floats of 64, 32 or 16 bits in {name}");
                return Err(Error::format(path, expected, format!("{:?}", view.dtype()), ""));
            }
            continue;
        };
        let count = view.data().len() / stored.size();
        claim.grow((count * size_of::<f32>()) as u64).map_err(over)?;
        let (values, shape) = (stored.read(view.data()), view.shape().to_vec());
        match name.strip_prefix(OPTIMIZER) {
            Some(rest) => out.optimizer.push(Tensor { name: rest.to_string(), shape, values }),
            None => {
                let (name, dtype) = (name.to_string(), stored.name());
                out.listing.push(Listed { name: name.clone(), shape: shape.clone(), dtype });
                out.tensors.push(Tensor { name, shape, values });
            }
        }
    }
    let names = out.tensors.iter().map(|t| t.name.as_str());
    // What export writes for PyTorch has both its names and a card.
    if torch::is_state_dict(names) {
        let raw = std::mem::take(&mut out.tensors).into_iter();
        let raw = raw.map(|t| torch::Raw { name: t.name, shape: t.shape, values: t.values });
        out = torch::convert(path, raw.collect(), out)?;
    }
    Ok(out)
}

fn stored(dtype: Dtype) -> Option<Stored> {
    match dtype {
        Dtype::F32 => Some(Stored::F32),
        Dtype::F64 => Some(Stored::F64),
        Dtype::F16 => Some(Stored::F16),
        Dtype::BF16 => Some(Stored::Bf16),
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
    if version > NEWEST {
        return Err(Error::format(
            path,
            format!("a model card of version {NEWEST} or lower"),
            format!("version {version}"),
            "a newer headstart wrote this file; update headstart",
        ));
    }
    let card: ModelCard = serde_json::from_str(text).map_err(bad)?;
    // Bounds that keep a hostile card from asking for absurd amounts of memory.
    let sane = card.surroundings().check().is_ok()
        && card.fit.check(card.height, card.width).is_ok()
        && card.temperature.is_none_or(|t| t.is_finite() && t > 0.0);
    if !sane {
        return Err(Error::format(
            path,
            "a model card with sizes in range",
            format!(
                "{}x{} ({}) upsampled x{}, {} classes, temperature {}",
                card.height,
                card.width,
                card.fit,
                card.upsample,
                card.classes.len(),
                card.temperature.unwrap_or(1.0)
            ),
            "",
        ));
    }
    Ok(card)
}
