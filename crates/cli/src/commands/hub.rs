//! `headstart weights list`, `headstart weights get`, `headstart data get`, and what other commands fetch.

use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::config::TrainConfig;
use headstart::hub::{Asset, Content, Hub, sources};
use headstart::inference::Control;
use headstart::nearest::did_you_mean;
use serde::Serialize;

use crate::args::{DataGet, Weights, WeightsCommand, WeightsGet, WeightsList};
use crate::download::Download;
use crate::failure::Failure;
use crate::{interrupt, output};

#[derive(Serialize)]
struct Row {
    model: String,
    variant: String,
    /// Whether the head of 1000 classes is in it.
    top: bool,
    file: String,
    url: String,
    /// About how many bytes it has.
    size: u64,
    /// `md5:` or `sha256:` and its digits, or the first of them.
    hash: String,
    /// Bits of the hash that are known and checked.
    hash_bits: usize,
    /// Bits that the hash has: where they are more, the check guards against damage alone.
    hash_bits_in_all: usize,
    /// Where it is on this machine, with the right hash.
    path: Option<PathBuf>,
}

/// Runs `headstart weights`.
pub fn weights(args: &Weights) -> Result<(), Failure> {
    match &args.command {
        WeightsCommand::List(args) => list(args),
        WeightsCommand::Get(args) => get(args),
        WeightsCommand::Inspect(args) => super::inspect::run(args),
    }
}

/// Runs `headstart data get`.
pub fn data(args: &DataGet) -> Result<(), Failure> {
    let Some(asset) = sources::data(&args.name) else {
        let hint = did_you_mean(&args.name, [sources::CIFAR10]);
        let (expected, name) = (sources::CIFAR10, args.name.clone());
        return Err(Failure::Usage(Error::invalid("data set", expected, name, hint)));
    };
    output::line(fetch(&[asset])?.display())?;
    Ok(())
}

fn get(args: &WeightsGet) -> Result<(), Failure> {
    let assets = published(&args.model, &args.variant, args.top)?;
    // Without --top the file without the head is meant, not any that would do.
    output::line(fetch(&assets[..1])?.display())?;
    Ok(())
}

fn list(args: &WeightsList) -> Result<(), Failure> {
    let hub = Hub::from_env()?;
    let mut rows = Vec::new();
    for asset in sources::all() {
        let path = hub.locate(&asset, &mut |_| Control::Continue)?;
        let url = hub.url(&asset);
        let Asset { file, digest, size, content, .. } = asset;
        let Content::Weights { model, variant, top } = content else { continue };
        let hash = format!("{}:{}", digest.algorithm.name(), digest.hex);
        let (hash_bits, hash_bits_in_all) = (digest.known_bits(), digest.algorithm.bits());
        rows.push(Row {
            model,
            variant,
            top,
            file,
            url,
            size,
            hash,
            hash_bits,
            hash_bits_in_all,
            path,
        });
    }
    if args.json {
        output::json(&rows)?;
        return Ok(());
    }
    output::line(format!("{:21}  {:11}  {:>6}  file and hash", "model", "variant", "MB"))?;
    for row in rows {
        let Row { model, variant, file, size, hash, path, hash_bits, hash_bits_in_all, .. } = row;
        output::line(format!("{model:21}  {variant:11}  {:>6}  {file}", size.div_ceil(1_000_000)))?;
        output::line(format!("{:44}{hash}", ""))?;
        if hash_bits < hash_bits_in_all {
            let known =
                format!("only {hash_bits} of {hash_bits_in_all} bits are known and checked");
            output::line(format!("{:44}{known}: {DAMAGE_ALONE}", ""))?;
        }
        if let Some(path) = path {
            output::line(format!("{:44}in {}", "", path.display()))?;
        }
    }
    Ok(())
}

/// The published weights of that name; without `top` those without a head come first.
pub fn published(model: &str, variant: &str, top: bool) -> Result<Vec<Asset>, Failure> {
    sources::weights(model, variant, top).map_err(Failure::Usage)
}

/// What a hash of which too little is known is worth.
const DAMAGE_ALONE: &str = "that guards against damage, not against a file made on purpose";

/// The path of the first of `assets` that is on this machine, else of the first, downloaded. Says so where its hash is known
/// in part.
pub fn fetch(assets: &[Asset]) -> Result<PathBuf, Failure> {
    let hub = Hub::from_env()?;
    let mut download = Download::new();
    let path = hub.fetch_any(assets, &mut |event| download.show(event));
    download.end();
    let path = path?;
    let asset = assets.iter().find(|asset| path.ends_with(&asset.file));
    if let Some(Asset { file, digest, .. }) = asset.filter(|asset| !asset.digest.is_whole()) {
        eprintln!("warning: {file} was checked against {digest}: {DAMAGE_ALONE}");
    }
    match interrupt::control() {
        Control::Continue => Ok(path),
        Control::Stop => Err(Failure::Interrupted("the file is in the cache".into())),
    }
}

/// Gets the data set that `--data` names; a path is left as it is.
pub fn fetch_data(source: &str) -> Result<PathBuf, Failure> {
    match sources::data(source) {
        Some(asset) => fetch(&[asset]),
        None => Ok(Path::new(source).to_path_buf()),
    }
}

/// Gets the weights that a run starts from, where they are published ones.
pub fn fetch_weights(config: &TrainConfig) -> Result<(), Failure> {
    if sources::is_variant(&config.weights) {
        fetch(&published(&config.model, &config.weights, false)?)?;
    }
    Ok(())
}
