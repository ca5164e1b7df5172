//! `headstart weights list`, `headstart weights get`, `headstart data get`, and what other commands fetch.

use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::hub::{Asset, Content, Hub, Watch, objects, sources};
use headstart::inference::Control;
use headstart::nearest::did_you_mean;
use serde::Serialize;

use crate::args::{DataGet, Weights, WeightsCommand, WeightsGet, WeightsList};
use crate::download::{DAMAGE_ALONE, Download};
use crate::failure::Failure;
use crate::output;

#[derive(Serialize)]
struct Row {
    model: String,
    variant: String,
    /// Whether it has the head of 1000 classes.
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
    let assets = sources::weights(&args.model, &args.variant, args.top).map_err(Failure::Usage)?;
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

/// The path of the first of `assets` that is on this machine, else of the first, downloaded.
fn fetch(assets: &[Asset]) -> Result<PathBuf, Failure> {
    watched(|watch| Hub::from_env()?.fetch_any(assets, watch))
}

/// Where an image is on this machine: that of a URL is fetched into the cache.
pub fn local(image: &Path) -> Result<PathBuf, Failure> {
    match image.to_str().filter(|text| objects::is_url(text)) {
        Some(url) => watched(|watch| objects::mirror(url, watch)),
        None => Ok(image.to_path_buf()),
    }
}

/// What `open` opens, with the downloads on the way shown.
pub fn watched<T>(open: impl FnOnce(&mut Watch<'_>) -> Result<T, Error>) -> Result<T, Failure> {
    let mut download = Download::new();
    let opened = open(&mut |event| download.show(event));
    download.end();
    Ok(opened?)
}
