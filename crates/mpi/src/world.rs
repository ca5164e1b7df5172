//! The processes of an MPI launcher, as one of them sees them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headstart::collective::Collective;
use headstart::{Error, Result};

use crate::call::{Broken, Comm, Mpi, Parts};
use crate::find::candidates;
use crate::heap;
use crate::launch::{LIBRARY, Launch, TURNED_OFF};
use crate::near::{NUMBERS, Near};
use crate::offer::{accept, offer};
use crate::rounds::{LIMIT, parts, rounds};

/// How long a call is asked for without a pause, and how long a pause is after that: longer ones would hold up long messages.
const BUSY: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_micros(50);
/// How long a process that was told to end waits for the others all the same: they may be on their way to stop together.
/// Process 0 has a checkpoint to write before the launcher ends it, which Open MPI does after a second.
const PATIENCE: Duration = Duration::from_millis(300);
const PATIENCE_OF_OTHERS: Duration = Duration::from_secs(20);

/// All processes of the launcher.
///
/// It is made once in a process. [`World::collective`] is for training; [`World::leave`] and then [`World::finalize`] or
/// [`World::abort`] end it.
#[derive(Clone, Debug)]
pub struct World {
    shared: Arc<Mutex<Shared>>,
    rank: usize,
    size: usize,
    about: String,
}

#[derive(Debug)]
struct Shared {
    mpi: Box<dyn Mpi>,
    /// Where sums are made, if all processes are on one machine.
    near: Option<Near>,
    /// Whether a call of the work failed, so that none can follow.
    broken: bool,
    /// Whether to give up waiting for other processes.
    gives_up: fn() -> bool,
    /// Most bytes of a message.
    limit: usize,
    /// Calls so far: processes that do not do the same are found by it.
    calls: u64,
}

/// How a process left the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All left together: what each has to say of its end, in rank order.
    Together(Vec<String>),
    /// The others are still at work, or gone.
    Alone,
}

impl World {
    /// The processes that a launcher started together with this one; none outside of a launcher, and where it started one
    /// alone. It is to be called once.
    ///
    /// # Errors
    /// If no MPI library can be opened, or it is not the launcher's.
    pub fn of_environment() -> Result<Option<World>> {
        match Launch::of_environment()? {
            None | Some(Launch { size: Some(1), .. }) => Ok(None),
            Some(launch) => World::open(&launch).map(Some),
        }
    }

    fn open(launch: &Launch) -> Result<World> {
        let mut tried = Vec::new();
        for path in candidates(launch) {
            match open_library(&path) {
                Ok(mpi) => return World::of(mpi, &path, launch),
                Err((reason, true)) => {
                    let expected = "an MPI library that can be used";
                    let hint = format!("{LIBRARY} names another one");
                    return Err(Error::format(path, expected, reason, hint));
                }
                Err((_, false)) => tried.push(path),
            }
        }
        Err(Error::invalid(
            "MPI library",
            format!("the one of the launcher that started this process ({} is set)", launch.by),
            format!("none of {}", list(&tried)),
            format!(
                "{LIBRARY}=/path/to/libmpi.so names it, and {LIBRARY}={TURNED_OFF} makes each process a run of its own"
            ),
        ))
    }

    fn of(mpi: Box<dyn Mpi>, path: &Path, launch: &Launch) -> Result<World> {
        let (rank, size) = (mpi.rank(), mpi.size());
        let about = format!("{}, {}", mpi.version(), path.display());
        if let Some(promised) = launch.size.filter(|&promised| promised != size) {
            let mut mpi = mpi;
            mpi.finalize();
            return Err(Error::invalid(
                format!("MPI library {about}"),
                format!("{promised} processes, as {} says", launch.by),
                format!("{size}: it is not the library of the launcher"),
                format!(
                    "start with that library's own mpirun, or name the launcher's with {LIBRARY}"
                ),
            ));
        }
        heap::keep();
        let mut shared =
            Shared { mpi, near: None, broken: false, gives_up: || false, limit: LIMIT, calls: 0 };
        shared.near = shared.work(Shared::meet_nearby)?;
        let about = match &shared.near {
            Some(_) => format!("{about}; sums in shared memory"),
            None => about,
        };
        Ok(World { shared: Arc::new(Mutex::new(shared)), rank, size, about })
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The library, in words.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Where it waits long for other processes, this process asks `gives_up` whether to fail instead.
    pub fn give_up_when(&self, gives_up: fn() -> bool) {
        self.lock().gives_up = gives_up;
    }

    /// Cuts messages at this many bytes.
    #[doc(hidden)]
    pub fn limit_messages(&self, bytes: usize) {
        self.lock().limit = bytes;
    }

    /// For [`headstart::Trainer::join`].
    pub fn collective(&self) -> Box<dyn Collective> {
        Box::new(self.clone())
    }

    /// Says to all how this process ended, and waits until they have ended too, at most `limit`.
    pub fn leave(&self, message: &str, limit: Option<Duration>) -> Left {
        let start = Instant::now();
        let mut late = || {
            pause(start);
            limit.is_some_and(|limit| start.elapsed() > limit)
        };
        let mut shared = self.lock();
        let own = message.as_bytes().to_vec();
        let all = shared.gather_bytes(Comm::End, &own, &mut late);
        match all {
            Ok(all) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                Left::Together(all.into_iter().map(text).collect())
            }
            Err(_) => Left::Alone,
        }
    }

