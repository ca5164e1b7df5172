//! The short calls beside the full ones, and the README's Rust, which is that of the library's first page.

use std::fs;

use headstart::classify::{ClassifyOptions, classify};
use headstart::dataset::Split;
use headstart::image::{Views, picture};
use headstart::{Control, Dataset, Device, Error, Model, evaluate};

fn model(data: &Dataset) -> Model {
    Model::builder("resnet20").weights("cifar10").build(data).unwrap()
}

#[test]
fn a_photo_is_predicted_as_by_the_full_form() {
    let data = Dataset::load("synthetic:3x20x37").unwrap();
    let mut model = model(&data);
    model.card.temperature = Some(1.5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.jpg");
    let bytes = picture::png(&data.train.image(5).unwrap()).unwrap();
    fs::write(&path, &bytes).unwrap();
    let short = model.predict(&path).unwrap();
    assert_eq!(short, model.predict_bytes(&bytes).unwrap());
    assert!(short.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    let options = ClassifyOptions { batch: 1, tta: Views::One, decoders: 1 };
    let (device, mut full) = (Device::cpu(0).unwrap(), Vec::new());
    classify(&model, std::slice::from_ref(&path), &device, options, &mut |_, answer| {
        full = answer.unwrap().to_vec();
        Ok::<_, Error>(Control::Continue)
    })
    .unwrap();
    assert_eq!(short.len(), 3);
    for choice in short {
        assert_eq!(choice.class, model.card.classes[choice.index]);
        assert_eq!(choice.probability, full[choice.index]);
    }
}

#[test]
fn what_cannot_be_predicted_is_named() {
    let data = Dataset::load("synthetic:2x20x32").unwrap();
    let mut model = model(&data);
    let gone = model.predict("gone.jpg").unwrap_err().to_string();
    assert!(gone.contains("cannot read gone.jpg"), "{gone}");
    let text = model.predict_bytes(b"<html>").unwrap_err().to_string();
    assert!(text.contains("expected an image that is read: JPEG, PNG"), "{text}");
    let other = model.evaluate(&Dataset::load("sample").unwrap()).unwrap_err().to_string();
    assert!(other.contains("one of the model's 2 classes"), "{other}");
    let image = picture::png(&data.train.image(0).unwrap()).unwrap();
    model.parameters.tensors[0].values.fill(f32::NAN);
    let damaged = model.predict_bytes(&image).unwrap_err().to_string();
    assert!(damaged.contains("finite numbers"), "{damaged}");
}

#[test]
fn held_out_images_are_evaluated_where_there_are_some() {
    let mut data = Dataset::load("synthetic:3x20x32").unwrap();
    let model = model(&data);
    let device = Device::cpu(0).unwrap();
    let mut go_on = |_: &str, _: usize, _: usize| Control::Continue;
    let mut full = |data: &Dataset, split: Split| {
        let parts = data.parts(split).unwrap();
        evaluate::evaluate(&model, data, &parts, &device, 32, &mut go_on).unwrap().unwrap().report
    };
    assert_eq!(model.evaluate(&data).unwrap(), full(&data, Split::Test));
    data.test = None;
    assert_eq!(model.evaluate(&data).unwrap(), full(&data, Split::Validation));
    data.validation = None;
    assert_eq!(model.evaluate(&data).unwrap(), full(&data, Split::All));
}

/// Lines of the block of Rust below the README's heading.
fn block(text: &str) -> Vec<&str> {
    let (_, after) = text.split_once("## As a library").unwrap();
    let (_, block) = after.split_once("```rust\n").unwrap();
    block.split_once("```").unwrap().0.lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_readmes_library_section_is_the_first_pages_example() {
    let shown = include_str!("../../src/lib.rs").lines().filter_map(|l| l.strip_prefix("//! "));
    let shown: Vec<&str> = shown.filter(|line| !line.starts_with("# ")).collect();
    let lines = block(include_str!("../../../../README.md"));
    assert!(lines.len() >= 8, "{lines:?}");
    assert!(shown.windows(lines.len()).any(|window| window == lines), "{lines:#?}");
}
