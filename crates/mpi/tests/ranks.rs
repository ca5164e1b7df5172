//! Several processes under every MPI launcher of this machine.

#[path = "../../headstart/tests/suite/support/skip.rs"]
mod skip;
#[path = "support/launchers.rs"]
mod support;

use std::env;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use headstart::collective::{Alone, Collective, own_replicas};
use headstart_mpi::{Left, World};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Launcher, launchers};

/// Says what a process that the test started does.
const PROGRAM: &str = "HEADSTART_TEST_PROGRAM";

fn main() {
    if let Ok(program) = env::var(PROGRAM) {
        return rank(&program);
    }
    let arguments = Arguments::from_args();
    let launchers = launchers();
    if launchers.is_empty() && !arguments.list {
        skip::skipped("MPI: there is no mpirun here");
    }
    let mut trials = Vec::new();
    for launcher in launchers {
        for (name, test) in TESTS {
            let launcher = launcher.clone();
            let title = format!("{} {name}", launcher.path.display());
            trials.push(Trial::test(title, move || {
                test(&launcher);
                Ok::<(), Failed>(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

type Test = (&'static str, fn(&Launcher));

const TESTS: [Test; 6] = [
    ("sums are those of one process, bit for bit", sums),
    ("what processes gather is in rank order", gathers),
    ("processes that do not do the same are told", differs),
    ("who waits for one that is gone can give up", gone),
    ("a library that is not the launcher's is named", wrong_library),
    ("a library that is not there is named", no_library),
];

/// Vectors of replicas, whose sum depends on its order.
fn replicas(count: usize, length: usize) -> Vec<Vec<f32>> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let exponent = (state >> 8 & 15) as i32 - 8;
        (state as f32 / u32::MAX as f32 - 0.5) * 2f32.powi(exponent)
    };
    let mut all: Vec<Vec<f32>> =
        (0..count).map(|_| (0..length).map(|_| next()).collect()).collect();
    // A sum of these is -0 unless it begins with 0.
    all.iter_mut().filter(|v| !v.is_empty()).for_each(|v| v[0] = -0.0);
    all
}

fn bits(values: &[f32]) -> u64 {
    let mix = |sum: u64, v: &f32| (sum ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3);
    values.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

const CASES: [(usize, usize); 6] = [(1, 5), (2, 1), (3, 7), (4, 1000), (7, 4096), (8, 100_003)];

/// A process of a test.
fn rank(program: &str) {
    let world = match World::of_environment() {
        Ok(Some(world)) => world,
        Ok(None) => return println!("alone"),
        Err(error) => {
            println!("error: {error}; {}", error.hint().unwrap_or_default());
            std::process::exit(3);
        }
    };
    let mut group = world.collective();
    match program {
        "sums" => {
            let shares = world.about().contains("shared memory");
            println!("rank {} shares memory: {shares}", world.rank());
            // The last in pieces, and all in pieces of a kilobyte.
            for limit in [1 << 30, 1 << 16, 1 << 10] {
                world.limit_messages(limit);
                for (count, length) in CASES.into_iter().take(if limit > 1 << 10 { 6 } else { 4 }) {
                    let all = replicas(count, length);
                    let own = own_replicas(count, &*group);
                    let own: Vec<&[f32]> = all[own].iter().map(|v| &v[..]).collect();
                    let mut sum = vec![9.0; length];
                    group.all_reduce(&own, &mut sum).unwrap();
                    let sum = bits(&sum);
                    println!("rank {} sums {count}x{length} cut {limit}: {sum:x}", world.rank());
                }
            }
        }
        "gathers" => {
            for limit in [1 << 30, 64] {
                world.limit_messages(limit);
                let own = vec![world.rank() as u8 + 1; 100 * world.rank()];
                let all = group.gather(&own).unwrap();
                group.barrier().unwrap();
                let counts: Vec<String> = all.iter().map(|v| v.len().to_string()).collect();
                let good = all.iter().enumerate().all(|(r, v)| v.iter().all(|&b| b == r as u8 + 1));
                println!("rank {} {} {good}", world.rank(), counts.join(","));
            }
        }
        "differs" => {
            let mut sum = vec![0.0; 4 + world.rank()];
            let own = vec![1.0; 4 + world.rank()];
            let error = group.all_reduce(&[&own], &mut sum).unwrap_err();
            let again = group.barrier().unwrap_err();
            println!("rank {} {error} | {again}", world.rank());
        }
        "gone" | "gone from a sum" => {
            if world.rank() == 1 {
                std::thread::sleep(Duration::from_secs(3));
            } else {
                world.give_up_when(|| true);
                let error = match program {
                    "gone" => group.barrier().unwrap_err(),
                    _ => group.all_reduce(&[&[1.0]], &mut [0.0]).unwrap_err(),
                };
                println!("rank {} {error}", world.rank());
                let left = world.leave("I gave up", Some(Duration::from_millis(100)));
                assert_eq!(left, Left::Alone);
            }
            return world.abort(7);
        }
        other => panic!("no program {other}"),
    }
    let rank = world.rank();
    let left = world.leave(&format!("end of {rank}"), None);
    let expected = (0..world.size()).map(|rank| format!("end of {rank}")).collect();
    assert_eq!(left, Left::Together(expected));
    world.finalize();
}

fn command(launcher: &Launcher, ranks: usize, program: &str) -> Command {
    let mut command = launcher.command(ranks);
    command.arg(env::current_exe().unwrap()).env(PROGRAM, program);
    command
}

fn run(
    launcher: &Launcher,
    ranks: usize,
    program: &str,
    library: Option<&str>,
) -> (Output, Vec<String>) {
    let mut command = command(launcher, ranks, program);
    if let Some(library) = library {
        command.env("HEADSTART_MPI", library);
    }
    lines(&mut command)
}

/// What came of it, and its lines in order.
fn lines(command: &mut Command) -> (Output, Vec<String>) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    lines.sort();
    (output, lines)
}

fn sums(launcher: &Launcher) {
    // In memory that they share, and with messages.
    for (ranks, memory) in [(2, ""), (3, ""), (4, ""), (2, "off"), (3, "off"), (4, "off")] {
        let mut command = command(launcher, ranks, "sums");
        let (output, lines) = lines(command.env("HEADSTART_SHARED_MEMORY", memory));
        assert!(output.status.success(), "{output:?}");
        let shared = lines.iter().filter(|line| line.ends_with("shares memory: true")).count();
        let expected = if cfg!(target_os = "linux") && memory != "off" { ranks } else { 0 };
        assert_eq!(shared, expected, "{lines:?}");
        assert_eq!(lines.len(), ranks * 17, "{lines:?}");
        for (count, length) in CASES {
            let all = replicas(count, length);
            let mut sum = vec![0.0; length];
            let all: Vec<&[f32]> = all.iter().map(|v| &v[..]).collect();
            Alone.all_reduce(&all, &mut sum).unwrap();
            assert!(sum[0] == 0.0 && sum[0].is_sign_negative());
            let end = format!(" {:x}", bits(&sum));
            let own = format!(" {count}x{length} ");
            let found: Vec<_> = lines.iter().filter(|line| line.contains(&own)).collect();
            assert!(found.len() >= 2 * ranks, "{found:?}");
            assert!(found.iter().all(|line| line.ends_with(&end)), "{end}: {found:?}");
        }
    }
    let (_, lines) = run(launcher, 1, "sums", None);
    assert_eq!(lines, ["alone"]);
}

fn gathers(launcher: &Launcher) {
    let (output, lines) = run(launcher, 3, "gathers", None);
    let expected = [0, 0, 1, 1, 2, 2].map(|rank| format!("rank {rank} 0,100,200 true"));
    assert_eq!(lines, expected, "{output:?}");
}

fn differs(launcher: &Launcher) {
    let (output, lines) = run(launcher, 2, "differs", None);
    assert_eq!(lines.len(), 2, "{output:?}");
    for line in lines {
        assert!(
            line.contains("do not do the same") && line.contains("| other processes"),
            "{line}"
        );
    }
}

fn gone(launcher: &Launcher) {
    for program in ["gone", "gone from a sum"] {
        let start = Instant::now();
        let (output, lines) = run(launcher, 2, program, None);
        assert!(!output.status.success());
        assert!(lines.iter().any(|line| line.contains("told to end")), "{output:?}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

fn wrong_library(launcher: &Launcher) {
    let others = match launcher.is_open_mpi {
        true => ["libmpich.so.12", "libmpi.so.12"],
        false => ["libmpi.so.40", "libmpi.so.40"],
    };
    for other in others {
        let (output, lines) = run(launcher, 2, "gathers", Some(other));
        if lines.iter().any(|line| line.contains("none of")) {
            continue;
        }
        // The launcher may end the other before it speaks.
        assert!(!lines.is_empty(), "{output:?}");
        for line in lines {
            let all = ["2 processes", "1: it is not the library", "HEADSTART_MPI", other];
            assert!(all.iter().all(|part| line.contains(part)), "{line}");
        }
        return;
    }
    skip::skipped("MPI: only one MPI library is here");
}

fn no_library(launcher: &Launcher) {
    let (output, lines) = run(launcher, 2, "gathers", Some("/nowhere/libmpi.so"));
    assert!(!lines.is_empty(), "{output:?}");
    for line in lines {
        let all = ["none of /nowhere/libmpi.so", "is set", "HEADSTART_MPI=off"];
        assert!(all.iter().all(|part| line.contains(part)), "{line}");
    }
}
