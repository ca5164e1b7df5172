//! The page: its files are inside the program, and name nothing outside of it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json as object;

use crate::answer::{Refusal, json, with};
use crate::service::Service;

/// What a page may do: use this server's own files, and show what the visitor gives it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Of a visitor's devices, the camera alone.
const DEVICES: &str = "camera=(self), microphone=(), geolocation=()";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, kind and content of each file.
const FILES: [(&str, &str, &str); 9] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
    ("ask.js", SCRIPT, include_str!("../page/ask.js")),
    ("begin.js", SCRIPT, include_str!("../page/begin.js")),
    ("camera.js", SCRIPT, include_str!("../page/camera.js")),
    ("chart.js", SCRIPT, include_str!("../page/chart.js")),
    ("look.js", SCRIPT, include_str!("../page/look.js")),
    ("try.js", SCRIPT, include_str!("../page/try.js")),
    ("watch.js", SCRIPT, include_str!("../page/watch.js")),
];

/// `/`
pub async fn index() -> Response<Body> {
    page(include_str!("../page/try.html"))
}

/// `/watch`
pub async fn watch() -> Response<Body> {
    page(include_str!("../page/watch.html"))
}

/// `/look`
pub async fn look() -> Response<Body> {
    page(include_str!("../page/look.html"))
}

/// `/begin`
pub async fn begin() -> Response<Body> {
    page(include_str!("../page/begin.html"))
}

fn page(html: &'static str) -> Response<Body> {
    let mut response = with(StatusCode::OK, HTML, html);
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("permissions-policy"), DEVICES),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `/page/NAME`
///
/// # Errors
/// If there is no such file.
pub async fn file(Path(name): Path<String>) -> Result<Response<Body>, Refusal> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is no such file of the page", "");
    found.map(|&(_, kind, text)| with(StatusCode::OK, kind, text)).ok_or_else(missing)
}

/// `/state`: what the page needs to know first.
pub async fn state(State(service): State<Arc<Service>>) -> Response<Body> {
    let names = service.models.list().into_iter().filter(|model| model.ready);
    let served = names.filter_map(|model| service.models.get(Some(&model.name)));
    let first = service.models.get(None).map(|first| first.name.clone());
    let mut models: Vec<_> = served.collect();
    // The one that is meant where none is named stands first.
    models.sort_by_key(|model| first.as_ref() != Some(&model.name));
    let models = models.iter().map(|served| {
        let card = &served.model.card;
        object!({"name": served.name, "classes": card.classes, "height": card.height, "width": card.width,
            "architecture": card.architecture})
    });
    json(&object!({"models": models.collect::<Vec<_>>(), "threshold": service.threshold,
        "data": service.nearby.is_some()}))
}
