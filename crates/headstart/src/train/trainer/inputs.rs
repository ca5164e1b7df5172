//! Inputs of a phase's plans, batch by batch.

use headstart_kernels::element::Values;
use headstart_kernels::loss::Labels;

use super::{Settings, Trainer};
use crate::data::augment::Augment;
use crate::data::batch::{Batch, Portion};
use crate::data::batches::{Loader, LoaderOptions, balanced_order, epoch_order};
use crate::data::dataset::Subset;
use crate::engine::execute::Input;
use crate::error::Result;
use crate::net::model::Model;
use crate::train::cache::{Frozen, Part};

/// Positions of the training images of an epoch in the order of its steps, and their augmentation.
pub(super) fn of_epoch(
    settings: &Settings,
    images: &Subset,
    epoch: usize,
) -> (Vec<usize>, Augment) {
    let seed = u64::from(settings.seed);
    let order = match settings.balance {
        true => balanced_order(seed, epoch, &images.labels()),
        false => epoch_order(seed, epoch, images.len(), settings.shuffle),
    };
    let (list, mixing) = (settings.augment.clone(), settings.mixing);
    (order, Augment { list, seed, epoch, mixing, step: 0 })
}

impl Trainer<'_> {
    /// Images of the first training step, augmented as [`Settings::augment`] says, before they are upsampled and
    /// normalised.
    ///
    /// # Errors
    /// If an image cannot be decoded.
    pub fn first_batch(&self) -> Result<Batch> {
        let (mut order, augment) = of_epoch(&self.settings, &self.data.train, 1);
        order.truncate(self.settings.batch_size);
        let mut target = self.model.target();
        if let Some(side) = self.settings.train_size {
            (target.height, target.width) = (side, side);
        }
        let options = LoaderOptions::new(self.settings.batch_size, target);
        let mut batches = Loader::augmented(&self.data.train, order, options, augment)?;
        batches.next().unwrap_or_else(|| Ok(Batch::default()))
    }
}

/// Inputs of the training or validation plan, batch by batch: cached features, or images, or features computed from
/// images.
pub(super) struct Inputs<'s> {
    part: (Part, &'s Subset),
    /// The order and all labels, where features are cached.
    kept: Option<(Vec<usize>, Vec<usize>)>,
    rows: Vec<Values>,
    labels: Vec<u32>,
    loader: Option<Loader>,
    batch: Batch,
    batch_size: usize,
    /// Which images of each batch are there.
    portion: Portion,
    at: usize,
    /// Images of all batches.
    total: usize,
}

impl<'s> Inputs<'s> {
    /// For the images of `part` at the positions `order`, of which a portion of each batch is read; `kept` says that their
    /// features are cached.
    pub fn new(
        part: (Part, &'s Subset),
        order: Vec<usize>,
        kept: bool,
        (batch_size, portion): (usize, Portion),
        model: &Model,
        augment: Augment,
    ) -> Result<Inputs<'s>> {
        let total = order.len();
        let (kept, loader) = match kept {
            true => (Some((order, part.1.labels())), None),
            false => {
                let options = LoaderOptions::new(batch_size, model.target());
                let options = LoaderOptions { portion, ..options };
                (None, Some(Loader::augmented(part.1, order, options, augment)?))
            }
        };
        let (rows, labels, batch) = Default::default();
        let at = 0;
        Ok(Inputs { part, kept, rows, labels, loader, batch, batch_size, portion, at, total })
    }

    /// Makes the next batch the current one and returns its size, that of the images that are not read included.
    pub fn next(&mut self, model: &Model, frozen: Option<&mut Frozen>) -> Result<usize> {
        let start = self.at;
        self.at = (start + self.batch_size).min(self.total);
        let count = self.at - start;
        match (&self.kept, &mut self.loader, frozen) {
            (Some((order, labels)), _, Some(frozen)) => {
                let indices = &order[start..self.at][self.portion.range(count)];
                self.labels.clear();
                self.labels.extend(indices.iter().map(|&i| labels[i] as u32));
                frozen.gather(model, self.part, indices, &mut self.rows)?;
                Ok(count)
            }
            (_, Some(loader), frozen) => {
                loader.recycle(std::mem::take(&mut self.batch));
                if let Some(batch) = loader.next() {
                    self.batch = batch?;
                }
                let Batch { images, count: has, .. } = &self.batch;
                if let Some(frozen) = frozen.filter(|_| *has > 0) {
                    frozen.run(model, images, *has)?;
                }
                Ok(count)
            }
            _ => Ok(0),
        }
    }

    /// The current batch's tensors and labels.
    pub fn current<'b>(&'b self, frozen: Option<&'b Frozen>) -> (Vec<Input<'b>>, Labels<'b>) {
        if self.kept.is_some() {
            return (self.rows.iter().map(Input::from).collect(), Labels::from(&self.labels));
        }
        let second = self.batch.mixed.as_ref().map(|m| (&m.labels[..], m.share));
        let inputs = match frozen {
            None => vec![Input::from(&self.batch.images)],
            Some(frozen) => frozen.outputs().iter().map(Input::from).collect(),
        };
        (inputs, Labels { first: &self.batch.labels, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::data::augment::Mixing;
    use crate::train::trainer::{Phase, Solver};
    use crate::{Dataset, Model};

    #[test]
    fn changed_images_are_never_those_a_solved_head_has_kept() {
        let data = Dataset::load("synthetic:2x40x32").unwrap();
        let loss = |augment: &[&str], mixing| {
            let mut model = Model::builder("resnet20").weights("cifar10").build(&data).unwrap();
            let device = crate::Device::cpu(1).unwrap();
            let augment = augment.iter().map(|a| a.parse().unwrap()).collect();
            let settings = Settings { augment, mixing, ..Settings::default() };
            let mut trainer = Trainer::new(&mut model, &data, device, settings).unwrap();
            for phase in [Phase::solved_head(Solver::default()), Phase::head(1, 1e-3)] {
                trainer.fit(&phase, &mut |_| Control::Continue).unwrap();
            }
            trainer.history.epochs.last().unwrap().loss
        };
        let plain = loss(&[], Mixing::default());
        assert_eq!(plain, loss(&[], Mixing::default()));
        assert!(plain != loss(&["erase:1"], Mixing::default()));
        assert!(plain != loss(&[], Mixing { cutmix: Some(1.0), mixup: None }));
    }
}
