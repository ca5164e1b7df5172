//! The other processes, where an MPI launcher started several: `mpirun -n 4 headstart train`.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use headstart_mpi::{Launch, Left, World};

use crate::args::{Command, DataCommand};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{self, note};

/// All processes, once this one has joined them.
static WORLD: OnceLock<World> = OnceLock::new();

/// How long a process that failed waits for the others to fail too, before it ends them.
const GRACE: Duration = Duration::from_secs(2);

/// The processes that this one has joined, if there are several.
pub fn world() -> Option<&'static World> {
    WORLD.get()
}

/// How many processes there are.
pub fn size() -> usize {
    world().map_or(1, World::size)
}

/// What is to be done before a command.
pub enum Part {
    /// This process does it.
    Do,
    /// Process 0 does it alone.
    Leave,
}

/// Joins the other processes for a command that they do together; of the others only process 0 does one.
pub fn enter(command: &Command) -> Result<Part, Failure> {
    let together = matches!(command, Command::Train(args) if args.show_batch.is_none());
    if together {
        return join();
    }
    let has_part = match command {
        Command::Predict(args) => args.shard.is_some(),
        Command::Features(args) => args.shard.is_some(),
        Command::Data(args) => match &args.command {
            DataCommand::Check(args) => args.shard.is_some(),
            DataCommand::Get(_) => false,
        },
        _ => false,
    };
    // Each process has a part of its own.
    if has_part {
        return Ok(Part::Do);
    }
    // What needs no other processes does not fail for want of them.
    let launch = Launch::of_environment().unwrap_or_default();
    match launch.filter(|launch| launch.size.is_none_or(|size| size > 1)) {
        Some(launch) if launch.rank > 0 => Ok(Part::Leave),
        Some(Launch { size: Some(size), .. }) => {
            note!("one of {size} processes does this alone; `headstart train` is what they share");
            Ok(Part::Do)
        }
        _ => Ok(Part::Do),
    }
}

fn join() -> Result<Part, Failure> {
    if let Ok(Some(launch)) = Launch::of_environment() {
        output::be(launch.rank);
    }
    if let Some(world) = World::of_environment()? {
        output::be(world.rank());
        world.give_up_when(interrupt::requested);
        note!("{} processes, joined by {}", world.size(), world.about());
        let _ = WORLD.set(world);
    }
    Ok(Part::Do)
}

/// Ends this process as the command did, and the others with it. Of processes that fail alike only the first says so.
pub fn end(done: Result<(), Failure>) -> ExitCode {
    let Some(world) = world() else {
        return done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
    };
    let text = done.as_ref().err().map_or(String::new(), Failure::text);
    let limit = done.is_err().then_some(GRACE);
    let left = world.leave(&text, limit);
    let others_say = match &left {
        Left::Together(all) => world.rank() > 0 && all[0] == text,
        Left::Alone => false,
    };
    let code = match &done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if others_say => ExitCode::from(failure.code()),
        Err(failure) => failure.report(),
    };
    match left {
        Left::Together(_) => world.clone().finalize(),
        Left::Alone => world.clone().abort(done.err().map_or(1, |f| i32::from(f.code()))),
    }
    code
}
