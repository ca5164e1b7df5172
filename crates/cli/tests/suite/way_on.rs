//! What a user does after a run: the same accuracy everywhere, the run's folder as a model, help that leads on.

use std::fs;

use serde_json::Value;

use crate::support::{Place, TRAIN, list, trained};

/// A place with data and a run on it that held a fifth out for testing.
fn json(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
}

#[test]
fn the_folder_of_a_run_is_its_model_and_has_one_accuracy() {
    let place = trained(20, "--limit 20");
    let report = json(&place, "run/report.json");
    assert_eq!((&report["trained_on"], &report["samples"]), (&0.into(), &12.into()));
    // What train printed is run as it stands, and so is what a user types.
    let again = place.run("evaluate run --data data --json").ok();
    let same = again.json();
    for field in ["loss", "accuracy", "samples", "trained_on", "confusion_matrix", "calibration"] {
        assert_eq!(same[field], report[field], "{field}: {}", again.err);
    }
    assert!(!again.err.contains("warning"), "{}", again.err);
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    let accuracy = format!("{:.4}", report["accuracy"].as_f64().unwrap());
    assert!(page.contains(&accuracy) || page.contains(&accuracy[..5]), "{accuracy}");
    // Rows of the evaluation have the same accuracy.
    place.run("evaluate run --data data --output rows.jsonl").ok();
    let text = fs::read_to_string(place.path("rows.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let correct = rows.iter().filter(|row| row["correct"] == true).count();
    assert_eq!(rows.len(), 12);
    assert!((correct as f64 / 12.0 - report["accuracy"].as_f64().unwrap()).abs() < 1e-9);
    for row in &rows {
        assert_eq!(row["split"], "test", "{row}");
        assert!(place.path(row["image"].as_str().unwrap()).is_file(), "{row}");
        assert_eq!(row["correct"], row["label"] == row["class"], "{row}");
    }
    place.run("evaluate run --data data --output rows.txt").fails(2, &[".csv"]);
    // Other commands take the folder too.
    let summary = place.run("summary run").ok().out;
    for part in ["resnet20, 3 classes: blue, green, red", "trained on 20 images of data", "conv1"] {
        assert!(summary.contains(part), "no {part:?} in {summary}");
    }
    let epoch = report["shipped"]["epoch"].as_u64().unwrap();
    let four = |value: &Value| format!("{:.4}", value.as_f64().unwrap());
    let [low, high] = [0, 1].map(|i| four(&report["confidence_intervals"]["accuracy"][i]));
    let phase = report["shipped"]["phase"].as_str().unwrap();
    let shipped = format!("shipped: epoch {epoch} of 2 ({phase}), the best by val_accuracy, ");
    let accuracy = format!("test accuracy {} (95%: {low} to {high})", four(&report["accuracy"]));
    for part in [&shipped, &accuracy, "on 12 images"] {
        assert!(summary.contains(part), "no {part:?} in {summary}");
    }
    let file = place.run("summary run/weights/best.safetensors").ok().out;
    assert!(file.contains(&accuracy), "{file}");
    let last = place.run("summary run/weights/last.safetensors").ok().out;
    assert!(!last.contains("shipped"), "{last}");
    place.run("summary run --classes 3").fails(2, &["--classes"]);
    place.run("explain-image run data/red/001.png --out seen.png").ok();
    place.run("export run --format onnx --out run.onnx").ok();
    place.run("weights inspect run").ok();
    place.run("features run --data data --out f.csv").ok();
    place
        .run("train --data data --model resnet20 --weights run --image-size 16 --epochs 1 --batch-size 8 --out next")
        .ok();
    place.run("evaluate data --data data").fails(1, &["data"]);
}

#[test]
fn text_predictions_are_a_line_an_image_and_hidden_files_are_left_out() {
    let place = trained(20, "");
    for hidden in ["data/.thumbs/x.png", "data/red/._001.png", "data/__MACOSX/y.png"] {
        place.image(hidden, 16, [1, 2, 3], 1);
    }
    let done = place.run("predict run data").ok();
    assert_eq!(done.out.lines().count(), 60, "{}", done.out);
    for line in done.out.lines() {
        let (image, classes) = line.split_once(": ").unwrap();
        assert!(place.path(image).is_file(), "{line}");
        let shares: Vec<f64> =
            classes.split(", ").map(|c| c.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert!(shares.windows(2).all(|pair| pair[0] >= pair[1]) && shares.len() <= 3, "{line}");
        assert!(shares[1..].iter().all(|&share| share >= 0.01), "{line}");
    }
    let all = place.run("predict run data/red/001.png --top-k 3").ok().out;
    assert_eq!(all.matches(", ").count(), 2, "{all}");
}

#[test]
fn what_is_wrong_says_what_is_right() {
    let place = trained(20, "");
    let image = "data/red/001.png";
    place
        .run(&format!("explain-image run {image} --out x.png --class purple"))
        .fails(2, &["purple", "blue, green, red"]);
    for (flags, parts) in [
        ("--learning-rate -1", ["--learning-rate", "positive", "-1"]),
        ("--test-split 5", ["--test-split", "below 1", "5"]),
        ("--dropout -0.5", ["--dropout", "below 1", "-0.5"]),
        ("--optimizer adam --beta-1 2", ["--beta-1", "below 1", "2"]),
        ("--optimizer adam --rho 0.5", ["--rho", "rmsprop", "adam"]),
        ("--recipe auto --budget 20", ["--budget", "20m is 20 minutes", "20"]),
        ("--epochs -3", ["--epochs", "whole number", "-3"]),
    ] {
        place.run(&format!("train --data data --model resnet20 {flags} --out x")).fails(2, &parts);
    }
    place.run("evaluate run --data data --split test --test-split 0").fails(1, &["--test-split"]);
    fs::create_dir(place.path("data/yellow")).unwrap();
    let check = place.run("data check data").ok().out;
    assert!(check.contains("class folder data/yellow") && check.contains("60 images"), "{check}");
    place.run(&TRAIN.replace("--out run", "--out other")).fails(1, &["yellow"]);
}

#[test]
fn a_report_follows_its_weights_and_exports_are_left_alone() {
    let place = Place::new();
    place.data(20);
    // After a few steps probabilities are too far from 0 and 1, so that a temperature helps.
    let line = TRAIN.replace("--weights none", "--weights cifar10 --optimizer adam");
    let line = format!("{line} --learning-rate 1e-2 --validation-split 0.3 --no-calibrate");
    place.run(&line).ok();
    let before = json(&place, "run/report.json");
    assert!(before["calibration"]["temperature"].is_null(), "{before}");
    place.run("export run --format pytorch --out net.safetensors").ok();
    let bytes = fs::read(place.path("net.safetensors")).unwrap();
    place
        .run("evaluate net.safetensors --data data --calibrate")
        .fails(1, &["net.safetensors", "export it again"]);
    assert!(fs::read(place.path("net.safetensors")).unwrap() == bytes);
    place.run("evaluate run --data data --calibrate").ok();
    place.run("report run").ok();
    let after = json(&place, "run/report.json");
    let evaluated = place.run("evaluate run --data data --json").ok().json();
    assert!(after["calibration"]["temperature"].is_number(), "{after}");
    for field in ["loss", "calibration", "accuracy"] {
        assert_eq!(after[field], evaluated[field], "{field}");
    }
    assert_eq!(after["shipped"], before["shipped"]);
    // An image that goes, or a class that comes, leaves a page without images.
    place.image("data/violet/1.png", 16, [200, 0, 200], 3);
    let without = place.run("report run").ok();
    assert!(without.err.contains("warning: the page is without images"), "{}", without.err);
    assert_eq!(json(&place, "run/report.json"), after);
}

#[test]
fn a_folder_that_is_used_again_has_nothing_of_the_earlier_run() {
    let place = trained(20, "");
    fs::write(place.path("run/mine.txt"), "notes").unwrap();
    let bare = TRAIN.replace("--test-split 0.2", "--validation-split 0 --exist-ok");
    place.run(&bare).ok();
    let names = list(&place.path("run"));
    assert!(names.contains(&"mine.txt".into()));
    for gone in ["report.json", "report.txt", "confusion_matrix.csv", "reliability.png"] {
        assert!(!names.contains(&gone.to_string()), "{gone} in {names:?}");
    }
}

#[test]
fn every_run_says_what_to_do_next() {
    let place = Place::new();
    place.data(20);
    let done = place.run(TRAIN).ok();
    let next = done.err.split("what to do next:").nth(1).unwrap();
    for part in [
        "headstart predict run data/",
        "headstart explain-image run data/",
        "headstart evaluate run --data data",
        "headstart export run --format onnx --out run.onnx",
        "headstart report run",
    ] {
        assert!(next.contains(part), "no {part:?} in {next}");
    }
    for line in next.lines().filter_map(|line| line.split("headstart ").nth(1)) {
        place.run(line).ok();
    }
}
