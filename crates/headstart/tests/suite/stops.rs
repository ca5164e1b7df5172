//! A run that is stopped at any event, and resumed, ends like a run that is not stopped.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use headstart::config::{HeadSolver, OptimizerName, Precision, TrainConfig};
use headstart::events;
use headstart::monitor::Monitor;
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Job};
use headstart::weights::{Tensor, read};
use headstart::{Control, Result};

/// What is trained, where.
struct Case {
    config: TrainConfig,
    cache: DiskCache,
    folder: tempfile::TempDir,
}

/// What a run leaves, but for what time decides.
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
    files: Vec<String>,
}

impl Case {
    /// Two phases of a few steps on tiny images.
    fn new(config: TrainConfig) -> Case {
        let config = TrainConfig {
            data: "synthetic:2x14x16".into(),
            model: "resnet20".into(),
            weights: "cifar10".into(),
            image_size: Some(8),
            fine_tune_at: Some("conv4_block3_1_conv".into()),
            batch_size: 5,
            optimizer: OptimizerName::Adam,
            monitor: Monitor::Loss,
            dropout: 0.2,
            precision: Precision::F32,
            threads: 1,
            ..config
        };
        let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
        Case { config, cache, folder: tempfile::tempdir().unwrap() }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Begins the run, or goes on with it, and stops at the event of number `stop`; how many it told, and whether it was stopped.
    fn attempt(&self, stop: usize) -> Result<(usize, bool)> {
        let job = match self.run().join("weights/last.safetensors").exists() {
            true => Job::resume(self.run())?,
            false => Job::new(self.config.clone()).out(self.run(), true),
        };
        let job = job.cache(self.cache.clone()).save_every(Duration::from_secs(1000));
        let job = job.pictures(false);
        let (mut told, mut begun) = (0, false);
        let ended = job.run(&mut |event| {
            assert!(told <= stop, "{event:?} after the stop");
            told += 1;
            begun |= matches!(event, Event::Begins { .. });
            if told > stop { Control::Stop } else { Control::Continue }
        })?;
        match ended {
            Ended::Finished(finished) => {
                assert!(told <= stop && finished.folder == self.run());
                for tensor in self.left().best {
                    let own = finished.model.parameters.find(&tensor.name).unwrap();
                    assert!(own.values == tensor.values, "{}", tensor.name);
                }
                Ok((told, false))
            }
            Ended::Stopped { folder, kept } => {
                assert!(told == stop + 1, "{told} events, {kept}");
                assert_eq!(begun, kept.contains("last.safetensors"));
                assert!(!begun || folder == Some(self.run()));
                // What has begun can be resumed.
                assert!(!begun || self.run().join("weights/last.safetensors").exists());
                Ok((told, true))
            }
        }
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
        let entries = fs::read_dir(self.run()).unwrap();
        let mut files: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let last = weights("last.safetensors");
        Left {
            weights: last.tensors,
            state: last.optimizer,
            best: weights("best.safetensors").tensors,
            results: text("results.csv").lines().map(timeless).collect(),
            report: text("report.json"),
            events: text("events.jsonl").lines().filter_map(event).collect(),
            files,
        }
    }

    /// Stops a run at each of its events, goes on with it, some of the time with a second stop soon after, and compares
    /// what it leaves.
    fn check(&self) {
        let (events, stopped) = self.attempt(usize::MAX).unwrap();
        assert!(!stopped && events > 20, "{events} events");
        let whole = self.left();
        println!("{events} events; {}", whole.results.join("; "));
        for stop in 0..events {
            let _ = fs::remove_dir_all(self.run());
            assert_eq!(self.attempt(stop).unwrap(), (stop + 1, true));
            if stop % 4 == 0 {
                self.attempt(stop % 9).unwrap();
            }
            assert!(!self.attempt(usize::MAX).unwrap().1);
            assert!(self.left() == whole, "stopped at event {stop}: {:#?}", self.left().results);
        }
    }
}

#[test]
fn a_solved_head_and_fine_tuning_can_be_stopped_at_every_event() {
    // All that has a state: momenta, averages, the best epoch's weights, gradients that are summed over steps.
    let case = Case::new(TrainConfig {
        head_solver: HeadSolver::Lbfgs,
        head_l2: Some(1e-2),
        fine_tune_epochs: 4,
        fine_tune_learning_rate: 5e-2,
        accumulate: 3,
        patience: Some(1),
        ema: Some(0.5),
        ..TrainConfig::default()
    });
    case.check();
    // It ended early, with the weights of an earlier epoch.
    let events = fs::read_to_string(case.run().join("events.jsonl")).unwrap();
    assert!(events.contains("\"best\":2,\"skipped\":2"), "{events}");
}

#[test]
fn plain_phases_with_notes_of_the_cache_can_be_stopped_at_every_event() {
    let mut case = Case::new(TrainConfig {
        epochs: 2,
        learning_rate: 1e-2,
        fine_tune_epochs: 1,
        test_split: 0.2,
        ..TrainConfig::default()
    });
    // No room for a single row, which is told each time.
    let folder = CacheFolder::At(case.folder.path().join("cache"));
    case.cache = DiskCache { folder, bytes: 1 };
    case.check();
    let events = fs::read_to_string(case.run().join("events.jsonl")).unwrap();
    assert!(events.contains("cache-note"), "{events}");
}

#[test]
fn a_run_that_is_stopped_in_its_last_evaluation_does_not_train_again() {
    let case = Case::new(TrainConfig { epochs: 1, fine_tune_epochs: 1, ..TrainConfig::default() });
    let job = || Job::new(case.config.clone()).out(case.run(), false).cache(case.cache.clone());
    let mut evaluations = 0;
    let mut in_the_last = |event: &Event<'_>| match event {
        Event::Training(events::Event::Evaluating { split: "test", .. }) if evaluations == 1 => {
            Control::Stop
        }
        Event::Training(events::Event::Evaluation { .. }) => {
            evaluations += 1;
            Control::Continue
        }
        _ => Control::Continue,
    };
    assert!(matches!(job().run(&mut in_the_last).unwrap(), Ended::Stopped { .. }));
    assert_eq!(evaluations, 1);
    let last = case.run().join("weights/last.safetensors");
    let before = fs::read(&last).unwrap();
    let mut told = Vec::new();
    let ended = Job::resume(case.run()).unwrap().cache(case.cache.clone()).run(&mut |event| {
        if let Event::Training(event) = event {
            let event = serde_json::to_value(event).unwrap();
            told.push(event["event"].as_str().unwrap().to_string());
        }
        Control::Continue
    });
    let Ended::Finished(finished) = ended.unwrap() else { panic!("stopped") };
    assert!(finished.report.is_some());
    assert_eq!(finished.history.epochs.len(), 2);
    let trained = |name: &String| ["step", "epoch"].contains(&name.as_str());
    assert!(!told.iter().any(trained) && told.contains(&"evaluation".into()), "{told:?}");
    assert!(fs::read(&last).unwrap() == before);
}
