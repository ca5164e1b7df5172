//! The cache of features, on the real binary: later runs, damage, several processes, full disks.

mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Place, TRAIN, tensors};

/// Head and fine-tuning, so that outputs of two frontiers are kept.
fn line() -> String {
    TRAIN.replace("--out run", "--fine-tune-at 12 --fine-tune-epochs 1")
}

fn last(place: &Place, run: &str) -> Vec<u8> {
    tensors(&place.path(run).join("weights/last.safetensors"))
}

/// (split, images, reused) of every time that outputs were seen to.
fn reused(place: &Place, run: &str) -> Vec<(String, u64, u64)> {
    let text = fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
    let events = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let number = |v: &serde_json::Value| v.as_u64().unwrap();
    events
        .filter(|e| e["event"] == "cache")
        .map(|e| (e["split"].as_str().unwrap().into(), number(&e["images"]), number(&e["reused"])))
        .collect()
}

#[test]
fn later_runs_take_all_outputs_from_disk_and_every_way_gives_the_same_bits() {
    let place = Place::new();
    place.data(10);
    let line = line();
    place.run(&format!("{line} --no-cache --cache-memory 0 --out computed")).ok();
    assert!(place.kept().is_empty() && reused(&place, "computed").is_empty());
    place.run(&format!("{line} --out first")).ok();
    let second = place.run(&format!("{line} --out second")).ok();
    assert!(second.err.contains("are cached from before"), "{}", second.err);
    place.run(&format!("{line} --cache-memory 0 --out disk")).ok();
    place.run(&format!("{line} --no-cache --out memory")).ok();
    for run in ["first", "second", "disk", "memory"] {
        assert!(last(&place, "computed") == last(&place, run), "{run}");
        let report = |run: &str| fs::read(place.path(run).join("report.json")).unwrap();
        assert!(report("computed") == report(run), "{run}");
    }
    assert_eq!(place.kept().len(), 2);
    // The frontier of fine-tuning and that of the head, for three splits each.
    let list = reused(&place, "first");
    assert_eq!(list.len(), 6, "{list:?}");
    assert!(list.iter().all(|(_, _, reused)| *reused == 0), "{list:?}");
    for run in ["second", "disk"] {
        let list = reused(&place, run);
        assert_eq!(list.len(), 6, "{list:?}");
        assert!(list.iter().all(|(_, images, reused)| images == reused), "{list:?}");
        let events = fs::read_to_string(place.path(run).join("events.jsonl")).unwrap();
        assert!(!events.contains("\"features\""), "frozen layers ran in {run}");
    }
    // Other weights, other keys.
    place.run(&format!("{line} --seed 1 --out other")).ok();
    assert!(reused(&place, "other").iter().all(|(_, _, reused)| *reused == 0));
    assert_eq!(place.kept().len(), 4);

    let list = place.run("cache list --json").ok();
    let lines: Vec<serde_json::Value> =
        list.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|l| l["images"] == 30 && l["model"] == "resnet20"), "{}", list.out);
    assert_eq!(place.run("cache list").ok().out.lines().count(), 4);
    place.run("cache clear").ok();
    assert!(place.kept().is_empty() && place.run("cache list").ok().out.is_empty());
}

#[test]
fn one_changed_image_is_computed_and_the_others_are_not() {
    let place = Place::new();
    place.data(10);
    let line = line();
    place.run(&format!("{line} --out first")).ok();
    place.image("data/red/003.png", 16, [1, 2, 3], 5);
    place.run(&format!("{line} --out changed")).ok();
    let list = reused(&place, "changed");
    let missing: u64 = list.iter().map(|(_, images, reused)| images - reused).sum();
    assert_eq!(missing, 2, "one image at two frontiers: {list:?}");
    place.run(&format!("{line} --no-cache --out plain")).ok();
    assert!(last(&place, "changed") == last(&place, "plain"));
}

