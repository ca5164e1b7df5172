//! From nothing to a classifier: data sets that are made over HTTP, trained and served.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use headstart::Model;
use headstart::image::{Rgb8, picture};
use headstart::run::{CacheFolder, DiskCache};
use headstart_server::{Limits, Options};
use serde_json::{Value, json};

use crate::support::{Reply, Server, device, options};

/// A server without a model.
fn server(folder: &Path, limits: Limits) -> Server {
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let (photos, runs) = (folder.join("photos"), folder.join("runs"));
    Server::with(Options {
        port: 0,
        photos,
        runs,
        cache,
        limits,
        ..Options::new(Vec::new(), device())
    })
}

/// A picture of one colour with a stripe.
fn stripe(colour: [u8; 3], at: usize) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..32 * 32).flat_map(|i| if i % 32 == at { [255; 3] } else { colour }).collect();
    picture::png(&Rgb8::new(32, 32, pixels).unwrap()).unwrap()
}

fn post(server: &Server, path: &str, what: &Value) -> Reply {
    server.ask("POST", path, &[], what.to_string().as_bytes())
}

fn send(server: &Server, class: &str, file: &str, bytes: &[u8]) -> Reply {
    server.ask("POST", &format!("/begin/images?set=pets&class={class}&file={file}"), &[], bytes)
}

fn predict(server: &Server) -> Reply {
    let headers = [("Content-Type", "image/png")];
    server.ask("POST", "/predict", &headers, &stripe([200, 20, 20], 20))
}

fn begun(server: &Server) {
    post(server, "/begin/sets", &json!({"name": "pets"})).ok();
    for (class, colour) in [("red", [200, 20, 20]), ("blue", [20, 20, 200])] {
        post(server, "/begin/sets/pets/make", &json!({"class": class})).ok();
        for i in 0..12 {
            assert_eq!(send(server, class, "a.png", &stripe(colour, i)).ok().json()["new"], true);
        }
    }
}

