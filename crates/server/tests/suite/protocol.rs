//! The Open Inference Protocol.

use headstart::classify::Prepared;
use headstart_server::Limits;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{IMAGE, Reply, Server, device, model, pixels, request};

const INFER: &str = "/v2/models/small/infer";

fn expected(pixels: &[u8]) -> Vec<f32> {
    let count = pixels.len() / IMAGE;
    Prepared::new(Arc::new(model()), &device(), count).unwrap().run(pixels, count).unwrap()
}

/// JSON followed by bytes.
fn binary(server: &Server, json: &str, bytes: &[u8]) -> Reply {
    let length = json.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    server.ask("POST", INFER, &headers, &[json.as_bytes(), bytes].concat())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn the_server_and_its_model_say_what_they_are() {
    let server = Server::start(Limits::default());
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/small/ready",
        "/v2/models/small/versions/1/ready",
    ] {
        server.get(path).ok();
    }
    server.get("/v2/models/none/ready").is(404);
    server.get("/v2/models/small/versions/2/ready").is(404);
    let json = server.get("/v2").ok().json();
    assert_eq!(json["name"], "headstart");
    assert!(json["extensions"].to_string().contains("binary_tensor_data"));
    for path in ["/v2/models/small", "/v2/models/small/versions/1"] {
        let json = server.get(path).ok().json();
        assert_eq!(
            (&json["name"], &json["versions"]),
            (&"small".into(), &serde_json::json!(["1"]))
        );
        let input =
            serde_json::json!([{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]);
        let output =
            serde_json::json!([{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]);
        assert_eq!((&json["inputs"], &json["outputs"]), (&input, &output));
        assert_eq!(json["classes"], serde_json::json!(model().card.classes));
    }
    let config = server.get("/v2/models/small/config").ok().json();
    assert_eq!(config["input"][0]["dims"], serde_json::json!([32, 32, 3]));
    server.get("/v2/models/small/versions/7").says(404, &["expected 1, found 7"]);
    server.get("/v2/models/%2e%2e%2fsecret").says(404, &["../secret"]);
}

#[test]
fn json_is_answered_to_the_bit_with_the_temperature() {
    let server = Server::start(Limits::default());
    let pixels = pixels(3, 5);
    let reply = server.infer(&pixels).ok();
    assert_eq!(reply.data(), expected(&pixels));
    let json = reply.json();
    assert_eq!(json["outputs"][0]["shape"], serde_json::json!([3, 10]));
    assert_eq!((&json["model_name"], &json["model_version"]), (&"small".into(), &"1".into()));
    // The tensor may be nested as its shape says, and the request may have a name.
    let rows: Vec<Vec<&[u8]>> =
        pixels.chunks(IMAGE).map(|image| image.chunks(32 * 3).collect()).collect();
    let text = request(&pixels).replace(&format!("{pixels:?}"), &format!("{rows:?}"));
    let text = text.replacen('{', "{\"id\":\"seven\",\"parameters\":{\"priority\":1},", 1);
    let nested =
        server.ask("POST", INFER, &[("Content-Type", "application/json")], text.as_bytes()).ok();
    assert_eq!(nested.data(), expected(&pixels));
    assert_eq!(nested.json()["id"], "seven");
}

#[test]
fn tensors_are_bytes_in_both_directions() {
    let server = Server::start(Limits::default());
    let pixels = pixels(2, 6);
    let input = format!(
        "{{\"name\":\"image\",\"datatype\":\"UINT8\",\"shape\":[2,32,32,3],\"parameters\":{{\"binary_data_size\":{}}}}}",
        pixels.len()
    );
    let ask =
        |rest: &str| binary(&server, &format!("{{\"inputs\":[{input}]{rest}}}"), &pixels).ok();
    assert_eq!(ask("").data(), expected(&pixels));
    let wanted =
        ",\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"binary_data\":true}}]";
    for rest in [wanted, ",\"parameters\":{\"binary_data_output\":true}"] {
        let reply = ask(rest);
        let length: usize =
            reply.header("inference-header-content-length").unwrap().parse().unwrap();
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        let (json, bytes) = reply.body.split_at(length);
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 2 * 10 * 4);
        assert_eq!(floats(bytes), expected(&pixels));
    }
    // The tensor alone.
    let headers = [("Inference-Header-Content-Length", "0")];
    let reply = server.ask("POST", INFER, &headers, &pixels).ok();
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(floats(&reply.body[length..]), expected(&pixels));
}

#[test]
fn the_most_probable_classes_are_lines() {
    let server = Server::start(Limits::default());
    let pixels = pixels(1, 7);
    let wanted =
        "\"outputs\":[{\"name\":\"probabilities\",\"parameters\":{\"classification\":3}}],";
    let text = request(&pixels).replacen('{', &format!("{{{wanted}"), 1);
    let json = server.ask("POST", INFER, &[], text.as_bytes()).ok().json();
    let output = &json["outputs"][0];
    assert_eq!(
        (&output["datatype"], &output["shape"]),
        (&"BYTES".into(), &serde_json::json!([1, 3]))
    );
    let best = &model().choices(&expected(&pixels), 1)[0];
    let line = format!("{:.6}:{}:{}", best.probability, best.index, best.class);
    assert_eq!(output["data"][0], line);
    let text = text.replace("\"classification\":3", "\"classification\":2,\"binary_data\":true");
    let reply = server.ask("POST", INFER, &[], text.as_bytes()).ok();
    let length: usize = reply.header("inference-header-content-length").unwrap().parse().unwrap();
    let bytes = &reply.body[length..];
    let first = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!(std::str::from_utf8(&bytes[4..4 + first]).unwrap(), line);
}

#[test]
fn requests_that_the_model_does_not_take_say_what_it_takes() {
    let server = Server::start(Limits::default());
    let good = request(&pixels(1, 1));
    let post = |text: &str| server.ask("POST", INFER, &[], text.as_bytes());
    let changed = |from: &str, to: &str| post(&good.replace(from, to));
    changed("UINT8", "FP32").says(400, &["expected UINT8, found FP32"]);
    changed("\"image\"", "\"picture\"").says(400, &["expected image, found picture"]);
    changed("[1, 32, 32, 3]", "[1, 3, 32, 32]").says(400, &["[n, 32, 32, 3]", "/predict"]);
    changed("[1, 32, 32, 3]", "[2, 32, 32, 3]").says(400, &["2 images of 3072 bytes"]);
    changed("[1, 32, 32, 3]", "[0, 32, 32, 3]").says(400, &["at least one"]);
    changed("[1, 32, 32, 3]", "[18446744073709551615, 32, 32, 3]").says(400, &["images of 3072"]);
    changed("[1, 32, 32, 3]", "[-1, 32, 32, 3]").says(400, &["invalid value"]);
    changed("\"data\":[", "\"data\":[256,").says(400, &["from 0 to 255"]);
    changed("\"data\"", "\"values\"").says(400, &["either data or binary_data_size"]);
    post("{}").says(400, &["inputs"]);
    post("{\"inputs\":[]}").says(400, &["expected one, image, found 0"]);
    post("").says(400, &["body"]);
    post("<html>").says(400, &["body"]);
    let outputs = good.replacen('{', "{\"outputs\":[{\"name\":\"logits\"}],", 1);
    post(&outputs).says(400, &["expected probabilities, found logits"]);
    let long = good.replacen('{', &format!("{{\"id\":\"{}\",", "x".repeat(2000)), 1);
    post(&long).says(400, &["id"]);
    let length = [("Inference-Header-Content-Length", "99999999999")];
    server.ask("POST", INFER, &length, good.as_bytes()).says(400, &["at most"]);
    let length = [("Inference-Header-Content-Length", "-1")];
    server.ask("POST", INFER, &length, good.as_bytes()).says(400, &["a number of bytes"]);
    let alone = [("Inference-Header-Content-Length", "0")];
    server.ask("POST", INFER, &alone, &pixels(1, 1)[1..]).says(400, &["3071 bytes"]);
    let zipped = [("Content-Encoding", "gzip")];
    server.ask("POST", INFER, &zipped, good.as_bytes()).says(415, &["Content-Encoding"]);
    server.ask("POST", "/v2/models/none/infer", &[], good.as_bytes()).says(404, &["small"]);
    // None of that harms the next one.
    server.infer(&pixels(1, 1)).ok();
}

#[test]
fn metrics_count_what_was_asked() {
    let server = Server::start(Limits::default());
    server.infer(&pixels(3, 1)).ok();
    server.get("/v2/models/none").is(404);
    // The server may see a moment later that the connections of before are closed.
    let until = Instant::now() + Duration::from_secs(10);
    let reply = loop {
        let reply = server.get("/metrics").ok();
        if reply.text().contains("headstart_connections 1\n") || Instant::now() > until {
            break reply;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "headstart_requests_total{route=\"infer\",code=\"200\"} 1",
        "headstart_requests_total{route=\"metadata\",code=\"404\"} 1",
        "headstart_request_duration_seconds_count{route=\"infer\"} 1",
        "headstart_batch_images_bucket{le=\"2\"} 0",
        "headstart_batch_images_bucket{le=\"4\"} 1",
        "headstart_images_total 3",
        "headstart_queue_images 0",
        "headstart_queue_images_max 256",
        "headstart_connections 1",
        "headstart_models 1",
    ] {
        assert!(reply.text().lines().any(|l| l == line), "no {line} in {}", reply.text());
    }
}
