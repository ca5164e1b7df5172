//! `headstart serve`: predictions over HTTP, by the Open Inference Protocol and by plain uploads.
//!
//! ```
//! use headstart::source::ModelSource;
//! use headstart::{Control, Device};
//! use headstart_server::{Named, Options, serve};
//!
//! let source = ModelSource::new("resnet20", None)?; // its weights are inside the library
//! let (model, _) = source.open(&mut |_| Control::Continue)?;
//! let named = Named { name: "small".into(), model, source };
//! let options = Options { port: 0, ..Options::new(vec![named], Device::cpu(1)?) };
//! let mut asks = 0;
//! let served = serve(options, &mut |ready| println!("{}", ready.url()), &mut || {
//!     asks += 1; // a program looks whether a signal came
//!     if asks < 3 { Control::Continue } else { Control::Stop }
//! })?;
//! assert_eq!(served.requests, 0);
//! # Ok::<(), headstart::Error>(())
//! ```
#![forbid(unsafe_code)]

mod access;
mod answer;
mod begin;
mod engine;
mod explain;
mod export;
mod listen;
mod look;
mod metrics;
mod models;
mod nearby;
mod page;
mod predict;
mod routes;
mod runs;
mod service;
mod upload;
mod v2;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headstart::cache::CacheSettings;
use headstart::run::DiskCache;
use headstart::source::ModelSource;
use headstart::{Control, Device, Error, Model, Result, memory};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use access::Access;
use begin::Begin;
use engine::Engine;
use look::Look;
use metrics::Metrics;
use models::Models;
pub use models::check_name;
use nearby::Nearby;
use runs::Runs;
use service::Service;
use upload::{Budget, Decoders};

/// Shortest token.
const TOKEN: usize = 16;
/// Pages that follow a run at once.
const FOLLOWERS: usize = 64;
/// Models that are exported at once.
const EXPORTS: usize = 1;
/// The usual folder of runs.
const RUNS: &str = "runs";
/// The usual folder of data sets that the page makes.
const PHOTOS: &str = "photos";
/// Part of the memory for reading files that bodies of requests may take.
const BODIES: u64 = 4;

/// A model that is served from the start.
#[derive(Debug)]
pub struct Named {
    /// Its name in addresses.
    pub name: String,
    /// The model.
    pub model: Model,
    /// Where it came from, to be read from again.
    pub source: ModelSource,
}

/// Limits of the server and of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most images that are computed together.
    pub batch: usize,
    /// How long an image waits for others.
    pub delay: Duration,
    /// Most images that wait or are computed.
    pub queue: usize,
    /// Longest body of a request, in bytes.
    pub body: usize,
    /// Longest model file that is sent, in bytes.
    pub model: u64,
    /// Most pixels of an image.
    pub pixels: usize,
    /// Time in which a body must come, and in which an image must be decoded.
    pub timeout: Duration,
    /// Time in which the next request of a connection must begin.
    pub idle: Duration,
    /// Most connections.
    pub connections: usize,
    /// Time that requests have left once the server is about to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            batch: 32,
            delay: Duration::from_millis(2),
            queue: 256,
            body: 64 << 20,
            model: 2 << 30,
            pixels: 50_000_000,
            timeout: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            connections: 4096,
            drain: Duration::from_secs(30),
        }
    }
}

/// What is served, and to whom.
#[derive(Debug)]
pub struct Options {
    /// The models; the first one is meant where a request names none. There may be none: the page can make one.
    pub models: Vec<Named>,
    /// Where they run.
    pub device: Device,
    /// A data set, as `train` names it, whose images are found by [`similar`](headstart::similar) ones, and where features of
    /// them are cached.
    pub data: Option<(String, CacheSettings)>,
    /// The folder of runs that the page shows and resumes; there are none where it is not there.
    pub runs: PathBuf,
    /// The folder of data sets that the page makes, which is made with the first of them.
    pub photos: PathBuf,
    /// Where features of their images are cached.
    pub cache: DiskCache,
    /// The name or address to listen on.
    pub host: String,
    /// The port, 0 for a free one.
    pub port: u16,
    /// Names by which the server may be called, besides the host's and localhost.
    pub allow_hosts: Vec<String>,
    /// What requests must have as their bearer token.
    pub token: Option<String>,
    /// Probability below which a prediction is "unknown".
    pub threshold: f32,
    /// The limits.
    pub limits: Limits,
}

impl Options {
    /// On this machine alone.
    pub fn new(models: Vec<Named>, device: Device) -> Options {
        Options {
            models,
            device,
            data: None,
            runs: PathBuf::from(RUNS),
            photos: PathBuf::from(PHOTOS),
            cache: DiskCache::default(),
            host: "127.0.0.1".into(),
            port: 8000,
            allow_hosts: Vec::new(),
            token: None,
            threshold: 0.0,
            limits: Limits::default(),
        }
    }

