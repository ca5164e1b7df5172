//! Training over several processes under every MPI launcher of this machine: the bits of one process, whatever happens.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::launchers::{Launcher, launchers};
use crate::support::{Done, Place, TRAIN, skip, tensors};

/// Runs `test` under each launcher.
fn each(test: impl Fn(&Launcher)) {
    let all = launchers();
    if all.is_empty() {
        skip::skipped("training over several processes: there is no mpirun here");
    }
    all.iter().for_each(test);
}

/// The command `lines`, one for each group of processes, in `place`.
fn command(place: &Place, launcher: &Launcher, lines: &[(usize, &str)]) -> Command {
    let own = place.command("");
    let mut command = launcher.command(lines[0].0);
    for (i, (ranks, line)) in lines.iter().enumerate() {
        if i > 0 {
            command.args([":", "-n", &ranks.to_string()]);
        }
        command.arg(own.get_program()).args(line.split_whitespace());
    }
    command.current_dir(own.get_current_dir().unwrap());
    for (name, value) in own.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command
}

fn run(place: &Place, launcher: &Launcher, ranks: usize, line: &str) -> Done {
    command(place, launcher, &[(ranks, line)]).output().unwrap().into()
}

/// Two phases with all that has a state.
fn line(out: &str) -> String {
    let flags = "--replicas 4 --threads 1 --fine-tune-at 12 --fine-tune-epochs 2 --optimizer adam --schedule plateau \
                 --monitor loss --patience 3 --ema 0.8 --augment flip,jitter --balance --dropout 0.2 \
                 --accumulate 2 --mixup 0.4 --clip-norm 1 --save-every 0";
    TRAIN.replace("--out run", &format!("{flags} --out {out}"))
}

/// Fails unless two runs have the same weights, records and report.
#[track_caller]
fn same(place: &Place, one: &str, other: &str) {
    for file in ["last", "best"] {
        let weights =
            |run: &str| tensors(&place.path(run).join(format!("weights/{file}.safetensors")));
        assert!(weights(one) == weights(other), "{file} of {one} and {other}");
    }
    let results = |run: &str| -> Vec<String> {
        let text = fs::read_to_string(place.path(run).join("results.csv")).unwrap();
        let columns = |l: &str| {
            let fields: Vec<&str> = l.split(',').collect();
            // Without what time decides.
            [&fields[..2], &fields[4..]].concat().join(",")
        };
        text.lines().map(columns).collect()
    };
    assert_eq!(results(one), results(other));
    let report = |run: &str| fs::read_to_string(place.path(run).join("report.json")).unwrap();
    assert_eq!(report(one), report(other));
}

#[test]
fn one_two_and_four_processes_leave_the_same_run() {
    each(|launcher| {
        let place = Place::new();
        place.data(10);
        place.run(&line("plain")).ok();
        for (ranks, memory) in [(1, ""), (2, ""), (4, ""), (2, "off")] {
            let out = format!("by{ranks}{memory}");
            let line = line(&out);
            let mut command = command(&place, launcher, &[(ranks, &line)]);
            command.env("HEADSTART_SHARED_MEMORY", memory);
            let done = Done::from(command.output().unwrap()).ok();
            same(&place, "plain", &out);
            let shared = done.err.contains("sums in shared memory");
            assert_eq!(shared, cfg!(target_os = "linux") && ranks > 1 && memory != "off");
            let said = format!("{ranks} processes, joined by");
            assert_eq!(done.err.contains(&said), ranks > 1, "{}", done.err);
            // Only one process speaks.
            assert_eq!(done.err.matches("run folder:").count(), 1, "{}", done.err);
            assert_eq!(done.out.matches("run folder:").count(), 1, "{}", done.out);
        }
    });
}

