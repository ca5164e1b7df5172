//! The memory that reading files may take: one number for the process, asked by every reader of foreign bytes before it
//! allocates what a file claims or holds.
//!
//! It is the process's and not a parameter of each reader, because memory is: images are decoded on many threads while a data
//! set and a net are held, and what they take together must fit. A reader cannot forget it either: files are read by [`read`],
//! and a test refuses library code that reads whole files in another way.
//!
//! What stays ([`Claim`]) is counted first; what is let go soon, such as the work space of a decoder ([`passing`]), waits for
//! other threads where it has no room beside them. So whether a file is refused does not depend on how threads run.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::look;
use crate::error::{Error, Result};
use crate::file_kind;
use crate::range;

/// The environment variable that says the limit, in megabytes.
pub const VARIABLE: &str = "HEADSTART_MEMORY_LIMIT";
/// What to do about a file that is refused.
const HINT: &str = "if the file is to be trusted, raise --memory-limit (megabytes)";
/// The limit where the system does not say how much memory there is.
const USUAL: u64 = 4 << 30;
/// Most bytes of a text of records or numbers that is read whole, and how many times its own bytes what it says takes at most,
/// where its form is known: an empty list `[],` is 24 bytes in a vector that doubles.
const RECORDS: (u64, u64) = (512 << 20, 24);
/// The same of a text of settings, whose form is any: an object `{"":0}` of JSON is a map of 600 bytes.
const SETTINGS: (u64, u64) = (4 << 20, 96);
/// Bytes that are read between two looks at the limit, where the length of a file is not known.
const STEP: u64 = 1 << 20;

struct Pool {
    limit: Option<u64>,
    kept: u64,
    passing: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { limit: None, kept: 0, passing: 0 });
static FREED: Condvar = Condvar::new();

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn limit(&mut self) -> u64 {
        // A variable that says nothing sensible is for the program to refuse, by `limit_of_environment`.
        let usual = || match limit_of_environment() {
            Ok(Some(bytes)) => bytes,
            _ => look().map_or(USUAL, |memory| memory.total / 2),
        };
        *self.limit.get_or_insert_with(usual)
    }
}

/// Bytes that reading files may take, all that is read together: by [`set_limit`], else `HEADSTART_MEMORY_LIMIT` (megabytes),
/// else half of the memory of this machine or container.
pub fn limit() -> u64 {
    pool().limit()
}

/// Sets [`limit()`], for the whole process.
pub fn set_limit(bytes: u64) {
    pool().limit = Some(bytes);
    FREED.notify_all();
}

/// The bytes that `HEADSTART_MEMORY_LIMIT` says; `None` where it is not set.
///
/// # Errors
/// If it is no number of megabytes in range.
pub fn limit_of_environment() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let text = text.to_string_lossy();
    let number = text.trim().parse().ok().filter(|&n| range::MEMORY_LIMIT.contains(n));
    number.map(|megabytes| Some(range::bytes(megabytes))).ok_or_else(|| {
        let expected = format!("megabytes, {}", range::MEMORY_LIMIT.expected());
        Error::invalid(VARIABLE, expected, text, "")
    })
}

/// More memory than reading may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    wanted: u64,
    most: u64,
}

impl Over {
    /// The error for the file at `path`.
    pub fn of(self, path: impl Into<std::path::PathBuf>) -> Error {
        let expected = format!("a file that can be read in {} MiB of memory", self.most >> 20);
        let found = format!("one that takes {} MiB or more", self.wanted.div_ceil(1 << 20));
        Error::format(path, expected, found, HINT)
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wanted, most) = (self.wanted.div_ceil(1 << 20), self.most >> 20);
        write!(
            f,
            "more than fits: {wanted} MiB of memory, where reading may take {most} MiB (--memory-limit)"
        )
    }
}

/// Memory that is counted until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    kept: u64,
    passing: u64,
}

impl Claim {
    /// Counts bytes that are there already.
    pub fn held(bytes: u64) -> Claim {
        pool().kept += bytes;
        Claim { kept: bytes, passing: 0 }
    }

    /// Counts this many bytes more.
    ///
    /// # Errors
    /// If they are more than the limit leaves beside all that is kept.
    pub fn grow(&mut self, bytes: u64) -> std::result::Result<(), Over> {
        let mut pool = pool();
        let (most, kept) = (pool.limit(), pool.kept.saturating_add(bytes));
        if kept > most {
            return Err(Over { wanted: kept, most });
        }
        pool.kept = kept;
        self.kept += bytes;
        Ok(())
    }

    /// Gives back some of what it counted.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.kept);
        self.kept -= bytes;
        pool().kept -= bytes;
        FREED.notify_all();
    }

    /// Counts what `other` does, too.
    pub fn join(&mut self, mut other: Claim) {
        self.kept += std::mem::take(&mut other.kept);
        self.passing += std::mem::take(&mut other.passing);
    }

    /// Counts what parsing a text of this many bytes takes at most, beside the text itself, whatever its form is.
    ///
    /// # Errors
    /// As [`Claim::grow`].
    pub fn parse(&mut self, bytes: usize) -> std::result::Result<(), Over> {
        self.grow((bytes as u64).saturating_mul(SETTINGS.1))
    }

    /// Counts what a text of this many bytes takes at most that is parsed to a known form.
    ///
    /// # Errors
    /// As [`Claim::grow`].
    pub fn parse_records(&mut self, bytes: usize) -> std::result::Result<(), Over> {
        self.grow((bytes as u64).saturating_mul(RECORDS.1))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.kept + self.passing > 0 {
            let mut pool = pool();
            pool.kept -= self.kept;
            pool.passing -= self.passing;
            drop(pool);
            FREED.notify_all();
        }
    }
}

