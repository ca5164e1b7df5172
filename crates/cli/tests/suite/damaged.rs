//! Runs whose records are damaged, whose weights diverge, and that have too little memory or odd surroundings.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Done, Place, TRAIN, list, skip};

#[test]
fn records_that_are_damaged_are_named_with_their_line() {
    let place = Place::new();
    place.data(5);
    place.run(TRAIN).ok();
    let path = place.path("run/results.csv");
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let wide = format!("{}\n{}1\n", lines[0], "1,".repeat(1_000_000));
    let nan = good.replacen(lines[1].split(',').nth(4).unwrap(), "NaN", 1);
    for (bytes, part) in [
        (b"\x89PNG\r\n\x1a\n\0\0\xff\xfe".to_vec(), "line 1"),
        (b"loss,epoch\n1,2\n".to_vec(), "line 1"),
        (nan.into_bytes(), "line 2: a value of NaN"),
        (format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1]).into_bytes(), "line 2: epoch 2"),
        (format!("{}\n{}\n{}\n", lines[0], lines[1], lines[1]).into_bytes(), "line 3: epoch 1"),
        (wide.into_bytes(), "line 2: 1000001 columns"),
        (Vec::new(), "line 1"),
    ] {
        fs::write(&path, bytes).unwrap();
        for command in ["compare run run", "plot run", "report run"] {
            let done = place.run(command);
            assert!(done.err.len() < 1000, "{}", done.err);
            done.fails(1, &["run/results.csv", "expected rows of epoch,phase,seconds", part]);
        }
    }
    // As after a kill while the last line was written.
    fs::write(&path, &good[..good.len() - 3]).unwrap();
    for command in ["compare run run --json", "plot run", "report run"] {
        let done = place.run(command).ok();
        assert!(done.err.contains("results.csv: line 3 is cut short and left out"), "{}", done.err);
        if command.starts_with("compare") {
            assert_eq!(done.json()["runs"][0]["epochs"], 1);
        }
    }
}

