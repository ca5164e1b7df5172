//! The Open Inference Protocol, version 2, as KServe and Triton have it.
//!
//! <https://github.com/kserve/open-inference-protocol>, with Triton's extensions for binary tensors, classification and model
//! repositories.

pub mod infer;
mod repository;
mod request;
mod tensor;

pub use infer::infer;
pub use repository::{index, load, put, unload};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json as object;

use crate::answer::{Refusal, json, with};
use crate::models::Served;
use crate::service::Service;

/// The name of a model's input.
pub const INPUT: &str = "image";
/// The name of its output.
pub const OUTPUT: &str = "probabilities";

/// The name in an address, with a version or without.
#[derive(Debug, serde::Deserialize)]
pub struct Named {
    /// The model's.
    pub name: String,
    /// The version, in digits.
    pub version: Option<String>,
}

impl Named {
    /// The model that is meant.
    ///
    /// # Errors
    /// If there is none of that name, or it has another version.
    pub fn find(&self, service: &Service) -> Result<Arc<Served>, Refusal> {
        let served = service.model(Some(&self.name))?;
        match &self.version {
            Some(version) if *version != served.version.to_string() => {
                let message = format!(
                    "version of {}: expected {}, found {version}",
                    served.name, served.version
                );
                let hint = "leave the version out: there is one at a time";
                Err(Refusal::new(StatusCode::NOT_FOUND, message, hint))
            }
            _ => Ok(served),
        }
    }
}

/// `/v2`
pub async fn server() -> Response<Body> {
    json(&object!({
        "name": "headstart",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "classification", "model_configuration", "model_repository"],
    }))
}

/// `/v2/health/live`
pub async fn live() -> Response<Body> {
    with(StatusCode::OK, "application/json", "")
}

/// `/v2/health/ready`: whether every model can be asked.
pub async fn ready(State(service): State<Arc<Service>>) -> Response<Body> {
    let ready = !service.ending.load(Ordering::Relaxed);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    with(status, "application/json", "")
}

/// `/v2/models/NAME/ready`
pub async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Response<Body> {
    let status = match named.find(&service) {
        Ok(_) if service.ending.load(Ordering::Relaxed) => StatusCode::SERVICE_UNAVAILABLE,
        Ok(_) => StatusCode::OK,
        Err(refusal) => refusal.status,
    };
    with(status, "application/json", "")
}

#[derive(Serialize)]
struct Tensor {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<i64>,
}

/// `/v2/models/NAME`
///
/// # Errors
/// If there is no such model.
pub async fn model(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, Refusal> {
    let served = named.find(&service)?;
    Ok(json(&metadata(&served)))
}

/// What is known of a model. The protocol lets servers say more than it names: here the classes, in the order of the output.
fn metadata(served: &Served) -> serde_json::Value {
    let card = &served.model.card;
    let (height, width) = (card.height as i64, card.width as i64);
    let input = Tensor { name: INPUT, datatype: "UINT8", shape: vec![-1, height, width, 3] };
    let output =
        Tensor { name: OUTPUT, datatype: "FP32", shape: vec![-1, served.classes() as i64] };
    object!({
        "name": served.name,
        "versions": [served.version.to_string()],
        "platform": "headstart",
        "inputs": [input],
        "outputs": [output],
        "classes": card.classes,
        "parameters": {"architecture": card.architecture, "temperature": card.temperature.unwrap_or(1.0)},
    })
}

/// `/v2/models/NAME/config`, in Triton's words.
///
/// # Errors
/// If there is no such model.
pub async fn config(
    State(service): State<Arc<Service>>,
    Path(named): Path<Named>,
) -> Result<Response<Body>, Refusal> {
    let served = named.find(&service)?;
    let card = &served.model.card;
    let input = object!({"name": INPUT, "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC",
        "dims": [card.height, card.width, 3]});
    let output = object!({"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [served.classes()]});
    Ok(json(&object!({
        "name": served.name,
        "platform": "headstart",
        "backend": "headstart",
        "max_batch_size": service.limits.queue,
        "input": [input],
        "output": [output],
        "dynamic_batching": {"preferred_batch_size": [service.limits.batch]},
    })))
}
