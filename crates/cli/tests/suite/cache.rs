//! The cache of features, on the real binary: later runs, damage, several processes, full disks.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{self, Place, TRAIN, tensors};

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
    assert!(second.err.contains("are kept from before"), "{}", second.err);
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
fn what_the_cache_saves_counts_images_that_were_computed() {
    let place = Place::new();
    place.data(4);
    // Each image three times: one row, and three ways through the net.
    for class in ["red", "green", "blue"] {
        for i in 0..4 {
            let path = |name: &str| place.path(&format!("data/{class}/{name}.png"));
            for copy in ["a", "b"] {
                fs::copy(path(&format!("{i:03}")), path(&format!("{i:03}{copy}"))).unwrap();
            }
        }
    }
    let line =
        "cross-validate --data data --model resnet20 --weights cifar10 --image-size 16 --folds 2";
    place.run(line).ok();
    let about = place.kept()[0].join("about.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&about).unwrap()).unwrap();
    assert_eq!((&text["images"], &text["computed"]), (&12.into(), &36.into()));
    text["seconds"] = 720.into();
    fs::write(&about, text.to_string()).unwrap();
    let done = place.run(line).ok();
    assert!(done.err.contains("36 of 36 images are kept"), "{}", done.err);
    assert!(done.err.contains("this saves 720.0 s"), "{}", done.err);
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
    // What the head reads, 64 numbers, and the means of the stages before.
    assert_eq!(fs::metadata(entries[0].join("rows")).unwrap().len(), 30 * (64 + 16 + 32) * 4);
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

/// Images that a command read from the cache, of how many, as it says for each part of the data.
fn read(err: &str) -> (u64, u64) {
    let parts = err.lines().filter(|line| line.contains("are kept from before"));
    let numbers = parts.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let at = words.iter().position(|w| *w == "features").unwrap();
        (words[at + 2].parse::<u64>().unwrap(), words[at + 4].parse::<u64>().unwrap())
    });
    numbers.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

const MODEL: &str = "model/weights/last.safetensors";

/// A head over the net inside the program, without a word in the cache.
fn head_only(place: &Place) {
    place.run("train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8 --no-cache --out model").ok();
}

#[test]
fn whichever_command_is_first_fills_the_cache_for_all_others() {
    let place = Place::new();
    place.data(10);
    head_only(&place);
    let train = "train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8 \
                 --validation-split 0.3 --seed 7 --exist-ok --out run";
    let commands = [
        ("data check data --labels --model resnet20 --image-size 16 --json", 30),
        (train, 30),
        ("probe resnet20 --image-size 16 --data data --limit 12 --json", 18),
        (&format!("evaluate {MODEL} --data data --test-split 0.2 --split all --json"), 30),
        (&format!("similar {MODEL} data/red/003.png --data data --json"), 30),
    ];
    let without: Vec<String> = commands
        .iter()
        .map(|(line, _)| place.run(&format!("{line} --no-cache")).ok().out)
        .collect();
    let head = last(&place, "run");
    assert!(place.kept().is_empty());
    for (first, (line, images)) in commands.iter().enumerate() {
        let done = place.run(line).ok();
        assert_eq!((read(&done.err), place.kept().len()), ((0, 0), 1), "{line}");
        assert_eq!(place.images(), [*images], "{line}");
        for (k, (line, images)) in commands.iter().enumerate() {
            let done = place.run(line).ok();
            assert!(line.starts_with("train") || done.out == without[k], "{line}: {}", done.out);
            let (reused, of) = read(&done.err);
            assert_eq!(of, *images, "{line}: {}", done.err);
            let known = if k == 0 { commands[first].1 } else { of };
            assert_eq!(reused, known, "{line}: {}", done.err);
        }
        assert_eq!((place.images(), place.kept().len()), (vec![30], 1));
        assert!(last(&place, "run") == head);
        place.run("cache clear").ok();
    }
    // The same photos in another folder, under other names and in other classes.
    place.run(train).ok();
    for (i, name) in support::list(&place.path("data/red")).iter().enumerate() {
        let class = if i < 5 { "few" } else { "many" };
        fs::create_dir_all(place.path(&format!("moved/{class}"))).unwrap();
        let to = place.path(&format!("moved/{class}/photo {i}.png"));
        fs::copy(place.path(&format!("data/red/{name}")), to).unwrap();
    }
    let line = "data check moved --labels --model resnet20 --image-size 16 --folds 2";
    assert_eq!(read(&place.run(line).ok().err), (10, 10));
}

#[test]
fn a_fine_tuned_net_is_evaluated_over_what_training_cached_below_it() {
    let place = Place::new();
    place.data(10);
    // From a block on; and within a group of layers that run as one, where the bits would be others.
    for (precision, from, cut) in
        [("f32", "conv4", true), ("bf16", "conv4", true), ("f32", "conv4_block2_2_bn", false)]
    {
        place.run(&format!(
            "train --data data --model resnet20 --image-size 32 --epochs 0 --batch-size 8 --test-split 0.2 \
             --fine-tune-at {from} --fine-tune-epochs 1 --precision {precision} --out model --exist-ok"
        )).ok();
        let entries = place.kept();
        let line = format!(
            "evaluate {MODEL} --data data --test-split 0.2 --split all --json --precision {precision}"
        );
        let plain = place.run(&format!("{line} --no-cache")).ok();
        let first = place.run(&line).ok();
        assert!(plain.out == first.out, "{from} {precision}: {}", first.out);
        assert_eq!(read(&first.err), if cut { (30, 30) } else { (0, 0) }, "{from}: {}", first.err);
        // Nothing is written where the rest of the net ran over what was there.
        assert_eq!(place.kept().len(), entries.len() + usize::from(!cut));
        let again = place.run(&line).ok();
        assert_eq!((read(&again.err), again.out), ((30, 30), plain.out));
        place.run("cache clear").ok();
    }
    // Images that training did not see go through the whole net, the others through its end.
    place.run("train --data data --model resnet20 --image-size 32 --epochs 0 --batch-size 8 --fine-tune-at conv4 \
               --fine-tune-epochs 1 --out model --exist-ok").ok();
    for i in 0..4 {
        place.image(&format!("data/blue/new{i}.png"), 16, [9, 40, 90], i + 70);
    }
    let line = format!("evaluate {MODEL} --data data --json --calibrate --validation-split 0.5");
    let path = place.path(MODEL);
    let (model, mut outs) = (fs::read(&path).unwrap(), Vec::new());
    for flag in ["--no-cache", "", ""] {
        fs::write(&path, &model).unwrap();
        let done = place.run(&format!("{line} {flag}")).ok();
        outs.push((done.out, fs::read(&path).unwrap()));
    }
    assert!(outs.iter().all(|out| *out == outs[0]));
}

#[test]
fn a_page_is_made_again_over_cached_features() {
    let place = Place::new();
    place.data(10);
    place
        .run("train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8 --test-split 0.2 --out run")
        .ok();
    let page = |flags: &str| {
        let done = place.run(&format!("report run {flags}")).ok();
        (read(&done.err), fs::read_to_string(place.path("run/report.html")).unwrap())
    };
    let without = page("--no-cache");
    assert_eq!(without.0, (0, 0));
    assert_eq!(page(""), ((6, 6), without.1.clone()));
    place.run("cache clear").ok();
    // It fills the cache, too.
    assert_eq!(page(""), ((0, 0), without.1));
    assert_eq!(place.images(), [6]);
}

#[test]
fn a_cache_that_cannot_be_written_is_read_and_the_command_goes_on() {
    let place = Place::new();
    place.data(10);
    head_only(&place);
    let evaluate = format!("evaluate {MODEL} --data data --split all --json");
    let plain = place.run(&format!("{evaluate} --no-cache")).ok().out;
    place.run("probe resnet20 --image-size 16 --data data --limit 12").ok();
    let before = place.images();
    // No lock can be had: a file is where the folder of locks would be.
    let locks = place.kept()[0].parent().unwrap().join(".locks");
    fs::remove_dir_all(&locks).unwrap();
    fs::write(&locks, "").unwrap();
    let done = place.run(&evaluate).ok();
    assert_eq!((done.out, read(&done.err)), (plain.clone(), (18, 30)), "{}", done.err);
    assert!(done.err.contains("none are added"), "{}", done.err);
    let train = "train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8";
    place.run(&format!("{train} --no-cache --out plain")).ok();
    for (flag, run) in [("", "memory"), ("--cache-memory 0", "disk")] {
        let done = place.run(&format!("{train} {flag} --out {run}")).ok();
        assert!(read(&done.err).0 > 0, "{}", done.err);
        assert!(last(&place, "plain") == last(&place, run), "{run}");
    }
    assert_eq!(place.images(), before);
    fs::remove_file(&locks).unwrap();
    assert_eq!(read(&place.run(&evaluate).ok().err), (18, 30));
    assert_eq!(place.images(), [30]);
}

/// A process that ends with the test, however the test ends.
#[cfg(unix)]
struct Running(std::process::Child);

#[cfg(unix)]
impl Running {
    fn start(place: &Place, line: &str) -> Running {
        let mut command = place.command(line);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_list_is_right_while_an_entry_is_built_and_after_its_builder_was_killed() {
    let place = Place::new();
    place.data(40);
    let line = "probe resnet20 --image-size 128 --threads 1 --data data --json";
    let plain = place.run(&format!("{line} --no-cache")).ok().out;
    let list = || place.run("cache list --json").ok();
    for _ in 0..2 {
        let child = Running::start(&place, line);
        let start = Instant::now();
        // A header, and what says of one row where it is.
        let begun = |e: &PathBuf| fs::metadata(e.join("index")).is_ok_and(|f| f.len() >= 64 + 40);
        while !place.kept().iter().any(begun) {
            assert!(start.elapsed() < Duration::from_secs(60), "nothing is written");
            std::thread::sleep(Duration::from_millis(1));
        }
        let stop = ["-STOP", &child.0.id().to_string()];
        assert!(std::process::Command::new("kill").args(stop).status().unwrap().success());
        let json = list().json();
        let images = json["images"].as_u64().unwrap();
        assert!((1..96).contains(&images), "{json}");
        assert_eq!((&json["building"], &json["model"]), (&96.into(), &"resnet20".into()));
        let text = place.run("cache list").ok();
        let expected = format!("resnet20 avg_pool: being built, {images} of 96 images, data now");
        assert!(text.out.contains(&expected), "{}", text.out);
        place.run("cache clear").fails(1, &["1 in use by a run"]);
        drop(child);
        let json = list().json();
        assert_eq!(
            (json["images"].as_u64(), &json["building"]),
            (Some(images), &().into()),
            "{json}"
        );
        let done = place.run(line).ok();
        assert_eq!(done.out, plain);
        assert_eq!(read(&done.err).0, images, "{}", done.err);
        assert_eq!(list().json()["images"], 120);
        place.run("cache clear").ok();
    }
    // Killed at any time, from before there is an entry to after all is done.
    for moment in 0..12 {
        let child = Running::start(&place, line);
        std::thread::sleep(Duration::from_millis(40 * moment));
        drop(child);
        list();
    }
    assert_eq!(place.run(line).ok().out, plain);
    assert_eq!(list().json()["images"], 120);
}
