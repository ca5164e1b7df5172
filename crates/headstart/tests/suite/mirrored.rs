//! Mirror images of a data set.

use headstart::batches::{Batch, Loader, LoaderOptions, Pixels};
use headstart::cache::{CacheSettings, DISK, Whole};
use headstart::config::{HeadSolver, Precision, TrainConfig};
use headstart::dataset::Subset;
use headstart::evaluate::{EvaluateOptions, evaluate_with};
use headstart::run::{CacheFolder, DiskCache, Ended, Finished, Job};
use headstart::{Control, Dataset, Device, Model};

fn model(data: &Dataset) -> Model {
    Model::builder("resnet20").weights("cifar10").build(data).unwrap()
}

#[test]
fn loaders_mirror_what_enters_the_net() {
    let data = Dataset::load("synthetic:3x20x40").unwrap();
    let target = model(&data).target();
    let batch = |subset: &Subset| {
        let order = (0..8).collect();
        Loader::new(subset, order, LoaderOptions::new(8, target)).unwrap().next().unwrap().unwrap()
    };
    let bytes = |batch: Batch| match batch.images {
        Pixels::Bytes(bytes) => bytes,
        Pixels::Floats(_) => unreachable!(),
    };
    let mirrored = data.train.mirrored();
    let (plain, other) = (bytes(batch(&data.train)), bytes(batch(&mirrored)));
    let width = target.width;
    assert_eq!(plain.len(), 8 * target.height * width * 3);
    for (row, other) in plain.chunks_exact(width * 3).zip(other.chunks_exact(width * 3)) {
        for x in 0..width {
            assert_eq!(row[x * 3..][..3], other[(width - 1 - x) * 3..][..3]);
        }
    }
    assert!(plain != other);
    assert_eq!(bytes(batch(&mirrored.mirrored())), plain);
    assert_eq!(bytes(batch(&mirrored.select(&(0..8).collect::<Vec<_>>()))), other);
}

#[test]
fn their_features_are_cached_apart_and_their_probabilities_averaged() {
    let data = Dataset::load("synthetic:3x20x40").unwrap();
    let (model, device) = (model(&data), Device::cpu(1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let disk = CacheSettings { memory: 0, folder: Some(folder.path().into()), disk: DISK };
    let pooled = |cache: &CacheSettings, subset: &Subset| {
        let mut whole = Whole::new(&model, &data.name, &device, 8, cache);
        whole.pooled(("train", subset), &mut |_| Ok(Control::Continue)).unwrap().unwrap()
    };
    let (images, none) = (&data.train, CacheSettings::none());
    let want = [pooled(&none, images), pooled(&none, &images.mirrored())];
    assert!(want[0] != want[1]);
    for _ in 0..2 {
        assert_eq!(pooled(&disk, images), want[0]);
        assert_eq!(pooled(&disk, &images.mirrored()), want[1]);
    }
    let evaluated = |subset: &Subset, tta| {
        let options = EvaluateOptions { batch: 8, tta, cache: &none };
        let parts = [("train", subset)];
        let mut go_on = |_| Ok(Control::Continue);
        let found = evaluate_with(&model, &data, &parts, &device, options, &mut go_on).unwrap();
        found.unwrap().probabilities
    };
    let (plain, other) = (evaluated(images, false), evaluated(&images.mirrored(), false));
    let mean: Vec<f32> = plain.iter().zip(&other).map(|(a, b)| (a + b) / 2.0).collect();
    assert_eq!(evaluated(images, true), mean);
}

#[test]
fn a_head_is_fitted_on_mirror_images_too() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, head_mirror, cached: bool| {
        let config = TrainConfig {
            data: "synthetic:3x60x40".into(),
            model: "resnet20".into(),
            weights: "cifar10".into(),
            image_size: Some(32),
            epochs: 1,
            head_solver: HeadSolver::Lbfgs,
            head_mirror,
            refit: true,
            calibrate: false,
            fine_tune_at: None,
            validation_split: 0.2,
            test_split: 0.2,
            precision: Precision::F32,
            threads: 1,
            ..TrainConfig::default()
        };
        let folder = match cached {
            true => CacheFolder::At(place.path().join("cache")),
            false => CacheFolder::Off,
        };
        let job = Job::new(config).out(place.path().join(name), false).pictures(false);
        let job = job.cache(DiskCache { folder, ..DiskCache::default() });
        match job.run(&mut |_| Control::Continue).unwrap() {
            Ended::Finished(finished) => *finished,
            Ended::Stopped { .. } => unreachable!(),
        }
    };
    let (plain, mirrored) = (run("plain", false, false), run("mirrored", true, false));
    assert!(plain.model.parameters != mirrored.model.parameters);
    // Each of them is fitted twice, without and with the validation images: no head is thrown away.
    for finished in [&plain, &mirrored] {
        let events = std::fs::read_to_string(finished.folder.join("events.jsonl")).unwrap();
        let heads = events.lines().filter(|line| line.contains("\"held_out_loss\":null"));
        assert_eq!(heads.count(), 2, "{events}");
    }
    // The mirror images that it was fitted on have less loss than under the other.
    let loss = |finished: &Finished| {
        let (data, device) = (&finished.data, Device::cpu(1).unwrap());
        let none = CacheSettings::none();
        let options = EvaluateOptions { batch: 8, tta: false, cache: &none };
        let (subset, mut go_on) = (data.train.mirrored(), |_| Ok(Control::Continue));
        let (model, parts) = (&finished.model, [("train", &subset)]);
        let found = evaluate_with(model, data, &parts, &device, options, &mut go_on);
        found.unwrap().unwrap().report.loss
    };
    let (before, after) = (loss(&plain), loss(&mirrored));
    assert!(after < before, "{before} {after}");
    for name in ["first", "again"] {
        assert_eq!(run(name, true, true).model.parameters, mirrored.model.parameters);
    }
}
