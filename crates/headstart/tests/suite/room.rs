//! Batches that fit the memory.

use headstart::config::TrainConfig;
use headstart::run::{Ended, Event, Job};
use headstart::{Control, Dataset, Device, Model, Phase, Settings, Trainer};

#[test]
fn the_batch_that_fits_is_the_largest_power_of_two_that_does() {
    let data = Dataset::load("synthetic:2x300x16").unwrap();
    let phases = [Phase::head(1, 1e-2), Phase::full(1, 1e-3)];
    // Small images: as many as are usual, or as there are.
    for (data, expected) in [(data, 256), (Dataset::load("synthetic:2x15x16").unwrap(), 8)] {
        let mut model = Model::builder("resnet20").weights("none").build(&data).unwrap();
        let trainer =
            Trainer::new(&mut model, &data, Device::cpu(1).unwrap(), Settings::default()).unwrap();
        assert_eq!(trainer.batch_that_fits(&phases).unwrap(), expected);
    }
    // Large ones: a step of 256 takes more than any machine that this runs on has.
    let data = Dataset::load("synthetic:2x300x16").unwrap();
    let (mut found, mut sides) = (256, Vec::new());
    for side in [512, 1024, 2048, 4096] {
        let model = Model::builder("resnet20").weights("none").image_size(side);
        let mut model = model.build(&data).unwrap();
        let mut fits = |batch_size| {
            let settings = Settings { batch_size, ..Settings::default() };
            let trainer =
                Trainer::new(&mut model, &data, Device::cpu(1).unwrap(), settings).unwrap();
            // What the head is trained on comes in batches of its own.
            (trainer.batch_that_fits(&phases[1..]), trainer.check_memory(&phases[1..]))
        };
        match fits(1).0 {
            Ok(size) => {
                assert!(size.is_power_of_two() && size <= found, "{side}: {size} after {found}");
                assert!(size == 256 || fits(2 * size).1.is_err(), "{side}: {size}");
                found = size;
                sides.push(size);
            }
            Err(error) => {
                assert!(error.hint().unwrap().contains("--image-size"), "{error:?}");
                found = 0;
            }
        }
    }
    assert!(found < 256, "{sides:?}");
}

#[test]
fn a_run_takes_the_batch_that_fits_and_keeps_it_when_it_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        data: "synthetic:2x15x16".into(),
        model: "resnet20".into(),
        weights: "none".into(),
        threads: 1,
        epochs: 2,
        ..TrainConfig::defaults(Some("synthetic:2x15x16"), Some("resnet20"))
    };
    let out = place.path().join("run");
    let mut said = Vec::new();
    let job = Job::new(config).batch_that_fits(true).pictures(false).out(&out, false);
    let ended = job.run(&mut |event| {
        if let Event::BatchSize(size) = event {
            said.push(*size);
        }
        match event {
            Event::Training(headstart::events::Event::Epoch(_)) => Control::Stop,
            _ => Control::Continue,
        }
    });
    assert!(matches!(ended.unwrap(), Ended::Stopped { .. }));
    assert_eq!(said, [8]);
    assert_eq!(TrainConfig::of_run(&out).unwrap().batch_size, 8);
    let again = Job::resume(&out).unwrap().batch_that_fits(true).pictures(false);
    let ended = again.run(&mut |event| {
        assert!(!matches!(event, Event::BatchSize(_)));
        Control::Continue
    });
    let Ended::Finished(finished) = ended.unwrap() else { panic!("it was not stopped") };
    assert_eq!(finished.config.batch_size, 8);
}
