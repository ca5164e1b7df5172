//! Mirror images of a data set, and the corners of its images.

use std::path::{Path, PathBuf};

use headstart::batches::{Batch, Loader, LoaderOptions, Pixels};
use headstart::cache::{CacheSettings, DISK, Whole};
use headstart::classify::{ClassifyOptions, classify};
use headstart::config::{HeadSolver, Precision, TrainConfig};
use headstart::dataset::{Split, Subset};
use headstart::evaluate::{EvaluateOptions, evaluate_with};
use headstart::image::{Corner, Decode, Fit, Resizer, Rgb8, View, Views, jpeg};
use headstart::run::{CacheFolder, DiskCache, Ended, Finished, Job};
use headstart::{Control, Dataset, Device, Error, Model};

fn model(data: &Dataset) -> Model {
    Model::builder("resnet20").weights("cifar10").build(data).unwrap()
}

#[test]
fn loaders_bring_views_to_the_net() {
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
    for corner in Corner::ALL.map(Some) {
        let seen = data.train.seen_as(View { corner, mirrored: false });
        let mut resizer = Resizer::new();
        let mut entered =
            |i| target.at(corner).enter(&mut resizer, &data.train.image(i).unwrap()).unwrap();
        let expected: Vec<u8> = (0..8).flat_map(&mut entered).collect();
        assert!(bytes(batch(&seen)) == expected && expected != plain, "{corner:?}");
    }
}

