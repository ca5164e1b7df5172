//! A training of a data set that the page made: settings by a recipe, then the run, then the model is served.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use headstart::config::TrainConfig;
use headstart::events::Event as Step;
use headstart::hub::{self, Hub, sources};
use headstart::recipe::{Opened, RecipeName, start};
use headstart::run::{Ended, Event, Job};
use headstart::{Control, Error, Result};

use super::sets::Set;
use super::{Begin, Training, made};
use crate::answer::{Refusal, said};
use crate::models::Models;
use crate::runs::{Runs, Stop};

/// Photos of a class that leave some to measure on.
const LEAST: usize = 5;

/// Fails if a data set cannot be learned.
fn check(set: &Set) -> Result<()> {
    if set.classes.len() < 2 {
        let found = set.classes.len().to_string();
        let hint = "name what is to be told apart, and give photos of each";
        return Err(Error::invalid("classes", "at least 2", found, hint));
    }
    match set.classes.iter().find(|class| class.count < LEAST) {
        Some(class) => {
            let expected = format!("at least {LEAST} photos");
            let hint = "give it more, or remove the class";
            Err(Error::invalid(&class.name, expected, class.count.to_string(), hint))
        }
        None => Ok(()),
    }
}

/// What is trained.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The data set.
    pub set: String,
    /// The name of a net.
    pub net: String,
    /// How long it may take; none for a head alone.
    pub budget: Option<Duration>,
}

impl Begin {
    /// Begins to train; the run's name.
    ///
    /// # Errors
    /// If another training goes on, or the data set has fewer than two classes with images.
    pub fn start(
        self: &Arc<Begin>,
        wish: Wish,
        runs: &Arc<Runs>,
        models: &Arc<Models>,
    ) -> std::result::Result<String, Refusal> {
        let failed = |error: &Error| Refusal::of(StatusCode::UNPROCESSABLE_ENTITY, error);
        let set = self.sets.one(&wish.set).map_err(|error| failed(&error))?;
        check(&set).map_err(|error| failed(&error))?;
        let mut training = self.training();
        if let Some(running) = runs.running() {
            let message = format!("a training goes on already: {running}");
            return Err(Refusal::new(StatusCode::CONFLICT, message, "wait for it, or stop it"));
        }
        models.check_room("the new one").map_err(|error| failed(&error))?;
        let made = runs.next(&wish.set, |name| models.knows(name));
        let (name, folder) = made.map_err(|error| failed(&error))?;
        let begun = Training {
            set: wish.set.clone(),
            run: name.clone(),
            running: true,
            doing: "opening the images".into(),
            ..Training::default()
        };
        let before = training.replace(begun);
        let (own, models, run) = (Arc::clone(self), Arc::clone(models), name.clone());
        let unused = folder.clone();
        let work = move |stop: &Stop| {
            let done = match own.run(&wish, (&run, &folder), &models, stop) {
                Err(Error::Stopped(_)) => Ok(false),
                done => done,
            };
            // A folder in which nothing was written.
            let _ = std::fs::remove_dir(&folder);
            own.tell(|training| {
                training.running = false;
                training.part = None;
                training.failed = done.as_ref().err().map(said);
                training.served = matches!(done, Ok(true));
                training.doing = match &done {
                    Ok(true) => "done",
                    Ok(false) => "stopped",
                    Err(_) => "failed",
                }
                .into();
            });
            done.map(drop)
        };
        if let Err(error) = runs.start(&name, work) {
            *training = before;
            let _ = std::fs::remove_dir(&unused);
            return Err(failed(&error));
        }
        Ok(name)
    }

    fn tell(&self, change: impl FnOnce(&mut Training)) {
        if let Some(training) = &mut *self.training() {
            change(training);
        }
    }

    fn doing(&self, doing: impl Into<String>, part: Option<f64>) {
        self.tell(|training| (training.doing, training.part) = (doing.into(), part));
    }

    /// Whether it came to its end, and the model is served.
    fn run(
        &self,
        wish: &Wish,
        (run, folder): (&str, &Path),
        models: &Models,
        stop: &Stop,
    ) -> Result<bool> {
        let source = self.sets.folder(&wish.set)?.display().to_string();
        let config = TrainConfig { threads: self.threads, ..start(&source, Some(&wish.net)) };
        let weights = config.weights.clone();
        let mut watch = |event: &hub::Event<'_>| self.download(event, stop);
        let opened = Opened::new(config, None, &mut watch)?;
        let (name, budget) = match wish.budget {
            Some(_) => (RecipeName::Auto, wish.budget),
            None => (RecipeName::Quick, None),
        };
        if sources::is_variant(&weights) {
            self.doing("getting the weights", None);
            let assets = sources::weights(&wish.net, &weights, false)?;
            Hub::from_env()?.fetch_any(&assets, &mut watch)?;
        }
        self.doing("measuring how fast this machine is", None);
        let pace = opened.pace(name, budget)?;
        let cache = self.cache.with_memory(0);
        let mut emit = |step: Step| {
            self.step(&step);
            Ok(stop.control())
        };
        let tried = opened.try_images(name, budget, &pace, &cache, &mut watch, &mut emit)?;
        if stop.control() == Control::Stop {
            return Ok(false);
        }
        let chosen = opened.choose(name, budget, &pace, tried.as_ref())?;
        let spent = budget.map_or(String::new(), |b| format!(" --budget {}m", b.as_secs() / 60));
        let job = Job::new(chosen.recipe.config).on(chosen.data).out(folder, true);
        let job = job.chosen_by(format!("--recipe {name}{spent}"));
        let ended = job.cache(self.cache.clone()).run(&mut |event| {
            match event {
                Event::Download(event) => return self.download(event, stop),
                Event::Training(step) => self.step(step),
                _ => {}
            }
            stop.control()
        })?;
        let Ended::Finished(_) = ended else { return Ok(false) };
        made::serve(run, &folder.canonicalize().map_err(Error::io("find", folder))?, models)?;
        Ok(true)
    }

    fn download(&self, event: &hub::Event<'_>, stop: &Stop) -> Control {
        if let hub::Event::Downloading { file, done, total, .. } = event {
            let part = total.map(|total| *done as f64 / total.max(1) as f64);
            self.doing(format!("downloading {file}"), part);
        }
        stop.control()
    }

    fn step(&self, step: &Step) {
        let part = |done: usize, total: usize| Some(done as f64 / total.max(1) as f64);
        match step {
            Step::Features { done, total, .. } => {
                self.doing(format!("looking at {done} of {total} images"), part(*done, *total));
            }
            Step::CrossValidating { done, total } => {
                self.doing("fitting the classifier", part(*done, *total));
            }
            Step::Solving { fraction, .. } => {
                self.doing("fitting the classifier", Some(*fraction));
            }
            Step::Step { epoch, step, steps, .. } => {
                self.doing(format!("learning, epoch {epoch}"), part(*step, *steps));
            }
            Step::Epoch(epoch) => {
                let accuracy = epoch.val_accuracy;
                self.tell(|training| training.accuracy = accuracy.or(training.accuracy));
            }
            Step::Evaluating { done, total, .. } => {
                self.doing("testing on images that it has not seen", part(*done, *total));
            }
            _ => {}
        }
    }
}
