//! `headstart data check`: each finding on a small data set, as text, JSON and page.

use std::fs;

use serde_json::Value;

use crate::support::Place;

/// A picture of waves; `noise` is added to every third pixel.
fn picture(width: u32, height: u32, seed: u32, noise: u8) -> Vec<u8> {
    let (s, mut pixels) = (f64::from(seed), Vec::new());
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
            for c in 0..3 {
                let phase = s * (1.7 + f64::from(c)) + 3.0 * u * (1.0 + s % 5.0);
                let wave = (phase + 9.0 * v * (s % 3.0 + 0.5)).sin() + (s + 11.0 * u * v).cos();
                let value = (128.0 + 60.0 * wave) as u8;
                pixels.push(if (x + y) % 3 == 0 { value.saturating_add(noise) } else { value });
            }
        }
    }
    pixels
}

fn png(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    out
}

fn write(place: &Place, name: &str, bytes: &[u8]) {
    let path = place.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Ten different pictures of two classes to train on, and four to test with.
fn sound(place: &Place) {
    for i in 0..14 {
        let part = if i < 10 { "train" } else { "test" };
        let class = if i % 2 == 0 { "even" } else { "odd" };
        let bytes = png(40, 30, &picture(40, 30, 7 * i + 1, 0));
        write(place, &format!("data/{part}/{class}/{i:02}.png"), &bytes);
    }
}

fn check(place: &Place) -> Value {
    place.run("data check data --json").ok().json()
}

fn names(group: &Value) -> Vec<&str> {
    group["images"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect()
}

#[test]
fn sound_data_has_no_findings() {
    let place = Place::new();
    sound(&place);
    let found = check(&place);
    assert_eq!(found["images"], 14);
    assert_eq!(found["parts"][0]["class_counts"], serde_json::json!([5, 5]));
    for kind in
        ["unreadable", "wrong_extensions", "exact_duplicates", "near_duplicates", "tiny", "blank"]
    {
        assert_eq!(found[kind].as_array().unwrap().len(), 0, "{kind}: {}", found[kind]);
    }
    let text = place.run("data check data").ok().out;
    assert!(text.contains("no problems found"), "{text}");
    assert!(text.contains("train: 10 images, 40x30"), "{text}");
    place.holds(&["data"]);
}

#[test]
fn images_that_fail_late_are_counted_once() {
    let place = Place::new();
    sound(&place);
    // Beginning and end are those of a PNG, and what is between is none.
    let mut broken = png(40, 30, &picture(40, 30, 900, 0));
    let at = broken.windows(4).position(|w| w == b"IDAT").unwrap() + 10;
    broken[at..at + 20].iter_mut().for_each(|byte| *byte ^= 0x55);
    for i in 0..2 {
        write(&place, &format!("data/train/even/late{i}.png"), &broken);
    }
    write(&place, "data/train/late/only.png", &broken);
    let found = check(&place);
    assert_eq!(found["images"], 14);
    assert_eq!(found["parts"][0]["images"], 10);
    assert_eq!(found["parts"][0]["class_counts"], serde_json::json!([5, 0, 5]));
    let reasons: Vec<&str> = found["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|u| u["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons.len(), 3);
    assert!(
        reasons.iter().all(|r| r.starts_with("a corrupt PNG") && *r == reasons[0]),
        "{reasons:?}"
    );
    let text = place.run("data check data").ok().out;
    assert!(text.contains("data: 14 images\ntrain: 10 images"), "{text}");
    assert!(text.contains("3 of them: a corrupt PNG"), "{text}");
    assert!(text.contains("class late: none of its 1 training images can be read"), "{text}");
}

#[test]
fn each_finding_is_found_and_nothing_else() {
    let place = Place::new();
    sound(&place);
    let first = png(40, 30, &picture(40, 30, 1, 0));
    // The same bytes, under another class and in the other split.
    write(&place, "data/train/odd/copy.png", &first);
    write(&place, "data/test/even/copy.png", &first);
    // The same picture larger and a little changed.
    write(&place, "data/train/even/near.png", &png(80, 60, &picture(80, 60, 15, 4)));
    write(&place, "data/train/even/really_png.jpg", &png(40, 30, &picture(40, 30, 500, 0)));
    write(&place, "data/train/even/cut.png", &first[..first.len() / 2]);
    write(&place, "data/train/even/text.png", b"text");
    write(&place, "data/train/even/tiny.png", &png(8, 40, &picture(8, 40, 600, 0)));
    write(&place, "data/train/even/blank.png", &png(40, 30, &[90; 3600]));
    let found = check(&place);
    let exact = found["exact_duplicates"].as_array().unwrap();
    assert_eq!(exact.len(), 1, "{exact:?}");
    assert_eq!(
        names(&exact[0]),
        ["data/train/even/00.png", "data/train/odd/copy.png", "data/test/even/copy.png"]
    );
    assert_eq!(
        (&exact[0]["across_splits"], &exact[0]["across_classes"]),
        (&true.into(), &true.into())
    );
    assert_eq!((&found["leaks"], &found["conflicts"]), (&1.into(), &1.into()));
    let near = found["near_duplicates"].as_array().unwrap();
    assert_eq!(near.len(), 1, "{near:?}");
    assert_eq!(names(&near[0]), ["data/train/even/02.png", "data/train/even/near.png"]);
    assert_eq!(found["wrong_extensions"][0]["name"], "data/train/even/really_png.jpg");
    assert_eq!(found["wrong_extensions"][0]["format"], "PNG");
    assert_eq!(found["wrong_extensions"].as_array().unwrap().len(), 1);
    let unreadable: Vec<&Value> =
        found["unreadable"].as_array().unwrap().iter().map(|u| &u["name"]).collect();
    assert_eq!(unreadable, ["data/train/even/cut.png", "data/train/even/text.png"]);
    assert_eq!(found["tiny"][0]["name"], "data/train/even/tiny.png");
    assert_eq!(found["tiny"].as_array().unwrap().len(), 1);
    assert_eq!(found["blank"][0]["name"], "data/train/even/blank.png");
    assert_eq!(found["blank"].as_array().unwrap().len(), 1);

    let text = place.run("data check data").ok().out;
    for part in [
        "2 files that cannot be used",
        "1 image occurs more than once",
        "in two splits, under two classes",
        "1 group of images that look the same",
        "really_png.jpg is a PNG",
        "1 image of one colour",
        "1 of these is in more than one split",
    ] {
        assert!(text.contains(part), "{part:?} not in: {text}");
    }
}

#[test]
fn the_page_has_thumbnails_and_needs_nothing_else() {
    let place = Place::new();
    sound(&place);
    let bytes = png(40, 30, &picture(40, 30, 1, 0));
    write(&place, "data/train/odd/a<b>&\"c.png", &bytes);
    place.run("data check data --html page.html").ok();
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), 2);
    assert_eq!(page.matches("a&lt;b&gt;&amp;&quot;c.png\" src=").count(), 1);
    assert!(page.contains("a&lt;b&gt;&amp;&quot;c.png</figcaption>") && !page.contains("a<b>"));
    // Every finding that is linked to is there.
    for link in page.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
    place.run("data check data --html none/page.html").fails(1, &["none/page.html"]);
}

