//! Dynamic batching: one thread computes, and takes together what waits, whichever request it came with.
//!
//! Each model has a line of jobs. A line is ready when it has a whole batch, or when its first job has waited for the delay;
//! of those that are ready the one is served whose first job came first. How many images wait is bounded by [`Slot`]s, which
//! are taken before any work is done for an image.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use headstart::{Error, Result};
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// Something that computes batches.
pub trait Run: Send {
    /// Values of `count` images, the same number for each.
    ///
    /// # Errors
    /// If it cannot.
    fn run(&mut self, pixels: &[u8], count: usize) -> Result<Vec<f32>>;
    /// Most images at once, at least 1.
    fn batch(&self) -> usize;
    /// Bytes of an image.
    fn image_bytes(&self) -> usize;
    /// Starts afresh after a panic, which may have left anything behind.
    ///
    /// # Errors
    /// If it cannot.
    fn renew(&mut self) -> Result<()>;
}

/// What a job is answered with: a message where it failed.
pub type Answer = std::result::Result<Vec<f32>, String>;

/// The thread that computes.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    delay: Duration,
    slots: Arc<Slots>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<u64, Waiting>,
    next: u64,
    ending: bool,
}

/// A line of jobs for one model.
struct Waiting {
    /// None while it runs.
    runner: Option<Box<dyn Run>>,
    batch: usize,
    each: usize,
    jobs: VecDeque<Job>,
    /// Images that wait.
    images: usize,
    /// Whether no job follows.
    retired: bool,
}

/// The images of a request.
struct Job {
    pixels: Vec<u8>,
    count: usize,
    /// Images that were computed.
    done: usize,
    values: Vec<f32>,
    since: Instant,
    reply: oneshot::Sender<Answer>,
    slot: Slot,
}

/// How many images are waited for, with the most that may be.
struct Slots {
    taken: AtomicUsize,
    most: usize,
    /// Microseconds that an image took, about.
    pace: AtomicU64,
}

/// Room for some images, until it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    count: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Why there is no slot.
#[derive(Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// More images than there ever is room for, with that number.
    Never(usize),
    /// Not now: seconds after which there may be.
    Later(u64),
}

/// Names a line of jobs; nobody can add to it once this is dropped, and what waits is still computed.
pub struct Line {
    id: u64,
    shared: Arc<Shared>,
}

