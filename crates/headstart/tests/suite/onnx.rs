//! ONNX exports, run by another program's engine (rten), against the model they came from.

use std::collections::BTreeSet;

use headstart::classify::{ClassifyOptions, classify};
use headstart::export::onnx::{INPUT, Int8, OUTPUT, write};
use headstart::graph::Op;
use headstart::image::{Decode, Fit, Interpolation, Resizer, Views};
use headstart::inference::probabilities;
use headstart::model::Model;
use headstart::preprocess::Preprocess;
use headstart::weights::model_file::{ModelCard, VERSION};
use headstart::{Control, Dataset, Device};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

use crate::support::varied;

const CLASSES: usize = 4;
/// Images of every comparison.
const COUNT: usize = 6;

/// A net of some size, with [`varied`] weights.
fn model(architecture: &str, size: usize, upsample: usize, preprocess: Preprocess) -> Model {
    sized(architecture, (size, size + 5), upsample, preprocess)
}

/// The same, of this height and width.
fn sized(
    architecture: &str,
    (height, width): (usize, usize),
    upsample: usize,
    preprocess: Preprocess,
) -> Model {
    let card = ModelCard {
        task: headstart::Task::default(),
        version: VERSION,
        architecture: architecture.into(),
        classes: ["plain", "two words", "Größe", "\"quoted\""].map(String::from).to_vec(),
        height,
        width,
        interpolation: Interpolation::Bicubic,
        fit: Fit::Stretch,
        decode: Decode::Full,
        upsample,
        preprocess,
        temperature: None,
        calibration: None,
        trained: None,
        progress: None,
    };
    varied(Model::new(card, 7).unwrap())
}

fn images() -> Dataset {
    Dataset::load(&format!("synthetic:{CLASSES}x{COUNT}x37")).unwrap()
}

fn device() -> Device {
    Device::cpu(2).unwrap()
}

/// What rten makes of the bytes of the images, at the model's size.
fn answers(model: &Model, bytes: Vec<u8>, data: &Dataset) -> Vec<f32> {
    let net = rten::Model::load(bytes).unwrap();
    let (height, width) = (model.card.height, model.card.width);
    let mut pixels = Vec::new();
    for i in 0..data.train.len() {
        let image = data.train.image(i).unwrap();
        let mut resized = vec![0; height * width * 3];
        let interpolation = model.card.interpolation;
        Resizer::new().resize_into(&image, width, height, interpolation, &mut resized).unwrap();
        pixels.extend(resized);
    }
    let shape = [data.train.len(), height, width, 3];
    let input = NdTensor::from_data(shape, pixels);
    let inputs = vec![(net.node_id(INPUT).unwrap(), input.view().into())];
    let outputs = net.run(inputs, &[net.node_id(OUTPUT).unwrap()], None).unwrap();
    let p: Tensor<f32> = outputs.into_iter().next().unwrap().try_into().unwrap();
    assert_eq!(p.shape(), [data.train.len(), CLASSES]);
    p.to_vec()
}

/// What rten makes of the bytes of one image of the model's size.
fn answer(model: &Model, pixels: Vec<u8>) -> Vec<f32> {
    let net = rten::Model::load(exported(model, None)).unwrap();
    let input = NdTensor::from_data([1, model.card.height, model.card.width, 3], pixels);
    let inputs = vec![(net.node_id(INPUT).unwrap(), input.view().into())];
    let outputs = net.run(inputs, &[net.node_id(OUTPUT).unwrap()], None).unwrap();
    let p: Tensor<f32> = outputs.into_iter().next().unwrap().try_into().unwrap();
    p.to_vec()
}

fn exported(model: &Model, int8: Option<&Int8>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    write(model, int8, &path).unwrap();
    std::fs::read(path).unwrap()
}

fn ours(model: &Model, data: &Dataset) -> Vec<f32> {
    let mut go_on = |_| Control::Continue;
    probabilities(model, &data.train, &device(), 4, &mut go_on).unwrap().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let far = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    a.iter().zip(b).map(far).fold(0.0, f32::max)
}

