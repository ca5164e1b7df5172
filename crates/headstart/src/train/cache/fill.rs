//! One pass over the images of a subset: those whose features are on disk are read, the others go through the net and
//! are added.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use headstart_kernels::element::Values;

use super::element::{Tensors, decode, encode, part as slice};
use super::folder::{About, make_room};
use super::wider::Wider;
use super::{Emit, Frozen, Hash, Store};
use crate::control::{Control, UntilStop};
use crate::data::batches::{Loader, LoaderOptions};
use crate::data::dataset::Subset;
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::model::Model;
use crate::train::collective::Collective;

/// How often an entry's description is written while rows are added.
pub(super) const DESCRIBE: Duration = Duration::from_secs(5);

/// Gets positions of images and their features, one tensor per layer, then the means of stages where they are wanted.
pub(super) type Sink<'s> = dyn FnMut(&[usize], &[Values]) -> Result<Control> + 's;

/// What is wanted of a subset's images.
pub(super) struct Wanted<'w> {
    /// Name of the data set, for the entry's description.
    pub data: &'w str,
    pub split: &'static str,
    pub subset: &'w Subset,
    /// Gets every image once, in any order; without one, rows are put on disk and that is all.
    pub sink: Option<&'w mut Sink<'w>>,
    /// Whether it gets the means of stages.
    pub means: bool,
    /// Whether features of an earlier layer may serve where these are missing.
    pub wider: bool,
    /// Processes among which the images are shared; all of them make the pass.
    pub among: Option<&'w mut (dyn Collective + 'static)>,
}

/// What there is after a pass.
pub(super) struct Filled {
    /// The entry, if there is one.
    pub store: Option<Store>,
    /// What each row is found by; empty without a cache on disk.
    pub images: Vec<Hash>,
    /// What the caller answered when it was told that all is in place.
    pub control: Control,
}

/// A pass while it is made.
pub(super) struct Pass<'w> {
    pub wanted: Wanted<'w>,
    pub images: Vec<Hash>,
    pub store: Option<Store>,
    pub about: About,
    pub progress: Progress,
}

/// How many of the images that are not on disk are done.
pub(super) struct Progress {
    start: Instant,
    split: &'static str,
    done: usize,
    pub total: usize,
}

impl Progress {
    /// Tells that `count` more images are done.
    pub fn add(&mut self, count: usize, emit: &mut Emit<'_>) -> Result<Control> {
        self.done += count;
        let Progress { split, done, total, .. } = *self;
        emit(Event::Features { split, done, total, seconds: self.start.elapsed().as_secs_f64() })
    }
}

/// What was read instead of computed.
#[derive(Default)]
struct Reused {
    images: usize,
    bytes: usize,
    seconds: f64,
}

impl Reused {
    fn add(&mut self, images: usize, row: usize, about: &About) {
        self.images += images;
        self.bytes += images * row;
        self.seconds += about.seconds_each() * images as f64;
    }
}

impl Frozen {
    /// Sees to the features of all images that are wanted; `None` if `emit` or the sink stopped it.
    ///
    /// # Errors
    /// If an image cannot be read, or `emit` or the sink fails.
    pub(super) fn fill(
        &mut self,
        model: &Model,
        wanted: Wanted<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<Option<Filled>> {
        // A stop that was answered to a note holds from the next event on, which is not told any more.
        let mut told = UntilStop::default();
        let emit: &mut Emit<'_> = &mut |event| {
            let mut failed = None;
            let control = told.ask(|| {
                emit(event).unwrap_or_else(|error| {
                    failed = Some(error);
                    Control::Stop
                })
            });
            failed.map_or(Ok(control), Err)
        };
        let (split, count) = (wanted.split, wanted.subset.len());
        let among = wanted.among.filter(|among| among.size() > 1);
        let wanted = Wanted { among, ..wanted };
        let progress = Progress { start: Instant::now(), split, done: 0, total: 0 };
        let about = About::default();
        let mut pass = Pass { wanted, images: Vec::new(), store: None, about, progress };
        if self.open(model, &mut pass, emit)? == Control::Stop {
            return Ok(None);
        }
        let Some(mut missing) = self.take(&mut pass, emit)? else { return Ok(None) };
        let mut reused = Reused::default();
        reused.add(count - missing.len(), self.layout.row_bytes(), &pass.about);
        pass.progress = Progress { start: Instant::now(), total: missing.len(), ..pass.progress };
        let Pass { wanted, images, progress, .. } = &mut pass;
        if let Some(sink) = wanted.sink.as_mut().filter(|_| wanted.wider && !missing.is_empty())
            && let Some(mut wider) = Wider::find(self, model, images, &missing)
        {
            let all = missing.len();
            let left = wider.serve(images, &missing, &mut **sink, (progress, emit))?;
            let Some(left) = left else { return Ok(None) };
            reused.add(all - left.len(), wider.row_bytes(), &wider.about);
            missing = left;
        }
        if pass.is_shared() {
            self.compute_together(model, &mut pass, &missing, emit)?;
        } else if !missing.is_empty() {
            self.make_room(&mut pass, missing.len(), emit)?;
            let control = self.compute(model, &mut pass, &missing, emit)?;
            if control == Control::Stop {
                return Ok(None);
            }
        }
        let Pass { images, mut store, .. } = pass;
        if let Some(store) = &mut store {
            store.unlock();
        }
        let folder = store.as_ref().map(|s| s.folder().display().to_string());
        let Reused { images: reused, bytes, seconds } = reused;
        let bytes = bytes as u64;
        let event = Event::Cache { split, images: count, reused, bytes, seconds, folder };
        Ok(Some(Filled { control: emit(event)?, store, images }))
    }

