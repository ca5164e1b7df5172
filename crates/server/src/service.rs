//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::http::StatusCode;
use headstart::Device;
use headstart::nearest::one_of;
use tokio::sync::Semaphore;

use crate::Limits;
use crate::access::Access;
use crate::answer::Refusal;
use crate::begin::Begin;
use crate::engine::{Engine, NoSlot, Slot};
use crate::look::Look;
use crate::metrics::Metrics;
use crate::models::{Models, Served};
use crate::nearby::Nearby;
use crate::runs::Runs;
use crate::upload::{Budget, Decoders};

/// The server without its sockets.
pub struct Service {
    /// The data set by class.
    pub look: Option<Arc<Look>>,
    /// The data set of which similar images are found.
    pub nearby: Option<Arc<Nearby>>,
    /// Data sets that the page makes, and their training.
    pub begin: Arc<Begin>,
    /// Runs that the page shows.
    pub runs: Arc<Runs>,
    /// How many more may be followed.
    pub followers: Arc<Semaphore>,
    /// How many more models may be exported at once, each of which is in memory as a whole.
    pub exports: Arc<Semaphore>,
    /// Who may ask.
    pub access: Access,
    /// What is served.
    pub models: Arc<Models>,
    /// Where it is computed.
    pub engine: Arc<Engine>,
    /// Where nets run.
    pub device: Device,
    /// Where images are decoded.
    pub decoders: Decoders,
    /// Bytes that all requests may take.
    pub budget: Arc<Budget>,
    /// Limits of one request.
    pub limits: Limits,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The probability below which a prediction is "unknown", where a request does not say another.
    pub threshold: f32,
    /// Whether the server is about to end.
    pub ending: AtomicBool,
}

impl Service {
    /// The model of that name, or the first.
    ///
    /// # Errors
    /// If there is none.
    pub fn model(&self, name: Option<&str>) -> Result<Arc<Served>, Refusal> {
        self.models.get(name).ok_or_else(|| {
            let names: Vec<String> =
                self.models.list().into_iter().filter(|m| m.ready).map(|m| m.name).collect();
            let message = match name {
                Some(name) => format!("model: expected one that is served, found {name}"),
                None => "model: expected the name of one".to_string(),
            };
            let hint = match names.is_empty() {
                true => "none is served yet: /begin makes one".to_string(),
                false => one_of("the models", name.unwrap_or_default(), &names),
            };
            Refusal::new(StatusCode::NOT_FOUND, message, hint)
        })
    }

    /// Room for `count` images.
    ///
    /// # Errors
    /// If there is none.
    pub fn slot(&self, count: usize) -> Result<Slot, Refusal> {
        self.engine.slot(count).map_err(|none| match none {
            NoSlot::Never(most) => {
                let message = format!("images: expected at most {most}, found {count}");
                Refusal::bad(message, "send them in several requests, or raise --queue")
            }
            NoSlot::Later(seconds) => Refusal::busy("too many images wait", seconds),
        })
    }

    /// The probabilities of `count` images at the model's size, `[count, classes]` row-major.
    ///
    /// # Errors
    /// If the net fails.
    pub async fn compute(
        &self,
        served: &Served,
        pixels: Vec<u8>,
        count: usize,
        slot: Slot,
    ) -> Result<Vec<f32>, Refusal> {
        match served.line.add(pixels, count, slot).await {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(message)) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message, "")),
            Err(_) => Err(Refusal::busy("the server is about to end", 1)),
        }
    }
}
