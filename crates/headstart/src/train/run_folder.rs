//! The run folder.
//!
//! ```
//! use headstart::run_folder::RunFolder;
//!
//! let folder = tempfile::tempdir()?;
//! let first = RunFolder::create_next(folder.path().join("train"))?;
//! let second = RunFolder::create_next(folder.path().join("train"))?;
//! assert!(first.path().ends_with("train") && second.path().ends_with("train2"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic::{make_folder, remove_leftovers, write_bytes};
use crate::error::{Error, Result};
use crate::export::tensorboard::TensorBoard;
use crate::measure::events::Event;
use crate::measure::history::History;
use crate::memory::{self, Claim};
use crate::net::weights::SHIPPED;
use crate::text;

/// Least time between two recorded steps, in epochs of more than [`FEW_STEPS`].
const STEP_INTERVAL: Duration = Duration::from_millis(500);
/// What happens in a run.
const EVENTS: &str = "events.jsonl";
/// How often, and how long between, a lock is tried that another process may hold for an instant.
const LOOKS: usize = 5;
const INSTANT: Duration = Duration::from_millis(20);
/// Epochs of no more steps are recorded step by step.
const FEW_STEPS: usize = 200;

/// A run's folder, which no other process writes to.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    events: File,
    last_step: Option<Instant>,
    tensorboard: Option<TensorBoard>,
}

impl RunFolder {
    /// Makes the folder `path`; with `exist_ok` one that exists may be used again; the files of a run in it are
    /// removed, others stay.
    ///
    /// # Errors
    /// If it exists and may not, or cannot be written.
    pub fn create(path: impl AsRef<Path>, exist_ok: bool) -> Result<RunFolder> {
        let path = path.as_ref();
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            make_folder(parent)?;
        }
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                RunFolder::check_free(path, exist_ok)?;
            }
            Err(e) => return Err(Error::io("create", path)(e)),
        }
        let folder = RunFolder::open(path, true)?;
        folder.clear()?;
        Ok(folder)
    }

    /// Fails where [`RunFolder::create`] would, because something is there. Work that comes before the run asks first.
    ///
    /// # Errors
    /// In that case; or if the folder cannot be read.
    pub fn check_free(path: &Path, exist_ok: bool) -> Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let is_folder = path.is_dir();
        let empty =
            is_folder && fs::read_dir(path).map_err(Error::io("read", path))?.next().is_none();
        if is_folder && (exist_ok || empty) {
            return Ok(());
        }
        Err(Error::invalid(
            format!("run folder {}", path.display()),
            "a folder that does not exist yet",
            match (is_folder, path.exists()) {
                (true, _) => "one with files in it",
                (false, true) => "a file",
                (false, false) => "a link to nothing",
            },
            "name another with --out, or allow this one with --exist-ok",
        ))
    }

    /// Removes what an earlier run left here, so that none of it passes for this run's.
    fn clear(&self) -> Result<()> {
        let pictures = ["accuracy", "loss", "confusion_matrix", "reliability"];
        let pictures =
            pictures.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]);
        let others = [
            "config.toml",
            "results.csv",
            "report.json",
            "report.txt",
            "report.html",
            "confusion_matrix.csv",
            "weights/last.safetensors",
            SHIPPED,
        ];
        for name in others.map(String::from).into_iter().chain(pictures) {
            let file = self.path.join(name);
            match fs::remove_file(&file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", file)(e));
                }
                _ => {}
            }
        }
        for place in [self.path.clone(), self.path.join("weights")] {
            remove_leftovers(&place)?;
        }
        Ok(())
    }

    /// Makes the first of `base`, `base2`, `base3`, ... that does not exist.
    ///
    /// # Errors
    /// If none can be made.
    pub fn create_next(base: impl AsRef<Path>) -> Result<RunFolder> {
        let base = base.as_ref();
        for number in 1.. {
            let path = match number {
                1 => base.to_path_buf(),
                _ => {
                    let mut name = base.as_os_str().to_os_string();
                    name.push(number.to_string());
                    PathBuf::from(name)
                }
            };
            match RunFolder::create(&path, false) {
                Err(Error::Invalid { .. }) => {}
                other => return other,
            }
        }
        unreachable!("the numbers do not end")
    }

    /// Opens a run's folder to resume the run. Files that a killed process left half-written are removed; nothing else
    /// changes.
    ///
    /// # Errors
    /// If another process writes to it, or it cannot be written.
    pub fn resume(path: impl AsRef<Path>) -> Result<RunFolder> {
        let path = path.as_ref();
        let folder = RunFolder::open(path, false)?;
        for place in [path.to_path_buf(), path.join("weights")] {
            remove_leftovers(&place)?;
        }
        Ok(folder)
    }

    /// Removes what events.jsonl has after its first `bytes` bytes, and an incomplete line before that.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn cut_events(&mut self, bytes: u64) -> Result<()> {
        let file = self.path.join(EVENTS);
        let mut claim = Claim::default();
        let text = memory::read(&file, u64::MAX, &mut claim)?;
        let kept = &text[..text.len().min(usize::try_from(bytes).unwrap_or(usize::MAX))];
        let end = kept.iter().rposition(|&b| b == b'\n').map_or(0, |i| i as u64 + 1);
        self.events.set_len(end).map_err(Error::io("write", &file))?;
        match &mut self.tensorboard {
            Some(board) => board.again(&String::from_utf8_lossy(&kept[..end as usize])),
            None => Ok(()),
        }
    }

    fn open(path: &Path, truncate: bool) -> Result<RunFolder> {
        let weights = path.join("weights");
        fs::create_dir_all(&weights).map_err(Error::io("create", &weights))?;
        let file = path.join(EVENTS);
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true);
        let events = options.open(&file).map_err(Error::io("create", &file))?;
        if is_locked(&events) {
            return Err(Error::invalid(
                format!("run folder {}", path.display()),
                "one that no process writes to",
                "a run that is still running",
                "wait until it ends, or stop it",
            ));
        }
        if truncate {
            events.set_len(0).map_err(Error::io("write", &file))?;
        }
        Ok(RunFolder { path: path.to_path_buf(), events, last_step: None, tensorboard: None })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Also writes TensorBoard's event files from now on, below `tensorboard`; `epochs` are done already.
    #[must_use]
    pub fn with_tensorboard(mut self, epochs: usize) -> RunFolder {
        self.tensorboard = Some(TensorBoard::new(self.path.join("tensorboard"), epochs));
        self
    }

    /// Path of the best weights.
    pub fn best(&self) -> PathBuf {
        self.path.join(SHIPPED)
    }

    /// Path of the last weights.
    pub fn last(&self) -> PathBuf {
        self.path.join("weights/last.safetensors")
    }

    /// Appends to events.jsonl; of steps and progress only some, so that the file stays small.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn record(&mut self, event: &Event) -> Result<()> {
        if let Some(board) = &mut self.tensorboard {
            board.record(event)?;
        }
        match event {
            Event::Step { step, steps, .. } if step < steps && *steps > FEW_STEPS => {
                let now = Instant::now();
                if self.last_step.is_some_and(|then| now - then < STEP_INTERVAL) {
                    return Ok(());
                }
                self.last_step = Some(now);
            }
            Event::Features { done, total, .. } | Event::Evaluating { done, total, .. }
                if done < total =>
            {
                return Ok(());
            }
            _ => {}
        }
        let file = self.path.join(EVENTS);
        let mut line = serde_json::to_string(event)
            .map_err(|e| Error::format(&file, "an event that fits JSON", e.to_string(), ""))?;
        line = text::json(&line).into_owned() + "\n";
        self.events.write_all(line.as_bytes()).map_err(Error::io("write", &file))
    }

    /// Bytes of events.jsonl.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn recorded(&self) -> Result<u64> {
        let file = self.path.join(EVENTS);
        Ok(self.events.metadata().map_err(Error::io("read", file))?.len())
    }

    /// Writes config.toml.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        write_bytes(self.path.join("config.toml"), text.as_bytes())
    }

    /// Writes results.csv.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_history(&self, history: &History) -> Result<()> {
        history.write_csv(self.path.join("results.csv"))
    }
}