#[test]
fn damaged_files_are_told_and_mended() {
    let place = Place::new();
    place.data(10);
    let line = line();
    place.run(&format!("{line} --out first")).ok();
    let expected = last(&place, "first");
    type Damage = fn(&mut Vec<u8>);
    let flip: Damage = |bytes| bytes[100] ^= 4;
    let cut: Damage = |bytes| bytes.truncate(bytes.len() / 2);
    let version: Damage = |bytes| {
        bytes[8] = 99;
        let sum = crc32c(&bytes[..56]);
        bytes[56..60].copy_from_slice(&sum.to_le_bytes());
    };
    for (name, damage, message) in
        [("rows", flip, "damaged"), ("rows", cut, "cut off"), ("index", version, "version 99")]
    {
        // Rows that are read batch by batch are found damaged there, and mended by the next run.
        let mut ways = vec![("", message)];
        if name == "rows" {
            ways.push(("--cache-memory 0", if message == "damaged" { "" } else { message }));
        }
        for (flag, message) in ways {
            for entry in place.kept() {
                let mut bytes = fs::read(entry.join(name)).unwrap();
                damage(&mut bytes);
                fs::write(entry.join(name), bytes).unwrap();
            }
            let done = place.run(&format!("{line} {flag} --out again --exist-ok")).ok();
            assert!(last(&place, "again") == expected, "{name} {message} {flag}");
            assert!(done.err.contains(message), "{message:?} {flag}: {}", done.err);
            if message.is_empty() && name == "rows" {
                place.run(&format!("{line} --out again --exist-ok")).ok();
            }
        }
        place.run(&format!("{line} --out whole --exist-ok")).ok();
        assert!(last(&place, "whole") == expected);
        let list = reused(&place, "whole");
        assert!(list.iter().all(|(_, images, reused)| images == reused), "{name}: {list:?}");
    }
}

/// CRC-32C, bit by bit (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg()))
    })
}

#[test]
fn processes_share_the_cache_and_one_that_is_killed_leaves_it_whole() {
    let place = Place::new();
    place.data(10);
    let line = TRAIN
        .replace("--out run", "--fine-tune-at 12 --fine-tune-epochs 0 --threads 1")
        .replace("--image-size 16", "--image-size 96");
    place.run(&format!("{line} --no-cache --out plain")).ok();
    let expected = last(&place, "plain");
    let spawn = |run: &str| {
        let mut command = place.command(&format!("{line} --out {run}"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // One is killed as soon as it has written a row.
    let mut killed = spawn("killed");
    let start = Instant::now();
    let begun = || {
        place.kept().iter().any(|e| fs::metadata(e.join("rows")).is_ok_and(|file| file.len() > 0))
    };
    while !begun() {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut both = [spawn("a"), spawn("b")];
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    for run in ["a", "b"] {
        assert!(last(&place, run) == expected, "{run}");
    }
    // What one of the two computed, the other did not.
    place.run(&format!("{line} --out later")).ok();
    assert!(last(&place, "later") == expected);
    assert!(reused(&place, "later").iter().all(|(_, images, reused)| images == reused));
    let entries = place.kept();
    assert_eq!(entries.len(), 1);
    assert_eq!(fs::metadata(entries[0].join("rows")).unwrap().len(), 30 * 64 * 4);
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_costs_time_and_nothing_else() {
    let place = Place::new();
    place.data(10);
    let line = TRAIN
        .replace("--image-size 16", "--image-size 64")
        .replace("--epochs 2", "--epochs 0")
        .replace("--out run", "--fine-tune-at 12 --fine-tune-epochs 1");
    place.run(&format!("{line} --no-cache --out plain")).ok();
    for (flag, message) in [("", "in memory only"), ("--cache-memory 0", "computed in every epoch")]
    {
        // No file may grow past 4 MiB: the outputs take 8, the weights half of that. A signal that is
        // ignored makes the write fail as it does on a full disk.
        let run = format!("full{}", flag.len());
        let limited = format!(
            "trap '' XFSZ; ulimit -f 8192; exec {} {line} {flag} --out {run}",
            env!("CARGO_BIN_EXE_headstart")
        );
        let mut command = place.command("");
        let envs: Vec<_> = command
            .get_envs()
            .filter_map(|(k, v)| Some((k.to_os_string(), v?.to_os_string())))
            .collect();
        let folder = command.get_current_dir().unwrap().to_path_buf();
        command = std::process::Command::new("sh");
        command.args(["-c", &limited]).envs(envs).current_dir(folder);
        let done: support::Done = command.output().unwrap().into();
        let done = done.ok();
        assert!(done.err.contains(message), "{}", done.err);
        assert!(last(&place, "plain") == last(&place, &run), "{flag}");
    }
    let none = place.run(&format!("{line} --cache-disk 1 --out none")).ok();
    assert!(none.err.contains("no room"), "{}", none.err);
    // A folder that cannot be made.
    fs::write(place.path("file"), "").unwrap();
    let done = place.run(&format!("{line} --cache-dir file/below --out bad")).ok();
    assert!(done.err.contains("no features are cached on disk"), "{}", done.err);
    assert!(last(&place, "plain") == last(&place, "bad"));
}
