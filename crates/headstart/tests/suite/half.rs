//! Half precision on a GPU: the scale of the loss, and runs that go on bit for bit.

use std::path::Path;

use headstart::config::{DeviceChoice, OptimizerName, Precision, TrainConfig};
use headstart::execute::{Execute, Training, Turn, Weights};
use headstart::optimizer::{Optimizer, Rule};
use headstart::parameters::Parameters;
use headstart::resnet::{Block, FreezePoint, Stem};
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Job};
use headstart::{Control, DType, Device, Error, weights};

use crate::battery::{Case, case, gradients, net, trains, weights_of};
use crate::devices::{gpus, halves};

fn small(device: &Device) -> (Case, Box<dyn Execute>) {
    let net = net(Stem::Cifar, Block::Basic, false);
    let (case, trainable) = (case(&net, 5), net.trainable(FreezePoint(3)));
    let mut e = trains(&case, device, 5, vec![0], &trainable);
    let optimizer = Optimizer::new(Rule::ADAM, 1e-3).unwrap();
    e.prepare(Training { average: Some(0.5), ..Training::new(optimizer) }).unwrap();
    (case, e)
}

fn step(e: &mut dyn Execute, case: &Case, step: u64) -> f32 {
    let turn = Turn { step, replica: 0 };
    e.train_step(&[(&case.images).into()], (&case.labels).into(), turn).unwrap().loss
}

/// Gives an executor another scale of the loss and number of good steps.
fn scaled(e: &mut dyn Execute, scale: f32, good: f32) {
    let mut state = e.optimizer_state().unwrap();
    let held = state.iter_mut().find(|tensor| tensor.name == "loss_scale").unwrap();
    assert_eq!(held.values.len(), 2);
    held.values = vec![scale, good];
    e.set_optimizer_state(&state).unwrap();
}

fn scale(e: &mut dyn Execute) -> Vec<f32> {
    let state = e.optimizer_state().unwrap();
    state.into_iter().find(|tensor| tensor.name == "loss_scale").unwrap().values
}

/// All that an update may change: weights, their average, and the optimizer's state but for the scale.
fn held(e: &mut dyn Execute, case: &Case) -> (Parameters, Parameters, Vec<(String, Vec<f32>)>) {
    let [now, average] =
        [Weights::Current, Weights::Average].map(|which| weights_of(e, case, which));
    let state = e.optimizer_state().unwrap().into_iter().filter(|t| t.name != "loss_scale");
    (now, average, state.map(|t| (t.name, t.values)).collect())
}

fn finite(e: &mut dyn Execute) -> bool {
    gradients(e).tensors.iter().flatten().all(|g| g.is_finite())
}

#[test]
fn an_overflow_is_skipped_and_halves_the_scale() {
    for device in halves() {
        let (case, mut e) = small(&device);
        let e = &mut *e;
        assert_eq!(scale(e), [32768.0, 0.0]);
        step(e, &case, 0);
        e.update(1e-3).unwrap();
        assert_eq!(scale(e), [32768.0, 1.0]);
        scaled(e, 2f32.powi(60), 7.0);
        let loss = step(e, &case, 1);
        assert!(loss.is_finite() && !finite(e));
        let before = held(e, &case);
        e.update(1e-3).unwrap();
        assert!(held(e, &case) == before);
        assert_eq!(scale(e), [2f32.powi(59), 0.0]);
        // It comes down to where it fits, and training goes on.
        let mut steps = 0;
        while !finite(e) {
            step(e, &case, 2);
            e.update(1e-3).unwrap();
            steps += 1;
            assert!(steps < 80);
        }
        assert!(steps > 5 && held(e, &case) != before);
        assert_eq!(scale(e)[1], 1.0);
        // What never fits is an error.
        let mut bad = case.parameters.clone();
        bad.tensors.last_mut().unwrap().values.fill(f32::NAN);
        e.load(&bad).unwrap();
        scaled(e, 2f32.powi(-15), 0.0);
        step(e, &case, 3);
        let error = e.update(1e-3).unwrap_err();
        assert!(error.hint().unwrap().contains("--precision f32"), "{error}");
    }
}

#[test]
fn good_steps_double_the_scale_and_it_changes_no_bit_of_a_head() {
    for device in halves() {
        let (case, mut e) = small(&device);
        let e = &mut *e;
        step(e, &case, 0);
        let plain = gradients(e);
        scaled(e, 1024.0, 1999.0);
        step(e, &case, 0);
        // The head is in f32, where a power of two rounds nothing.
        let head = plain.tensors.len() - 2;
        assert!(gradients(e).tensors[head..] == plain.tensors[head..]);
        e.update(1e-3).unwrap();
        assert_eq!(scale(e), [2048.0, 0.0]);
    }
}

