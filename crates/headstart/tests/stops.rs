//! A run that is stopped at any event, and resumed, ends like a run that is not stopped.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use headstart::cache::CacheSettings;
use headstart::config::TrainConfig;
use headstart::events::Event;
use headstart::monitor::{EarlyStopping, Monitor};
use headstart::optimizer::Rule;
use headstart::run_folder::RunFolder;
use headstart::trainer::{Outcome, Solver};
use headstart::weights::{Tensor, read};
use headstart::{Control, Dataset, Device, Model, Phase, Result, Settings, Trainer};

/// Tiny images, and what is done with them.
struct Job {
    data: Dataset,
    device: Device,
    settings: Settings,
    phases: Vec<Phase>,
    folder: tempfile::TempDir,
}

fn model(data: &Dataset) -> Model {
    Model::builder("resnet20").weights("cifar10").image_size(8).build(data).unwrap()
}

/// What a run leaves, except times.
#[derive(Debug, PartialEq)]
struct Left {
    weights: Vec<Tensor>,
    state: Vec<Tensor>,
    best: Vec<Tensor>,
    /// Values of results.csv.
    results: Vec<String>,
    report: String,
    /// Lines of events.jsonl about the work, without their seconds.
    events: Vec<String>,
}

impl Job {
    /// Phases of a few steps, over all that has a state: momenta, averages, the best epoch's weights, gradients that are
    /// summed over steps.
    fn new(phases: impl Fn(&Model) -> Vec<Phase>) -> Job {
        let data = Dataset::load("synthetic:2x14x16").unwrap();
        let model = model(&data);
        let early_stopping =
            Some(EarlyStopping { monitor: Monitor::Loss, patience: 1, min_delta: 0.0 });
        let settings = Settings {
            batch_size: 5,
            accumulate: 3,
            rule: Rule::ADAM,
            early_stopping,
            ema: Some(0.5),
            dropout: 0.2,
            cache: CacheSettings { memory: 1 << 30, folder: None, disk: 1 << 30 },
            ..Settings::default()
        };
        Job {
            phases: phases(&model),
            data,
            device: Device::cpu(1).unwrap(),
            settings,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Begins the run, or goes on with it, and stops at the event of number `stop`; how many it told, and whether it was stopped.
    fn attempt(&self, stop: usize) -> Result<(usize, bool)> {
        let last = self.run().join("weights/last.safetensors");
        let mut file = last.exists().then(|| read(&last)).transpose()?;
        let optimizer = file.as_mut().map(|f| std::mem::take(&mut f.optimizer));
        let progress = file.as_mut().and_then(|f| f.card.as_mut()?.progress.take());
        let mut model = match file {
            Some(file) => Model::from_file(file)?,
            None => model(&self.data),
        };
        let (device, settings) = (self.device.clone(), self.settings.clone());
        let mut trainer = Trainer::new(&mut model, &self.data, device, settings)?;
        match (progress, optimizer) {
            (Some(progress), Some(optimizer)) => {
                trainer.record_in(RunFolder::resume(self.run())?);
                trainer.resume(progress, optimizer)?;
            }
            _ => {
                let folder = RunFolder::create(self.run(), true)?;
                folder.write_config(&TrainConfig::default().to_toml()?)?;
                trainer.record_in(folder);
            }
        }
        let told = Cell::new(0);
        let mut watch = |_: &Event| {
            assert!(told.get() <= stop, "an event after the stop");
            told.set(told.get() + 1);
            if told.get() > stop { Control::Stop } else { Control::Continue }
        };
        for phase in &self.phases {
            match trainer.fit(phase, &mut watch)? {
                Outcome::Stopped => return Ok((told.get(), true)),
                Outcome::DoneBefore => continue,
                Outcome::Done => {}
            }
            if let Some(report) = trainer.evaluate(&mut watch)? {
                headstart::report::write(self.run(), &report)?;
            }
            if told.get() > stop {
                return Ok((told.get(), true));
            }
        }
        trainer.check_resumed()?;
        Ok((told.get(), false))
    }

    fn left(&self) -> Left {
        let weights = |name: &str| read(self.run().join("weights").join(name)).unwrap();
        let text = |name: &str| fs::read_to_string(self.run().join(name)).unwrap();
        let timeless = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            [&fields[..2], &fields[4..]].concat().join(",")
        };
        let event = |line: &str| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            let fields = event.as_object_mut().unwrap();
            fields.retain(|name, _| !name.contains("second"));
            let work = ["phase", "step", "solved", "epoch", "early-stopping", "evaluation"];
            work.iter().any(|name| fields["event"] == *name).then(|| event.to_string())
        };
        let last = weights("last.safetensors");
        Left {
            weights: last.tensors,
            state: last.optimizer,
            best: weights("best.safetensors").tensors,
            results: text("results.csv").lines().map(timeless).collect(),
            report: text("report.json"),
            events: text("events.jsonl").lines().filter_map(event).collect(),
        }
    }

    /// Stops a run at each of its events, goes on with it, with a second stop soon after, and compares what it leaves.
    fn check(&self) {
        let (events, stopped) = self.attempt(usize::MAX).unwrap();
        assert!(!stopped && events > 20, "{events} events");
        let whole = self.left();
        println!("{events} events; {}", whole.results.join("; "));
        for stop in 0..events {
            fs::remove_dir_all(self.run()).unwrap();
            assert_eq!(self.attempt(stop).unwrap(), (stop + 1, true));
            if stop % 4 == 0 {
                self.attempt(stop % 7).unwrap();
            }
            assert!(!self.attempt(usize::MAX).unwrap().1);
            assert!(self.left() == whole, "stopped at event {stop}: {:#?}", self.left().results);
        }
    }
}

#[test]
fn a_solved_head_and_fine_tuning_can_be_stopped_at_every_event() {
    let job = Job::new(|model| {
        let from = model.net.freeze_point("conv4_block3_1_conv").unwrap();
        vec![Phase::solved_head(Solver { l2: Some(1e-2) }), Phase::fine_tune(from, 4, 5e-2)]
    });
    job.check();
}

#[test]
fn plain_phases_with_notes_of_the_cache_can_be_stopped_at_every_event() {
    let mut job = Job::new(|model| {
        let from = model.net.freeze_point("conv4_block3_1_conv").unwrap();
        vec![Phase::head(2, 1e-2), Phase::fine_tune(from, 1, 1e-3)]
    });
    // No room for a single row, which is told each time.
    let folder = Some(job.folder.path().join("cache"));
    job.settings.cache = CacheSettings { memory: 1 << 30, folder, disk: 1 };
    job.settings =
        Settings { accumulate: 1, early_stopping: None, ema: None, ..job.settings.clone() };
    job.check();
    let events = fs::read_to_string(job.run().join("events.jsonl")).unwrap();
    assert!(events.contains("cache-note"), "{events}");
}