/// The values of all tensors of a safetensors file of 32-bit floats.
fn values(path: &Path) -> Vec<f32> {
    let bytes = crate::support::tensors(path);
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn a_run_that_diverges_saves_nothing_that_is_no_number() {
    let slow = "--optimizer sgd --learning-rate 1e38";
    let tuned = "--fine-tune-at 0 --fine-tune-epochs 50 --fine-tune-learning-rate 1e38";
    // Without validation images, nothing but the weights says that the first epoch's one step was too long.
    let alone = "--validation-split 0 --test-split 0 --batch-size 100";
    for (flags, hint) in [
        (format!("{slow} {alone} --save-every 0"), "--learning-rate"),
        (format!("{slow} --save-every 0"), "--learning-rate"),
        (format!("{slow} {alone} --ema 0.9"), "--learning-rate"),
        (format!("{slow} {alone} --precision bf16"), "--learning-rate"),
        (format!("{tuned} --save-every 0"), "--fine-tune-learning-rate"),
        (format!("{tuned} {alone}"), "--fine-tune-learning-rate"),
        (format!("{tuned} {alone} --ema 0.5"), "--fine-tune-learning-rate"),
        (format!("{tuned} --precision bf16 --patience 3"), "--fine-tune-learning-rate"),
        (format!("--head-solver lbfgs {tuned}"), "--fine-tune-learning-rate"),
    ] {
        let place = Place::new();
        place.data(8);
        let mut line = TRAIN.to_string();
        for (flag, own) in
            [("--test-split 0.2", "--test-split"), ("--batch-size 8", "--batch-size")]
        {
            if flags.contains(own) {
                line = line.replace(flag, "");
            }
        }
        if flags.contains("lbfgs") {
            line = line.replace("--epochs 2", "");
        }
        let done = place.run(&format!("{line} {flags}"));
        let epochs = |place: &Place| {
            let text = fs::read_to_string(place.path("run/results.csv")).unwrap_or_default();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{flags}: {text}");
            text.lines().count().saturating_sub(1)
        };
        let before = epochs(&place);
        let named = if before > 0 { "weights/best.safetensors" } else { "no epoch" };
        assert!(done.code == Some(1), "{flags}: {}", done.err);
        done.fails(1, &["(", hint, named]);
        // Resumed, it comes to the same end.
        place.run("train --resume run").fails(1, &[hint]);
        assert_eq!(epochs(&place), before, "{flags}");
        let files = list(&place.path("run/weights"));
        assert_eq!(files.contains(&"best.safetensors".to_string()), before > 0, "{flags}");
        for file in files {
            let values = values(&place.path("run/weights").join(&file));
            assert!(values.iter().all(|v| v.is_finite()), "{flags}: {file}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error_in_words() {
    let place = Place::new();
    let (mut ended, mut trained) = (0, 0);
    for mb in [48, 52, 56, 60, 80, 90, 100, 110, 120, 150, 250] {
        let plain = place.command(&format!(
            "train --epochs 1 --fine-tune-epochs 0 --limit 100 --no-cache --threads 2 --out r{mb}"
        ));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -c 0; ulimit -v {}; exec \"$0\" \"$@\"", mb * 1000)]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.current_dir(plain.get_current_dir().unwrap());
        let done: Done = command.output().unwrap().into();
        match done.code {
            Some(0) => trained += 1,
            // The system cannot even load the program.
            Some(127) => {}
            _ if !done.err.contains("error") && done.err.contains("error while loading") => {}
            _ => {
                ended += 1;
                let text = done.err.to_lowercase();
                assert!(text.contains("memory") && text.contains("error: "), "{mb}: {text}");
                done.fails(1, &["hint: "]);
            }
        }
    }
    println!("{ended} ended for lack of memory, {trained} did not");
    if ended == 0 {
        skip::skipped("no limit on memory was short of what a run takes");
    }
}

#[test]
fn variables_that_are_empty_count_as_unset() {
    let place = Place::new();
    place.data(3);
    let names = "HEADSTART_ISA HEADSTART_MIRROR HEADSTART_TIMEOUT HEADSTART_ATTEMPTS SSL_CERT_FILE KERAS_HOME \
                 TORCH_HOME ALL_PROXY HTTPS_PROXY HTTP_PROXY NO_PROXY NO_COLOR RAYON_NUM_THREADS";
    for line in ["doctor", "data check data", "bench --model resnet20 --batch-size 2 --repeat 1"] {
        let mut command = place.command(line);
        names.split_whitespace().for_each(|name| {
            command.env(name, "");
        });
        Done::from(command.output().unwrap()).ok();
    }
    // The folder of the cache is then the system's.
    let mut command = place.command("cache list");
    command.env("HEADSTART_CACHE", "").env("XDG_CACHE_HOME", place.path("cache"));
    let done = Done::from(command.output().unwrap()).ok();
    assert!(done.err.contains("cache/headstart"), "{}", done.err);
}

#[cfg(target_os = "linux")]
#[test]
fn folders_whose_names_are_no_text_are_classes_of_their_own() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    place.image("one.png", 16, [9, 9, 9], 1);
    for (i, name) in [&b"a\x80"[..], b"a\\x80", b"a\\\\x80", b"b"].into_iter().enumerate() {
        let folder = place.path("data").join(OsStr::from_bytes(name));
        if fs::create_dir_all(&folder).is_err() {
            return skip::skipped("this file system has no names that are no text");
        }
        for k in 0..6u32 {
            place.image("one.png", 16, [40 * i as u8, 9, 9], 10 * i as u32 + k);
            fs::rename(place.path("one.png"), folder.join(format!("{k}.png"))).unwrap();
        }
    }
    let found = place.run("data check data --json").ok().json();
    assert_eq!(found["classes"], serde_json::json!(["a\\\\x5Cx80", "a\\x5Cx80", "a\\x80", "b"]));
    let done = place.run(TRAIN).ok();
    assert!(done.err.contains("4 classes"), "{}", done.err);
    assert_eq!(place.run("evaluate run --data data --split all --json").ok().json()["samples"], 24);
}

#[test]
fn progress_whose_reader_goes_away_ends_nothing() {
    let place = Place::new();
    place.data(8);
    let mut child =
        place.command(TRAIN).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // As `2>&1 | head -1`: the pipe is closed after one byte.
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut [0]).unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success() && place.path("run/report.html").exists());
    // Results whose reader goes away are no error either.
    let mut child = place.command("predict run data").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_a_kill_left_goes_and_records_are_not_doubled() {
    let place = Place::new();
    place.data(8);
    let line = format!("{TRAIN} --tensorboard");
    place.run(&line).ok();
    // Evaluations are in TensorBoard's files once, also after a run that is done was resumed.
    let board = || {
        let folder = place.path("run/tensorboard/test");
        let bytes: Vec<u8> =
            list(&folder).iter().flat_map(|f| fs::read(folder.join(f)).unwrap()).collect();
        bytes.windows(15).filter(|w| w == b"evaluation_loss").count()
    };
    let before = board();
    place.run("train --resume run").ok();
    assert!(before > 0 && board() == before, "{before} {}", board());
    // Temporary files of processes that are gone: of the cache, of the run, of an export.
    place.run("probe resnet20 --data data --validation-split 0.5").ok();
    let entry = place.kept()[0].clone();
    fs::write(entry.join(".about.json.123-1"), "x").unwrap();
    place.run("cache clear").ok();
    assert!(!entry.exists());
    fs::write(place.path("run/weights/.last.safetensors.99999999-0"), "x").unwrap();
    fs::write(place.path(".x.weights.h5.99999999-0"), "x").unwrap();
    place.run(&format!("{line} --exist-ok")).ok();
    assert_eq!(list(&place.path("run/weights")).len(), 2);
    place.run("export run --format keras --out x.weights.h5").ok();
    place.holds(&["data", "run", "x.weights.h5"]);
}

#[test]
fn a_run_goes_on_under_other_instructions_only_when_told() {
    let place = Place::new();
    place.data(8);
    place.run(&format!("{TRAIN} --precision f32")).ok();
    let portable = |flags: &str| {
        let mut command = place.command(&format!("train --resume run {flags}"));
        Done::from(command.env("HEADSTART_ISA", "portable").output().unwrap())
    };
    let done = portable("");
    if done.code == Some(0) {
        return skip::skipped("portable instructions are this machine's best");
    }
    done.fails(1, &["portable", "--allow-changes"]);
    portable("--allow-changes").ok();
}
