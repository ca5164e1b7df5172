//! Training images at a size of their own. A random crop enlarges what it shows; a net that is trained on crops at four fifths
//! of the size sees objects as large as it will later, and each step takes three fifths of the time (Touvron et al. 2019, "Fixing the
//! train-test resolution discrepancy"; torchvision trains at 176 and evaluates at 224).

use super::{Settings, Trainer};
use crate::data::dataset::Subset;
use crate::error::Result;
use crate::net::graph::NodeId;
use crate::net::model::Model;
use crate::train::cache::{Frozen, Part};

/// The net as training images enter it, where that is not how others do.
#[derive(Debug)]
pub(super) struct Smaller {
    /// The same layers for images of another size.
    pub model: Model,
    /// Its frozen layers.
    pub frozen: Option<Frozen>,
}

impl Trainer<'_> {
    /// Prepares training images of a size of their own, if the settings have one, for a phase that reads `sources`; cached features
    /// of the phase before are taken over.
    pub(super) fn make_smaller(
        &mut self,
        steps: bool,
        sources: &[NodeId],
        batch: usize,
    ) -> Result<()> {
        let Trainer { model, data, device, settings, frozen, smaller, .. } = self;
        let (earlier, side) = (smaller.take(), settings.train_size.filter(|_| steps));
        let Some(side) = side.filter(|&side| (side, side) != (model.card.height, model.card.width))
        else {
            return Ok(());
        };
        let model = model.at_size(side)?;
        let frozen = match sources != [0] {
            true => {
                // Validation images come first.
                let held_out = data.validation.as_ref().map_or(0, Subset::len);
                let taken = frozen.as_ref().map_or(0, |frozen| frozen.bytes(held_out));
                let mut cache = settings.cache.clone();
                cache.memory = cache.memory.saturating_sub(taken);
                let new = Frozen::new(&model, sources, device, batch, &cache)?;
                Some(new.inherit(earlier.and_then(|earlier| earlier.frozen)))
            }
            false => None,
        };
        *smaller = Some(Smaller { model, frozen });
        Ok(())
    }

    /// The net and the frozen layers that the images of a part enter.
    pub(super) fn side(&self, part: Part) -> (&Model, Option<&Frozen>) {
        match &self.smaller {
            Some(smaller) if part == Part::Train => (&smaller.model, smaller.frozen.as_ref()),
            _ => (self.model, self.frozen.as_ref()),
        }
    }

    /// The same, to be changed.
    pub(super) fn side_mut(&mut self, part: Part) -> (&Model, Option<&mut Frozen>) {
        match &mut self.smaller {
            Some(smaller) if part == Part::Train => (&smaller.model, smaller.frozen.as_mut()),
            _ => (self.model, self.frozen.as_mut()),
        }
    }
}

/// Fails for a size that the net cannot have.
pub(super) fn check(model: &Model, settings: &Settings) -> Result<()> {
    settings.train_size.map_or(Ok(()), |side| model.net_at_size(side).map(drop))
}
