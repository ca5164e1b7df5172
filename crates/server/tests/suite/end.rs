//! The end: what was asked before is answered.

use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use headstart_server::Limits;

use crate::support::{Client, Server, pixels, request};

#[test]
fn what_was_asked_before_the_end_is_answered_and_nothing_after_it() {
    let delay = Duration::from_millis(600);
    let server = Server::start(Limits { batch: 64, delay, ..Limits::default() });
    let body = request(&pixels(1, 1));
    let mut clients: Vec<Client> = (0..8).map(|_| Client::new(server.address)).collect();
    for client in &mut clients {
        client.send("POST", "/v2/models/small/infer", &[], body.as_bytes());
    }
    let mut idle = Client::new(server.address);
    idle.ask("GET", "/v2", &[], b"").ok();
    thread::sleep(Duration::from_millis(200));
    let address = server.address;
    let served = server.end();
    for client in &mut clients {
        let reply = client.read().expect("an answer").ok();
        assert_eq!(reply.data().len(), 10);
        assert!(client.read().is_none(), "the connection is closed");
    }
    assert!(idle.read().is_none());
    assert!(TcpStream::connect(address).is_err());
    assert_eq!((served.requests, served.images, served.cut), (9, 8, 0));
}

#[test]
fn a_client_that_does_not_finish_its_request_does_not_hold_the_end_up() {
    let drain = Duration::from_millis(300);
    let server = Server::start(Limits { drain, ..Limits::default() });
    let mut client = Client::new(server.address);
    client.send(
        "POST",
        "/predict",
        &[("Content-Type", "image/png"), ("Content-Length", "10")],
        b"",
    );
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let served = server.end();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(served.cut, 1);
}

#[test]
fn under_load_every_request_is_answered_or_refused_over_an_end() {
    let server = Server::start(Limits::default());
    let address = server.address;
    let counts = Mutex::new((0, 0));
    thread::scope(|scope| {
        for seed in 0..8 {
            let counts = &counts;
            scope.spawn(move || {
                let body = request(&pixels(1, seed));
                loop {
                    let Ok(stream) = TcpStream::connect(address) else { break };
                    drop(stream);
                    let Ok(mut client) = std::panic::catch_unwind(|| Client::new(address)) else {
                        break;
                    };
                    client.send("POST", "/v2/models/small/infer", &[], body.as_bytes());
                    match client.read() {
                        Some(reply) => {
                            assert_eq!(reply.ok().data().len(), 10);
                            counts.lock().unwrap().0 += 1;
                        }
                        // Accepted by the system and by nobody else: it was not begun.
                        None => counts.lock().unwrap().1 += 1,
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        server.stop();
    });
    let served = server.end();
    let (answered, refused) = counts.into_inner().unwrap();
    assert!(answered > 20, "{answered}");
    assert_eq!(served.images, answered, "{refused} were refused");
    assert_eq!(served.cut, 0);
}
