//! What a person at a terminal sees, and a program that reads the output does not.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};

use crate::support::{Done, Place, TRAIN};

/// The byte every control sequence of a terminal begins with.
const ESCAPE: char = '\u{1b}';

/// Runs a command whose messages, and with `all` its results too, go to a terminal of 80 columns.
fn on_terminal(mut command: Command, all: bool) -> Done {
    let size = Winsize { ws_row: 30, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(Some(&size), None).unwrap();
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdin(Stdio::null());
    match all {
        true => command.stdout(pair.slave.try_clone().unwrap()),
        false => command.stdout(Stdio::piped()),
    };
    command.stderr(pair.slave);
    let mut child = command.spawn().unwrap();
    // The command holds the last ends of the terminal and of the pipe, so that they end with it.
    drop(command);
    let out = child.stdout.take().map(|mut out| {
        std::thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        })
    });
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let mut terminal = File::from(pair.master);
    // Linux says EIO where nobody holds the other end any more.
    while let Ok(count @ 1..) = terminal.read(&mut part) {
        bytes.extend_from_slice(&part[..count]);
    }
    let code = child.wait().unwrap().code();
    let out = out.map_or(String::new(), |thread| thread.join().unwrap());
    Done { code, out, err: String::from_utf8_lossy(&bytes).into_owned() }
}

/// The titles of the bars that were drawn with an estimate of the time that is left.
fn bars(text: &str) -> Vec<&str> {
    let drawn = text.split(['\r', '\n', ESCAPE]).filter(|part| part.contains("  ETA "));
    let mut titles: Vec<&str> = drawn.filter_map(|part| part.split(" [").next()).collect();
    titles.dedup();
    titles
}

/// Long steps of each command, by what their bars begin with.
const STEPS: [(&str, &[&str]); 11] = [
    (
        "{train} --epochs 2 --no-cache --exist-ok --fine-tune-at 12 --fine-tune-epochs 1",
        &["frozen layers, train", "epoch 1/3", "epoch 3/3", "evaluating, test"],
    ),
    (
        "{train} --epochs 1 --exist-ok --head-solver lbfgs --fine-tune-at 12 --fine-tune-epochs 0",
        &["L-BFGS, L2", "evaluating, test"],
    ),
    ("evaluate run/weights/last.safetensors --data data --no-cache", &["evaluating, "]),
    ("predict run/weights/last.safetensors data --output answers.csv", &["predicting"]),
    ("data check data", &["checking images"]),
    ("report run --no-cache", &["evaluating, test", "maps of where the model looks"]),
    (
        "data check data --labels --model resnet20 --image-size 16 --no-cache",
        &["frozen layers, train", "cross-validating, heads"],
    ),
    ("lr-find --data data --model resnet20 --weights none --image-size 16", &["range test"]),
    (
        "similar run/weights/last.safetensors data/red/000.png --data data --no-cache",
        &["features, "],
    ),
    ("probe run/weights/last.safetensors --data data --no-cache", &["stages, "]),
    (
        "export run/weights/last.safetensors --format onnx --int8 --data data --out int8.onnx",
        &["calibrating", "int8, "],
    ),
];

#[test]
fn every_long_step_has_a_bar_with_an_estimate_on_a_terminal_and_none_elsewhere() {
    let place = Place::new();
    place.data(40);
    for (line, titles) in STEPS {
        let line = line.replace("{train}", &TRAIN.replace("--epochs 2", ""));
        let done = on_terminal(place.command(&line), false).ok();
        let found = bars(&done.err);
        for title in titles {
            let drawn = found.iter().any(|bar| bar.contains(title));
            assert!(drawn, "{line}: no bar {title:?} among {found:?}: {}", done.err);
        }
        assert!(!done.out.contains([ESCAPE, '\r']), "{line}: {}", done.out);
        let done = place.run(&line).ok();
        for text in [&done.out, &done.err] {
            assert!(!text.contains([ESCAPE, '\r']) && bars(text).is_empty(), "{line}: {text}");
        }
    }
}

#[test]
fn colour_is_for_terminals() {
    let place = Place::new();
    for line in ["--help", "train --help", "train --help-all", "evaluate --help"] {
        let done = on_terminal(place.command(line), true).ok();
        assert!(done.err.contains(ESCAPE), "{line}: {}", done.err);
        let mut plain = place.command(line);
        plain.env("NO_COLOR", "1");
        assert!(!place.run(line).ok().out.contains(ESCAPE));
    }
    let wrong = on_terminal(place.command("train --no-such-flag"), true);
    assert!(wrong.code == Some(2) && wrong.err.contains(ESCAPE), "{}", wrong.err);
    let piped = place.run("train --no-such-flag");
    assert!(piped.code == Some(2) && !piped.err.contains(ESCAPE), "{}", piped.err);
}
