//! From settings to a finished run, for every front end: opens the images, makes the model, chooses the phases, writes the
//! folder, trains, evaluates, draws and reports, and resumes a run that was stopped.
//!
//! ```
//! use headstart::config::TrainConfig;
//! use headstart::events;
//! use headstart::run::{Ended, Event, Job};
//! use headstart::Control;
//!
//! let folder = tempfile::tempdir()?;
//! let run = folder.path().join("run");
//! let few = TrainConfig { epochs: 1, fine_tune_at: None, limit: Some(64), ..TrainConfig::sample() };
//!
//! // Stop at the first step; any other event would do too.
//! let mut first_step = |event: &Event<'_>| match event {
//!     Event::Training(events::Event::Step { .. }) => Control::Stop,
//!     _ => Control::Continue,
//! };
//! let ended = Job::new(few).out(&run, false).run(&mut first_step)?;
//! assert!(matches!(ended, Ended::Stopped { .. }));
//!
//! // Resume it, to the same weights.
//! match Job::resume(&run)?.run(&mut |_| Control::Continue)? {
//!     Ended::Finished(finished) => println!("{}", finished.report.unwrap()),
//!     Ended::Stopped { kept, .. } => println!("{kept}"),
//! }
//! assert!(run.join("report.json").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod disk_cache;
mod earlier;
mod together;
mod told;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control::Control;
use crate::data::dataset::Dataset;
use crate::data::prints::Prints;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::measure::history::History;
use crate::measure::metrics::{LastEpoch, Report, Shipped};
use crate::net::model::Model;
use crate::net::weights::SHIPPED;
use crate::net::weights::model_file::Trained;
use crate::report;
use crate::session::config::{Precision, TrainConfig};
use crate::session::evaluate::Evaluated;
use crate::session::job::{self, build_model_with, open_data_with};
use crate::session::known::seen;
use crate::session::page;
use crate::session::settle::exactly;
use crate::train::collective::{Alone, Collective};
use crate::train::run_folder::RunFolder;
use crate::train::trainer::{Answers, Outcome, Phase, Settings, Trainer};

pub use batch::FirstBatch;
pub use disk_cache::{CacheFolder, DiskCache};
use earlier::Earlier;
use together::Machine;
pub(crate) use told::Teller;
pub use told::{Event, Listen, Weights};

/// Default run folder: this, then the same with a 2, and so on.
pub const RUNS: &str = "runs/train";

/// A run that is to be done.
#[derive(Debug)]
pub struct Job {
    config: TrainConfig,
    place: Place,
    cache: DiskCache,
    save_every: Option<Duration>,
    pictures: bool,
    allow_changes: bool,
    batch_that_fits: bool,
    data: Option<Dataset>,
    recipe: Option<String>,
    collective: Box<dyn Collective>,
}

/// Where a run writes.
#[derive(Debug)]
enum Place {
    /// In the first of [`RUNS`] that does not exist.
    Next,
    /// In this folder, which may have files in it if `exist_ok`.
    Own { folder: PathBuf, exist_ok: bool },
    /// In the folder of the run of these settings that is resumed.
    Earlier { folder: PathBuf, config: Box<TrainConfig> },
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// All phases are done, evaluated, reported and drawn.
    Finished(Box<Finished>),
    /// The caller stopped it.
    Stopped {
        /// The run's folder, which [`Job::resume`] resumes; none where there was nothing to write yet.
        folder: Option<PathBuf>,
        /// What was saved.
        kept: String,
    },
}

/// Results of a run.
#[derive(Debug)]
pub struct Finished {
    /// Its run folder.
    pub folder: PathBuf,
    /// Its settings, as config.toml has them.
    pub config: TrainConfig,
    /// Its images.
    pub data: Dataset,
    /// The model of the best epoch by the monitored metric, as weights/best.safetensors has it.
    pub model: Model,
    /// All epochs.
    pub history: History,
    /// The evaluation of that model; none where the data has neither test nor validation images.
    pub report: Option<Report>,
    /// Class probabilities of the images of that evaluation, `[images, classes]` row-major; empty where there is none.
    pub probabilities: Vec<f32>,
}

impl Finished {
    /// The best epoch by the monitored metric, whose weights are in weights/best.safetensors; none where no epoch was
    /// recorded.
    pub fn best_epoch(&self) -> Option<usize> {
        self.history.best(self.config.best_by()).map(|epoch| epoch.epoch)
    }
}

