//! What a run reports, ships and evaluates is one model, whatever its settings.

use std::path::Path;
use std::time::Duration;

use headstart::config::{DeviceChoice, HeadSolver, OptimizerName, Precision, TrainConfig};
use headstart::dataset::{DataOptions, Split};
use headstart::evaluate::{self, Evaluated, Given, calibrate, evaluate, open_for, seen};
use headstart::events;
use headstart::metrics::Report;
use headstart::monitor::Monitor;
use headstart::prints::Prints;
use headstart::recipe::{Opened, RecipeName, start};
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Finished, Job};
use headstart::{Control, Device, Model, job};

/// Tiny images of three classes, a fifth for testing and another for validation.
fn config() -> TrainConfig {
    TrainConfig {
        data: "synthetic:3x150x16".into(),
        model: "resnet20".into(),
        weights: "cifar10".into(),
        image_size: Some(16),
        epochs: 3,
        fine_tune_at: Some("conv4_block3_1_conv".into()),
        fine_tune_epochs: 2,
        batch_size: 16,
        optimizer: OptimizerName::Adam,
        learning_rate: 1e-2,
        validation_split: 0.2,
        test_split: 0.2,
        precision: Precision::F32,
        threads: 1,
        ..TrainConfig::default()
    }
}

fn job(config: TrainConfig, run: &Path) -> Job {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    Job::new(config).out(run, true).cache(cache).pictures(false)
}

fn finish(job: Job) -> Finished {
    match job.run(&mut |_| Control::Continue).unwrap() {
        Ended::Finished(finished) => *finished,
        Ended::Stopped { kept, .. } => panic!("stopped: {kept}"),
    }
}

fn open(model: &Model, source: &str, given: Given, device: &Device) -> evaluate::Opened {
    let (options, threads) = (DataOptions::default(), &device.compute().threads);
    let mut watch = |_: &headstart::hub::Event<'_>| Control::Continue;
    open_for(model, source, given, false, &options, threads, &mut watch).unwrap()
}

/// The report that the shipped file gets when it is evaluated on the run's data, without being told how they were split.
fn of_file(run: &Path, config: &TrainConfig) -> Report {
    let model = Model::open(run.join("weights/best.safetensors")).unwrap();
    let device = job::device(config.threads, config.precision, DeviceChoice::Cpu).unwrap();
    let opened = open(&model, &config.data, Given::default(), &device);
    assert!(opened.own);
    let parts = opened.parts(Split::Auto).unwrap();
    let mut watch = |_: &str, _: usize, _: usize| Control::Continue;
    let found = evaluate(&model, &opened.data, &parts, &device, 32, &mut watch).unwrap();
    let Evaluated { report, .. } = found.unwrap();
    assert_eq!(report.trained_on, Some(0));
    report
}

/// Checks that the run's report is that of its file, and returns it.
fn checked(finished: &Finished) -> Report {
    let (run, config) = (&finished.folder, &finished.config);
    let report = finished.report.clone().unwrap();
    let text = std::fs::read_to_string(run.join("report.json")).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&report).unwrap() + "\n");
    let text = std::fs::read_to_string(run.join("report.txt")).unwrap();
    assert_eq!(text, report.to_string());
    let of_run = Report { shipped: None, trained_on: None, ..report.clone() };
    assert_eq!(of_run, Report { trained_on: None, ..of_file(run, config) });
    let shipped = report.shipped.as_ref().unwrap();
    let best = finished.best_epoch().unwrap();
    assert_eq!((shipped.epoch, shipped.epochs), (best, finished.history.epochs.len()));
    let record = &finished.history.epochs[best - 1];
    let monitor = config.monitor.column(record);
    assert_eq!((shipped.phase, &shipped.monitor), (record.phase, &monitor));
    assert_eq!(shipped.last.is_none(), best == finished.history.epochs.len());
    let file = Model::open(run.join("weights/best.safetensors")).unwrap();
    assert_eq!(file.parameters, finished.model.parameters);
    assert_eq!(file.card.temperature, finished.model.card.temperature);
    report
}

