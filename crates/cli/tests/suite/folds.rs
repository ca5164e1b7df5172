//! `headstart cross-validate`, and runs and evaluations that are split by class or by group.

use std::fs;

use crate::support::Place;

const FOLDS: &str = "cross-validate --data data --model resnet20 --weights cifar10 --image-size 16";

/// The rows of a CSV, as cells.
fn rows(place: &Place, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
}

#[test]
fn every_image_is_predicted_once_by_a_head_that_did_not_see_it() {
    let place = Place::new();
    place.data(12);
    let line = format!("{FOLDS} --folds 4 --output oof.csv");
    let done = place.run(&line).ok();
    for part in ["fold  train  validation  images  accuracy", "standard deviation", "ddof 0", "L2"]
    {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert!(done.err.contains("fold 4 of 4: accuracy "), "{}", done.err);
    let oof = rows(&place, "oof.csv");
    assert_eq!(
        oof[0].join(","),
        "file,label,predicted,fold,probability_blue,probability_green,probability_red"
    );
    assert_eq!(oof.len(), 1 + 36);
    for row in &oof[1..] {
        let p: Vec<f32> = row[4..].iter().map(|cell| cell.parse().unwrap()).collect();
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{row:?}");
        let best = (0..3).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
        assert_eq!(row[2], ["blue", "green", "red"][best]);
        assert!(place.path(&row[0]).is_file(), "{row:?}");
        assert_eq!(row[1], row[0].split('/').nth(1).unwrap());
    }
    // Every fold has three images of each class.
    for fold in ["1", "2", "3", "4"] {
        for class in ["blue", "green", "red"] {
            assert_eq!(oof.iter().filter(|r| r[1] == class && r[3] == fold).count(), 3);
        }
    }
    // The same again from the cache, without it, and as JSON.
    assert_eq!(place.images(), [36]);
    let again = place.run(&format!("{FOLDS} --folds 4 --no-cache --threads 1 --json")).ok().json();
    assert_eq!(again["folds"].as_array().unwrap().len(), 4);
    let accuracies: Vec<f64> = again["folds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["accuracy"].as_f64().unwrap())
        .collect();
    let mean = accuracies.iter().sum::<f64>() / 4.0;
    assert!((again["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let std = (accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 4.0).sqrt();
    assert!((again["accuracy"]["std"].as_f64().unwrap() - std).abs() < 1e-12);
    assert_eq!(again["report"]["samples"], 36);
    assert_eq!(again["stratify"], true);
    let right = oof[1..].iter().filter(|r| r[1] == r[2]).count() as f64 / 36.0;
    assert!((again["report"]["accuracy"].as_f64().unwrap() - right).abs() < 1e-12);
}

#[test]
fn groups_are_in_one_fold() {
    let place = Place::new();
    for (class, colour) in [("red", [200, 30, 30]), ("blue", [30, 30, 200])] {
        for plant in 0..6 {
            for i in 0..3 {
                let seed = plant * 3 + i;
                place.image(&format!("data/{class}/plant{plant}{class}/{i}.png"), 16, colour, seed);
            }
        }
    }
    for more in ["", "--no-stratify"] {
        let line = format!("{FOLDS} --folds 3 --group folder {more} --output oof.csv --json");
        let found = place.run(&line).ok().json();
        assert_eq!((&found["groups"], &found["group"]), (&12.into(), &"folder".into()));
        let oof = rows(&place, "oof.csv");
        for row in &oof[1..] {
            let plant = |row: &Vec<String>| row[0].rsplit_once('/').unwrap().0.to_string();
            let same = oof[1..].iter().filter(|other| plant(other) == plant(row));
            assert!(same.into_iter().all(|other| other[3] == row[3]), "{row:?}");
        }
    }
    place.run(&format!("{FOLDS} --folds 13 --group folder")).fails(1, &["--folds", "12", "groups"]);
    place.run(&format!("{FOLDS} --folds 19")).fails(1, &["--folds", "18", "--no-stratify"]);
}

#[test]
fn folds_can_be_fine_tuned() {
    let place = Place::new();
    place.data(8);
    let line = format!(
        "{FOLDS} --folds 2 --fine-tune-at conv4 --fine-tune-epochs 1 --batch-size 8 --validation-split 0.25"
    );
    let done = place.run(&format!("{line} --out runs --output oof.csv")).ok();
    assert!(done.out.contains("best epoch"), "{}", done.out);
    assert_eq!(rows(&place, "oof.csv").len(), 25);
    // Each fold is a run, whose model answers as the predictions say.
    for fold in ["fold1", "fold2"] {
        let run = place.path("runs").join(fold);
        let report: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join("report.json")).unwrap()).unwrap();
        assert_eq!((&report["samples"], &report["split"]), (&12.into(), &"test".into()));
    }
    let json = place.run(&format!("{line} --json")).ok().json();
    let folds = json["folds"].as_array().unwrap();
    assert!(folds.iter().all(|f| f["train"] == 9 && f["validation"] == 3 && f["test"] == 12));
    // Too few images to choose the penalty by class are split without.
    place.data(6);
    let few = place.run(&format!("{FOLDS} --folds 2 --limit 12 --json")).ok().json();
    assert_eq!(few["folds"][0]["validation"], 1);
    place.run(&format!("{FOLDS} --out runs2")).fails(2, &["--out", "--fine-tune-at"]);
    place.run(&format!("{FOLDS} --optimizer sgd")).fails(2, &["--optimizer", "L-BFGS fits"]);
    place.run(&format!("{FOLDS} --batch-size 4")).fails(2, &["--batch-size", "L-BFGS fits"]);
    place.run(&format!("{FOLDS} --output oof.txt")).fails(2, &["oof.txt", ".csv"]);
    place.run(&format!("{FOLDS} --folds 1")).fails(2, &["--folds", "2 to 1000"]);
    place.holds(&["data", "oof.csv", "runs"]);
}

#[cfg(unix)]
#[test]
fn there_are_as_many_folds_as_there_are_images_for() {
    // Nobody asked for five.
    let place = Place::new();
    place.data(3);
    let three = place.run(&format!("{FOLDS} --json")).ok();
    assert_eq!(three.json()["folds"].as_array().unwrap().len(), 3);
    assert!(three.err.contains("3 folds: the images are too few for 5"), "{}", three.err);
    place.run(&format!("{FOLDS} --folds 5")).fails(1, &["--folds", "3"]);
}

#[test]
fn an_interrupted_cross_validation_says_so_and_writes_nothing() {
    let place = Place::new();
    place.data(8);
    let line =
        format!("{FOLDS} --folds 2 --fine-tune-at conv4 --fine-tune-epochs 900 --output oof.csv");
    is_interrupted(&place, &line, "epoch 2/");
}

#[cfg(unix)]
#[test]
fn folds_whose_heads_are_fitted_are_interrupted_too() {
    let place = Place::new();
    place.data(60);
    let line = FOLDS.replace("--image-size 16", "--image-size 256");
    let line = format!("{line} --folds 2 --no-cache --threads 1 --output oof.csv");
    // From then on the signal is waited for, and the features take longer than a second.
    is_interrupted(&place, &line, "images enter");
}

/// Sends Ctrl-C to a cross-validation that has said a line that begins so.
#[cfg(unix)]
#[track_caller]
fn is_interrupted(place: &Place, line: &str, begin: &str) {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let mut child =
        place.command(line).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(begin) {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(kill.success() && child.wait().unwrap().code() == Some(130), "{rest}");
    assert!(rest.contains("interrupted: no fold counts before all are done"), "{rest}");
    place.holds(&["data"]);
}

/// Plants of four photos each, in two classes.
fn plants(place: &Place) {
    for plant in 0..20 {
        let (class, colour) =
            if plant % 2 == 0 { ("red", [200, 30, 30]) } else { ("blue", [30, 30, 200]) };
        for i in 0..4 {
            place.image(&format!("data/{class}/p{plant:02}/{i}.png"), 16, colour, plant * 4 + i);
        }
    }
}

const RUN: &str =
    "train --data data --model resnet20 --weights none --image-size 16 --batch-size 8 --epochs 1";

#[test]
fn a_model_remembers_how_its_images_were_split() {
    let place = Place::new();
    plants(&place);
    place.run(&format!("{RUN} --test-split 0.2 --stratify --group folder --out run")).ok();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(
        config.contains("stratify = true") && config.contains("group = \"folder\""),
        "{config}"
    );
    let own: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("run/report.json")).unwrap()).unwrap();
    let done = place.run("evaluate run --data data --json").ok();
    assert!(
        done.err.contains("test split 0.2, by class, by group (folder), seed 42"),
        "{}",
        done.err
    );
    for field in ["samples", "accuracy", "confusion_matrix", "trained_on"] {
        assert_eq!(done.json()[field], own[field], "{field}");
    }
    assert_eq!(own["trained_on"], 0);
    // Said again it is the same; said otherwise it is a warning with both values.
    let same = place
        .run("evaluate run --data data --test-split 0.2 --group folder --stratify --json")
        .ok();
    assert!(
        same.err.contains("as they were then") && !same.err.contains("warning"),
        "{}",
        same.err
    );
    assert_eq!(same.json()["confusion_matrix"], own["confusion_matrix"]);
    let line =
        "evaluate run --data data --test-split 0.3 --seed 7 --no-stratify --group duplicates";
    let other = place.run(line).ok();
    for part in [
        "test split 0.3, then 0.2",
        "seed 7, then 42",
        "stratified no, then yes",
        "group duplicates, then folder",
        "warning: the model was trained on",
    ] {
        assert!(other.err.contains(part), "{part}: {}", other.err);
    }
    let summary = place.run("summary run").ok();
    assert!(!summary.out.is_empty());
    // The settings file gives the same run; what is resumed keeps them.
    place.run("train --config run/config.toml --out again").ok();
    let again = fs::read_to_string(place.path("again/config.toml")).unwrap();
    assert_eq!(again, config);
    let resumed = place.run("train --resume run --group duplicates");
    resumed.fails(2, &["--resume", "settings of the run only"]);
    place.run("train --resume run").ok();
}

#[test]
fn recipes_split_by_class_unless_told_otherwise() {
    let place = Place::new();
    plants(&place);
    let line = "recipe --data data --model resnet20 --weights cifar10 --recipe quick --json";
    let flags = |more: &str| place.run(&format!("{line} {more}")).ok().json()["flags"].to_string();
    assert!(flags("").contains("--stratify"));
    assert!(!flags("--no-stratify").contains("stratify"));
    let grouped = flags("--group folder");
    assert!(
        grouped.contains("\"--group\",\"folder\"") && grouped.contains("--stratify"),
        "{grouped}"
    );
    let alone = flags("--group folder --no-stratify");
    assert!(alone.contains("--group") && !alone.contains("stratify"), "{alone}");
    // The only image of a class is trained on, with or without the flag.
    place.image("data/green/1.png", 16, [30, 200, 30], 1);
    for flag in ["", "--stratify"] {
        assert!(flags(flag).contains("--stratify"), "{flag}");
    }
    let done = place.run("train --data data --stratify --test-split 0.2 --epochs 1 --model resnet20 --weights cifar10").ok();
    let said = "warning: the test split has no images of green (1 image)";
    assert!(done.err.contains(said), "{}", done.err);
}

#[test]
fn a_group_that_is_not_there_is_an_error_with_a_way_on() {
    let place = Place::new();
    place.data(6);
    for (line, code, parts) in [
        (format!("{RUN} --group plant"), 1, &["--group", "no table", "--group folder"][..]),
        (format!("{RUN} --group folder"), 1, &["--group", "directly in the class folders"]),
        (format!("{RUN} --stratify --no-stratify"), 2, &["--no-stratify", "--stratify"]),
        (format!("{RUN} --group"), 2, &["--group"]),
        ("evaluate run --data data --group".into(), 2, &["--group"]),
    ] {
        place.run(&line).fails(code, parts);
    }
    place.holds(&["data"]);
}
