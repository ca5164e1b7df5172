//! A server in this process, and a client that says exactly what a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use headstart::image::{Rgb8, picture};
use headstart::source::ModelSource;
use headstart::{Control, Device, Model};
use headstart_server::{Limits, Named, Options, Served, serve};

/// A server that ends with the test.
pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Served>>,
}

impl Server {
    /// With a small net and these limits.
    pub fn start(limits: Limits) -> Server {
        Server::with(options(limits))
    }

    pub fn with(options: Options) -> Server {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = std::sync::mpsc::channel();
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut control = || match flag.load(Ordering::Relaxed) {
                true => Control::Stop,
                false => Control::Continue,
            };
            let mut ready = |ready: headstart_server::Ready| sender.send(ready.address).unwrap();
            serve(options, &mut ready, &mut control).unwrap()
        });
        let address = receiver.recv().unwrap();
        Server { address, stop, thread: Some(thread) }
    }

    /// Asks it to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets it end.
    pub fn end(mut self) -> Served {
        self.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Client::new(self.address).ask(method, path, headers, body)
    }

    /// Pixels as the protocol's JSON has them.
    pub fn infer(&self, pixels: &[u8]) -> Reply {
        self.ask("POST", "/v2/models/small/infer", &[], request(pixels).as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes of an image of [`model`].
pub const IMAGE: usize = 32 * 32 * 3;

/// Images of that size as an inference request.
pub fn request(pixels: &[u8]) -> String {
    let shape = [pixels.len() / IMAGE, 32, 32, 3];
    format!(
        "{{\"inputs\":[{{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":{shape:?},\"data\":{pixels:?}}}]}}"
    )
}

/// The small net of the library, with a temperature.
pub fn model() -> Model {
    let source = ModelSource::new("resnet20", None).unwrap();
    let mut model = source.open(&mut |_| Control::Continue).unwrap().0;
    model.card.temperature = Some(1.7);
    model
}

pub fn device() -> Device {
    Device::cpu(2).unwrap()
}

pub fn options(limits: Limits) -> Options {
    let source = ModelSource::new("resnet20", None).unwrap();
    let named = Named { name: "small".into(), model: model(), source };
    Options { port: 0, limits, ..Options::new(vec![named], device()) }
}

/// Pixels that differ for each seed.
pub fn pixels(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count * IMAGE).map(|_| next()).collect()
}

pub fn png(width: usize, height: usize, seed: u32) -> Vec<u8> {
    let bytes = pixels((width * height * 3).div_ceil(IMAGE), seed);
    picture::png(&Rgb8::new(width, height, &bytes[..width * height * 3]).unwrap()).unwrap()
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub fn ok(self) -> Reply {
        self.is(200)
    }

    #[track_caller]
    pub fn is(self, code: u16) -> Reply {
        assert_eq!(self.code, code, "{}{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }

    /// What a refusal says.
    #[track_caller]
    pub fn says(self, code: u16, parts: &[&str]) -> Reply {
        let reply = self.is(code);
        let text = reply.json().to_string();
        for part in parts {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The numbers of the first output.
    pub fn data(&self) -> Vec<f32> {
        let json = self.json();
        let data = json["outputs"][0]["data"].as_array().unwrap();
        data.iter().map(|v| v.to_string().parse().unwrap()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection, on which one request follows another.
pub struct Client {
    pub stream: TcpStream,
    address: SocketAddr,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream, address }
    }

    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.send(method, path, headers, body);
        self.read().expect("an answer")
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        // The server may answer and close before it has read all.
        let _ = self.stream.write_all(&[head.as_bytes(), body].concat());
    }

    /// The next answer; `None` where the connection ended without one.
    pub fn read(&mut self) -> Option<Reply> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
        loop {
            if let Some(reply) = parse(&bytes) {
                return Some(reply);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned() + "\r\n";
    let code = head.split(' ').nth(1)?.parse().ok()?;
    let mut reply = Reply { code, head, body: Vec::new() };
    let length = reply.header("content-length")?.trim().parse::<usize>().ok()?;
    reply.body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(reply)
}
