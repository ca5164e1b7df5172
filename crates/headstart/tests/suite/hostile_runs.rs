//! What runs leave on disk, damaged: resuming, comparing, drawing and the feature cache refuse it or
//! do as if it was not there, and destroy nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use headstart::cache::CacheSettings;
use headstart::config::TrainConfig;
use headstart::events::Event;
use headstart::monitor::{EarlyStopping, Monitor};
use headstart::parameters::Parameters;
use headstart::report::{CurveNotes, Curves, Figure, curves, overlaid, redraw};
use headstart::run_folder::RunFolder;
use headstart::trainer::Outcome;
use headstart::weights::model_file::{Place, Progress};
use headstart::weights::{Tensor, WeightFile, read};
use headstart::{
    Control, Dataset, Device, Error, Model, Phase, Result, Settings, Trainer, compare,
};
use proptest::prelude::*;

use crate::support::mutate::{Random, mutated};

/// Files below a folder and what they hold.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    all
}

fn put_back(files: &BTreeMap<PathBuf, Vec<u8>>) {
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// A head that trains for three epochs of three steps on tiny images.
struct Job {
    data: Dataset,
    device: Device,
    settings: Settings,
    folder: tempfile::TempDir,
}

impl Job {
    fn new() -> Job {
        let early_stopping =
            Some(EarlyStopping { monitor: Monitor::Loss, patience: 9, min_delta: 0.0 });
        let cache = CacheSettings { memory: 1 << 30, folder: None, disk: 1 << 30 };
        Job {
            data: Dataset::load("synthetic:2x14x16").unwrap(),
            device: Device::cpu(1).unwrap(),
            settings: Settings {
                batch_size: 10,
                early_stopping,
                ema: Some(0.5),
                cache,
                ..Settings::default()
            },
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn model(&self) -> Model {
        Model::builder("resnet20").weights("cifar10").build(&self.data).unwrap()
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn last(&self) -> PathBuf {
        self.run().join("weights/last.safetensors")
    }

    fn trainer<'a>(&'a self, model: &'a mut Model) -> Trainer<'a> {
        let (device, settings) = (self.device.clone(), self.settings.clone());
        Trainer::new(model, &self.data, device, settings).unwrap()
    }

    /// The weights that training leads to, without a folder.
    fn weights(&self) -> Parameters {
        let mut model = self.model();
        let mut trainer = self.trainer(&mut model);
        trainer.fit(&Phase::head(1, 1e-2), &mut |_| Control::Continue).unwrap();
        trainer.evaluate(&mut |_| Control::Continue).unwrap();
        model.parameters
    }

    /// Trains until `stop` says so, in a folder of its own; the weights that came of it.
    fn train(&self, stop: impl Fn(&Event) -> bool) -> Vec<Tensor> {
        let mut model = self.model();
        let mut trainer = self.trainer(&mut model);
        let folder = RunFolder::create(self.run(), true).unwrap();
        folder.write_config(&TrainConfig::default().to_toml().unwrap()).unwrap();
        trainer.record_in(folder).unwrap();
        let mut watch = |event: &Event| match stop(event) {
            true => Control::Stop,
            false => Control::Continue,
        };
        if trainer.fit(&Phase::head(3, 1e-2), &mut watch).unwrap() == Outcome::Done {
            let report = trainer.evaluate(&mut watch).unwrap().unwrap();
            headstart::report::write(trainer.folder().unwrap().path(), &report).unwrap();
        }
        read(self.last()).unwrap().tensors
    }

    /// Goes on with the run from what a file had, as the program does.
    fn go_on(&self, file: WeightFile, progress: Progress) -> Result<()> {
        let optimizer = file.optimizer.clone();
        let mut model = Model::from_file(file)?;
        let mut trainer = self.trainer(&mut model);
        trainer.record_in(RunFolder::resume(self.run())?)?;
        trainer.resume(progress, optimizer)?;
        trainer.fit(&Phase::head(3, 1e-2), &mut |_| Control::Continue)?;
        trainer.check_resumed()
    }

    fn go_on_from_disk(&self) -> Result<()> {
        let mut file = read(self.last())?;
        let none = || Error::invalid("progress", "some", "none", "");
        let progress = file.card.as_mut().and_then(|card| card.progress.take()).ok_or_else(none)?;
        self.go_on(file, progress)
    }
}

/// In the middle of the second epoch.
fn halfway(event: &Event) -> bool {
    matches!(event, Event::Step { epoch: 2, step: 2, .. })
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_run_stays_as_it_was() {
    let job = Job::new();
    let whole = job.train(|_| false);
    job.train(halfway);
    let before = files(&job.run());
    job.go_on_from_disk().unwrap();
    assert!(read(job.last()).unwrap().tensors == whole);
    put_back(&before);
    let good = &before[&job.last()];
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for round in 0..200 {
        let mut bad = mutated(good, &mut random);
        // A third of the changes are to digits of the record.
        if round % 3 == 0 && bad.len() == good.len() {
            let digits: Vec<usize> = (8..length).filter(|&i| good[i].is_ascii_digit()).collect();
            let at = digits[random.below(digits.len())];
            bad[at] = b'0' + (bad[at].wrapping_sub(b'0') + 1 + random.below(9) as u8) % 10;
        }
        if bad == *good {
            continue;
        }
        fs::write(job.last(), &bad).unwrap();
        match job.go_on_from_disk() {
            Err(_) => {
                refused += 1;
                fs::write(job.last(), good).unwrap();
                assert!(files(&job.run()) == before, "round {round}");
            }
            // Not a value has changed, only how the header says them.
            Ok(()) => {
                assert!(read(job.last()).unwrap().tensors == whole, "round {round}");
                put_back(&before);
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_place_that_no_run_was_in_is_refused_and_the_run_stays_as_it_was() {
    let job = Job::new();
    job.train(halfway);
    let before = files(&job.run());
    let mut file = read(job.last()).unwrap();
    let good = file.card.as_mut().unwrap().progress.take().unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) };
    let numbers = prop_oneof![
        0..12u64,
        Just(u64::MAX),
        Just(u64::MAX / 10),
        Just(1 << 40),
        Just(f64::NAN.to_bits()),
        Just(f64::INFINITY.to_bits()),
        any::<u64>(),
    ];
    proptest!(config, |(field in 0..11, number in numbers)| {
        let mut bad = good.clone();
        let place = bad.place.as_mut().unwrap();
        let n = number as usize;
        match field {
            0 => bad.epochs = n,
            1 => bad.steps = n,
            2 => bad.seed = number as u32,
            3 => place.phase = n,
            4 => place.epochs = n,
            5 => place.step = number,
            6 => place.loss_bits = number,
            7 => (place.correct, place.count) = (n, n),
            8 => place.seconds = f64::from_bits(number),
            9 => place.history = place.history.replace("1,head", &format!("{number},head")),
            _ => bad.phase = format!("fine-tune-{number}"),
        }
        // Any finite loss may have been, and any time.
        let harmless = Progress { place: Some(Place {
            loss_bits: place.loss_bits,
            seconds: place.seconds,
            ..good.place.clone().unwrap()
        }), ..good.clone() };
        let finite = f64::from_bits(place.loss_bits).is_finite() && place.seconds.is_finite();
        let possible = bad == harmless && finite && harmless.place.unwrap().seconds >= 0.0;
        prop_assert_eq!(job.go_on(file.clone(), bad.clone()).is_ok(), possible, "{:?}", bad);
        if possible {
            put_back(&before);
        } else {
            prop_assert!(files(&job.run()) == before, "{:?}", bad);
        }
    });
    // Memory of more updates than can be.
    let count = file.optimizer.iter_mut().find(|t| t.name == "iterations").unwrap();
    for value in [f32::INFINITY, f32::NAN, -1.0] {
        count.values[0] = value;
    }
    assert!(job.go_on(file, good).is_err());
    assert!(files(&job.run()) == before);
}

#[test]
fn a_run_whose_tables_are_damaged_is_drawn_compared_or_refused() {
    let job = Job::new();
    job.train(|_| false);
    let run = job.run();
    redraw(&run).unwrap();
    let good = compare::read(&run).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut drawn, mut refused) = (0, 0);
    for name in ["results.csv", "report.json", "config.toml"] {
        let path = run.join(name);
        let whole = fs::read(&path).unwrap();
        for round in 0..24 {
            let mut bad = whole.clone();
            let mut places: Vec<usize> = (0..bad.len()).collect();
            // Most other changes are no number any more.
            if round % 2 == 0 {
                places.retain(|&at| bad[at].is_ascii_digit());
            } else {
                bad = mutated(&whole, &mut random);
                places.truncate(bad.len());
            }
            let at = places[random.below(places.len())];
            bad[at] = match round % 2 {
                0 => b'0' + random.below(10) as u8,
                _ => b"0129.-e,\"[]{}\n"[random.below(14)],
            };
            fs::write(&path, bad).unwrap();
            match compare::read(&run) {
                Err(_) => refused += 1,
                Ok(summary) if name == "results.csv" => {
                    let notes = CurveNotes::read(&run);
                    let runs = [("bad", &summary.history), ("good", &good.history)];
                    let runs = runs.map(|(name, history)| Curves { name, history, notes: &notes });
                    overlaid(&runs, Figure::Loss).unwrap();
                    redraw(&run).unwrap();
                    drawn += 1;
                }
                Ok(summary) => {
                    drop(compare::compare(vec![summary, good.clone()]));
                    // Settings of which nothing is known say nothing about curves.
                    curves(&good.history, Figure::Loss, &CurveNotes::read(&run)).unwrap();
                }
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(drawn > 5 && refused > 20, "{drawn} {refused}");
}

#[test]
fn figures_and_names_of_any_size_can_be_drawn() {
    let job = Job::new();
    job.train(|_| false);
    let run = job.run();
    let change = |name: &str, from: &str, to: &str| {
        let path = run.join(name);
        let text = fs::read_to_string(&path).unwrap();
        let changed = text.replace(from, to);
        assert!(changed != text, "no {from:?} in {text}");
        fs::write(&path, changed).unwrap();
        let result = redraw(&run).and_then(|_| compare::read(&run).map(drop));
        fs::write(&path, text).unwrap();
        result
    };
    let long = "x\\u0001".repeat(100_000);
    change("report.json", &format!("\"{}\"", job.data.classes[0]), &format!("\"{long}\"")).unwrap();
    let svg = fs::read_to_string(run.join("confusion_matrix.svg")).unwrap();
    assert!(svg.len() < 100_000 && !svg.contains('\u{1}'));
    change("results.csv", "\n3,head,", "\n3,fine-tune-200,").unwrap();
    let text = fs::read_to_string(run.join("results.csv")).unwrap();
    let loss = text.lines().nth(2).unwrap().split(',').nth(4).unwrap();
    for figure in ["1e308", "-1e308", "1e-308", "-5e-324"] {
        change("results.csv", &format!(",{loss},"), &format!(",{figure},")).unwrap();
    }
    for (from, to) in [
        ("\n1,head,", "\n0,head,"),
        ("\n3,head,", "\n18446744073709551615,head,"),
        (&format!(",{loss},")[..], ",NaN,"),
    ] {
        change("results.csv", from, to).unwrap_err();
    }
    let huge = "\"samples\": 18446744073709551615";
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    let samples = format!("\"samples\": {}", report["samples"]);
    change("report.json", &samples, huge).unwrap_err();
    let most = "[\n      18446744073709551615,";
    let count = format!("[\n      {},", report["confusion_matrix"][0][0]);
    change("report.json", &count, most).unwrap_err();
    let lower = "\"lower\": 0.0,";
    change("report.json", lower, "\"lower\": -1e300,").unwrap_err();
}

#[test]
fn a_damaged_cache_costs_time_and_changes_nothing() {
    let mut job = Job::new();
    let expected = job.weights();
    let cache = job.folder.path().join("cache");
    for memory in [1 << 30, 0] {
        job.settings.cache = CacheSettings { memory, folder: Some(cache.clone()), disk: 1 << 30 };
        assert!(job.weights() == expected);
        let whole = files(&cache);
        let kept = |name: &str| -> PathBuf {
            whole.keys().find(|path| path.ends_with(name)).unwrap().clone()
        };
        let mut random = Random(0x1234_5678_9abc_def1);
        for round in 0..15 {
            let path = kept(["index", "rows", "about.json"][round % 3]);
            let good = &whole[&path];
            let bad = match round {
                // Rows in each other's place, and more than there are.
                0 => [&good[..64], &good[104..144], &good[64..104], &good[144..]].concat(),
                1 => [&good[good.len() / 2..], &good[..good.len() / 2]].concat(),
                2 => b"{\"model\":\"\",\"layers\":[],\"data\":\"\",\"images\":18446744073709551615,\"seconds\":1e308}".to_vec(),
                3 | 4 => [&good[..], &good[64..], b"more"].concat(),
                _ => mutated(good, &mut random),
            };
            fs::write(&path, bad).unwrap();
            // So that something is computed and recorded.
            if round % 3 == 2 {
                fs::write(kept("index"), b"").unwrap();
            }
            assert!(job.weights() == expected, "round {round}");
            put_back(&whole);
        }
    }
}
