//! Making the features of a part of a data set available to training, and reading them batch by batch.

use headstart_kernels::element::Values;

use super::element::{Tensors, copy, decode, part as slice};
use super::fill::{Filled, Wanted};
use super::{Emit, Frozen, Keeping, Part, Rows};
use crate::control::Control;
use crate::data::batches::{Loader, LoaderOptions};
use crate::data::dataset::Subset;
use crate::engine::inference::Features;
use crate::error::Result;
use crate::net::model::Model;
use crate::train::collective::Collective;

/// Whether it is so in all processes.
fn everywhere(own: bool, among: &mut dyn Collective) -> Result<bool> {
    match among.size() {
        0 | 1 => Ok(own),
        _ => Ok(among.gather(&[u8::from(own)])?.iter().all(|b| b == &[1])),
    }
}

impl Frozen {
    /// Makes the features of a part of a data set available as `keeping` says: reads those that the
    /// cache on disk has, computes the others, and adds them to it. Does nothing if they are cached
    /// already.
    ///
    /// Among several processes each computes its part of what any of them lacks, and all get all; all have to call this.
    ///
    /// Problems with the cache on disk are reported as [`Event::CacheNote`] and cost no more than the
    /// time to compute the features.
    ///
    /// # Errors
    /// If an image cannot be read or `emit` fails.
    ///
    /// [`Event::CacheNote`]: crate::measure::events::Event::CacheNote
    pub fn keep(
        &mut self,
        model: &Model,
        data: &str,
        (part, subset): (Part, &Subset),
        keeping: Keeping,
        among: &mut (dyn Collective + 'static),
        emit: &mut Emit<'_>,
    ) -> Result<Control> {
        if keeping == Keeping::Nowhere || everywhere(self.rows(part).is_some(), among)? {
            return Ok(Control::Continue);
        }
        let count = subset.len();
        let mut features = (keeping == Keeping::Memory).then(|| {
            let (elements, mut tensors) = (self.features().iter().map(|t| t.1).collect(), vec![]);
            self.features().fit(count, &mut tensors);
            Features { elements, tensors, count }
        });
        let mut place = features.as_mut().map(|features| {
            |at: &[usize], values: &[Values]| {
                for ((to, from), &n) in
                    features.tensors.iter_mut().zip(values).zip(&features.elements)
                {
                    for (k, &i) in at.iter().enumerate() {
                        copy(slice(from.as_slice(), k * n, n), to, i * n);
                    }
                }
                Ok(Control::Continue)
            }
        });
        let sink = place.as_mut().map(|place| place as _);
        let split = part.name();
        let among = Some(among);
        let wanted = Wanted { data, split, subset, sink, means: false, wider: false, among };
        let Some(filled) = self.fill(model, wanted, emit)? else { return Ok(Control::Stop) };
        let Filled { store, images, control } = filled;
        let rows = match (features, store) {
            (Some(features), _) => {
                self.used += self.bytes(count);
                Some(Rows::Memory(features))
            }
            (None, Some(store)) if images.iter().any(|image| store.has(image)) => {
                Some(Rows::Disk { store, images })
            }
            (None, _) => None,
        };
        *self.slot(part) = rows;
        Ok(control)
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
        let features = &layout.tensors[..self.nodes.len()];
        let (store, images) = match self.slot(part) {
            None => return Ok(false),
            Some(Rows::Memory(features)) => {
                features.gather(indices, out);
                return Ok(true);
            }
            Some(Rows::Disk { store, images }) => (store, images),
        };
        features.fit(indices.len(), out);
        let (mut row, mut missing) = (vec![0; layout.row_bytes()], Vec::new());
        for (k, &i) in indices.iter().enumerate() {
            if !store.read(&images[i], &mut row) {
                missing.push((k, i));
                continue;
            }
            for ((tensor, bytes), (_, n)) in out.iter_mut().zip(layout.split(&row)).zip(features) {
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
                for (t, &(_, n)) in features.iter().enumerate() {
                    let values = slice(outputs[t].as_slice(), b * n, n);
                    copy(values, &mut out[t], k * n);
                }
            }
        }
        Ok(true)
    }
}
