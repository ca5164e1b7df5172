//! `train --resume`, on the real binary: killed at random moments, interrupted, out of disk, refused.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::{self, Place, TRAIN, list, tensors};

/// Two phases with all that has a state: momenta, a schedule that follows the losses, the best epoch's weights,
/// EMA weights, augmentation, balanced shuffling, dropout.
fn line(out: &str) -> String {
    let flags = "--fine-tune-at 12 --fine-tune-epochs 4 --optimizer adam --schedule plateau \
                 --plateau-patience 1 --warmup-epochs 0.5 --monitor loss --patience 2 --ema 0.8 \
                 --augment resized-crop:0.5,flip,jitter,erase --balance --dropout 0.2 --label-smoothing 0.1 --clip-norm 1 \
                 --accumulate 2 --layer-decay 0.7 --mixup 0.4 --cutmix 1 \
                 --save-every 0";
    TRAIN.replace("--out run", &format!("{flags} --out {out}"))
}

/// results.csv without what time decides.
fn results(place: &Place, run: &str) -> Vec<String> {
    let text = fs::read_to_string(place.path(run).join("results.csv")).unwrap();
    let columns = |l: &str| {
        let fields: Vec<&str> = l.split(',').collect();
        [&fields[..2], &fields[4..]].concat().join(",")
    };
    text.lines().map(columns).collect()
}

/// Fails unless the run left what `plain` left.
fn same(place: &Place, run: &str) {
    for file in ["last", "best"] {
        let weights =
            |run: &str| tensors(&place.path(run).join(format!("weights/{file}.safetensors")));
        assert!(weights("plain") == weights(run), "{file} of {run}");
    }
    assert_eq!(results(place, "plain"), results(place, run));
    let report = |run: &str| fs::read_to_string(place.path(run).join("report.json")).unwrap();
    assert_eq!(report("plain"), report(run));
    let steps = |run: &str| -> Vec<(u64, u64)> {
        let text = fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
        let events = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        let steps = events.filter(|e| e["event"] == "step");
        steps.map(|e| (e["epoch"].as_u64().unwrap(), e["step"].as_u64().unwrap())).collect()
    };
    assert_eq!(steps("plain"), steps(run));
    assert_eq!(steps(run).iter().collect::<BTreeSet<_>>().len(), steps(run).len());
    let weights = list(&place.path(run).join("weights"));
    assert_eq!(weights.len(), 2, "{weights:?}");
}

#[test]
fn a_run_killed_at_random_moments_ends_as_if_it_had_not_been() {
    let place = Place::new();
    place.data(20);
    let start = Instant::now();
    place.run(&line("plain")).ok();
    let whole = start.elapsed();
    let mut random = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("random moments from {random}");
    let (mut kills, mut resumed) = (0, 0);
    loop {
        let begun = place.path("run/weights/last.safetensors").exists();
        let command = if begun { "train --resume run".into() } else { line("run") + " --exist-ok" };
        let mut command = place.command(&command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        resumed += u32::from(begun);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Later ones are given more time, so that this ends.
        let share = (random >> 40) as f64 / (1u64 << 24) as f64 * (0.5 + 0.05 * f64::from(kills));
        std::thread::sleep(whole.mul_f64(share));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            kills += 1;
            child.wait().unwrap();
            continue;
        }
        let done: support::Done = child.wait_with_output().unwrap().into();
        done.ok();
        break;
    }
    println!("killed {kills} times, resumed {resumed} times");
    same(&place, "run");
}