#[test]
fn kept_features_and_a_fitted_head_are_the_same_in_either_precision() {
    each(|launcher| {
        let place = Place::new();
        for precision in ["f32", "bf16"] {
            let line = |out: &str, flags: &str| {
                format!(
                    "train --data sample --limit 150 --threads 1 --replicas 2 --precision {precision} \
                     --head-solver lbfgs --head-mirror --fine-tune-at conv4_block3_1_conv --fine-tune-epochs 1 \
                     --out {out} {flags}"
                )
            };
            let plain = format!("plain-{precision}");
            place.run(&line(&plain, "--no-cache")).ok();
            for (name, flags) in [
                ("memory", "--no-cache"),
                ("disk", "--cache-memory 0"),
                ("again", "--cache-memory 0"),
                ("nowhere", "--no-cache --cache-memory 0"),
            ] {
                let out = format!("{name}-{precision}");
                run(&place, launcher, 2, &line(&out, flags)).ok();
                same(&place, &plain, &out);
            }
            // What the processes computed serves one alone, with all its images.
            let done = place.run(&line(&format!("after-{precision}"), "")).ok();
            assert!(done.err.contains("are kept from before"), "{}", done.err);
            same(&place, &plain, &format!("after-{precision}"));
        }
    });
}

#[test]
fn the_number_of_replicas_is_that_of_the_processes_unless_it_is_chosen() {
    each(|launcher| {
        let place = Place::new();
        place.data(6);
        let done = run(&place, launcher, 2, TRAIN).ok();
        assert!(done.err.contains("2 replicas of a batch of 8"), "{}", done.err);
        let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
        assert!(config.contains("replicas = 2"), "{config}");
        let one = TRAIN.replace("--out run", "--out one --replicas 1");
        let done = run(&place, launcher, 2, &one).ok();
        assert!(done.err.contains("every process makes every step"), "{}", done.err);
        place.run(&one.replace("--out one", "--out plain")).ok();
        same(&place, "plain", "one");
    });
}

#[test]
fn what_differs_is_found_before_the_first_step_and_named() {
    each(|launcher| {
        let place = Place::new();
        place.data(6);
        place.run(&TRAIN.replace("--out run", "--out first")).ok();
        fs::create_dir(place.path("other")).unwrap();
        for class in ["red", "green", "blue"] {
            fs::create_dir(place.path(&format!("other/{class}"))).unwrap();
            for i in 0..6 {
                let name = format!("{class}/{i:03}.png");
                let (from, to) = (format!("data/{name}"), format!("other/{name}"));
                fs::copy(place.path(&from), place.path(&to)).unwrap();
            }
        }
        let fails = |mine: &str, theirs: &str, parts: &[&str]| {
            let lines = [(1, &*format!("{TRAIN} {mine}")), (1, &*format!("{TRAIN} {theirs}"))];
            let done: Done = command(&place, launcher, &lines).output().unwrap().into();
            assert_ne!(done.code, Some(0));
            for part in parts {
                assert_eq!(done.err.matches(part).count(), 1, "{part}: {}", done.err);
            }
            assert!(!place.path("run").exists());
        };
        fails(
            "--seed 3",
            "--seed 4",
            &["settings of process 1: expected seed = 3, found seed = 4"],
        );
        // The same images in another folder are the same data.
        let other = TRAIN.replace("--data data", "--data other").replace("--out run", "--out twin");
        let mine = other.replace("--data other", "--data data");
        let lines = [(1, &*mine), (1, &*other)];
        Done::from(command(&place, launcher, &lines).output().unwrap()).ok();
        place.image("other/red/003.png", 16, [9, 9, 9], 7);
        let lines = [(1, TRAIN), (1, &*other.replace("--out twin", "--out run"))];
        let done: Done = command(&place, launcher, &lines).output().unwrap().into();
        assert_ne!(done.code, Some(0));
        let error = "images of process 1: expected the images of process 0, found other";
        assert_eq!(done.err.matches(error).count(), 1, "{}", done.err);
        assert!(!place.path("run").exists());
        // A file of the same name with other weights, in the folder of process 1.
        let file = "first/weights/best.safetensors";
        fs::create_dir_all(place.path("there/first/weights")).unwrap();
        let mut weights = fs::read(place.path(file)).unwrap();
        // One bit of every weight but the head's, which is new in either case.
        let start = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        weights[start..].iter_mut().skip(2).step_by(4).for_each(|byte| *byte ^= 1);
        fs::write(place.path("there").join(file), weights).unwrap();
        let data = place.path("data").display().to_string();
        let there = place.path("there").display().to_string();
        let line = TRAIN.replace("--weights none", &format!("--weights {file}"));
        let line = line.replace("--data data", &format!("--data {data}"));
        let own = place.command("").get_program().to_string_lossy().into_owned();
        let mut both = command(&place, launcher, &[(1, &line)]);
        both.args([":", "-n", "1", "env", "-C", &there, &own]).args(line.split_whitespace());
        let done: Done = both.output().unwrap().into();
        assert_ne!(done.code, Some(0));
        let error = "weights of process 1: expected the weights of process 0, found others";
        assert_eq!(done.err.matches(error).count(), 1, "{}", done.err);
    });
}

