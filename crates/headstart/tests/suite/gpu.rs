//! Nets on a GPU beside the same nets on the CPU, and runs that go from one to the other.

use std::time::Duration;

use headstart::bench::Part;
use headstart::config::{DeviceChoice, OptimizerName, Precision, TrainConfig};
use headstart::execute::{Execute, Training, Turn};
use headstart::init::{self, ConvInit};
use headstart::optimizer::{Optimizer, Rule};
use headstart::plan::Request;
use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Job};
use headstart::trainer::{Phase, Settings, Trainer};
use headstart::{Control, DType, Dataset, Device, Model, job};
use headstart_kernels::element::Values;

use crate::devices::gpus;
use crate::oracle::random;

fn cpu() -> Device {
    Device::cpu(1).unwrap()
}

fn request(outputs: Vec<usize>, trainable: Option<Vec<bool>>, batch: usize) -> Request {
    Request { batch, sources: vec![0], outputs, trainable, dtype: DType::F32 }
}

/// The net's outputs for some bytes.
fn forward(device: &Device, model: &Model, images: &[u8], batch: usize) -> Vec<f32> {
    let request = request(vec![model.output()], None, batch);
    let mut e = device.executor(&model.net.graph, request, &model.parameters, 0).unwrap();
    let (mut all, mut values) = (Vec::new(), Values::default());
    let each = model.net.graph.nodes[0].shape.elements();
    for images in images.chunks(batch * each) {
        e.forward(&[images.into()], images.len() / each).unwrap();
        e.read(0, &mut values).unwrap();
        all.extend(values.as_slice().to_f32());
    }
    all
}

/// An error with its hint.
fn said(error: &headstart::Error) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

fn close(a: &[f32], b: &[f32], bound: f32, what: &str) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= bound, "{what}: {a} and {b}");
    }
}

fn sample() -> (Model, Dataset) {
    let data = Dataset::load("sample").unwrap();
    (Model::builder("resnet20").weights("cifar10").build(&data).unwrap(), data)
}

#[test]
fn probabilities_of_the_sample_are_those_of_the_cpu() {
    let (model, data) = sample();
    let images: Vec<u8> =
        (0..13).flat_map(|i| data.train.image(i).unwrap().pixels.to_vec()).collect();
    let expected = forward(&cpu(), &model, &images, 5);
    for device in gpus() {
        close(&forward(&device, &model, &images, 5), &expected, 1e-4, "resnet20");
    }
}

/// ResNet-50 as it is, on images of 32 pixels enlarged to 64, with random weights.
#[test]
fn probabilities_of_resnet50_are_those_of_the_cpu() {
    let mut model = Model::imagenet("resnet50").unwrap();
    let recipe = Recipe::named("resnet50").unwrap();
    let preprocess = model.card.preprocess;
    let around = Surroundings {
        height: 32,
        width: 32,
        preprocess: Some(preprocess),
        upsample: 2,
        classes: Some(10),
    };
    model.net = Net::new(&recipe, &around).unwrap();
    model.parameters = init::initial(&model.net.graph, ConvInit::GlorotUniform, 3);
    let images: Vec<u8> = random(5, 2 * 32 * 32 * 3, 0.0, 255.0).iter().map(|&v| v as u8).collect();
    let expected = forward(&cpu(), &model, &images, 2);
    for device in gpus() {
        close(&forward(&device, &model, &images, 2), &expected, 1e-4, "resnet50");
    }
}

fn losses(device: &Device, model: &Model, data: &Dataset, rule: Rule, steps: u64) -> Vec<f32> {
    let trainable = Some(model.net.trainable(headstart::resnet::FreezePoint(30)));
    let request = request(vec![], trainable, 8);
    let mut e = device.executor(&model.net.graph, request, &model.parameters, 7).unwrap();
    let optimizer = Optimizer::new(rule, 1e-3).unwrap();
    e.prepare(Training { clip_norm: Some(1.0), average: Some(0.9), ..Training::new(optimizer) })
        .unwrap();
    let step = |step: u64, e: &mut dyn Execute| {
        let chosen: Vec<usize> = (0..8).map(|i| (step as usize * 8 + i) % 64).collect();
        let images: Vec<u8> =
            chosen.iter().flat_map(|&i| data.train.image(i).unwrap().pixels.to_vec()).collect();
        let all = data.train.labels();
        let labels: Vec<u32> = chosen.iter().map(|&i| all[i] as u32).collect();
        let turn = Turn { step, replica: 0 };
        let result = e.train_step(&[(&images).into()], (&labels).into(), turn).unwrap();
        e.update(if rule == Rule::ADAM { 1e-3 } else { 0.05 }).unwrap();
        result.loss
    };
    (0..steps).map(|i| step(i, &mut *e)).collect()
}

#[test]
fn losses_of_twenty_steps_are_those_of_the_cpu() {
    let (mut model, data) = sample();
    model.set_dropout(0.2).unwrap();
    let momentum = Rule::Sgd { momentum: 0.9, nesterov: true };
    let expected = losses(&cpu(), &model, &data, momentum, 20);
    assert!(expected[19] < 0.8 * expected[0], "it learns: {expected:?}");
    // Adam divides by the size of gradients, and so makes rounding of the smallest ones as large as any step.
    let few = losses(&cpu(), &model, &data, Rule::ADAM, 8);
    for device in gpus() {
        let ours = losses(&device, &model, &data, momentum, 20);
        close(&ours, &expected, 1e-3, &format!("{ours:?} {expected:?}"));
        assert!(losses(&device, &model, &data, momentum, 5) == ours[..5], "the same bits again");
        let ours = losses(&device, &model, &data, Rule::ADAM, 8);
        close(&ours, &few, 1e-3, &format!("{ours:?} {few:?}"));
    }
}