#[test]
fn training_warns_of_what_is_cheap_to_see() {
    let place = Place::new();
    sound(&place);
    for i in 0..30 {
        let bytes = png(12, 12, &picture(12, 12, 900 + i, 0));
        write(&place, &format!("data/train/even/more{i}.png"), &bytes);
    }
    write(&place, "data/test/odd/leak.png", &png(40, 30, &picture(40, 30, 8, 0)));
    let line = "train --data data --model resnet20 --weights none --image-size 16 --batch-size 8 \
                --epochs 1 --validation-split 0 --out run";
    let err = place.run(line).ok().err;
    for part in [
        "warning: uneven classes: 35 training images of even, 5 of odd",
        "warning: 30 images have fewer than 16 pixels on a side",
        "warning: 1 validation or test image is also a training image",
    ] {
        assert!(err.contains(part), "{part:?} not in: {err}");
    }
}

#[test]
fn bad_calls_are_refused() {
    let place = Place::new();
    place.run("data check nowhere").fails(1, &["nowhere"]);
    place.run("data check data --threads 5000").fails(2, &["--threads", "1024"]);
    place.run("data check").fails(2, &["<DATA>"]);
    place.run("data").fails(2, &["check", "get"]);
}

/// Writes the sample's training digits as class folders, with the label of every `every`-th moved on; gives back the
/// names of those, with their true class.
fn digits(place: &Place, every: usize) -> Vec<(String, String)> {
    let digits = headstart::Dataset::load("sample").unwrap();
    let mut flipped = Vec::new();
    for i in 0..digits.train.len() {
        let image = digits.train.image(i).unwrap();
        let truth = digits.train.label(i);
        // No class goes to one class only.
        let label = if i % every == 0 { (truth + 1 + (i / every) % 9) % 10 } else { truth };
        let name = format!("{}/{i:04}.png", digits.classes[label]);
        write(place, &format!("data/{name}"), &png(8, 8, &image.pixels));
        if label != truth {
            flipped.push((name, digits.classes[truth].clone()));
        }
    }
    flipped
}

