//! `/v2/models/NAME/infer`

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use serde::Serialize;

use super::request::{JSON_LENGTH, Request, Wanted};
use super::{Named, OUTPUT};
use crate::answer::{self, Refusal};
use crate::models::Served;
use crate::service::Service;
use crate::upload::read;

#[derive(Serialize)]
struct Whole<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<Output>,
}

#[derive(Serialize)]
struct Output {
    name: &'static str,
    datatype: &'static str,
    shape: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Numbers(Vec<f32>),
    Lines(Vec<String>),
}

/// Answers an inference request.
///
/// # Errors
/// If it is not what the model takes, or there is too much to do.
pub async fn infer(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let served = named.find(&service)?;
    if headers.contains_key(header::CONTENT_ENCODING) {
        let message = "Content-Encoding: expected none, found one";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message, ""));
    }
    let json = match headers.get(JSON_LENGTH) {
        None => None,
        Some(text) => {
            Some(text.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
                Refusal::bad("Inference-Header-Content-Length: expected a number of bytes", "")
            })?)
        }
    };
    let limits = &service.limits;
    let (body, mut held) = read(body, limits.body, limits.timeout, &service.budget).await?;
    // The pixels are a copy.
    held.grow(body.len() as u64)?;
    let Request { id, pixels, count, outputs } = Request::read(&body, json, &served)?;
    drop(body);
    let slot = service.slot(count)?;
    let values = service.compute(&served, pixels, count, slot).await?;
    write(&served, id, &outputs, count, &values)
}

/// The answer: JSON, and after it the outputs that are wanted as bytes.
fn write(
    served: &Served,
    id: Option<String>,
    wanted: &[Wanted],
    count: usize,
    values: &[f32],
) -> Result<Response<Body>, Refusal> {
    let (mut outputs, mut bytes) = (Vec::new(), Vec::new());
    for &Wanted { binary, classes } in wanted {
        let data = match classes {
            None => Data::Numbers(values.to_vec()),
            Some(most) => Data::Lines(lines(served, values, most)),
        };
        let (datatype, length) = match &data {
            Data::Numbers(values) => ("FP32", values.len()),
            Data::Lines(lines) => ("BYTES", lines.len()),
        };
        let before = bytes.len();
        if binary {
            data.write(&mut bytes);
        }
        let parameters = binary.then(|| Size { binary_data_size: bytes.len() - before });
        let shape = [count, length / count.max(1)];
        let data = (!binary).then_some(data);
        outputs.push(Output { name: OUTPUT, datatype, shape, parameters, data });
    }
    let (model_name, model_version) = (served.name.as_str(), served.version.to_string());
    let whole = Whole { model_name, model_version, id, outputs };
    if bytes.is_empty() {
        return Ok(answer::json(&whole));
    }
    let failed = |error: serde_json::Error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "")
    };
    let mut body = answer::text(&whole).map_err(failed)?.into_bytes();
    let length = body.len();
    body.append(&mut bytes);
    let mut response = answer::with(StatusCode::OK, "application/octet-stream", body);
    response.headers_mut().insert(HeaderName::from_static(JSON_LENGTH), length.into());
    Ok(response)
}

impl Data {
    /// As bytes: numbers in little-endian order, lines each after its length.
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Data::Numbers(values) => {
                values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            }
            Data::Lines(lines) => {
                for line in lines {
                    bytes.extend_from_slice(&(line.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(line.as_bytes());
                }
            }
        }
    }
}

/// The `most` most probable classes of each image as `probability:index:class`.
fn lines(served: &Served, values: &[f32], most: usize) -> Vec<String> {
    let rows = values.chunks_exact(served.classes().max(1));
    let choices = rows.flat_map(|row| served.model.choices(row, most));
    choices.map(|c| format!("{:.6}:{}:{}", c.probability, c.index, c.class)).collect()
}
