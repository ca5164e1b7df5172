//! `headstart train` and what is done with its result, on the real binary.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{self, Place, TRAIN, list};

#[test]
fn both_phases_leave_a_whole_run_folder() {
    let place = Place::new();
    place.data(20);
    let line = format!(
        "{TRAIN} --fine-tune-at 0 --fine-tune-epochs 12 --fine-tune-learning-rate 1e-3 --json"
    );
    let done = place.run(&line).ok();
    let json = done.json();
    let folder = place.path("run");
    assert_eq!(json["run_folder"], "run");
    assert_eq!((&json["samples"], &json["split"]), (&12.into(), &"test".into()));
    assert!(json["accuracy"].as_f64().unwrap() > 0.9, "{json}");
    let mut names = list(&folder);
    names.sort();
    let expected = [
        "accuracy.png",
        "accuracy.svg",
        "config.toml",
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "confusion_matrix.svg",
        "events.jsonl",
        "loss.png",
        "loss.svg",
        "reliability.png",
        "reliability.svg",
        "report.html",
        "report.json",
        "report.txt",
        "results.csv",
        "weights",
    ];
    assert_eq!(names, expected);
    let csv = fs::read_to_string(folder.join("results.csv")).unwrap();
    let phases: Vec<&str> = csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(phases[..3], ["head", "head", "fine-tune"]);
    assert_eq!(phases.len(), 14);
    for line in fs::read_to_string(folder.join("events.jsonl")).unwrap().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["event"].is_string(), "{line}");
    }
    let svg = fs::read_to_string(folder.join("loss.svg")).unwrap();
    assert!(["validation", "train", "fine-tuning"].iter().all(|t| svg.contains(t)));
    assert!(fs::read(folder.join("loss.png")).unwrap().starts_with(b"\x89PNG"));

    // The pictures are drawn again from the files alone.
    let before = fs::read(folder.join("accuracy.png")).unwrap();
    fs::remove_file(folder.join("accuracy.png")).unwrap();
    place.run("plot run").ok();
    assert_eq!(fs::read(folder.join("accuracy.png")).unwrap(), before);

    // The best weights give the figures that training reported, on the images that it held out.
    let line = "evaluate run/weights/best.safetensors --data data --json";
    let again = place.run(line).ok().json();
    let mut report: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    let shipped = report.as_object_mut().unwrap().remove("shipped").unwrap();
    assert_eq!(shipped["epochs"], 14);
    assert_eq!(again["trained_on"], 0);
    assert_eq!(report, again);

    let done =
        place.run("predict run/weights/last.safetensors data/red/000.png data/blue --json").ok();
    let lines: Vec<serde_json::Value> =
        done.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 21);
    assert_eq!((&lines[0]["class"], &lines[20]["class"]), (&"red".into(), &"blue".into()));
    assert_eq!(lines[0]["top"].as_array().unwrap().len(), 3);
    let done = place.run("predict run/weights/last.safetensors data/red/000.png --top-k 1").ok();
    assert!(done.out.starts_with("data/red/000.png: red 0.") || done.out.contains(": red 1."));
    assert_eq!(done.out.lines().count(), 1);

    for ending in ["csv", "npy", "safetensors"] {
        let line = format!("features run/weights/last.safetensors --data data --out f.{ending}");
        place.run(&line).ok();
    }
    let csv = fs::read_to_string(place.path("f.csv")).unwrap();
    assert_eq!((csv.lines().count(), csv.lines().next().unwrap().split(',').count()), (61, 68));
}

#[test]
fn tensorboard_files_are_written_where_asked_for() {
    let place = Place::new();
    place.data(10);
    place.run(&format!("{TRAIN} --tensorboard")).ok();
    let board = place.path("run/tensorboard");
    let mut parts = list(&board);
    parts.sort();
    assert_eq!(parts, ["test", "train", "validation"]);
    for part in parts {
        let files = list(&board.join(&part));
        assert_eq!(files.len(), 1, "{part}: {files:?}");
        let name = &files[0];
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        let bytes = fs::read(board.join(&part).join(name)).unwrap();
        let tag = if part == "test" { "evaluation_accuracy" } else { "epoch_loss" };
        assert!(bytes.windows(tag.len()).any(|w| w == tag.as_bytes()), "{part} has no {tag}");
    }
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.lines().any(|l| l == "tensorboard = true"), "{config}");
}