    /// Opens the entry on disk, where there is to be one.
    fn open(&mut self, model: &Model, pass: &mut Pass<'_>, emit: &mut Emit<'_>) -> Result<Control> {
        let Some(root) = &self.settings.folder else { return Ok(Control::Continue) };
        let Wanted { split, subset, .. } = pass.wanted;
        pass.images = subset.pixel_hashes(model.target(), &self.device.compute().threads)?;
        let (start, total) = (Instant::now(), subset.len());
        let (mut told, mut failed) = (false, None);
        let shared = pass.is_shared();
        let mut waiting = || {
            if shared {
                // Those that wait for others here would wait for ever.
                return Control::Stop;
            }
            let message = "another process is computing these features: waiting for it".to_string();
            let seconds = start.elapsed().as_secs_f64();
            let event = match std::mem::replace(&mut told, true) {
                false => Event::CacheNote { message },
                true => Event::Features { split, done: 0, total, seconds },
            };
            emit(event).unwrap_or_else(|e| {
                failed = Some(e);
                Control::Stop
            })
        };
        let opened = Store::open(root, &self.key, &self.layout, &mut waiting);
        if let Some(error) = failed {
            return Err(error);
        }
        match opened {
            Ok(None) if shared => pass.store = self.reading(),
            Ok(None) => return Ok(Control::Stop),
            Ok(Some(store)) => {
                let folder = store.folder().display();
                if let Some(reason) = &store.rejected {
                    note(emit, format!("{folder}: {reason}; missing features are computed again"))?;
                }
                if let Some(reason) = &store.unwritable {
                    note(emit, format!("{reason}; cached features are read, and none are added"))?;
                }
                pass.about = About::read(store.folder());
                pass.store = Some(store);
            }
            Err(error) => note(emit, format!("{error}; no features are cached on disk"))?,
        }
        Ok(Control::Continue)
    }

    /// The entry on disk as it is now, to be read.
    pub(super) fn reading(&self) -> Option<Store> {
        let root = self.settings.folder.as_ref()?;
        Store::open_to_read(root, &self.key, &self.layout).ok()?
    }

    /// Gives the sink what the store has; positions of the images that it lacks, or `None` if the sink stopped it.
    fn take(&self, pass: &mut Pass<'_>, emit: &mut Emit<'_>) -> Result<Option<Vec<usize>>> {
        let Pass { wanted, images, store, .. } = pass;
        let Some(store) = store else { return Ok(Some((0..wanted.subset.len()).collect())) };
        let tensors = if wanted.means { &self.layout.tensors[..] } else { self.features() };
        let (mut row, mut values) = (vec![0; self.layout.row_bytes()], Vec::new());
        let (mut at, mut missing, mut damaged) = (Vec::new(), Vec::new(), 0);
        for (i, image) in images.iter().enumerate() {
            if !store.has(image) {
                missing.push(i);
            } else if let Some(sink) = &mut wanted.sink {
                if !store.read(image, &mut row) {
                    damaged += 1;
                    missing.push(i);
                    continue;
                }
                if at.is_empty() {
                    tensors.fit(self.batch, &mut values);
                }
                let bytes = self.layout.split(&row);
                for ((values, bytes), (_, n)) in values.iter_mut().zip(bytes).zip(tensors) {
                    decode(bytes, values, at.len() * n);
                }
                at.push(i);
                if at.len() == self.batch && sink(&at, &values)? == Control::Stop {
                    return Ok(None);
                }
                if at.len() == self.batch {
                    at.clear();
                }
            }
        }
        if let Some(sink) = wanted.sink.as_mut().filter(|_| !at.is_empty()) {
            tensors.fit(at.len(), &mut values);
            if sink(&at, &values)? == Control::Stop {
                return Ok(None);
            }
        }
        if damaged > 0 {
            let folder = store.folder().display();
            note(emit, format!("{folder}: {damaged} damaged rows are computed again"))?;
        }
        Ok(Some(missing))
    }

