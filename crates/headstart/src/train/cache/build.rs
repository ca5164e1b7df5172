//! Filling the cache with the features of a subset, and reading them batch by batch.

use std::time::Instant;

use headstart_kernels::element::Values;

use super::element::{copy, decode, encode, fit, part as slice};
use super::folder::{About, make_room};
use super::{Emit, Frozen, Hash, Keeping, Layout, Part, Rows, Store};
use crate::control::Control;
use crate::data::batches::{Loader, LoaderOptions};
use crate::data::dataset::Subset;
use crate::engine::inference::Features;
use crate::error::Result;
use crate::measure::events::Event;
use crate::net::model::Model;

/// A subset's rows while they are made.
struct Build<'b> {
    part: Part,
    subset: &'b Subset,
    /// Hash of each image; empty without a cache on disk.
    images: Vec<Hash>,
    store: Option<Store>,
    /// Where the rows go in memory, if there.
    features: Option<Features>,
}

impl Frozen {
    /// Makes the features of a part of a data set available as `keeping` says: reads those that the
    /// cache on disk has, computes the others, and adds them to it. Does nothing if they are cached
    /// already.
    ///
    /// Problems with the cache on disk are reported as [`Event::CacheNote`] and cost no more than the
    /// time to compute the features.
    ///
    /// # Errors
    /// If an image cannot be read or `emit` fails.
    pub fn keep(
        &mut self,
        model: &Model,
        data: &str,
        (part, subset): (Part, &Subset),
        keeping: Keeping,
        emit: &mut Emit<'_>,
    ) -> Result<Control> {
        if self.rows(part).is_some() || keeping == Keeping::Nowhere {
            return Ok(Control::Continue);
        }
        // A stop that was answered to a note holds from the next event on, which is not told any more.
        let mut told = Control::Continue;
        let emit: &mut Emit<'_> = &mut |event| {
            if told == Control::Continue {
                told = emit(event)?;
            }
            Ok(told)
        };
        let count = subset.len();
        let features = (keeping == Keeping::Memory).then(|| {
            let elements: Vec<usize> = self.layout.tensors.iter().map(|t| t.1).collect();
            let mut tensors = Vec::new();
            fit_all(&self.layout, count, &mut tensors);
            Features { elements, tensors, count }
        });
        let mut build = Build { part, subset, images: Vec::new(), store: None, features };
        if self.open(&mut build, emit)? == Control::Stop {
            return Ok(Control::Stop);
        }
        let missing = self.take(&mut build, emit)?;
        let reused = count - missing.len();
        if !missing.is_empty() {
            self.make_room(&mut build, missing.len(), emit)?;
        }
        let about = build.store.as_ref().map(|s| About::read(s.folder())).unwrap_or_default();
        let saved = about.seconds / about.images.max(1) as f64 * reused as f64;
        let start = Instant::now();
        let (computed, control) = self.compute(model, &mut build, &missing, emit)?;
        if let Some(store) = build.store.as_mut().filter(|_| computed > 0) {
            let graph = &model.net.graph;
            let about = About {
                model: model.card.architecture.clone(),
                layers: self.nodes.iter().map(|&n| graph.nodes[n].name.clone()).collect(),
                data: data.to_string(),
                images: about.images.saturating_add(computed),
                seconds: about.seconds + start.elapsed().as_secs_f64(),
            };
            if let Err(error) = about.write(store.folder()) {
                note(emit, error.to_string())?;
            }
        }
        if let Some(store) = &mut build.store {
            store.unlock();
        }
        if control == Control::Stop {
            return Ok(Control::Stop);
        }
        let folder = build.store.as_ref().map(|s| s.folder().display().to_string());
        let bytes = (reused * self.layout.row_bytes()) as u64;
        let rows = match (build.features, build.store) {
            (Some(features), _) => {
                self.used += self.bytes(count);
                Some(Rows::Memory(features))
            }
            (None, Some(store)) if build.images.iter().any(|image| store.has(image)) => {
                Some(Rows::Disk { store, images: build.images })
            }
            (None, _) => None,
        };
        *self.slot(part) = rows;
        let split = part.name();
        emit(Event::Cache { split, images: count, reused, bytes, seconds: saved, folder })
    }

    /// Opens the entry on disk, where there is to be one.
    fn open(&mut self, build: &mut Build<'_>, emit: &mut Emit<'_>) -> Result<Control> {
        let Some(root) = &self.settings.folder else { return Ok(Control::Continue) };
        build.images = build.subset.content_hashes(&self.device.compute().threads)?;
        let (split, total) = (build.part.name(), build.subset.len());
        let (start, mut told, mut failed) = (Instant::now(), false, None);
        let mut waiting = || {
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
            Ok(None) => return Ok(Control::Stop),
            Ok(Some(store)) => {
                if let Some(reason) = &store.rejected {
                    let folder = store.folder().display();
                    note(emit, format!("{folder}: {reason}; missing features are computed again"))?;
                }
                build.store = Some(store);
            }
            Err(error) => note(emit, format!("{error}; no features are cached on disk"))?,
        }
        Ok(Control::Continue)
    }

    /// Takes what the store has; positions of the images that it lacks.
    fn take(&self, build: &mut Build<'_>, emit: &mut Emit<'_>) -> Result<Vec<usize>> {
        let Some(store) = &mut build.store else { return Ok((0..build.subset.len()).collect()) };
        let mut row = vec![0; self.layout.row_bytes()];
        let (mut missing, mut damaged) = (Vec::new(), 0);
        for (i, image) in build.images.iter().enumerate() {
            if !store.has(image) {
                missing.push(i);
            } else if let Some(features) = &mut build.features {
                if store.read(image, &mut row) {
                    place(&self.layout, &row, features, i);
                } else {
                    damaged += 1;
                    missing.push(i);
                }
            }
        }
        if damaged > 0 {
            let folder = store.folder().display();
            note(emit, format!("{folder}: {damaged} damaged rows are computed again"))?;
        }
        Ok(missing)
    }

    fn make_room(&self, build: &mut Build<'_>, rows: usize, emit: &mut Emit<'_>) -> Result<()> {
        let (Some(root), Some(store)) = (&self.settings.folder, &mut build.store) else {
            return Ok(());
        };
        let needed = (rows * self.layout.row_bytes()) as u64;
        if !make_room(root, store.folder(), needed, self.settings.disk).unwrap_or(false) {
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

    /// Computes the features of the images at `missing`; how many were written to disk.
    fn compute(
        &mut self,
        model: &Model,
        build: &mut Build<'_>,
        missing: &[usize],
        emit: &mut Emit<'_>,
    ) -> Result<(usize, Control)> {
        let (start, total, split) = (Instant::now(), missing.len(), build.part.name());
        let (mut done, mut stored, mut rows) = (0, 0, Vec::new());
        if missing.is_empty() {
            return Ok((0, Control::Continue));
        }
        let options = LoaderOptions::new(self.batch, model.target());
        let mut loader = Loader::new(build.subset, missing.to_vec(), options)?;
        while let Some(batch) = loader.next() {
            // Without a place in memory, features that cannot be stored are of no use.
            if build.features.is_none() && !build.store.as_ref().is_some_and(Store::is_locked) {
                break;
            }
            let batch = batch?;
            let outputs = self.run(model, &batch.images, batch.count)?;
            if let Some(features) = &mut build.features {
                for (t, &n) in features.elements.iter().enumerate() {
                    let output = outputs[t].as_slice();
                    for (b, &i) in batch.indices.iter().enumerate() {
                        copy(slice(output, b * n, n), &mut features.tensors[t], i * n);
                    }
                }
            }
            if build.store.as_ref().is_some_and(Store::is_locked) {
                self.encode(batch.count, &mut rows);
                stored += add(build, &batch.indices, &rows, emit)?;
            }
            done += batch.count;
            loader.recycle(batch);
            let seconds = start.elapsed().as_secs_f64();
            if emit(Event::Features { split, done, total, seconds })? == Control::Stop {
                return Ok((stored, Control::Stop));
            }
        }
        Ok((stored, Control::Continue))
    }

    /// The features of the last run as rows.
    fn encode(&self, count: usize, rows: &mut Vec<u8>) {
        rows.clear();
        for i in 0..count {
            for (output, &(_, n)) in self.outputs.iter().zip(&self.layout.tensors) {
                encode(slice(output.as_slice(), i * n, n), rows);
            }
        }
    }

    /// Copies the features of the images at `indices` of a part that is cached, one tensor per layer.
    /// Those that are not on disk, or damaged there, are computed. `false` if the part is not cached.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn gather(
        &mut self,
        model: &Model,
        (part, subset): (Part, &Subset),
        indices: &[usize],
        out: &mut Vec<Values>,
    ) -> Result<bool> {
        let layout = self.layout.clone();
        let (store, images) = match self.slot(part) {
            None => return Ok(false),
            Some(Rows::Memory(features)) => {
                features.gather(indices, out);
                return Ok(true);
            }
            Some(Rows::Disk { store, images }) => (store, images),
        };
        fit_all(&layout, indices.len(), out);
        let (mut row, mut missing) = (vec![0; layout.row_bytes()], Vec::new());
        for (k, &i) in indices.iter().enumerate() {
            if !store.read(&images[i], &mut row) {
                missing.push((k, i));
                continue;
            }
            for ((tensor, bytes), (_, n)) in
                out.iter_mut().zip(layout.split(&row)).zip(&layout.tensors)
            {
                decode(bytes, tensor, k * n);
            }
        }
        let order = missing.iter().map(|&(_, i)| i).collect();
        let loader = Loader::new(subset, order, LoaderOptions::new(self.batch, model.target()))?;
        let mut places = missing.iter().map(|&(k, _)| k);
        for batch in loader {
            let batch = batch?;
            let outputs = self.run(model, &batch.images, batch.count)?;
            for (b, k) in places.by_ref().take(batch.count).enumerate() {
                for (t, &(_, n)) in layout.tensors.iter().enumerate() {
                    let values = slice(outputs[t].as_slice(), b * n, n);
                    copy(values, &mut out[t], k * n);
                }
            }
        }
        Ok(true)
    }
}

