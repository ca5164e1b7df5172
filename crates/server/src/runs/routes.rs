//! `/runs`: what the page asks of runs.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use headstart::Error;
use headstart::compare;
use headstart::config::TrainConfig;
use headstart::metrics::Report;
use headstart::page::{PAGE, has_page};
use headstart::run_folder::ask_to_stop;
use serde::Deserialize;
use serde_json::json as object;

use super::tail::stream;
use super::{State as Now, state};
use crate::answer::{Refusal, json, with};
use crate::service::Service;

/// Most runs side by side.
const BESIDE: usize = 8;
/// Longest report.html.
const LONGEST: u64 = 256 << 20;
/// A report is a page without scripts, whatever a run's folder holds.
const POLICY: &str =
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

fn find(service: &Service, name: &str) -> Result<PathBuf, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is no run of that name", "");
    service.runs.find(name).ok_or_else(missing)
}

/// Work on files, on a thread for it.
///
/// # Errors
/// As the work.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> headstart::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |text: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text, "");
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| failed(e.to_string()))?;
    done.map_err(|error| Refusal::of(status(&error), &error))
}

/// The code of an answer for an error: whether the request is at fault, or this machine.
pub fn status(error: &Error) -> StatusCode {
    match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        Error::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// `GET /runs`
///
/// # Errors
/// If the folder cannot be read.
pub async fn list(State(service): State<Arc<Service>>) -> Result<Response<Body>, Refusal> {
    let runs = Arc::clone(&service.runs);
    let (there, rows) = aside(move || Ok((runs.is_there(), runs.list()?))).await?;
    Ok(json(&object!({"there": there, "runs": rows})))
}

/// `GET /runs/NAME`: settings and report.
///
/// # Errors
/// If there is no such run.
pub async fn one(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let path = find(&service, &name)?;
    let found = aside(move || {
        let config = TrainConfig::of_run(&path).ok();
        let planned = config.map(|config| config.planned_epochs());
        let report = path.join("report.json");
        let report = report.exists().then(|| Report::read(&report)).transpose()?;
        let report = report.map(|report| {
            object!({"split": report.split, "loss": report.loss, "accuracy": report.accuracy, "top5": report.top5,
                "samples": report.samples, "classes": report.classes, "confusion": report.confusion_matrix})
        });
        Ok(
            object!({"state": state(&path), "page": has_page(&path), "planned": planned, "report": report}),
        )
    });
    Ok(json(&found.await?))
}

/// `GET /runs/NAME/events`: events.jsonl from its beginning and as it grows, as server-sent events.
///
/// # Errors
/// If there is no such run, or too many are followed.
pub async fn events(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let path = find(&service, &name)?;
    let full = |_| Refusal::busy("too many pages follow runs", 5);
    let permit = Arc::clone(&service.followers).try_acquire_owned().map_err(full)?;
    let body = Body::from_stream(stream(&path, Arc::clone(&service), permit));
    Ok(with(StatusCode::OK, "text/event-stream", body))
}

/// `GET /runs/NAME/report.html`
///
/// # Errors
/// If there is none.
pub async fn report(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let path = find(&service, &name)?.join(PAGE);
    let bytes = aside(move || {
        let failed = headstart::Error::io("read", &path);
        let length = std::fs::metadata(&path).map_err(headstart::Error::io("read", &path))?.len();
        if length > LONGEST {
            let found = format!("{length} bytes");
            return Err(headstart::Error::format(&path, "a report", found, ""));
        }
        std::fs::read(&path).map_err(failed)
    });
    let mut response = with(StatusCode::OK, "text/html; charset=utf-8", bytes.await?);
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// What is to be compared.
#[derive(Debug, Deserialize)]
pub struct Beside {
    /// A list of names, as JSON.
    names: String,
}

/// `GET /compare?names=[...]`: the settings that differ, and figures.
///
/// # Errors
/// If one of them is no run, or has no settings and results.
pub async fn compare(
    State(service): State<Arc<Service>>,
    beside: Result<Query<Beside>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Refusal> {
    let list =
        || Refusal::bad(format!("names: expected a list of 2 to {BESIDE} names as JSON"), "");
    let Query(Beside { names }) = beside.map_err(|_| list())?;
    let names: Vec<String> = serde_json::from_str(&names).map_err(|_| list())?;
    if !(2..=BESIDE).contains(&names.len()) {
        return Err(list());
    }
    let paths: Result<Vec<_>, _> = names.iter().map(|name| find(&service, name)).collect();
    let paths = paths?;
    let compared = aside(move || {
        let runs: headstart::Result<Vec<_>> = paths.iter().map(compare::read).collect();
        Ok(compare::compare(runs?))
    });
    let compared = compared.await?;
    let rows =
        compared.differences.iter().map(|d| object!({"setting": d.setting, "values": d.values}));
    let figures = compared.runs.iter().zip(&names).map(|(run, name)| {
        object!({"name": name, "epochs": run.epochs, "seconds": run.seconds, "best": run.best, "report": run.report})
    });
    Ok(json(&object!({
        "runs": figures.collect::<Vec<_>>(), "differences": rows.collect::<Vec<_>>(),
    })))
}

/// `POST /runs/NAME/resume`: this server resumes it.
///
/// # Errors
/// If it is not one that was stopped.
pub async fn resume(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let path = find(&service, &name)?;
    if state(&path) != Now::Stopped {
        let message = "run: expected one that was stopped, found another";
        return Err(Refusal::new(StatusCode::CONFLICT, message, ""));
    }
    let runs = Arc::clone(&service.runs);
    aside(move || runs.resume(&name, path)).await?;
    Ok(json(&object!({})))
}

/// `POST /runs/NAME/stop`
///
/// # Errors
/// If no process does it.
pub async fn stop(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Response<Body>, Refusal> {
    let path = find(&service, &name)?;
    if !service.runs.stop(&name) {
        let asked = tokio::task::spawn_blocking(move || ask_to_stop(path)).await;
        let failed = |text: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text, "");
        let asked = asked.map_err(|error| failed(error.to_string()))?;
        asked.map_err(|error| Refusal::of(StatusCode::CONFLICT, &error))?;
    }
    Ok(json(&object!({})))
}