/// A run that is under way: past its first epoch.
struct Running(Child, BufReader<ChildStderr>);

fn start(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut all) = (String::new(), String::new());
    while !line.starts_with("epoch 1/") {
        line.clear();
        assert!(err.read_line(&mut line).unwrap() > 0, "no epoch was done: {all}");
        all.push_str(&line);
    }
    Running(child, err)
}

impl Running {
    fn end(mut self) -> Done {
        let mut text = String::new();
        self.1.read_to_string(&mut text).unwrap();
        Done { code: self.0.wait().unwrap().code(), out: String::new(), err: text }
    }
}

/// The process of `place` with this number.
fn process(place: &Place, rank: usize) -> u32 {
    let cache = place
        .command("")
        .get_envs()
        .find_map(|(n, v)| (n == "HEADSTART_CACHE").then_some(v?.to_owned()));
    let cache = format!("HEADSTART_CACHE={}", cache.unwrap().display());
    let ranks = [format!("OMPI_COMM_WORLD_RANK={rank}"), format!("PMI_RANK={rank}")];
    let all = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let own = |id: &u32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        let words: Vec<&str> = text.split('\0').collect();
        words.contains(&&*cache) && ranks.iter().any(|rank| words.contains(&&**rank))
    };
    all.filter_map(|name| name.parse().ok()).find(own).expect("a process of that number")
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_that_is_killed_ends_all_and_any_number_goes_on() {
    each(|launcher| {
        let place = Place::new();
        place.data(10);
        let long = |out: &str| {
            line(out).replace("--epochs 2", "--epochs 16").replace("--patience 3", "--patience 30")
        };
        place.run(&long("plain")).ok();
        for (killed, others) in [(1, 2), (0, 4), (2, 1)] {
            let out = format!("killed{killed}");
            let running = start(command(&place, launcher, &[(3, &long(&out))]));
            let id = process(&place, killed).to_string();
            assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
            let begun = Instant::now();
            let done = running.end();
            assert_ne!(done.code, Some(0), "{}", done.err);
            assert!(begun.elapsed() < Duration::from_secs(30));
            assert!(!place.path(&out).join("report.json").exists());
            let done = run(&place, launcher, others, &format!("train --resume {out}")).ok();
            assert!(done.err.contains("resumed: the run goes on"), "{}", done.err);
            same(&place, "plain", &out);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_to_one_process_stops_all_at_a_step_that_is_saved() {
    each(|launcher| {
        let place = Place::new();
        place.data(10);
        let long = |out: &str| {
            line(out).replace("--epochs 2", "--epochs 16").replace("--patience 3", "--patience 30")
        };
        place.run(&long("plain")).ok();
        let running = start(command(&place, launcher, &[(2, &long("run"))]));
        let id = process(&place, 1).to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let done = running.end();
        assert_ne!(done.code, Some(0));
        assert_eq!(
            done.err.matches("interrupted: the weights are saved").count(),
            1,
            "{}",
            done.err
        );
        place.run("train --resume run").ok();
        same(&place, "plain", "run");
    });
}

#[test]
fn other_commands_are_run_once() {
    each(|launcher| {
        let place = Place::new();
        let done = run(&place, launcher, 2, "summary resnet20").ok();
        let alone = place.run("summary resnet20").ok();
        assert_eq!(done.out, alone.out);
        assert!(done.err.contains("one of 2 processes does this alone"), "{}", done.err);
        // An error of all is said once.
        let done = run(&place, launcher, 2, "train --data nowhere");
        assert_ne!(done.code, Some(0));
        assert_eq!(done.err.matches("error:").count(), 1, "{}", done.err);
    });
}
