//! `--fit`: what becomes of images that are not square, from training to export.

use std::fs;

use crate::support::{Place, TRAIN};

const SIDE: usize = 32;
/// ImageNet's mean.
const MEAN: [u8; 3] = [124, 116, 104];

/// Pixel (x, y) of a picture.
type Picture<'p> = &'p dyn Fn(usize, usize) -> [u8; 3];

fn png(place: &Place, name: &str, (width, height): (usize, usize), picture: Picture<'_>) {
    let file = fs::File::create(place.path(name)).unwrap();
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..width * height).flat_map(|i| picture(i % width, i / width)).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

fn inner(x: usize, y: usize) -> [u8; 3] {
    [(x * 7 % 256) as u8, (y * 8 % 256) as u8, ((x * y) % 256) as u8]
}

/// Probabilities by class.
fn probabilities(place: &Place, line: &str) -> Vec<String> {
    let found = place.run(&format!("predict {line} --json --precision f32")).ok().json();
    let mut list: Vec<String> =
        found["top"].as_array().unwrap().iter().map(|choice| choice.to_string()).collect();
    list.sort();
    assert_eq!(list.len(), 3);
    list
}

/// The job of other tests without its size and folder.
fn line(flags: &str) -> String {
    format!("{} {flags}", TRAIN.replace("--out run", "").replace("--image-size 16", ""))
}

fn train(place: &Place, out: &str, flags: &str) {
    place.data(6);
    place.run(&line(&format!("--image-size {SIDE} {flags} --out {out}"))).ok();
}

#[test]
fn a_model_that_crops_sees_the_middle_and_one_that_pads_a_border() {
    let place = Place::new();
    train(&place, "crop", "--fit crop --crop-share 0.8");
    train(&place, "pad", "--fit pad");
    let settings = |run: &str| fs::read_to_string(place.path(run).join("config.toml")).unwrap();
    assert!(settings("crop").contains("fit = \"crop\"\ncrop-share = 0.8"), "{}", settings("crop"));
    assert!(settings("pad").contains("fit = \"pad\""));

    png(&place, "inner.png", (SIDE, SIDE), &inner);
    // The shorter side is 40 = 32 / 0.8, so that nothing is resized.
    let around = |x: usize, y: usize| match (14..14 + SIDE).contains(&x) && (4..36).contains(&y) {
        true => inner(x - 14, y - 4),
        false => [255, 0, 255],
    };
    png(&place, "wide.png", (60, 40), &around);
    let own = probabilities(&place, "crop wide.png");
    assert_eq!(own, probabilities(&place, "crop inner.png --fit stretch"));
    assert_ne!(own, probabilities(&place, "crop wide.png --fit stretch"));
    assert_ne!(own, probabilities(&place, "crop wide.png --fit pad"));
    assert_ne!(own, probabilities(&place, "crop wide.png --crop-share 1"));
    let loss = |flags: &str| {
        let line = format!("evaluate crop --data data --precision f32 --json {flags}");
        place.run(&line).ok().json()["loss"].as_f64().unwrap()
    };
    assert_eq!(loss(""), loss("--fit crop --crop-share 0.8"));
    assert_ne!(loss(""), loss("--fit stretch"));
    assert_eq!(loss(""), loss("--decode full"));
    place.run("evaluate crop --data data --fit crop --crop-share 2").fails(2, &["crop"]);

    png(&place, "low.png", (SIDE, 16), &inner);
    let bordered = |x: usize, y: usize| match (8..24).contains(&y) {
        true => inner(x, y - 8),
        false => MEAN,
    };
    png(&place, "bordered.png", (SIDE, SIDE), &bordered);
    let own = probabilities(&place, "pad low.png");
    assert_eq!(own, probabilities(&place, "pad bordered.png --fit stretch"));
    assert_ne!(own, probabilities(&place, "pad low.png --fit stretch"));
}

#[test]
fn exports_and_later_commands_follow_the_models_choice() {
    let place = Place::new();
    train(&place, "crop", "--fit crop --crop-share 0.8");
    let onnx = place.run("export crop --format onnx --out n.onnx").ok().out;
    assert!(onnx.contains("int(40 * side / min(image.size))"), "{onnx}");
    assert!(onnx.contains("left + 32, top + 32"), "{onnx}");
    place.run("export crop --format pytorch --out n.safetensors").ok();
    let module = fs::read_to_string(place.path("n_model.py")).unwrap();
    assert!(
        module.contains("    image = image.crop((left, top, left + 32, top + 32))"),
        "{module}"
    );
    let inspected = place.run("summary crop").ok().out;
    assert!(inspected.contains("crop 0.8"), "{inspected}");

    png(&place, "wide.png", (60, 40), &inner);
    let found = place.run("explain-image crop wide.png --out e.png --json").ok().json();
    let window: Vec<f64> =
        found["window"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let expected = [14.0 / 60.0, 0.1, SIDE as f64 / 60.0, 0.8];
    assert!(window.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6), "{window:?}");
    place.run("evaluate crop --data data").ok();
    // A model file has its choice inside; resuming does not change it.
    place.run("features crop --data data --out f.csv --fit pad").fails(2, &["--fit"]);
    place.run("probe crop --data data --fit pad").fails(2, &["--fit"]);
    let config = place.path("crop/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("fit = \"crop\"\ncrop-share = 0.8\n", "")).unwrap();
    place.run("train --resume crop --allow-changes").fails(1, &["crop-share"]);
}

#[test]
fn choices_that_contradict_each_other_are_refused() {
    let place = Place::new();
    place.data(4);
    for (flags, parts) in [
        ("--fit squash", &["squash", "stretch", "crop", "pad"][..]),
        ("--crop-share 0.9", &["--crop-share", "add --fit crop"]),
        ("--fit pad --crop-share 0.9", &["--crop-share", "pad"]),
        ("--fit crop --crop-share 0", &["--crop-share", "0.1 to 1"]),
        ("--fit crop --crop-share nan", &["--crop-share", "NaN"]),
        ("--fit crop --crop-share 1.5", &["--crop-share", "1.5"]),
    ] {
        place.run(&line(&format!("--image-size 32 {flags} --out bad"))).fails(2, parts);
        assert!(!place.path("bad").exists(), "{flags}");
    }
    place.run(&line("--upsample 2 --fit pad --out bad")).fails(2, &["--fit", "image-size"]);
}
