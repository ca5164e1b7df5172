//! `/explain`: where in an image a model sees a class.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use headstart::classify::decoded;
use headstart::gradcam::{GradCam, overlay, png, thumbnail};
use headstart::image::decode_draft;
use headstart::{Device, Result as Done};
use serde::Deserialize;

use crate::answer::{Refusal, with};
use crate::models::Served;
use crate::predict::{File, Kind};
use crate::service::Service;
use crate::upload::{Failed, read};

/// Longer side of the picture.
const SIDE: usize = 640;

/// What the address may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    model: Option<String>,
    /// A class by its position, from 0; the most probable one where none is said.
    class: Option<usize>,
}

/// Answers with a PNG of the image, with lines around what speaks for the class: Grad-CAM.
///
/// # Errors
/// If it cannot be meant, the image cannot be read, or there is too much to do.
pub async fn explain(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let asked = asked.map_err(|error| {
        Refusal::bad(error.body_text(), "it may say model and class, the position of one")
    });
    let Query(Asked { model, class }) = asked?;
    let served = service.model(model.as_deref())?;
    if let Some(class) = class.filter(|&class| class >= served.classes()) {
        let message = format!("class: expected below {}, found {class}", served.classes());
        return Err(Refusal::bad(message, ""));
    }
    let kind = Kind::of(&headers)?;
    let limits = service.limits;
    let (bytes, _held) = read(body, limits.body, limits.timeout, &service.budget).await?;
    let mut files = kind.files(bytes, 1).await?;
    let File { name, bytes } = files.remove(0);
    let _slot = service.slot(1)?;
    let (device, owned) = (service.device.clone(), name.clone());
    let work = move || picture(&served, &device, &owned, &bytes, class, limits.pixels);
    match service.decoders.run(&name, work).await {
        Ok(png) => Ok(with(StatusCode::OK, "image/png", png)),
        Err(Failed::Image(error)) => Err(Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, &error)),
        Err(Failed::Busy) => Err(Refusal::busy("every thread that decodes images is taken", 1)),
    }
}

fn picture(
    served: &Served,
    device: &Device,
    name: &str,
    file: &Bytes,
    class: Option<usize>,
    most: usize,
) -> Done<Vec<u8>> {
    let seen = decoded(&served.model.target(), name, file, most)?;
    let mut kept = served.cam.lock().unwrap_or_else(PoisonError::into_inner);
    // Taken out, so that one that panics is not kept.
    let mut cam = match kept.take() {
        Some(cam) => cam,
        None => GradCam::new(&served.model, device)?,
    };
    let heats = cam.look(&seen, &[class]);
    *kept = Some(cam);
    drop(kept);
    let image = thumbnail(&decode_draft(name, file, SIDE)?, SIDE)?;
    let heat = heats?.remove(0);
    png(&overlay(&image, &heat))
}
