//! `--decode`: large JPEGs are decoded reduced, from training to export.

use std::fs;

use headstart::image::{Rgb8, decode, decode_draft, jpeg, picture};

use crate::support::{Place, TRAIN};

/// A large photo in the folder, `large.jpg`, and what is decoded of it, in full and reduced, as PNG.
fn photo(place: &Place) {
    let (width, height) = (1280, 1024);
    let sample = |i: usize| {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        let smooth = x * (c + 1) / 13 % 80 + y / 9 % 70;
        (smooth + (x / 37 + y / 41) % 2 * 60 + (x / 5 + y / 6) % 2 * 40) as u8
    };
    let pixels: Vec<u8> = (0..width * height * 3).map(sample).collect();
    let bytes = jpeg(&Rgb8::new(width, height, pixels).unwrap(), 85).unwrap();
    let (full, reduced) = (decode("x", &bytes).unwrap(), decode_draft("x", &bytes, 256).unwrap());
    assert_eq!((reduced.width, reduced.height), (320, 256));
    fs::write(place.path("large.jpg"), bytes).unwrap();
    fs::write(place.path("full.png"), picture::png(&full).unwrap()).unwrap();
    fs::write(place.path("reduced.png"), picture::png(&reduced).unwrap()).unwrap();
}

/// Probabilities by class.
fn probabilities(place: &Place, line: &str) -> Vec<(String, f64)> {
    let found = place.run(&format!("predict {line} --json --precision f32")).ok().json();
    let of = |choice: &serde_json::Value| {
        (choice["class"].as_str().unwrap().to_string(), choice["probability"].as_f64().unwrap())
    };
    let mut list: Vec<_> = found["top"].as_array().unwrap().iter().map(of).collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(list.len(), 3);
    list
}

/// A place with the runs `run` and `full`, and the photo.
fn trained() -> Place {
    let place = Place::new();
    place.data(6);
    photo(&place);
    let line = TRAIN.replace("--image-size 16", "--image-size 64");
    let told = place.run(&line).ok().err;
    assert!(told.contains("large JPEGs decoded reduced"), "{told}");
    place.run(&format!("{} --decode full", line.replace("--out run", "--out full"))).ok();
    place
}

#[test]
fn a_model_reads_files_as_it_says() {
    let place = trained();
    let settings = |run: &str| fs::read_to_string(place.path(run).join("config.toml")).unwrap();
    assert!(settings("run").contains("decode = \"reduced\""), "{}", settings("run"));
    assert!(settings("full").contains("decode = \"full\""));
    let (full, reduced) =
        (probabilities(&place, "run full.png"), probabilities(&place, "run reduced.png"));
    assert_ne!(full, reduced);
    assert_eq!(probabilities(&place, "run large.jpg"), reduced);
    assert_eq!(probabilities(&place, "run large.jpg --decode full"), full);
    let own = probabilities(&place, "full large.jpg");
    assert_eq!(own, probabilities(&place, "full full.png"));
    assert_eq!(
        probabilities(&place, "full large.jpg --decode reduced"),
        probabilities(&place, "full reduced.png")
    );

    // Later commands, over a data set with the photo.
    place.data(2);
    fs::copy(place.path("large.jpg"), place.path("data/red/large.jpg")).unwrap();
    for (run, want) in [("run", &reduced), ("full", &own)] {
        let line =
            format!("evaluate {run} --data data --split all --precision f32 --output p.json");
        place.run(&line).ok();
        let rows: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(place.path("p.json")).unwrap()).unwrap();
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|r| r["image"].as_str().unwrap().ends_with("large.jpg"));
        let most = want.iter().map(|choice| choice.1).fold(0.0, f64::max);
        let found = row.unwrap()["probability"].as_f64().unwrap();
        assert!((found - most).abs() <= 1e-5, "{run}: {found} {most}");
    }
    let found = place.run("explain-image run large.jpg --out e.png --json").ok().json();
    assert_eq!(found["window"], serde_json::json!([0.0, 0.0, 1.0, 1.0]));
    let least = |run: &str| {
        let line = format!("similar {run} large.jpg --data data --top-k 1 --json --precision f32");
        place.run(&line).ok().json()["left_out"].to_string()
    };
    assert!(least("run").contains("large.jpg"));
    assert!(place.run("summary run").ok().out.contains("large JPEGs decoded reduced"));
    assert!(!place.run("summary full").ok().out.contains("large JPEGs"));
}

#[test]
fn exports_read_files_as_the_model_does() {
    let place = trained();
    let draft = "image.draft(None, (256, 256))";
    for (run, has) in [("run", true), ("full", false)] {
        let onnx = place.run(&format!("export {run} --format onnx --out n.onnx")).ok().out;
        let keras = place.run(&format!("export {run} --format keras --out n.weights.h5")).ok().out;
        place.run(&format!("export {run} --format pytorch --out n.safetensors")).ok();
        let module = fs::read_to_string(place.path("n_model.py")).unwrap();
        for text in [&onnx, &keras, &module] {
            assert_eq!(text.contains(draft), has, "{text}");
            assert!(text.contains("exif_transpose"), "{text}");
        }
        let metadata = fs::read(place.path("n.onnx")).unwrap();
        let name: &[u8] = if has { b"reduced" } else { b"full" };
        assert!(metadata.windows(name.len()).any(|w| w == name));
    }
}

#[test]
fn a_model_file_and_a_run_keep_their_choice() {
    let place = trained();
    place.run("features run --data data --out f.csv --decode full").fails(2, &["--decode"]);
    place.run("probe run --data data --decode full").fails(2, &["--decode"]);
    place.run("train --resume run --decode full").fails(2, &["--resume", "decode"]);
    place.run("predict run large.jpg --decode half").fails(2, &["half", "full", "reduced"]);
    let config = place.path("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("decode = \"reduced\"", "decode = \"full\"")).unwrap();
    place.run("train --resume run --allow-changes").fails(1, &["decode"]);
    let compared = place.run("compare run full").ok().out;
    assert!(compared.contains("decode"), "{compared}");
}
