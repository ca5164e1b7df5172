//! Published weights and data sets: found on this machine or downloaded once, and checked against their hashes.
//!
//! ```no_run
//! use headstart::hub::{Hub, sources};
//! use headstart::inference::Control;
//!
//! let hub = Hub::from_env()?;
//! let asset = &sources::weights("resnet50", sources::IMAGENET, false)?[0];
//! let path = hub.fetch(asset, &mut |_event| Control::Continue)?;
//! # Ok::<(), headstart::Error>(())
//! ```

mod digest;
mod http;
pub mod objects;
mod place;
pub mod sources;
mod tls;
mod transfer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic::sync_folder;
use crate::control::Control;
use crate::error::{Error, Result};

pub use digest::{Algorithm, Digest};
pub use place::{cache_folder, other_caches};
pub use sources::{Asset, Content};

use place::Lock;
use transfer::Transfer;

/// What happens while a file is fetched.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A file of the right name is on this machine and has another hash.
    Distrusted {
        /// The file.
        path: &'a Path,
        /// The hash it should have.
        expected: &'a Digest,
        /// The hash it has.
        found: &'a str,
    },
    /// The objects below a URL are listed.
    Listing {
        /// The URL.
        url: &'a str,
        /// How many were found so far.
        count: u64,
    },
    /// Objects below a URL are not used, because of their names.
    LeftOut {
        /// The URL.
        url: &'a str,
        /// How many.
        count: u64,
        /// The name of the first, and why.
        first: &'a str,
    },
    /// Another process is downloading the file; this one waits.
    Waiting {
        /// Name of the file.
        file: &'a str,
    },
    /// Bytes of the file have arrived.
    Downloading {
        /// Name of the file.
        file: &'a str,
        /// Where they come from.
        url: &'a str,
        /// How many, those of earlier runs included.
        done: u64,
        /// How many there will be, if the server says so.
        total: Option<u64>,
    },
    /// The connection broke; another is made.
    Retrying {
        /// Name of the file.
        file: &'a str,
        /// Why.
        reason: &'a str,
        /// How long this one waits first.
        pause: Duration,
    },
    /// The file was checked against a part of its hash, as no more is known. That guards against damage alone.
    PartlyChecked {
        /// Name of the file.
        file: &'a str,
        /// What is known of the hash.
        digest: &'a Digest,
    },
    /// The file, which was not on this machine, is in the cache.
    Arrived {
        /// Where.
        path: &'a Path,
    },
}

/// Gets what happens and says whether to continue. While waiting, it gets the last event again, several times a
/// second.
pub type Watch<'a> = dyn FnMut(&Event<'_>) -> Control + 'a;

/// How often a caller is asked whether to continue.
const POLL: Duration = Duration::from_millis(100);

/// Where files are kept and how they are downloaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Hub {
    /// The cache folder; files are in its folders `weights` and `data`.
    pub folder: PathBuf,
    /// Folders in which other programs may have the same files.
    pub others: Vec<PathBuf>,
    /// An address below which every file is published by its name, used instead of the files' own addresses.
    pub mirror: Option<String>,
    /// A PEM file of certificates to trust instead of Mozilla's.
    pub roots: Option<PathBuf>,
    /// How long to wait for a connection, a response or the next bytes.
    pub timeout: Duration,
    /// Tries in a row that bring less than a megabyte.
    pub attempts: u32,
    /// How long to wait before the second try; twice as long before each further one.
    pub pause: Duration,
}

impl Hub {
    /// With `folder` for a cache, and the defaults: no other folders, no mirror, 30 seconds, 5 tries, 1 second.
    pub fn new(folder: impl Into<PathBuf>) -> Hub {
        Hub {
            folder: folder.into(),
            others: Vec::new(),
            mirror: None,
            roots: None,
            timeout: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_secs(1),
        }
    }

