//! What a user learns about a model and its predictions, on the real binary.

use std::fs;

use serde_json::Value;

use crate::support::{Place, TRAIN, list};

const MODEL: &str = "run/weights/last.safetensors";

/// A place with data and a model trained on it.
fn trained() -> Place {
    trained_with("")
}

fn trained_with(flags: &str) -> Place {
    let place = Place::new();
    place.data(20);
    place
        .run(&format!(
            "{TRAIN} --fine-tune-at 0 --fine-tune-epochs 8 --fine-tune-learning-rate 1e-3 {flags}"
        ))
        .ok();
    place
}

/// A model whose probabilities stay below 1.
fn unsure() -> Place {
    trained_with("--label-smoothing 0.1")
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path(name)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn evaluate_says_how_sure_its_figures_are_and_writes_them() {
    let place = trained();
    // The model's own data: what it was not trained on.
    let done = place.run(&format!("evaluate {MODEL} --data data --json")).ok();
    assert!(done.err.contains("split as they were then") && !done.err.contains("warning"));
    let own = done.json();
    assert_eq!(
        (&own["samples"], &own["trained_on"], &own["split"]),
        (&12.into(), &0.into(), &"test".into())
    );
    let line = format!("evaluate {MODEL} --data data --split all --json");
    let done = place.run(&format!("{line} --out figures")).ok();
    assert!(done.err.contains("trained on 43 of these 60 images"), "{}", done.err);
    let json = done.json();
    assert_eq!(json["trained_on"], 43);
    let mut names = list(&place.path("figures"));
    names.sort();
    let expected = [
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "confusion_matrix.svg",
        "reliability.png",
        "reliability.svg",
        "report.json",
        "report.txt",
    ];
    assert_eq!(names, expected);
    let written: Value = serde_json::from_str(&read(&place, "figures/report.json")).unwrap();
    assert_eq!(written, json);
    assert_eq!(json["calibration"]["bins"].as_array().unwrap().len(), 15);
    let intervals = &json["confidence_intervals"];
    assert_eq!((&intervals["resamples"], &intervals["seed"]), (&1000.into(), &42.into()));
    for name in ["loss", "accuracy", "top5"] {
        let [low, value, high] =
            [&intervals[name][0], &json[name], &intervals[name][1]].map(number);
        assert!(low <= value && value <= high, "{name}: {low} {value} {high}");
    }
    let text = read(&place, "figures/report.txt");
    assert!(text.contains("95% intervals: loss") && text.contains("calibration error (ECE"));
    let csv = read(&place, "figures/confusion_matrix.csv");
    assert_eq!(csv.lines().next(), Some("label,blue,green,red"));
    let counts = csv.lines().skip(1).flat_map(|l| l.split(',').skip(1));
    assert_eq!(counts.map(|n| n.parse::<u64>().unwrap()).sum::<u64>(), 60);

    let other = place.run(&format!("{line} --bootstrap 50 --bootstrap-seed 7")).ok().json();
    assert_eq!(other["confidence_intervals"]["resamples"], 50);
    assert_eq!(other["confidence_intervals"]["seed"], 7);
    let none = place.run(&format!("{line} --bootstrap 0")).ok().json();
    assert!(none["confidence_intervals"].is_null() && none["calibration"].is_object());
}

#[test]
fn calibration_stays_in_the_model_and_changes_no_predicted_class() {
    let place = trained();
    let predict = format!("predict {MODEL} data/red data/blue --json");
    let before = place.run(&predict).ok().out;
    let line = format!("evaluate {MODEL} --data data --json --split validation");
    let raw = place.run(&line).ok().json();
    let size = fs::metadata(place.path(MODEL)).unwrap().len();
    let done = place.run(&format!("{line} --calibrate")).ok();
    assert!(done.err.contains("temperature"), "{}", done.err);
    let fitted = done.json();
    let temperature = number(&fitted["calibration"]["temperature"]);
    assert!((0.05..=20.0).contains(&temperature) && (temperature - 1.0).abs() > 1e-3);
    assert!(number(&fitted["loss"]) <= number(&raw["loss"]) + 1e-6);
    assert_eq!(fitted["accuracy"], raw["accuracy"]);
    // All else in the file stays: optimizer state and progress with it.
    assert!(fs::metadata(place.path(MODEL)).unwrap().len().abs_diff(size) < 200);
    let card = fs::read(place.path(MODEL)).unwrap();
    let card = String::from_utf8_lossy(&card[..60_000]).into_owned();
    assert!(card.contains("temperature") && card.contains("progress"));

    let again = place.run(&line).ok().json();
    assert_eq!((&again["loss"], &again["calibration"]), (&fitted["loss"], &fitted["calibration"]));
    let after = place.run(&predict).ok().out;
    assert!(before != after);
    for (a, b) in before.lines().zip(after.lines()) {
        let [a, b] = [a, b].map(|l| serde_json::from_str::<Value>(l).unwrap());
        assert_eq!(a["class"], b["class"]);
    }
    place
        .run(&format!("evaluate {MODEL} --data data --calibrate --validation-split 0"))
        .fails(1, &["validation"]);
}

#[test]
fn the_gallery_is_one_page_with_the_mistakes() {
    let place = trained();
    // Images with the label of others are mistakes.
    place.image("data/red/<i>.png", 16, [30, 30, 200], 3);
    place
        .run(&format!(
            "evaluate {MODEL} --data data --split all --gallery g.html --gallery-size 70"
        ))
        .ok();
    let page = read(&place, "g.html");
    assert!(page.contains("&lt;i&gt;.png") && !page.contains("<i>"));
    assert!(page.contains("red predicted as blue"), "{page}");
    // Each image is there once, however often it is shown.
    let images = page.matches("data:image/png;base64,").count();
    let drawings = page.matches("<svg").count();
    assert!(images >= 1 && drawings >= 3 * images, "{drawings} drawings of {images} images");
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<script"));
    assert!(page.contains("prefers-color-scheme: dark"));
    place
        .run(&format!("evaluate {MODEL} --data data --gallery no/g.html"))
        .fails(1, &["no/g.html"]);
}

#[test]
fn the_page_of_a_run_is_made_again_from_its_folder() {
    let place = trained();
    let first = read(&place, "run/report.html");
    assert!(!first.contains("http:") && !first.contains("https:") && !first.contains(" src=\"/"));
    fs::remove_file(place.path("run/report.html")).unwrap();
    let done = place.run("report run").ok();
    assert_eq!(done.out.trim(), "run/report.html");
    let again = read(&place, "run/report.html");
    for part in
        ["macro average", "majority-class baseline", "headstart report run", "id=\"curves\""]
    {
        assert!(first.contains(part) && again.contains(part), "{part}");
    }
    // The commands name an image that exists.
    let command = again.split("headstart predict ").nth(1).unwrap().split('<').next().unwrap();
    let (model, image) = command.split_once(' ').unwrap();
    assert!(place.path(model).is_dir() && place.path(image).is_file(), "{command}");
    assert!(!done.err.contains("warning"), "{}", done.err);
    fs::rename(place.path("data"), place.path("gone")).unwrap();
    let without = place.run("report run").ok();
    assert!(without.err.contains("warning: the page is without images"), "{}", without.err);
    assert!(read(&place, "run/report.html").contains("macro average"));
    fs::remove_file(place.path("run/weights/best.safetensors")).unwrap();
    place.run("report run").fails(1, &["best.safetensors"]);
}

#[test]
fn explain_image_draws_a_map_of_any_class() {
    let place = trained();
    let line = format!("explain-image {MODEL} data/red/003.png --json");
    let own = place.run(&format!("{line} --out own.png")).ok().json();
    let blue = place.run(&format!("{line} --out blue.png --class blue")).ok().json();
    assert_eq!((&blue["class"], &blue["index"]), (&"blue".into(), &0.into()));
    let classes = ["blue", "green", "red"];
    assert_eq!(own["class"], classes[own["index"].as_u64().unwrap() as usize]);
    assert!(number(&own["probability"]) >= number(&blue["probability"]));
    let map = own["map"].as_array().unwrap();
    assert_eq!((map.len(), map[0].as_array().unwrap().len()), (4, 4));
    let [a, b] = ["own.png", "blue.png"].map(|f| fs::read(place.path(f)).unwrap());
    assert!(a.starts_with(b"\x89PNG") && b.starts_with(b"\x89PNG"));
    assert!(own["class"] == "blue" || a != b);
    // Small images are magnified.
    assert!(u32::from_be_bytes(a[16..20].try_into().unwrap()) >= 224);
    place.run(&format!("{line} --out x.png --class bleu")).fails(2, &["bleu", "blue"]);
    place.run(&format!("explain-image {MODEL} gone.png --out x.png")).fails(1, &["gone.png"]);
    assert!(!place.path("x.png").exists());
}

#[test]
fn predict_writes_files_and_fails_where_an_image_cannot_be_read() {
    let place = unsure();
    let json = place.run(&format!("predict {MODEL} data --json")).ok().out;
    let lines: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 60);
    // Order and predictions depend neither on threads nor on the batch.
    for flags in ["--threads 1", "--threads 3", "--batch-size 7"] {
        assert_eq!(place.run(&format!("predict {MODEL} data --json {flags}")).ok().out, json);
    }
    for ending in ["csv", "json", "jsonl", "parquet"] {
        place.run(&format!("predict {MODEL} data --top-k 2 --output p.{ending}")).ok();
    }
    let array: Value = serde_json::from_str(&read(&place, "p.json")).unwrap();
    assert_eq!(array[59]["image"], lines[59]["image"]);
    assert_eq!(array[0]["top"].as_array().unwrap().len(), 2);
    assert_eq!(read(&place, "p.jsonl").lines().count(), 60);
    let csv = read(&place, "p.csv");
    assert!(csv.starts_with("image,class,index,probability,class2,index2,probability2\n"));
    assert_eq!(csv.lines().count(), 61);
    // An index is the position in the model's own list, everywhere the same.
    let model = place.run(&format!("weights inspect {MODEL} --json")).ok().json();
    let index = |class: &Value| {
        let names = model["class_names"].as_array().unwrap();
        names.iter().position(|name| name == class).unwrap()
    };
    for (line, row) in lines.iter().zip(csv.lines().skip(1)) {
        assert_eq!(line["index"], index(&line["class"]), "{line}");
        for choice in line["top"].as_array().unwrap() {
            assert_eq!(choice["index"], index(&choice["class"]), "{line}");
        }
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!(cells[2], line["index"].to_string());
        assert_eq!(cells[5], line["top"][1]["index"].to_string());
    }
    assert_eq!(array[7]["index"], lines[7]["index"]);
    let unsure = place.run(&format!("predict {MODEL} data/red/000.png --json --threshold 1")).ok();
    assert!(unsure.json()["index"].is_null() && unsure.json()["top"][0]["index"].is_u64());
    let parquet = fs::read(place.path("p.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));

    fs::write(place.path("data/red/zz.png"), "no picture").unwrap();
    place
        .run(&format!("predict {MODEL} data gone.png --output bad.csv"))
        .fails(1, &["zz.png", "gone.png", "skipped 2 of 62 images"]);
    assert_eq!(read(&place, "bad.csv").lines().count(), 61);
    place
        .run(&format!("predict {MODEL} data --output p.xlsx"))
        .fails(2, &[".csv, .json, .jsonl or .parquet"]);
    place.run(&format!("predict {MODEL} data --batch-size 0")).fails(2, &["--batch-size"]);
}

#[test]
fn mirror_images_and_thresholds_change_predictions() {
    let place = unsure();
    let line = format!("predict {MODEL} data/red/003.png --json");
    let plain = place.run(&line).ok().json();
    let both = place.run(&format!("{line} --tta")).ok().json();
    assert!(plain["probability"] != both["probability"]);
    let sum: f64 = both["top"].as_array().unwrap().iter().map(|c| number(&c["probability"])).sum();
    assert!((sum - 1.0).abs() <= 1e-5, "{sum}");
    let note = |flag: &str| {
        let done = place.run(&format!("evaluate {MODEL} --data data {flag}")).ok();
        done.err.contains("means of those of each image and its mirror image")
    };
    assert!(note("--tta") && !note(""));
    // The value needs an equals sign, so that what follows stays an image.
    let mut seen = vec![plain["probability"].clone(), both["probability"].clone()];
    for views in ["corners", "all"] {
        let line = format!("predict --tta={views} {MODEL} data/red/003.png --json");
        let found = place.run(&line).ok().json()["probability"].clone();
        assert!(!seen.contains(&found), "{views}");
        seen.push(found);
    }
    let same = place.run(&format!("predict --tta {MODEL} data/red/003.png --json")).ok().json();
    assert_eq!(same, both);
    place.run(&format!("{line} --tta=three")).fails(2, &["--tta", "corners", "three"]);
    place.run(&format!("{line} --tta corners")).fails(1, &["no such file", "--tta=corners"]);
    let sure = place.run(&format!("{line} --threshold 0.01")).ok().json();
    assert_eq!(sure["class"], plain["class"]);
    let unsure = place.run(&format!("{line} --threshold 1")).ok().json();
    assert_eq!(unsure["class"], "unknown");
    assert_eq!(unsure["top"], plain["top"]);
    let text = place.run(&format!("predict {MODEL} data/red/003.png --threshold 1")).ok().out;
    assert!(text.contains("unknown"));
    place.run(&format!("{line} --threshold 1.5")).fails(2, &["--threshold", "1.5"]);
}

#[test]
fn similar_leaves_the_image_itself_out_and_says_so() {
    let place = trained();
    let image = "data/green/007.png";
    let line = format!("similar {MODEL} {image} --data data --top-k 4");
    let done = place.run(&format!("{line} --json --html s.html")).ok();
    let json = done.json();
    let found = json["similar"].as_array().unwrap();
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|near| near["image"] != image), "{json}");
    assert_eq!(json["left_out"], serde_json::json!([image]));
    assert!(done.err.contains(&format!("the image itself: {image}")), "{}", done.err);
    assert!(found.windows(2).all(|w| number(&w[0]["similarity"]) >= number(&w[1]["similarity"])));
    assert_eq!(read(&place, "s.html").matches("data:image/png").count(), 5);
    assert_eq!(place.run(&line).ok().out.lines().count(), 4);
    // It is known by its bytes, wherever it lies and whatever it is called.
    fs::copy(place.path(image), place.path("photo.png")).unwrap();
    fs::copy(place.path(image), place.path("data/red/copy.png")).unwrap();
    let json = place.run(&format!("similar {MODEL} photo.png --data data --json")).ok().json();
    assert_eq!(json["left_out"].as_array().unwrap().len(), 2, "{json}");
    // An image from elsewhere is compared with all.
    place.image("other.png", 16, [30, 200, 30], 90);
    let done = place.run(&format!("similar {MODEL} other.png --data data --json")).ok();
    assert_eq!(done.json()["left_out"], serde_json::json!([]));
    assert!(!done.err.contains("left out"), "{}", done.err);
    place.run(&format!("similar {MODEL} gone.png --data data")).fails(1, &["gone.png"]);
}

