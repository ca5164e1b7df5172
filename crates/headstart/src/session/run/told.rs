//! Events of a run.

use std::path::{Path, PathBuf};

use headstart_kernels::element::DType;

use crate::control::{Control, UntilStop};
use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hub;
use crate::measure::events;
use crate::measure::monitor::Monitor;
use crate::net::model::Model;
use crate::net::weights::LoadReport;
use crate::train::run_folder::STOP;

/// One event: the first four kinds come in this order, then training's own.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A published file that is not on this machine is being downloaded.
    Download(&'e hub::Event<'e>),
    /// The images are open. [`Dataset::skipped`] lists what could not be read,
    /// [`warnings`](crate::study::inspect::warnings) lists probable mistakes.
    Data(&'e Dataset),
    /// The model is ready.
    Model {
        /// The model; its card says how images enter.
        model: &'e Model,
        /// Its weights.
        weights: Weights<'e>,
        /// Its element type.
        dtype: DType,
        /// Height and width of training images in gradient steps, where they have one of their own.
        train_size: Option<usize>,
    },
    /// What `--device auto` came to, and why; or the GPU that was asked for.
    Device(&'e str),
    /// The images a step that fit the memory, where [`Job::batch_that_fits`](super::Job::batch_that_fits) asked for them.
    BatchSize(usize),
    /// Training begins.
    Begins {
        /// The run folder.
        folder: &'e Path,
        /// Epochs of all phases, including those that an earlier run had done.
        epochs: usize,
        /// The metric by which they are compared.
        monitor: Monitor,
    },
    /// A fold of a cross-validation is done.
    Fold {
        /// Which, from 1.
        fold: usize,
        /// Of how many.
        folds: usize,
        /// Accuracy on its images.
        accuracy: f64,
        /// Mean loss on them.
        loss: f64,
    },
    /// Something happened in training or evaluation.
    Training(&'e events::Event),
}

/// Where a model's weights come from.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'e> {
    /// From the file or the name in the settings; the head is new.
    Loaded {
        /// Their name in the settings.
        name: &'e str,
        /// What was loaded.
        report: &'e LoadReport,
    },
    /// Random initialisation.
    Random {
        /// Whether everything trains in one phase, because no layer to fine-tune from is named.
        from_scratch: bool,
    },
    /// The run that is resumed.
    Earlier,
}

/// Gets events, and says whether to continue. After it has stopped, it gets no more events.
pub type Listen<'l> = dyn FnMut(&Event<'_>) -> Control + 'l;

/// Sends events until the listener stops.
pub(crate) struct Teller<'l> {
    listen: &'l mut Listen<'l>,
    told: UntilStop,
    /// A file by which other processes say that the run is to stop.
    asked: Option<PathBuf>,
}

impl<'l> Teller<'l> {
    pub fn new(listen: &'l mut Listen<'l>) -> Teller<'l> {
        Teller { listen, told: UntilStop::default(), asked: None }
    }

    /// Stops, from now on, once the file of [`ask_to_stop`](crate::run_folder::ask_to_stop) is in the run's `folder`; one that
    /// was meant for an earlier process is removed.
    pub fn stop_by(&mut self, folder: &Path) {
        let file = folder.join(STOP);
        let _ = std::fs::remove_file(&file);
        self.asked = Some(file);
    }

    pub fn tell(&mut self, event: &Event<'_>) -> Control {
        let asked = self.asked.as_deref().is_some_and(|file| std::fs::remove_file(file).is_ok());
        self.told.ask(|| if asked { Control::Stop } else { (self.listen)(event) })
    }

    /// Sends an event of training.
    pub fn training(&mut self) -> impl FnMut(&events::Event) -> Control {
        |event| self.tell(&Event::Training(event))
    }

    /// Sends an event of a download.
    pub fn download(&mut self) -> impl FnMut(&hub::Event<'_>) -> Control {
        |event| self.tell(&Event::Download(event))
    }

    /// Sends an event when there is nothing to resume from yet.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn tell_first(&mut self, event: &Event<'_>) -> Result<()> {
        match self.tell(event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(Error::Stopped("nothing was written".into())),
        }
    }

    /// Whether the listener stopped.
    pub fn stopped(&self) -> bool {
        self.told.answer() == Control::Stop
    }
}