/// Writes rows to disk, and stops doing so if that fails. How many were written.
fn add(build: &mut Build<'_>, at: &[usize], rows: &[u8], emit: &mut Emit<'_>) -> Result<usize> {
    let Some(store) = &mut build.store else { return Ok(0) };
    let images: Vec<Hash> = at.iter().map(|&i| build.images[i]).collect();
    match store.add(&images, rows) {
        Ok(()) => Ok(images.len()),
        Err(error) => {
            store.unlock();
            let rest = match build.features {
                Some(_) => "stay in memory only",
                None => "are computed in every epoch",
            };
            note(emit, format!("{error}; features that are not on disk yet {rest}"))?;
            Ok(0)
        }
    }
}

/// Copies a row to image `i`'s place.
fn place(layout: &Layout, row: &[u8], features: &mut Features, i: usize) {
    for (t, bytes) in layout.split(row).enumerate() {
        decode(bytes, &mut features.tensors[t], i * features.elements[t]);
    }
}

/// Makes room for the rows of `count` images.
fn fit_all(layout: &Layout, count: usize, tensors: &mut Vec<Values>) {
    tensors.resize(layout.tensors.len(), Values::default());
    for (tensor, &(dtype, n)) in tensors.iter_mut().zip(&layout.tensors) {
        fit(tensor, dtype, n * count);
    }
}

fn note(emit: &mut Emit<'_>, message: String) -> Result<()> {
    emit(Event::CacheNote { message }).map(drop)
}