impl Job {
    /// A run with these settings, in the first of [`RUNS`] that does not exist.
    pub fn new(config: TrainConfig) -> Job {
        let (cache, save_every, data, recipe) = Default::default();
        let (allow_changes, batch_that_fits, pictures) = (false, false, true);
        let (place, collective) = (Place::Next, Box::new(Alone));
        Job {
            config,
            place,
            cache,
            save_every,
            pictures,
            allow_changes,
            batch_that_fits,
            data,
            recipe,
            collective,
        }
    }

    /// The run of `folder`, to be resumed.
    ///
    /// # Errors
    /// If its settings cannot be read.
    pub fn resume(folder: impl Into<PathBuf>) -> Result<Job> {
        let folder = folder.into();
        let config = TrainConfig::of_run(&folder)?;
        let own = Box::new(config.clone());
        Ok(Job { place: Place::Earlier { folder, config: own }, ..Job::new(config) })
    }

    /// Its settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The same with other settings; where a run is resumed, only threads, memory, TensorBoard, device and where the same
    /// images are may differ, and more after [`Job::allow_changes`]. Its config.toml gets what differs.
    #[must_use]
    pub fn with(self, config: TrainConfig) -> Job {
        Job { config, ..self }
    }

    /// Writes to `folder`, which may have files in it if `exist_ok`. A run that is resumed stays where it is.
    #[must_use]
    pub fn out(self, folder: impl Into<PathBuf>, exist_ok: bool) -> Job {
        let place = match self.place {
            Place::Earlier { .. } => self.place,
            _ => Place::Own { folder: folder.into(), exist_ok },
        };
        Job { place, ..self }
    }

    /// Caches features of the frozen layers for later runs there, not in the user's cache folder.
    #[must_use]
    pub fn cache(self, cache: DiskCache) -> Job {
        Job { cache, ..self }
    }

    /// How often last.safetensors is written within an epoch, as [`Settings::save_every`] has it.
    #[must_use]
    pub fn save_every(self, pause: Duration) -> Job {
        Job { save_every: Some(pause), ..self }
    }

    /// Whether curves and reports are drawn; [`report::redraw`] can draw them later from the run's other files.
    #[must_use]
    pub fn pictures(self, pictures: bool) -> Job {
        Job { pictures, ..self }
    }

    /// Resumes although settings differ or the device is another kind, so that the run may not reach the weights that it
    /// would have reached.
    #[must_use]
    pub fn allow_changes(self, allow: bool) -> Job {
        Job { allow_changes: allow, ..self }
    }

    /// Takes as many images a step as fit the memory, as [`Trainer::batch_that_fits`] has it, whatever the settings say. A run
    /// that is resumed keeps its own.
    #[must_use]
    pub fn batch_that_fits(self, fits: bool) -> Job {
        Job { batch_that_fits: fits, ..self }
    }

    /// Notes in config.toml what chose the settings: the flags `--recipe auto --budget 20m`, which are no settings themselves.
    #[must_use]
    pub fn chosen_by(self, flags: impl Into<String>) -> Job {
        Job { recipe: Some(flags.into()), ..self }
    }

    /// Takes `data`, which was opened as the settings say, and does not open it again.
    #[must_use]
    pub fn on(self, data: Dataset) -> Job {
        Job { data: Some(data), ..self }
    }

    /// Trains together with other processes, each of which does the same run: process 0 writes the folder, and all stop when one
    /// is told to. Where the settings leave threads and memory open, the processes of a machine share them.
    #[must_use]
    pub fn join(self, collective: Box<dyn Collective>) -> Job {
        Job { collective, ..self }
    }

    /// The phases. [`Job::run`] begins with this, before anything is read or written.
    ///
    /// # Errors
    /// If settings contradict each other or are out of range, or are not those of the run that is resumed.
    pub fn check(&self) -> Result<Vec<Phase>> {
        if let Place::Earlier { config, .. } = &self.place {
            earlier::check(config, &self.config, self.allow_changes)?;
        }
        self.config.check()?;
        let phases = self.config.phases(&job::bare_net(&self.config)?)?;
        job::check(&self.config)?;
        Ok(phases)
    }