    /// With the settings of the environment: `HEADSTART_CACHE`, `HEADSTART_MIRROR`, `HEADSTART_TIMEOUT` (seconds),
    /// `HEADSTART_ATTEMPTS` and `SSL_CERT_FILE`, with the caches of Keras and PyTorch as other folders.
    ///
    /// # Errors
    /// If a variable cannot be used, or there is no home folder.
    pub fn from_env() -> Result<Hub> {
        let mut hub = Hub::new(cache_folder()?);
        hub.others = other_caches();
        hub.roots = std::env::var_os("SSL_CERT_FILE").filter(|f| !f.is_empty()).map(PathBuf::from);
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        if let Some(mirror) = text("HEADSTART_MIRROR") {
            if !mirror.starts_with("http://") && !mirror.starts_with("https://") {
                let expected = "an address that starts with http:// or https://";
                return Err(Error::invalid("HEADSTART_MIRROR", expected, mirror, ""));
            }
            hub.mirror = Some(mirror);
        }
        if let Some(seconds) = text("HEADSTART_TIMEOUT") {
            hub.timeout = seconds
                .parse()
                .ok()
                .filter(|s: &f64| (0.01..=86_400.0).contains(s))
                .map(Duration::from_secs_f64)
                .ok_or_else(|| {
                    let expected = "seconds from 0.01 to 86400";
                    Error::invalid("HEADSTART_TIMEOUT", expected, seconds, "")
                })?;
        }
        if let Some(attempts) = text("HEADSTART_ATTEMPTS") {
            hub.attempts =
                attempts.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
                    Error::invalid("HEADSTART_ATTEMPTS", "a number from 1 to 1000", attempts, "")
                })?;
        }
        Ok(hub)
    }

    /// Where `asset` is once it is in the cache.
    pub fn path(&self, asset: &Asset) -> PathBuf {
        self.folder.join(asset.content.folder()).join(&asset.file)
    }

    /// The address that `asset` is downloaded from.
    pub fn url(&self, asset: &Asset) -> String {
        match &self.mirror {
            Some(base) => format!("{}/{}", base.trim_end_matches('/'), asset.file),
            None => asset.url.clone(),
        }
    }

    /// Finds `asset` on this machine, in the cache or in that of another program, with the right hash.
    /// A file of its name in the cache with another hash is an [`Event::Distrusted`].
    ///
    /// # Errors
    /// If the caller stops it.
    pub fn locate(&self, asset: &Asset, watch: &mut Watch<'_>) -> Result<Option<PathBuf>> {
        let own = self.path(asset);
        let others = self.others.iter().map(|folder| folder.join(&asset.file));
        for path in std::iter::once(own.clone()).chain(others) {
            if !path.is_file() {
                continue;
            }
            // A file that cannot be read counts as absent.
            let Ok(hash) = Digest::of_file(asset.digest.algorithm, &path, &mut |_| true) else {
                continue;
            };
            let Some((hash, _)) = hash else { continue };
            if asset.digest.matches(&hash) {
                return Ok(Some(path));
            }
            let event = Event::Distrusted { path: &path, expected: &asset.digest, found: &hash };
            if path == own && watch(&event) == Control::Stop {
                return Err(stopped(asset));
            }
        }
        Ok(None)
    }

    /// The path of `asset`: found on this machine, or downloaded into the cache.
    ///
    /// A download whose connection breaks continues where it stopped, in this run or the next. A file is in the cache
    /// under its name only once its hash is right. If several processes want a file, one downloads it.
    ///
    /// # Errors
    /// [`Error::Download`], whose hint says where to put the file by hand; [`Error::Stopped`].
    pub fn fetch(&self, asset: &Asset, watch: &mut Watch<'_>) -> Result<PathBuf> {
        if let Some(path) = self.locate(asset, watch)? {
            return partly(asset, path, watch);
        }
        let path = self.path(asset);
        let folder = path.parent().unwrap_or(&self.folder);
        let unwritable = |e: std::io::Error| Error::Download {
            file: asset.file.clone(),
            url: self.url(asset),
            reason: format!("cannot write in {}: {e}", folder.display()),
            hint: "set HEADSTART_CACHE to a folder that can be written".into(),
        };
        fs::create_dir_all(folder).map_err(unwritable)?;
        let mut waited = false;
        let _lock = loop {
            if let Some(lock) = Lock::take(folder, &asset.file).map_err(unwritable)? {
                break lock;
            }
            waited = true;
            if watch(&Event::Waiting { file: &asset.file }) == Control::Stop {
                return Err(stopped(asset));
            }
            std::thread::sleep(POLL);
        };
        if waited && let Some(path) = self.locate(asset, watch)? {
            return arrived(asset, path, watch);
        }
        let part = folder.join(format!("{}.part", asset.file));
        Transfer::new(self, asset, &part, watch)?.run()?;
        fs::rename(&part, &path).map_err(unwritable)?;
        sync_folder(folder);
        arrived(asset, path, watch)
    }

    /// [`Hub::fetch`] of the first of `assets` that is on this machine, or else of the first.
    ///
    /// # Errors
    /// As [`Hub::fetch`], and if there are no assets.
    pub fn fetch_any(&self, assets: &[Asset], watch: &mut Watch<'_>) -> Result<PathBuf> {
        for asset in assets {
            if let Some(path) = self.locate(asset, &mut |_| Control::Continue)? {
                return partly(asset, path, watch);
            }
        }
        match assets.first() {
            Some(asset) => self.fetch(asset, watch),
            None => Err(Error::invalid("assets", "at least one", "none", "")),
        }
    }

    /// How to get `asset` without a network.
    fn by_hand(&self, asset: &Asset) -> String {
        format!(
            "get the file in another way ({}, about {} MB) and put it at {}",
            asset.digest,
            asset.size.div_ceil(1_000_000),
            self.path(asset).display()
        )
    }
}

fn arrived(asset: &Asset, path: PathBuf, watch: &mut Watch<'_>) -> Result<PathBuf> {
    match watch(&Event::Arrived { path: &path }) {
        Control::Continue => partly(asset, path, watch),
        Control::Stop => Err(Error::Stopped("the file is in the cache".into())),
    }
}

/// Tells where only a part of the hash was compared.
fn partly(asset: &Asset, path: PathBuf, watch: &mut Watch<'_>) -> Result<PathBuf> {
    let Asset { file, digest, .. } = asset;
    let told = match digest.is_whole() {
        true => Control::Continue,
        false => watch(&Event::PartlyChecked { file, digest }),
    };
    match told {
        Control::Continue => Ok(path),
        Control::Stop => Err(Error::Stopped("the file is in the cache".into())),
    }
}

fn stopped(asset: &Asset) -> Error {
    let file = &asset.file;
    Error::Stopped(format!(
        "the part of {file} that has arrived is saved; the same command continues from there"
    ))
}
