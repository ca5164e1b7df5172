//! Too much, too long, too slow: each is refused, and costs nobody else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use headstart_server::Limits;

use crate::support::{Client, Server, pixels, png, request};

#[test]
fn the_queue_answers_503_and_when_to_ask_again() {
    let (queue, delay) = (4, Duration::from_secs(1));
    let server = Server::start(Limits { queue, batch: 64, delay, ..Limits::default() });
    let (good, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for i in 0..10 {
            let (server, good, busy) = (&server, &good, &busy);
            scope.spawn(move || {
                let reply = server.infer(&pixels(1, i));
                match reply.code {
                    200 => good.fetch_add(1, Ordering::Relaxed),
                    _ => {
                        let reply = reply.says(503, &["too many images wait"]);
                        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                        assert!((1..=60).contains(&seconds));
                        busy.fetch_add(1, Ordering::Relaxed)
                    }
                }
            });
        }
    });
    assert_eq!((good.into_inner(), busy.into_inner()), (4, 6));
    server.infer(&pixels(5, 1)).says(400, &["at most 4, found 5", "--queue"]);
    server.infer(&pixels(4, 1)).ok();
}

#[test]
fn long_bodies_are_refused_by_what_they_say_and_by_what_they_are() {
    let server = Server::start(Limits { body: 50_000, ..Limits::default() });
    let mut client = Client::new(server.address);
    // Nothing of it is waited for.
    client.send(
        "POST",
        "/predict",
        &[("Content-Type", "image/png"), ("Content-Length", "1000000000")],
        b"",
    );
    client.read().unwrap().says(413, &["50000 bytes", "--max-body"]);
    let mut client = Client::new(server.address);
    client.send(
        "POST",
        "/predict",
        &[("Content-Type", "image/png"), ("Transfer-Encoding", "chunked")],
        b"",
    );
    let chunk = [b"4000\r\n", vec![7; 0x4000].as_slice(), b"\r\n"].concat();
    for _ in 0..4 {
        let _ = client.stream.write_all(&chunk);
    }
    client.read().unwrap().says(413, &["50000 bytes"]);
    server.infer(&pixels(1, 1)).ok();
}

#[test]
fn images_with_too_many_pixels_are_refused_before_they_are_decoded() {
    let server = Server::start(Limits { pixels: 10_000, ..Limits::default() });
    let kind = [("Content-Type", "image/png")];
    server.ask("POST", "/predict", &kind, &png(100, 100, 1)).ok();
    server
        .ask("POST", "/predict", &kind, &png(101, 100, 1))
        .says(422, &["10,000 pixels", "101x100"]);
    // Its head says 60000 x 60000.
    let mut bomb = png(8, 8, 1);
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    server.ask("POST", "/predict", &kind, &bomb).is(422);
}

#[test]
fn slow_clients_and_idle_connections_are_let_go_and_hinder_nobody() {
    let (timeout, idle) = (Duration::from_millis(800), Duration::from_millis(400));
    let server = Server::start(Limits { timeout, idle, ..Limits::default() });
    let start = Instant::now();
    let silent = TcpStream::connect(server.address).unwrap();
    let mut half = TcpStream::connect(server.address).unwrap();
    half.write_all(b"POST /predict HTTP/1.1\r\nHo").unwrap();
    let mut slow = Client::new(server.address);
    slow.send(
        "POST",
        "/predict",
        &[("Content-Type", "image/png"), ("Content-Length", "1000")],
        b"",
    );
    let mut kept = Client::new(server.address);
    kept.ask("GET", "/v2", &[], b"").ok();
    // Meanwhile others are answered.
    server.infer(&pixels(1, 1)).ok();
    assert!(start.elapsed() < timeout, "{:?}", start.elapsed());
    for _ in 0..3 {
        let _ = slow.stream.write_all(b"x");
        thread::sleep(Duration::from_millis(100));
    }
    slow.read().unwrap().says(408, &["within 0.8 seconds", "--timeout"]);
    for mut stream in [silent, half, kept.stream, slow.stream] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut rest = Vec::new();
        // It was closed, and not by our own patience.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(server.get("/metrics").text().contains("headstart_connections 1\n"));
}

#[test]
fn connections_beyond_the_most_are_told_so() {
    let server = Server::start(Limits { connections: 3, ..Limits::default() });
    let held: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::new(server.address);
            client.ask("GET", "/v2", &[], b"").ok();
            client
        })
        .collect();
    let mut more = Client::new(server.address);
    let reply = more.read().unwrap().is(503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Client::new(server.address);
        client.send("GET", "/metrics", &[], b"");
        if let Some(reply) = client.read().filter(|reply| reply.code == 200) {
            assert!(reply.text().contains("headstart_connections_refused_total"));
            break;
        }
        assert!(Instant::now() < until, "there is no room again");
    }
}

#[test]
fn requests_that_no_longer_have_a_client_give_their_room_back() {
    let (queue, delay) = (2, Duration::from_millis(500));
    let server = Server::start(Limits { queue, batch: 64, delay, ..Limits::default() });
    let body = request(&pixels(2, 1));
    let mut client = Client::new(server.address);
    client.send("POST", "/v2/models/small/infer", &[], body.as_bytes());
    thread::sleep(Duration::from_millis(100));
    server.infer(&pixels(1, 1)).is(503);
    drop(client);
    let until = Instant::now() + Duration::from_secs(10);
    while server.infer(&pixels(1, 1)).code != 200 {
        assert!(Instant::now() < until, "there is no room again");
    }
    assert!(server.get("/metrics").text().contains("headstart_images_total 1\n"));
}
