//! Images in a bucket: the real binary, built with `--features objects`, against moto's S3 server on loopback.
//!
//! `.ci/objects` installs moto and runs this. Otherwise the Python with moto is that of `HEADSTART_PYTHON`.

#[path = "suite/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::server::{self, Server};
use support::skip::skipped;
use support::{Done, Place, TRAIN};

/// A server with buckets, and a proxy in front of it.
struct Bucket {
    python: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Bucket {
    /// `None`, said and counted, where moto is missing.
    fn start() -> Option<Bucket> {
        if !server::loopback() {
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let given = std::env::var("HEADSTART_PYTHON").ok();
        let own = root.join("target/objects/bin/python").to_string_lossy().into_owned();
        let names = given.into_iter().chain([own, "python3".into()]);
        let has_moto = |name: &String| {
            let found = Command::new(name).args(["-c", "import moto.server, flask"]).output();
            found.is_ok_and(|found| found.status.success())
        };
        let Some(python) = names.into_iter().find(has_moto) else {
            skipped("s3:// against a server, as there is no Python with moto[server]");
            return None;
        };
        let mut python = Command::new(python)
            .arg(root.join("tools/objects/bucket.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = python.stdin.take().unwrap();
        let mut answers = BufReader::new(python.stdout.take().unwrap());
        let mut address = String::new();
        answers.read_line(&mut address).unwrap();
        let address = address.trim().to_string();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        Some(Bucket { python, orders, answers, address })
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
        self.orders.flush().unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "{line}");
    }

    fn put(&mut self, bucket: &str, key: &str, body: &[u8]) {
        self.order(&format!("put {bucket} {} {}", base64(key.as_bytes()), base64(body)));
    }

    fn fill(&mut self, bucket: &str, key: &str, bytes: usize) {
        self.order(&format!("fill {bucket} {} {bytes}", base64(key.as_bytes())));
    }

    fn delete(&mut self, bucket: &str, key: &str) {
        self.order(&format!("delete {bucket} {}", base64(key.as_bytes())));
    }

    /// Puts all files below a folder.
    fn put_folder(&mut self, bucket: &str, prefix: &str, folder: &Path) {
        for file in files_below(folder) {
            let name = file.strip_prefix(folder).unwrap().to_str().unwrap().to_string();
            self.put(bucket, &format!("{prefix}{name}"), &fs::read(file).unwrap());
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, &b| n << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            match i <= chunk.len() {
                true => text.push(DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Files below a folder of the cache, but for locks.
fn cached(place: &Place, folder: &str) -> BTreeSet<String> {
    let root = place.cache().join(folder);
    let files = files_below(&root);
    let names = files.iter().map(|f| f.strip_prefix(&root).unwrap().to_str().unwrap().to_string());
    names.filter(|name| !name.contains(".locks/")).collect()
}

/// A command with the variables for a server at `address`.
fn command(place: &Place, address: &str, line: &str) -> Command {
    let mut command = place.command(line);
    for name in ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SKIP_SIGNATURE", "AWS_ENDPOINT_URL_S3"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL", format!("http://{address}"));
    command.env("HEADSTART_TIMEOUT", "60").env_remove("HTTP_PROXY").env_remove("http_proxy");
    command
}

fn run(place: &Place, address: &str, line: &str) -> Done {
    command(place, address, line).output().unwrap().into()
}

/// Passes connections on to a server, and breaks them as a test says.
#[derive(Clone)]
struct Proxy {
    address: String,
    /// Bytes that the server may send until the connection is cut off that sends the next, once.
    until_break: Arc<AtomicI64>,
    /// Connections that were cut off.
    breaks: Arc<AtomicU64>,
    /// Bytes that the server sent.
    sent: Arc<AtomicU64>,
    /// First lines of requests.
    requests: Arc<Mutex<Vec<String>>>,
    /// Ranges from this byte on are never sent.
    stall_from: Arc<AtomicU64>,
}

impl Proxy {
    fn before(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap().to_string(),
            until_break: Arc::new(AtomicI64::new(i64::MAX)),
            breaks: Arc::default(),
            sent: Arc::default(),
            requests: Arc::default(),
            stall_from: Arc::new(AtomicU64::new(u64::MAX)),
        };
        let (server, own) = (server.to_string(), proxy.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                // Where the range begins that was asked for last.
                let start = Arc::new(AtomicU64::new(0));
                let (one, other, at) = (own.clone(), own.clone(), start.clone());
                std::thread::spawn(move || one.pass_requests(up, server, &start));
                std::thread::spawn(move || other.pass_answers(down, client, &at));
            }
        });
        proxy
    }

    fn pass_requests(&self, mut from: TcpStream, mut to: TcpStream, start: &AtomicU64) {
        let mut bytes = [0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..n]).to_lowercase();
            let range =
                text.split("range: bytes=").nth(1).and_then(|range| range.split('-').next());
            start.store(range.and_then(|n| n.parse().ok()).unwrap_or(0), Ordering::SeqCst);
            let line = String::from_utf8_lossy(&bytes[..n]).lines().next().map(String::from);
            self.requests.lock().unwrap().extend(line);
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn pass_answers(&self, mut from: TcpStream, mut to: TcpStream, start: &AtomicU64) {
        let mut bytes = [0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            if start.load(Ordering::SeqCst) >= self.stall_from.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_secs(600));
            }
            self.sent.fetch_add(n as u64, Ordering::SeqCst);
            if self.until_break.fetch_sub(n as i64, Ordering::SeqCst) < n as i64 {
                self.until_break.store(i64::MAX, Ordering::SeqCst);
                self.breaks.fetch_add(1, Ordering::SeqCst);
                let _ = to.write_all(&bytes[..n / 2]);
                break;
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// The keys that were asked for since the last time, as often as they were.
    fn asked(&self) -> Vec<String> {
        let lines = std::mem::take(&mut *self.requests.lock().unwrap());
        let paths = lines.iter().filter_map(|line| line.strip_prefix("GET ")?.split(' ').next());
        paths.filter(|path| !path.contains('?')).map(String::from).collect()
    }

    /// The keys that were asked for since the last time.
    fn fetched(&self) -> BTreeSet<String> {
        self.asked().into_iter().collect()
    }
}

#[test]
fn a_bucket_is_a_data_set() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(6);
    bucket.put_folder("photos", "some/data/", &place.path("data"));
    bucket.put("photos", "some/database/no.png", b"of another folder");
    fs::rename(place.path("data"), place.path("local")).unwrap();
    let proxy = Proxy::before(&bucket.address);
    let at = |line: &str| run(&place, &proxy.address, line);
    let mut found = at("data check s3://photos/some/data --json").ok().json();
    let mut local = place.run("data check local --json").ok().json();
    for one in [&mut found, &mut local] {
        one.as_object_mut().unwrap().remove("data");
        one.as_object_mut().unwrap().remove("name");
    }
    assert_eq!(found, local);
    assert_eq!(proxy.fetched().len(), 18);
    assert_eq!(cached(&place, "objects/s3/photos").len(), 18);
    // What is there is not fetched again.
    let train = TRAIN.replace("--data data", "--data s3://photos/some/data/");
    at(&train).ok();
    assert_eq!(proxy.fetched(), BTreeSet::new());
    let evaluated = at("evaluate run --data s3://photos/some/data --json").ok().json();
    fs::rename(place.path("run"), place.path("bucket-run")).unwrap();
    place.run(&TRAIN.replace("--data data", "--data local")).ok();
    assert_eq!(
        support::tensors(&place.path("run/weights/last.safetensors")),
        support::tensors(&place.path("bucket-run/weights/last.safetensors"))
    );
    assert_eq!(place.run("evaluate run --data local --json").ok().json(), evaluated);
    // What is another object, and what is gone.
    place.image("new.png", 20, [1, 2, 3], 4);
    bucket.put("photos", "some/data/red/000.png", &fs::read(place.path("new.png")).unwrap());
    bucket.delete("photos", "some/data/blue/001.png");
    bucket.put(
        "photos",
        "some/data/green/more/a b+c%41.png",
        &fs::read(place.path("new.png")).unwrap(),
    );
    let after = at("data check s3://photos/some/data --json").code;
    assert!(matches!(after, Some(0 | 1)), "{after:?}");
    let fetched = proxy.fetched();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    let files = cached(&place, "objects/s3/photos/some/data");
    assert!(
        !files.contains("blue/001.png") && files.contains("green/more/a b+c%41.png"),
        "{files:?}"
    );
    let mirror = place.cache().join("objects/s3/photos/some/data/red/000.png");
    assert!(fs::read(mirror).unwrap() == fs::read(place.path("new.png")).unwrap());
    // A part of the work.
    for k in 1..=3 {
        at(&format!(
            "features bucket-run --data s3://photos/some/data --out vectors --shard {k}/3"
        ))
        .ok();
    }
    place.run("merge vectors --out features.npy").ok();
}

#[test]
fn images_of_a_bucket_are_predicted_a_part_at_a_time() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = support::trained(4, "");
    for i in 0..6 {
        place.image(&format!("new/{i}.png"), 20, [40 * i as u8, 90, 30], i);
    }
    fs::write(place.path("new/broken.png"), "no image").unwrap();
    bucket.put_folder("photos", "new/", &place.path("new"));
    bucket.put("photos", "new/notes.txt", b"no image");
    let proxy = Proxy::before(&bucket.address);
    let at = |line: &str| run(&place, &proxy.address, line);
    let local = place.run("predict run new --json").fails(1, &["new/broken.png", "1 that cannot"]);
    let done = at("predict run s3://photos/new --json");
    let done = done.fails(1, &["skipped: s3://photos/new/broken.png", "1 that cannot be read"]);
    assert!(!done.err.contains(".blocks"), "{}", done.err);
    assert_eq!(done.out, local.out.replace("\"new/", "\"s3://photos/new/"));
    assert_eq!(proxy.fetched().len(), 7);
    assert_eq!(cached(&place, "objects"), BTreeSet::new());
    let one = at("predict run s3://photos/new/3.png new/1.png s3://photos/new/2.png --json").ok();
    let names: Vec<String> = one
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["image"].to_string())
        .collect();
    assert_eq!(names, ["\"s3://photos/new/3.png\"", "\"new/1.png\"", "\"s3://photos/new/2.png\""]);
    at("explain-image run s3://photos/new/3.png --out seen.png").ok();
    fs::remove_dir_all(place.cache().join("objects/s3")).unwrap();
    let whole = at("predict run s3://photos/new --output whole.csv").fails(1, &["1 that cannot"]);
    assert!(!whole.err.contains(".blocks"));
    assert!(fs::read_to_string(place.path("whole.csv")).unwrap().contains("s3://photos/new/0.png"));
    proxy.fetched();
    // What a killed process left goes.
    let left = place.cache().join("objects/.blocks/1-1/0");
    fs::create_dir_all(&left).unwrap();
    let mut all = BTreeSet::new();
    for k in 1..=3 {
        at(&format!("predict run s3://photos/new --output parts --shard {k}/3")).ok();
        let own = proxy.fetched();
        assert!((2..=3).contains(&own.len()), "{own:?}");
        assert!(all.is_disjoint(&own));
        all.extend(own);
    }
    assert!(!left.exists() && cached(&place, "objects").is_empty());
    assert_eq!(all.len(), 7);
    place.run("merge parts --out joined.csv").fails(1, &["1 of 7 that cannot be read"]);
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("whole.csv"), read("joined.csv"));
    assert!(
        !fs::read_to_string(place.path("parts/part-0001-of-0003.jsonl"))
            .unwrap()
            .contains(".blocks")
    );
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(2);
    bucket.put_folder("photos", "data/", &place.path("data"));
    // In ranges, and at once.
    bucket.fill("photos", "data/large.bin", 36 << 20);
    bucket.fill("photos", "data/small.bin", 3 << 20);
    let proxy = Proxy::before(&bucket.address);
    proxy.until_break.store(1 << 20, Ordering::SeqCst);
    run(&place, &proxy.address, "data check s3://photos/data").ok();
    assert!(proxy.breaks.load(Ordering::SeqCst) >= 1);
    for (name, bytes) in [("large.bin", 36 << 20), ("small.bin", 3 << 20)] {
        let found = fs::read(place.cache().join("objects/s3/photos/data").join(name)).unwrap();
        let expected: Vec<u8> = (0..bytes / 4).flat_map(|n: u32| n.to_be_bytes()).collect();
        assert!(found == expected, "{name}");
    }
    assert_eq!(cached(&place, "objects/.parts"), BTreeSet::new());
}

#[test]
fn a_program_that_was_killed_goes_on_where_it_was() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(1);
    bucket.put_folder("photos", "data/", &place.path("data"));
    let size = 60 << 20;
    bucket.fill("photos", "data/large.bin", size);
    let proxy = Proxy::before(&bucket.address);
    // The first range arrives, and no other.
    proxy.stall_from.store(16 << 20, Ordering::SeqCst);
    let line = "data check s3://photos/data";
    let start = || {
        let mut command = command(&place, &proxy.address, line);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start();
    let parts = place.cache().join("objects/.parts");
    let arrived =
        || -> u64 { files_below(&parts).iter().map(|f| f.metadata().map_or(0, |m| m.len())).sum() };
    let begun = Instant::now();
    while arrived() < 16 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(240), "nothing arrived");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (kept, mirror) = (arrived(), place.cache().join("objects/s3/photos/data/large.bin"));
    assert!(!mirror.exists() && kept >= 16 << 20);
    // Ctrl-C leaves no less.
    #[cfg(unix)]
    {
        let asked = proxy.requests.lock().unwrap().len();
        let child = start();
        while proxy.requests.lock().unwrap().len() < asked + 3 {
            assert!(begun.elapsed() < Duration::from_secs(240), "nothing is asked for");
            std::thread::sleep(Duration::from_millis(20));
        }
        let number = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &number]).status().unwrap().success());
        let done = Done::from(child.wait_with_output().unwrap());
        done.fails(130, &["what has arrived is kept"]);
        assert!(!mirror.exists() && arrived() == kept);
    }
    let proxy = Proxy::before(&bucket.address);
    run(&place, &proxy.address, line).ok();
    let sent = proxy.sent.load(Ordering::SeqCst);
    assert!(sent < size as u64 - kept + (1 << 20), "{sent} bytes were sent, {kept} were there");
    let expected: Vec<u8> = (0..size as u32 / 4).flat_map(u32::to_be_bytes).collect();
    assert!(fs::read(mirror).unwrap() == expected);
    assert_eq!(cached(&place, "objects/.parts"), BTreeSet::new());
}

