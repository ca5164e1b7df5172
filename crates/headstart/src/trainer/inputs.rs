//! What the plans of a phase read, batch by batch.

use headstart_kernels::element::{Slice, Values};

use crate::augment::Augment;
use crate::batches::{Batch, Loader, LoaderOptions};
use crate::dataset::Subset;
use crate::error::Result;
use crate::execute::Executor;
use crate::inference::Features;
use crate::model::Model;

/// What the training or validation plan reads, batch by batch: kept features, or images, or
/// what the frozen layers make of images.
pub(super) struct Inputs<'f> {
    kept: Option<(&'f Features, Vec<u32>, Vec<usize>)>,
    rows: Vec<Values>,
    labels: Vec<u32>,
    loader: Option<Loader>,
    batch: Batch,
    batch_size: usize,
    at: usize,
}

impl<'f> Inputs<'f> {
    pub fn new(
        subset: &Subset,
        order: Vec<usize>,
        kept: Option<&'f Features>,
        batch_size: usize,
        model: &Model,
        augment: Augment,
    ) -> Result<Inputs<'f>> {
        let (kept, loader) = match kept {
            Some(features) => {
                let labels = subset.labels().iter().map(|&l| l as u32).collect();
                (Some((features, labels, order)), None)
            }
            None => {
                let options = LoaderOptions::new(batch_size, model.target());
                (None, Some(Loader::augmented(subset, order, options, augment)?))
            }
        };
        let (rows, labels, batch) = Default::default();
        Ok(Inputs { kept, rows, labels, loader, batch, batch_size, at: 0 })
    }

    /// Makes the next batch the current one and returns its size.
    pub fn next(&mut self, prefix: Option<&mut Executor>) -> Result<usize> {
        if let Some((features, labels, order)) = &self.kept {
            let end = (self.at + self.batch_size).min(order.len());
            let indices = &order[self.at..end];
            features.gather(indices, &mut self.rows);
            self.labels.clear();
            self.labels.extend(indices.iter().map(|&i| labels[i]));
            self.at = end;
            return Ok(indices.len());
        }
        let Some(loader) = &mut self.loader else { return Ok(0) };
        let used = std::mem::take(&mut self.batch);
        loader.recycle(used);
        if let Some(batch) = loader.next() {
            self.batch = batch?;
        }
        if let Some(prefix) = prefix {
            prefix.forward(&[&self.batch.images], self.batch.count)?;
        }
        Ok(self.batch.count)
    }

    /// The current batch's tensors and labels.
    pub fn current<'s>(
        &'s self,
        prefix: Option<&'s Executor>,
        count: usize,
    ) -> (Vec<Slice<'s>>, &'s [u32]) {
        match (&self.kept, prefix) {
            (Some(_), _) => (self.rows.iter().map(Values::as_slice).collect(), &self.labels),
            (None, None) => (vec![Slice::F32(&self.batch.images)], &self.batch.labels),
            (None, Some(prefix)) => {
                let outputs = prefix.plan().request.outputs.len();
                let tensors = (0..outputs).map(|i| prefix.stored_output(i, count)).collect();
                (tensors, &self.batch.labels)
            }
        }
    }
}
