//! `weights list`, `weights get`, `data get` and the commands that fetch, against a server on loopback or none.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::server::{self, Server, send, serve, serve_part};
use crate::support::{self, Done, Place, skip};

/// The file whose hash is known by its first 32 bits only, so that other bytes with such a hash could be found by
/// trying: 256 KiB of a pattern, and a number.
const FILE: &str = "resnet152-f82ba261.pth";
const GET: &str = "weights get torchvision-resnet152";

fn bytes() -> Vec<u8> {
    let pattern = (0..256usize << 10).map(|i| (i * 31 % 251) as u8);
    pattern.chain(3_202_486_983u64.to_le_bytes()).collect()
}

/// The command, with `cache` in the place for a cache folder and `mirror` for a server.
fn command(place: &Place, line: &str, mirror: &str) -> Command {
    let mut command = place.command(line);
    command
        .env("HEADSTART_CACHE", place.path("cache"))
        .env("HEADSTART_MIRROR", mirror)
        .env("HEADSTART_TIMEOUT", "5")
        .env("HEADSTART_ATTEMPTS", "2")
        .env("KERAS_HOME", place.path("keras"))
        .env("TORCH_HOME", place.path("torch"));
    command
}

fn run(place: &Place, line: &str, mirror: &str) -> Done {
    command(place, line, mirror).output().unwrap().into()
}

/// An address at which nothing listens.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn weights_are_downloaded_once_listed_and_found_again() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    let file = bytes();
    let server = Server::start(move |request, out| serve(request, out, &file));
    let done = run(&place, GET, &server.url).ok();
    let path = place.path("cache/weights").join(FILE);
    assert_eq!(done.out, format!("{}\n", path.display()));
    assert!(
        done.err.contains(&format!("downloading {FILE} from {}{FILE}", server.url)),
        "{}",
        done.err
    );
    assert_eq!(fs::read(&path).unwrap(), bytes());
    let done = run(&place, &format!("{GET} --variant imagenet-v2 --top"), NOWHERE).ok();
    assert_eq!(done.out, format!("{}\n", path.display()));
    // What is known of its hash is said whenever it is used, and nothing else.
    for part in [FILE, "the first 32 of 256 bits", "not against a file made on purpose"] {
        assert!(done.err.contains(part), "no {part:?} in: {}", done.err);
    }
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    assert_eq!(server.requests().len(), 1);

    let list = run(&place, "weights list --json", "").ok().json();
    let rows = list.as_array().unwrap();
    assert_eq!(rows.len(), 21);
    for row in rows {
        let here = row["file"] == FILE;
        assert_eq!(row["path"].as_str().map(std::path::PathBuf::from), here.then(|| path.clone()));
        assert!(row["url"].as_str().unwrap().starts_with("https://"));
        assert!(row["size"].as_u64().unwrap() > 40_000_000);
        let hash = row["hash"].as_str().unwrap().split_once(':').unwrap();
        assert_eq!(row["hash_bits"], 4 * hash.1.len());
        let all = if hash.0 == "md5" { 128 } else { 256 };
        assert_eq!(row["hash_bits_in_all"], all);
        let in_part = here || row["file"] == "resnet50_a1_0-14fe96d1.pth";
        assert_eq!(row["hash_bits"] == 32, in_part, "{row}");
    }
    assert_eq!(rows[0]["model"], "resnet50");
    assert_eq!(rows[1]["hash"], "md5:4d473c1dd8becc155b73f8504c6f6626");
    let text = run(&place, "weights list", "").ok().out;
    assert!(text.contains(&format!("in {}", path.display())), "{text}");
    let partly: Vec<&str> = text.lines().filter(|line| line.contains("bits")).collect();
    assert_eq!(partly.len(), 2, "{text}");
    for line in partly {
        assert!(line.contains("only 32 of 256 bits are known and checked"), "{text}");
    }
    // What another program keeps is found as well.
    fs::create_dir_all(place.path("torch/hub/checkpoints")).unwrap();
    let other = place.path("torch/hub/checkpoints").join(FILE);
    fs::rename(&path, &other).unwrap();
    assert_eq!(run(&place, GET, NOWHERE).ok().out, format!("{}\n", other.display()));
}

