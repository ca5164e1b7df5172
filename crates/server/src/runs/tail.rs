//! A run's events.jsonl as it grows, as server-sent events.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::{EVENTS, State, state};
use crate::service::Service;

/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(300);
/// After so many looks without news something is said, so that a client that went away is noticed.
const QUIET: u32 = 50;
/// Most bytes that are read at once.
const MOST: u64 = 1 << 20;
/// How a line of a step begins, of which only the last one matters in hindsight.
const STEP: &[u8] = b"{\"event\":\"step\"";

/// Where a client is in a file.
struct Tail {
    path: PathBuf,
    at: u64,
    /// A line that is not whole yet.
    rest: Vec<u8>,
    told: Option<State>,
    quiet: u32,
}

/// What there is to send.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    text: Vec<u8>,
    /// Whether there is more to read.
    more: bool,
}

impl Tail {
    fn new(path: &Path) -> Tail {
        let path = path.to_path_buf();
        Tail { path, at: 0, rest: Vec::new(), told: None, quiet: 0 }
    }

    /// Reads on. A file that is shorter than before was begun again, or cut where it is resumed.
    fn look(&mut self) -> std::io::Result<News> {
        let mut text = Vec::new();
        // Before the file is read, so that no line follows the word that it has ended.
        let now = state(&self.path);
        let mut file = File::open(self.path.join(EVENTS))?;
        let length = file.metadata()?.len();
        if length < self.at {
            (self.at, self.told) = (0, None);
            self.rest.clear();
            text.extend_from_slice(b"event: again\ndata:\n\n");
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        self.rest.extend_from_slice(&bytes);
        let whole = self.rest.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        if self.rest.len() as u64 > MOST {
            return Err(ErrorKind::InvalidData.into());
        }
        say_lines(&lines, &mut text);
        let more = self.at < length;
        if !more && self.told != Some(now) {
            let word = serde_json::to_string(&now).unwrap_or_default();
            text.extend_from_slice(format!("event: state\ndata: {word}\n\n").as_bytes());
            self.told = Some(now);
        }
        Ok(News { text, more })
    }
}

/// Lines as events; of steps in a row the last.
fn say_lines(lines: &[u8], text: &mut Vec<u8>) {
    let mut lines = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let passed =
            line.starts_with(STEP) && lines.peek().is_some_and(|next| next.starts_with(STEP));
        if !passed {
            text.extend_from_slice(b"data: ");
            text.extend(line.iter().filter(|&&b| b != b'\r'));
            text.extend_from_slice(b"\n\n");
        }
    }
}

/// The events of the run of that folder, from its beginning and on as they come, until the client goes or the server ends.
pub fn stream(
    path: &Path,
    service: Arc<Service>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    unfold((Tail::new(path), service, permit), |(mut tail, service, permit)| async move {
        loop {
            if service.ending.load(Ordering::Relaxed) {
                return None;
            }
            let (back, news) = tokio::task::spawn_blocking(move || {
                let news = tail.look();
                (tail, news)
            })
            .await
            .ok()?;
            tail = back;
            let mut news = news.ok()?;
            if news.text.is_empty() {
                tail.quiet += 1;
                if tail.quiet >= QUIET {
                    news.text.extend_from_slice(b":\n\n");
                }
            }
            if !news.text.is_empty() {
                tail.quiet = 0;
                return Some((Ok(news.text.into()), (tail, service, permit)));
            }
            if !news.more {
                sleep(LOOK).await;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_come_whole_once_and_again_where_the_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let events = path.join(EVENTS);
        let mut tail = Tail::new(path);
        let mut look = || String::from_utf8(tail.look().unwrap().text).unwrap();
        let ended = "event: state\ndata: \"ended\"\n\n";
        let step = |n: u32| format!("{{\"event\":\"step\",\"step\":{n}}}\n");
        fs::write(&events, format!("{{\"a\":1}}\n{}{}{{\"b\"", step(1), step(2))).unwrap();
        let expected = format!("data: {{\"a\":1}}\n\ndata: {}\n\n{ended}", step(2).trim());
        assert_eq!(look(), expected);
        assert_eq!(look(), "");
        fs::write(&events, format!("{{\"a\":1}}\n{}{}{{\"b\":2}}\n", step(1), step(2))).unwrap();
        assert_eq!(look(), "data: {\"b\":2}\n\n");
        fs::write(&events, "{\"c\":3}\n").unwrap();
        assert_eq!(look(), format!("event: again\ndata:\n\ndata: {{\"c\":3}}\n\n{ended}"));
        // Who writes to it holds a lock.
        let file = File::options().append(true).open(&events).unwrap();
        file.lock().unwrap();
        assert_eq!(look(), "event: state\ndata: \"running\"\n\n");
        drop(file);
        // A run that was stopped has a page too.
        fs::write(path.join("report.html"), headstart::report::STOPPED).unwrap();
        assert_eq!(look(), ended);
        fs::write(path.join("report.html"), "").unwrap();
        assert_eq!(look(), "event: state\ndata: \"finished\"\n\n");
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(EVENTS), vec![b'x'; 3 << 20]).unwrap();
        let mut tail = Tail::new(folder.path());
        assert_eq!(tail.look().unwrap(), News { text: Vec::new(), more: true });
        assert!(tail.look().is_err());
    }
}