#[test]
fn two_programs_fetch_a_bucket_once() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(5);
    bucket.put_folder("photos", "data/", &place.path("data"));
    let proxy = Proxy::before(&bucket.address);
    let start = || {
        let mut command = command(&place, &proxy.address, "data check s3://photos/data --json");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..3).map(|_| start()).collect();
    let all = children.into_iter().map(|child| Done::from(child.wait_with_output().unwrap()));
    let found: Vec<String> = all.map(|done| done.ok().out).collect();
    assert!(found.iter().all(|one| *one == found[0]));
    assert_eq!(proxy.asked().len(), 15);
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(2);
    bucket.put_folder("photos", "data/", &place.path("data"));
    bucket.fill("photos", "data/some.bin", 9 << 20);
    bucket.fill("photos", "data/large.bin", 20 << 20);
    let line = "data check s3://photos/data";
    let program = env!("CARGO_BIN_EXE_headstart");
    // Of 2 or 4 MB, by the shell.
    let limited = format!("trap '' XFSZ; ulimit -f 4096; exec {program} {line}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &limited]);
    let full = command(&place, &bucket.address, line);
    for (name, value) in full.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let done = Done::from(shell.current_dir(place.path("")).output().unwrap());
    done.fails(1, &["cannot write", "make room"]);
    let there = cached(&place, "objects/s3/photos/data");
    assert!(!there.contains("some.bin") && !there.contains("large.bin"), "{there:?}");
    run(&place, &bucket.address, line).ok();
    let there = cached(&place, "objects/s3/photos/data");
    assert!(there.contains("some.bin") && there.contains("large.bin"), "{there:?}");
    assert_eq!(cached(&place, "objects/.parts"), BTreeSet::new());
}