    /// Does the whole run. `listen` gets every event and can stop the run at any of them: the run can then be resumed by
    /// [`Job::resume`], to the same weights as without the stop, if it had a folder by then.
    ///
    /// # Errors
    /// As [`Job::check`]; if images or weights cannot be downloaded or read or do not suit each other, the folder cannot be
    /// written, or as [`Trainer::fit`].
    pub fn run(self, listen: &mut Listen<'_>) -> Result<Ended> {
        let earlier = match &self.place {
            Place::Earlier { folder, .. } => Some(folder.clone()),
            _ => None,
        };
        match self.run_to_its_end(&mut Teller::new(listen)) {
            Err(Error::Stopped(kept)) => Ok(Ended::Stopped { folder: earlier, kept }),
            ended => ended,
        }
    }

    /// [`Error::Stopped`] before there is anything to resume from, or that was not there before.
    fn run_to_its_end(mut self, teller: &mut Teller<'_>) -> Result<Ended> {
        let phases = self.check()?;
        let asked = self.config.precision;
        let machine = Machine::of(&mut *self.collective)?;
        let device = self.device(machine)?;
        let data = self.open(teller)?;
        let (mut model, earlier) = self.model(&data, &device, teller)?;
        let device = self.settle((device, asked), (&model, &phases), teller)?;
        let before = model.card.trained.take();
        if let (Place::Earlier { .. }, Some(before)) = (&self.place, &before) {
            earlier::same(before, &self.config, &device, self.allow_changes)?;
        }
        self.find_batch_size((&mut model, &data), (&device, machine), &phases, teller)?;
        model.card.trained = Some(self.trained(&data, &device, before)?);
        let settings = self.settings(machine)?;
        let mut trainer = Trainer::new(&mut model, &data, device.clone(), settings)?;
        trainer.check_memory(&phases)?;
        let first = self.collective.rank() == 0;
        trainer.join(std::mem::replace(&mut self.collective, Box::new(Alone)));
        trainer.check_same(&self.facts(&device)?)?;
        let folder = self.record(&mut trainer, earlier, first)?;
        if first {
            teller.stop_by(&folder);
        }
        let epochs = phases.iter().map(|p| p.epochs).sum();
        // Training gets the stop at its own first event, when there is something to resume from.
        teller.tell(&Event::Begins { folder: &folder, epochs, monitor: self.config.monitor });
        self.pictures &= first;
        let stopped = match self.train(&mut trainer, &phases, &folder, teller)? {
            Some(last) => self.ship(&mut trainer, (&phases, last), (&folder, &device), teller)?,
            None => None,
        };
        let Some(evaluated) = stopped else {
            self.write_page((&folder, &data), &trainer, None, Some(epochs), &device)?;
            let last = folder.join("weights/last.safetensors");
            let kept = format!("the weights are saved in {}", last.display());
            return Ok(Ended::Stopped { folder: Some(folder), kept });
        };
        self.write_page((&folder, &data), &trainer, evaluated.as_ref(), None, &device)?;
        let (history, config) = (trainer.history, self.config);
        let (report, probabilities) =
            evaluated.map_or((None, Vec::new()), |e| (Some(e.report), e.probabilities));
        let finished = Finished { folder, config, data, model, history, report, probabilities };
        Ok(Ended::Finished(Box::new(finished)))
    }

    /// Writes report.html, which is about the shipped model; of a run that was `stopped`, which would have so many epochs, how
    /// far it came.
    fn write_page(
        &self,
        (folder, data): (&Path, &Dataset),
        trainer: &Trainer<'_>,
        answers: Option<&Evaluated>,
        stopped: Option<usize>,
        device: &Device,
    ) -> Result<()> {
        if !self.pictures {
            return Ok(());
        }
        let shown = page::Shown {
            folder,
            config: &self.config,
            history: &trainer.history,
            model: trainer.model(),
            epoch: match stopped {
                Some(_) => trainer.history.best(self.config.best_by()).map(|e| e.epoch),
                None => trainer.epoch().map(|e| e.epoch),
            },
            stopped,
            report: answers.map(|evaluated| &evaluated.report),
            data: Some(data),
            answers,
        };
        page::write(&shown, device).map(drop)
    }

    /// Starts threads and kernels, and writes their element type into the settings.
    fn device(&mut self, machine: Machine) -> Result<Device> {
        let config = &mut self.config;
        let threads = machine.threads(config.threads);
        let device = job::device(threads, config.precision, config.device)?;
        config.precision = Precision::exactly(device.dtype());
        Ok(device)
    }