/// Whether another process writes to the file, which is locked for this one if not. Who only looks whether somebody writes
/// holds a lock for an instant, as [`is_written`] does.
fn is_locked(file: &File) -> bool {
    for _ in 0..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(INSTANT),
            _ => return false,
        }
    }
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Whether a process writes to the run of that folder now.
///
/// ```
/// use headstart::run_folder::{RunFolder, is_written};
///
/// let folder = tempfile::tempdir()?;
/// let run = RunFolder::create(folder.path(), false)?;
/// assert!(is_written(folder.path()));
/// drop(run);
/// assert!(!is_written(folder.path()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_written(path: impl AsRef<Path>) -> bool {
    let file = File::open(path.as_ref().join(EVENTS));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The file in a run's folder that stops it.
pub(crate) const STOP: &str = "stop";

/// Asks the process that writes to the run of that folder to stop and save, as Ctrl-C there does: it looks for the file `stop`,
/// which is made here, at every step.
///
/// # Errors
/// If no process writes to it, or the file cannot be made.
pub fn ask_to_stop(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    if !is_written(path) {
        let hint = "only a run that trains now can stop";
        return Err(Error::invalid("run", "one that a process writes to", "another", hint));
    }
    let file = path.join(STOP);
    // Neither a link nor a pipe that somebody put there is written to.
    if file.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        std::fs::remove_file(&file).map_err(Error::io("replace", &file))?;
    }
    match File::options().write(true).create_new(true).open(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(Error::io("write", file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_whether_a_run_is_written_does_not_keep_it_from_being() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::create(folder.path(), false).unwrap());
        let looking = File::open(folder.path().join(EVENTS)).unwrap();
        looking.lock_shared().unwrap();
        assert!(RunFolder::resume(folder.path()).is_err());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(INSTANT);
                drop(looking);
            });
            assert!(RunFolder::resume(folder.path()).is_ok());
        });
    }

    #[test]
    fn names_are_counted_up_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("runs/train");
        for name in ["train", "train2", "train3"] {
            let run = RunFolder::create_next(&base).unwrap();
            assert_eq!(run.path().file_name().unwrap(), name);
        }
        let error = RunFolder::create(&base, false).unwrap_err();
        assert!(error.hint().unwrap().contains("--exist-ok"));
        RunFolder::create(&base, true).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(RunFolder::create(&file, true).is_err());
        assert!(RunFolder::create(file.join("below"), false).is_err());
    }
}