#[test]
fn labels_flipped_on_purpose_are_named() {
    for every in [10, 18] {
        let place = Place::new();
        let flipped = digits(&place, every);
        let line =
            "data check data --labels --model resnet20 --image-size 32 --interpolation bicubic";
        let check = &place.run(&format!("{line} --json")).ok().json()["labels"];
        assert_eq!(place.kept().len(), 1);
        let issues = check["issues"].as_array().unwrap();
        let truth = |issue: &Value| {
            let name = issue["name"].as_str().unwrap();
            flipped.iter().find(|(flipped, _)| name.ends_with(flipped)).map(|f| f.1.clone())
        };
        let right: Vec<&Value> = issues.iter().filter(|i| truth(i).is_some()).collect();
        let recall = right.len() as f64 / flipped.len() as f64;
        let precision = right.len() as f64 / issues.len() as f64;
        let named = right.iter().filter(|i| truth(i).as_deref() == i["suggested"].as_str()).count();
        let told = format!(
            "{} flipped: recall {recall}, precision {precision}, {named} named right",
            flipped.len()
        );
        println!("{told}");
        assert!(recall >= 0.8 && precision >= 0.5, "{told}");
        assert!(named * 10 >= right.len() * 7, "{told}");
        assert!(check["accuracy"].as_f64().unwrap() > 0.75, "{check}");
        assert_eq!((&check["folds"], &check["layer"]), (&5.into(), &"avg_pool".into()));
        let margins: Vec<f64> = issues.iter().map(|i| i["margin"].as_f64().unwrap()).collect();
        assert!(margins.is_sorted() && margins.iter().all(|m| (0.0..0.5).contains(m)));
        // The page has them with pictures; features are not computed again.
        let done = place.run(&format!("{line} --html page.html")).ok();
        let first = issues[0]["name"].as_str().unwrap();
        assert!(
            done.out.contains("suspected label errors") && done.out.contains(first),
            "{}",
            done.out
        );
        assert!(done.err.contains("are kept from before"), "{}", done.err);
        let page = fs::read_to_string(place.path("page.html")).unwrap();
        let section = page.split("<section id=\"labels\">").nth(1).unwrap();
        let section = section.split("</section>").next().unwrap();
        assert_eq!(section.matches("<img ").count(), issues.len().min(60));
        assert!(section.contains(first));
        place.holds(&["data", "page.html"]);
    }
}

#[test]
fn labels_are_judged_by_a_model_file_and_small_classes_left_out() {
    let place = Place::new();
    place.data(8);
    for i in 0..3 {
        place.image(&format!("data/grey/{i}.png"), 16, [90, 90, 90], i);
    }
    // A picture of red among the blue ones, and a file that is no image.
    place.image("data/blue/wrong.png", 16, [200, 30, 30], 40);
    write(&place, "data/blue/broken.png", b"\x89PNG\r\n\x1a\n and no more");
    place.run("train --data data --model resnet20 --epochs 1 --out run --no-cache").ok();
    let model = "run/weights/best.safetensors";
    let line = format!("data check data --labels --model {model} --no-cache --folds 4");
    let check = &place.run(&format!("{line} --json")).ok().json()["labels"];
    assert_eq!(check["left_out"], serde_json::json!(["grey"]));
    assert_eq!(check["images"], 25);
    let issues = check["issues"].as_array().unwrap();
    assert!(issues[0]["name"].as_str().unwrap().ends_with("blue/wrong.png"), "{check}");
    assert_eq!((&issues[0]["class"], &issues[0]["suggested"]), (&"blue".into(), &"red".into()));
    assert_eq!(issues[0]["suggested_index"], 3);
    let text = place.run(&line).ok().out;
    assert!(text.contains("fewer than 4 images: grey"), "{text}");
    // A head that was trained alone has left the features as they were; layers below it have not.
    assert!(!text.contains("learned their labels"), "{text}");
    let tuned = "train --data data --model resnet20 --weights cifar10 --epochs 0 --batch-size 8 --fine-tune-at conv4 \
                 --fine-tune-epochs 1 --no-cache --out tuned";
    place.run(tuned).ok();
    let text = place.run(&line.replace("run/weights/best.safetensors", "tuned")).ok().out;
    assert!(text.contains("was trained on") && text.contains("learned their labels"), "{text}");
    fs::remove_dir_all(place.path("tuned")).unwrap();
    assert_eq!(place.kept().len(), 0);

    place.run(&format!("{line} --image-size 32")).fails(2, &["a model file", "--image-size"]);
    place.run("data check data --labels --folds 1").fails(2, &["--folds", "2 to 1000"]);
    place.run("data check data --labels --model resnet5").fails(2, &["resnet5", "resnet50"]);
    place.run("data check data --folds 3").fails(2, &["--labels"]);
    let line = "data check data --labels --model resnet20 --no-cache --folds 100 --html page.html";
    place.run(line).fails(1, &["training images", "two classes of 100 images"]);
    place.holds(&["data", "run"]);
}
