//! Signals that end a program: training saves, unless it was started with the signal ignored.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Done, Place, TRAIN, skip, trained};

/// Starts training below a shell that runs `before`; returns when an epoch is done.
fn start(
    place: &Place,
    before: &str,
    flags: &str,
) -> (Child, BufReader<std::process::ChildStderr>) {
    let plain = place.command(&format!("{} {flags}", TRAIN.replace("--epochs 2", "")));
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(plain.get_program());
    command.args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
    for (name, value) in plain.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("epoch 1/") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "no epoch was done");
    }
    (child, err)
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
}

fn end((mut child, mut err): (Child, BufReader<std::process::ChildStderr>)) -> Done {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut err, &mut text).unwrap();
    Done { code: child.wait().unwrap().code(), out: String::new(), err: text }
}

/// Whether this process ignores a signal, so that all it starts do.
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[test]
fn each_signal_that_ends_a_program_saves_and_the_run_goes_on() {
    let endless = "--epochs 100000";
    // What a script's shell ignores for what it starts with `&`; SIGTERM always saves.
    for (before, signal) in [
        ("", "INT"),
        ("", "TERM"),
        ("", "HUP"),
        ("trap '' INT QUIT;", "INT"),
        ("trap '' TERM;", "TERM"),
    ] {
        if signal == "HUP" && is_ignored(1) {
            skip::skipped("SIGHUP is ignored here, as below nohup");
            continue;
        }
        let place = Place::new();
        place.data(6);
        let running = start(&place, before, endless);
        send(&running.0, signal);
        end(running).fails(130, &["interrupted: the weights are saved", "train --resume run"]);
        let running = start_again(&place);
        send(&running.0, "TERM");
        end(running).fails(130, &["interrupted: the weights are saved"]);
    }
}

#[test]
fn a_check_of_labels_that_is_interrupted_prints_what_it_knows() {
    let place = Place::new();
    place.data(60);
    place.image("data/red/blank.png", 16, [7, 7, 7], 0);
    let line = "data check data --labels --model resnet20 --weights none --image-size 256 --no-cache --threads 1";
    let mut command = place.command(line);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("checking images") {
        assert!(err.read_line(&mut text).unwrap() > 0, "no image was checked: {text}");
    }
    // Until the net is made and the signal waited for.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    send(&child, "INT");
    let done: Done = child.wait_with_output().unwrap().into();
    std::io::Read::read_to_string(&mut err, &mut text).unwrap();
    assert!(
        done.out.contains("images of one colour") && done.out.contains("181 images"),
        "{}",
        done.out
    );
    assert!(text.contains("interrupted: the labels were not checked"), "{text}");
    assert_eq!(done.code, Some(130));
}

/// Goes on with the run until it says so.
fn start_again(place: &Place) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = place.command("train --resume run");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("the run goes on after") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "it does not go on");
    }
    (child, err)
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for (before, signal) in [("trap '' INT;", "INT"), ("trap '' HUP;", "HUP")] {
        if signal == "INT" && is_ignored(3) {
            skip::skipped("SIGQUIT is ignored here, as below `&` of a script");
            continue;
        }
        let place = Place::new();
        place.data(6);
        let running = start(&place, before, "--epochs 60");
        for _ in 0..3 {
            send(&running.0, signal);
        }
        let done = end(running).ok();
        assert!(done.err.contains("epoch 60/60"), "{}", done.err);
    }
}

#[test]
fn a_signal_ends_what_waits_for_the_reader_of_a_pipe() {
    let place = trained(5, "");
    let pipe = place.path("out.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let place_of = |child: &Child| {
        let wait = std::fs::read_to_string(format!("/proc/{}/wchan", child.id()));
        wait.unwrap_or_default()
    };
    for line in ["predict run data/red --output out.csv", "features run --data data --out out.csv"]
    {
        let mut command = place.command(line);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // It is done with its work when it waits; at worst the signal comes before that, and ends it too.
        for _ in 0..100 {
            if place_of(&child).contains("fifo") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        send(&child, "TERM");
        let mut code = None;
        for _ in 0..200 {
            code = child.try_wait().unwrap().map(|status| status.code());
            if code.is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = child.kill();
        assert_eq!(code, Some(Some(130)), "{line}");
    }
}
