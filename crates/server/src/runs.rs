//! Runs of a folder: what they are, what happens in them, and those that this server does itself.

mod routes;
mod tail;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::SystemTime;

use headstart::atomic::make_folder;
use headstart::history::History;
use headstart::metrics::Report;
use headstart::page::{has_page, is_of_stopped};
use headstart::run::Job;
use headstart::run_folder::is_written;
use headstart::{Control, Error, Result};
use serde::Serialize;

pub use routes::{aside, compare, events, list, one, report, resume, status, stop};

/// Most runs that are listed, the latest.
const MOST: usize = 500;
/// The file that makes a folder a run's.
const EVENTS: &str = "events.jsonl";

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A process writes to it.
    Running,
    /// All of it is done.
    Finished,
    /// It was stopped, and can be resumed.
    Stopped,
    /// It ended before there was anything to resume from.
    Ended,
}

/// A run in a list.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its folder's name.
    pub name: String,
    /// What becomes of it.
    pub state: State,
    /// Whether this server does it, and can stop it.
    pub own: bool,
    /// Epochs done.
    pub epochs: usize,
    /// Seconds of all epochs.
    pub seconds: f64,
    /// Accuracy on the images of its report, else on the validation images of its last epoch.
    pub accuracy: Option<f64>,
    /// Whether there is a report.html.
    pub page: bool,
    /// Why the last attempt to resume it failed.
    pub failed: Option<String>,
}

/// A folder of runs.
pub struct Runs {
    /// As it was named.
    named: PathBuf,
    /// Without links, once there is such a folder.
    root: OnceLock<PathBuf>,
    own: Mutex<BTreeMap<String, Own>>,
}

/// Whether a run is to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// It is.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to go on.
    pub fn control(&self) -> Control {
        match self.0.load(Ordering::Relaxed) {
            true => Control::Stop,
            false => Control::Continue,
        }
    }
}

/// A run that this server does, or did.
struct Own {
    stop: Stop,
    thread: Option<thread::JoinHandle<()>>,
    failed: Option<String>,
}

impl Runs {
    /// Those below `root`, if it is there.
    pub fn below(root: &Path) -> Arc<Runs> {
        Arc::new(Runs { named: root.into(), root: OnceLock::new(), own: Mutex::default() })
    }

    /// The folder, if it is there.
    fn root(&self) -> Option<&Path> {
        if self.root.get().is_none() {
            let found = self.named.canonicalize().ok().filter(|root| root.is_dir())?;
            let _ = self.root.set(found);
        }
        self.root.get().map(PathBuf::as_path)
    }

    /// Whether there is such a folder.
    pub fn is_there(&self) -> bool {
        self.root().is_some()
    }

