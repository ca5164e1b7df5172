//! Waiting for the network on the caller's thread, which is asked several times a second whether to go on.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use headstart::{Control, Error, Result};
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

/// How often the caller is asked.
const POLL: Duration = Duration::from_millis(100);

/// What `future` comes to.
///
/// # Errors
/// [`Error::Stopped`].
pub fn drive<T>(
    runtime: &Runtime,
    future: impl Future<Output = T>,
    tell: &mut dyn FnMut() -> Control,
) -> Result<T> {
    runtime.block_on(async {
        let mut future = pin!(future);
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => if tell() == Control::Stop {
                    let kept = "what has arrived is kept; the same command goes on from there";
                    return Err(Error::Stopped(kept.into()));
                },
                done = &mut future => return Ok(done),
            }
        }
    })
}
