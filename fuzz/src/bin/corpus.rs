//! Runs targets over their examples and over damaged ones, without a nightly compiler:
//!
//!     corpus [TARGET ...] [--runs N] [--seconds N] [--first N] [--finds FOLDER] [--record FOLDER]
//!
//! Each run has a number, from which its bytes follow. What panics, takes more than twice the memory limit or more than
//! five seconds is written to the folder of finds. If the process itself dies, NAME.number there has the number of the run.
//! Seconds are those of the processor where the system tells them, so that a busy machine changes nothing. With a record,
//! runs and seconds of a target are added up over processes, each of which goes on where the one before ended.

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
const SECONDS: f64 = 5.0;
/// Time of the clock after which a run is ended with the process.
const HANGS: u64 = 600;
/// Seconds between two writes of the record.
const EVERY: f64 = 20.0;

struct Options {
    targets: Vec<String>,
    runs: u64,
    time: Duration,
    first: u64,
    finds: PathBuf,
    record: Option<PathBuf>,
}

fn options() -> Options {
    let most = Duration::from_secs(u64::MAX >> 8);
    let finds = std::env::temp_dir().join("headstart-finds");
    let mut options = Options { targets: Vec::new(), runs: 10_000, time: most, first: 0, finds, record: None };
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
            "--record" => options.record = Some(words.next().expect("a folder").into()),
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

/// Seconds that this process has had of the processor; those of the clock where the system does not say.
fn seconds(start: Instant) -> f64 {
    /// Of `/proc`, whatever the kernel counts in itself.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold blanks; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
    let ticks: Option<Vec<f64>> = fields.and_then(|f| f.map(|n| n.parse().ok()).collect());
    match ticks.as_deref() {
        Some([user, system]) => (user + system) / TICKS,
        _ => start.elapsed().as_secs_f64(),
    }
}

/// What processes did with a target.
#[derive(Clone, Copy, Default)]
struct Done {
    seconds: f64,
    runs: u64,
    finds: u64,
}

impl Done {
    fn read(path: &Path) -> Done {
        let Ok(text) = fs::read_to_string(path) else { return Done::default() };
        let row = text.lines().nth(1).expect("a record has two lines");
        let mut cells = row.split(',');
        let mut cell = || cells.next().and_then(|c| c.parse::<f64>().ok()).expect("a number in a record");
        Done { seconds: cell(), runs: cell() as u64, finds: cell() as u64 }
    }

    fn write(self, path: &Path) {
        let text = format!("seconds,runs,finds\n{:.0},{},{}\n", self.seconds, self.runs, self.finds);
        let part = path.with_extension("part");
        fs::write(&part, text).and_then(|()| fs::rename(&part, path)).expect("the record");
    }
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
    if let Some(folder) = &options.record {
        fs::create_dir_all(folder).expect("a folder for the record");
    }
    let mut finds = 0;
    for (name, target) in TARGETS {
        if !options.targets.is_empty() && !options.targets.iter().any(|n| n == name) {
            continue;
        }
        let good = examples(name);
        let place = folder();
        let record = options.record.as_ref().map(|folder| folder.join(format!("{name}.csv")));
        let before = record.as_deref().map(Done::read).unwrap_or_default();
        let (began, mut done, mut most) = (seconds(start), 0u64, (0u64, 0f64));
        let (mut written, mut found_here) = (began, 0);
        let so_far = |now: f64, done, finds| Done {
            seconds: before.seconds + now - began,
            runs: before.runs + done,
            finds: before.finds + finds,
        };
        let most_runs = options.runs.saturating_add(good.len() as u64);
        while done < most_runs && so_far(seconds(start), 0, 0).seconds < options.time.as_secs_f64() {
            let number = options.first + before.runs + done;
            let bytes = match good.get(number as usize) {
                Some(example) => example.clone(),
                None => mutated(&good, &mut Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d))),
            };
            fs::write(options.finds.join(format!("{name}.number")), number.to_string())
                .expect("the number");
            if done % 16 == 0 {
                forget();
            }
            let entered = seconds(start);
            BEGAN.store(start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            let result = catch_unwind(AssertUnwindSafe(|| target(place.path(), &bytes)));
            BEGAN.store(0, Ordering::Relaxed);
            let now = seconds(start);
            let (took, memory) = (now - entered, peak());
            most = (most.0.max(memory), most.1.max(took));
            done += 1;
            let found = match result {
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or(panic.downcast_ref::<&str>().map(|t| t.to_string()));
                    Some(format!("panic: {}", text.unwrap_or_default()))
                }
                _ if took > SECONDS => Some(format!("{took:.1} s")),
                _ if memory > MEMORY => {
                    forget();
                    Some(format!("{} MiB", memory >> 20))
                }
                _ => None,
            };
            if let Some(found) = found {
                found_here += 1;
                let file = options.finds.join(format!("{name}-{number}"));
                fs::write(&file, &bytes).expect("the find");
                println!("FIND {name} run {number}: {found}: {}", file.display());
            }
            if let Some(record) = record.as_ref().filter(|_| now - written > EVERY) {
                so_far(now, done, found_here).write(record);
                written = now;
            }
        }
        let now = seconds(start);
        if let Some(record) = &record {
            so_far(now, done, found_here).write(record);
        }
        finds += found_here;
        let (took, memory, longest) = (now - began, most.0 >> 20, most.1);
        println!("{name}: {done} runs in {took:.0} s, at most {memory} MiB and {longest:.2} s a run");
    }
    std::process::exit(if finds > 0 { 1 } else { 0 });
}