#[test]
fn without_a_network_the_message_says_what_to_put_where() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    place.image("a.png", 16, [1, 2, 3], 1);
    let notop = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5";
    let top = "resnet50_weights_tf_dim_ordering_tf_kernels.h5";
    let check = |line: &str, folder: &str, file: &str, hash: &str| {
        let path = place.path(&format!("cache/{folder}/{file}"));
        let url = format!("{NOWHERE}/{file}");
        let parts = [&url, hash, path.to_str().unwrap(), "hint:", "refused"];
        let done = run(&place, line, NOWHERE).fails(1, &parts);
        assert_eq!(done.out, "");
    };
    let train = "train --data synthetic:2x9x32 --epochs 1 --out run";
    check(train, "weights", notop, "4d473c1dd8becc155b73f8504c6f6626");
    check(&format!("{train} --weights imagenet"), "weights", notop, "md5");
    // A recipe that cannot have the weights chooses nothing for a training that cannot be.
    let recipe =
        "train --data synthetic:2x300x32 --model torchvision-resnet18 --recipe auto --out run";
    let done = run(&place, recipe, NOWHERE).fails(1, &["resnet18-f37072fd.pth", "hint:"]);
    assert!(!done.err.contains("nothing is tried") && !done.err.contains("--head-solver"));
    check("weights get resnet50", "weights", notop, "4d473c1dd8becc155b73f8504c6f6626");
    check("weights get resnet50 --top", "weights", top, "2cb95161c43110f7111970584f804107");
    check("predict resnet50 a.png", "weights", top, "2cb95161c43110f7111970584f804107");
    check("features resnet50 --data synthetic:2x9x32 --out f.npy", "weights", notop, "md5");
    let cifar = "cifar-10-binary.tar.gz";
    let md5 = "c32a1d4ab5d03f1284b67883e8d87530";
    check("data get cifar10", "data", cifar, md5);
    check("train --data cifar10 --weights none --epochs 1 --out run", "data", cifar, md5);
    check(
        &format!("{train} --model torchvision-resnet18 --weights imagenet-v1"),
        "weights",
        "resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    );
    assert!(!place.path("run").exists() && !place.path("f.npy").exists());
    // Put there by hand, in vain.
    fs::write(place.path("cache/weights").join(notop), "<html>").unwrap();
    run(&place, train, NOWHERE).fails(1, &["is not used: expected md5 4d47", "found", "refused"]);
}

/// The system's own way to have no network, where it lets one.
#[test]
fn a_machine_without_any_network() {
    let place = Place::new();
    let mut command = Command::new("unshare");
    command.args(["-rn", env!("CARGO_BIN_EXE_headstart"), "weights", "get", "resnet50"]);
    command.env("HEADSTART_CACHE", place.path("cache")).env("KERAS_HOME", place.path("keras"));
    for proxy in
        ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"]
    {
        command.env_remove(proxy);
    }
    let possible = Command::new("unshare").args(["-rn", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        skip::skipped("unshare cannot take the network away here");
        return;
    }
    let folder = place.path("cache/weights").display().to_string();
    Done::from(command.output().unwrap()).fails(
        1,
        &[
            "https://storage.googleapis.com/tensorflow/keras-applications/resnet/resnet50_weights",
            "_notop.h5",
            "is there a network?",
            "md5 4d473c1dd8becc155b73f8504c6f6626",
            &folder,
        ],
    );
}

#[test]
fn two_processes_download_one_file() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    let file = bytes();
    let server = Server::start(move |request, out| {
        std::thread::sleep(Duration::from_secs(1));
        serve(request, out, &file);
    });
    let start = || {
        let mut command = command(&place, GET, &server.url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()].map(|child| Done::from(child.wait_with_output().unwrap()).ok());
    let path = place.path("cache/weights").join(FILE);
    for done in &both {
        assert_eq!(done.out, format!("{}\n", path.display()));
    }
    let waited = format!("waiting: another process is downloading {FILE}");
    assert_eq!(both.iter().filter(|done| done.err.contains(&waited)).count(), 1);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(fs::read(path).unwrap(), bytes());
}

/// Ctrl-C leaves what has arrived, and the next run continues from there.
#[cfg(unix)]
#[test]
fn an_interrupted_download_goes_on() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    let file = bytes();
    let server = Server::start(move |request, out| match request.number {
        0 => {
            serve_part(request, out, &file, 100_000);
            std::thread::sleep(Duration::from_secs(60));
        }
        _ => serve(request, out, &file),
    });
    let mut child = command(&place, GET, &server.url);
    let child = child
        .env("HEADSTART_TIMEOUT", "60")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = place.path("cache/weights").join(format!("{FILE}.part"));
    let start = Instant::now();
    while fs::metadata(&part).map_or(0, |m| m.len()) < 100_000 {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    Done::from(child.wait_with_output().unwrap())
        .fails(130, &["interrupted:", "continues from there"]);
    assert_eq!(fs::read(&part).unwrap(), bytes()[..100_000]);
    let done = run(&place, GET, &server.url).ok();
    assert!(done.err.contains("97.7 KiB are here already"), "{}", done.err);
    assert_eq!(server.requests().last().unwrap().range, Some(100_000));
    assert!(!part.exists());
}

#[test]
fn disks_that_are_full_or_cannot_be_written() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    let file = bytes();
    let server = Server::start(move |request, out| serve(request, out, &file));
    fs::write(place.path("file"), "").unwrap();
    for folder in ["file/below", "/proc/headstart"] {
        let mut command = command(&place, GET, &server.url);
        let folder = place.path(folder);
        if folder.starts_with("/proc") && !cfg!(target_os = "linux") {
            continue;
        }
        let done: Done = command.env("HEADSTART_CACHE", &folder).output().unwrap().into();
        done.fails(1, &["cannot write in", folder.to_str().unwrap(), "HEADSTART_CACHE"]);
    }
    // A disk of 128 KiB, where the system lets one mount it.
    fs::create_dir(place.path("small")).unwrap();
    let small = place.path("small");
    let mount = format!("mount -t tmpfs -o size=128k none {} && ", small.display());
    let inside = |script: &str| {
        let mut command = command(&place, "", &server.url);
        let mut unshare = Command::new("unshare");
        unshare.args(["-rm", "sh", "-c", &format!("{mount}{script}")]);
        unshare.envs(
            command.env("HEADSTART_CACHE", &small).get_envs().filter_map(|(k, v)| Some((k, v?))),
        );
        unshare.output()
    };
    if !inside("true").is_ok_and(|output| output.status.success()) {
        skip::skipped("a small disk cannot be mounted here");
        return;
    }
    let script = format!(
        "{} {GET}; code=$?; ls {}/weights; exit $code",
        env!("CARGO_BIN_EXE_headstart"),
        small.display()
    );
    let done = Done::from(inside(&script).unwrap())
        .fails(1, &["cannot write", "No space left on device", "make room"]);
    assert_eq!(done.out, format!("{FILE}.part\n"));
}

