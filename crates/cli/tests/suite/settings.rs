//! Settings of training that change what counts, what trains and when: each does what it says.

use std::fs;

use crate::support::{Place, TRAIN, tensors};

/// The job of these tests over a net that knows CIFAR-10, into folder `out`.
fn line(out: &str, flags: &str) -> String {
    let line = TRAIN.replace("--weights none", "--weights cifar10").replace("--out run", "");
    format!("{line} {flags} --out {out}")
}

fn events(place: &Place, run: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The loss of the first step.
fn first_loss(place: &Place, run: &str) -> f64 {
    let events = events(place, run);
    events.iter().find(|e| e["event"] == "step").unwrap()["batch_loss"].as_f64().unwrap()
}

fn last(place: &Place, run: &str) -> Vec<u8> {
    tensors(&place.path(run).join("weights/last.safetensors"))
}

#[test]
fn class_weights_scale_the_loss_of_their_images() {
    let place = Place::new();
    place.data(8);
    let zeros = "--head-init zeros --no-shuffle";
    let with = |weights: &str| {
        place.run(&line("run", &format!("{zeros} {weights} --exist-ok"))).ok();
        first_loss(&place, "run")
    };
    // A head of zeros gives each of three classes a third.
    let near = |found: f64, expected: f64| (found - expected * 3f64.ln()).abs() <= 1e-6;
    assert!(near(with(""), 1.0));
    assert!(near(with("--class-weight red=2.5,green=2.5,blue=2.5"), 2.5));
    fs::write(place.path("weights.json"), r#"{"red": 2, "green": 2, "blue": 2}"#).unwrap();
    assert!(near(with("--class-weight weights.json"), 2.0));
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("class-weight = ") && config.contains("green=2"), "{config}");
    // The mean over all images of weights that balance the classes is 1, and of those of a batch near it.
    let balanced = with("--class-weight balanced") / 3f64.ln();
    assert!(balanced != 1.0 && (balanced - 1.0).abs() < 0.2, "{balanced}");
    for (bad, parts) in [
        ("rde=2", ["rde", "red"]),
        ("red=-1", ["red", "-1"]),
        ("red=0,green=0,blue=0", ["class weights", "above 0"]),
        ("gone.json", ["gone.json", "class"]),
    ] {
        let line = line("bad", &format!("--class-weight {bad}"));
        let done = place.run(&line);
        assert!(done.code != Some(0) && parts.iter().all(|p| done.err.contains(p)), "{}", done.err);
    }
}

#[test]
fn a_balanced_epoch_has_every_class_equally_often() {
    let place = Place::new();
    place.data(12);
    for i in 3..12 {
        fs::remove_file(place.path(&format!("data/blue/{i:03}.png"))).unwrap();
    }
    let flags = "--epochs 3 --learning-rate 1e-2 --test-split 0 --validation-split 0";
    let split = TRAIN.replace("--weights none", "--weights cifar10");
    let split = split.replace("--test-split 0.2", "").replace("--epochs 2", "");
    let run = |out: &str, more: &str| {
        let split = split.replace("--out run", "");
        place.run(&format!("{split} {flags} {more} --out {out}")).ok();
    };
    run("plain", "");
    run("balanced", "--balance");
    assert!(last(&place, "plain") != last(&place, "balanced"));
    // As many steps as without.
    let steps = |run: &str| events(&place, run).iter().filter(|e| e["event"] == "step").count();
    assert_eq!(steps("plain"), steps("balanced"));
    run("weighted", "--class-weight balanced");
    assert!(last(&place, "weighted") != last(&place, "plain"));
    let both = format!("{split} --balance --class-weight balanced");
    place.run(&both).fails(2, &["balance", "class weight"]);
    place.run(&format!("{split} --balance --no-shuffle")).fails(2, &["balance", "shuffle"]);
}

#[test]
fn dropout_is_there_in_training_only_and_the_same_for_any_threads() {
    let place = Place::new();
    place.data(8);
    place.run(&line("plain", "")).ok();
    place.run(&line("dropped", "--dropout 0.5 --threads 1")).ok();
    assert!(first_loss(&place, "plain") != first_loss(&place, "dropped"));
    place.run(&line("again", "--dropout 0.5 --threads 3")).ok();
    assert!(last(&place, "dropped") == last(&place, "again"));
    // The model file predicts the same every time, and has no dropout.
    let model = "dropped/weights/last.safetensors";
    let predict = format!("predict {model} data/red/000.png --json");
    assert_eq!(place.run(&predict).ok().out, place.run(&predict).ok().out);
    assert!(last(&place, "plain").len() == last(&place, "dropped").len());
    place.run(&line("bad", "--dropout 1")).fails(2, &["dropout", "below 1"]);
}

#[test]
fn images_are_mixed_by_the_seed_alone() {
    let place = Place::new();
    place.data(8);
    place.run(&line("plain", "")).ok();
    let mut sheets = std::collections::BTreeSet::new();
    for (name, flags, shown) in [
        ("mixup", "--mixup 0.4", "mixup:0.4"),
        ("cutmix", "--cutmix 1", "cutmix:1"),
        ("both", "--augment flip --mixup 0.4 --cutmix 1", "flip, mixup:0.4, cutmix:1"),
    ] {
        let done = place.run(&line(name, &format!("{flags} --threads 1"))).ok();
        assert!(done.err.contains(&format!("augmented in every epoch ({shown})")), "{}", done.err);
        assert!(last(&place, "plain") != last(&place, name), "{flags} changes nothing");
        place.run(&line(&format!("{name}-again"), &format!("{flags} --threads 2"))).ok();
        assert!(last(&place, name) == last(&place, &format!("{name}-again")), "{flags}");
        place.run(&format!("train --config {name}/config.toml --out {name}-file")).ok();
        assert!(last(&place, name) == last(&place, &format!("{name}-file")), "{flags}");
        place.run(&format!("train --config {name}/config.toml --show-batch sheet.png")).ok();
        sheets.insert(fs::read(place.path("sheet.png")).unwrap());
    }
    assert_eq!(sheets.len(), 3);
    place.run(&line("bad", "--mixup 0")).fails(2, &["mixup", "positive", "found 0"]);
    place.run(&line("bad", "--cutmix NaN")).fails(2, &["cutmix", "positive"]);
    let one = line("bad", "--cutmix 1").replace("--batch-size 8", "--batch-size 1");
    place.run(&one).fails(2, &["cutmix", "batch size of 2"]);
    let solved = "--head-solver lbfgs --mixup 0.2";
    place.run(&line("bad", solved)).fails(2, &["head-solver", "mixup"]);
}

#[test]
fn frozen_batch_norm_keeps_its_statistics() {
    let place = Place::new();
    place.data(8);
    let tune = "--fine-tune-at conv4_block3_1_conv --fine-tune-epochs 1";
    place.run(&line("start", "")).ok();
    place.run(&line("moved", tune)).ok();
    place.run(&line("kept", &format!("{tune} --freeze-bn"))).ok();
    let moving = |run: &str| -> Vec<Vec<f32>> {
        let file = headstart::weights::read(place.path(run).join("weights/last.safetensors"));
        let tensors = file.unwrap().tensors.into_iter().filter(|t| t.name.contains("moving"));
        tensors.map(|t| t.values).collect()
    };
    assert!(moving("start").len() > 10 && moving("start") == moving("kept"));
    assert!(moving("start") != moving("moved"));
    assert!(last(&place, "start") != last(&place, "kept"), "nothing was fine-tuned");
    place.run(&format!("{TRAIN} --freeze-bn")).fails(2, &["freeze-bn", "weights"]);
}

#[test]
fn unfreezing_goes_through_its_phases() {
    let place = Place::new();
    place.data(8);
    let base = TRAIN.replace("--weights none", "--weights cifar10");
    let base = base.replace("--epochs 2", "").replace("--out run", "");
    place.run(&format!("{base} --unfreeze head:1,conv4:1,conv3_block2:2 --out run")).ok();
    let rows = fs::read_to_string(place.path("run/results.csv")).unwrap();
    let phases: Vec<&str> = rows.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(phases.len(), 4);
    assert!(phases[0] == "head" && phases[1] != phases[2] && phases[2] == phases[3], "{phases:?}");
    let from: Vec<String> = events(&place, "run")
        .iter()
        .filter(|e| e["event"] == "phase")
        .map(|e| e["from"].as_str().unwrap_or("head").to_string())
        .collect();
    assert_eq!(from, ["head", "conv4_block1_1_conv", "conv3_block2_1_conv"]);
    // The list of a head and one layer is the usual job.
    place.run(&format!("{base} --unfreeze head:1,conv4_block1_1_conv:1 --out list")).ok();
    let usual = "--epochs 1 --fine-tune-at conv4_block1_1_conv --fine-tune-epochs 1 --out usual";
    place.run(&format!("{base} {usual}")).ok();
    assert!(last(&place, "list") == last(&place, "usual"));
    let list = format!("{base} --unfreeze head:1,conv4_block1_1_conv:1");
    place.run(&format!("{list} --fine-tune-learning-rate 1e-3 --out faster")).ok();
    assert!(last(&place, "list") != last(&place, "faster"));
    let epochs = place.run(&format!("{list} --fine-tune-epochs 2 --out bad"));
    epochs.fails(2, &["--fine-tune-epochs", "--unfreeze"]);
    for (bad, parts) in [
        ("conv3:1,conv4:1", ["unfreeze", "earlier"]),
        ("head", ["unfreeze", "epochs"]),
        ("head:0", ["unfreeze", "epochs"]),
        ("conv9:1", ["conv9", "layer"]),
    ] {
        let done = place.run(&format!("{base} --unfreeze {bad} --out bad"));
        assert!(done.code != Some(0) && parts.iter().all(|p| done.err.contains(p)), "{}", done.err);
    }
}

#[test]
fn label_smoothing_and_clipping_change_what_is_learned() {
    let place = Place::new();
    place.data(8);
    let sgd = "--optimizer sgd --no-shuffle";
    place.run(&line("plain", sgd)).ok();
    place.run(&line("smooth", &format!("{sgd} --label-smoothing 0.3"))).ok();
    assert!(first_loss(&place, "plain") != first_loss(&place, "smooth"));
    assert!(last(&place, "plain") != last(&place, "smooth"));
    // A bound above every gradient changes nothing; a small one keeps each step of plain gradient descent small.
    place.run(&line("wide", &format!("{sgd} --clip-norm 1e6 --clip-value 1e6"))).ok();
    assert!(last(&place, "plain") == last(&place, "wide"));
    place.run(&line("still", "--optimizer sgd --no-shuffle --learning-rate 1e-9")).ok();
    let moved = |run: &str| -> f64 {
        let pairs = head(&place, run).into_iter().zip(head(&place, "still"));
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    for (flags, most) in [("--clip-norm 0.01", 0.01), ("--clip-value 0.001", 0.001 * 195f64.sqrt())]
    {
        place.run(&line("bound", &format!("{sgd} --learning-rate 0.1 {flags} --exist-ok"))).ok();
        let steps = events(&place, "bound").iter().filter(|e| e["event"] == "step").count() as f64;
        let found = moved("bound");
        assert!(found > 0.0 && found <= 0.1 * most * steps * 1.001, "{flags}: {found}");
    }
    place.run(&line("free", &format!("{sgd} --learning-rate 0.1"))).ok();
    assert!(moved("free") > 0.01 * 0.1 * 10.0);
    for (flags, part) in [
        ("--label-smoothing 1", "below 1"),
        ("--clip-norm 0", "positive"),
        ("--clip-value inf", "positive"),
    ] {
        place
            .run(&line("bad", flags))
            .fails(2, &[flags.split(' ').next().unwrap().trim_start_matches('-'), part]);
    }
}

/// The head's tensors after the last epoch.
fn head(place: &Place, run: &str) -> Vec<f32> {
    let file = headstart::weights::read(place.path(run).join("weights/last.safetensors"));
    let tensors = file.unwrap().tensors.into_iter();
    tensors.filter(|t| t.name.starts_with("predictions/")).flat_map(|t| t.values).collect()
}

#[test]
fn accumulated_steps_make_the_update_of_one_batch_of_all_their_images() {
    let place = Place::new();
    place.data(8);
    let sgd = "--optimizer sgd --learning-rate 0.1 --no-shuffle --precision f32";
    let with = |run: &str, flags: &str| {
        let (line, batch) = (line(run, sgd), flags.contains("--batch-size"));
        let line = if batch { line.replace("--batch-size 8", flags) } else { line };
        place.run(&line).ok();
        head(&place, run)
    };
    // 18 images: batches of 8, 8 and 2, or pairs of 4 and 4, and 2.
    let (whole, halves) = (with("whole", ""), with("halves", "--batch-size 4 --accumulate 2"));
    let far =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far(&whole, &halves) < 1e-5, "{}", far(&whole, &halves));
    assert!(far(&whole, &with("small", "--batch-size 4")) > 1e-4);
    // Twice as many steps are reported, half of them with an update.
    let steps = |run| events(&place, run).iter().filter(|e| e["event"] == "step").count();
    assert!(steps("halves") > steps("whole"));
    place.run(&line("bad", "--accumulate 0")).fails(2, &["--accumulate", "1 to 1000000"]);
}

#[test]
fn layer_decay_leaves_early_layers_nearer_to_where_they_began() {
    let place = Place::new();
    place.data(8);
    let sgd = "--optimizer sgd --fine-tune-learning-rate 0.01 --fine-tune-at 0 \
               --fine-tune-epochs 1 --no-shuffle --freeze-bn --precision f32";
    let weights = |run: &str, flags: &str| {
        let line = line(run, &format!("{sgd} {flags}"));
        place.run(&line.replace("--epochs 2", "--epochs 0")).ok();
        let file = headstart::weights::read(place.path(run).join("weights/last.safetensors"));
        file.unwrap().tensors
    };
    // With nothing of a step, what they began with.
    let start = weights("start", "--layer-decay 1e-12");
    let moved = |tensors: &[headstart::weights::Tensor], part: &str| -> f64 {
        let pairs = tensors.iter().zip(&start).filter(|(t, _)| t.name.starts_with(part));
        let squares = pairs.flat_map(|(t, s)| t.values.iter().zip(&s.values));
        squares.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let (all, less) = (weights("all", ""), weights("less", "--layer-decay 0.1"));
    for (part, share) in [("conv1_conv/", 1e-4), ("conv2_", 1e-3), ("conv4_", 1e-1)] {
        let found = moved(&less, part) / moved(&all, part);
        assert!(found > 0.5 * share && found < 2.0 * share, "{part} {found}");
    }
    for bad in ["0", "1.5", "NaN"] {
        place.run(&line("bad", &format!("--layer-decay {bad}"))).fails(2, &["layer-decay", bad]);
    }
}