#[test]
fn a_part_of_the_images_is_not_taken_for_all_of_them() {
    let place = trained();
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(place.path(to).parent().unwrap()).unwrap();
        fs::copy(place.path(from), place.path(to)).unwrap();
    };
    for class in ["red", "green", "blue"] {
        for i in 0..10 {
            copy(&format!("data/{class}/{i:03}.png"), &format!("part/{class}/{i:03}.png"));
        }
    }
    let of = |flags: &str| place.run(&format!("evaluate run {flags} --json")).ok();
    let all = of("--data part --split all").json();
    let trained_on = all["trained_on"].as_u64().unwrap();
    assert!((1..30).contains(&trained_on) && all["samples"] == 30, "{all}");
    let done = of("--data part");
    let report = done.json();
    assert_eq!((&report["split"], &report["trained_on"]), (&"unseen".into(), &0.into()));
    assert_eq!(report["samples"], 30 - trained_on);
    let said = format!("was trained on {trained_on} of these 30 images (part/");
    assert!(done.err.contains(&said) && done.err.contains("left out"), "{}", done.err);
    assert!(!done.err.contains("as they were then"), "{}", done.err);
    // One image more moves others between the parts.
    place.image("data/red/new.png", 16, [200, 30, 30], 77);
    let more = of("--data data");
    assert!(!more.err.contains("as they were then") && more.err.contains("left out"));
    assert_eq!((&more.json()["samples"], &more.json()["trained_on"]), (&18.into(), &0.into()));
    // The same images, wherever they are.
    fs::remove_file(place.path("data/red/new.png")).unwrap();
    fs::rename(place.path("data"), place.path("elsewhere")).unwrap();
    let same = of("--data elsewhere");
    assert!(same.err.contains("as they were then"), "{}", same.err);
    assert_eq!((&same.json()["samples"], &same.json()["split"]), (&12.into(), &"test".into()));
    // Where there are no others, those that were trained on are measured, with a warning.
    let rows = place.run("evaluate run --data elsewhere --split train --output rows.csv").ok();
    assert!(rows.err.contains("rows.csv"));
    // Who asks for those that were trained on is told their names and number.
    let told = "\nthe model was trained on 43 of these 43 images (elsewhere/";
    assert!(rows.err.contains(told) && !rows.err.contains("warning"), "{}", rows.err);
    for line in read(&place, "rows.csv").lines().skip(1).take(9) {
        let name = line.split(',').find(|cell| cell.ends_with(".png")).unwrap();
        copy(name, &name.replace("elsewhere", "known"));
    }
    let known = of("--data known");
    assert!(known.err.contains("warning: the model was trained on 9 of these 9"), "{}", known.err);
    assert_eq!(known.json()["samples"], 9);
}

