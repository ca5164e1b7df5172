//! `headstart recipe`, `train --recipe` and `lr-find`: settings chosen, printed as flags, and trained with.

use std::fs;

use crate::support::Place;

const NET: &str = "--data data --model resnet20 --weights cifar10";

/// The flags that a recipe stands for, as words.
fn flags(place: &Place, line: &str) -> Vec<String> {
    let found = place.run(&format!("recipe {NET} {line} --json")).ok().json();
    let flags = found["flags"].as_array().unwrap().iter();
    flags.map(|f| f.as_str().unwrap().to_string()).collect()
}

fn config(place: &Place, run: &str) -> String {
    fs::read_to_string(place.path(run).join("config.toml")).unwrap()
}

#[test]
fn the_flags_of_a_recipe_train_as_the_recipe_does() {
    let place = Place::new();
    place.data(10);
    for name in ["quick", "article"] {
        let flags = flags(&place, &format!("--recipe {name}")).join(" ");
        place.run(&format!("train {flags} --out by-flags-{name}")).ok();
        let done = place.run(&format!("train {NET} --recipe {name} --out by-name-{name}")).ok();
        assert!(done.err.contains(&format!("recipe {name}: {flags}\n")), "{}", done.err);
        let by_flags = config(&place, &format!("by-flags-{name}"));
        // The recipe is noted beside the settings that it chose.
        let by_name = config(&place, &format!("by-name-{name}"));
        assert_eq!(format!("{by_flags}# chosen by --recipe {name}\n"), by_name);
        assert!(by_flags.contains("test-split = 0.2"), "{by_flags}");
        // What is reported is what the file does, without a word about the split.
        let run = format!("by-name-{name}");
        let text = fs::read(place.path(&run).join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let line = format!("evaluate {run}/weights/best.safetensors --data data --json");
        let again = place.run(&line).ok().json();
        for field in ["samples", "accuracy", "loss", "confusion_matrix", "calibration"] {
            assert_eq!(again[field], report[field], "{name}: {field}");
        }
    }
    assert!(config(&place, "by-name-quick").contains("head-solver = \"lbfgs\""));
    let article = config(&place, "by-name-article");
    for part in ["optimizer = \"rmsprop\"", "fine-tune-at = \"conv3\"", "batch-size = 20"] {
        assert!(article.contains(part), "{article}");
    }
}

#[test]
fn a_budget_is_kept_and_flags_override_the_recipe() {
    let place = Place::new();
    place.data(20);
    let found = place.run(&format!("recipe {NET} --budget 10m --json")).ok().json();
    assert!(found["estimated"].is_null() && found["seconds"].as_f64().unwrap() < 480.0, "{found}");
    assert_eq!(found["facts"]["train"], 43);
    assert_eq!(found["budget"], 600.0);
    // In no time at all, only the head; with time, fine-tuning.
    assert!(!flags(&place, "--budget 1ms").iter().any(|f| f == "--fine-tune-at"));
    let some = flags(&place, "--budget 10m");
    assert!(some.iter().any(|f| f == "--fine-tune-at"), "{some:?}");
    // A flag takes back what was chosen for the sake of what it changes.
    for flag in ["--refit", "--best-within"] {
        assert!(some.iter().any(|f| f == flag), "{some:?}");
    }
    let line = "--fine-tune-epochs 1 --head-solver gradient --monitor loss --limit 20 --out taken";
    place.run(&format!("train {NET} --recipe auto --budget 10m {line}")).ok();
    let taken = config(&place, "taken");
    assert!(taken.contains("monitor = \"loss\"") && !taken.contains("refit = true"), "{taken}");
    let within: Vec<&str> = taken.lines().filter(|l| l.starts_with("best-within")).collect();
    assert!(within.iter().all(|line| *line == "best-within = 0.0"), "{taken}");
    let text = place.run(&format!("recipe {NET} --budget 10m")).ok().out;
    for part in
        ["headstart train --data data --model resnet20", "estimated: ", "--test-split 0.2: "]
    {
        assert!(text.contains(part), "{text}");
    }
    let line = format!(
        "train {NET} --recipe auto --budget 10m --fine-tune-epochs 1 --optimizer sgd --limit 20 --out run"
    );
    place.run(&line).ok();
    let config = config(&place, "run");
    for part in
        ["optimizer = \"sgd\"", "fine-tune-epochs = 1", "limit = 20", "schedule = \"one-cycle\""]
    {
        assert!(config.contains(part), "{config}");
    }
}

#[test]
fn what_cannot_be_a_recipe_is_refused() {
    let place = Place::new();
    place.data(4);
    for (line, parts) in [
        ("train --data data --recipe auot", &["auot", "auto"][..]),
        ("train --data data --budget 20m", &["--recipe"]),
        ("train --data data --recipe auto --budget soon", &["soon", "--budget"]),
        ("train --data data --recipe auto --config x.toml", &["--config", "--recipe"]),
        ("train --data data --model resnet20 --weights none --recipe auto", &["weights", "none"]),
        (
            "train --data data --model resnet20 --recipe article --budget 20m",
            &["article", "budget"],
        ),
        ("recipe --data data --model resnet21", &["resnet21", "resnet20"]),
        ("recipe --data data --model resnet20 --weights imagnet", &["weights", "imagenet"]),
    ] {
        place.run(line).fails(2, parts);
    }
    // A file that is no weights of the net is known before settings are chosen, whatever the number of images.
    fs::write(place.path("odd.h5"), "no weights").unwrap();
    place.run("recipe --data data --model resnet20 --weights gone.h5").fails(1, &["gone.h5"]);
    place.run("recipe --data data --model resnet20 --weights odd.h5").fails(1, &["odd.h5"]);
    fs::remove_file(place.path("odd.h5")).unwrap();
    place.run("recipe --data gone").fails(1, &["gone"]);
    place.holds(&["data"]);
}

#[test]
fn lr_find_draws_the_loss_and_suggests_a_rate_that_trains() {
    let place = Place::new();
    place.data(20);
    let line = format!("lr-find {NET} --batch-size 8 --optimizer sgd --image-size 16");
    let found = place.run(&format!("{line} --steps 60 --start 1e-5 --end 100 --json")).ok().json();
    let points = found["points"].as_array().unwrap();
    assert!(points.len() >= 10 && points.len() <= 60, "{found}");
    let (rate, last) = (found["suggestion"].as_f64().unwrap(), points.last().unwrap());
    assert!(rate > 1e-5 && rate < last[0].as_f64().unwrap(), "{found}");
    assert!(fs::read(place.path("lr_find.png")).unwrap().starts_with(b"\x89PNG"));
    // Two runs find the same.
    let again = place.run(&format!("{line} --steps 60 --start 1e-5 --end 100 --json")).ok().json();
    assert_eq!(again, found);
    let tuned = place
        .run(&format!(
            "{line} --fine-tune-at conv4 --steps 12 --start 1e-6 --end 1e-2 --out ft.png"
        ))
        .ok();
    assert!(tuned.out.contains("--fine-tune-learning-rate") || tuned.out.contains("no suggestion"));
    assert!(place.path("ft.png").exists());
    for (flags, parts) in [
        ("--start 1 --end 0.1", &["learning rates", "start < end"][..]),
        ("--steps 3", &["--steps", "10 to 10000"]),
        ("--fine-tune-at nowhere", &["nowhere"]),
    ] {
        place.run(&format!("{line} {flags} --out bad.png")).fails(2, parts);
    }
    assert!(!place.path("bad.png").exists());
}