#[test]
fn a_run_that_is_gone_on_with_has_its_tensorboard_files_at_the_right_step() {
    let place = Place::new();
    place.data(10);
    place.run(TRAIN).ok();
    let epochs = fs::read_to_string(place.path("run/results.csv")).unwrap().lines().count() - 1;
    assert!(epochs > 0);
    // All epochs are done, so it evaluates alone.
    place.run("train --resume run --tensorboard").ok();
    // What was recorded before is there too.
    let mut parts = list(&place.path("run/tensorboard"));
    parts.sort();
    assert_eq!(parts, ["test", "train", "validation"]);
    let test = place.path("run/tensorboard/test");
    let bytes = fs::read(test.join(&list(&test)[0])).unwrap();
    // Event { step = 2 } stands between the wall time, a double of field 1, and the summary, field 5.
    let tag = b"evaluation_loss";
    let at = bytes.windows(tag.len()).position(|w| w == tag).unwrap();
    let summary = bytes[..at].iter().rposition(|&b| b == 0x2a).unwrap();
    assert_eq!(bytes[summary - 2..summary], [0x10, epochs as u8]);
}

/// Weights and optimizer state as bytes, without the card.
fn weights(place: &Place, run: &str) -> Vec<u8> {
    support::tensors(&place.path(run).join("weights/last.safetensors"))
}

#[test]
fn threads_kept_features_and_configs_do_not_change_a_bit() {
    let place = Place::new();
    place.data(10);
    let line = TRAIN.replace("--out run", "--fine-tune-at 12 --fine-tune-epochs 1");
    let one = place.run(&format!("{line} --threads 1 --out one")).ok();
    let steps = one.out.lines().find(|line| line.starts_with("val_accuracy by phase: head 0."));
    assert!(steps.is_some_and(|s| s.contains(", fine-tune ") && s.ends_with(')')), "{}", one.out);
    place.run(&format!("{line} --threads 3 --out three")).ok();
    place.run(&format!("{line} --no-cache --cache-memory 0 --out uncached")).ok();
    place.run("train --config one/config.toml --out again").ok();
    for run in ["three", "uncached", "again"] {
        assert!(weights(&place, "one") == weights(&place, run), "{run}");
    }
    let kept = fs::read_to_string(place.path("one/events.jsonl")).unwrap();
    assert!(kept.contains("\"cached\":true") && kept.contains("\"features\""));
    let not = fs::read_to_string(place.path("uncached/events.jsonl")).unwrap();
    assert!(not.contains("\"cached\":false") && !not.contains("\"features\""));
    place.run(&format!("{line} --seed 1 --out other")).ok();
    assert!(weights(&place, "one") != weights(&place, "other"));
}

#[test]
fn runs_are_numbered_and_never_overwritten() {
    let place = Place::new();
    place.data(5);
    let line = TRAIN.replace("--out run", "");
    for _ in 0..2 {
        place.run(&line).ok();
    }
    assert!(place.path("runs/train/results.csv").exists());
    assert!(place.path("runs/train2/results.csv").exists());
}

#[test]
fn interrupted_training_saves_its_weights_and_exits_130() {
    let place = Place::new();
    place.data(10);
    let line = format!("{TRAIN} --fine-tune-at 0 --fine-tune-epochs 100000");
    let mut child =
        place.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    // Fine-tuning runs once a third epoch is recorded.
    let epochs =
        || fs::read_to_string(place.path("run/results.csv")).map_or(0, |t| t.lines().count());
    while epochs() < 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "training does not get on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let done: support::Done = child.wait_with_output().unwrap().into();
    done.fails(130, &["interrupted", "last.safetensors"]);
    child = place.command("evaluate run/weights/last.safetensors --data data").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(place.path("run/accuracy.png").exists());
}

#[test]
fn a_progress_line_per_epoch_goes_to_stderr_and_results_to_stdout() {
    let place = Place::new();
    place.data(5);
    let done = place.run(TRAIN).ok();
    assert_eq!(done.err.lines().filter(|l| l.starts_with("epoch ")).count(), 2, "{}", done.err);
    assert!(done.err.contains("16x16x3, 3 classes"), "{}", done.err);
    assert!(done.out.contains("run folder: run") && !done.out.contains("epoch 1/"));
}

