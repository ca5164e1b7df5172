//! One request, on a thread of its own, so that the caller can stop waiting at any time.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Proxy, ProxyProtocol};

use super::tls;

/// Bytes in a chunk.
const CHUNK: usize = 128 << 10;
/// Redirections that are followed.
const REDIRECTS: u32 = 8;

/// What a request returns, in order: a head, chunks, the end; or a failure at any point.
pub(crate) enum Message {
    Head(Head),
    Chunk(Vec<u8>),
    End,
    Failed(Failure),
}

/// The head of a response.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub status: u16,
    /// Bytes of the body.
    pub length: Option<u64>,
    /// First byte of a partial response.
    pub start: Option<u64>,
    /// Bytes of the whole file, in a partial response.
    pub total: Option<u64>,
    /// The strong validator.
    pub etag: Option<String>,
    /// How long to wait before the next request.
    pub retry_after: Option<Duration>,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub reason: String,
    pub retry_after: Option<Duration>,
}

/// Whether another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server cannot be reached.
    Unreachable,
    /// The next try may succeed.
    Broken,
    /// No try will succeed.
    Final,
}

impl Failure {
    pub(crate) fn new(cause: Cause, reason: impl Into<String>) -> Failure {
        Failure { cause, reason: reason.into(), retry_after: None }
    }
}

/// Makes connections to `url`, through the proxy that the environment names, except to this machine itself.
/// `roots` is a PEM file of certificates to trust instead of Mozilla's.
///
/// # Errors
/// If `url` needs encryption and this machine cannot do it.
pub(crate) fn agent(url: &str, timeout: Duration, roots: Option<&Path>) -> Result<Agent, String> {
    let proxy = if is_loopback(url) { None } else { Proxy::try_from_env() };
    let tls_to_proxy = proxy.as_ref().is_some_and(|p| p.protocol() == ProxyProtocol::Https);
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(proxy)
        .user_agent(concat!("headstart/", env!("CARGO_PKG_VERSION")))
        .max_redirects(REDIRECTS)
        .timeout_resolve(Some(timeout))
        .timeout_connect(Some(timeout))
        .timeout_send_request(Some(timeout))
        .timeout_recv_response(Some(timeout))
        .timeout_per_read(Some(timeout));
    match tls::config(roots) {
        Ok(tls) => config = config.tls_config(tls),
        Err(reason) if tls_to_proxy || !url.starts_with("http://") => return Err(reason),
        // A redirection may lead to https.
        Err(_) => config = config.max_redirects(0).max_redirects_will_error(false),
    }
    Ok(config.build().new_agent())
}

fn is_loopback(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
    host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Requests `url` from byte `offset` on, if it is still the file that `etag` means.
pub(crate) fn get(agent: &Agent, url: &str, offset: u64, etag: Option<&str>) -> Receiver<Message> {
    let (sender, receiver) = sync_channel(8);
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if offset > 0 {
        request = request.header("Range", format!("bytes={offset}-"));
        if let Some(etag) = etag {
            request = request.header("If-Range", etag);
        }
    }
    let failed = sender.clone();
    let thread = std::thread::Builder::new().name("download".into()).spawn(move || {
        let result = request.call().map_err(failure).and_then(|answer| pass_on(answer, &sender));
        // Sending fails once the caller has stopped, which is fine.
        let _ = sender.send(result.map_or_else(Message::Failed, |()| Message::End));
    });
    if let Err(e) = thread {
        let reason = format!("cannot start a thread: {e}");
        let _ = failed.send(Message::Failed(Failure::new(Cause::Final, reason)));
    }
    receiver
}

fn pass_on(answer: Response<Body>, sender: &SyncSender<Message>) -> Result<(), Failure> {
    let head = head(&answer);
    let has_file = matches!(head.status, 200 | 206);
    if sender.send(Message::Head(head)).is_err() || !has_file {
        return Ok(());
    }
    let mut body = answer.into_body().into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let n = match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failure(ureq::Error::from(e))),
        };
        chunk.truncate(n);
        if sender.send(Message::Chunk(chunk)).is_err() {
            return Ok(());
        }
    }
}

fn head(answer: &Response<Body>) -> Head {
    let headers = answer.headers();
    let (start, total) =
        text(headers, "content-range").and_then(content_range).unwrap_or((None, None));
    Head {
        status: answer.status().as_u16(),
        length: answer.body().content_length(),
        start,
        total,
        etag: text(headers, "etag").filter(|tag| tag.starts_with('"')).map(String::from),
        retry_after: text(headers, "retry-after")
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// First byte and whole length of `bytes 100-199/1000`, `bytes 100-199/*` or `bytes */1000`.
fn content_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok());
    Some((start, total.trim().parse().ok()))
}

const NO_HOST: &str = "the host's address was not found; is there a network?";

/// std gives failures of name look-up no kind of their own: on Unix they are known by their text, on Windows by the
/// numbers from WSAHOST_NOT_FOUND to WSANO_DATA.
fn is_no_host(e: &io::Error) -> bool {
    match e.raw_os_error() {
        None => e.to_string().starts_with("failed to lookup address"),
        Some(code) => cfg!(windows) && (11_001..=11_004).contains(&code),
    }
}

fn failure(error: ureq::Error) -> Failure {
    use io::ErrorKind as Kind;
    let (cause, reason) = match error {
        ureq::Error::HostNotFound => (Cause::Unreachable, NO_HOST.into()),
        ureq::Error::Io(e) if is_no_host(&e) => (Cause::Unreachable, NO_HOST.into()),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (Cause::Unreachable, "the server cannot be reached within the time-out".into())
        }
        ureq::Error::Timeout(_) => (Cause::Broken, "no data came within the time-out".into()),
        ureq::Error::Io(e) => match e.kind() {
            Kind::ConnectionRefused
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied => (Cause::Unreachable, e.to_string()),
            // rustls's verdict on a certificate comes as this.
            Kind::InvalidData => (Cause::Final, e.to_string()),
            Kind::UnexpectedEof => (Cause::Broken, "the connection ended too early".into()),
            _ => (Cause::Broken, e.to_string()),
        },
        ureq::Error::Protocol(e) => (Cause::Broken, e.to_string()),
        ureq::Error::ConnectionFailed => (Cause::Unreachable, "no connection".into()),
        ureq::Error::ConnectProxyFailed(e) => (Cause::Unreachable, format!("the proxy: {e}")),
        ureq::Error::TooManyRedirects => (Cause::Final, "it redirects again and again".into()),
        other => (Cause::Final, other.to_string()),
    };
    Failure::new(cause, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_as_rfc_9110_writes_them() {
        assert_eq!(content_range("bytes 100-199/1000"), Some((Some(100), Some(1000))));
        assert_eq!(content_range("bytes 100-199/*"), Some((Some(100), None)));
        assert_eq!(content_range("bytes */1000"), Some((None, Some(1000))));
        assert_eq!(content_range("lines 1-2/3"), None);
        assert_eq!(content_range("bytes"), None);
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        for url in ["http://127.0.0.1:80/a", "https://localhost/a", "http://[::1]:8/a:b"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://127.0.0.1.example.org/", "https://example.org:80/", "localhost"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
