//! How `headstart train` changes weights and when it ends, on the real binary.

use std::fs;

use crate::support::{self, Place, TRAIN};

/// A head over a frozen, randomly initialised net, with these flags.
fn head(flags: &str, out: &str) -> String {
    let own =
        if flags.contains("--epochs") { TRAIN.replace("--epochs 2", "") } else { TRAIN.into() };
    let more = format!("--fine-tune-at 12 --fine-tune-epochs 0 --out {out} {flags}");
    own.replace("--out run", &more)
}

/// A column of results.csv.
fn column(place: &Place, run: &str, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(place.path(run).join("results.csv")).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|c| c == name).unwrap();
    text.lines().skip(1).map(|l| l.split(',').nth(at).unwrap().parse().unwrap()).collect()
}

/// The bytes of a run's best or last weights; of last weights those of the optimizer's state too.
fn weights(place: &Place, run: &str, file: &str) -> Vec<u8> {
    support::tensors(&place.path(run).join(format!("weights/{file}.safetensors")))
}

fn validation_loss(place: &Place, file: &str) -> f64 {
    let line = format!("evaluate {file} --data data --test-split 0.2 --split validation --json");
    place.run(&line).ok().json()["loss"].as_f64().unwrap()
}

#[test]
fn a_phase_that_gets_no_better_ends_with_its_best_weights() {
    let place = Place::new();
    place.data(20);
    // Steps so long that the loss goes up and down.
    let flags =
        "--epochs 30 --optimizer sgd --learning-rate 30 --monitor loss --patience 3 --no-calibrate";
    let done = place.run(&head(flags, "run")).ok();
    let losses = column(&place, "run", "val_loss");
    let best = (0..losses.len()).reduce(|b, i| if losses[i] < losses[b] { i } else { b }).unwrap();
    assert!(best + 4 == losses.len() && losses.len() < 30, "{losses:?}");
    let text = format!(
        "stopped {} epochs early; the weights are those of epoch {}",
        30 - losses.len(),
        best + 1
    );
    assert!(done.err.contains(&text), "{}", done.err);
    assert!(done.out.contains(&format!("epoch {} of {} (head)", best + 1, losses.len())));
    for file in ["best", "last"] {
        let loss = validation_loss(&place, &format!("run/weights/{file}.safetensors"));
        assert!((loss - losses[best]).abs() <= 1e-4 * losses[best].max(1.0), "{file}: {loss}");
    }
    // Gone on with, it stays as it is.
    let before = weights(&place, "run", "last");
    place.run("train --resume run").ok();
    assert!(weights(&place, "run", "last") == before);
    assert_eq!(column(&place, "run", "val_loss"), losses);
    // A difference that no epoch makes ends it after one epoch and the patience.
    place.run(&head(&format!("{flags} --min-delta 1000"), "short")).ok();
    assert_eq!(column(&place, "short", "val_loss"), losses[..4]);
}

#[test]
fn schedules_are_in_the_history() {
    let place = Place::new();
    place.data(10);
    let rates = |flags: &str, out: &str| {
        place.run(&head(&format!("--learning-rate 0.1 {flags}"), out)).ok();
        column(&place, out, "learning_rate")
    };
    let step = rates("--epochs 4 --schedule step --step-epochs 2 --schedule-factor 0.5", "step");
    assert_eq!(step, [0.1, 0.1, 0.05, 0.05]);
    // No loss falls by 1000 after the first epoch's.
    let plateau = "--epochs 5 --schedule plateau --plateau-patience 1 --schedule-factor 0.5 \
                   --min-delta 1000 --min-learning-rate 0.02";
    assert_eq!(rates(plateau, "plateau"), [0.1, 0.1, 0.05, 0.025, 0.02]);
    let cycle = rates("--epochs 4 --schedule one-cycle --warmup-epochs 2", "cycle");
    assert!(cycle[0] < cycle[1] && (cycle[1] - 0.1).abs() < 1e-6, "{cycle:?}");
    assert!(cycle[2] < 0.1 && (cycle[3] - 0.1 / 25.0 / 1e4).abs() < 1e-9, "{cycle:?}");
    let line = head("--step-epochs 2", "bad");
    place.run(&line).fails(2, &["--step-epochs", "constant", "--schedule step"]);
    place.run(&head("--min-delta 1", "bad")).fails(2, &["--min-delta", "--patience"]);
}

#[test]
fn averaged_weights_are_evaluated_and_written() {
    let place = Place::new();
    place.data(20);
    let flags = "--learning-rate 1e-2";
    let plain = place.run(&head(&format!("{flags} --json"), "plain")).ok().json();
    // A decay of 0 leaves the weights themselves.
    place.run(&head(&format!("{flags} --ema 0"), "zero")).ok();
    assert!(weights(&place, "plain", "best") == weights(&place, "zero", "best"));
    let json = place.run(&head(&format!("{flags} --ema 0.9 --json"), "mean")).ok().json();
    assert_ne!(json["loss"], plain["loss"]);
    // Training itself is the same.
    assert_eq!(column(&place, "mean", "loss"), column(&place, "plain", "loss"));
    assert_ne!(column(&place, "mean", "val_loss"), column(&place, "plain", "val_loss"));
    let loss = validation_loss(&place, "mean/weights/last.safetensors");
    let last = column(&place, "mean", "val_loss")[1];
    assert!((loss - last).abs() <= 1e-5 * last, "{loss}, not {last}");
    place.run(&head("--ema 1", "bad")).fails(2, &["ema", "below 1"]);
}
