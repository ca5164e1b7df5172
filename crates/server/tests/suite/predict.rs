//! Uploads are answered as `predict` answers files, to the bit.

use std::sync::Barrier;
use std::thread;

use headstart::classify::{ClassifyOptions, classify};
use headstart::image::Views;
use headstart::{Control, Error};
use headstart_server::{Limits, Options};

use crate::support::{Server, device, model, options, png};

/// Images of several sizes and formats.
fn files() -> Vec<(String, Vec<u8>)> {
    let sizes = [(32, 32), (64, 48), (31, 90), (7, 5), (200, 32), (33, 33)];
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..24u32 {
        let (width, height) = sizes[i as usize % sizes.len()];
        files.push((format!("{i}.png"), png(width, height, i)));
    }
    let grey = headstart::image::Rgb8::new(90, 60, vec![77; 90 * 60 * 3]).unwrap();
    files.push(("grey.jpg".into(), headstart::image::jpeg(&grey, 90).unwrap()));
    files
}

/// What `headstart predict` computes for each.
fn expected(files: &[(String, Vec<u8>)]) -> Vec<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    let options = ClassifyOptions { batch: 32, tta: Views::One, decoders: 2 };
    let mut rows = Vec::new();
    classify(&model(), &paths, &device(), options, &mut |_, answer| {
        rows.push(answer.unwrap().to_vec());
        Ok::<_, Error>(Control::Continue)
    })
    .unwrap();
    rows
}

/// The probabilities of an answer in the order of the classes.
fn row(prediction: &serde_json::Value) -> Vec<f32> {
    let mut top: Vec<_> = prediction["top"].as_array().unwrap().clone();
    top.sort_by_key(|choice| choice["index"].as_u64());
    top.iter().map(|choice| choice["probability"].to_string().parse().unwrap()).collect()
}

fn form(files: &[(String, Vec<u8>)], field: &str) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in files {
        let head = format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xyz--\r\n");
    ("multipart/form-data; boundary=xyz".into(), body)
}

#[test]
fn answers_are_those_of_predict_to_the_bit_in_any_company() {
    let files = files();
    let expected = expected(&files);
    for (batch, delay) in [(1, 0), (4, 20), (32, 50)] {
        let limits =
            Limits { batch, delay: std::time::Duration::from_millis(delay), ..Limits::default() };
        let server = Server::start(limits);
        // All at once, so that batches are of several requests.
        let barrier = Barrier::new(files.len());
        thread::scope(|scope| {
            for ((name, bytes), expected) in files.iter().zip(&expected) {
                let (server, barrier) = (&server, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let kind = [("Content-Type", "image/png")];
                    let reply = server.ask("POST", "/predict?top_k=10", &kind, bytes).ok();
                    let json = reply.json();
                    assert_eq!(row(&json["predictions"][0]), *expected, "{name} {batch}");
                });
            }
        });
        // And all in one request.
        let (kind, body) = form(&files, "image");
        let reply = server.ask("POST", "/predict?top_k=10", &[("Content-Type", &kind)], &body).ok();
        let json = reply.json();
        let predictions = json["predictions"].as_array().unwrap();
        for ((prediction, (name, _)), expected) in predictions.iter().zip(&files).zip(&expected) {
            assert_eq!(prediction["image"], **name);
            assert_eq!(row(prediction), *expected, "{name} {batch}");
        }
        assert_eq!(predictions.len(), files.len());
    }
}

#[test]
fn a_prediction_has_the_fields_of_predict_json_and_is_unknown_below_the_threshold() {
    let server = Server::with(Options { threshold: 0.999_99, ..options(Limits::default()) });
    let ask = |path: &str| {
        let kind = [("Content-Type", "application/octet-stream")];
        server.ask("POST", path, &kind, &png(40, 30, 3)).ok().json()
    };
    let unknown = ask("/predict");
    assert_eq!((&unknown["model"], &unknown["model_version"]), (&"small".into(), &"1".into()));
    let first = &unknown["predictions"][0];
    assert_eq!(first["class"], "unknown");
    assert!(first["index"].is_null() && first["image"] == "image");
    assert_eq!(first["top"].as_array().unwrap().len(), 5);
    let known = &ask("/predict?threshold=0&top_k=2&model=small")["predictions"][0];
    assert_eq!(known["class"], first["top"][0]["class"]);
    assert_eq!(known["probability"], first["top"][0]["probability"]);
    assert_eq!(known["top"].as_array().unwrap().len(), 2);
}

#[test]
fn images_that_cannot_be_read_do_not_cost_the_others() {
    let server = Server::start(Limits::default());
    let good = png(32, 32, 1);
    let files = [
        ("a.png".to_string(), good.clone()),
        ("<script>\u{202e}.png".to_string(), b"no image at all".to_vec()),
        ("c.png".to_string(), good),
    ];
    let (kind, body) = form(&files, "files");
    let reply = server.ask("POST", "/predict", &[("Content-Type", &kind)], &body).ok();
    assert!(!reply.text().contains(['<', '\u{202e}']), "{}", reply.text());
    let json = reply.json();
    let lines = json["predictions"].as_array().unwrap();
    assert_eq!(lines[0]["top"], lines[2]["top"]);
    assert_eq!(lines[1]["image"], files[1].0);
    assert!(lines[1]["error"].as_str().unwrap().contains("expected an image"), "{}", lines[1]);
    let (kind, body) = form(&files[1..2], "files");
    let kind = [("Content-Type", kind.as_str())];
    server.ask("POST", "/predict", &kind, &body).says(422, &["an image that is read"]);
}

#[test]
fn what_cannot_be_meant_is_said() {
    let server = Server::start(Limits::default());
    let image = png(8, 8, 1);
    let png = [("Content-Type", "image/png")];
    let ask =
        |path: &str, headers: &[(&str, &str)], body: &[u8]| server.ask("POST", path, headers, body);
    ask("/predict?model=other", &png, &image).says(404, &["found other", "small"]);
    ask("/predict?topk=3", &png, &image).says(400, &["topk", "top_k"]);
    ask("/predict?top_k=x", &png, &image).says(400, &["top_k"]);
    ask("/predict?threshold=7", &png, &image).says(400, &["from 0 to 1", "7"]);
    ask("/predict?threshold=NaN", &png, &image).says(400, &["from 0 to 1"]);
    ask("/predict", &png, b"").says(400, &["expected an image", "curl -F"]);
    ask("/predict", &[], &image).says(415, &["found none", "curl -F"]);
    ask("/predict", &[("Content-Type", "text/plain")], &image).says(415, &["text/plain"]);
    let zipped = [("Content-Type", "image/png"), ("Content-Encoding", "gzip")];
    ask("/predict", &zipped, &image).says(415, &["compressed"]);
    let (kind, body) = form(&[], "image");
    ask("/predict", &[("Content-Type", &kind)], &body).says(400, &["expected an image"]);
    let field = b"--xyz\r\nContent-Disposition: form-data; name=\"top_k\"\r\n\r\n3\r\n--xyz--\r\n";
    ask("/predict", &[("Content-Type", &kind)], field).says(400, &["top_k", "/predict?top_k=3"]);
    ask("/predict", &[("Content-Type", &kind)], b"--xyz\r\n").says(400, &["form"]);
    ask("/predict", &[("Content-Type", "multipart/form-data")], b"x").says(415, &["boundary"]);
    server.get("/predict").says(405, &["another method"]);
    server.get("/nothing").says(404, &["/predict", "/v2"]);
}