#[test]
fn names_that_are_none_of_files_are_left_out() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(2);
    bucket.put_folder("photos", "data/", &place.path("data"));
    let long = format!("data/red/{}.png", "x".repeat(300));
    let image = fs::read(place.path("data/red/000.png")).unwrap();
    let hostile = [
        "data/../../../outside.png",
        "data/red/..",
        "data//absolute.png",
        "data/red/back\\slash.png",
        "data/red/line\nend.png",
        &long,
        // The name of a file and of a folder.
        "data/blue",
    ];
    for name in hostile {
        bucket.put("photos", name, &image);
    }
    // What stands for a folder is no object.
    bucket.put("photos", "data/", b"");
    bucket.put("photos", "data/green/", b"");
    // Nor can requests name it.
    bucket.put("photos", "data/red/end.png/", &image);
    let done = run(&place, &bucket.address, "data check s3://photos/data").ok();
    let left_out = format!("left out {} objects below s3://photos/data", hostile.len());
    assert!(done.err.contains(&left_out), "{}", done.err);
    assert!(!done.err.contains("line\nend"));
    let gone = "left out 1 object below s3://photos/data, such as red/end.png";
    assert!(done.err.contains(gone), "{}", done.err);
    assert_eq!(cached(&place, "objects/s3/photos/data").len(), 6);
    let all = files_below(place.cache());
    assert!(
        all.iter().all(|file| !file.ends_with("outside.png") && !file.ends_with("absolute.png"))
    );
}