/// An overflow in one part of a batch skips the update of the whole, and leaves nothing behind.
#[test]
fn an_overflow_in_a_sum_skips_its_update() {
    for device in halves() {
        let (case, mut e) = small(&device);
        let e = &mut *e;
        let update = |e: &mut dyn Execute, scales: [f32; 2]| {
            for (i, scale) in scales.into_iter().enumerate() {
                scaled(e, scale, 0.0);
                step(e, &case, i as u64);
                e.accumulate().unwrap();
            }
            e.reduce(10, &mut |own, sum| {
                for own in own {
                    sum.iter_mut().zip(*own).for_each(|(s, g)| *s += g);
                }
                Ok(())
            })
            .unwrap();
            let before = held(e, &case);
            e.update(1e-3).unwrap();
            held(e, &case) == before
        };
        assert!(update(e, [2f32.powi(60), 512.0]));
        assert_eq!(scale(e), [256.0, 0.0]);
        assert!(!update(e, [512.0, 512.0]));
        assert_eq!(scale(e), [512.0, 1.0]);
    }
}

/// The same step has the same bits in another executor, and f32 is what it was.
#[test]
fn bits_are_the_same_from_run_to_run() {
    for device in halves() {
        assert_eq!(device.dtype(), DType::F16);
        assert!(device.fingerprint().ends_with("f16"));
        let once = || {
            let (case, mut e) = small(&device);
            for i in 0..3 {
                step(&mut *e, &case, i);
                e.update(1e-3).unwrap();
            }
            held(&mut *e, &case)
        };
        assert!(once() == once());
    }
}

/// Where there is no scale, a stored one is left out; where none is stored, it is the first one.
#[test]
fn state_goes_from_one_precision_to_the_other() {
    for gpu in gpus() {
        let Ok(half) = gpu.half() else { continue };
        let (case, mut e) = small(&half);
        step(&mut *e, &case, 0);
        e.update(1e-3).unwrap();
        scaled(&mut *e, 8.0, 5.0);
        let (_, mut single) = small(&gpu);
        single.set_optimizer_state(&e.optimizer_state().unwrap()).unwrap();
        let state = single.optimizer_state().unwrap();
        assert!(state.len() > 3 && state.iter().all(|tensor| tensor.name != "loss_scale"));
        e.set_optimizer_state(&state).unwrap();
        assert_eq!(scale(&mut *e), [32768.0, 0.0]);
    }
}

fn config(number: usize) -> TrainConfig {
    TrainConfig {
        data: "synthetic:2x14x16".into(),
        model: "resnet20".into(),
        weights: "cifar10".into(),
        image_size: Some(8),
        epochs: 1,
        fine_tune_at: Some("conv4_block3_1_conv".into()),
        fine_tune_epochs: 2,
        batch_size: 5,
        optimizer: OptimizerName::Adam,
        precision: Precision::F16,
        device: DeviceChoice::Gpu(Some(number)),
        threads: 1,
        ..TrainConfig::default()
    }
}

fn job(config: TrainConfig, folder: &Path) -> Job {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    Job::new(config).out(folder, true).cache(cache).pictures(false)
}

fn last(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let file = weights::read(folder.join("weights/last.safetensors")).unwrap();
    let state = file.optimizer.iter().map(|t| (t.name.clone(), t.values.clone()));
    let own = file.tensors.iter().map(|t| (t.name.clone(), t.values.clone()));
    own.chain(state).collect()
}

/// A run that was stopped in the middle of an epoch ends with the bits of one that was not, its scale included.
#[test]
fn a_run_goes_on_bit_for_bit() {
    for (number, gpu) in gpus().iter().enumerate() {
        if gpu.half().is_err() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
        let ended = job(config(number), &whole).run(&mut |_| Control::Continue).unwrap();
        assert!(matches!(ended, Ended::Finished(..)));
        let mut steps = 0;
        let ended = job(config(number), &stopped).run(&mut |event| {
            let step = matches!(event, Event::Training(headstart::events::Event::Step { .. }));
            steps += usize::from(step);
            if steps == 8 { Control::Stop } else { Control::Continue }
        });
        assert!(matches!(ended.unwrap(), Ended::Stopped { .. }));
        let resumed = Job::resume(&stopped).unwrap().pictures(false);
        assert!(matches!(resumed.run(&mut |_| Control::Continue).unwrap(), Ended::Finished(..)));
        let [a, b] = [&whole, &stopped].map(|folder| last(folder));
        assert!(a == b);
        let (_, scale) = a.iter().find(|(name, _)| name.ends_with("loss_scale")).unwrap();
        assert_eq!(scale[0], 32768.0);
        assert!(scale[1] > 0.0);
    }
}

#[test]
fn what_a_processor_cannot_do_is_said() {
    let said = |error: Error| format!("{error}; {}", error.hint().unwrap_or_default());
    let error = headstart::job::device(1, Precision::F16, DeviceChoice::Cpu).unwrap_err();
    let text = said(error);
    assert!(text.contains("--precision bf16") && text.contains("--device gpu"), "{text}");
    assert!(said(Device::cpu(1).unwrap().half().unwrap_err()).contains("f16"));
    for (number, gpu) in gpus().iter().enumerate() {
        let choice = DeviceChoice::Gpu(Some(number));
        let opened = headstart::job::device(1, Precision::F16, choice);
        match gpu.half() {
            Ok(_) => assert_eq!(opened.unwrap().dtype(), DType::F16),
            Err(_) => assert!(said(opened.unwrap_err()).contains("shader-f16")),
        }
    }
}