#[test]
fn every_family_predicts_in_another_engine_what_it_predicts_here() {
    let data = images();
    for (net, size, upsample, preprocess) in [
        ("resnet20", 16, 2, Preprocess::Unit),
        ("resnet50", 48, 1, Preprocess::Caffe),
        ("resnet50v2", 48, 1, Preprocess::Tf),
        ("torchvision-resnet18", 50, 1, Preprocess::Torch),
    ] {
        let mut model = model(net, size, upsample, preprocess);
        for temperature in [None, Some(1.7)] {
            model.card.temperature = temperature;
            let p = ours(&model, &data);
            let distinct: BTreeSet<u32> = p.iter().map(|v| v.to_bits()).collect();
            assert!(distinct.len() > p.len() / 2, "{net} always predicts the same");
            let far = distance(&answers(&model, exported(&model, None), &data), &p);
            assert!(far < 1e-4, "{net}, temperature {temperature:?}: {far}");
        }
    }
}

#[test]
fn a_jpeg_file_gets_the_same_prediction_here_and_from_pillows_pixels_in_another_engine() {
    let path = format!("{}/tests/golden/image/images.json", env!("CARGO_MANIFEST_DIR"));
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let unhex = |value: &serde_json::Value| -> Vec<u8> {
        let digits = value.as_str().unwrap().as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    };
    let model = sized("resnet20", (32, 32), 1, Preprocess::Torch);
    let folder = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for case in golden["images"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if !name.starts_with("jpeg") || case["width"] != 32 || case["height"] != 32 {
            continue;
        }
        let file = folder.path().join(format!("{tried}.jpg"));
        std::fs::write(&file, unhex(&case["file"])).unwrap();
        let options = ClassifyOptions { batch: 1, tta: Views::One, decoders: 1 };
        let mut ours = Vec::new();
        classify(&model, &[file], &device(), options, &mut |_, prediction| {
            ours = prediction.unwrap().to_vec();
            Ok::<_, headstart::Error>(Control::Continue)
        })
        .unwrap();
        let far = distance(&answer(&model, unhex(&case["rgb"])), &ours);
        assert!(far < 1e-5, "{name}: {far}");
        tried += 1;
    }
    assert!(tried >= 7, "only {tried} files");
}

#[test]
fn bytes_answer_in_another_engine_what_was_foreseen_here() {
    let data = images();
    for (net, preprocess) in [("resnet20", Preprocess::Torch), ("resnet50v2", Preprocess::Tf)] {
        let model = model(net, 40, 1, preprocess);
        let mut go_on = |_| Control::Continue;
        let int8 = Int8::calibrate(&model, &data.train, &device(), &mut go_on).unwrap().unwrap();
        assert_eq!(int8.images, data.train.len());
        // Every convolution's input has bytes.
        let graph = &model.net.graph;
        let convolutions = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2D { .. }));
        assert!(int8.nodes().count() >= convolutions.count());
        let foreseen =
            int8.probabilities(&model, &data.train, &device(), &mut go_on).unwrap().unwrap();
        let (floats, bytes) = (exported(&model, None), exported(&model, Some(&int8)));
        let far = distance(&answers(&model, bytes.clone(), &data), &foreseen);
        let cost = distance(&foreseen, &ours(&model, &data));
        // A sum that lies between two bytes can fall to either side.
        assert!(far < 0.02 && far <= cost.max(0.004), "{net}: {far}, cost {cost}");
        assert!(cost > 0.0 && cost < 0.2, "{net}: {cost}");
        assert!(bytes.len() < floats.len() / 3, "{} {}", bytes.len(), floats.len());
    }
}

#[test]
fn what_cannot_be_written_or_calibrated_is_an_error() {
    let (data, folder) = (images(), tempfile::tempdir().unwrap());
    let mut model = model("resnet20", 16, 1, Preprocess::Unit);
    let error = write(&model, None, &folder.path().join("net.pb")).unwrap_err().to_string();
    assert!(error.contains("net.pb") && error.contains(".onnx"), "{error}");
    assert!(write(&model, None, &folder.path().join("gone/net.onnx")).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut go_on = |_| Control::Continue;
    let none = data.train.select(&[]);
    assert!(Int8::calibrate(&model, &none, &device(), &mut go_on).is_err());
    let mut stop = |_| Control::Stop;
    assert_eq!(Int8::calibrate(&model, &data.train, &device(), &mut stop).unwrap(), None);
    model.parameters.tensors[0].values[0] = f32::NAN;
    let error = Int8::calibrate(&model, &data.train, &device(), &mut go_on).unwrap_err();
    assert!(error.to_string().contains("finite"), "{error}");
}
