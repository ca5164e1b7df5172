//! `/export`: the file of a model that is served, for other programs.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use headstart::export::onnx;
use headstart::{Error, Model, Result as Done};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{Refusal, with};
use crate::runs::aside;
use crate::service::Service;

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// Which file of which model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    model: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// For ONNX Runtime and others.
    #[default]
    Onnx,
    /// The model file that `headstart predict` reads.
    Safetensors,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::Safetensors => "safetensors",
        }
    }
}

/// A file in a folder that goes away with it, or before it where the system lets files go that are open, so that a process
/// that is killed leaves none.
struct Written {
    file: File,
    length: u64,
    _folder: Option<TempDir>,
    _permit: OwnedSemaphorePermit,
}

fn write(model: &Model, format: Format, permit: OwnedSemaphorePermit) -> Done<Written> {
    let failed = || Error::io("write", std::env::temp_dir());
    let folder = tempfile::tempdir().map_err(failed())?;
    let path = folder.path().join(format!("model.{}", format.ending()));
    match format {
        Format::Onnx => onnx::write(model, None, &path)?,
        Format::Safetensors => model.save(&path)?,
    }
    let file = File::open(&path).map_err(failed())?;
    let length = file.metadata().map_err(failed())?.len();
    let folder = if cfg!(unix) { folder.close().map(|()| None) } else { Ok(Some(folder)) };
    Ok(Written { file, length, _folder: folder.map_err(failed())?, _permit: permit })
}

impl Written {
    /// The next part of it; none after the last.
    fn part(mut self) -> std::io::Result<Option<(Bytes, Written)>> {
        let mut bytes = vec![0; PART];
        let count = self.file.read(&mut bytes)?;
        bytes.truncate(count);
        Ok((count > 0).then(|| (bytes.into(), self)))
    }
}

/// `GET /export?model=NAME&format=onnx`
///
/// # Errors
/// If there is no such model or format, or the file cannot be written.
pub async fn export(
    State(service): State<Arc<Service>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response<Body>, Refusal> {
    let hint = "it may say model, and format as onnx or safetensors";
    let Query(Wanted { model, format }) =
        wanted.map_err(|error| Refusal::bad(error.body_text(), hint))?;
    let served = service.model(model.as_deref())?;
    let name = format!("attachment; filename=\"{}.{}\"", served.name, format.ending());
    let full = |_| Refusal::busy("another model is being exported", 1);
    let permit = Arc::clone(&service.exports).try_acquire_owned().map_err(full)?;
    let written = aside(move || write(&served.model, format, permit)).await?;
    let length = written.length;
    let parts = stream::try_unfold(written, |written| async {
        tokio::task::spawn_blocking(|| written.part()).await.map_err(std::io::Error::other)?
    });
    let mut response = with(StatusCode::OK, "application/octet-stream", Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
