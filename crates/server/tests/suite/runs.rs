//! Runs of a folder: listed, followed, stopped and resumed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use headstart::config::TrainConfig;
use headstart::events;
use headstart::run::{CacheFolder, DiskCache, Ended, Event, Job};
use headstart::{Control, weights};
use headstart_server::{Limits, Options};

use crate::support::{Server, options};

/// A run of the sample, below `root`, which is stopped once so many epochs are done.
fn run(root: &Path, name: &str, epochs: usize, stop_after: usize) {
    let config =
        TrainConfig { epochs, fine_tune_at: None, limit: Some(200), ..TrainConfig::sample() };
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let mut done = 0;
    let job = Job::new(config).out(root.join(name), false).cache(cache);
    let ended = job.run(&mut |event| {
        done += usize::from(matches!(event, Event::Training(events::Event::Epoch(_))));
        if done >= stop_after { Control::Stop } else { Control::Continue }
    });
    assert_eq!(matches!(ended.unwrap(), Ended::Finished(_)), stop_after > epochs);
}

fn server(root: &Path) -> Server {
    Server::with(Options { runs: root.to_path_buf(), ..options(Limits::default()) })
}

fn row(server: &Server, name: &str) -> serde_json::Value {
    let list = server.get("/runs").ok().json();
    let rows = list["runs"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{list}")).clone()
}

fn wait(
    server: &Server,
    name: &str,
    what: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let row = row(server, name);
        if what(&row) {
            return row;
        }
        assert!(Instant::now() < until, "{row}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Events from the beginning until one that `last` accepts.
fn follow(server: &Server, name: &str, last: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("GET /runs/{name}/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(last) {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "no {last} in {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    text
}

#[test]
fn a_stopped_run_is_resumed_followed_and_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(root, "whole", 3, 9);
    run(root, "part", 3, 1);
    let server = server(root);
    let whole = row(&server, "whole");
    assert_eq!(
        (&whole["state"], &whole["epochs"], &whole["page"]),
        (&"finished".into(), &3.into(), &true.into())
    );
    let part = row(&server, "part");
    assert_eq!(
        (&part["state"], &part["epochs"], &part["own"]),
        (&"stopped".into(), &1.into(), &false.into())
    );
    server.ask("POST", "/runs/part/stop", &[], b"").says(409, &["a process writes to"]);
    server.ask("POST", "/runs/whole/resume", &[], b"").says(409, &["was stopped"]);
    server.ask("POST", "/runs/part/resume", &[], b"").ok();
    let text = follow(&server, "part", "data: \"finished\"");
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    for epoch in 1..=3 {
        let line = format!("data: {{\"event\":\"epoch\",\"epoch\":{epoch},");
        assert_eq!(text.matches(&line).count(), 1, "{text}");
    }
    let part = wait(&server, "part", |row| row["own"] == false);
    assert!(part["failed"].is_null(), "{part}");
    assert_eq!(part["accuracy"], whole["accuracy"]);
    let tensors = |name: &str| weights::read(root.join(name)).unwrap().tensors;
    assert!(tensors("part") == tensors("whole"));
    // Side by side nothing differs.
    let both = server.get("/compare?names=%5B%22part%22,%22whole%22%5D").ok().json();
    assert_eq!(
        (&both["differences"], &both["runs"][1]["epochs"]),
        (&serde_json::json!([]), &3.into())
    );
    server.get("/compare?names=%5B%22part%22%5D").says(400, &["2 to 8"]);
    server.get("/compare?names=part").is(400);
    let one = server.get("/runs/part").ok().json();
    assert_eq!(one["planned"], 3);
    assert_eq!(one["report"]["confusion"].as_array().unwrap().len(), 10);
}

#[test]
fn a_run_of_this_server_stops_when_asked_and_when_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(root, "long", 100_000, 1);
    for asked in [true, false] {
        let server = server(root);
        server.ask("POST", "/runs/long/resume", &[], b"").ok();
        let before = wait(&server, "long", |row| row["state"] == "running" && row["own"] == true);
        server.ask("POST", "/runs/long/resume", &[], b"").is(409);
        let epochs = before["epochs"].as_u64().unwrap();
        wait(&server, "long", |row| row["epochs"].as_u64() > Some(epochs));
        if asked {
            server.ask("POST", "/runs/long/stop", &[], b"").ok();
            let row = wait(&server, "long", |row| row["state"] == "stopped");
            assert!(row["failed"].is_null(), "{row}");
        }
        server.end();
    }
    let server = server(root);
    assert_eq!(row(&server, "long")["state"], "stopped");
}

#[cfg(unix)]
#[test]
fn a_link_or_pipe_in_a_run_s_folder_is_neither_written_nor_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(root, "other", 100_000, 1);
    let (stop, victim) = (root.join("other/stop"), root.join("victim"));
    std::fs::write(&victim, b"precious").unwrap();
    let events = std::fs::File::open(root.join("other/events.jsonl")).unwrap();
    events.lock().unwrap();
    let server = server(root);
    std::os::unix::fs::symlink(&victim, &stop).unwrap();
    server.ask("POST", "/runs/other/stop", &[], b"").ok();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert!(stop.symlink_metadata().unwrap().is_file());
    std::fs::remove_file(&stop).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&stop).status().unwrap();
    assert!(made.success());
    server.ask("POST", "/runs/other/stop", &[], b"").ok();
    server.ask("POST", "/runs/other/stop", &[], b"").ok();
    assert!(stop.symlink_metadata().unwrap().is_file());
}

#[test]
fn a_run_of_another_process_stops_when_asked_and_can_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(root, "other", 100_000, 1);
    // A request that a killed process left does not stop the next one.
    std::fs::write(root.join("other/stop"), b"").unwrap();
    let path = root.join("other");
    let resumed = Job::resume(&path).unwrap();
    let other = thread::spawn(move || resumed.run(&mut |_| Control::Continue).unwrap());
    let server = server(root);
    let before = wait(&server, "other", |row| row["state"] == "running" && row["own"] == false);
    wait(&server, "other", |row| row["epochs"].as_u64() > before["epochs"].as_u64());
    server.ask("POST", "/runs/other/stop", &[], b"").ok();
    assert!(matches!(other.join().unwrap(), Ended::Stopped { .. }));
    assert_eq!(row(&server, "other")["state"], "stopped");
    assert!(!path.join("stop").exists());
}