/// Counts bytes that are let go soon; waits until others have let go of theirs where all do not fit together. A thread that
/// holds such a claim must not ask for another.
///
/// # Errors
/// If they do not fit beside what is kept.
pub(crate) fn passing(bytes: u64) -> std::result::Result<Claim, Over> {
    let mut pool = pool();
    loop {
        let (most, wanted) = (pool.limit(), pool.kept.saturating_add(bytes));
        if wanted > most {
            return Err(Over { wanted, most });
        }
        if pool.passing == 0 || wanted.saturating_add(pool.passing) <= most {
            pool.passing += bytes;
            return Ok(Claim { kept: 0, passing: bytes });
        }
        pool = FREED.wait(pool).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Reads a file of at most `most` bytes and counts them in `claim`. What is no regular file has no length, and is looked at as
/// it comes.
///
/// # Errors
/// If it cannot be read, is longer, or does not fit.
pub(crate) fn read(path: &Path, most: u64, claim: &mut Claim) -> Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    read_from(&mut file, path, length, most, claim)
}

/// Opens a file, and no pipe that nobody writes to, which would be waited for for ever. Those of a shell's `<(command)` are
/// below /dev.
///
/// # Errors
/// If it cannot be opened, or is a pipe, a socket or a device elsewhere.
pub(crate) fn open(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(Error::io("read", path))?.file_type();
    if !kind.is_file() && !kind.is_dir() && !path.starts_with("/dev") {
        return Err(Error::format(path, "a file", file_kind::kind(kind), ""));
    }
    File::open(path).map_err(Error::io("read", path))
}

/// [`read`] of what comes from `source`, which says that it has `length` bytes and may have more or fewer; `path` names it.
///
/// # Errors
/// As there.
pub(crate) fn read_from(
    source: &mut impl Read,
    path: &Path,
    length: u64,
    most: u64,
    claim: &mut Claim,
) -> Result<Vec<u8>> {
    let too_long = || {
        let expected = format!("at most {} MiB", most >> 20);
        Error::format(path, expected, "more", "is it the file that is meant?")
    };
    if length > most {
        return Err(too_long());
    }
    claim.grow(length).map_err(|over| over.of(path))?;
    let mut counted = length;
    let mut bytes = Vec::new();
    // Memory grows with what is really there.
    bytes.reserve_exact(length.min(64 * STEP) as usize);
    loop {
        let got = source.by_ref().take(STEP).read_to_end(&mut bytes);
        if got.map_err(Error::io("read", path))? == 0 {
            return Ok(bytes);
        }
        let have = bytes.len() as u64;
        if have > most {
            return Err(too_long());
        }
        if have > counted {
            // The vector doubles.
            claim.grow(2 * (have - counted)).map_err(|over| over.of(path))?;
            counted = have;
        }
    }
}

/// Reads a text of records, such as a report or a history, which is not kept; what `parse` makes of it is counted with it
/// while it is made.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_records<T>(path: &Path, parse: impl FnOnce(Vec<u8>) -> T) -> Result<T> {
    let mut claim = Claim::default();
    let bytes = read(path, RECORDS.0, &mut claim)?;
    claim.parse_records(bytes.len()).map_err(|over| over.of(path))?;
    Ok(parse(bytes))
}

/// [`read_records`] for a text of settings, which may be of any form.
///
/// # Errors
/// As there.
pub(crate) fn read_settings<T>(path: &Path, parse: impl FnOnce(Vec<u8>) -> T) -> Result<T> {
    let mut claim = Claim::default();
    let bytes = read(path, SETTINGS.0, &mut claim)?;
    claim.parse(bytes.len()).map_err(|over| over.of(path))?;
    Ok(parse(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_counted_until_it_is_dropped_and_refused_where_it_does_not_fit() {
        let most = limit();
        let mut claim = Claim::default();
        assert!(claim.grow(1 << 20).is_ok());
        let over = claim.grow(most).unwrap_err();
        assert!(over.wanted > most && over.to_string().contains("--memory-limit"), "{over}");
        assert_eq!(over.most, most);
        assert!(claim.parse(usize::MAX).is_err() && passing(u64::MAX).is_err());
        claim.shrink(u64::MAX);
        assert_eq!(claim.kept, 0);
        let error = over.of("x.pth");
        assert!(error.to_string().starts_with("x.pth: expected a file that can be read in"));
        assert_eq!(error.hint(), Some(HINT));
    }

    #[test]
    fn what_passes_waits_for_others_and_is_not_refused() {
        let most = limit();
        let each = most / 3 * 2;
        let done = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _claim = passing(each).unwrap();
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                });
            }
        });
        assert_eq!(done.into_inner(), 4);
    }

    #[test]
    fn files_are_read_up_to_their_limit_whatever_length_they_say() {
        let path = Path::new("x");
        let mut claim = Claim::default();
        let bytes = vec![7; 3 << 20];
        for said in [0, 1, 3 << 20, 4 << 20] {
            let read = read_from(&mut &bytes[..], path, said, 5 << 20, &mut claim).unwrap();
            assert!(read == bytes, "{said}");
        }
        for said in [0, 3 << 20] {
            let error = read_from(&mut &bytes[..], path, said, 2 << 20, &mut claim).unwrap_err();
            assert!(error.to_string().contains("at most 2 MiB"), "{error}");
        }
        let endless = read_from(&mut std::io::repeat(1), path, 0, 9 << 20, &mut claim);
        assert!(endless.unwrap_err().to_string().contains("at most 9 MiB"));
        let error = read_from(&mut &bytes[..], path, u64::MAX, u64::MAX, &mut claim).unwrap_err();
        assert!(error.to_string().contains("of memory"), "{error}");
    }
}