/// An arena over several buffers gives the same bits.
#[test]
fn pages_change_nothing() {
    let (model, data) = sample();
    for (i, device) in gpus().iter().enumerate() {
        let context = headstart_gpu::Context::open(headstart_gpu::Choice::Number(i)).unwrap();
        let paged = Device::on(context.with_page(1 << 20), cpu().compute().clone());
        assert!(paged.page() < device.page());
        let [small, whole] = [&paged, device].map(|d| losses(d, &model, &data, Rule::ADAM, 2));
        assert!(small == whole);
        let request = request(vec![model.output()], None, 512);
        let refused = paged.executor(&model.net.graph, request, &model.parameters, 0);
        let error = said(&refused.unwrap_err());
        assert!(error.contains("--batch-size"), "{error}");
    }
}

fn run(config: TrainConfig, folder: &std::path::Path) -> Job {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let job = Job::new(config).out(folder, true).cache(cache).pictures(false);
    job.save_every(Duration::from_secs(1000))
}

/// A run that begins on a GPU goes on on the CPU, where changes are allowed, and the other way round.
#[test]
fn a_run_goes_from_one_device_to_the_other() {
    for i in 0..gpus().len() {
        for devices in [
            [DeviceChoice::Gpu(Some(i)), DeviceChoice::Cpu],
            [DeviceChoice::Cpu, DeviceChoice::Gpu(Some(i))],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let config = TrainConfig {
                data: "synthetic:2x14x16".into(),
                model: "resnet20".into(),
                weights: "cifar10".into(),
                image_size: Some(8),
                epochs: 1,
                fine_tune_at: Some("conv4_block3_1_conv".into()),
                fine_tune_epochs: 2,
                batch_size: 5,
                optimizer: OptimizerName::Adam,
                precision: Precision::F32,
                device: devices[0],
                threads: 1,
                ..TrainConfig::default()
            };
            let place = folder.path().join("run");
            let mut epochs = 0;
            let ended = run(config, &place).run(&mut |event| {
                let epoch = matches!(event, Event::Training(headstart::events::Event::Epoch(..)));
                epochs += usize::from(epoch);
                if epochs == 2 { Control::Stop } else { Control::Continue }
            });
            assert!(matches!(ended.unwrap(), Ended::Stopped { .. }), "{devices:?}");
            let other = |allow: bool| {
                let job = Job::resume(&place).unwrap();
                let config =
                    TrainConfig { device: devices[1], ..TrainConfig::of_run(&place).unwrap() };
                let job = job.with(config).allow_changes(allow).pictures(false);
                job.run(&mut |_| Control::Continue)
            };
            let error = said(&other(false).unwrap_err());
            assert!(error.contains("--allow-changes"), "{error}");
            let Ended::Finished(finished) = other(true).unwrap() else { panic!("{devices:?}") };
            let losses: Vec<f64> = finished.history.epochs.iter().map(|r| r.loss).collect();
            assert_eq!(losses.len(), 3, "{losses:?}");
            assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
        }
    }
}

#[test]
fn what_a_gpu_cannot_do_is_said() {
    let error = job::device(1, Precision::F32, DeviceChoice::Gpu(Some(99))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("gpu:99") || text.contains("adapter"), "{text}");
    let error = job::device(1, Precision::Bf16, DeviceChoice::Gpu(None)).unwrap_err();
    assert!(said(&error).contains("--precision f32"), "{error}");
    // Software is never taken by itself.
    let (model, _) = sample();
    let software = headstart::doctor::adapters().adapters.iter().all(|a| a.kind == "software");
    if software {
        let auto = (DeviceChoice::Auto, Precision::F32);
        let (device, why) = job::settle(cpu(), auto.0, auto.1, &model, (Part::Forward, 4)).unwrap();
        assert!(device.is_cpu() && why.is_none());
        let error = job::device(1, Precision::F32, DeviceChoice::Gpu(None)).unwrap_err();
        assert!(error.to_string().contains("adapter"), "{error}");
    }
}

#[test]
fn a_gpu_is_compared_in_training_steps_too() {
    let (model, _) = sample();
    let from = model.net.freeze_point("conv4").unwrap();
    for device in gpus() {
        for part in [Part::Forward, Part::FineTune(from)] {
            let [own, its] = job::rates(&cpu(), &device, &model, (part, 2)).unwrap();
            assert!(own > 0.0 && its > 0.0, "{part:?}: {own}, {its}");
        }
    }
}

#[test]
fn images_that_are_looked_at_are_as_many_as_fit() {
    // 32 of them have a map of 184 MB, and a buffer of lavapipe's 134 MB; in a step there are four.
    let data = Dataset::load("synthetic:2x12x8").unwrap();
    for device in gpus() {
        let builder = Model::builder("resnet20").weights("none").image_size(300);
        let mut model = builder.build(&data).unwrap();
        let settings = Settings { batch_size: 4, ..Settings::default() };
        let trainer = Trainer::new(&mut model, &data, device, settings).unwrap();
        trainer.check_memory(&[Phase::full(1, 0.1)]).unwrap();
    }
}