/// The training, once it goes on no more.
fn trained(server: &Server) -> Value {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let training = server.get("/begin/training").ok().json();
        if training["running"] == false {
            return training;
        }
        assert!(Instant::now() < until, "{training}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn photos_become_a_model_that_is_served_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), Limits::default());
    assert_eq!(server.get("/begin/training").ok().json(), Value::Null);
    predict(&server).says(404, &["/begin"]);
    begun(&server);
    assert_eq!(send(&server, "red", "b.png", &stripe([200, 20, 20], 3)).ok().json()["new"], false);
    let set = server.get("/begin/sets/pets").ok().json();
    let class = |name: &str| json!({"name": name, "count": 12});
    assert_eq!(server.get("/begin/sets/pets/models").ok().json()["models"], json!([]));
    assert_eq!(set["classes"], json!([class("blue"), class("red")]));
    let begun =
        post(&server, "/begin/train", &json!({"set": "pets", "net": "resnet20", "minutes": null}));
    assert_eq!(begun.ok().json()["run"], "pets");
    // Nothing of it goes away meanwhile.
    let other = json!({"class": "red", "to": "crimson"});
    post(&server, "/begin/sets/pets/rename", &other).says(409, &["pets learns from pets now"]);
    post(&server, "/begin/sets/pets/remove", &json!({"class": "red"})).is(409);
    let training = trained(&server);
    assert_eq!(
        (&training["served"], &training["failed"]),
        (&json!(true), &Value::Null),
        "{training}"
    );
    assert_eq!(training["state"], "finished");
    let models = server.get("/begin/sets/pets/models").ok().json()["models"].clone();
    let report = &models[0]["report"];
    assert_eq!((&models[0]["run"], &models[0]["served"]), (&json!("pets"), &json!(true)));
    assert_eq!((&report["accuracy"], &report["unmeasured"]), (&json!(1.0), &json!([])), "{report}");
    assert!(report["bounds"][0].as_f64() < Some(1.0) && report["samples"].as_u64() > Some(2));
    let answer = predict(&server).ok().json();
    assert_eq!(answer["predictions"][0]["class"], "red", "{answer}");
    assert_eq!(server.get("/runs").ok().json()["runs"][0]["state"], "finished");
    // The model file says the same as the server; the other is an ONNX.
    let file = server.get("/export?model=pets&format=safetensors").ok();
    assert!(file.header("content-disposition").unwrap().contains("\"pets.safetensors\""));
    let path = folder.path().join("saved.safetensors");
    fs::write(&path, &file.body).unwrap();
    assert_eq!(Model::open(&path).unwrap().card.classes, ["blue", "red"]);
    let onnx = server.get("/export").ok();
    assert!(onnx.body.windows(9).any(|part| part == b"headstart"));
    server.get("/export?format=word").says(400, &["onnx"]);
    server.get("/export?model=cats").is(404);
    // Again, beside the first.
    let again = json!({"set": "pets", "net": "resnet20", "minutes": null});
    assert_eq!(post(&server, "/begin/train", &again).ok().json()["run"], "pets-2");
    assert_eq!(trained(&server)["served"], true);
    let both = server.get("/begin/sets/pets/models").ok().json()["models"].clone();
    let names: Vec<_> = both.as_array().unwrap().iter().map(|made| &made["run"]).collect();
    assert_eq!(names, ["pets-2", "pets"]);
    // The next server knows what was made, and serves it when asked.
    server.end();
    let next = self::server(folder.path(), Limits::default());
    let models = next.get("/begin/sets/pets/models").ok().json()["models"].clone();
    assert_eq!(models[1]["served"], false);
    next.get("/export?model=pets").is(404);
    post(&next, "/begin/serve", &json!({"run": "pets"})).ok();
    post(&next, "/begin/serve", &json!({"run": "pets"})).ok();
    post(&next, "/begin/serve", &json!({"run": "../pets"})).is(404);
    fs::create_dir(folder.path().join("runs/half")).unwrap();
    fs::write(folder.path().join("runs/half/events.jsonl"), "").unwrap();
    post(&next, "/begin/serve", &json!({"run": "half"})).says(409, &["half is not finished"]);
    assert_eq!(next.get("/begin/training").ok().json(), Value::Null);
    let file = next.get("/export?model=pets&format=safetensors").ok();
    assert_eq!(file.body, fs::read(&path).unwrap());
}

#[test]
fn a_model_that_is_served_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache { folder: CacheFolder::Off, ..DiskCache::default() };
    let (photos, runs) = (folder.path().join("photos"), folder.path().join("runs"));
    let given = options(Limits::default());
    let server = Server::with(Options { photos, runs, cache, ..given });
    post(&server, "/begin/sets", &json!({"name": "small"})).ok();
    for (class, colour) in [("red", [200, 20, 20]), ("blue", [20, 20, 200])] {
        post(&server, "/begin/sets/small/make", &json!({"class": class})).ok();
        for i in 0..8 {
            let address = format!("/begin/images?set=small&class={class}");
            server.ask("POST", &address, &[], &stripe(colour, i)).ok();
        }
    }
    let train = json!({"set": "small", "net": "resnet20", "minutes": null});
    assert_eq!(post(&server, "/begin/train", &train).ok().json()["run"], "small-2");
    assert_eq!(trained(&server)["served"], true);
    let index = server.ask("POST", "/v2/repository/index", &[], b"{}").ok().json();
    let of = |name: &str| {
        let all = index.as_array().unwrap();
        all.iter().find(|model| model["name"] == name).unwrap()["version"].clone()
    };
    assert_eq!((of("small"), of("small-2")), (json!("1"), json!("1")), "{index}");
}

#[test]
fn classes_and_images_are_renamed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), Limits::default());
    begun(&server);
    post(&server, "/begin/sets/pets/rename", &json!({"class": "red", "to": "<b>röt"})).is(422);
    post(&server, "/begin/sets/pets/rename", &json!({"class": "red", "to": "röt"})).ok();
    let listed = server.get("/begin/images?set=pets&class=r%C3%B6t&count=5").ok().json();
    assert_eq!((&listed["total"], listed["files"].as_array().unwrap().len()), (&json!(12), 5));
    let of = format!("set=pets&class=r%C3%B6t&file={}", listed["files"][0].as_str().unwrap());
    assert!(server.get(&format!("/begin/picture?{of}")).ok().body.starts_with(b"\x89PNG"));
    server.ask("POST", &format!("/begin/images/remove?{of}"), &[], b"").ok();
    server.ask("POST", &format!("/begin/images/remove?{of}"), &[], b"").is(422);
    server.get(&format!("/begin/picture?{of}")).is(404);
    post(&server, "/begin/sets/pets/remove", &json!({"class": "blue"})).ok();
    let set = server.get("/begin/sets/pets").ok().json();
    assert_eq!(set["classes"], json!([{"name": "röt", "count": 11}]));
    // Nothing is lost.
    let removed = folder.path().join("photos/pets/.removed");
    assert_eq!(fs::read_dir(removed.join("blue")).unwrap().count(), 12);
    assert_eq!(fs::read_dir(removed.join("röt")).unwrap().count(), 1);
    let train = json!({"set": "pets", "net": "resnet20", "minutes": null});
    post(&server, "/begin/train", &train).says(422, &["at least 2", "found 1"]);
    post(&server, "/begin/sets/pets/make", &json!({"class": "green"})).ok();
    post(&server, "/begin/train", &train).says(422, &["green", "at least 5 photos", "found 0"]);
}

