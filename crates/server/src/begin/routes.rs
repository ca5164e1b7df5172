//! `/begin/`: what the page asks to make and to train.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode};
use headstart::hub::sources;
use headstart::image::{decode, header};
use headstart::recipe::start;
use headstart::resnet::Recipe;
use headstart::summary::grouped;
use headstart::{Error, range};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json as object;

use super::train::Wish;
use super::{Begin, Training, made, sets::Sets};
use crate::answer::{Refusal, json, with};
use crate::look::small;
use crate::runs::{State as Now, aside, state, status};
use crate::service::Service;
use crate::upload::{Failed, SHORT, read};

/// Images of a list, unless another number is asked for, and at most.
const SOME: usize = 200;
const MOST: usize = 100_000;

/// A data set, and what of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    set: String,
    class: String,
    /// The file's name where it came from; or that of an image.
    #[serde(default)]
    file: String,
    count: Option<usize>,
}

type Asked = Result<Query<Place>, QueryRejection>;

fn place(asked: Asked) -> Result<Place, Refusal> {
    let hint = "it says set and class, and may say file and count";
    Ok(asked.map_err(|error| Refusal::bad(error.body_text(), hint))?.0)
}

/// A small body as JSON.
async fn wish<T: DeserializeOwned>(service: &Service, body: Body) -> Result<T, Refusal> {
    let (bytes, _held) = read(body, SHORT, service.limits.timeout, &service.budget).await?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal::bad(format!("body: {error}"), ""))
}

/// Work on the data sets, on a thread for it.
async fn on<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&Sets) -> headstart::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let begin: Arc<Begin> = Arc::clone(&service.begin);
    aside(move || work(&begin.sets)).await
}

/// Fails while a training reads that data set: nothing of it may go away.
fn is_free(service: &Service, set: &str) -> Result<(), Refusal> {
    match &*service.begin.training() {
        Some(training) if training.running && training.set == set => {
            let message = format!("{} learns from {set} now", training.run);
            Err(Refusal::new(StatusCode::CONFLICT, message, "wait for its end, or stop it"))
        }
        _ => Ok(()),
    }
}

/// `GET /begin/sets`: the data sets, and the nets that can learn them.
///
/// # Errors
/// If a folder cannot be read.
pub async fn sets(State(service): State<Arc<Service>>) -> Result<Response<Body>, Refusal> {
    let (root, names) = on(&service, |sets| Ok((sets.root().to_path_buf(), sets.names()?))).await?;
    // Those that have weights to start from.
    let nets: Vec<_> = Recipe::names()
        .filter(|name| {
            let weights = start("", Some(name)).weights;
            !sources::is_variant(&weights) || sources::weights(name, &weights, false).is_ok()
        })
        .collect();
    Ok(json(&object!({"folder": root.display().to_string(), "sets": names, "nets": nets})))
}

/// What is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

/// `POST /begin/sets`: a new data set.
///
/// # Errors
/// If it has no name that it can have.
pub async fn make(
    State(service): State<Arc<Service>>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let Name { name } = wish(&service, body).await?;
    on(&service, move |sets| sets.make(&name)).await?;
    Ok(json(&object!({})))
}

/// `GET /begin/sets/NAME`: its classes with their numbers of images.
///
/// # Errors
/// If there is no such one.
pub async fn one(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    Ok(json(&on(&service, move |sets| sets.one(&name)).await?))
}

/// `GET /begin/sets/NAME/models`: the finished runs over it, the latest first.
///
/// # Errors
/// If there is no such one.
pub async fn models(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let (runs, models) = (Arc::clone(&service.runs), Arc::clone(&service.models));
    let found = on(&service, move |sets| made::of(&sets.folder(&name)?, &runs, &models)).await?;
    Ok(json(&object!({"models": found})))
}

/// A finished run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Served {
    run: String,
}

/// `POST /begin/serve`: serves the model of a finished run by the run's name.
///
/// # Errors
/// If there is none, or another model has the name.
pub async fn serve(
    State(service): State<Arc<Service>>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let Served { run } = wish(&service, body).await?;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is no run of that name", "");
    let path = service.runs.find(&run).ok_or_else(missing)?;
    if state(&path) != Now::Finished {
        let message = format!("{run} is not finished");
        return Err(Refusal::new(StatusCode::CONFLICT, message, "resume it, or wait for its end"));
    }
    let models = Arc::clone(&service.models);
    aside(move || made::serve(&run, &path, &models)).await?;
    Ok(json(&object!({})))
}

/// A class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfClass {
    class: String,
    /// Its new name.
    #[serde(default)]
    to: String,
}

/// `POST /begin/sets/NAME/make`: a new class.
///
/// # Errors
/// If it has no name that it can have.
pub async fn make_class(
    State(service): State<Arc<Service>>,
    Path(set): Path<String>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let OfClass { class, .. } = wish(&service, body).await?;
    on(&service, move |sets| sets.make_class(&set, &class)).await?;
    Ok(json(&object!({})))
}

/// `POST /begin/sets/NAME/rename`: another name for a class.
///
/// # Errors
/// If there is no such class, or it cannot have that name.
pub async fn rename_class(
    State(service): State<Arc<Service>>,
    Path(set): Path<String>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let OfClass { class, to } = wish(&service, body).await?;
    is_free(&service, &set)?;
    on(&service, move |sets| sets.rename_class(&set, &class, &to)).await?;
    Ok(json(&object!({})))
}

/// `POST /begin/sets/NAME/remove`: a class goes, with its images.
///
/// # Errors
/// If there is no such class.
pub async fn remove_class(
    State(service): State<Arc<Service>>,
    Path(set): Path<String>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let OfClass { class, .. } = wish(&service, body).await?;
    is_free(&service, &set)?;
    on(&service, move |sets| sets.remove_class(&set, &class)).await?;
    Ok(json(&object!({})))
}