impl Engine {
    /// Starts the thread. At most `most` images wait, and a job waits at most for `delay` while nothing else is computed.
    ///
    /// # Errors
    /// If it cannot start.
    pub fn start(most: usize, delay: Duration, metrics: Arc<Metrics>) -> Result<Engine> {
        let slots = Slots { taken: AtomicUsize::new(0), most, pace: AtomicU64::new(0) };
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { state, changed, delay, slots: Arc::new(slots), metrics });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("batches".into()).spawn(move || own.work());
        let thread = thread.map_err(Error::io("start", "a thread"))?;
        Ok(Engine { shared, thread: Mutex::new(Some(thread)) })
    }

    /// A line for a model.
    pub fn line(&self, runner: Box<dyn Run>) -> Line {
        let (batch, each) = (runner.batch().max(1), runner.image_bytes());
        let jobs = VecDeque::new();
        let waiting =
            Waiting { runner: Some(runner), batch, each, jobs, images: 0, retired: false };
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        state.lines.insert(id, waiting);
        Line { id, shared: Arc::clone(&self.shared) }
    }

    /// Room for `count` images.
    ///
    /// # Errors
    /// If there is none.
    pub fn slot(&self, count: usize) -> std::result::Result<Slot, NoSlot> {
        let slots = &self.shared.slots;
        if count > slots.most {
            return Err(NoSlot::Never(slots.most));
        }
        let room = |taken: usize| taken.checked_add(count).filter(|&sum| sum <= slots.most);
        match slots.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(Slot { slots: Arc::clone(slots), count }),
            Err(taken) => {
                let pace = slots.pace.load(Ordering::Relaxed);
                let seconds = (pace.saturating_mul(taken as u64)).div_ceil(1_000_000);
                Err(NoSlot::Later(seconds.clamp(1, 60)))
            }
        }
    }

    /// Images that are waited for.
    pub fn waiting(&self) -> usize {
        self.shared.slots.taken.load(Ordering::Relaxed)
    }

    /// Computes what waits, and ends the thread.
    pub fn end(&self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl Line {
    /// Lets `count` images wait, which `slot` has room for; their values come from the receiver. Nobody answers where the
    /// engine has ended.
    pub fn add(&self, pixels: Vec<u8>, count: usize, slot: Slot) -> oneshot::Receiver<Answer> {
        let (reply, receiver) = oneshot::channel();
        let since = Instant::now();
        let job = Job { pixels, count, done: 0, values: Vec::new(), since, reply, slot };
        let mut state = self.shared.lock();
        if let Some(line) = state.lines.get_mut(&self.id)
            && count > 0
            && job.pixels.len() == count * line.each
        {
            line.images += count;
            line.jobs.push_back(job);
            drop(state);
            self.shared.changed.notify_all();
        }
        receiver
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(line) = self.shared.lock().lines.get_mut(&self.id) {
            line.retired = true;
        }
        self.shared.changed.notify_all();
    }
}

/// Jobs of which images are in a batch, with how many of each.
type Parts = Vec<(Job, usize)>;

impl Waiting {
    /// When it is ready: `None` for never.
    fn due(&self, delay: Duration, ending: bool) -> Option<Instant> {
        let first = self.jobs.front()?;
        let at_once = self.images >= self.batch || first.done > 0 || ending;
        Some(if at_once { first.since } else { first.since + delay })
    }

    /// The next batch: its pixels and whose they are. Nobody waits for jobs whose receiver is gone.
    fn take(&mut self) -> (Vec<u8>, Parts) {
        let (mut pixels, mut parts, mut room) = (Vec::new(), Parts::new(), self.batch);
        while room > 0 {
            let Some(job) = self.jobs.pop_front() else { break };
            let left = job.count - job.done;
            if job.reply.is_closed() {
                self.images -= left;
                continue;
            }
            let part = left.min(room);
            let from = job.done * self.each;
            pixels.extend_from_slice(&job.pixels[from..from + part * self.each]);
            self.images -= part;
            room -= part;
            parts.push((job, part));
        }
        (pixels, parts)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            // Memory of a net is given back while nobody waits for the lock.
            let gone = |line: &Waiting| line.retired && line.jobs.is_empty();
            if let Some(id) = state.lines.iter().find(|(_, line)| gone(line)).map(|(id, _)| *id) {
                let line = state.lines.remove(&id);
                drop(state);
                drop(line);
                state = self.lock();
                continue;
            }
            let ending = state.ending;
            let due = state.lines.iter().filter_map(|(id, line)| {
                Some((line.due(self.delay, ending)?, line.jobs.front()?.since, *id))
            });
            let now = Instant::now();
            let due: Vec<_> = due.collect();
            let ready = due.iter().filter(|(at, ..)| *at <= now).min_by_key(|(_, since, _)| *since);
            if let Some(&(.., id)) = ready {
                drop(state);
                self.serve(id);
                state = self.lock();
                continue;
            }
            state = match due.iter().map(|(at, ..)| *at).min() {
                // Who comes later is told that nobody answers.
                None if ending => {
                    let lines = std::mem::take(&mut state.lines);
                    drop(state);
                    drop(lines);
                    return;
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = self.changed.wait_timeout(state, at - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Computes a batch of a line and answers the jobs that are done.
    fn serve(&self, id: u64) {
        let mut state = self.lock();
        let Some(line) = state.lines.get_mut(&id) else { return };
        let Some(mut runner) = line.runner.take() else { return };
        let (pixels, parts) = line.take();
        drop(state);
        let count = parts.iter().map(|(_, part)| part).sum::<usize>();
        let mut values = Ok(Vec::new());
        if count > 0 {
            let start = Instant::now();
            // A defect in the net costs the requests of one batch.
            let run = catch_unwind(AssertUnwindSafe(|| runner.run(&pixels, count)));
            values = match run {
                Ok(values) => values.map_err(|error| error.to_string()),
                Err(_) => Err(match runner.renew() {
                    Ok(()) => "the net failed on this batch".to_string(),
                    Err(error) => error.to_string(),
                }),
            };
            self.count(count, start.elapsed());
        }
        let each = values.as_ref().map_or(0, |values| values.len() / count.max(1));
        let (mut at, mut rest) = (0, None);
        for (mut job, part) in parts {
            job.done += part;
            match &values {
                Ok(values) => job.values.extend_from_slice(&values[at..at + part * each]),
                Err(message) => {
                    let _ = job.reply.send(Err(message.clone()));
                    continue;
                }
            }
            at += part * each;
            if job.done < job.count {
                rest = Some(job);
            } else {
                let Job { reply, values, slot, .. } = job;
                // There is room before the answer is known, so that who gets it can ask again.
                drop(slot);
                let _ = reply.send(Ok(values));
            }
        }
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(&id) {
            line.runner = Some(runner);
            if let Some(job) = rest {
                line.jobs.push_front(job);
            }
        }
    }

    fn count(&self, images: usize, time: Duration) {
        self.metrics.batch(images, time);
        let pace = &self.slots.pace;
        let new = time.as_micros() as u64 / images as u64;
        let old = pace.load(Ordering::Relaxed);
        pace.store(if old == 0 { new } else { (3 * old + new) / 4 }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
