//! Objects into files: several at once, large ones in ranges.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use headstart::hub::objects::{Lost, Object, RANGE, Wanted, url_of};
use headstart::{Error, Result};
use object_store::path::Path;
use object_store::{Error as Failure, GetOptions, GetRange};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::address::Address;
use crate::explain::{explain, reason};
use crate::store::Store;

/// Objects that are fetched at once.
const AT_ONCE: usize = 16;
/// Ranges of one object that are on their way or wait to be written.
const AHEAD: usize = 4;
/// Those of all objects: they are in memory.
const RANGES: usize = 8;

/// Why an object did not arrive.
enum Trouble {
    /// It cannot be had.
    Lost(String),
    /// There is nothing of that name.
    Gone(String),
    /// Nor can others.
    Failed(Error),
}

/// Fetches all that is wanted and returns what cannot be had; `done` follows the bytes.
pub async fn all(
    store: &Store,
    address: &Address,
    wanted: &[Wanted<'_>],
    done: &AtomicU64,
) -> Result<Vec<Lost>> {
    let ranges = Semaphore::new(RANGES);
    let ranges = &ranges;
    let one = |(index, wanted)| async move {
        let fetching = Fetching { store, address, wanted, done, ranges };
        (index, fetching.run().await)
    };
    let mut arriving = stream::iter(wanted.iter().enumerate()).map(one).buffer_unordered(AT_ONCE);
    let mut lost = Vec::new();
    while let Some((index, result)) = arriving.next().await {
        match result {
            Ok(()) => {}
            Err(Trouble::Lost(reason)) => lost.push(Lost { index, reason, gone: false }),
            Err(Trouble::Gone(reason)) => lost.push(Lost { index, reason, gone: true }),
            Err(Trouble::Failed(error)) => return Err(error),
        }
    }
    lost.sort_by_key(|one| one.index);
    Ok(lost)
}

struct Fetching<'f> {
    store: &'f Store,
    address: &'f Address,
    wanted: &'f Wanted<'f>,
    done: &'f AtomicU64,
    ranges: &'f Semaphore,
}

impl Fetching<'_> {
    async fn run(&self) -> Result<(), Trouble> {
        let Wanted { object, path, part } = self.wanted;
        let from = self.address.path(&object.name).map_err(|e| self.failed(&e.into()))?;
        let file = match object.tag.as_deref() {
            Some(tag) => self.in_ranges(&from, tag).await?,
            None => self.at_once(&from).await?,
        };
        let length = file.metadata().map_err(|e| self.unwritable(part, e))?.len();
        if length != object.bytes {
            drop(file);
            let _ = fs::remove_file(part);
            let found = format!("it has {length} bytes, and {} when it was listed", object.bytes);
            return Err(Trouble::Lost(found));
        }
        file.set_modified(object.modified).map_err(|e| self.unwritable(part, e))?;
        if object.bytes > RANGE {
            file.sync_all().map_err(|e| self.unwritable(part, e))?;
        }
        drop(file);
        fs::rename(part, path).map_err(|e| self.unwritable(path, e))
    }

    /// All of it by one request.
    async fn at_once(&self, from: &Path) -> Result<File, Trouble> {
        let Wanted { object, part, .. } = self.wanted;
        let mut file = File::create(part).map_err(|e| self.unwritable(part, e))?;
        let got = self.store.objects.get_opts(from, GetOptions::default()).await;
        let mut body = got.map_err(|e| self.failed(&e))?.into_stream();
        let mut length = 0;
        while let Some(bytes) = body.try_next().await.map_err(|e| self.failed(&e))? {
            length += bytes.len() as u64;
            if length > object.bytes {
                let _ = fs::remove_file(part);
                let more =
                    format!("it has more than the {} bytes of when it was listed", object.bytes);
                return Err(Trouble::Lost(more));
            }
            file.write_all(&bytes).map_err(|e| self.unwritable(part, e))?;
            self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(file)
    }

    /// Range after range of this version of it, after what is there.
    async fn in_ranges(&self, from: &Path, tag: &str) -> Result<File, Trouble> {
        let Wanted { object, part, .. } = self.wanted;
        let unwritable = |e| self.unwritable(part, e);
        let mut file = File::options().create(true).append(true).open(part).map_err(unwritable)?;
        let mut start = file.metadata().map_err(unwritable)?.len();
        if start > object.bytes {
            file.set_len(0).map_err(unwritable)?;
            start = 0;
        }
        self.done.fetch_add(start, Ordering::Relaxed);
        let mut ranges = stream::iter(cut(start, object))
            .map(|range| async move {
                let permit = self.ranges.acquire().await;
                let options = GetOptions {
                    if_match: Some(tag.to_string()),
                    range: Some(GetRange::Bounded(range.clone())),
                    ..GetOptions::default()
                };
                let got = self.store.objects.get_opts(from, options).await?;
                let bytes = got.bytes().await?;
                Ok::<(Range<u64>, _, Option<SemaphorePermit<'_>>), Failure>((
                    range,
                    bytes,
                    permit.ok(),
                ))
            })
            .buffered(AHEAD);
        while let Some(got) = ranges.next().await {
            let (range, bytes, permit) = match got {
                Ok(got) => got,
                Err(e) => {
                    if matches!(e, Failure::Precondition { .. } | Failure::NotFound { .. }) {
                        let _ = fs::remove_file(part);
                    }
                    return Err(self.failed(&e));
                }
            };
            if bytes.len() as u64 != range.end - range.start {
                let found = format!("the server sent {} bytes of {range:?}", bytes.len());
                return Err(Trouble::Lost(found));
            }
            file.write_all(&bytes).map_err(unwritable)?;
            self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            drop(permit);
        }
        drop(ranges);
        Ok(file)
    }

    fn failed(&self, failure: &Failure) -> Trouble {
        match failure {
            Failure::NotFound { .. } => Trouble::Gone(reason(failure)),
            Failure::Precondition { .. } | Failure::PermissionDenied { .. } => {
                Trouble::Lost(reason(failure))
            }
            other => Trouble::Failed(explain(other, self.address, &self.wanted.object.name)),
        }
    }

    fn unwritable(&self, path: &FilePath, e: std::io::Error) -> Trouble {
        // A full disk is not helped by what cannot be gone on with.
        if self.wanted.object.tag.is_none() {
            let _ = fs::remove_file(&self.wanted.part);
        }
        let name = &self.wanted.object.name;
        Trouble::Failed(Error::Download {
            file: name.to_string(),
            url: url_of(&self.address.url(), name),
            reason: format!("cannot write {}: {e}", path.display()),
            hint: "make room, or set HEADSTART_CACHE to another folder; what has arrived is kept"
                .into(),
        })
    }
}

/// The ranges of an object from a byte on.
fn cut(start: u64, object: &Object) -> impl Iterator<Item = Range<u64>> + use<> {
    let bytes = object.bytes;
    let mut next = start;
    std::iter::from_fn(move || {
        let range = next..bytes.min(next.saturating_add(RANGE));
        next = range.end;
        (!range.is_empty()).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn ranges_cover_what_is_left() {
        let object =
            |bytes| Object { name: "x".into(), bytes, modified: SystemTime::UNIX_EPOCH, tag: None };
        let cut = |start, bytes| cut(start, &object(bytes)).collect::<Vec<_>>();
        assert_eq!(cut(0, RANGE + 1), [0..RANGE, RANGE..RANGE + 1]);
        assert_eq!(cut(5, RANGE + 6), [5..RANGE + 5, RANGE + 5..RANGE + 6]);
        assert!(cut(7, 7).is_empty());
    }
}