#[test]
fn their_features_are_cached_apart() {
    let data = Dataset::load("synthetic:3x20x40").unwrap();
    let (model, device) = (model(&data), Device::cpu(1).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let disk = CacheSettings { memory: 0, folder: Some(folder.path().into()), disk: DISK };
    let pooled = |cache: &CacheSettings, subset: &Subset| {
        let mut whole = Whole::new(&model, &data.name, &device, 8, cache);
        whole.pooled(("train", subset), &mut |_| Ok(Control::Continue)).unwrap().unwrap()
    };
    let (images, none) = (&data.train, CacheSettings::none());
    let views = Views::All.list().into_iter().map(|view| images.seen_as(view));
    let views: Vec<Subset> = views.collect();
    let want: Vec<Vec<f32>> = views.iter().map(|subset| pooled(&none, subset)).collect();
    for (i, own) in want.iter().enumerate() {
        assert!(!want[..i].contains(own), "view {i}");
    }
    for _ in 0..2 {
        for (subset, want) in views.iter().zip(&want) {
            assert_eq!(pooled(&disk, subset), *want);
        }
    }
}

/// Photos of two classes, one of which is large enough to be decoded smaller, in `folder`.
fn photos(folder: &Path) -> Vec<PathBuf> {
    let sizes = [("a/large.jpg", 900, 640), ("a/own.jpg", 32, 32), ("b/wide.jpg", 90, 40)];
    let write = |(name, width, height): (&str, usize, usize)| {
        let pixels: Vec<u8> = (0..width * height * 3)
            .map(|i| (i * 255 / (width * height * 3) + i * 7 % 40) as u8)
            .collect();
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = Rgb8::new(width, height, pixels).unwrap();
        std::fs::write(&path, jpeg(&image, 90).unwrap()).unwrap();
        path
    };
    sizes.map(write).to_vec()
}

#[test]
fn probabilities_are_the_means_of_those_of_the_views() {
    let folder = tempfile::tempdir().unwrap();
    let files = photos(folder.path());
    let data = Dataset::load(folder.path().to_str().unwrap()).unwrap();
    let device = Device::cpu(1).unwrap();
    let all = data.parts(Split::All).unwrap();
    for (fit, decode) in [
        (Fit::Stretch, Decode::Reduced),
        (Fit::Stretch, Decode::Full),
        (Fit::Crop { share: 0.8 }, Decode::Reduced),
        (Fit::Pad, Decode::Reduced),
    ] {
        let mut model = model(&data);
        (model.card.fit, model.card.decode) = (fit, decode);
        let evaluated = |view: Option<View>, tta| {
            let seen: Vec<Subset> = all
                .iter()
                .map(|(_, subset)| view.map_or_else(|| (*subset).clone(), |v| subset.seen_as(v)))
                .collect();
            let parts: Vec<_> = seen.iter().map(|subset| ("all", subset)).collect();
            let none = CacheSettings::none();
            let options = EvaluateOptions { batch: 2, tta, cache: &none };
            let mut go_on = |_| Ok(Control::Continue);
            let found = evaluate_with(&model, &data, &parts, &device, options, &mut go_on);
            found.unwrap().unwrap().probabilities
        };
        let mut before: Vec<Vec<f32>> = Vec::new();
        for views in Views::ALL {
            let list = views.list();
            let mut mean = vec![0.0; files.len() * 2];
            for view in &list {
                let own = evaluated(Some(*view), Views::One);
                mean.iter_mut().zip(own).for_each(|(a, b)| *a += b);
            }
            mean.iter_mut().for_each(|a| *a /= list.len() as f32);
            let found = evaluated(None, views);
            assert_eq!(found, mean, "{views} {fit:?}");
            assert!(!before.contains(&found), "{views} {fit:?}");
            // Files on their own have the same.
            let options = ClassifyOptions { batch: 2, tta: views, decoders: 2 };
            let mut of_files = Vec::new();
            classify(&model, &files, &device, options, &mut |_, answer| {
                of_files.extend(answer.unwrap());
                Ok::<_, Error>(Control::Continue)
            })
            .unwrap();
            let mut sorted = (of_files, found.clone());
            for list in [&mut sorted.0, &mut sorted.1] {
                list.sort_by(f32::total_cmp);
            }
            assert_eq!(sorted.0, sorted.1, "{views} {fit:?}");
            before.push(found);
        }
    }
}

#[test]
fn a_head_is_fitted_on_other_views_too() {
    let place = tempfile::tempdir().unwrap();
    let run = |name: &str, [head_mirror, head_crops]: [bool; 2], cached: bool| {
        let config = TrainConfig {
            data: "synthetic:3x60x40".into(),
            model: "resnet20".into(),
            weights: "cifar10".into(),
            image_size: Some(32),
            epochs: 1,
            head_solver: HeadSolver::Lbfgs,
            head_mirror,
            head_crops,
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
    let plain = run("plain", [false, false], false);
    let mirrored = run("mirrored", [true, false], false);
    let (corners, all) = (run("corners", [false, true], false), run("all", [true, true], false));
    let each = [&plain, &mirrored, &corners, &all];
    for (i, one) in each.iter().enumerate() {
        for other in &each[..i] {
            assert!(one.model.parameters != other.model.parameters);
        }
    }
    // Each of them is fitted twice, without and with the validation images: no head is thrown away.
    for finished in each {
        let events = std::fs::read_to_string(finished.folder.join("events.jsonl")).unwrap();
        let heads = events.lines().filter(|line| line.contains("\"held_out_loss\":null"));
        assert_eq!(heads.count(), 2, "{events}");
    }
    // The views that it was fitted on have less loss than under the other.
    let loss = |finished: &Finished, view: View| {
        let (data, device) = (&finished.data, Device::cpu(1).unwrap());
        let none = CacheSettings::none();
        let options = EvaluateOptions { batch: 8, tta: Views::One, cache: &none };
        let (subset, mut go_on) = (data.train.seen_as(view), |_| Ok(Control::Continue));
        let (model, parts) = (&finished.model, [("train", &subset)]);
        let found = evaluate_with(model, data, &parts, &device, options, &mut go_on);
        found.unwrap().unwrap().report.loss
    };
    let mirror = View { mirrored: true, corner: None };
    let corner = View { mirrored: false, corner: Some(Corner::BottomLeft) };
    for (finished, view) in [(&mirrored, mirror), (&corners, corner), (&all, corner)] {
        let (before, after) = (loss(&plain, view), loss(finished, view));
        assert!(after < before, "{before} {after}");
    }
    for name in ["first", "again"] {
        assert_eq!(run(name, [true, true], true).model.parameters, all.model.parameters);
    }
}