#[test]
fn what_cannot_be_meant_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { pixels: 2000, body: 100_000, ..Limits::default() };
    let server = server(folder.path(), limits);
    for name in ["", "../x", "a b", ".x", "ä"] {
        post(&server, "/begin/sets", &json!({"name": name})).is(422);
    }
    assert!(!folder.path().join("photos").exists());
    post(&server, "/begin/sets", &json!({"name": "pets"})).ok();
    post(&server, "/begin/sets", &json!({"name": "pets"})).says(422, &["taken"]);
    post(&server, "/begin/sets/pets/make", &json!({"class": "../../x"})).is(422);
    post(&server, "/begin/sets/pets/make", &json!({"class": "cat"})).ok();
    send(&server, "dog", "a.png", &stripe([1, 2, 3], 0)).says(422, &["class", "cat"]);
    send(&server, "cat", "a.png", b"no image").says(422, &["a.png", "an image that is read"]);
    send(&server, "..", "a.png", &stripe([1, 2, 3], 0)).is(422);
    let large = picture::png(&Rgb8::new(64, 64, vec![0; 64 * 64 * 3]).unwrap()).unwrap();
    send(&server, "cat", "a.png", &large).says(422, &["at most 2,000 pixels", "64x64"]);
    send(&server, "cat", "a.png", &vec![0; 100_001]).is(413);
    server.get("/begin/picture?set=pets&class=cat&file=../../../etc/passwd").is(404);
    // What the address itself has wrong is said as all else is.
    for bad in ["/begin/images?set=pets", "/begin/sets/%ff"] {
        let said = server.get(bad).is(400).json();
        assert!(said["error"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
    }
    let long = json!({"class": "x".repeat(2000)});
    let said = post(&server, "/begin/sets/pets/make", &long).is(413).json();
    assert_eq!(said["error"], "body: expected at most 1000 bytes, found more");
    assert!(said["hint"].is_null(), "{said}");
    server.get("/begin/sets/dogs").says(422, &["data set", "pets"]);
    let train = |net: &str, minutes: Value| {
        post(&server, "/begin/train", &json!({"set": "pets", "net": net, "minutes": minutes}))
    };
    train("resnet20", Value::Null).is(422);
    post(&server, "/begin/sets/pets/make", &json!({"class": "test"})).says(422, &["a split"]);
    train("resnet21", Value::Null).says(400, &["resnet20"]);
    train("resnet20", json!(0)).says(400, &["budget"]);
    train("resnet20", json!(u64::MAX)).is(400);
    server.ask("POST", "/begin/stop", &[], b"").is(409);
    let cat = folder.path().join("photos/pets/cat");
    assert_eq!(fs::read_dir(cat).unwrap().count(), 0);
}

#[test]
fn a_training_stops_when_told_and_at_the_servers_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), Limits::default());
    begun(&server);
    let long = json!({"set": "pets", "net": "resnet20", "minutes": 5});
    post(&server, "/begin/train", &long).ok();
    post(&server, "/begin/train", &long).says(409, &["a training goes on", "pets"]);
    server.ask("POST", "/begin/stop", &[], b"").ok();
    let training = trained(&server);
    assert_eq!((&training["doing"], &training["served"]), (&json!("stopped"), &json!(false)));
    post(&server, "/begin/train", &long).ok();
    let start = Instant::now();
    server.end();
    assert!(start.elapsed() < Duration::from_secs(60));
}