#[test]
fn flags_reach_the_run() {
    let place = Place::new();
    place.data(8);
    let line = TRAIN.replace("--image-size 16", "--upsample 2").replace("--epochs 2", "--epochs 0");
    let line = format!(
        "{line} --preprocess unit --optimizer sgd --momentum 0.9 --nesterov --head-init zeros \
         --fine-tune-at conv2_block2_1_conv --fine-tune-epochs 1"
    );
    place.run(&format!("{line} --no-shuffle")).ok();
    let first_loss = |run: &str| {
        let events = fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
        let line = events.lines().find(|l| l.contains("\"step\":1,")).unwrap();
        serde_json::from_str::<serde_json::Value>(line).unwrap()["batch_loss"].as_f64().unwrap()
    };
    // A head of zeros gives every class the same probability.
    let difference = (first_loss("run") - 3f64.ln()).abs();
    assert!(difference <= 1e-6, "{difference}");
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    for part in ["upsample = 2", "preprocess = \"unit\"", "nesterov = true", "shuffle = false"] {
        assert!(config.contains(part), "no {part} in {config}");
    }
    let card = fs::read(place.path("run/weights/last.safetensors")).unwrap();
    let card = String::from_utf8_lossy(&card[..40_000]).into_owned();
    assert!(card.contains("unit") && card.contains("upsample"));
    place.run(&line.replace("--out run", "--out shuffled")).ok();
    assert!(weights(&place, "run") != weights(&place, "shuffled"));
    place.run(&line.replace("--nesterov", "--no-shuffle").replace("--out run", "--out plain")).ok();
    assert!(weights(&place, "run") != weights(&place, "plain"));
}

#[test]
fn every_flag_of_the_optimizer_changes_what_is_learned() {
    let place = Place::new();
    place.data(6);
    let base = TRAIN.replace("--out run", "--fine-tune-at 12 --fine-tune-epochs 1 --seed 3");
    let learned = |flags: &str| {
        let run = flags.replace([' ', ':'], "_");
        place.run(&format!("{base} {flags} --out run{run}")).ok();
        let config = fs::read_to_string(place.path(&format!("run{run}/config.toml"))).unwrap();
        (config, weights(&place, &format!("run{run}")))
    };
    // A line of config.toml, and pairs of flags of which the second has one more.
    for (line, without, with) in [
        ("rho = 0.5", "", "--rho 0.5"),
        ("optimizer = \"adam\"", "", "--optimizer adam"),
        ("weight-decay = 0.5", "", "--weight-decay 0.5"),
        ("optimizer = \"adamw\"", "--optimizer adam", "--optimizer adamw"),
        ("beta-1 = 0.5", "--optimizer adam", "--optimizer adam --beta-1 0.5"),
        ("beta-2 = 0.5", "--optimizer adam", "--optimizer adam --beta-2 0.5"),
        ("decay-of = \"kernels\"", "--weight-decay 0.5", "--weight-decay 0.5 --decay-of kernels"),
        ("schedule = \"cosine\"", "", "--schedule cosine"),
        ("warmup-epochs = 0.5", "--schedule cosine", "--schedule cosine --warmup-epochs 0.5"),
        ("schedule-alpha = 0.5", "--schedule cosine", "--schedule cosine --schedule-alpha 0.5"),
        ("augment = [\"flip\"]", "", "--augment flip"),
        ("augment = [\"flip\", \"crop:2\"]", "--augment flip", "--augment flip,crop:2"),
        (
            "augment = [\"flip\", \"jitter:0.4,0.4,0.4\", \"rotate:20\"]",
            "--augment flip",
            "--augment flip,jitter:0.4,0.4,0.4 --augment rotate:20",
        ),
    ] {
        let ((config, after), (before_config, before)) = (learned(with), {
            let run = without.replace([' ', ':'], "_");
            match place.path(&format!("run{run}")).exists() {
                true => (
                    fs::read_to_string(place.path(&format!("run{run}/config.toml"))).unwrap(),
                    weights(&place, &format!("run{run}")),
                ),
                false => learned(without),
            }
        });
        assert!(config.lines().any(|l| l == line), "no {line} in {config}");
        assert!(!before_config.lines().any(|l| l == line), "{line} in {before_config}");
        assert!(before != after, "{with} changes nothing");
    }
}

