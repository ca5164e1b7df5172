//! The data set by class: labels that are mended, and what that changes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use headstart::cache::CacheSettings;
use headstart::dataset::{DataOptions, open};
use headstart::image::{Rgb8, decode, picture};
use headstart_server::{Limits, Options};
use serde_json::{Value, json};

use crate::support::{Reply, Server, options};

/// A picture of one colour with a stripe, or of that colour alone.
fn write(path: &Path, colour: [u8; 3], at: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixels: Vec<u8> =
        (0..32 * 32).flat_map(|i| if i % 32 == at { [255; 3] } else { colour }).collect();
    fs::write(path, picture::png(&Rgb8::new(32, 32, pixels).unwrap()).unwrap()).unwrap();
}

/// Twelve red and twelve blue pictures; one of the red ones is blue, and one is there twice.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..12 {
        let red = if i == 3 { [20, 20, 200] } else { [200, 20, 20] };
        write(&folder.path().join(format!("red/{i:02}.png")), red, i);
        write(&folder.path().join(format!("blue/{i:02}.png")), [25, 25, 195], i);
    }
    let twice = folder.path().join("blue/00.png");
    fs::copy(&twice, folder.path().join("blue/twice.png")).unwrap();
    folder
}

fn server(folder: &Path) -> Server {
    let data = Some((folder.to_str().unwrap().to_string(), CacheSettings::none()));
    Server::with(Options { data, ..options(Limits::default()) })
}