#[test]
fn the_report_is_that_of_the_file_whichever_epoch_is_the_best() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str| place.path().join(name);
    // Fine-tuning ruins the net, so that the best epoch is one of the head's.
    let ruined = TrainConfig { fine_tune_learning_rate: 0.5, ..config() };
    let finished = finish(job(ruined.clone(), &run("ruined")));
    let report = checked(&finished);
    let shipped = report.shipped.unwrap();
    assert!(shipped.epoch <= 3 && shipped.last.unwrap().accuracy < report.accuracy, "{shipped:?}");
    // The same with a head that L-BFGS fits.
    let fitted = TrainConfig { head_solver: HeadSolver::Lbfgs, ..ruined };
    let report = checked(&finish(job(fitted, &run("fitted"))));
    assert_eq!(report.shipped.unwrap().epoch, 1);
    // EMA weights, and a phase that ends early.
    let ema = TrainConfig { ema: Some(0.8), ..config() };
    checked(&finish(job(ema, &run("ema"))));
    let early = TrainConfig { patience: Some(1), epochs: 12, learning_rate: 0.1, ..config() };
    checked(&finish(job(early, &run("early"))));
    // Training images of another size.
    let size = TrainConfig { train_size: Some(12), ..config() };
    checked(&finish(job(size, &run("size"))));
}

#[test]
fn macro_f1_chooses_the_epoch_and_is_the_reports() {
    let place = tempfile::tempdir().unwrap();
    let (monitor, validation_split) = (Monitor::MacroF1, 0.4);
    let config = TrainConfig { monitor, validation_split, ..config() };
    let run = place.path().join("run");
    let finished = finish(job(config.clone(), &run));
    let shipped = checked(&finished).shipped.unwrap();
    assert_eq!(shipped.monitor, "val_macro_f1");
    let f1 = |epoch: usize| finished.history.epochs[epoch - 1].val_macro_f1.unwrap();
    let model = Model::open(run.join("weights/best.safetensors")).unwrap();
    let device = job::device(config.threads, config.precision, DeviceChoice::Cpu).unwrap();
    let opened = open(&model, &config.data, Given::default(), &device);
    let parts = opened.parts(Split::Validation).unwrap();
    let mut watch = |_: &str, _: usize, _: usize| Control::Continue;
    let found = evaluate(&model, &opened.data, &parts, &device, 32, &mut watch).unwrap();
    let own = found.unwrap().report.averages.macro_average.f1;
    assert!((f1(shipped.epoch) - own).abs() <= 1e-12, "{} {own}", f1(shipped.epoch));
    let epochs = 1..=finished.history.epochs.len();
    assert!(epochs.clone().all(|epoch| f1(epoch) <= f1(shipped.epoch)));
    assert!(epochs.clone().any(|epoch| f1(epoch) < f1(shipped.epoch)), "all are equal");
}

#[test]
fn listed_phases_and_recipes_report_on_the_file_too() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str| place.path().join(name);
    let phases = ["head:2", "conv4:1", "conv3:1"].map(|phase| phase.parse().unwrap());
    let listed = TrainConfig { unfreeze: phases.to_vec(), fine_tune_at: None, ..config() };
    checked(&finish(job(listed, &run("listed"))));
    let own = config();
    let TrainConfig { data, model, weights, image_size, precision, .. } = own;
    let start =
        TrainConfig { weights, image_size, precision, threads: 1, ..start(&data, Some(&model)) };
    let mut watch = |_: &headstart::hub::Event<'_>| Control::Continue;
    let opened = Opened::new(start, None, &mut watch).unwrap();
    let (name, budget) = (RecipeName::Auto, Some(Duration::from_secs(20)));
    let pace = opened.pace(name, budget).unwrap();
    let chosen = opened.choose(name, budget, &pace, None).unwrap().recipe.config;
    assert!(chosen.test_split > 0.0, "{chosen:?}");
    let chosen = TrainConfig { precision: Precision::F32, ..chosen };
    checked(&finish(job(chosen, &run("recipe"))));
}

#[test]
fn a_run_that_is_resumed_ships_the_best_of_all_its_epochs() {
    let place = tempfile::tempdir().unwrap();
    let (whole, parts) = (place.path().join("whole"), place.path().join("parts"));
    let config = TrainConfig { fine_tune_learning_rate: 0.5, ..config() };
    let want = checked(&finish(job(config.clone(), &whole)));
    // Stopped in fine-tuning, after the best epoch.
    let mut late = |event: &Event<'_>| match event {
        Event::Training(events::Event::Step { epoch: 4, step: 2, .. }) => Control::Stop,
        _ => Control::Continue,
    };
    assert!(matches!(job(config, &parts).run(&mut late).unwrap(), Ended::Stopped { .. }));
    for _ in 0..2 {
        // The second time nothing is left to train.
        let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
        let finished = finish(Job::resume(&parts).unwrap().cache(cache).pictures(false));
        assert_eq!(checked(&finished), want);
    }
}

