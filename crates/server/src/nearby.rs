//! `/similar`: the images of the data set that are most like one that is sent. Their features are computed once for each
//! model, on a thread of its own, the first model's from the start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use headstart::cache::CacheSettings;
use headstart::classify::decoded;
use headstart::dataset::{DataOptions, file_hash};
use headstart::events::Event;
use headstart::gradcam::{png, thumbnail};
use headstart::job::open_with;
use headstart::neighbours::{Neighbours, features};
use headstart::{Control, Device, Error, Result as Done};
use serde::Deserialize;
use serde_json::json as object;

use crate::answer::{Refusal, json, with};
use crate::models::Served;
use crate::predict::{File, Kind};
use crate::service::Service;
use crate::upload::{Failed, read};

/// Images of an answer where the request does not say how many, and at most.
const USUAL: usize = 6;
const MOST: usize = 100;
/// Longer side of a small picture.
const SIDE: usize = 160;
/// Seconds after which to ask again while features are computed.
const AGAIN: u64 = 2;

/// The data set whose images are found, by what each model makes of them.
pub struct Nearby {
    /// As `--data` names it.
    source: String,
    cache: CacheSettings,
    device: Device,
    stop: AtomicBool,
    /// By the model's name and version.
    known: Mutex<BTreeMap<(String, u64), Known>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while features are computed: of one model at a time.
    turn: Mutex<()>,
}

/// What there is for a model.
#[derive(Clone)]
enum Known {
    Computing { done: usize, total: usize },
    Ready(Arc<Neighbours>),
    Failed(String),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nearby {
    /// For the data set of that name; nothing is read yet.
    pub fn new(source: String, cache: CacheSettings, device: Device) -> Arc<Nearby> {
        let (stop, known) = (AtomicBool::new(false), Mutex::default());
        let (threads, turn) = (Mutex::default(), Mutex::default());
        Arc::new(Nearby { source, cache, device, stop, known, threads, turn })
    }

    /// What there is for a model, which is begun if there is nothing yet. Of models that had the name before nothing is kept.
    fn of(self: &Arc<Nearby>, served: &Arc<Served>) -> Known {
        let key = (served.name.clone(), served.version);
        let mut all = locked(&self.known);
        if let Some(known) = all.get(&key) {
            return known.clone();
        }
        all.retain(|(name, _), _| *name != key.0);
        let known = Known::Computing { done: 0, total: 0 };
        all.insert(key.clone(), known.clone());
        drop(all);
        let (own, served) = (Arc::clone(self), Arc::clone(served));
        let work = move || {
            let found = own.compute(&served, &key);
            own.tell(
                &key,
                match found {
                    Ok(Some(found)) => Known::Ready(Arc::new(found)),
                    Ok(None) => Known::Failed("the server is about to end".into()),
                    Err(error) => Known::Failed(error.to_string()),
                },
            );
        };
        match thread::Builder::new().name("features".into()).spawn(work) {
            Ok(thread) => locked(&self.threads).push(thread),
            Err(error) => return Known::Failed(error.to_string()),
        }
        known
    }

    /// Begins with a model, so that nobody waits for it later.
    pub fn begin(self: &Arc<Nearby>, served: &Arc<Served>) {
        self.of(served);
    }

    /// Notes what there is now, unless the name has another model by now.
    fn tell(&self, key: &(String, u64), now: Known) {
        if let Some(known) = locked(&self.known).get_mut(key) {
            *known = now;
        }
    }

    fn compute(&self, served: &Served, key: &(String, u64)) -> Done<Option<Neighbours>> {
        let _turn = locked(&self.turn);
        let least_side = served.model.target().least_side();
        let options = DataOptions { validation_split: 0.0, least_side, ..DataOptions::default() };
        let go_on = || match self.stop.load(Ordering::Relaxed) {
            true => Control::Stop,
            false => Control::Continue,
        };
        let data = open_with(&self.source, &options, &mut |_| go_on())?;
        let mut emit = |event: Event| {
            if let Event::Features { done, total, .. } = event {
                self.tell(key, Known::Computing { done, total });
            }
            Ok(go_on())
        };
        Neighbours::new(&served.model, data, &self.device, &self.cache, &mut emit)
    }

    /// Lets the threads end.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *locked(&self.threads));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// What a model makes of the images.
    ///
    /// # Errors
    /// If it is not there yet, or cannot be had.
    fn ready(self: &Arc<Nearby>, served: &Arc<Served>) -> Result<Arc<Neighbours>, Refusal> {
        match self.of(served) {
            Known::Ready(known) => Ok(known),
            Known::Computing { done, total } => {
                let message = match total {
                    0 => "the data set is being opened".to_string(),
                    _ => format!(
                        "the features of the data set are being computed: {done} of {total} images"
                    ),
                };
                Err(Refusal::busy(message, AGAIN))
            }
            Known::Failed(message) => Err(Refusal::new(StatusCode::CONFLICT, message, "")),
        }
    }
}

/// What the address may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    model: Option<String>,
    count: Option<usize>,
}