    /// What `--device auto` comes to, which is written into the settings.
    fn settle(
        &mut self,
        (device, asked): (Device, Precision),
        (model, phases): (&Model, &[Phase]),
        teller: &mut Teller<'_>,
    ) -> Result<Device> {
        let config = &mut self.config;
        let work = (job::busiest(phases), config.batch_size);
        let (device, why) = job::settle(device, config.device, asked, model, work)?;
        config.device = exactly(&device, config.device);
        config.precision = Precision::exactly(device.dtype());
        // Where a GPU was asked for by name there is no reason, and everybody wants to see that it computes.
        let gpu = (!device.is_cpu()).then(|| format!("device: {}", device.fingerprint()));
        if let Some(why) = why.or(gpu) {
            teller.tell_first(&Event::Device(&why))?;
        }
        Ok(device)
    }

    fn open(&mut self, teller: &mut Teller<'_>) -> Result<Dataset> {
        let data = match self.data.take() {
            Some(data) => data,
            None => open_data_with(&self.config, &mut teller.download())?,
        };
        teller.tell_first(&Event::Data(&data))?;
        Ok(data)
    }

    /// The model and, where a run is resumed, its other state.
    fn model(
        &self,
        data: &Dataset,
        device: &Device,
        teller: &mut Teller<'_>,
    ) -> Result<(Model, Option<Earlier>)> {
        let (dtype, train_size) = (device.dtype(), self.config.train_size);
        if let Place::Earlier { folder, .. } = &self.place {
            let (model, earlier) = earlier::open(folder, data, self.collective.rank() == 0)?;
            let weights = Weights::Earlier;
            teller.tell_first(&Event::Model { model: &model, weights, dtype, train_size })?;
            return Ok((model, Some(earlier)));
        }
        let (model, report) = build_model_with(&self.config, data, &mut teller.download())?;
        let weights = match &report {
            Some(report) => Weights::Loaded { name: &self.config.weights, report },
            None => Weights::Random { from_scratch: self.config.from_scratch() },
        };
        teller.tell_first(&Event::Model { model: &model, weights, dtype, train_size })?;
        Ok((model, None))
    }

    /// What the model is trained on: these images and those that its weights were trained on before.
    fn trained(&self, data: &Dataset, device: &Device, before: Option<Trained>) -> Result<Trained> {
        let images = Prints::new(&data.train.image_hashes(&device.compute().threads)?);
        let TrainConfig { validation_split, test_split, stratify, seed, limit, .. } = self.config;
        let resumed = matches!(self.place, Place::Earlier { .. });
        let before = before.map_or_else(Prints::default, |b| match resumed {
            true => b.before,
            false => b.before.and(&b.images).and(&b.refit),
        });
        Ok(Trained {
            data: self.config.data.clone(),
            validation_split,
            test_split,
            stratify,
            group: self.config.group.clone(),
            seed,
            limit,
            images,
            refit: Prints::default(),
            before,
            settings: self.config.to_toml()?,
            device: Some(device.fingerprint()),
        })
    }

    fn settings(&self, machine: Machine) -> Result<Settings> {
        let cache = self.cache.with_memory(machine.memory(&self.config));
        Ok(self.config.settings(cache, self.save_every))
    }

    /// Makes `trainer` record in a new folder, or in that of the run that is resumed, if this is the `first` process; the folder's
    /// path.
    fn record(
        &self,
        trainer: &mut Trainer<'_>,
        earlier: Option<Earlier>,
        first: bool,
    ) -> Result<PathBuf> {
        let (folder, going_on) = match (earlier, &self.place) {
            (Some(Earlier { folder, progress, optimizer }), _) => {
                (folder, Some((progress, optimizer)))
            }
            (None, _) if !first => (None, None),
            (None, Place::Own { folder, exist_ok }) => {
                (Some(RunFolder::create(folder, *exist_ok)?), None)
            }
            (None, _) => (Some(RunFolder::create_next(RUNS)?), None),
        };
        let mut path = PathBuf::new();
        if let Some(mut folder) = folder {
            let (differs, recipe) = match &self.place {
                Place::Earlier { folder, config } => {
                    let differs = config.to_toml()? != self.config.to_toml()?;
                    (differs, TrainConfig::recipe_of_run(folder))
                }
                _ => (true, self.recipe.clone()),
            };
            if differs {
                folder.write_config(&self.config.to_run(recipe.as_deref())?)?;
            }
            if self.config.tensorboard {
                folder = folder.with_tensorboard(going_on.as_ref().map_or(0, |(p, _)| p.epochs));
            }
            path = folder.path().to_path_buf();
            trainer.record_in(folder)?;
        }
        if let Some((progress, optimizer)) = going_on {
            trainer.resume(progress, optimizer)?;
        }
        trainer.path_of_first(path)
    }

