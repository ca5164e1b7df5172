//! The download of one file: requests until it is complete, and the check of its hash.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ureq::Agent;

use super::digest::Digest;
use super::http::{self, Cause, Failure, Head, Message};
use super::{Event, Hub, POLL, Watch, stopped};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::hub::Asset;

/// A try that brings this many bytes does not count as failed.
const PROGRESS: u64 = 1 << 20;
/// How often a download may start again from the beginning.
const TIMES: u64 = 4;
/// Longest wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A download into a `.part` file.
pub(crate) struct Transfer<'a, 'w> {
    hub: &'a Hub,
    asset: &'a Asset,
    url: String,
    part: &'a Path,
    file: File,
    agent: Agent,
    watch: &'a mut Watch<'w>,
    /// Bytes in the part.
    done: u64,
    /// Bytes that this run has received.
    received: u64,
    /// Whether the part holds bytes of an earlier connection.
    resumed: bool,
    /// Whether the server can be asked for the rest of a file.
    ranges: bool,
    /// The server's name for this version of the file.
    etag: Option<String>,
    /// Length of the file, if the server said so.
    total: Option<u64>,
}

impl<'a, 'w> Transfer<'a, 'w> {
    /// Opens the part, which may hold the first bytes of the file.
    pub(crate) fn new(
        hub: &'a Hub,
        asset: &'a Asset,
        part: &'a Path,
        watch: &'a mut Watch<'w>,
    ) -> Result<Self> {
        let url = hub.url(asset);
        let fail = |reason: String, hint: String| Error::Download {
            file: asset.file.clone(),
            url: url.clone(),
            reason,
            hint,
        };
        let unwritable = |e: std::io::Error| {
            let hint = "set HEADSTART_CACHE to a folder that can be written";
            fail(format!("cannot write {}: {e}", part.display()), hint.into())
        };
        let agent = http::agent(&url, hub.timeout, hub.roots.as_deref())
            .map_err(|reason| fail(reason, hub.by_hand(asset)))?;
        let file = File::options().create(true).append(true).open(part).map_err(unwritable)?;
        let done = file.metadata().map_err(unwritable)?.len();
        Ok(Transfer {
            hub,
            asset,
            part,
            file,
            agent,
            watch,
            done,
            received: 0,
            resumed: done > 0,
            ranges: true,
            etag: None,
            total: None,
            url,
        })
    }

    /// Downloads what is missing. When it returns without an error, the part is the file.
    pub(crate) fn run(mut self) -> Result<()> {
        // An earlier run may have ended between the last byte and the check.
        if self.done > 0 && self.is_whole()?.is_ok() {
            return self.sync();
        }
        let mut failed = 0;
        loop {
            let before = self.done;
            match self.request()? {
                Ok(()) => match self.is_whole()? {
                    Ok(()) => return self.sync(),
                    // The first bytes may be of another file, or the server may not have sent what was asked for.
                    Err(_) if self.resumed => self.start_anew()?,
                    Err(found) => {
                        let _ = fs::remove_file(self.part);
                        return Err(self.refused(&found));
                    }
                },
                Err(failure) => {
                    if self.done >= before + PROGRESS {
                        failed = 0;
                    }
                    failed += 1;
                    let again = match failure.cause {
                        Cause::Broken => true,
                        Cause::Unreachable => self.received > 0,
                        Cause::Final => false,
                    };
                    if !again || failed >= self.hub.attempts {
                        // A server that promises more bytes than it has closes the connection after the last one.
                        if self.done > 0 && self.is_whole()?.is_ok() {
                            return self.sync();
                        }
                        return Err(self.given_up(&failure));
                    }
                    self.resumed |= self.done > 0;
                    self.pause(failed, &failure)?;
                }
            }
        }
    }

