//! What is sent here: its bytes, within limits of size, time and memory, and its images decoded.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use headstart::Error;
use headstart::classify::pixels;
use headstart::image::{Resizer, Target};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Limits;
use crate::answer::Refusal;

/// Bytes that bodies and pixels of all requests may take together.
#[derive(Debug)]
pub struct Budget(AtomicU64);

/// Bytes of the budget, until this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// Of this many bytes.
    pub fn of(bytes: u64) -> Arc<Budget> {
        Arc::new(Budget(AtomicU64::new(bytes)))
    }

    /// None of it.
    pub fn held(self: &Arc<Budget>) -> Held {
        Held { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Held {
    /// Takes this many bytes more.
    ///
    /// # Errors
    /// If there are not so many now.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let less = |free: u64| free.checked_sub(bytes);
        let taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map_err(|_| Refusal::busy("too many bytes of other requests are in memory", 1))?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Most bytes of a request that says what to do with something that is here already, whatever --max-body says.
pub const SHORT: usize = 1000;

/// The whole body of a request, and what it takes of the budget.
///
/// # Errors
/// If it is longer than `most` bytes, comes too slowly, breaks off, or does not fit beside others.
pub async fn read(
    body: Body,
    most: usize,
    time: Duration,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Held), Refusal> {
    let long = || {
        let message = format!("body: expected at most {most} bytes, found more");
        let hint = if most == SHORT { "" } else { "raise --max-body" };
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message, hint)
    };
    let said = body.size_hint();
    if said.lower() > most as u64 {
        return Err(long());
    }
    let mut held = budget.held();
    let mut bytes = Vec::with_capacity(said.upper().unwrap_or(0).min(most as u64) as usize);
    let deadline = Instant::now() + time;
    let mut body = pin!(body);
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| slow(time))? {
        let broken = |_| Refusal::bad("body: it broke off", "");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(long());
        }
        held.grow(data.len() as u64)?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), held))
}

/// A body that did not come in time.
pub fn slow(time: Duration) -> Refusal {
    let message = format!("body: expected all of it within {} seconds", time.as_secs_f64());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, message, "raise --timeout")
}

/// Threads on which images are decoded.
#[derive(Debug)]
pub struct Decoders {
    free: Arc<Semaphore>,
    limits: Limits,
}

impl Decoders {
    /// This many.
    pub fn new(threads: usize, limits: Limits) -> Decoders {
        Decoders { free: Arc::new(Semaphore::new(threads.max(1))), limits }
    }

    /// The bytes of an image file at the model's size; `name` names it in errors. One that takes longer than the limit is
    /// decoded to its end, for nobody, since decoders cannot be stopped; it keeps its thread, and no more than that.
    ///
    /// # Errors
    /// If it is no image that is read, or has too many pixels; if there is no thread for it in time, or it takes too long.
    pub async fn decode(&self, target: Target, name: &str, file: Bytes) -> Result<Vec<u8>, Failed> {
        let (most, owned) = (self.limits.pixels, name.to_string());
        self.run(name, move || pixels(&target, &owned, &file, most, &mut Resizer::new())).await
    }

    /// The same for other work on the image of that name.
    ///
    /// # Errors
    /// As `work`; if there is no thread for it in time, or it takes too long.
    pub async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> headstart::Result<T> + Send + 'static,
    ) -> Result<T, Failed> {
        let time = self.limits.timeout;
        let permit = timeout(time, Arc::clone(&self.free).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Failed::Busy);
        };
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        match timeout(time, work).await {
            Ok(Ok(done)) => done.map_err(Failed::Image),
            Ok(Err(_)) => Err(Failed::Image(self.failed(name, "one that the decoder fails on"))),
            Err(_) => {
                let found = format!("one that takes more than {} seconds", time.as_secs_f64());
                Err(Failed::Image(self.failed(name, &found)))
            }
        }
    }

    fn failed(&self, name: &str, found: &str) -> Error {
        let hint = "open and re-save it with an image program";
        Error::format(name, "an image that is decoded in time", found, hint)
    }
}

/// Why there are no pixels.
#[derive(Debug)]
pub enum Failed {
    /// The image is at fault.
    Image(Error),
    /// There was no thread for it.
    Busy,
}