    /// All phases, each evaluated and its curves drawn; the evaluation of the last one's weights, which may be left out where
    /// they are the run's best. `None` if the caller said to stop.
    fn train(
        &self,
        trainer: &mut Trainer<'_>,
        phases: &[Phase],
        folder: &Path,
        teller: &mut Teller<'_>,
    ) -> Result<Option<Option<LastEpoch>>> {
        let mut last = None;
        for (i, phase) in phases.iter().enumerate() {
            let outcome = trainer.fit(phase, &mut teller.training());
            if matches!(outcome, Ok(Outcome::DoneBefore)) {
                continue;
            }
            self.draw(folder, &trainer.history, None)?;
            if outcome? == Outcome::Stopped {
                return Ok(None);
            }
            let best = trainer.history.best(self.config.best_by()).map(|e| e.epoch);
            let epoch = trainer.epoch().map(|e| e.epoch);
            let is_shipped = i + 1 == phases.len() && epoch == best;
            last = match is_shipped {
                true => None,
                false => trainer
                    .evaluate(&mut teller.training())?
                    .zip(epoch)
                    .map(|(r, epoch)| LastEpoch { epoch, loss: r.loss, accuracy: r.accuracy }),
            };
            if is_stopped(trainer, teller)? {
                return Ok(None);
            }
        }
        trainer.check_resumed()?;
        Ok(Some(last))
    }

    /// Calibrates, fits again where the settings say so, evaluates and reports the model of the best epoch; `last` is the evaluation of the last epoch's weights,
    /// where that is another. `None` if the caller said to stop.
    fn ship(
        &self,
        trainer: &mut Trainer<'_>,
        (phases, last): (&[Phase], Option<LastEpoch>),
        (folder, device): (&Path, &Device),
        teller: &mut Teller<'_>,
    ) -> Result<Option<Option<Evaluated>>> {
        if trainer.history.epochs.is_empty() {
            return Ok(Some(None));
        }
        trainer.take_best()?;
        if self.config.calibrate && trainer.refitted() == 0 {
            trainer.calibrate(&mut teller.training())?;
        }
        let stopped = is_stopped(trainer, teller)?;
        let best = trainer.epoch().map(|e| e.phase);
        let fitted = phases.iter().find(|p| p.solver.is_some() && Some(p.name) == best);
        if let (true, Some(phase)) = (self.config.refit && !stopped, fitted) {
            trainer.refit(phase, &mut teller.training())?;
        }
        let mut evaluated = trainer.answers(&mut teller.training())?.map(
            |Answers { report, probabilities, labels }| Evaluated { report, probabilities, labels },
        );
        if is_stopped(trainer, teller)? {
            return Ok(None);
        }
        if let (Some(Evaluated { report, .. }), Some(epoch)) = (&mut evaluated, trainer.epoch()) {
            report.shipped = Some(Shipped {
                file: SHIPPED.into(),
                epoch: epoch.epoch,
                epochs: trainer.history.epochs.len(),
                phase: epoch.phase,
                monitor: self.config.monitor.column(epoch),
                within: self.config.best_by().within,
                refit: trainer.refitted(),
                last,
            });
            let parts = page::held_out(trainer.data());
            let seen = seen(trainer.model(), parts.as_slice(), &device.compute().threads)?;
            report.trained_on = seen.map(|seen| seen.count);
            if trainer.folder().is_some() {
                report::write(folder, report)?;
            }
            self.draw(folder, &trainer.history, Some(report))?;
        }
        Ok(Some(evaluated))
    }

    fn draw(&self, folder: &Path, history: &History, report: Option<&Report>) -> Result<()> {
        match self.pictures {
            true => report::draw(folder, history, report),
            false => Ok(()),
        }
    }
}

/// Whether the caller said to stop; among several processes whether any was told to.
fn is_stopped(trainer: &mut Trainer<'_>, teller: &Teller<'_>) -> Result<bool> {
    let own = if teller.stopped() { Control::Stop } else { Control::Continue };
    Ok(trainer.agree(own)? == Control::Stop)
}