/// The head's kernel and bias.
fn head(model: &Model) -> Vec<f32> {
    let of_head = model.parameters.tensors.iter().filter(|t| t.node == model.logits());
    of_head.flat_map(|t| t.values.iter().copied()).collect()
}

#[test]
fn a_head_that_is_fitted_again_has_seen_the_validation_images() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str| place.path().join(name);
    let solved = TrainConfig {
        head_solver: HeadSolver::Lbfgs,
        head_l2: Some(1e-2),
        fine_tune_at: None,
        ..config()
    };
    let again = TrainConfig { refit: true, ..solved.clone() };
    let finished = finish(job(again.clone(), &run("again")));
    let shipped = checked(&finished).shipped.unwrap();
    let held_out = finished.data.validation.as_ref().unwrap();
    assert_eq!(shipped.refit, held_out.len());
    assert!(
        shipped.to_string().contains("fitted again with the 30 validation images"),
        "{shipped}"
    );
    // The temperature is that of the head before, on images that it was not fitted on.
    let once = finish(job(solved.clone(), &run("once")));
    assert_eq!(checked(&once).shipped.unwrap().refit, 0);
    let (before, after) = (&once.model, &finished.model);
    assert_eq!(before.card.temperature, after.card.temperature);
    assert_eq!(before.card.calibration, after.card.calibration);
    assert!(head(before) != head(after));
    // The same as a head that gets all these images at once.
    let whole = TrainConfig { validation_split: 0.0, ..solved.clone() };
    let whole = finish(job(whole, &run("whole")));
    let largest = |values: &[f32]| values.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    let off: Vec<f32> = head(&whole.model).iter().zip(head(after)).map(|(a, b)| a - b).collect();
    assert!(largest(&off) < 1e-3 * largest(&head(after)), "{}", largest(&off));
    // The card knows that validation images were trained on.
    let device = job::device(1, Precision::F32, DeviceChoice::Cpu).unwrap();
    let opened = open(after, &again.data, Given::default(), &device);
    let parts = opened.parts(Split::Validation).unwrap();
    let counted = seen(after, &parts, &device.compute().threads).unwrap().unwrap();
    assert_eq!(counted.count, held_out.len());
    let (mut model, file) = (after.clone(), run("again").join("weights/best.safetensors"));
    let mut watch = |_: &str, _: usize, _: usize| Control::Continue;
    let refused = calibrate(&mut model, &file, &opened.data, &device, 32, &mut watch);
    assert!(refused.unwrap_err().to_string().contains("30 of 30"));
    // Where fine-tuning is better, that is shipped.
    let tuned = TrainConfig { refit: true, head_l2: Some(10.0), ..config() };
    let tuned = TrainConfig { head_solver: HeadSolver::Lbfgs, ..tuned };
    let shipped = checked(&finish(job(tuned, &run("tuned")))).shipped.unwrap();
    assert!(shipped.epoch > 1 && shipped.refit == 0, "{shipped}");
}

#[test]
fn a_head_is_fitted_again_once_whenever_the_run_is_stopped() {
    let place = tempfile::tempdir().unwrap();
    let solved =
        TrainConfig { head_solver: HeadSolver::Lbfgs, fine_tune_at: None, refit: true, ..config() };
    let want = finish(job(solved.clone(), &place.path().join("whole")));
    type Stop = fn(&events::Event, bool) -> bool;
    let moments: [Stop; 4] = [
        |event, _| matches!(event, events::Event::Calibrated { .. }),
        |event, calibrated| calibrated && matches!(event, events::Event::Solving { .. }),
        |event, calibrated| calibrated && matches!(event, events::Event::Solved { .. }),
        |event, _| matches!(event, events::Event::Refitted { .. }),
    ];
    for (i, stops) in moments.into_iter().enumerate() {
        let folder = place.path().join(i.to_string());
        let mut calibrated = false;
        let mut listen = |event: &Event<'_>| {
            let Event::Training(event) = event else { return Control::Continue };
            calibrated |= matches!(event, events::Event::Calibrated { .. });
            if stops(event, calibrated) { Control::Stop } else { Control::Continue }
        };
        let ended = job(solved.clone(), &folder).run(&mut listen).unwrap();
        assert!(matches!(ended, Ended::Stopped { .. }), "{i}");
        let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
        let finished = finish(Job::resume(&folder).unwrap().cache(cache).pictures(false));
        assert_eq!(checked(&finished), *want.report.as_ref().unwrap(), "{i}");
        assert_eq!(finished.model.parameters, want.model.parameters, "{i}");
        assert_eq!(finished.model.card.temperature, want.model.card.temperature, "{i}");
    }
}

