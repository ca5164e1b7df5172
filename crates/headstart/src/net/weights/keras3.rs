//! Keras 3's own layout, `.weights.h5` and inside `.keras`: `layers/conv2d_3/vars/0`, a model that is a
//! layer as `layers/functional/layers/conv2d/vars/0`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use hdf5_pure::Group;
use zip::ZipArchive;

use super::hdf5::{Source, damaged, text};
use super::kinds::roles;
use super::{Format, Listed, Naming, Tensor, WeightFile, keras_config};
use crate::error::{Error, Result};
use crate::memory::{self, Claim};

/// Where a `.keras` archive has its weights and its model's description.
const WEIGHTS: &str = "model.weights.h5";
const CONFIG: &str = "config.json";
/// Most groups that are read, and how deep they may be nested.
const MANY: usize = 50_000;
const DEPTH: usize = 8;
/// Longest description, and how many times its archive larger its weights may be.
const LONGEST: u64 = 8 << 20;
const LARGER: u64 = 64;

/// Whether the root looks like this layout.
pub(super) fn is(source: &Source<'_>) -> bool {
    source.root().group("layers").is_ok()
}

/// The archive's name of the weights, where `path` is a `.keras` archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let archive = File::open(path).ok().and_then(|f| ZipArchive::new(BufReader::new(f)).ok());
    archive.is_some_and(|a| a.index_for_name(WEIGHTS).is_some())
}

/// Reads the weights inside a `.keras` archive.
///
/// # Errors
/// If it or they are damaged, or larger than their compressed form can be meant to be.
pub(super) fn read_archive(path: &Path) -> Result<WeightFile> {
    let damaged = |e: &dyn std::fmt::Display| {
        Error::format(path, "a whole .keras archive", e.to_string(), "")
    };
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
    let mut claim = Claim::default();
    let mut entry = |name: &str, most: u64| -> Result<Vec<u8>> {
        let entry = archive.by_name(name).map_err(|e| damaged(&e))?;
        // Its length is a claim; it is read up to one byte too many.
        let bytes = memory::read_from(&mut entry.take(most + 1), path, 0, u64::MAX, &mut claim)?;
        if bytes.len() as u64 > most {
            let expected = format!("at most {most} bytes in {name}");
            return Err(Error::format(path, expected, "more", "the archive is made to swell"));
        }
        Ok(bytes)
    };
    let most = LONGEST.min(length.saturating_mul(LARGER).saturating_add(1 << 20));
    let config = entry(CONFIG, most).ok().and_then(|b| String::from_utf8(b).ok());
    let weights = entry(WEIGHTS, length.saturating_mul(LARGER))?;
    claim.parse(config.as_ref().map_or(0, String::len)).map_err(|over| over.of(path))?;
    let source = Source::from_bytes(path, weights, claim)?;
    let mut out = read(path, source, config.as_deref())?;
    out.format = Format::KerasArchive;
    Ok(out)
}

/// A layer that has variables.
struct Layer {
    /// The models that contain it: `layers/functional/`, or `layers/`.
    model: String,
    /// `conv2d_3`.
    kind: String,
    /// What its model calls it, where the file says.
    own_name: Option<String>,
    variables: Group,
}

/// Reads every layer's weights; an optimizer's state is left where it is.
///
/// # Errors
/// If the file is damaged, or has more layers than any net.
pub(super) fn read(
    path: &Path,
    mut source: Source<'_>,
    config: Option<&str>,
) -> Result<WeightFile> {
    let mut layers = Vec::new();
    let mut seen = 0;
    walk(path, &source.root(), "", DEPTH, &mut seen, &mut layers)?;
    // The net is the model with most convolutions; the head may be outside of it.
    let mut convolutions: HashMap<&str, usize> = HashMap::new();
    for layer in layers.iter().filter(|l| class_of(&l.kind) == "conv2d") {
        *convolutions.entry(&layer.model).or_default() += 1;
    }
    let most = convolutions.into_iter().max_by_key(|&(model, count)| (count, model.len()));
    let net = most.map_or(String::new(), |(model, _)| model.to_string());
    let inside = |kind: &str| layers.iter().any(|l| l.model == net && class_of(&l.kind) == kind);
    let dense_inside = inside("dense");
    let epsilons: Vec<(String, f32)> = config.map(keras_config::epsilons).unwrap_or_default();
    let same = epsilons.windows(2).all(|w| w[0].1 == w[1].1);

    let mut out = WeightFile::bare(path, Format::Keras3);
    out.naming = Naming::Kinds;
    for layer in &layers {
        let class = class_of(&layer.kind);
        let known = roles(class);
        let head = class == "dense" && !dense_inside;
        // A layer outside the net keeps its whole path, so that no other layer has its name.
        let name = match layer.model == net || head {
            true => layer.kind.clone(),
            false => format!("{}{}", layer.model, layer.kind),
        };
        let mut sets = layer.variables.datasets().map_err(damaged(path))?;
        sets.sort_by_key(|s| s.parse::<usize>().unwrap_or(usize::MAX));
        for set in sets {
            let full = format!("{}{}/vars/{set}", layer.model, layer.kind);
            let data = layer.variables.dataset(&set).map_err(damaged(path))?;
            let role = set.parse::<usize>().ok().and_then(|i| known.get(i));
            let Some(values) = source.read(&data, &full, role.is_some())? else { continue };
            let role = role.map_or(set.clone(), |r| r.name().to_string());
            let shape = values.shape.clone();
            out.listing.push(Listed { name: full, shape, dtype: values.stored });
            let name = format!("{name}/{role}");
            out.tensors.push(Tensor { name, shape: values.shape, values: values.values });
        }
        if class == "batch_normalization" {
            let own = layer.own_name.as_deref();
            let by_name = epsilons.iter().find(|(n, _)| Some(n.as_str()) == own);
            let found = by_name.or(epsilons.first().filter(|_| same));
            out.epsilon.extend(found.map(|(_, e)| (name, *e)));
        }
    }
    if out.tensors.is_empty() {
        return Err(Error::format(path, "layers with variables", "none", ""));
    }
    Ok(out)
}

/// `conv2d_3` without its number. Normalization layers may have more underscores.
fn class_of(kind: &str) -> &str {
    match kind.rsplit_once('_') {
        Some((class, number)) if number.parse::<u32>().is_ok() => class,
        _ => kind,
    }
}

fn walk(
    path: &Path,
    group: &Group,
    model: &str,
    depth: usize,
    seen: &mut usize,
    found: &mut Vec<Layer>,
) -> Result<()> {
    let damaged = damaged(path);
    let Ok(layers) = group.group("layers") else { return Ok(()) };
    let model = format!("{model}layers/");
    for (kind, layer) in layers.iter_groups().map_err(&damaged)? {
        *seen += 1;
        if *seen > MANY || depth == 0 {
            let expected = format!("at most {MANY} layers, {DEPTH} models deep");
            let hint = "a group that contains itself looks like this";
            return Err(Error::format(path, expected, "more", hint));
        }
        if let Ok(variables) = layer.group("vars") {
            let own_name = text(&variables.attrs().map_err(&damaged)?, "name");
            found.push(Layer { model: model.clone(), kind: kind.clone(), own_name, variables });
        }
        walk(path, &layer, &format!("{model}{kind}/"), depth - 1, seen, found)?;
    }
    Ok(())
}
