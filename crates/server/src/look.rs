//! The data set by class, with what was found in it, and its labels mended: written to `corrections.csv`, never to an image.

mod checks;
mod routes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use headstart::cache::CacheSettings;
use headstart::dataset::{Corrections, DataOptions, Dataset, Limits, Split, Subset};
use headstart::inspect::Inspection;
use headstart::job::open_with;
use headstart::{Control, Device, Error, Result};
use serde::Serialize;

pub use routes::{check, correct, images, picture, small, state};

/// The data set, and what is known of it.
pub struct Look {
    /// As `--data` names it.
    source: String,
    cache: CacheSettings,
    device: Device,
    stop: AtomicBool,
    state: Mutex<State>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while the table is changed.
    writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    opened: Option<std::result::Result<Arc<Opened>, String>>,
    /// Its folders as they were then.
    folders: BTreeMap<PathBuf, Option<SystemTime>>,
    /// What was found by looking at every image, once that is done.
    inspection: Option<Arc<Inspection>>,
    /// Positions of images, by what was found of each alone.
    found: BTreeMap<&'static str, Vec<usize>>,
    /// Positions of images that are there more than once.
    groups: Vec<Vec<usize>>,
    /// Whether the images are looked at, or were.
    looking: bool,
    /// Images that were looked at, and how many there are.
    looked: (usize, usize),
    check: Check,
}

impl State {
    /// Positions of images of a kind of finding, where images have these classes, or none, by now.
    fn of_kind(&self, kind: &str, labels: &[Option<usize>]) -> Vec<usize> {
        let stays = |&&at: &&usize| labels.get(at).is_some_and(Option::is_some);
        if !matches!(kind, "conflicts" | "duplicates") {
            return self.found.get(kind).into_iter().flatten().filter(stays).copied().collect();
        }
        let mut all = Vec::new();
        for group in &self.groups {
            let own: Vec<usize> = group.iter().filter(stays).copied().collect();
            let several = own.iter().any(|&at| labels[at] != labels[own[0]]);
            if own.len() > 1 && several == (kind == "conflicts") {
                all.extend(own);
            }
        }
        all
    }
}

/// The check of labels by heads that are fitted over a net's features.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Check {
    /// Whether it runs now, and what it does.
    pub running: Option<String>,
    /// Why the last one failed.
    pub failed: Option<String>,
    /// Its results, the last one last.
    pub results: Vec<Checked>,
    /// The most probable class of images whose label is suspected, by position.
    #[serde(skip)]
    pub suggested: BTreeMap<usize, (usize, f32)>,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Images that were checked.
    pub images: usize,
    /// Images whose label a head predicts that was not fitted on them, as a share.
    pub accuracy: f64,
    /// Images whose label is suspected.
    pub suspected: usize,
    /// Images on which the net itself was fine-tuned, so that the accuracy is too high.
    pub tuned_on: usize,
    /// Corrections at that time.
    pub corrections: usize,
}

/// The images as the folder has them, without corrections.
struct Opened {
    data: Dataset,
    /// Each image's path below the folder, by position.
    names: Vec<String>,
    /// The folder of the table; none where the data set is no folder of images.
    root: Option<PathBuf>,
}

/// An image in a list.
#[derive(Debug, Serialize)]
pub struct Shown {
    at: usize,
    name: String,
    split: &'static str,
    /// Its class by its folder.
    folder: usize,
    /// Its class now; none where it is left out.
    class: Option<usize>,
    /// The class that the check suggests.
    suggested: Option<usize>,
    probability: Option<f32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opened {
    fn open(source: &str) -> Result<Opened> {
        // Files stay as they are: most are never looked at.
        let limits = Limits { decoded_bytes: 0, ..Limits::default() };
        let options = DataOptions {
            validation_split: 0.0,
            empty_classes: true,
            corrected: false,
            limits,
            ..DataOptions::default()
        };
        let folder = Path::new(source);
        let data = open_with(source, &options, &mut |_| Control::Continue)?;
        let mut names = Vec::new();
        let mut inside = folder.is_dir();
        for (_, subset) in data.parts(Split::All)? {
            for i in 0..subset.len() {
                let path = subset.path(i);
                let name = Path::new(&*path).strip_prefix(folder).ok();
                inside &= name.is_some();
                names
                    .push(name.map_or_else(|| path.to_string(), |name| name.display().to_string()));
            }
        }
        Ok(Opened { data, names, root: inside.then(|| folder.to_path_buf()) })
    }

    /// The part of an image, its name, and its position there.
    fn place(&self, image: usize) -> Result<(&'static str, &Subset, usize)> {
        let mut at = image;
        for (split, subset) in self.data.parts(Split::All)? {
            if at < subset.len() {
                return Ok((split, subset, at));
            }
            at -= subset.len();
        }
        let expected = format!("below {}", self.names.len());
        Err(Error::invalid("image", expected, image.to_string(), ""))
    }

    /// The position of the image at `position` of the part `split`.
    fn at(&self, split: &str, position: usize) -> usize {
        let parts = self.data.parts(Split::All).unwrap_or_default();
        let before = parts.iter().take_while(|(name, _)| *name != split);
        before.map(|(_, subset)| subset.len()).sum::<usize>() + position
    }

    /// Class of each image by its folder.
    fn labels(&self) -> Vec<usize> {
        let parts = self.data.parts(Split::All).unwrap_or_default();
        parts.iter().flat_map(|(_, subset)| subset.labels()).collect()
    }

    /// The table, and what it makes of each image: a class, or none.
    fn corrected(&self) -> Result<(Option<Corrections>, Vec<Option<usize>>)> {
        let labels = self.labels();
        let Some(root) = &self.root else {
            return Ok((None, labels.into_iter().map(Some).collect()));
        };
        let table = Corrections::read(root)?;
        let rows: BTreeMap<&str, Option<&str>> = table.rows().collect();
        let class = |name: &str| self.data.classes.iter().position(|class| class == name);
        let each =
            self.names.iter().zip(labels).map(|(name, label)| match rows.get(name.as_str()) {
                None => Some(label),
                Some(None) => None,
                Some(Some(own)) => class(own).or(Some(label)),
            });
        let each = each.collect();
        Ok((Some(table), each))
    }
}

impl Look {
    /// For the data set of that name; it is opened on a thread of its own.
    pub fn begin(source: String, cache: CacheSettings, device: Device) -> Arc<Look> {
        let look = Arc::new(Look {
            source,
            cache,
            device,
            stop: AtomicBool::new(false),
            state: Mutex::default(),
            threads: Mutex::default(),
            writing: Mutex::default(),
        });
        look.open();
        look
    }