    /// Fails for options that cannot be meant, or are not safe.
    fn check(&self, addresses: &[SocketAddr]) -> Result<()> {
        let mut names = BTreeSet::new();
        for Named { name, .. } in &self.models {
            check_name(name)?;
            if !names.insert(name) {
                let hint = "give them names: NAME=MODEL";
                return Err(Error::invalid(
                    "models",
                    "names that differ",
                    format!("{name} twice"),
                    hint,
                ));
            }
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            let found = self.threshold.to_string();
            return Err(Error::invalid("threshold", "a probability from 0 to 1", found, ""));
        }
        match &self.token {
            None if addresses.iter().any(|address| !address.ip().is_loopback()) => {
                let hint = "others than this machine need one: give --token-file";
                Err(Error::invalid("token", format!("one for {}", self.host), "none", hint))
            }
            Some(token) if token.len() < TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) => {
                let expected = format!("at least {TOKEN} letters, digits and signs of ASCII");
                let found = format!("{} bytes", token.len());
                let hint = "openssl rand -hex 32 makes one";
                Err(Error::invalid("token", expected, found, hint))
            }
            _ => Ok(()),
        }
    }
}

/// A server that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Ready {
    /// Its address in the web.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests that were answered.
    pub requests: u64,
    /// Images that were computed.
    pub images: u64,
    /// Connections that were cut at the end because their request was not done in time.
    pub cut: usize,
}

/// Answers requests until `stop` says so. `on_ready` is told once it listens; `stop` is asked twenty times a second. What was
/// asked before is answered then, within [`Limits::drain`].
///
/// # Errors
/// If the options cannot be meant, it cannot listen, or a model does not fit into memory.
pub fn serve(
    options: Options,
    on_ready: &mut dyn FnMut(Ready),
    stop: &mut dyn FnMut() -> Control,
) -> Result<Served> {
    let addresses = listen::addresses(&options.host, options.port)?;
    options.check(&addresses)?;
    let Options {
        models: named,
        device,
        data,
        runs,
        photos,
        cache,
        host,
        allow_hosts,
        token,
        threshold,
        limits,
        ..
    } = options;
    let loopback = addresses.iter().all(|address| address.ip().is_loopback());
    let decoders = device.compute().threads.count();
    let metrics = Arc::new(Metrics::default());
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(decoders + 16)
        .enable_all()
        .build()
        .map_err(Error::io("start", "threads"))?;
    listen::raise_files();
    let listener = runtime.block_on(async { listen::bind(&addresses) })?;
    let address = listener.local_addr().map_err(Error::io("listen on", &host))?;
    let engine = Arc::new(Engine::start(limits.queue, limits.delay, Arc::clone(&metrics))?);
    let models = Arc::new(Models::new(Arc::clone(&engine), device.clone(), limits.batch));
    for Named { name, model, source } in named {
        models.put(&name, model, Some(source))?;
    }
    let look = data.clone().map(|(source, cache)| Look::begin(source, cache, device.clone()));
    if let Some(message) = look.as_ref().and_then(|look| look.fails_at_once()) {
        return Err(Error::invalid("--data", "a data set", message, ""));
    }
    let nearby = data.map(|(source, cache)| Nearby::new(source, cache, device.clone()));
    if let (Some(nearby), Some(first)) = (&nearby, models.get(None)) {
        nearby.begin(&first);
    }
    let runs = Runs::below(&runs);
    let hosts = allow_hosts.into_iter().chain([host]).collect();
    let service = Arc::new(Service {
        begin: Begin::new(photos, cache, decoders),
        look: look.clone(),
        nearby: nearby.clone(),
        runs: Arc::clone(&runs),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        exports: Arc::new(Semaphore::new(EXPORTS)),
        access: Access { hosts, loopback, token },
        models,
        engine: Arc::clone(&engine),
        device,
        decoders: Decoders::new(decoders, limits),
        budget: Budget::of(memory::limit() / BODIES),
        limits,
        metrics: Arc::clone(&metrics),
        threshold,
        ending: AtomicBool::new(false),
    });
    let router = routes::router(&service);
    on_ready(Ready { address });
    let ending = || service.ending.store(true, Ordering::Relaxed);
    let cut = runtime.block_on(listen::serve(listener, router, limits, &metrics, stop, &ending));
    engine.end();
    if let Some(nearby) = nearby {
        nearby.end();
    }
    if let Some(look) = look {
        look.end();
    }
    // Runs are saved.
    runs.end();
    // A decoder that does not end is not waited for.
    runtime.shutdown_background();
    Ok(Served { requests: metrics.answered(), images: metrics.images(), cut })
}
