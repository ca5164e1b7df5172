//! Runs whose time is limited.

use std::path::Path;
use std::time::Duration;

use headstart::config::{OptimizerName, Precision, ScheduleName, Time, TrainConfig};
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Finished, Job};
use headstart::{Control, events};

fn config(milliseconds: u64) -> TrainConfig {
    TrainConfig {
        data: "synthetic:3x60x16".into(),
        model: "resnet20".into(),
        weights: "cifar10".into(),
        image_size: Some(16),
        epochs: 1,
        fine_tune_at: Some("conv4_block1_1_conv".into()),
        fine_tune_epochs: 100_000,
        batch_size: 8,
        optimizer: OptimizerName::AdamW,
        schedule: ScheduleName::OneCycle,
        validation_split: 0.2,
        test_split: 0.2,
        precision: Precision::F32,
        threads: 1,
        max_time: Some(Time(Duration::from_millis(milliseconds))),
        ..TrainConfig::default()
    }
}

fn cache() -> DiskCache {
    DiskCache { folder: CacheFolder::Off, ..DiskCache::default() }
}

fn job(milliseconds: u64, run: &Path) -> Job {
    Job::new(config(milliseconds)).out(run, true).cache(cache()).pictures(false)
}

fn finish(job: Job, listen: &mut dyn FnMut(&Event<'_>) -> Control) -> Finished {
    match job.run(listen).unwrap() {
        Ended::Finished(finished) => *finished,
        Ended::Stopped { kept, .. } => panic!("stopped: {kept}"),
    }
}

#[test]
fn a_run_ends_with_its_time_and_its_schedule_with_it() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let mut over = None;
    let mut listen = |event: &Event<'_>| {
        if let Event::Training(events::Event::TimeUp { epoch, step, steps, .. }) = event {
            over = Some((*epoch, *step, *steps));
        }
        Control::Continue
    };
    let finished = finish(job(3000, &run), &mut listen);
    let epochs = &finished.history.epochs;
    assert!(epochs.len() > 1 && epochs.len() < 100_000, "{}", epochs.len());
    // An epoch that the time cut short is one like others, and the last.
    if let Some((epoch, step, steps)) = over {
        assert_eq!(epoch, epochs.len());
        assert!(step > 0 && step < steps);
    }
    // The learning rate has fallen to its end, though hardly any of the steps were done.
    let rates = || epochs.iter().map(|e| e.learning_rate);
    let (most, last) = (rates().fold(0.0, f64::max), rates().next_back().unwrap());
    assert!(last < 0.2 * most, "{last} of {most}");
    assert!(finished.report.as_ref().unwrap().accuracy > 0.0);
    // Nothing is left to do.
    let resumed = Job::resume(&run).unwrap().cache(cache()).pictures(false);
    let again = finish(resumed, &mut |_| Control::Continue);
    assert_eq!(again.history.epochs, *epochs);
    assert_eq!(again.report, finished.report);
}

#[test]
fn however_short_the_time_is_there_is_an_epoch_and_a_model() {
    let place = tempfile::tempdir().unwrap();
    let finished = finish(job(1, &place.path().join("run")), &mut |_| Control::Continue);
    assert_eq!(finished.history.epochs.len(), 1);
    assert!(finished.report.is_some());
}

#[test]
fn a_run_that_is_stopped_while_its_last_epoch_is_validated_resumes() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let mut over = false;
    let mut stop = |event: &Event<'_>| {
        let Event::Training(event) = event else { return Control::Continue };
        over |= matches!(event, events::Event::TimeUp { .. });
        match event {
            events::Event::Evaluating { .. } if over => Control::Stop,
            _ => Control::Continue,
        }
    };
    let epochs = match job(1500, &run).run(&mut stop).unwrap() {
        // The time may be over just where an epoch ends.
        Ended::Finished(finished) => finished.history.epochs.len(),
        Ended::Stopped { folder, .. } => {
            assert_eq!(folder.as_deref(), Some(run.as_path()));
            let resumed = Job::resume(&run).unwrap().cache(cache()).pictures(false);
            finish(resumed, &mut |_| Control::Continue).history.epochs.len()
        }
    };
    assert!(epochs > 1 && epochs < 100_000, "{epochs}");
}
