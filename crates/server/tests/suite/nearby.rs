//! Images of a data set that are like one that is sent.

use std::time::{Duration, Instant};

use headstart::cache::CacheSettings;
use headstart::image::{Rgb8, decode, picture};
use headstart_server::{Limits, Options};

use crate::support::{Reply, Server, model, options};

/// A picture of one colour with a stripe.
fn striped(colour: [u8; 3], at: usize) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..32 * 32).flat_map(|i| if i % 32 == at { [255; 3] } else { colour }).collect();
    picture::png(&Rgb8::new(32, 32, pixels).unwrap()).unwrap()
}

/// A server over a folder of four red and four blue pictures.
fn server(folder: &std::path::Path) -> Server {
    for (class, colour) in [("red", [200, 20, 20]), ("blue", [20, 20, 200])] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..4 {
            std::fs::write(folder.join(class).join(format!("{i}.png")), striped(colour, i))
                .unwrap();
        }
    }
    let data = Some((folder.to_str().unwrap().to_string(), CacheSettings::none()));
    Server::with(Options { data, ..options(Limits::default()) })
}

/// Asks until the features are there.
fn ask(server: &Server, path: &str, file: &[u8]) -> Reply {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let reply = server.ask("POST", path, &[("Content-Type", "image/png")], file);
        if reply.code != 503 {
            return reply;
        }
        assert_eq!(reply.header("retry-after"), Some("2"));
        assert!(Instant::now() < until, "{}", reply.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_most_similar_images_come_first_and_never_the_image_itself() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path());
    let json = ask(&server, "/similar", &striped([190, 30, 30], 9)).ok().json();
    let found = json["similar"].as_array().unwrap();
    assert_eq!(found.len(), 6);
    assert!(found[..4].iter().all(|f| f["class"] == "red"), "{json}");
    let similarity = |i: usize| found[i]["similarity"].as_f64().unwrap();
    assert!((1..6).all(|i| similarity(i) <= similarity(i - 1)), "{json}");
    // One of the set is not like itself.
    let json = ask(&server, "/similar?count=8&model=small", &striped([200, 20, 20], 2)).ok().json();
    let found = json["similar"].as_array().unwrap();
    assert_eq!(found.len(), 7);
    let names: Vec<_> = found.iter().map(|f| f["image"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| !name.ends_with("red/2.png")), "{names:?}");
    let at = found[0]["at"].as_u64().unwrap();
    let picture = server.get(&format!("/similar/small/{at}")).ok();
    assert_eq!(picture.header("content-type"), Some("image/png"));
    assert_eq!(decode("picture", &picture.body).unwrap().width, 160);
    server.get("/similar/small/8").says(404, &["below 8"]);
    server.get("/similar/small/x").is(400);
    server.get("/similar/none/0").is(404);
    ask(&server, "/similar?many=3", b"").says(400, &["model and count"]);
    ask(&server, "/similar", b"no image").says(422, &["an image that is read"]);
}

#[test]
fn a_new_model_looks_at_the_images_anew() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder.path().join("data"));
    let query = striped([90, 90, 120], 5);
    let before = ask(&server, "/similar", &query).ok().json();
    let mut other = model();
    other.parameters.tensors[0].values.reverse();
    let path = folder.path().join("other.safetensors");
    other.save(&path).unwrap();
    server.ask("PUT", "/v2/models/small", &[], &std::fs::read(path).unwrap()).ok();
    assert_ne!(ask(&server, "/similar", &query).ok().json(), before);
}

#[test]
fn without_a_data_set_it_is_said() {
    let server = Server::start(Limits::default());
    ask(&server, "/similar", b"").says(404, &["--data"]);
    assert_eq!(server.get("/state").ok().json()["data"], false);
}
