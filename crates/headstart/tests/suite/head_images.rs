//! A head that is fitted on a part of the training images, before all of them fine-tune the net.

use std::path::Path;

use headstart::Control;
use headstart::config::{HeadSolver, Precision, TrainConfig};
use headstart::events::Event;
use headstart::run::{self, CacheFolder, DiskCache, Ended, Finished, Job};

const SOME: usize = 40;

fn config() -> TrainConfig {
    TrainConfig {
        data: "synthetic:3x200x16".into(),
        model: "resnet20".into(),
        weights: "cifar10".into(),
        image_size: Some(16),
        epochs: 1,
        head_solver: HeadSolver::Lbfgs,
        calibrate: false,
        fine_tune_learning_rate: 1e-3,
        batch_size: 16,
        validation_split: 0.2,
        test_split: 0.2,
        precision: Precision::F32,
        threads: 1,
        ..TrainConfig::default()
    }
}

/// The finished run, and everything that it told.
fn finish(config: TrainConfig, folder: &Path) -> (Finished, Vec<Event>) {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let job = Job::new(config).out(folder, false).cache(cache).pictures(false);
    let mut events: Vec<Event> = Vec::new();
    let ended = job.run(&mut |event| {
        if let run::Event::Training(event) = event {
            events.push(Event::clone(event));
        }
        Control::Continue
    });
    match ended.unwrap() {
        Ended::Finished(finished) => (*finished, events),
        Ended::Stopped { .. } => unreachable!(),
    }
}

#[test]
fn the_head_is_that_of_as_many_images() {
    let place = tempfile::tempdir().unwrap();
    let few = TrainConfig { head_images: Some(SOME), ..config() };
    let (few, events) = finish(few, &place.path().join("few"));
    // A run that has no other training images, split the same.
    let limited = TrainConfig { limit: Some(SOME), ..config() };
    let (limited, _) = finish(limited, &place.path().join("limited"));
    assert!(limited.data.train.len() == SOME && few.data.train.len() > 2 * SOME);
    assert_eq!(few.model.parameters, limited.model.parameters);
    let (all, _) = finish(config(), &place.path().join("all"));
    assert!(few.model.parameters != all.model.parameters);
    // More than there are is all of them.
    let more = TrainConfig { head_images: Some(10_000), ..config() };
    let (more, _) = finish(more, &place.path().join("more"));
    assert_eq!(more.model.parameters, all.model.parameters);
    // Only these go through the frozen layers, once.
    let totals = events.iter().filter_map(|event| match event {
        Event::Features { split: "train", total, .. } => Some(*total),
        _ => None,
    });
    assert!(totals.clone().count() > 0 && totals.clone().all(|total| total == SOME));
    let told = events.iter().find_map(|event| match event {
        Event::Phase { cached, cache_bytes, .. } => Some((*cached, *cache_bytes)),
        _ => None,
    });
    let held_out = few.data.validation.as_ref().unwrap().len();
    assert_eq!(told, Some((true, ((SOME + held_out) * 64 * 4) as u64)));
}

#[test]
fn the_cache_on_disk_has_their_features() {
    let place = tempfile::tempdir().unwrap();
    let cached = |config: TrainConfig, name: &str| {
        let folder = CacheFolder::At(place.path().join("cache"));
        let cache = DiskCache { folder, ..DiskCache::default() };
        let job = Job::new(config).out(place.path().join(name), false).cache(cache).pictures(false);
        let mut computed = 0;
        let ended = job.run(&mut |event| {
            if let run::Event::Training(Event::Features { split: "train", total, .. }) = event {
                computed = *total;
            }
            Control::Continue
        });
        let Ended::Finished(finished) = ended.unwrap() else { unreachable!() };
        (finished.model.parameters.clone(), computed)
    };
    let few = TrainConfig { head_images: Some(SOME), ..config() };
    let (first, computed) = cached(few.clone(), "first");
    assert_eq!(computed, SOME);
    let (again, computed) = cached(few.clone(), "again");
    assert_eq!((&again, computed), (&first, 0));
    let (_, computed) = cached(config(), "all");
    assert!(computed > SOME, "{computed}");
    let (after, computed) = cached(few, "after");
    assert_eq!((&after, computed), (&first, 0));
}

#[test]
fn fine_tuning_sees_every_image() {
    let place = tempfile::tempdir().unwrap();
    let tuned = |at: &str, name: &str| {
        let config = TrainConfig {
            head_images: Some(SOME),
            fine_tune_at: Some(at.into()),
            fine_tune_epochs: 1,
            ..config()
        };
        finish(config, &place.path().join(name))
    };
    // Over cached features, of which the head's phase left a part, and on images.
    for (at, name) in [("conv4", "cached"), ("0", "images")] {
        let (run, events) = tuned(at, name);
        let last = events.iter().rev().find_map(|event| match event {
            Event::Step { step, steps, .. } => Some((*step, *steps)),
            _ => None,
        });
        let steps = run.data.train.len().div_ceil(16);
        assert_eq!(last, Some((steps, steps)), "{name}");
        assert!(run.history.epochs[1].loss.is_finite());
    }
}