    pub(super) fn make_room(
        &self,
        pass: &mut Pass<'_>,
        rows: usize,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let (Some(root), Some(store)) = (&self.settings.folder, &mut pass.store) else {
            return Ok(());
        };
        let needed = (rows * self.layout.row_bytes()) as u64;
        if store.is_locked()
            && !make_room(root, store.folder(), needed, self.settings.disk).unwrap_or(false)
        {
            let (needed, most) = (needed >> 20, self.settings.disk >> 20);
            note(
                emit,
                format!(
                    "the features of frozen layers take {needed} MiB more, and the cache of {most} MiB has no room for them; \
                 they are not kept on disk"
                ),
            )?;
            store.unlock();
        }
        Ok(())
    }

    /// Computes the features of the images at `missing`, and writes them to disk.
    fn compute(
        &mut self,
        model: &Model,
        pass: &mut Pass<'_>,
        missing: &[usize],
        emit: &mut Emit<'_>,
    ) -> Result<Control> {
        self.begin(model, pass, missing, emit)?;
        let (before, start) = (pass.about.seconds, Instant::now());
        let (mut described, mut rows, mut control) = (start, Vec::new(), Control::Continue);
        let options = LoaderOptions::new(self.batch, model.target());
        let mut loader = Loader::new(pass.wanted.subset, missing.to_vec(), options)?;
        while let Some(batch) = loader.next() {
            let stores = pass.store.as_ref().is_some_and(Store::is_locked);
            // Features that nobody gets and that cannot be stored are of no use.
            if pass.wanted.sink.is_none() && !stores {
                break;
            }
            let batch = batch?;
            let means = stores || pass.wanted.means;
            let outputs = self.run_with(model, means, &batch.images, batch.count)?;
            if let Some(sink) = &mut pass.wanted.sink {
                control = sink(&batch.indices, outputs)?;
            }
            if stores {
                self.encode(batch.count, &mut rows);
                pass.add(&batch.indices, &rows, emit)?;
                pass.about.seconds = before + start.elapsed().as_secs_f64();
                pass.about.computed = pass.about.computed.saturating_add(batch.count);
                if described.elapsed() > DESCRIBE {
                    described = Instant::now();
                    pass.describe(emit)?;
                }
            }
            let count = batch.count;
            loader.recycle(batch);
            if pass.progress.add(count, emit)? == Control::Stop || control == Control::Stop {
                control = Control::Stop;
                break;
            }
        }
        pass.about.building = None;
        pass.describe(emit)?;
        Ok(control)
    }

    /// Writes the entry's description before the rows of the images at `missing` are added.
    pub(super) fn begin(
        &self,
        model: &Model,
        pass: &mut Pass<'_>,
        missing: &[usize],
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let names = self.nodes.iter().map(|&n| model.net.graph.nodes[n].name.clone());
        pass.about.model = model.card.architecture.clone();
        pass.about.layers = names.collect();
        pass.about.data = pass.wanted.data.to_string();
        // Images that occur more than once have one row.
        pass.about.building = pass.store.as_ref().map(|store| {
            let rows: HashSet<_> = missing.iter().map(|&i| pass.images[i]).collect();
            store.len() + rows.len()
        });
        if pass.about.computed == 0 {
            pass.about.computed = pass.about.images;
        }
        pass.describe(emit)
    }

    /// Features and means of the last run as rows.
    pub(super) fn encode(&self, count: usize, rows: &mut Vec<u8>) {
        rows.clear();
        for i in 0..count {
            for (output, &(_, n)) in self.outputs.iter().zip(&self.layout.tensors) {
                encode(slice(output.as_slice(), i * n, n), rows);
            }
        }
    }
}

impl Pass<'_> {
    /// Whether other processes make it too.
    pub fn is_shared(&self) -> bool {
        self.wanted.among.is_some()
    }

    /// Writes the entry's description, while rows are added to it.
    pub fn describe(&mut self, emit: &mut Emit<'_>) -> Result<()> {
        let Some(store) = self.store.as_ref().filter(|store| store.is_locked()) else {
            return Ok(());
        };
        self.about.write(store.folder()).or_else(|error| note(emit, error.to_string()))
    }

    /// Writes rows to disk, and stops doing so if that fails.
    pub fn add(&mut self, at: &[usize], rows: &[u8], emit: &mut Emit<'_>) -> Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let images: Vec<Hash> = at.iter().map(|&i| self.images[i]).collect();
        match store.add(&images, rows) {
            Ok(()) => self.about.images = store.len(),
            Err(error) => {
                self.about.building = None;
                let _ = self.about.write(store.folder());
                store.unlock();
                let rest = match self.wanted.sink {
                    Some(_) => "stay in memory only",
                    None => "are computed in every epoch",
                };
                note(emit, format!("{error}; features that are not on disk yet {rest}"))?;
            }
        }
        Ok(())
    }
}

fn note(emit: &mut Emit<'_>, message: String) -> Result<()> {
    emit(Event::CacheNote { message }).map(drop)
}