    /// Opens the data set on a thread of its own; until then it is being opened.
    fn open(self: &Arc<Look>) {
        let own = Arc::clone(self);
        // Not waited for at the end: it cannot be stopped.
        let _ = spawn(move || {
            // Before they are read: what changes meanwhile is read again.
            locked(&own.state).folders = folders(Path::new(&own.source));
            let opened = Opened::open(&own.source).map(Arc::new).map_err(|e| e.to_string());
            locked(&own.state).opened = Some(opened);
        });
    }

    /// Opens the data set again where its folders changed, as by the page Begin. While labels are checked it stays as it is.
    fn follow(self: &Arc<Look>) {
        let now = folders(Path::new(&self.source));
        let mut state = locked(&self.state);
        if state.opened.is_none() || state.check.running.is_some() || state.folders == now {
            return;
        }
        let results = std::mem::take(&mut state.check.results);
        *state = State { check: Check { results, ..Check::default() }, ..State::default() };
        drop(state);
        self.open();
    }

    /// Why the data set cannot be opened, where that is found within a moment, as for a folder that is not there.
    pub fn fails_at_once(&self) -> Option<String> {
        for _ in 0..100 {
            match &locked(&self.state).opened {
                Some(Ok(_)) => return None,
                Some(Err(message)) => return Some(message.clone()),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        None
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Lets the threads end.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *locked(&self.threads));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Says that an image is of a class, or is left out, or is what its folder says.
    fn correct(&self, opened: &Opened, image: usize, name: &str, what: &Correction) -> Result<()> {
        opened.place(image)?;
        // The caller may have a list of before the folder changed.
        if !name.is_empty() && opened.names[image] != name {
            let hint = "the data set changed: load the page again";
            return Err(Error::invalid("image", &opened.names[image], name, hint));
        }
        let root = opened.root.as_ref().ok_or_else(|| {
            let expected = "a folder of images, below which corrections.csv can lie";
            Error::invalid("data", expected, &self.source, "")
        })?;
        let _writing = locked(&self.writing);
        let mut table = Corrections::read(root)?;
        let (name, own) = (&opened.names[image], opened.labels()[image]);
        match what {
            Correction::Class(class) if *class == own => drop(table.undo(name)),
            Correction::Class(class) => {
                let known = opened.data.classes.get(*class).ok_or_else(|| {
                    let expected = format!("below {}", opened.data.classes.len());
                    Error::invalid("class", expected, class.to_string(), "")
                })?;
                table.set(name, Some(known));
            }
            Correction::LeaveOut => table.set(name, None),
            Correction::Undo => drop(table.undo(name)),
        }
        table.write()
    }
}

/// What tells whether images or classes came or went: the folders in `source`, those in these, and when each changed last; or
/// when the file did.
fn folders(source: &Path) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let time = |path: &Path| path.metadata().ok()?.modified().ok();
    let inner = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        let is_folder = |entry: &std::fs::DirEntry| {
            !hidden(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        entries.filter(is_folder).map(|entry| entry.path()).collect()
    };
    if source.is_file() {
        return BTreeMap::from([(source.to_path_buf(), time(source))]);
    }
    // The table lies in the folder itself, whose time changes with it.
    let classes = inner(source);
    let parts: Vec<PathBuf> = classes.iter().flat_map(|class| inner(class)).collect();
    let all = classes.into_iter().chain(parts);
    all.map(|path| (path.clone(), time(&path))).collect()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("data".into()).spawn(work)
}

/// What is said of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Correction {
    Class(usize),
    LeaveOut,
    Undo,
}