    /// Ends MPI; only after all processes left together.
    pub fn finalize(self) {
        self.lock().mpi.finalize();
    }

    /// Ends all processes, this one with `code`.
    pub fn abort(self, code: i32) {
        self.lock().mpi.abort(code);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
fn open_library(path: &Path) -> Result<Box<dyn Mpi>, (String, bool)> {
    crate::library::open(path)
}

#[cfg(not(unix))]
fn open_library(_path: &Path) -> Result<Box<dyn Mpi>, (String, bool)> {
    Err(("a system whose MPI libraries are not known".to_string(), true))
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

/// Gives the processor away for a moment, if the wait has been longer than one.
fn pause(since: Instant) {
    match since.elapsed() {
        elapsed if elapsed < BUSY => std::thread::yield_now(),
        _ => std::thread::sleep(PAUSE),
    }
}

impl Shared {
    /// Makes calls of the work, and no others once one has failed.
    fn work<T>(
        &mut self,
        calls: impl FnOnce(&mut Shared, &mut dyn FnMut() -> bool) -> Result<T, Broken>,
    ) -> Result<T> {
        let gone = |found: String| {
            let hint = "the process that ended first says why; --resume RUN goes on from the last checkpoint";
            Error::invalid("other processes", "an answer", found, hint)
        };
        if self.broken {
            return Err(gone("none, since an earlier call failed".to_string()));
        }
        let patience = if self.mpi.rank() == 0 { PATIENCE } else { PATIENCE_OF_OTHERS };
        let (gives_up, start) = (self.gives_up, Instant::now());
        let mut wait = move || {
            pause(start);
            start.elapsed() > patience && gives_up()
        };
        calls(self, &mut wait).map_err(|broken| {
            self.broken = true;
            match broken {
                Broken::GivenUp => gone("none before this process was told to end".to_string()),
                Broken::Failed { function, message } => gone(format!("{function}: {message}")),
            }
        })
    }

    /// Memory that all processes have, if they all are on this machine.
    fn meet_nearby(&mut self, wait: &mut dyn FnMut() -> bool) -> Result<Option<Near>, Broken> {
        let (rank, size) = (self.mpi.rank(), self.mpi.size());
        let own = offer(rank, size);
        let all = self.gather_bytes(Comm::Work, own.text.as_bytes(), wait)?;
        let texts: Vec<String> =
            all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        let near = accept(&own, &texts, rank);
        // Every process has it, or none uses it.
        let have = self.gather_bytes(Comm::Work, &[u8::from(near.is_some())], wait)?;
        Ok(near.filter(|_| have.iter().all(|have| have == &[1])))
    }

    /// The bytes of every process, in rank order.
    fn gather_bytes(
        &mut self,
        comm: Comm,
        own: &[u8],
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<u8>>, Broken> {
        let size = self.mpi.size();
        let lengths = self.gather_numbers(comm, [own.len() as u64], wait)?;
        let lengths: Vec<usize> = lengths.iter().map(|[length]| *length as usize).collect();
        let mut all = vec![Vec::new(); size];
        let each = (self.limit / size).max(1);
        let most = lengths.iter().copied().max().unwrap_or(0);
        for start in (0..most).step_by(each) {
            let count = |length: usize| length.clamp(start, start + each) - start;
            let counts: Vec<usize> = lengths.iter().map(|&length| count(length)).collect();
            let piece = own[own.len().min(start)..own.len().min(start + each)].to_vec();
            let receive = Parts::new(&counts).ok_or_else(too_long)?;
            let received = self.mpi.all_gather(comm, piece, receive, wait)?;
            let mut rest = &received.bytes[..];
            for (bytes, &count) in all.iter_mut().zip(&counts) {
                let (own, others) = rest.split_at(count);
                bytes.extend_from_slice(own);
                rest = others;
            }
        }
        Ok(all)
    }

    /// Some numbers of every process, in rank order.
    fn gather_numbers<const N: usize>(
        &mut self,
        comm: Comm,
        own: [u64; N],
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<[u64; N]>, Broken> {
        let size = self.mpi.size();
        let receive = Parts::new(&vec![8 * N; size]).ok_or_else(too_long)?;
        let own = own.map(u64::to_le_bytes).concat();
        let received = self.mpi.all_gather(comm, own, receive, wait)?;
        let (numbers, _) = received.bytes.as_chunks::<8>();
        let (groups, _) = numbers.as_chunks::<N>();
        Ok(groups.iter().map(|group| group.map(u64::from_le_bytes)).collect())
    }

    /// Sums the vectors of all processes in the order of replicas: every process adds up one part of the elements, and sends
    /// the sums to all.
    fn sum(
        &mut self,
        own: &[&[f32]],
        sum: &mut [f32],
        wait: &mut dyn FnMut() -> bool,
    ) -> Result<(), Broken> {
        self.calls += 1;
        let numbers: [u64; NUMBERS] = [own.len() as u64, sum.len() as u64, self.calls];
        let all = match &mut self.near {
            Some(near) => near.gather(numbers, wait)?,
            None => self.gather_numbers(Comm::Work, numbers, wait)?,
        };
        if let Some(other) = all.iter().find(|other| other[1..] != numbers[1..]) {
            let message = format!(
                "processes do not do the same: {} elements in sum {} here, {} in sum {} elsewhere",
                numbers[1], numbers[2], other[1], other[2]
            );
            return Err(Broken::Failed { function: "all_reduce", message });
        }
        let vectors: Vec<usize> = all.iter().map(|numbers| numbers[0] as usize).collect();
        let (most, total) = (vectors.iter().max().copied().unwrap_or(0), vectors.iter().sum());
        if total == 0 {
            sum.fill(0.0);
            return Ok(());
        }
        if let Some(near) = self.near.as_mut().filter(|near| most <= near.most()) {
            return near.sum(own, &vectors, sum, wait);
        }
        let (rank, size) = (self.mpi.rank(), self.mpi.size());
        for round in rounds(sum.len(), (most, total), size, self.limit) {
            let parts = parts(&round, size);
            let mut bytes = Vec::with_capacity(4 * round.len() * own.len());
            for part in &parts {
                own.iter().for_each(|vector| put(&vector[part.clone()], &mut bytes));
            }
            let counts: Vec<usize> = parts.iter().map(|part| 4 * part.len() * own.len()).collect();
            let send = Parts::with(&counts, bytes).ok_or_else(too_long)?;
            let part = parts[rank].len();
            let counts: Vec<usize> = vectors.iter().map(|count| 4 * part * count).collect();
            let receive = Parts::new(&counts).ok_or_else(too_long)?;
            let received = self.mpi.all_to_all(send, receive, wait)?;
            let mut added = vec![0.0f32; part];
            let mut replicas = received.bytes.chunks_exact((4 * part).max(1));
            // The first is copied, as in one process: 0 + -0 would be another bit.
            if let Some(first) = replicas.next() {
                take(first, &mut added, |to, value| *to = value);
            }
            for replica in replicas {
                take(replica, &mut added, |to, value| *to += value);
            }
            let mut own = Vec::with_capacity(4 * part);
            put(&added, &mut own);
            let counts: Vec<usize> = parts.iter().map(|part| 4 * part.len()).collect();
            let receive = Parts::new(&counts).ok_or_else(too_long)?;
            let sums = self.mpi.all_gather(Comm::Work, own, receive, wait)?;
            take(&sums.bytes, &mut sum[round], |to, value| *to = value);
        }
        Ok(())
    }
}

fn too_long() -> Broken {
    Broken::Failed { function: "message", message: "longer than MPI can count".to_string() }
}

/// Appends values as bytes.
fn put(values: &[f32], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + 4 * values.len(), 0);
    let (to, _) = bytes[start..].as_chunks_mut::<4>();
    to.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_le_bytes());
}

/// Calls `join` for every value of `bytes` and what it belongs to.
fn take(bytes: &[u8], to: &mut [f32], join: impl Fn(&mut f32, f32)) {
    let (from, _) = bytes.as_chunks::<4>();
    to.iter_mut().zip(from).for_each(|(to, value)| join(to, f32::from_le_bytes(*value)));
}

impl Collective for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&mut self, own: &[&[f32]], sum: &mut [f32]) -> Result<()> {
        if let Some(other) = own.iter().find(|vector| vector.len() != sum.len()) {
            let (expected, found) = (sum.len().to_string(), other.len().to_string());
            return Err(Error::invalid("elements of a replica", expected, found, ""));
        }
        self.lock().work(|shared, wait| shared.sum(own, sum, wait))
    }

    fn gather(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.lock().work(|shared, wait| shared.gather_bytes(Comm::Work, own, wait))
    }

    fn barrier(&mut self) -> Result<()> {
        self.lock().work(|shared, wait| shared.mpi.barrier(Comm::Work, wait))
    }
}