fn nearby(service: &Service) -> Result<&Arc<Nearby>, Refusal> {
    let none = || {
        Refusal::new(StatusCode::NOT_FOUND, "this server has no data set", "start it with --data")
    };
    service.nearby.as_ref().ok_or_else(none)
}

/// `POST /similar`: names, classes and similarities of the images most like the one in the body.
///
/// # Errors
/// If there is no data set, its features are not there yet, or the image cannot be read.
pub async fn similar(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let asked =
        asked.map_err(|error| Refusal::bad(error.body_text(), "it may say model and count"));
    let Query(Asked { model, count }) = asked?;
    let served = service.model(model.as_deref())?;
    let known = nearby(&service)?.ready(&served)?;
    let kind = Kind::of(&headers)?;
    let limits = service.limits;
    let (bytes, _held) = read(body, limits.body, limits.timeout, &service.budget).await?;
    let mut files = kind.files(bytes, 1).await?;
    let File { name, bytes } = files.remove(0);
    let _slot = service.slot(1)?;
    let (device, owned, count) =
        (service.device.clone(), name.clone(), count.unwrap_or(USUAL).min(MOST));
    let work = move || {
        let image = decoded(&served.model.target(), &owned, &bytes, limits.pixels)?;
        let own = features(&served.model, &image, &device)?;
        let found = known.nearest(&own, count, Some(&file_hash(&bytes)));
        let rows = found.iter().map(|n| {
            object!({"at": n.image, "image": known.name(n.image), "class": known.class(n.image), "similarity": n.similarity})
        });
        Ok(object!({"model": served.name, "similar": rows.collect::<Vec<_>>()}))
    };
    Ok(json(&done(service.decoders.run(&name, work).await)?))
}

/// `GET /similar/MODEL/AT`: a small picture of an image of the data set.
///
/// # Errors
/// If there is none.
pub async fn picture(
    State(service): State<Arc<Service>>,
    Path((model, at)): Path<(String, usize)>,
) -> Result<Response<Body>, Refusal> {
    let served = service.model(Some(&model))?;
    let known = nearby(&service)?.ready(&served)?;
    let work = move || {
        let (subset, at) = known.place(at)?;
        png(&thumbnail(&subset.image(at)?, SIDE)?)
    };
    let png = done(service.decoders.run(&at.to_string(), work).await)?;
    Ok(with(StatusCode::OK, "image/png", png))
}

fn done<T>(result: Result<T, Failed>) -> Result<T, Refusal> {
    result.map_err(|failed| match failed {
        Failed::Image(error @ Error::Invalid { .. }) => Refusal::of(StatusCode::NOT_FOUND, &error),
        Failed::Image(error) => Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Failed::Busy => Refusal::busy("every thread that decodes images is taken", 1),
    })
}
