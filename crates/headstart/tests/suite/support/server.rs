//! A web server on loopback that does what a test tells it to, one request a connection.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// How many requests came before.
    pub number: usize,
    pub path: String,
    pub host: String,
    /// The first byte wanted.
    pub range: Option<usize>,
    pub if_range: Option<String>,
}

/// Whether programs on this machine reach each other. In an empty network namespace (`unshare -n`) they do not.
pub fn loopback() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0");
    let reached = listener.and_then(|listener| TcpStream::connect(listener.local_addr()?));
    if let Err(error) = &reached {
        super::skip::skipped(&format!("no loopback network ({error})"));
    }
    reached.is_ok()
}

pub struct Server {
    /// Where it listens, with a slash at the end.
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves until the test ends. `answer` writes the whole answer; the connection is then closed.
    pub fn start(answer: impl Fn(&Request, &mut dyn Write) + Send + Sync + 'static) -> Server {
        Server::wrapped(Some, answer)
    }

    /// The same over whatever `wrap` makes of a connection.
    pub fn wrapped<S: Read + Write>(
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        answer: impl Fn(&Request, &mut dyn Write) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, both) = (Arc::clone(&requests), Arc::new((wrap, answer)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, both) = (Arc::clone(&seen), Arc::clone(&both));
                thread::spawn(move || {
                    let Some(mut stream) = both.0(stream) else { return };
                    let Some(mut request) = read(&mut stream) else { return };
                    {
                        let mut seen = seen.lock().unwrap();
                        request.number = seen.len();
                        seen.push(request.clone());
                    }
                    both.1(&request, &mut stream);
                });
            }
        });
        Server { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &mut impl Read) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request { path: first.split(' ').nth(1)?.to_string(), ..Request::default() };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "host" => request.host = value.trim().to_string(),
            "range" => {
                let bytes = value.trim().strip_prefix("bytes=")?;
                request.range = bytes.strip_suffix('-')?.parse().ok();
            }
            "if-range" => request.if_range = Some(value.trim().to_string()),
            _ => {}
        }
    }
    Some(request)
}

/// Writes a head: a status and header lines.
pub fn head(out: &mut dyn Write, status: &str, lines: &[String]) {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let _ = write!(out, "HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n");
}

/// Writes a whole answer.
pub fn send(out: &mut dyn Write, status: &str, lines: &[String], body: &[u8]) {
    let mut lines = lines.to_vec();
    lines.push(format!("Content-Length: {}", body.len()));
    head(out, status, &lines);
    let _ = out.write_all(body);
    let _ = out.flush();
}

/// What a good server does with a file.
pub fn serve(request: &Request, out: &mut dyn Write, file: &[u8]) {
    match request.range {
        Some(start) if start >= file.len() => {
            let range = format!("Content-Range: bytes */{}", file.len());
            send(out, "416 Range Not Satisfiable", &[range], b"");
        }
        Some(start) => {
            let (last, n) = (file.len() - 1, file.len());
            let range = format!("Content-Range: bytes {start}-{last}/{n}");
            send(out, "206 Partial Content", &[range], &file[start..]);
        }
        None => send(out, "200 OK", &[], file),
    }
}

/// As [`serve`], but the connection breaks off after `bytes` bytes of the body.
pub fn serve_part(request: &Request, out: &mut dyn Write, file: &[u8], bytes: usize) {
    let start = request.range.unwrap_or(0);
    let length = format!("Content-Length: {}", file.len() - start);
    let range = format!("Content-Range: bytes {start}-{}/{}", file.len() - 1, file.len());
    let (status, lines) = match request.range {
        Some(_) => ("206 Partial Content", vec![length, range]),
        None => ("200 OK", vec![length]),
    };
    head(out, status, &lines);
    let _ = out.write_all(&file[start..(start + bytes).min(file.len())]);
    let _ = out.flush();
}