/// The state, once `ready` accepts it.
fn state(server: &Server, ready: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = server.get("/look/state");
        if reply.code == 200 && ready(&reply.json()) {
            return reply.json();
        }
        assert!(Instant::now() < until, "{}", reply.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn looked(state: &Value) -> bool {
    state["looked"][0] == 25 && state["found"][2]["count"].as_u64() > Some(0)
}

fn correct(server: &Server, what: &Value) -> Reply {
    server.ask("POST", "/look/correct", &[], what.to_string().as_bytes())
}

fn counts(state: &Value) -> Vec<u64> {
    state["classes"].as_array().unwrap().iter().map(|c| c["count"].as_u64().unwrap()).collect()
}

/// The position of the image of that name.
fn at(server: &Server, name: &str) -> u64 {
    let images = server.get("/look/images").ok().json();
    let images = images["images"].as_array().unwrap();
    images.iter().find(|image| image["name"] == name).unwrap()["at"].as_u64().unwrap()
}

fn check(server: &Server, done: usize) -> Value {
    server.ask("POST", "/look/check", &[], b"").ok();
    let state = state(server, |s| s["check"]["running"].is_null());
    let check = state["check"].clone();
    assert!(check["failed"].is_null(), "{check}");
    assert_eq!(check["results"].as_array().unwrap().len(), done, "{check}");
    check["results"][done - 1].clone()
}

#[test]
fn a_wrong_label_is_suspected_moved_and_no_longer_suspected() {
    let folder = folder();
    let server = server(folder.path());
    let before = state(&server, looked);
    assert_eq!((counts(&before), &before["corrections"]), (vec![13, 12], &json!(0)));
    let found = check(&server, 1);
    assert!(found["accuracy"].as_f64().unwrap() < 1.0, "{found}");
    let suspects = server.get("/look/images?kind=suspected").ok().json();
    let suspect = &suspects["images"][0];
    assert_eq!((&suspect["name"], &suspect["suggested"]), (&"red/03.png".into(), &json!(0)));
    correct(&server, &json!({"image": suspect["at"], "class": 0})).ok();
    let after = state(&server, looked);
    assert_eq!((counts(&after), &after["corrections"]), (vec![14, 11], &json!(1)));
    let table = fs::read_to_string(folder.path().join("corrections.csv")).unwrap();
    assert_eq!(table, "path,class\nred/03.png,blue\n");
    // Training sees it, and the file is where it was.
    let options = DataOptions { validation_split: 0.0, ..DataOptions::default() };
    assert_eq!(open(folder.path(), &options).unwrap().train.class_counts(), [14, 11]);
    assert!(folder.path().join("red/03.png").exists());
    let fitted = check(&server, 2);
    assert_eq!((&fitted["corrections"], &fitted["suspected"]), (&json!(1), &json!(0)), "{fitted}");
    assert!(fitted["accuracy"].as_f64() > found["accuracy"].as_f64(), "{fitted}");
}

#[test]
fn images_are_left_out_and_everything_is_taken_back() {
    let folder = folder();
    let server = server(folder.path());
    state(&server, looked);
    let twice = server.get("/look/images?kind=duplicates").ok().json();
    for name in ["blue/00.png", "blue/twice.png"] {
        assert!(twice["images"].as_array().unwrap().iter().any(|i| i["name"] == name), "{twice}");
    }
    let image = at(&server, "blue/twice.png");
    correct(&server, &json!({"image": image, "leave_out": true})).ok();
    correct(&server, &json!({"image": at(&server, "red/03.png"), "class": 0})).ok();
    let corrected = server.get("/look/images?kind=corrected").ok().json();
    assert_eq!(corrected["total"], 2);
    // What is left out is not there twice any more.
    let twice = server.get("/look/images?kind=duplicates").ok().json();
    assert!(!twice["images"].as_array().unwrap().iter().any(|i| i["at"] == image), "{twice}");
    assert_eq!(state(&server, looked)["images"], 24);
    assert!(corrected["images"][0]["class"].is_null() || corrected["images"][1]["class"].is_null());
    let of_blue = server.get("/look/images?class=0&count=5&from=10").ok().json();
    assert_eq!((&of_blue["total"], of_blue["images"].as_array().unwrap().len()), (&json!(13), 3));
    // Back to its folder's class is no correction, and neither is one that is undone.
    correct(&server, &json!({"image": at(&server, "red/03.png"), "class": 1})).ok();
    correct(&server, &json!({"image": image, "undo": true})).ok();
    assert_eq!(counts(&state(&server, looked)), [13, 12]);
    assert!(!folder.path().join("corrections.csv").exists());
}

#[test]
fn what_cannot_be_meant_changes_nothing() {
    let folder = folder();
    let server = server(folder.path());
    state(&server, looked);
    correct(&server, &json!({"image": 99, "leave_out": true})).is(422);
    correct(&server, &json!({"image": 0, "class": 2})).is(422);
    correct(&server, &json!({"image": 0})).says(400, &["one of class, leave_out and undo"]);
    correct(&server, &json!({"image": 0, "class": 1, "undo": true})).is(400);
    correct(&server, &json!({"image": 0, "path": "/etc/passwd"})).is(400);
    server.ask("POST", "/look/correct", &[], b"no json").is(400);
    server.get("/look/images?colour=red").is(400);
    server.get("/look/picture/25").is(404);
    let reply = server.get("/look/picture/0").ok();
    assert_eq!(decode("picture", &reply.body).unwrap().width, 160);
    assert!(!folder.path().join("corrections.csv").exists());
    let none = Server::start(Limits::default());
    none.get("/look/state").says(404, &["--data"]);
    // What is no folder of images is shown, and cannot be corrected.
    let data = Some(("sample".to_string(), CacheSettings::none()));
    let sample = Server::with(Options { data, ..options(Limits::default()) });
    let shown = state(&sample, |_| true);
    assert!(shown["corrections"].is_null() && shown["images"] == 1797, "{shown}");
    correct(&sample, &json!({"image": 0, "leave_out": true})).says(422, &["a folder of images"]);
}

#[test]
fn a_folder_that_changes_is_read_again() {
    let folder = folder();
    let server = server(folder.path());
    state(&server, looked);
    let image = at(&server, "blue/00.png");
    fs::rename(folder.path().join("blue"), folder.path().join("azure")).unwrap();
    fs::remove_file(folder.path().join("red/00.png")).unwrap();
    let now = state(&server, |s| s["classes"][0]["name"] == "azure");
    assert_eq!(counts(&now), [13, 11]);
    // Who has a list of before means another image by its position.
    let what = json!({"image": image, "name": "blue/00.png", "leave_out": true});
    correct(&server, &what).says(422, &["blue/00.png", "load the page again"]);
    assert!(!folder.path().join("corrections.csv").exists());
    let what = json!({"image": at(&server, "azure/00.png"), "name": "azure/00.png", "class": 1});
    correct(&server, &what).ok();
    let table = fs::read_to_string(folder.path().join("corrections.csv")).unwrap();
    assert_eq!(table, "path,class\nazure/00.png,red\n");
    // The table itself is no change of the images.
    let after = state(&server, |s| s["corrections"] == 1);
    assert_eq!(counts(&after), [12, 12]);
    assert_eq!(server.get("/look/state").code, 200);
}
