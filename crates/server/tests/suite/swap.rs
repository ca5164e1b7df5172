//! Models are exchanged while requests go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use headstart::Model;
use headstart::classify::Prepared;
use headstart::source::ModelSource;
use headstart_server::{Limits, Named, Options};

use crate::support::{Client, Server, device, model, pixels, request};

const PATH: &str = "/v2/models/small";

/// Another model of the same classes, and its file.
fn other(temperature: f64) -> (Model, Vec<u8>) {
    let mut other = model();
    other.card.temperature = Some(temperature);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    other.save(&path).unwrap();
    (other, std::fs::read(path).unwrap())
}

fn expected(model: Model, pixels: &[u8]) -> Vec<f32> {
    Prepared::new(Arc::new(model), &device(), 1).unwrap().run(pixels, 1).unwrap()
}

#[test]
fn a_model_is_swapped_without_a_request_that_is_dropped_or_mixed() {
    let server = Server::start(Limits::default());
    let pixels = pixels(1, 9);
    let (second, file) = other(0.5);
    let answers = [expected(model(), &pixels), expected(second, &pixels)];
    assert_ne!(answers[0], answers[1]);
    let (stop, seen) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (server, stop, seen, answers, pixels) = (&server, &stop, &seen, &answers, &pixels);
            scope.spawn(move || {
                let mut client = Client::new(server.address);
                let body = request(pixels);
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("{PATH}/infer");
                    let reply = client.ask("POST", &path, &[], body.as_bytes()).ok();
                    let version: usize =
                        reply.json()["model_version"].as_str().unwrap().parse().unwrap();
                    assert_eq!(reply.data(), answers[(version - 1) % 2]);
                    seen[(version - 1) % 2].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 2..6 {
            let reply = match version % 2 {
                0 => server.ask("PUT", PATH, &[], &file).ok(),
                _ => server.ask("PUT", PATH, &[], &other(1.7).1).ok(),
            };
            assert_eq!(reply.json()["versions"][0], version.to_string());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = seen.map(AtomicUsize::into_inner);
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let text = server.get("/metrics").text();
    assert!(text.contains("headstart_model_changes_total 4\n"), "{text}");
    assert!(!text.contains("route=\"infer\",code=\"5"), "{text}");
}

#[test]
fn what_is_no_model_changes_nothing() {
    let server = Server::start(Limits { model: 3 << 20, ..Limits::default() });
    let before = server.infer(&pixels(1, 1)).ok().data();
    let put = |path: &str, body: &[u8]| server.ask("PUT", path, &[], body);
    put(PATH, b"no model").says(422, &["the body"]);
    let file = other(1.0).1;
    put(PATH, &file[..file.len() / 2]).says(422, &["the body"]);
    put(PATH, &vec![0; 4 << 20]).says(413, &["model file"]);
    put("/v2/models/a%2Fb", &file).says(400, &["model name"]);
    put("/v2/models/%2e%2e", &file).is(400);
    assert_eq!(server.infer(&pixels(1, 1)).ok().data(), before);
    assert_eq!(server.get(PATH).ok().json()["versions"][0], "1");
}

#[test]
fn the_repository_reads_a_models_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    std::fs::write(&path, other(1.7).1).unwrap();
    let source = ModelSource::new(path.to_str().unwrap(), None).unwrap();
    let named = Named { name: "small".into(), model: Model::open(&path).unwrap(), source };
    let server = Server::with(Options { port: 0, ..Options::new(vec![named], device()) });
    let post = |path: &str| server.ask("POST", path, &[], b"{}");
    let (second, file) = other(0.5);
    std::fs::write(&path, file).unwrap();
    let pixels = pixels(1, 3);
    assert_eq!(server.infer(&pixels).ok().data(), expected(model(), &pixels));
    post("/v2/repository/models/small/load").ok();
    assert_eq!(server.infer(&pixels).ok().data(), expected(second, &pixels));
    let index = |state: &str| {
        let json = post("/v2/repository/index").ok().json();
        assert_eq!((&json[0]["name"], &json[0]["state"]), (&"small".into(), &state.into()));
    };
    index("READY");
    post("/v2/repository/models/small/unload").ok();
    index("UNAVAILABLE");
    server.infer(&pixels).is(404);
    server.get("/v2/models/small/ready").is(404);
    std::fs::write(&path, "damaged").unwrap();
    post("/v2/repository/models/small/load").is(422);
    std::fs::write(&path, other(1.7).1).unwrap();
    post("/v2/repository/models/small/load").ok();
    assert_eq!(server.infer(&pixels).ok().data(), expected(model(), &pixels));
    post("/v2/repository/models/none/load").says(404, &["PUT"]);
    post("/v2/repository/models/none/unload").is(404);
}