#[test]
fn what_there_is_not() {
    let place = Place::new();
    place.data(5);
    let train = "train --data data --image-size 16 --epochs 1 --out run";
    let usage = |line: &str, parts: &[&str]| run(&place, line, NOWHERE).fails(2, parts);
    usage("weights get resnet5", &["did you mean resnet50"]);
    usage("weights get resnet20", &["a net with published weights"]);
    usage("weights get resnet50 --variant imagenet-v2", &["expected imagenet, found imagenet-v2"]);
    usage("data get cifar", &["did you mean cifar10?"]);
    usage("weights", &["list", "get"]);
    usage("weights gett resnet50", &["get"]);
    usage(&format!("{train} --model resnet20 --weights imagenet"), &["published weights"]);
    usage(&format!("{train} --weights imagenet-v1"), &["found imagenet-v1"]);
    usage(&format!("{train} --weights imagnet"), &["did you mean imagenet"]);
    usage("features resnet32 --data data --out f.npy", &["published weights"]);
    usage("predict resnet32 data/red/000.png", &["published weights"]);
    let failure = |line: &str, parts: &[&str]| run(&place, line, NOWHERE).fails(1, parts);
    failure(&train.replace("--data data", "--data cifar1"), &["did you mean cifar10"]);
    for (name, value) in [
        ("HEADSTART_MIRROR", "ftp://x"),
        ("HEADSTART_TIMEOUT", "soon"),
        ("HEADSTART_TIMEOUT", "NaN"),
        ("HEADSTART_ATTEMPTS", "0"),
    ] {
        let output = command(&place, GET, NOWHERE).env(name, value).output().unwrap();
        Done::from(output).fails(1, &[name, value]);
    }
    place.holds(&["data"]);
}

#[test]
fn a_server_that_refuses_or_sends_something_else() {
    if !server::loopback() {
        return;
    }
    let place = Place::new();
    let server = Server::start(|request, out| match request.path.as_str() {
        "/none/resnet152-f82ba261.pth" => send(out, "404 Not Found", &[], b"no"),
        _ => send(out, "200 OK", &[], b"<html>Log in</html>"),
    });
    let none = format!("{}none/", server.url);
    run(&place, GET, &none).fails(1, &["HTTP status 404", FILE, "sha256 f82ba261..."]);
    let mut done = run(&place, GET, &server.url);
    done = done.fails(
        1,
        &["expected sha256 f82ba261...", "found sha256 ", "a web page", "the file was deleted"],
    );
    assert_eq!(done.out, "");
    let left = support::list(&place.path("cache/weights"));
    assert_eq!(left, [".locks"]);
    let _ = std::io::stderr().flush();
}