#[test]
fn probabilities_are_calibrated_unless_told_otherwise() {
    let place = tempfile::tempdir().unwrap();
    // After a few steps probabilities are too far from 0 and 1.
    let unsure = TrainConfig { fine_tune_epochs: 0, ..config() };
    let finished = finish(job(unsure.clone(), &place.path().join("on")));
    let c = checked(&finished).calibration.unwrap();
    assert!(c.temperature.is_some_and(|t| t != 1.0) && c.uncalibrated.is_some(), "{c:?}");
    let off = TrainConfig { calibrate: false, ..unsure };
    let finished = finish(job(off, &place.path().join("off")));
    let report = checked(&finished);
    let plain = report.calibration.unwrap();
    assert_eq!((plain.temperature, plain.uncalibrated), (None, None));
    // What the calibrated report says of the model without its temperature.
    let without = c.uncalibrated.unwrap();
    assert!((without.loss - report.loss).abs() <= 1e-6 * report.loss.max(1.0), "{without:?}");
    assert!((without.ece - plain.ece).abs() <= 1e-6, "{without:?}");
}

#[test]
fn images_that_were_trained_on_are_told_from_others() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig { fine_tune_epochs: 0, ..config() };
    let finished = finish(job(config.clone(), &place.path().join("run")));
    let model = Model::open(finished.folder.join("weights/best.safetensors")).unwrap();
    let device = job::device(1, Precision::F32, DeviceChoice::Cpu).unwrap();
    let threads = &device.compute().threads;
    let counted = |given: Given, split: Split| {
        let opened = open(&model, &config.data, given, &device);
        let parts = opened.parts(split).unwrap();
        let images: usize = parts.iter().map(|(_, subset)| subset.len()).sum();
        (seen(&model, &parts, threads).unwrap().unwrap(), images)
    };
    let none = Given::default;
    assert_eq!(counted(none(), Split::Test).0.count, 0);
    assert_eq!(counted(none(), Split::Validation).0.count, 0);
    let (train, images) = counted(none(), Split::Train);
    assert_eq!((train.count, train.names.len()), (images, 3));
    // Another split puts training images among those held out.
    let wider = Given { validation_split: Some(0.5), ..none() };
    let (other, images) = counted(wider, Split::Validation);
    assert!(other.count > images / 3 && other.count < images, "{other:?} of {images}");
    // All of them: those for testing were never trained on.
    let (all, images) = counted(none(), Split::All);
    assert!(all.count == train.count && all.count < images, "{all:?} of {images}");
    // Of images that are not the run's, those that it was trained on are left out.
    let own = open(&model, &config.data, none(), &device);
    assert!(own.own && own.left_out.is_none());
    let test = own.data.test.as_ref().unwrap();
    let hashes = test.image_hashes(threads).unwrap();
    let mut partly = model.clone();
    partly.card.trained.as_mut().unwrap().images = Prints::new(&hashes[..10]);
    let opened = open(&partly, &config.data, none(), &device);
    assert!(!opened.own && opened.left_out.as_ref().unwrap().count == 10);
    let (name, unseen) = opened.parts(Split::Auto).unwrap()[0];
    assert_eq!((name, unseen.len()), ("unseen", test.len() - 10));
    assert_eq!(opened.parts(Split::Test).unwrap()[0].1.len(), test.len());
    let report = partly.evaluate(&partly.open_data(&config.data).unwrap()).unwrap();
    assert_eq!((report.samples, report.trained_on), (test.len() - 10, Some(0)));
    // Other images are not split as these were.
    let opened = open(&model, "synthetic:3x151x18", none(), &device);
    assert!(!opened.own && opened.data.validation.is_none());
}
