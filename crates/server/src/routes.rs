//! Which address is answered by what, and what is done around every answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};

use crate::answer::{Refusal, secure, with};
use crate::begin;
use crate::explain::explain;
use crate::export::export;
use crate::look;
use crate::nearby;
use crate::page;
use crate::predict::predict;
use crate::runs;
use crate::service::Service;
use crate::v2;

/// The server's addresses.
pub fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new()
        .route("/", get(page::index))
        .route("/similar", post(nearby::similar))
        .route("/similar/{model}/{at}", get(nearby::picture))
        .route("/look", get(page::look))
        .route("/look/state", get(look::state))
        .route("/look/images", get(look::images))
        .route("/look/picture/{at}", get(look::picture))
        .route("/look/correct", post(look::correct))
        .route("/look/check", post(look::check))
        .route("/begin", get(page::begin))
        .route("/begin/sets", get(begin::sets).post(begin::make))
        .route("/begin/sets/{name}", get(begin::one))
        .route("/begin/sets/{name}/make", post(begin::make_class))
        .route("/begin/sets/{name}/rename", post(begin::rename_class))
        .route("/begin/sets/{name}/remove", post(begin::remove_class))
        .route("/begin/sets/{name}/models", get(begin::models))
        .route("/begin/serve", post(begin::serve))
        .route("/begin/images", get(begin::images).post(begin::put))
        .route("/begin/images/remove", post(begin::remove))
        .route("/begin/picture", get(begin::picture))
        .route("/begin/train", post(begin::train))
        .route("/begin/training", get(begin::training))
        .route("/begin/stop", post(begin::stop))
        .route("/export", get(export))
        .route("/watch", get(page::watch))
        .route("/runs", get(runs::list))
        .route("/runs/{name}", get(runs::one))
        .route("/runs/{name}/events", get(runs::events))
        .route("/runs/{name}/report.html", get(runs::report))
        .route("/runs/{name}/resume", post(runs::resume))
        .route("/runs/{name}/stop", post(runs::stop))
        .route("/compare", get(runs::compare))
        .route("/page/{name}", get(page::file))
        .route("/state", get(page::state))
        .route("/predict", post(predict))
        .route("/explain", post(explain))
        .route("/metrics", get(metrics))
        .route("/v2", get(v2::server))
        .route("/v2/", get(v2::server))
        .route("/v2/health/live", get(v2::live))
        .route("/v2/health/ready", get(v2::ready))
        .route("/v2/models/{name}", get(v2::model).put(v2::put))
        .route("/v2/repository/index", post(v2::index))
        .route("/v2/repository/models/{name}/load", post(v2::load))
        .route("/v2/repository/models/{name}/unload", post(v2::unload))
        .route("/v2/models/{name}/versions/{version}", get(v2::model));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        router = router
            .route(&format!("{model}/ready"), get(v2::model_ready))
            .route(&format!("{model}/config"), get(v2::config))
            .route(&format!("{model}/infer"), post(v2::infer));
    }
    router
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(Arc::clone(service), around))
        .with_state(Arc::clone(service))
}

async fn nothing() -> Refusal {
    let hint =
        "/predict takes images, /v2 is the Open Inference Protocol, /metrics is for Prometheus";
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this address", hint)
}

async fn not_so() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this address takes another method", "")
}

async fn metrics(State(service): State<Arc<Service>>) -> Response<Body> {
    let ready = service.models.list().iter().filter(|model| model.ready).count();
    let text = service.metrics.text(service.engine.waiting(), service.limits.queue, ready);
    with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// The name of an address among what is counted.
fn name_of(path: &str) -> &'static str {
    match path {
        "/predict" => "predict",
        "/explain" => "explain",
        "/similar" => "similar",
        _ if path.starts_with("/similar/") => "similar",
        "/export" => "export",
        "/" | "/watch" | "/look" | "/begin" | "/state" => "page",
        _ if path.starts_with("/begin/") => "begin",
        _ if path.starts_with("/look/") => "look",
        "/runs" | "/compare" => "runs",
        _ if path.starts_with("/runs/") => "runs",
        _ if path.starts_with("/page/") => "page",
        "/metrics" => "metrics",
        _ if path.starts_with("/v2/health/") => "health",
        _ if path.starts_with("/v2/repository/") => "repository",
        _ if path.starts_with("/v2/models/") && path.ends_with("/infer") => "infer",
        _ if path == "/v2" || path.starts_with("/v2/") => "metadata",
        _ => "other",
    }
}

/// Most bytes of what [`refused`] says again.
const SAID: usize = 4096;

/// The answer, but where axum refused an address or its query, with what it said as every other refusal says it.
async fn refused(response: Response<Body>) -> Response<Body> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_text || !response.status().is_client_error() {
        return response;
    }
    let status = response.status();
    let said = to_bytes(response.into_body(), SAID).await.unwrap_or_default();
    Refusal::new(status, String::from_utf8_lossy(&said), "").into_response()
}

/// Lets a request through, or not, and counts it.
async fn around(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let start = Instant::now();
    let route = name_of(request.uri().path());
    let (parts, body) = request.into_parts();
    let mut response = match service.access.check(&parts) {
        Ok(()) => refused(next.run(Request::from_parts(parts, body)).await).await,
        Err(refusal) => refusal.into_response(),
    };
    secure(&mut response);
    if service.ending.load(Ordering::Relaxed) {
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    service.metrics.request(route, response.status().as_u16(), start.elapsed());
    response
}
