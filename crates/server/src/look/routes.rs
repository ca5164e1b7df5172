//! `/look/`: what the page asks of the data set.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Response, StatusCode};
use headstart::Error;
use headstart::gradcam::{png, thumbnail};
use headstart::image::Rgb8;
use serde::Deserialize;
use serde_json::json as object;

use super::checks::KINDS;
use super::{Correction, Look, Opened, Shown, locked};
use crate::answer::{Refusal, json, with};
use crate::runs::aside;
use crate::service::Service;
use crate::upload::{Failed, SHORT, read};

/// Images of a list at most.
const MOST: usize = 200;
/// Longer side of a small picture.
const SIDE: usize = 160;

fn look(service: &Service) -> Result<&Arc<Look>, Refusal> {
    let none = || {
        Refusal::new(StatusCode::NOT_FOUND, "this server has no data set", "start it with --data")
    };
    service.look.as_ref().ok_or_else(none)
}

fn opened(look: &Look) -> Result<Arc<Opened>, Refusal> {
    match &locked(&look.state).opened {
        Some(Ok(opened)) => Ok(Arc::clone(opened)),
        Some(Err(message)) => Err(Refusal::new(StatusCode::CONFLICT, message, "")),
        None => Err(Refusal::busy("the data set is being opened", 1)),
    }
}

/// `GET /look/state`: classes with their numbers of images, findings, corrections, and the check of labels.
///
/// # Errors
/// If there is no data set, or it is not open.
pub async fn state(State(service): State<Arc<Service>>) -> Result<Response<Body>, Refusal> {
    let look = Arc::clone(look(&service)?);
    let own = Arc::clone(&look);
    aside(move || {
        own.follow();
        Ok(())
    })
    .await?;
    let opened = opened(&look)?;
    look.begin_looking(&opened);
    let found = aside(move || {
        let (table, labels) = opened.corrected()?;
        let mut counts = vec![0; opened.data.classes.len()];
        labels.iter().flatten().for_each(|&label| counts[label] += 1);
        let classes = opened.data.classes.iter().zip(counts);
        let classes: Vec<_> =
            classes.map(|(name, count)| object!({"name": name, "count": count})).collect();
        let (found, looked) = {
            let state = locked(&look.state);
            let count =
                |kind: &&str| object!({"kind": kind, "count": state.of_kind(kind, &labels).len()});
            (KINDS.iter().map(count).collect::<Vec<_>>(), state.looked)
        };
        let corrections = table.as_ref().map(|table| table.rows().count());
        Ok(
            object!({"name": opened.data.name, "images": labels.iter().flatten().count(), "classes": classes, "found": found,
            "looked": [looked.0, looked.1], "corrections": corrections, "check": look.checked()}),
        )
    });
    Ok(json(&found.await?))
}

/// Which images.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Of this class, by its position.
    class: Option<usize>,
    /// Of this kind of finding, or "corrected".
    kind: Option<String>,
    #[serde(default)]
    from: usize,
    count: Option<usize>,
}

/// `GET /look/images`: a part of the images of a class or kind.
///
/// # Errors
/// If there is no data set, or the request cannot be meant.
pub async fn images(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response<Body>, Refusal> {
    let Query(asked) =
        asked.map_err(|e| Refusal::bad(e.body_text(), "it may say class, kind, from and count"))?;
    let look = Arc::clone(look(&service)?);
    let opened = opened(&look)?;
    let found = aside(move || {
        let (_, labels) = opened.corrected()?;
        let (folders, check) = (opened.labels(), look.checked());
        let all: Vec<usize> = match asked.kind.as_deref() {
            Some("corrected") => {
                (0..labels.len()).filter(|&i| labels[i] != Some(folders[i])).collect()
            }
            Some(kind) => locked(&look.state).of_kind(kind, &labels),
            None => (0..labels.len()).collect(),
        };
        let own = |i: &usize| asked.class.is_none_or(|class| labels[*i] == Some(class));
        let all: Vec<usize> = all.into_iter().filter(own).collect();
        let most = asked.count.unwrap_or(MOST).min(MOST);
        let part = all.iter().skip(asked.from).take(most).map(|&at| {
            let (split, _, _) = opened.place(at)?;
            let suggested = check.suggested.get(&at);
            Ok(Shown {
                at,
                name: opened.names[at].clone(),
                split,
                folder: folders[at],
                class: labels[at],
                suggested: suggested.map(|s| s.0),
                probability: suggested.map(|s| s.1),
            })
        });
        let part: headstart::Result<Vec<Shown>> = part.collect();
        Ok(object!({"total": all.len(), "images": part?}))
    });
    Ok(json(&found.await?))
}

/// `GET /look/picture/AT`: a small picture.
///
/// # Errors
/// If there is none, or it cannot be decoded.
pub async fn picture(
    State(service): State<Arc<Service>>,
    Path(at): Path<usize>,
) -> Result<Response<Body>, Refusal> {
    let opened = opened(look(&service)?)?;
    let work = move || {
        let (_, subset, i) = opened.place(at)?;
        small(&subset.image(i)?)
    };
    match service.decoders.run(&at.to_string(), work).await {
        Ok(png) => Ok(with(StatusCode::OK, "image/png", png)),
        Err(Failed::Image(error @ Error::Invalid { .. })) => {
            Err(Refusal::of(StatusCode::NOT_FOUND, &error))
        }
        Err(Failed::Image(error)) => Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error)),
        Err(Failed::Busy) => Err(Refusal::busy("every thread that decodes images is taken", 1)),
    }
}

/// A small picture of an image, as PNG.
///
/// # Errors
/// If it cannot be resized.
pub fn small(image: &Rgb8<'_>) -> headstart::Result<Vec<u8>> {
    png(&thumbnail(image, SIDE)?)
}

/// What is said of an image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    image: usize,
    /// The image's name, where the caller knows it: positions change with the folder.
    #[serde(default)]
    name: String,
    /// Its class, by its position.
    class: Option<usize>,
    #[serde(default)]
    leave_out: bool,
    #[serde(default)]
    undo: bool,
}

/// `POST /look/correct`
///
/// # Errors
/// If the body cannot be meant, or the table cannot be written.
pub async fn correct(
    State(service): State<Arc<Service>>,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let look = Arc::clone(look(&service)?);
    let opened = opened(&look)?;
    let (bytes, _held) = read(body, SHORT, service.limits.timeout, &service.budget).await?;
    let said: Said = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad(format!("body: {error}"), ""))?;
    let what = match (said.class, said.leave_out, said.undo) {
        (Some(class), false, false) => Correction::Class(class),
        (None, true, false) => Correction::LeaveOut,
        (None, false, true) => Correction::Undo,
        _ => return Err(Refusal::bad("body: expected one of class, leave_out and undo", "")),
    };
    aside(move || look.correct(&opened, said.image, &said.name, &what)).await?;
    Ok(json(&object!({})))
}

/// What a check is made with.
#[derive(Debug, Deserialize)]
pub struct With {
    model: Option<String>,
}

/// `POST /look/check`: fits heads over a model's features to the labels as they are now, on images that each has not seen.
///
/// # Errors
/// If there is no data set or model, or one runs already.
pub async fn check(
    State(service): State<Arc<Service>>,
    Query(With { model }): Query<With>,
) -> Result<Response<Body>, Refusal> {
    let look = look(&service)?;
    let (opened, served) = (opened(look)?, service.model(model.as_deref())?);
    look.begin_check(&opened, &served)?;
    Ok(json(&object!({})))
}