/// `GET /begin/images?set=NAME&class=NAME`: names of images, the latest first.
///
/// # Errors
/// If there is no such class.
pub async fn images(
    State(service): State<Arc<Service>>,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let Place { set, class, count, .. } = place(asked)?;
    let most = count.unwrap_or(SOME).min(MOST);
    let (total, files) = on(&service, move |sets| sets.images(&set, &class, most)).await?;
    Ok(json(&object!({"total": total, "files": files})))
}

/// `POST /begin/images?set=NAME&class=NAME&file=NAME`: the body is an image, which is decoded before it is kept.
///
/// # Errors
/// If it is no image that is read, has too many pixels, or there is no such class.
pub async fn put(
    State(service): State<Arc<Service>>,
    asked: Asked,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let Place { set, class, file, .. } = place(asked)?;
    let (bytes, _held) =
        read(body, service.limits.body, service.limits.timeout, &service.budget).await?;
    let (most, begin) = (service.limits.pixels, Arc::clone(&service.begin));
    let name = if file.is_empty() { "image".to_string() } else { file };
    let owned = name.clone();
    let work = move || {
        let head = header(&owned, &bytes)?;
        if head.width.saturating_mul(head.height) > most {
            let expected = format!("an image of at most {} pixels", grouped(most));
            let found = format!("{}x{}", head.width, head.height);
            let hint = "make it smaller, or raise --max-pixels";
            return Err(Error::format(&owned, expected, found, hint));
        }
        decode(&owned, &bytes)?;
        begin.sets.add(&set, &class, head.format, &bytes)
    };
    match service.decoders.run(&name, work).await {
        Ok(added) => Ok(json(&added)),
        Err(Failed::Image(error)) => Err(Refusal::of(status(&error), &error)),
        Err(Failed::Busy) => Err(Refusal::busy("every thread that decodes images is taken", 1)),
    }
}

/// `GET /begin/picture?set=NAME&class=NAME&file=NAME`: a small picture.
///
/// # Errors
/// If there is none, or it cannot be decoded.
pub async fn picture(
    State(service): State<Arc<Service>>,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let Place { set, class, file, .. } = place(asked)?;
    let (begin, name) = (Arc::clone(&service.begin), file.clone());
    let work = move || small(&headstart::image::open(begin.sets.image(&set, &class, &file)?)?);
    match service.decoders.run(&name, work).await {
        Ok(png) => Ok(with(StatusCode::OK, "image/png", png)),
        Err(Failed::Image(error @ Error::Invalid { .. })) => {
            Err(Refusal::of(StatusCode::NOT_FOUND, &error))
        }
        Err(Failed::Image(error)) => Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error)),
        Err(Failed::Busy) => Err(Refusal::busy("every thread that decodes images is taken", 1)),
    }
}

/// `POST /begin/images/remove?set=NAME&class=NAME&file=NAME`: an image goes.
///
/// # Errors
/// If there is none.
pub async fn remove(
    State(service): State<Arc<Service>>,
    asked: Asked,
) -> Result<Response<Body>, Refusal> {
    let Place { set, class, file, .. } = place(asked)?;
    is_free(&service, &set)?;
    on(&service, move |sets| sets.remove(&set, &class, &file)).await?;
    Ok(json(&object!({})))
}

/// What is to be trained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    set: String,
    net: String,
    /// None for a head alone.
    minutes: Option<u64>,
}

/// `POST /begin/train`: trains, and serves the model by the data set's name at the end.
///
/// # Errors
/// If there is nothing to train, or another training goes on.
pub async fn train(
    State(service): State<Arc<Service>>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let Train { set, net, minutes } = wish(&service, body).await?;
    let refused = |error: Error| Refusal::of(StatusCode::BAD_REQUEST, &error);
    Recipe::named(&net).map_err(refused)?;
    let seconds = minutes.map(|minutes| minutes.saturating_mul(60));
    seconds.map_or(Ok(()), |seconds| range::BUDGET.check(seconds)).map_err(refused)?;
    let budget = seconds.map(Duration::from_secs);
    let wish = Wish { set, net, budget };
    let (begin, runs, models) =
        (Arc::clone(&service.begin), Arc::clone(&service.runs), Arc::clone(&service.models));
    let begun = tokio::task::spawn_blocking(move || begin.start(wish, &runs, &models)).await;
    let failed = |error: tokio::task::JoinError| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "")
    };
    Ok(json(&object!({"run": begun.map_err(failed)??})))
}

/// A training.
#[derive(Debug, Serialize)]
struct Latest {
    #[serde(flatten)]
    training: Training,
    /// What became of its run, once it has ended; none where there is no run.
    state: Option<Now>,
}

/// `GET /begin/training`: the latest training, if there was one, and what became of its run since.
pub async fn training(State(service): State<Arc<Service>>) -> Response<Body> {
    let training = service.begin.training().clone();
    let run = training.as_ref().filter(|training| !training.running);
    let state = run.and_then(|training| service.runs.find(&training.run)).map(|path| state(&path));
    let Some(training) = training else { return json(&None::<()>) };
    json(&Latest { training, state })
}

/// `POST /begin/stop`: the training stops and is saved, as far as it is.
///
/// # Errors
/// If none goes on.
pub async fn stop(State(service): State<Arc<Service>>) -> Result<Response<Body>, Refusal> {
    let run = service.begin.training().as_ref().map(|training| training.run.clone());
    match run.is_some_and(|run| service.runs.stop(&run)) {
        true => Ok(json(&object!({}))),
        false => Err(Refusal::new(StatusCode::CONFLICT, "no training goes on", "")),
    }
}
