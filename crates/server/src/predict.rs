//! `/predict`: image files as a form or as they are, answered with classes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::future::join_all;
use headstart::export::Prediction;
use headstart::text::of_path;
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, json};
use crate::models::Served;
use crate::service::Service;
use crate::upload::{Failed, Held, read};

/// Classes of an answer where the request does not say how many.
const TOP: usize = 5;
/// The name of an image that has none.
const NAMELESS: &str = "image";

/// What the address may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    model: Option<String>,
    top_k: Option<usize>,
    threshold: Option<f32>,
}

/// The answer for one image.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Known(Prediction),
    Failed {
        image: String,
        error: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        hint: String,
    },
}

/// The answer for all.
#[derive(Serialize)]
struct Lines<'a> {
    model: &'a str,
    model_version: String,
    predictions: Vec<Line>,
}

/// An image file that was sent.
pub struct File {
    /// Its name, as it was sent.
    pub name: String,
    /// Its content.
    pub bytes: Bytes,
}

/// Answers a request.
///
/// # Errors
/// If it cannot be meant, no image of it can be read, or there is too much to do.
pub async fn predict(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let Query(asked) = asked.map_err(|error| {
        Refusal::bad(error.body_text(), "it may say model, top_k and threshold")
    })?;
    let threshold = asked.threshold.unwrap_or(service.threshold);
    if !(0.0..=1.0).contains(&threshold) {
        let message = format!("threshold: expected a probability from 0 to 1, found {threshold}");
        return Err(Refusal::bad(message, ""));
    }
    let served = service.model(asked.model.as_deref())?;
    let kind = Kind::of(&headers)?;
    let limits = &service.limits;
    let (bytes, mut held) = read(body, limits.body, limits.timeout, &service.budget).await?;
    if matches!(kind, Kind::Form(_)) {
        // The form's parts are copies.
        held.grow(bytes.len() as u64)?;
    }
    let files = kind.files(bytes, service.limits.queue).await?;
    let (lines, probabilities) = compute(&service, &served, files, &mut held).await?;
    let mut rows = probabilities.chunks_exact(served.classes().max(1));
    let top = asked.top_k.unwrap_or(TOP);
    let predictions: Vec<Line> = lines
        .into_iter()
        .map(|(image, failed)| match failed {
            None => {
                let choices = served.model.choices(rows.next().unwrap_or_default(), top.max(1));
                Line::Known(Prediction::new(image, choices, threshold))
            }
            Some(error) => {
                let hint = error.hint().unwrap_or_default().to_string();
                Line::Failed { image, error: error.to_string(), hint }
            }
        })
        .collect();
    let (model, model_version) = (served.name.as_str(), served.version.to_string());
    Ok(json(&Lines { model, model_version, predictions }))
}

/// Names of images in order, each with the reason why it cannot be read, if so.
type Named = Vec<(String, Option<headstart::Error>)>;

/// The probabilities of the images that can be read, one row for each; fails if there is none.
async fn compute(
    service: &Service,
    served: &Served,
    files: Vec<File>,
    held: &mut Held,
) -> Result<(Named, Vec<f32>), Refusal> {
    let slot = service.slot(files.len())?;
    held.grow((files.len() * served.image_bytes()) as u64)?;
    let (mut named, mut pixels, mut count) = (Named::new(), Vec::new(), 0);
    let target = served.model.target();
    let mut work = Vec::with_capacity(files.len());
    for File { name, bytes } in &files {
        work.push(service.decoders.decode(target, name, bytes.clone()));
    }
    let decoded = join_all(work).await;
    for (file, decoded) in files.iter().zip(decoded) {
        let error = match decoded {
            Ok(image) => {
                pixels.extend_from_slice(&image);
                count += 1;
                None
            }
            Err(Failed::Image(error)) => Some(error),
            Err(Failed::Busy) => {
                return Err(Refusal::busy("every thread that decodes images is taken", 1));
            }
        };
        named.push((file.name.clone(), error));
    }
    if count == 0 {
        let error = named.into_iter().find_map(|(_, error)| error);
        return Err(match error {
            Some(error) => Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error),
            None => no_image(),
        });
    }
    let probabilities = service.compute(served, pixels, count, slot).await?;
    Ok((named, probabilities))
}

fn no_image() -> Refusal {
    Refusal::bad("body: expected an image, found none", HOW)
}

const HOW: &str =
    "send a form, as curl -F image=@photo.jpg does, or a file with its type, such as image/jpeg";

/// What a body is.
pub enum Kind {
    /// A form with this boundary.
    Form(String),
    /// A file.
    File,
}

impl Kind {
    /// By the headers.
    ///
    /// # Errors
    /// If it is neither.
    pub fn of(headers: &HeaderMap) -> Result<Kind, Refusal> {
        let unsupported = |found: &str| {
            let message = format!("Content-Type: expected a form or an image, found {found}");
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message, HOW)
        };
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(unsupported("a compressed body"));
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let whole = kind.unwrap_or("none");
        let kind = whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "multipart/form-data" => multer::parse_boundary(whole)
                .map(Kind::Form)
                .map_err(|_| unsupported("a form without a boundary")),
            "application/octet-stream" => Ok(Kind::File),
            kind if kind.starts_with("image/") => Ok(Kind::File),
            _ => Err(unsupported(&of_path(whole.as_ref()))),
        }
    }

    /// The files of a body, at least one and at most `most`.
    ///
    /// # Errors
    /// If there are none or more.
    pub async fn files(self, bytes: Bytes, most: usize) -> Result<Vec<File>, Refusal> {
        let boundary = match self {
            Kind::Form(boundary) => boundary,
            Kind::File if bytes.is_empty() => return Err(no_image()),
            Kind::File => return Ok(vec![File { name: NAMELESS.to_string(), bytes }]),
        };
        let broken = |error: multer::Error| Refusal::bad(format!("form: {error}"), HOW);
        let stream = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        let mut form = multer::Multipart::new(stream, boundary);
        let mut files = Vec::new();
        while let Some(field) = form.next_field().await.map_err(broken)? {
            let name = field.file_name().or(field.name()).unwrap_or(NAMELESS).to_string();
            if field.file_name().is_none() && field.name() != Some("image") {
                let message = format!(
                    "form: expected image files, found the field {}",
                    of_path(name.as_ref())
                );
                return Err(Refusal::bad(
                    message,
                    "model, top_k and threshold stand in the address: /predict?top_k=3",
                ));
            }
            files.push(File { name, bytes: field.bytes().await.map_err(broken)? });
            if files.len() > most {
                return Err(Refusal::bad(
                    format!("form: expected at most {most} images, found more"),
                    "send them in several requests, or raise --queue",
                ));
            }
        }
        if files.is_empty() {
            return Err(no_image());
        }
        Ok(files)
    }
}