#[test]
fn a_cosine_schedule_shows_in_the_results() {
    let place = Place::new();
    place.data(6);
    let line = TRAIN.replace("--epochs 2", "--epochs 3");
    place.run(&format!("{line} --schedule cosine --warmup-epochs 1 --learning-rate 0.01")).ok();
    let csv = fs::read_to_string(place.path("run/results.csv")).unwrap();
    let rates: Vec<f64> =
        csv.lines().skip(1).map(|l| l.split(',').nth(8).unwrap().parse().unwrap()).collect();
    assert!(rates[0] > 0.0 && rates[0] < 0.01 && rates[1] < 0.01, "{rates:?}");
    assert!(rates[2] < rates[1] && rates[2] >= 0.0, "{rates:?}");
}

#[test]
fn the_first_batch_can_be_looked_at() {
    let place = Place::new();
    place.data(8);
    let sheet = |flags: &str| {
        let done = place.run(&format!("{TRAIN} --show-batch sheet.png {flags}")).ok();
        assert!(done.out.contains("sheet.png: 8 images of"), "{}", done.out);
        assert!(!place.path("run").exists());
        let bytes = fs::read(place.path("sheet.png")).unwrap();
        headstart::image::decode("sheet.png", &bytes).unwrap()
    };
    let plain = sheet("");
    assert_eq!(plain, sheet("--seed 42"));
    assert_eq!((plain.height, plain.width), (sheet("--augment flip").height, plain.width));
    for flags in ["--seed 1", "--augment erase:1", "--augment jitter", "--no-shuffle"] {
        assert!(plain != sheet(flags), "{flags}");
    }
    let line = format!("{TRAIN} --show-batch");
    place.run(&format!("{line} sheet.jpg")).fails(2, &["show-batch", "sheet.jpg", ".png"]);
    place.run(&format!("{line} none/sheet.png")).fails(1, &["none/sheet.png"]);
    place.run(&format!("{line} sheet.png --json")).fails(2, &["--json"]);
}

#[test]
fn changed_images_depend_on_the_seed_alone_and_are_not_kept() {
    let place = Place::new();
    place.data(8);
    let line = TRAIN.replace("--out run", "--augment flip,crop:3 --fine-tune-at 12");
    let line = format!("{line} --fine-tune-epochs 1");
    let done = place.run(&format!("{line} --threads 1 --out one")).ok();
    assert!(done.err.contains("augmented in every epoch (flip, crop:3)"), "{}", done.err);
    place.run(&format!("{line} --threads 3 --out three")).ok();
    assert!(weights(&place, "one") == weights(&place, "three"));
    place.run("train --config one/config.toml --out again").ok();
    assert!(weights(&place, "one") == weights(&place, "again"));
    let events = fs::read_to_string(place.path("one/events.jsonl")).unwrap();
    assert!(events.contains("\"cached\":false"));
    // Validation images are not changed, and are kept.
    let kept = |split| events.contains(&format!("\"event\":\"features\",\"split\":\"{split}\""));
    assert!(kept("validation") && !kept("train"));
    place.run(&format!("{line} --seed 7 --out other")).ok();
    assert!(weights(&place, "one") != weights(&place, "other"));
}

#[test]
fn without_weights_everything_trains_unless_a_freeze_point_is_given() {
    let place = Place::new();
    place.data(6);
    let phases = |run: &str| {
        let csv = fs::read_to_string(place.path(run).join("results.csv")).unwrap();
        csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap().to_string()).collect::<Vec<_>>()
    };
    let done = place.run(TRAIN).ok();
    assert!(done.err.contains("everything trains"), "{}", done.err);
    assert!(done.err.contains("full from input_layer: 27"), "{}", done.err);
    assert_eq!(phases("run"), ["full", "full"]);
    // It is training everything from the first layer on, under another name.
    let line = TRAIN.replace("--epochs 2", "--epochs 0").replace("--out run", "--out same");
    let line =
        format!("{line} --fine-tune-at 0 --fine-tune-epochs 2 --fine-tune-learning-rate 1e-4");
    place.run(&line).ok();
    assert_eq!(phases("same"), ["fine-tune", "fine-tune"]);
    assert!(weights(&place, "run") == weights(&place, "same"));
    // The head only, over a frozen, randomly initialised net, on request.
    let line = TRAIN.replace("--out run", "--fine-tune-at 0 --fine-tune-epochs 0 --out head");
    place.run(&line).ok();
    assert_eq!(phases("head"), ["head", "head"]);
}