    /// One request and its response.
    fn request(&mut self) -> Result<Result<(), Failure>> {
        if !self.ranges && self.done > 0 {
            self.start_anew()?;
        }
        let messages = http::get(&self.agent, &self.url, self.done, self.etag.as_deref());
        let mut left = None;
        loop {
            self.tell()?;
            match messages.recv_timeout(POLL) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(Failure::new(Cause::Broken, "the connection ended")));
                }
                Ok(Message::Failed(failure)) => return Ok(Err(failure)),
                Ok(Message::End) => return Ok(Ok(())),
                Ok(Message::Head(head)) => match self.accept(&head)? {
                    Ok(true) => left = head.length,
                    Ok(false) => return Ok(Ok(())),
                    Err(failure) => return Ok(Err(failure)),
                },
                Ok(Message::Chunk(bytes)) => {
                    self.received += bytes.len() as u64;
                    if self.received > TIMES * self.limit() {
                        let reason = "the file was sent several times and was never complete";
                        return Ok(Err(Failure::new(Cause::Final, reason)));
                    }
                    if self.done + bytes.len() as u64 > self.limit() {
                        return Ok(Err(self.too_long(left)));
                    }
                    self.file.write_all(&bytes).map_err(|e| self.full(e))?;
                    self.done += bytes.len() as u64;
                }
            }
        }
    }

    /// What to do with a response that starts with `head`: read its body, or stop with what is there.
    fn accept(&mut self, head: &Head) -> Result<Result<bool, Failure>> {
        let broken = |reason: String| Ok(Err(Failure::new(Cause::Broken, reason)));
        match head.status {
            200 => {
                if self.done > 0 {
                    self.start_anew()?;
                }
                self.total = head.length;
            }
            206 if head.start == Some(self.done) && self.same_version(head) => {
                self.total = head.total.or(head.length.map(|n| n + self.done));
            }
            206 => {
                let asked = self.done;
                self.start_anew()?;
                self.ranges = false;
                return broken(format!("the server did not send the bytes from {asked} on"));
            }
            // There are no bytes after those received.
            416 if self.done > 0 && head.total.is_none_or(|total| total == self.done) => {
                return Ok(Ok(false));
            }
            416 => {
                self.start_anew()?;
                self.ranges = false;
                return broken("the server has fewer bytes than were received".into());
            }
            status => return Ok(Err(refusal(status, head))),
        }
        if head.etag.is_some() {
            self.etag.clone_from(&head.etag);
        }
        match self.total {
            Some(total) if total > self.limit() => Ok(Err(self.too_long(Some(total)))),
            _ => Ok(Ok(true)),
        }
    }

    fn same_version(&self, head: &Head) -> bool {
        match (&self.etag, &head.etag) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        }
    }

    /// Most bytes that are taken: the size of an asset is a round number.
    fn limit(&self) -> u64 {
        self.asset.size + self.asset.size / 4 + PROGRESS
    }

    fn too_long(&self, bytes: Option<u64>) -> Failure {
        let found = bytes.map_or("no end".to_string(), |n| format!("{n} bytes"));
        let reason = format!("expected about {} bytes, found {found}", self.asset.size);
        Failure::new(Cause::Final, reason)
    }

    fn start_anew(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.full(e))?;
        self.done = 0;
        self.resumed = false;
        self.etag = None;
        self.total = None;
        Ok(())
    }

    /// Whether the part has the right hash; what was found if not.
    fn is_whole(&mut self) -> Result<Result<(), String>> {
        let algorithm = self.asset.digest.algorithm;
        let hash = Digest::of_file(algorithm, self.part, &mut |_| true)?;
        let Some((hash, length)) = hash else { return Err(stopped(self.asset)) };
        if self.asset.digest.matches(&hash) {
            return Ok(Ok(()));
        }
        let page = match starts_like_a_page(self.part) {
            true => ", a web page as a log-in portal or a proxy sends",
            false => "",
        };
        let digest = Digest::new(algorithm, hash);
        Ok(Err(format!("{digest} ({length} bytes{page})")))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.full(e))
    }

    /// Reports progress to the caller.
    fn tell(&mut self) -> Result<()> {
        let event = Event::Downloading {
            file: &self.asset.file,
            url: &self.url,
            done: self.done,
            total: self.total,
        };
        match (self.watch)(&event) {
            Control::Continue => Ok(()),
            Control::Stop => Err(stopped(self.asset)),
        }
    }

    fn pause(&mut self, failed: u32, failure: &Failure) -> Result<()> {
        let doubled = self.hub.pause.saturating_mul(1 << (failed - 1).min(16));
        let pause = failure.retry_after.unwrap_or(doubled).min(LONGEST_PAUSE);
        let until = Instant::now() + pause;
        let event = Event::Retrying { file: &self.asset.file, reason: &failure.reason, pause };
        loop {
            if (self.watch)(&event) == Control::Stop {
                return Err(stopped(self.asset));
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(POLL)),
                _ => return Ok(()),
            }
        }
    }

    fn failed(&self, reason: String, hint: String) -> Error {
        Error::Download { file: self.asset.file.clone(), url: self.url.clone(), reason, hint }
    }

    fn given_up(&self, failure: &Failure) -> Error {
        let kept = match self.done {
            0 => {
                // Nothing to continue from.
                let _ = fs::remove_file(self.part);
                String::new()
            }
            n => format!(" ({n} bytes have arrived and are saved)"),
        };
        self.failed(format!("{}{kept}", failure.reason), self.hub.by_hand(self.asset))
    }

    fn refused(&self, found: &str) -> Error {
        let reason = format!("expected {}, found {found}; the file was deleted", self.asset.digest);
        self.failed(reason, self.hub.by_hand(self.asset))
    }

    fn full(&self, e: std::io::Error) -> Error {
        let reason = format!("cannot write {}: {e}", self.part.display());
        let hint = "make room, or set HEADSTART_CACHE to another folder; the download continues where it stopped";
        self.failed(reason, hint.into())
    }
}

fn refusal(status: u16, head: &Head) -> Failure {
    let (cause, what) = match status {
        404 | 410 => (Cause::Final, "not found"),
        401 | 403 => (Cause::Final, "not allowed"),
        407 => (Cause::Final, "the proxy wants a name and a password"),
        408 | 425 | 429 => (Cause::Broken, "too many requests"),
        500..=599 => (Cause::Broken, "the server failed"),
        300..=399 => (Cause::Final, "it redirects to where this machine cannot follow"),
        _ => (Cause::Final, "an unexpected response"),
    };
    let reason = format!("HTTP status {status}: {what}");
    Failure { cause, reason, retry_after: head.retry_after }
}

fn starts_like_a_page(path: &Path) -> bool {
    use std::io::Read;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok() && start.trim_ascii_start().starts_with(b"<")
}
