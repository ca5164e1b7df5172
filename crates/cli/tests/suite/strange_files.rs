//! Files that are none, names that are no text, and images that nobody says are such.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, TRAIN, trained};

fn fifo(place: &Place, name: &str) {
    assert!(Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
}

#[test]
fn pipes_and_sockets_among_photos_are_counted_by_kind() {
    let place = Place::new();
    place.data(4);
    for name in ["data/red/a", "data/red/b.png", "data/c"] {
        fifo(&place, name);
    }
    // A path that is bound may have about a hundred bytes.
    let folder = place.path("data/blue");
    let here = std::env::temp_dir().join(format!("s{}", std::process::id()));
    let _socket = std::os::unix::net::UnixListener::bind(&here).unwrap();
    fs::rename(&here, folder.join("socket")).unwrap();
    let text = place.run("data check data").ok().out;
    assert!(text.contains("4 files that cannot be used"), "{text}");
    assert!(text.contains("3 of them: a named pipe (FIFO), not a file: data/c, "), "{text}");
    assert!(text.contains("data/blue/socket: a socket, not a file"), "{text}");
    let mut tar = Command::new("tar");
    tar.args(["-cf", "a.tar", "data/red", "data/green"]).current_dir(place.path(""));
    assert!(tar.status().unwrap().success());
    let text = place.run("data check a.tar").ok().out;
    assert!(
        text.contains("2 of them: a named pipe (FIFO), not a file: a.tar:data/red/a"),
        "{text}"
    );
    place.run(TRAIN).ok();
    place.run("predict run data/red/a").fails(1, &["data/red/a", "a named pipe"]);
    let done = place.run("predict run data").ok();
    assert!(done.err.contains("skipped data/blue/socket: a socket"), "{}", done.err);
}

#[test]
fn images_without_an_ending_are_predicted_as_they_are_trained_on() {
    let place = trained(5, "");
    fs::create_dir(place.path("new")).unwrap();
    fs::copy(place.path("data/red/000.png"), place.path("new/plain")).unwrap();
    fs::copy(place.path("data/red/001.png"), place.path("new/a.dat")).unwrap();
    fs::write(place.path("new/notes"), "these are words").unwrap();
    let bytes = fs::read(place.path("data/red/000.png")).unwrap();
    fs::write(place.path("new/cut"), &bytes[..20]).unwrap();
    let done = place.run("predict run new").ok();
    let names: Vec<&str> = done.out.lines().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(names, ["new/a.dat", "new/plain"]);
    assert!(done.err.contains("skipped new/cut: a file that ends within its header"));
    assert!(!done.err.contains("notes"), "{}", done.err);
}

#[test]
fn names_that_are_no_text_or_more_than_a_line_stay_one_and_apart() {
    let place = trained(5, "");
    fs::create_dir(place.path("new")).unwrap();
    let bytes = fs::read(place.path("data/red/000.png")).unwrap();
    let names: [&[u8]; 4] = [b"a\nb: rose 1.0.png", b"x\xfe.png", b"x\xff.png", b"e\x1b[31m.png"];
    for name in names {
        let path = place.path("new").join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, &bytes).unwrap();
    }
    let shown =
        ["new/a\\u{a}b: rose 1.0.png", "new/e\\u{1b}[31m.png", "new/x\\xFE.png", "new/x\\xFF.png"];
    let done = place.run("predict run new").ok();
    assert_eq!(done.out.lines().count(), 4, "{}", done.out);
    for name in shown {
        assert!(done.out.contains(&format!("{name}: ")), "no {name} in {}", done.out);
    }
    place.run("predict run new --output p.jsonl").ok();
    let rows = fs::read_to_string(place.path("p.jsonl")).unwrap();
    let mut found: Vec<String> = rows
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .map(|row| row["image"].as_str().unwrap().to_string())
        .collect();
    found.sort();
    assert_eq!(found, shown);
    // In errors too, and in one line.
    let gone = Path::new("new").join(std::ffi::OsStr::from_bytes(b"no\n\xff.png"));
    let mut command = place.command("predict run");
    let done: crate::support::Done = command.arg(gone).output().unwrap().into();
    done.fails(1, &["new/no\\u{a}\\xFF.png: expected an image", "no such file"]);
}