#[test]
fn a_head_fitted_with_lbfgs_is_the_best_of_its_kind_with_and_without_cached_features() {
    let place = Place::new();
    place.data(12);
    let line = TRAIN.replace("--weights none", "--weights cifar10");
    let line = line.replace("--epochs 2", "--epochs 7 --seed 3").replace("--out run", "");
    let losses = |run: &str| -> Vec<f64> {
        let text = fs::read_to_string(place.path(run).join("results.csv")).unwrap();
        let rows = text.lines().skip(1).map(|l| l.split(',').nth(4).unwrap().parse().unwrap());
        rows.collect()
    };
    place.run(&format!("{line} --learning-rate 1e-2 --out steps")).ok();
    let solve = format!("{line} --head-solver lbfgs");
    let done = place.run(&format!("{solve} --head-l2 1e-6 --out solved")).ok();
    assert!(done.err.contains("classifier converged (L-BFGS, L2 1e-6, "), "{}", done.err);
    // One epoch, whatever --epochs says, and a smaller loss than any number of steps leads to.
    let (steps, solved) = (losses("steps"), losses("solved"));
    assert_eq!((steps.len(), solved.len()), (7, 1));
    assert!(solved[0] < steps[6], "{solved:?} {steps:?}");
    place.run(&format!("{solve} --head-l2 1e-6 --cache-memory 0 --no-cache --out again")).ok();
    assert_eq!(losses("again"), solved);
    assert!(weights(&place, "again") == weights(&place, "solved"));
    // There is no average of a solution, and no step with a learning rate.
    for flag in
        ["--ema 0.9", "--learning-rate 1", "--optimizer sgd", "--schedule cosine", "--no-shuffle"]
    {
        let name = flag.split(' ').next().unwrap();
        place.run(&format!("{solve} {flag} --out bad")).fails(2, &[name, "L-BFGS fits"]);
        let tuned = format!("{solve} {flag} --fine-tune-at conv4 --fine-tune-epochs 0 --out bad");
        place.run(&tuned).fails(2, &[name, "L-BFGS fits"]);
    }
    assert!(done.err.contains("--epochs is not used"), "{}", done.err);
    // A stronger penalty makes a simpler head; without one, cross-validation chooses.
    place.run(&format!("{solve} --head-l2 0.1 --out simple")).ok();
    assert!(losses("simple")[0] > solved[0]);
    let done = place.run(&format!("{solve} --out chosen")).ok();
    assert!(done.err.matches("by cross-validation").count() > 1, "{}", done.err);
    assert_eq!(done.err.matches("classifier converged (L-BFGS, L2 ").count(), 1, "{}", done.err);
    // Classes may count differently.
    place.run(&format!("{solve} --head-l2 1e-6 --class-weight red=9 --out weighted")).ok();
    assert!(weights(&place, "weighted") != weights(&place, "solved"));
    let done = place.run(&format!("{solve} --refit --out refitted")).ok();
    assert!(done.err.contains("fitted again on all 28 training and validation"), "{}", done.err);
    assert!(done.out.contains("fitted again with the 3 validation images"), "{}", done.out);
    let done = place.run(&format!("{solve} --refit --validation-split 0 --out all")).ok();
    assert!(done.err.contains("not fitted again: there are no validation"), "{}", done.err);
    place.run(&format!("{line} --refit --out bad")).fails(2, &["refit", "--head-solver lbfgs"]);
    let config = fs::read_to_string(place.path("chosen/config.toml")).unwrap();
    assert!(config.contains("head-solver = \"lbfgs\"") && !config.contains("head-l2"), "{config}");
    // What changes gradient steps is for the phases after it.
    let tune = "--augment flip --dropout 0.5 --label-smoothing 0.1 --fine-tune-at conv4 --fine-tune-epochs 1";
    place.run(&format!("{solve} --head-l2 1e-6 {tune} --out both")).ok();
    assert_eq!((losses("both")[0], losses("both").len()), (solved[0], 2));
    place.run(&format!("{line} --head-l2 0.1 --out bad")).fails(2, &["head-l2", "--head-solver"]);
    place.run(&format!("{solve} --augment flip --out bad")).fails(2, &["head-solver", "augment"]);
}