#[test]
fn lists_have_many_pages_and_go_on_after_names_that_are_none() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = support::trained(2, "");
    let image = fs::read(place.path("data/red/000.png")).unwrap();
    bucket.order(&format!("many photos {} 2345", base64(b"all/n")));
    // Before, between and after the others, and two that follow each other.
    for name in ["all/a/../b.png", "all/n001234/..", "all/n001234/../x", "all/z//y.png"] {
        bucket.put("photos", name, &image);
    }
    for name in ["all/b.png", "all/n001500.png", "all/z.png"] {
        bucket.put("photos", name, &image);
    }
    let done = run(&place, &bucket.address, "predict run s3://photos/all --json").ok();
    assert!(done.err.contains("left out 4 objects below s3://photos/all"), "{}", done.err);
    assert!(done.err.contains("2345 of 2348 objects are not named as images"), "{}", done.err);
    let names = done.out.lines().map(|line| line.split('"').nth(3).unwrap().to_string());
    let expected = ["b.png", "n001500.png", "z.png"].map(|name| format!("s3://photos/all/{name}"));
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn archives_and_files_of_web_servers_are_data_sets() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = Place::new();
    place.data(3);
    let folder = place.path("data").display().to_string();
    bucket.order(&format!("tar photos {} {folder}", base64(b"all/photos.tar")));
    let done = run(&place, &bucket.address, "data check s3://photos/all/photos.tar").ok();
    assert!(done.out.contains('9'), "{}", done.out);
    let archive = fs::read(place.cache().join("objects/s3/photos/all/photos.tar")).unwrap();
    let served = archive.clone();
    let web = Server::start(move |request, out| match &*request.path {
        "/all/photos.tar" => server::serve(request, out, &served),
        _ => server::send(out, "404 Not Found", &[], b""),
    });
    place.run(&format!("data check {}all/photos.tar", web.url)).ok();
    let host = web.url.trim_end_matches('/').rsplit(':').next().unwrap().to_string();
    let copy = place.cache().join(format!("objects/http/127.0.0.1%3A{host}/all/photos.tar"));
    assert!(fs::read(copy).unwrap() == archive);
    let gone = format!("{}all/gone.tar", web.url);
    place.run(&format!("data check {gone}")).fails(1, &[&gone]);
}

