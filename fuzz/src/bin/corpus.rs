//! Runs targets over their examples and over damaged ones, without a nightly compiler:
//!
//!     corpus [TARGET ...] [--runs N] [--seconds N] [--first N] [--finds FOLDER]
//!
//! Each run has a number, from which its bytes follow. What panics, takes more than twice the memory limit or more than
//! five seconds is written to FOLDER. If the process itself dies, FOLDER/NAME.number has the number of the run.

#![forbid(unsafe_code)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headstart_fuzz::mutate::{Random, mutated};
use headstart_fuzz::targets::TARGETS;
use headstart_fuzz::{LIMIT, folder};

/// Memory and time of a run that are a find.
const MEMORY: u64 = 2 * LIMIT;
const SECONDS: u64 = 5;
/// Time after which a run is ended with the process.
const HANGS: u64 = 60;

struct Options {
    targets: Vec<String>,
    runs: u64,
    time: Duration,
    first: u64,
    finds: PathBuf,
}

fn options() -> Options {
    let most = Duration::from_secs(u64::MAX >> 8);
    let finds = std::env::temp_dir().join("headstart-finds");
    let mut options = Options { targets: Vec::new(), runs: 10_000, time: most, first: 0, finds };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).expect("a number");
        match &word[..] {
            "--runs" => options.runs = number(),
            "--first" => options.first = number(),
            "--seconds" => {
                options.time = Duration::from_secs(number());
                options.runs = u64::MAX;
            }
            "--finds" => options.finds = words.next().expect("a folder").into(),
            _ => options.targets.push(word),
        }
    }
    options
}

/// The examples of a target.
fn examples(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an example")).collect()
}

/// Most memory since the last [`forget`], in bytes; 0 where the system does not say.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kb| kb << 10)
}

fn forget() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// When the run at hand began, in milliseconds since `start`; 0 between runs.
static BEGAN: AtomicU64 = AtomicU64::new(0);

fn watch(start: Instant) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let began = BEGAN.load(Ordering::Relaxed);
            if began > 0 && start.elapsed().as_millis() as u64 - began > HANGS * 1000 {
                println!("FIND a run that lasts more than {HANGS} s; its number is in NAME.number");
                std::process::exit(3);
            }
        }
    });
}

fn main() {
    let options = options();
    headstart::memory::set_limit(LIMIT);
    let start = Instant::now();
    watch(start);
    std::panic::set_hook(Box::new(|_| {}));
    fs::create_dir_all(&options.finds).expect("a folder for finds");
    let mut finds = 0;
    for (name, target) in TARGETS {
        if !options.targets.is_empty() && !options.targets.iter().any(|n| n == name) {
            continue;
        }
        let good = examples(name);
        let place = folder();
        let (began, mut done, mut most) = (Instant::now(), 0u64, (0u64, 0f64));
        while done < options.runs.saturating_add(good.len() as u64) && began.elapsed() < options.time {
            let number = options.first + done;
            let bytes = match good.get(number as usize) {
                Some(example) => example.clone(),
                None => mutated(&good, &mut Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d))),
            };
            fs::write(options.finds.join(format!("{name}.number")), number.to_string())
                .expect("the number");
            if done % 16 == 0 {
                forget();
            }
            let before = Instant::now();
            BEGAN.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            let result = catch_unwind(AssertUnwindSafe(|| target(place.path(), &bytes)));
            BEGAN.store(0, Ordering::Relaxed);
            let (seconds, memory) = (before.elapsed().as_secs_f64(), peak());
            most = (most.0.max(memory), most.1.max(seconds));
            done += 1;
            let found = match result {
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or(panic.downcast_ref::<&str>().map(|t| t.to_string()));
                    Some(format!("panic: {}", text.unwrap_or_default()))
                }
                _ if seconds > SECONDS as f64 => Some(format!("{seconds:.1} s")),
                _ if memory > MEMORY => {
                    forget();
                    Some(format!("{} MiB", memory >> 20))
                }
                _ => None,
            };
            if let Some(found) = found {
                finds += 1;
                let file = options.finds.join(format!("{name}-{number}"));
                fs::write(&file, &bytes).expect("the find");
                println!("FIND {name} run {number}: {found}: {}", file.display());
            }
        }
        println!(
            "{name}: {done} runs in {:.0} s, at most {} MiB and {:.2} s a run",
            began.elapsed().as_secs_f64(),
            most.0 >> 20,
            most.1
        );
    }
    std::process::exit(if finds > 0 { 1 } else { 0 });
}