    /// Makes the folder of a new run: `name`, or the same with a number, where that is `taken` or there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn next(&self, name: &str, taken: impl Fn(&str) -> bool) -> Result<(String, PathBuf)> {
        make_folder(&self.named)?;
        let mut number = 1;
        loop {
            let name = if number == 1 { name.to_string() } else { format!("{name}-{number}") };
            let path = self.named.join(&name);
            match taken(&name) {
                true => {}
                false => match std::fs::create_dir(&path) {
                    Ok(()) => return Ok((name, path)),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(Error::io("make the folder", path)(error)),
                },
            }
            number += 1;
        }
    }

    /// The name of a run that this server does now, if it does one.
    pub fn running(&self) -> Option<String> {
        let own = self.own();
        let is_on = |own: &Own| own.thread.as_ref().is_some_and(|t| !t.is_finished());
        own.iter().find(|(_, own)| is_on(own)).map(|(name, _)| name.clone())
    }

    fn own(&self) -> MutexGuard<'_, BTreeMap<String, Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the run of that name: one below the root, whatever links it has.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let root = self.root()?;
        let mut parts = Path::new(name).components();
        let (Some(Component::Normal(part)), None) = (parts.next(), parts.next()) else {
            return None;
        };
        if part != name {
            return None;
        }
        let path = root.join(part).canonicalize().ok()?;
        (path.starts_with(root) && path.join(EVENTS).is_file()).then_some(path)
    }

    /// The latest runs first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Row>> {
        let Some(root) = self.root() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(root) {
            // The folder was removed under the server.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", root))?,
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(path) = self.find(&name) else { continue };
            let changed = path.join(EVENTS).metadata().and_then(|file| file.modified());
            found.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), name, path));
        }
        found.sort_by(|a, b| b.cmp(a));
        found.truncate(MOST);
        Ok(found.into_iter().map(|(_, name, path)| self.row(name, &path)).collect())
    }

    /// A run in a list; a file of it that cannot be read is left out.
    fn row(&self, name: String, path: &Path) -> Row {
        let history = History::read_csv_noting(path.join("results.csv")).unwrap_or_default().0;
        let report = path.join("report.json");
        let report = report.exists().then(|| Report::read(&report).ok()).flatten();
        let last = history.epochs.last().and_then(|epoch| epoch.val_accuracy);
        let accuracy = report.map(|report| report.accuracy).or(last);
        // Of nothing the sum is -0.
        let seconds = history.epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() + 0.0;
        let (epochs, state) = (history.epochs.len(), state(path));
        let mut own = self.own();
        let mine = own.get_mut(&name);
        let failed = mine.as_ref().and_then(|own| own.failed.clone());
        let own = mine.is_some_and(|own| own.thread.as_ref().is_some_and(|t| !t.is_finished()));
        Row { name, state, own, epochs, seconds, accuracy, page: has_page(path), failed }
    }

    /// Resumes a run on a thread of this process.
    ///
    /// # Errors
    /// If this server does it already, or its settings cannot be read.
    pub fn resume(self: &Arc<Runs>, name: &str, path: PathBuf) -> Result<()> {
        let job = Job::resume(path)?;
        self.start(name, move |stop| job.run(&mut |_| stop.control()).map(drop))
    }

    /// Does a run on a thread of this process.
    ///
    /// # Errors
    /// If this server does it, or another.
    pub fn start(
        self: &Arc<Runs>,
        name: &str,
        run: impl FnOnce(&Stop) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        if let Some(running) = self.running() {
            let hint = "wait for it, or stop it: one training takes the whole machine";
            return Err(Error::invalid("run", format!("{running} to end first"), name, hint));
        }
        let mut all = self.own();
        let stop = Stop::default();
        let (flag, runs, owned) = (stop.clone(), Arc::clone(self), name.to_string());
        let work = move || {
            let failed = run(&flag).err().map(|error| error.to_string());
            if let Some(own) = runs.own().get_mut(&owned) {
                own.failed = failed;
            }
        };
        let thread = thread::Builder::new().name("run".into()).spawn(work);
        let thread = Some(thread.map_err(Error::io("start", "a thread"))?);
        all.insert(name.to_string(), Own { stop, thread, failed: None });
        Ok(())
    }

    /// Asks a run that this server does to stop; whether there is one.
    pub fn stop(&self, name: &str) -> bool {
        let own = self.own();
        let running =
            own.get(name).filter(|own| own.thread.as_ref().is_some_and(|t| !t.is_finished()));
        running.map(|own| own.stop.ask()).is_some()
    }

    /// Stops all, and waits until they are saved.
    pub fn end(&self) {
        let threads: Vec<_> = self
            .own()
            .values_mut()
            .filter_map(|own| {
                own.stop.ask();
                own.thread.take()
            })
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// What becomes of the run of that folder.
pub fn state(path: &Path) -> State {
    if is_written(path) {
        return State::Running;
    }
    if has_page(path) && !is_of_stopped(path) {
        return State::Finished;
    }
    match path.join("weights/last.safetensors").is_file() && path.join("config.toml").is_file() {
        true => State::Stopped,
        false => State::Ended,
    }
}