#[test]
fn an_interrupted_run_goes_on_and_one_that_is_done_stays_as_it_is() {
    let place = Place::new();
    place.data(20);
    place.run(&line("plain")).ok();
    let mut child =
        place.command(&line("run")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let steps = || {
        let text = fs::read_to_string(place.path("run/events.jsonl")).unwrap_or_default();
        text.matches("\"step\":").count()
    };
    while steps() < 9 {
        assert!(start.elapsed() < Duration::from_secs(60), "training does not get on");
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    // It may have been done already; then it is like a run that is resumed when done.
    let stopped = !child.wait().unwrap().success();
    // Its page says how far it came, also when it is made again.
    let page = |stopped: bool| {
        let html = fs::read_to_string(place.path("run/report.html")).unwrap();
        assert_eq!(html.contains("The run was stopped after "), stopped);
        assert_eq!(html.contains("go on with the run"), stopped);
        assert_eq!(html.contains("content=\"stopped\""), stopped);
        if place.path("run/weights/best.safetensors").exists() {
            let said = place.run("summary run").ok().out;
            assert_eq!(said.contains("stopped after "), stopped, "{said}");
            assert_eq!(said.contains("shipped: epoch "), !stopped, "{said}");
        }
    };
    page(stopped);
    if place.path("run/weights/best.safetensors").exists() {
        place.run("report run").ok();
        page(stopped);
    }
    // Two at a time would spoil it.
    let events = fs::File::options().append(true).open(place.path("run/events.jsonl")).unwrap();
    events.lock().unwrap();
    place.run("train --resume run").fails(1, &["still running"]);
    drop(events);
    let done = place.run("train --resume run").ok();
    assert!(done.err.contains("resumed: the run goes on after"), "{}", done.err);
    same(&place, "run");
    page(false);
    place.run("report run").ok();
    page(false);
    // As if killed after the last epoch's weights were written, before its results were.
    let file = place.path("run/results.csv");
    let text = fs::read_to_string(&file).unwrap();
    let (without, _) = text.trim_end().rsplit_once('\n').unwrap();
    fs::write(&file, format!("{without}\n")).unwrap();
    place.run("train --resume run").ok();
    same(&place, "run");
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room() {
    let place = Place::new();
    place.data(10);
    place.run(&line("plain")).ok();
    // No file may grow past 2 MiB: weights with Adam's state of the head fit, with that of fine-tuning
    // they do not. A signal that is ignored makes the write fail as it does on a full disk.
    let binary = env!("CARGO_BIN_EXE_headstart");
    let limited = format!("trap '' XFSZ; ulimit -f 4096; exec {binary} {} --no-cache", line("run"));
    let mut command = Command::new("sh");
    let folder = place.path("");
    let done: support::Done =
        command.args(["-c", &limited]).current_dir(folder).output().unwrap().into();
    done.fails(1, &["cannot write", "last.safetensors"]);
    place.run("train --resume run").ok();
    same(&place, "run");
}

#[test]
fn what_cannot_be_gone_on_with_is_refused() {
    let place = Place::new();
    place.data(10);
    place.run("train --resume nowhere").fails(1, &["config.toml"]);
    place.run(&line("run")).ok();
    place
        .run("train --resume run --epochs 9")
        .fails(2, &["--resume", "epochs = 9, by a flag", "--config"]);
    place.run("train --resume run --out other").fails(2, &["--resume"]);
    place.run("train --resume run --threads 1").ok();
    let last = place.path("run/weights/last.safetensors");
    let best = place.path("run/weights/best.safetensors");
    let before = fs::read(&last).unwrap();
    fs::copy(&best, &last).unwrap();
    place.run("train --resume run").fails(1, &["a record of the run's progress"]);
    fs::write(&last, &before[..before.len() / 2]).unwrap();
    place.run("train --resume run").fails(1, &["last.safetensors"]);
    let mut flipped = before.clone();
    flipped[before.len() - 9] ^= 1;
    fs::write(&last, &flipped).unwrap();
    place.run("train --resume run").fails(1, &["last.safetensors", "not what was written"]);
    // As an earlier version wrote it; what is refused costs no line of the record.
    let events = place.path("run/events.jsonl");
    let recorded = fs::read(&events).unwrap();
    let length = u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(before[8..8 + length].to_vec()).unwrap();
    let old = header.replace("\\\"place\\\":", "\\\"plaice\\\":");
    assert!(old != header);
    let size = (old.len() as u64).to_le_bytes();
    fs::write(&last, [&size[..], old.as_bytes(), &before[8 + length..]].concat()).unwrap();
    place.run("train --resume run").fails(1, &["a record of its progress", "an earlier version"]);
    fs::write(&last, &before).unwrap();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    let allowed = "--allow-changes";
    let batches = "its steps are counted in batches of this size";
    for (from, to, way, part) in [
        ("batch-size = 8", "batch-size = 4", batches, batches),
        ("fine-tune-epochs = 4", "fine-tune-epochs = 1", allowed, "a position in"),
        ("fine-tune-at = \"12\"", "", allowed, "phases of the run"),
    ] {
        let changed = config.replace(from, to);
        assert!(changed != config, "no {from} in {config}");
        fs::write(place.path("run/config.toml"), changed).unwrap();
        let setting = from.split(' ').next().unwrap();
        place.run("train --resume run").fails(1, &[setting, way]);
        place.run("train --resume run --allow-changes").fails(1, &[part, "config.toml"]);
    }
    fs::write(place.path("run/config.toml"), config).unwrap();
    assert!(fs::read(&last).unwrap() == before && fs::read(&events).unwrap() == recorded);
    // The best weights are those of this run, and whole.
    let shipped = fs::read(&best).unwrap();
    let other = Place::new();
    other.data(7);
    other.run(TRAIN).ok();
    fs::copy(other.path("run/weights/best.safetensors"), &best).unwrap();
    place.run("train --resume run").fails(1, &["best.safetensors", "of other images", "hint:"]);
    fs::write(&best, &shipped[..shipped.len() / 2]).unwrap();
    place.run("train --resume run").fails(1, &["best.safetensors", "whole", "hint:"]);
    fs::remove_file(&best).unwrap();
    place.run("train --resume run").fails(1, &["best.safetensors"]);
    assert!(fs::read(&last).unwrap() == before && fs::read(&events).unwrap() == recorded);
    fs::write(&best, &shipped).unwrap();
    fs::remove_file(&last).unwrap();
    place.run("train --resume run").fails(1, &["no weights/last.safetensors", "--exist-ok"]);
    fs::write(&last, &before).unwrap();
    place.image("data/red/003.png", 16, [1, 2, 3], 5);
    place.run("train --resume run").fails(1, &["images of data", "the run started with"]);
    assert!(fs::read(&last).unwrap() == before);
}
