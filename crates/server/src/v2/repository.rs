//! Models exchanged while the server runs: `PUT` of a model file, and Triton's model repository.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, HttpBody};
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use headstart::{Control, Error, Model};
use http_body_util::BodyExt;
use serde_json::json as object;
use tokio::time::timeout;

use super::{Named, metadata};
use crate::answer::{Refusal, json};
use crate::models::check_name;
use crate::service::Service;
use crate::upload::slow;

/// `PUT /v2/models/NAME`: the body is a model file. Requests that came before are answered by the model of before.
///
/// # Errors
/// If it is no model file, or is too long.
pub async fn put(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    check_name(&named.name).map_err(|error| Refusal::of(StatusCode::BAD_REQUEST, &error))?;
    let file = receive(body, &service).await?;
    changed(&service, named.name, move |_| {
        let path = file.path().to_path_buf();
        let model = Model::open(&path).map_err(|error| renamed(error, &path));
        drop(file);
        model
    })
    .await
}

/// The error without the name of a file that the caller does not know.
fn renamed(error: Error, path: &std::path::Path) -> Error {
    let body = || PathBuf::from("the body");
    match error {
        Error::Format { path: p, expected, found, hint } if p == path => {
            Error::Format { path: body(), expected, found, hint }
        }
        Error::Io { action, path: p, source } if p == path => {
            Error::Io { action, path: body(), source }
        }
        error => error,
    }
}

/// A body as a file, which goes away.
async fn receive(body: Body, service: &Service) -> Result<tempfile::NamedTempFile, Refusal> {
    let most = service.limits.model;
    let long = || {
        let message = format!("body: expected a model file of at most {most} bytes, found more");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message, "")
    };
    if body.size_hint().lower() > most {
        return Err(long());
    }
    let failed = |error| {
        let error = Error::io("write", std::env::temp_dir())(error);
        Refusal::of(StatusCode::INSUFFICIENT_STORAGE, &error)
    };
    let suffix = ".safetensors";
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().map_err(failed)?;
    let (mut body, mut length) = (pin!(body), 0u64);
    let time = service.limits.timeout;
    // A long file may take long; each part of it must come.
    while let Some(frame) = timeout(time, body.frame()).await.map_err(|_| slow(time))? {
        let broken = |_| Refusal::bad("body: it broke off", "");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length += data.len() as u64;
        if length > most {
            return Err(long());
        }
        file.write_all(&data).map_err(failed)?;
    }
    Ok(file)
}

/// `POST /v2/repository/models/NAME/load`: the model is read again from where it came.
///
/// # Errors
/// If it did not come from a file, or cannot be read.
pub async fn load(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, Refusal> {
    let Some(source) = service.models.source(&named.name) else {
        let message =
            format!("model: expected one that the server was started with, found {}", named.name);
        let hint = "send a model file by PUT /v2/models/NAME";
        return Err(Refusal::new(StatusCode::NOT_FOUND, message, hint));
    };
    changed(&service, named.name, move |_| Ok(source.open(&mut |_| Control::Continue)?.0)).await
}

/// Reads a model on a thread of its own and serves it by that name.
async fn changed(
    service: &Arc<Service>,
    name: String,
    open: impl FnOnce(&str) -> headstart::Result<Model> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    let models = Arc::clone(&service.models);
    let work = tokio::task::spawn_blocking(move || models.read(&name, || open(&name)));
    let served = match work.await {
        Ok(served) => {
            served.map_err(|error| Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error))?
        }
        Err(_) => {
            let message = "the model could not be read";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message, ""));
        }
    };
    service.metrics.changes.fetch_add(1, Ordering::Relaxed);
    Ok(json(&metadata(&served)))
}

/// `POST /v2/repository/models/NAME/unload`
///
/// # Errors
/// If there is no such model.
pub async fn unload(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, Refusal> {
    service.model(Some(&named.name))?;
    if service.models.remove(&named.name) {
        service.metrics.changes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(json(&object!({})))
}

/// `POST /v2/repository/index`
pub async fn index(State(service): State<Arc<Service>>) -> Response<Body> {
    let each = service.models.list().into_iter().map(|model| {
        let state = if model.ready { "READY" } else { "UNAVAILABLE" };
        object!({"name": model.name, "version": model.version.to_string(), "state": state, "reason": ""})
    });
    json(&each.collect::<Vec<_>>())
}