#[test]
fn no_name_leaves_the_folder_and_reports_run_no_script() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs");
    let outside = folder.path().join("outside");
    for place in [&root.join("good"), &outside, &root.join("not a run")] {
        std::fs::create_dir_all(place).unwrap();
    }
    for place in [&root.join("good"), &outside, &root] {
        std::fs::write(place.join("events.jsonl"), "{\"event\":\"x\"}\n").unwrap();
        std::fs::write(place.join("report.html"), "<script>alert(1)</script>").unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let server = server(&root);
    let list = server.get("/runs").ok().json();
    assert_eq!(list["runs"].as_array().unwrap().len(), 1, "{list}");
    for bad in [
        "link",
        "..%2foutside",
        "%2e%2e",
        ".",
        "good%2f..%2f..%2foutside",
        "good%2f",
        "not%20a%20run",
        "%2f",
        "gone",
    ] {
        for rest in ["", "/events", "/report.html"] {
            let code = server.get(&format!("/runs/{bad}{rest}")).code;
            assert!(code == 404 || code == 400, "{bad}{rest}: {code}");
        }
        server.ask("POST", &format!("/runs/{bad}/resume"), &[], b"").is(404);
    }
    let report = server.get("/runs/good/report.html").ok();
    let policy = report.header("content-security-policy").unwrap();
    assert!(policy.starts_with("sandbox; default-src 'none'"), "{policy}");
    let none = self::server(&folder.path().join("gone"));
    assert_eq!(none.get("/runs").ok().json()["there"], false);
}
