//! What the plans of a phase read, batch by batch.

use headstart_kernels::element::{Slice, Values};

use crate::augment::Augment;
use crate::batches::{Batch, Loader, LoaderOptions};
use crate::cache::{Frozen, Part};
use crate::dataset::Subset;
use crate::error::Result;
use crate::model::Model;

/// What the training or validation plan reads, batch by batch: kept outputs of frozen layers, or
/// images, or what the frozen layers make of images.
pub(super) struct Inputs<'s> {
    part: (Part, &'s Subset),
    /// The order and all labels, where outputs are kept.
    kept: Option<(Vec<usize>, Vec<usize>)>,
    rows: Vec<Values>,
    labels: Vec<u32>,
    loader: Option<Loader>,
    batch: Batch,
    batch_size: usize,
    at: usize,
}

impl<'s> Inputs<'s> {
    /// For the images of `part` at the positions `order`; `kept` says that their outputs are.
    pub fn new(
        part: (Part, &'s Subset),
        order: Vec<usize>,
        kept: bool,
        batch_size: usize,
        model: &Model,
        augment: Augment,
    ) -> Result<Inputs<'s>> {
        let (kept, loader) = match kept {
            true => (Some((order, part.1.labels())), None),
            false => {
                let options = LoaderOptions::new(batch_size, model.target());
                (None, Some(Loader::augmented(part.1, order, options, augment)?))
            }
        };
        let (rows, labels, batch) = Default::default();
        Ok(Inputs { part, kept, rows, labels, loader, batch, batch_size, at: 0 })
    }

    /// Makes the next batch the current one and returns its size.
    pub fn next(&mut self, model: &Model, frozen: Option<&mut Frozen>) -> Result<usize> {
        match (&self.kept, &mut self.loader, frozen) {
            (Some((order, labels)), _, Some(frozen)) => {
                let end = (self.at + self.batch_size).min(order.len());
                let indices = &order[self.at..end];
                self.labels.clear();
                self.labels.extend(indices.iter().map(|&i| labels[i] as u32));
                self.at = end;
                frozen.gather(model, self.part, indices, &mut self.rows)?;
                Ok(indices.len())
            }
            (_, Some(loader), frozen) => {
                loader.recycle(std::mem::take(&mut self.batch));
                if let Some(batch) = loader.next() {
                    self.batch = batch?;
                }
                let Batch { images, count, .. } = &self.batch;
                if let Some(frozen) = frozen {
                    frozen.executor(model)?.forward(&[images], *count)?;
                }
                Ok(*count)
            }
            _ => Ok(0),
        }
    }

    /// The current batch's tensors and labels.
    pub fn current<'b>(
        &'b self,
        frozen: Option<&'b Frozen>,
        count: usize,
    ) -> (Vec<Slice<'b>>, &'b [u32]) {
        match (&self.kept, frozen) {
            (Some(_), _) => (self.rows.iter().map(Values::as_slice).collect(), &self.labels),
            (None, None) => (vec![Slice::F32(&self.batch.images)], &self.batch.labels),
            (None, Some(frozen)) => (frozen.outputs(count), &self.batch.labels),
        }
    }
}
