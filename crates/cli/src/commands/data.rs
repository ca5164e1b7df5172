//! `headstart data`.

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::dataset::{self, DataOptions, Limits};
use headstart::inspect;

use crate::args::{Data, DataCheck, DataCommand};
use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;

/// Runs a command about data.
pub fn run(args: &Data) -> Result<(), Failure> {
    match &args.command {
        DataCommand::Check(args) => check(args),
        DataCommand::Get(args) => super::hub::data(args),
    }
}

/// Looks a data set over and prints what it found.
fn check(args: &DataCheck) -> Result<(), Failure> {
    if args.threads > 1024 {
        let found = args.threads.to_string();
        return Err(Failure::Usage(Error::invalid("--threads", "at most 1024", found, "")));
    }
    // Files stay as they are, so that their bytes can be compared and memory stays small.
    let options = DataOptions {
        validation_split: 0.0,
        threads: args.threads,
        limits: Limits { decoded_bytes: 0, ..Limits::default() },
        ..DataOptions::default()
    };
    let data = dataset::open(&args.data, &options)?;
    let mut progress = Progress::new(0);
    let started = std::time::Instant::now();
    let found = inspect::inspect(&data, args.threads, &mut |done, total| {
        let rate = done as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress.count("looking at images", done, total, rate);
    });
    progress.clear();
    let found = found?;
    if let Some(path) = &args.html {
        write_bytes(path, inspect::html(&found, &data).as_bytes())?;
        eprintln!("page: {}", path.display());
    }
    if args.json {
        output::json(&found)?;
    } else {
        output::line(&found)?;
    }
    Ok(())
}
