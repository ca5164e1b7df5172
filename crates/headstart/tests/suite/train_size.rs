//! Training images that enter the net at a size of their own.

use std::path::Path;

use headstart::Control;
use headstart::config::{HeadSolver, OptimizerName, Precision, TrainConfig};
use headstart::run::{CacheFolder, DiskCache, Ended, Finished, Job};

fn config(train_size: Option<usize>) -> TrainConfig {
    TrainConfig {
        data: "synthetic:3x60x16".into(),
        model: "resnet20".into(),
        weights: "cifar10".into(),
        image_size: Some(16),
        train_size,
        epochs: 1,
        head_solver: HeadSolver::Lbfgs,
        fine_tune_at: Some("conv4".into()),
        fine_tune_epochs: 2,
        fine_tune_learning_rate: 1e-3,
        batch_size: 16,
        dropout: 0.2,
        optimizer: OptimizerName::Adam,
        validation_split: 0.2,
        test_split: 0.2,
        precision: Precision::F32,
        threads: 1,
        ..TrainConfig::default()
    }
}

fn finish(config: &TrainConfig, run: &Path) -> Finished {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let job = Job::new(config.clone()).out(run, false).cache(cache).pictures(false);
    match job.run(&mut |_| Control::Continue).unwrap() {
        Ended::Finished(finished) => *finished,
        Ended::Stopped { .. } => unreachable!(),
    }
}

#[test]
fn the_models_own_size_changes_nothing_and_another_only_training() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, size| finish(&config(size), &place.path().join(name));
    let (plain, same, smaller) = (run("plain", None), run("same", Some(16)), run("12", Some(12)));
    assert_eq!(plain.model.parameters, same.model.parameters);
    // The head is fitted on images of the model's own size.
    let losses = |finished: &Finished| -> Vec<f64> {
        finished.history.epochs.iter().map(|epoch| epoch.loss).collect()
    };
    assert_eq!(losses(&plain)[0], losses(&smaller)[0]);
    assert!(losses(&plain)[1..] != losses(&smaller)[1..]);
    assert_eq!((smaller.model.card.height, smaller.model.card.width), (16, 16));
}

#[test]
fn cached_features_of_smaller_images_give_the_same_weights() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, cache_memory| {
        let config = TrainConfig { cache_memory, ..config(Some(12)) };
        finish(&config, &place.path().join(name)).model.parameters
    };
    assert_eq!(run("cached", None), run("computed", Some(0)));
}

#[test]
fn every_phase_and_every_stop_keeps_the_size() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        head_solver: HeadSolver::Gradient,
        unfreeze: ["head:1", "conv4:1", "0:1"].map(|u| u.parse().unwrap()).to_vec(),
        fine_tune_at: None,
        augment: vec!["resized-crop:0.35".parse().unwrap()],
        ..config(Some(12))
    };
    let whole = finish(&config, &place.path().join("whole"));
    let run = place.path().join("stopped");
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let mut stop = 10;
    let ended = loop {
        let job = match run.join("weights/last.safetensors").exists() {
            true => Job::resume(&run).unwrap(),
            false => Job::new(config.clone()).out(&run, true),
        };
        let mut told = 0;
        let ended = job.cache(cache.clone()).pictures(false).run(&mut |_| {
            told += 1;
            if told > stop { Control::Stop } else { Control::Continue }
        });
        stop += 5;
        if let Ended::Finished(finished) = ended.unwrap() {
            break finished;
        }
    };
    assert!(stop > 20, "it was never stopped");
    assert_eq!(ended.model.parameters, whole.model.parameters);
}

#[test]
fn what_does_not_fit_the_memory_is_refused_before_an_earlier_run_gives_way() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    finish(&config(None), &run);
    let files = || {
        let all = ["config.toml", "results.csv", "report.json", "weights/best.safetensors"];
        all.map(|name| std::fs::read(run.join(name)).unwrap())
    };
    let before = files();
    let again = |config: TrainConfig| {
        let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
        let job = Job::new(config).out(&run, true).cache(cache).pictures(false);
        let error = job.run(&mut |_| Control::Continue).unwrap_err();
        (error.to_string(), error.hint().unwrap().to_string())
    };
    let all = TrainConfig { fine_tune_at: Some("0".into()), batch_size: 36, ..config(None) };
    let (error, hint) = again(TrainConfig { train_size: Some(4096), ..all.clone() });
    assert!(error.contains("batch of 36 images in the net: expected at most"), "{error}");
    assert!(hint.contains("--train-size") && !hint.contains("--image-size"), "{hint}");
    let (error, hint) = again(TrainConfig { image_size: Some(4096), ..all });
    assert!(error.contains("in the net: expected at most"), "{error}");
    assert!(hint.contains("--image-size") && !hint.contains("--train-size"), "{hint}");
    assert_eq!(files(), before);
}
