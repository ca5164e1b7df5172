//! What a run tells.

use std::path::Path;

use headstart_kernels::element::DType;

use crate::control::{Control, UntilStop};
use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hub;
use crate::measure::events;
use crate::net::model::Model;
use crate::net::weights::LoadReport;

/// One thing that happened: of the first four kinds in this order, then training's own.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A published file that is not on this machine is being downloaded.
    Download(&'e hub::Event<'e>),
    /// The images are at hand. [`Dataset::skipped`] lists what could not be read,
    /// [`warnings`](crate::study::inspect::warnings) says what is likely not meant.
    Data(&'e Dataset),
    /// The model is at hand.
    Model {
        /// It; its card says how images enter.
        model: &'e Model,
        /// What its weights are.
        weights: Weights<'e>,
        /// What it computes in.
        dtype: DType,
    },
    /// Training begins.
    Begins {
        /// Where all that it leaves is written.
        folder: &'e Path,
        /// Epochs of all phases, those included that an earlier run had done.
        epochs: usize,
    },
    /// Something happened in training or evaluation.
    Training(&'e events::Event),
}

/// Where a model's weights come from.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'e> {
    /// From the file or the name in the settings; the head is new.
    Loaded {
        /// The settings' words for them.
        name: &'e str,
        /// What was loaded.
        report: &'e LoadReport,
    },
    /// Random numbers.
    Random {
        /// Whether everything trains in one phase, as nothing says from which layer on the net is to be fine-tuned after the
        /// head.
        from_scratch: bool,
    },
    /// The run that is resumed.
    Earlier,
}

/// Hears what happens, and says whether to go on. After it has said to stop, it hears no more.
pub type Listen<'l> = dyn FnMut(&Event<'_>) -> Control + 'l;

/// Tells what happens until it is told to stop.
pub(crate) struct Teller<'l> {
    listen: &'l mut Listen<'l>,
    told: UntilStop,
}

impl<'l> Teller<'l> {
    pub fn new(listen: &'l mut Listen<'l>) -> Teller<'l> {
        Teller { listen, told: UntilStop::default() }
    }

    pub fn tell(&mut self, event: &Event<'_>) -> Control {
        self.told.ask(|| (self.listen)(event))
    }

    /// Tells what happens in training.
    pub fn training(&mut self) -> impl FnMut(&events::Event) -> Control {
        |event| self.tell(&Event::Training(event))
    }

    /// Tells what happens to a download.
    pub fn download(&mut self) -> impl FnMut(&hub::Event<'_>) -> Control {
        |event| self.tell(&Event::Download(event))
    }

    /// Tells what happens where there is nothing yet to resume from.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn tell_first(&mut self, event: &Event<'_>) -> Result<()> {
        match self.tell(event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Stopped("nothing was written".into())),
        }
    }

    /// Whether it was told to stop.
    pub fn stopped(&self) -> bool {
        self.told.answer() == Control::Stop
    }
}
