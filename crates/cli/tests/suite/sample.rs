//! What works without any file and any network: the digits and the weights inside the program.

use std::fs;

use crate::support::{Place, list};

#[test]
fn train_without_arguments_does_the_whole_job() {
    let place = Place::new();
    // The default job on fewer epochs; a debug build is slow.
    let done = place.run("train --epochs 3 --fine-tune-epochs 2").ok();
    let run = place.path("runs/train");
    let mut names = list(&run);
    names.sort();
    let pictures = ["accuracy", "confusion_matrix", "loss", "reliability"]
        .iter()
        .flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]);
    let mut expected: Vec<String> = pictures.collect();
    expected.extend(
        [
            "config.toml",
            "confusion_matrix.csv",
            "events.jsonl",
            "report.html",
            "report.json",
            "report.txt",
            "results.csv",
            "weights",
        ]
        .map(String::from),
    );
    expected.sort();
    assert_eq!(names, expected);
    let mut weights = list(&run.join("weights"));
    weights.sort();
    assert_eq!(weights, ["best.safetensors", "last.safetensors"]);

    // What was resolved stands in the settings.
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for line in ["data = \"sample\"", "model = \"resnet20\"", "weights = \"cifar10\""] {
        assert!(config.lines().any(|l| l == line), "no {line} in {config}");
    }
    assert!(config.contains("fine-tune-at = "), "{config}");
    let csv = fs::read_to_string(run.join("results.csv")).unwrap();
    let phases: Vec<&str> = csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(phases, ["head", "head", "head", "fine-tune", "fine-tune"]);
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
    assert_eq!((&report["split"], &report["samples"]), (&"test".into(), &360.into()));
    assert!(report["accuracy"].as_f64().unwrap() >= 0.9, "{}", report["accuracy"]);

    // It says what it did, where the pictures are, and what to do next.
    for part in [
        "  test accuracy of the model: 0.",
        "pictures: runs/train/accuracy.png",
        "headstart predict runs/train IMAGE",
        "headstart train --data cifar",
        "headstart train --data photos",
    ] {
        assert!(done.err.contains(part), "no {part:?} in {}", done.err);
    }
    assert!(!done.out.contains("pictures"), "{}", done.out);
    place.holds(&["runs"]);

    // The result is a classifier like any other.
    let line = "evaluate runs/train --data sample --json";
    let again = place.run(line).ok().json();
    for field in ["accuracy", "loss", "confusion_matrix", "calibration"] {
        assert_eq!(again[field], report[field], "{field}");
    }
    let said = format!("test accuracy of the model: {:.4}", report["accuracy"].as_f64().unwrap());
    assert!(done.err.contains(&said) && done.out.contains("weights/best.safetensors: epoch "));
}

#[test]
fn the_weights_inside_the_program_serve_every_command() {
    let place = Place::new();
    place.image("a.png", 32, [200, 30, 30], 3);
    let done = place.run("predict resnet20 a.png --top-k 10 --json").ok().json();
    let classes: Vec<&str> =
        done["top"].as_array().unwrap().iter().map(|c| c["class"].as_str().unwrap()).collect();
    assert!(classes.contains(&"airplane") && classes.contains(&"truck"), "{classes:?}");
    let named = place.run("predict resnet20 a.png --weights cifar10 --top-k 10 --json").ok();
    assert_eq!(named.json(), done);
    place.run("predict resnet32 a.png --weights cifar10").fails(1, &["resnet32", "resnet20"]);
    place.run("evaluate resnet20 --data sample").fails(1, &["of sample", "not trained on"]);

    let line = "features resnet20 --data sample --limit 20 --split train --out f.csv";
    place.run(line).ok();
    let text = fs::read_to_string(place.path("f.csv")).unwrap();
    assert_eq!(text.lines().count(), 21);
    place.run(&line.replace("f.csv", "g.csv --weights none")).ok();
    assert!(fs::read_to_string(place.path("g.csv")).unwrap() != text);

    // Data of one's own, from the same weights.
    place.data(5);
    let line =
        "train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8 --out own";
    place.run(line).ok();
    let config = fs::read_to_string(place.path("own/config.toml")).unwrap();
    assert!(config.contains("weights = \"cifar10\"") && config.contains("batch-size = 8"));
}

#[test]
fn defaults_depend_on_data_and_net() {
    let place = Place::new();
    // Randomly initialised, everything trains, unless a freeze point is given.
    let line = "train --weights none --limit 200 --epochs 1 --out whole";
    let done = place.run(line).ok();
    assert!(done.err.contains("everything trains"), "{}", done.err);
    assert!(done.err.contains("test accuracy of the model: "), "{}", done.err);
    let line = "train --upsample 4 --limit 200 --epochs 1 --fine-tune-epochs 0 --out up";
    place.run(line).ok();
    let config = fs::read_to_string(place.path("up/config.toml")).unwrap();
    assert!(config.contains("upsample = 4") && !config.contains("interpolation"), "{config}");
    place.run("train --config up/config.toml --out again").ok();
    let again = fs::read_to_string(place.path("again/config.toml")).unwrap();
    assert_eq!(again, config);
    // A part of the settings leaves the others as they are without it.
    fs::write(place.path("part.toml"), "epochs = 1\nfine-tune-epochs = 0\nlimit = 200\n").unwrap();
    place.run("train --config part.toml --out part").ok();
    let part = fs::read_to_string(place.path("part/config.toml")).unwrap();
    assert!(part.contains("model = \"resnet20\"") && part.contains("weights = \"cifar10\""));
}