#[test]
fn settings_that_come_to_the_same_are_no_difference() {
    let place = Place::new();
    place.data(6);
    let line = "train --data data --model resnet20 --weights none --fine-tune-at conv4 --epochs 0 \
                --batch-size 8 --fine-tune-epochs 1 --no-cache";
    // Without a size images are resized to the net's, by the filter that is named.
    place.run(&format!("{line} --interpolation bilinear --out a")).ok();
    place.run(&format!("{line} --image-size 32 --fit stretch --out b")).ok();
    let names = |runs: &str| {
        let json = place.run(&format!("compare {runs} --json")).ok().json();
        let list = json["differences"].as_array().unwrap().clone();
        list.iter().map(|d| d["setting"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("a b"), [""; 0]);
    let other = line.replace("--data data", "--data ./data");
    place.run(&format!("{other} --image-size 16 --out c")).ok();
    assert_eq!(names("a c"), ["image-size"]);
    let text = place.run("compare a c").ok().out;
    let row = text.lines().find(|line| line.starts_with("image-size")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["image-size", "32", "16"]);
}

#[test]
fn compare_shows_what_differs_and_draws_curves() {
    let place = trained();
    place.run(&TRAIN.replace("--out run", "--out other --seed 7")).ok();
    let json = place.run("compare run other --json --out both").ok().json();
    assert_eq!(json["runs"].as_array().unwrap().len(), 2);
    let seed = json["differences"].as_array().unwrap().iter().find(|d| d["setting"] == "seed");
    assert_eq!(seed.unwrap()["values"], serde_json::json!(["42", "7"]));
    assert_eq!((&json["runs"][0]["epochs"], &json["runs"][1]["epochs"]), (&10.into(), &2.into()));
    let report: Value = serde_json::from_str(&read(&place, "run/report.json")).unwrap();
    assert_eq!(json["runs"][0]["report"]["accuracy"], report["accuracy"]);
    let mut names = list(&place.path("both"));
    names.sort();
    assert_eq!(names, ["accuracy.png", "accuracy.svg", "loss.png", "loss.svg"]);
    assert!(read(&place, "both/loss.svg").contains("other"));
    let text = place.run("compare run other").ok().out;
    for row in ["epochs done", "best val_macro_f1", "reported macro F1"] {
        assert_eq!(text.lines().filter(|line| line.starts_with(row)).count(), 1, "{row}: {text}");
    }
    assert_eq!(json["runs"][0]["report"]["macro_f1"], report["averages"]["macro_average"]["f1"]);
    assert!(text.contains("best val_accuracy") && text.contains("fine-tune-at"), "{text}");
    place.run("compare run").fails(2, &[]);
    place.run("compare run data").fails(1, &["config.toml"]);
}

#[test]
fn probe_measures_each_stage() {
    let place = trained();
    let line = "probe resnet20 --weights none --image-size 16 --data data";
    let json = place.run(&format!("{line} --json")).ok().json();
    let stages = json["stages"].as_array().unwrap();
    let layers: Vec<&str> = stages.iter().map(|s| s["layer"].as_str().unwrap()).collect();
    assert_eq!(layers, ["conv2_block3_out", "conv3_block3_out", "conv4_block3_out"]);
    assert_eq!(json["samples"], 12);
    assert!(number(&json["best"]) > 0.9, "{json}");
    let suggested = json["suggested"].as_str().unwrap();
    place.run(&format!("summary resnet20 --fine-tune-at {suggested}")).ok();
    // The net inside the program needs no --weights.
    place.run("probe resnet20 --image-size 16 --data data").ok();
    let text = place.run(&format!("probe {MODEL} --data data")).ok().out;
    assert!(text.contains("--fine-tune-at"), "{text}");
    place.run(&format!("{line} --validation-split 0")).fails(2, &["--validation-split"]);
    place.run(&format!("{line} --l2=-1")).fails(2, &["--l2"]);
    place.run(&format!("probe {MODEL} --image-size 32 --data data")).fails(2, &["--image-size"]);
    place.run(&format!("probe {MODEL} --weights none none --data data")).fails(2, &["--weights"]);
    // Weights are compared on every image, and the better ones come first.
    let line = "probe resnet20 --image-size 16 --data data --weights none cifar10";
    let json = place.run(&format!("{line} --json")).ok().json();
    let list = json.as_array().unwrap();
    let names: Vec<&str> = list.iter().map(|w| w["weights"].as_str().unwrap()).collect();
    assert!(names.contains(&"none") && names.contains(&"cifar10"), "{names:?}");
    let accuracy: Vec<f64> = list.iter().map(|w| number(&w["accuracy"])).collect();
    assert!(accuracy[0] >= accuracy[1] && accuracy[0] > 0.8, "{json}");
    assert!(list.iter().all(|w| w["samples"] == 60 && number(&w["loss"]) > 0.0), "{json}");
    let text = place.run(line).ok().out;
    assert!(text.contains("by cross-validation: 60 images"), "{text}");
    place.run(&format!("{line} gone.h5")).fails(1, &["gone.h5"]);
}