#[test]
fn what_cannot_be_had_is_named() {
    let Some(mut bucket) = Bucket::start() else { return };
    let place = support::trained(2, "");
    bucket.put("photos", "a.txt", b"x");
    let at = |line: &str| run(&place, &bucket.address, line);
    at("data check s3://nobody/data").fails(1, &["s3://nobody/data", "AWS_ENDPOINT_URL"]);
    at("data check s3://photos/date").fails(1, &["s3://photos/date", "neither"]);
    at("predict run s3://photos").fails(1, &["without any"]);
    at("predict run s3://photos/gone.jpg").fails(1, &["s3://photos/gone.jpg"]);
    at("data check s3://photos/../x").fails(1, &["s3://photos/../x"]);
    let mut nobody = command(&place, "127.0.0.1:1", "data check s3://photos/data");
    let done: Done = nobody.env("HEADSTART_ATTEMPTS", "1").output().unwrap().into();
    done.fails(1, &["s3://photos/data", "127.0.0.1:1"]);
    let mut poor = command(&place, &bucket.address, "data check s3://photos/data");
    poor.env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_EC2_METADATA_DISABLED", "true");
    Done::from(poor.output().unwrap()).fails(1, &["AWS_SECRET_ACCESS_KEY", "AWS_SKIP_SIGNATURE"]);
    let mut public = command(&place, &bucket.address, "predict run s3://photos");
    public.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    public.env("AWS_SKIP_SIGNATURE", "true");
    Done::from(public.output().unwrap()).fails(1, &["without any"]);
}
