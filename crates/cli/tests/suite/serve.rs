//! `headstart serve`: the real binary over plain HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::server::loopback;
use crate::support::{Done, Place};

/// Starts the server; returns when it listens, with its address.
fn start(place: &Place, line: &str) -> (Child, String, String) {
    let mut command = place.command(line);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (url, names) = line.trim().split_once(": ").unwrap_or_else(|| panic!("{line}"));
    (child, url.strip_prefix("http://").unwrap().to_string(), names.to_string())
}

fn end(mut child: Child, signal: &str) -> Done {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Done { code: child.wait().unwrap().code(), out: String::new(), err }
}

#[test]
fn without_a_model_the_page_makes_one() {
    if !loopback() {
        return;
    }
    let place = Place::new();
    let (child, address, names) = start(&place, "serve --port 0 --photos p --runs r");
    assert_eq!(names, "no model yet");
    assert!(ask(&address, "GET /begin HTTP/1.1", b"").contains("From photos to a classifier"));
    let made = ask(&address, "POST /begin/sets HTTP/1.1", b"{\"name\": \"pets\"}");
    assert!(made.starts_with("HTTP/1.1 200 "), "{made}");
    end(child, "TERM").ok();
    assert!(place.path("p/pets").is_dir() && !place.path("r").exists());
}

/// Asks and reads until the server closes.
fn ask(address: &str, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!(
        "{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_server_says_what_predict_says_and_ends_by_a_signal() {
    if !loopback() {
        return;
    }
    let place = Place::new();
    place.image("photo.png", 32, [90, 120, 60], 3);
    let photo = fs::read(place.path("photo.png")).unwrap();
    let predicted = place.run("predict resnet20 photo.png --json").ok().json();
    for signal in ["TERM", "INT"] {
        let photo = photo.clone();
        let (child, address, names) = start(&place, "serve resnet20 twin=resnet20 --port 0");
        assert_eq!(names, "resnet20, twin");
        let ready = ask(&address, "GET /v2/health/ready HTTP/1.1", b"");
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
        let head = "POST /predict?model=twin HTTP/1.1\r\nContent-Type: image/png";
        let answer = ask(&address, head, &photo);
        let json: serde_json::Value =
            serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let answered = &json["predictions"][0];
        for field in ["class", "index", "probability", "top"] {
            assert_eq!(answered[field], predicted[field], "{field}");
        }
        // A request that is on its way when the signal comes is answered.
        let mut slow = TcpStream::connect(&address).unwrap();
        slow.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = photo.len();
        let head = format!(
            "POST /predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).unwrap();
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(400));
            slow.write_all(&photo).unwrap();
            let mut text = String::new();
            slow.read_to_string(&mut text).unwrap();
            text
        });
        thread::sleep(Duration::from_millis(150));
        let done = end(child, signal).ok();
        assert!(done.err.contains("3 requests, 2 images"), "{}", done.err);
        let text = late.join().unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\"predictions\""), "{text}");
    }
    place.holds(&["photo.png"]);
}

#[test]
fn what_is_not_safe_or_cannot_be_meant_is_refused() {
    let place = Place::new();
    place.run("serve --data no/folder --port 0").fails(1, &["--data", "no/folder"]);
    place.run("serve nothing-here").fails(2, &["nothing-here"]);
    place.run("serve a/b=resnet20").fails(2, &["model name", "letters, digits"]);
    place.run("serve x=gone.safetensors").fails(1, &["gone.safetensors"]);
    place.run("serve resnet20 resnet20 --port 0").fails(1, &["resnet20 twice", "NAME=MODEL"]);
    place.run("serve resnet20 --port 0 --host 0.0.0.0").fails(1, &["--token-file"]);
    place.run("serve resnet20 --port 0 --token-file gone").fails(1, &["cannot read gone"]);
    fs::write(place.path("token"), "short\n").unwrap();
    place.run("serve resnet20 --port 0 --token-file token").fails(1, &["at least 16"]);
    fs::write(place.path("token"), "x".repeat(5000)).unwrap();
    place.run("serve resnet20 --port 0 --token-file token").fails(1, &["at most 4096 bytes"]);
    place.run("serve resnet20 --port 0 --threshold 2").fails(1, &["--threshold", "from 0 to 1"]);
    place.run("serve resnet20 --port 99999").fails(2, &["0 to 65535"]);
}
