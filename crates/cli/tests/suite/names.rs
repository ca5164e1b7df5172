//! What images are called: by paths that open, wherever they are shown or written, and by archive and member.

use std::fs;
use std::path::{Path, PathBuf};

use headstart::text::is_active;
use serde_json::Value;

use crate::support::{Done, Place, TRAIN, list, trained};

/// All texts of a JSON value.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|v| texts(v, found)),
        Value::Object(map) => map.values().for_each(|v| texts(v, found)),
        _ => {}
    }
}

/// The words of outputs that end as images do.
fn images(done: &Done) -> Vec<String> {
    let text = format!("{}\n{}", done.out, done.err);
    let words = text.split(|c: char| c.is_whitespace() || "\",()=[]".contains(c));
    let words = words.map(|word| word.trim_end_matches([':', ';']));
    // A command that is proposed writes this one.
    let words = words.filter(|word| !word.ends_with("-seen.png"));
    words.filter(|w| w.ends_with(".png") && w.len() > 4).map(String::from).collect()
}

#[test]
fn every_command_names_files_that_open() {
    let place = Place::new();
    place.data(8);
    // Found by `data check` in each of its ways.
    fs::copy(place.path("data/red/000.png"), place.path("data/blue/twice.png")).unwrap();
    place.image("data/red/blank.png", 16, [7, 7, 7], 0);
    fs::write(place.path("data/red/bad.png"), "no image").unwrap();
    place.run(TRAIN).ok();
    for (line, least) in [
        ("evaluate run --data data --split all --output a.csv", 1),
        ("data check data --html c.html", 2),
        ("data check data --json", 3),
        ("data check data --labels --model resnet20 --image-size 16 --json", 3),
        ("similar run data/red/000.png --data data --html s.html", 5),
        ("features run --data data --out f.csv", 1),
        ("train --data data --model resnet20 --image-size 16 --epochs 1 --batch-size 8 --out b", 1),
        ("predict run data/red/001.png", 1),
    ] {
        let done = place.run(line).ok();
        let mut named = images(&done);
        named.sort();
        named.dedup();
        assert!(named.len() >= least, "{line}: {named:?} in {} {}", done.out, done.err);
        for name in named {
            assert!(place.path(&name).is_file(), "{line}: {name}");
        }
    }
    // Tables: paths of every row, and the split in a column of its own.
    for (file, split) in [("a.csv", 4), ("f.csv", 1)] {
        let text = fs::read_to_string(place.path(file)).unwrap();
        let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = rows.next().unwrap();
        assert_eq!((head[0], head[split]), ("image", "split"), "{file}");
        let mut splits = Vec::new();
        for row in rows {
            assert!(place.path(row[0]).is_file(), "{file}: {row:?}");
            splits.push(row[split].to_string());
        }
        splits.sort();
        splits.dedup();
        assert!(!splits.is_empty() && splits.iter().all(|s| !s.is_empty()), "{file}: {splits:?}");
    }
    // Pages.
    place.run("evaluate run --data data --split all --gallery g.html").ok();
    for page in ["run/report.html", "g.html", "s.html", "c.html"] {
        let text = fs::read_to_string(place.path(page)).unwrap().replace("<wbr>", "");
        let mut parts = text.split(".png").collect::<Vec<_>>();
        parts.pop();
        let names: Vec<String> = parts
            .iter()
            .filter_map(|part| part.rsplit(['>', '"', '\'', ' ']).next())
            .map(|start| format!("{start}.png"))
            .filter(|name| name.contains('/'))
            .collect();
        assert!(!names.is_empty(), "{page}");
        for name in names {
            assert!(place.path(&name).is_file(), "{page}: {name}");
        }
    }
}

#[test]
fn names_begin_as_the_data_was_given_and_are_known_when_it_moves() {
    let place = Place::new();
    for part in ["train", "test"] {
        for class in ["red", "blue"] {
            for i in 0..6 {
                let colour = [if class == "red" { 200 } else { 20 }, 20, 90];
                let name = format!("set/in/{part}/{class}/{i}.png");
                place.image(&name, 16, colour, i + 20 * part.len() as u32);
            }
        }
    }
    let first = |data: &str| -> String {
        let done = place.run(&format!("data check {data} --json")).ok().json();
        let mut found = Vec::new();
        texts(&done["tiny"], &mut found);
        texts(&done["blank"], &mut found);
        texts(&done["near_duplicates"], &mut found);
        found.into_iter().find(|text| text.ends_with(".png")).unwrap()
    };
    let whole = place.path("set/in").display().to_string();
    for (data, before) in [
        ("set/in", "set/in/"),
        ("set/in/", "set/in/"),
        ("./set/in", "./set/in/"),
        ("set", "set/in/"),
        (whole.as_str(), &format!("{whole}/")),
    ] {
        let name = first(data);
        assert!(name.starts_with(before) && place.path(&name).is_file(), "{data}: {name}");
    }
    // Members of archives, whatever their folders.
    let tar = |flags: &str, file: &str| {
        let status = std::process::Command::new("tar")
            .args([flags, file, "set"])
            .current_dir(place.path(""))
            .status();
        assert!(status.unwrap().success());
    };
    tar("-cf", "a.tar");
    tar("-czf", "a.tar.gz");
    for file in ["a.tar", "a.tar.gz"] {
        let name = first(file);
        let member = name.strip_prefix(&format!("{file}:")).unwrap_or_else(|| panic!("{name}"));
        assert!(member.starts_with("set/in/") && place.path(member).is_file(), "{name}");
    }
    // A table beside its images.
    let rows: String = list(&place.path("set/in/train/red"))
        .iter()
        .map(|name| format!("in/train/red/{name},red\nin\\train\\blue\\{name},blue\n"))
        .collect();
    fs::write(place.path("set/t.csv"), format!("path,label\n{rows}")).unwrap();
    let name = first("set/t.csv");
    assert!(place.path(&name).is_file() && name.starts_with("set/in/"), "{name}");
    // Names are no part of what a run is known by.
    let line = TRAIN.replace("--data data", "--data set/in").replace("--test-split 0.2", "");
    place.run(&line).ok();
    fs::rename(place.path("set"), place.path("moved")).unwrap();
    let moved = "moved/in";
    place.run(&format!("train --resume run --data {moved}")).ok();
    let done = place.run(&format!("evaluate run --data {moved} --output m.jsonl")).ok();
    assert!(done.err.contains("trained on these images"), "{}", done.err);
    let text = fs::read_to_string(place.path("m.jsonl")).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let image = PathBuf::from(row["image"].as_str().unwrap());
        assert!(place.path("").join(&image).is_file() && image.starts_with(moved), "{row}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_whose_letters_are_apart_is_shown_as_it_is_on_disk() {
    let place = Place::new();
    for class in ["cafe\u{301}", "rose"] {
        for i in 0..4 {
            place.image(&format!("data/{class}/{i}.png"), 16, [9, 9, 90], i);
        }
    }
    place.run("data check data --json").ok();
    let line =
        "features resnet20 --weights none --image-size 16 --data data --split all --out f.csv";
    place.run(line).ok();
    let text = fs::read_to_string(place.path("f.csv")).unwrap();
    for row in text.lines().skip(1) {
        assert!(place.path(row.split(',').next().unwrap()).is_file(), "{row}");
    }
}

#[test]
fn the_summary_of_a_run_says_what_was_trained() {
    let place = Place::new();
    place.data(8);
    for (flags, first) in [
        ("--fine-tune-at 12 --fine-tune-epochs 0", "avg_pool"),
        ("--fine-tune-at conv4_block1_1_conv --fine-tune-epochs 1", "conv4_block1_1_conv"),
        ("", ""),
    ] {
        place.run(&format!("{TRAIN} --exist-ok {flags}")).ok();
        let rows = place.run("summary run --json").ok().json();
        let rows = rows.as_array().unwrap();
        let trained: Vec<&str> = rows
            .iter()
            .filter(|row| row["trainable"] == true)
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        match first {
            "" => assert!(trained[0] == "input_layer" && trained.contains(&"predictions")),
            first => {
                assert!(
                    trained.first() == Some(&first) && trained.len() < rows.len(),
                    "{trained:?}"
                );
            }
        }
    }
}

/// What would colour a terminal, delete from it and turn text around.
const ACTIVE: &str = "\u{1b}[31mred\u{9b}2J\u{202e}";

/// The header of a safetensors file with `from` replaced in it.
fn with_header(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, values) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let text = String::from_utf8(header.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let text = text.replace(from, to);
    let length = (text.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], text.as_bytes(), values].concat()).unwrap();
}

#[test]
fn runs_and_models_of_others_do_nothing_to_a_terminal() {
    let place = trained(8, "");
    let evil = format!("evil{ACTIVE}");
    fs::create_dir_all(place.path(&evil).join("weights")).unwrap();
    for name in ["config.toml", "results.csv", "report.json", "events.jsonl"] {
        let text = fs::read_to_string(place.path("run").join(name)).unwrap();
        let json = r#""\u001b[31mred\u009b2J\u202e""#;
        let text =
            text.replace(r#""red""#, json).replace(r#"data = "data""#, &format!("data = {json}"));
        fs::write(place.path(&evil).join(name), text).unwrap();
    }
    let model = place.path(&evil).join("weights/best.safetensors");
    fs::copy(place.path("run/weights/best.safetensors"), &model).unwrap();
    with_header(&model, r#"\"red\""#, r#"\"\\u001b[31mred\\u009b2J\\u202e\""#);
    place.data(4);
    fs::rename(place.path("data/red"), place.path("data").join(ACTIVE)).unwrap();
    let still = |what: &str, text: &str| {
        let active = |c: char| is_active(c) && !matches!(c, '\n' | '\t');
        assert!(!text.contains(active), "{what}: {text:?}");
    };
    let compared = place.run(&format!("compare {evil} run")).ok();
    assert!(compared.out.contains("evil\\u{1b}[31mred\\u{9b}2J\\u{202e}"), "{}", compared.out);
    fs::create_dir(place.path("of")).unwrap();
    let mut worked = 0;
    for line in [
        "compare EVIL run",
        "compare EVIL run --json --out EVIL/compared",
        "plot EVIL",
        "report EVIL --no-cache",
        "weights inspect EVIL/weights/best.safetensors",
        "weights inspect EVIL/weights/best.safetensors --json",
        "summary EVIL",
        "evaluate EVIL --data data --split all --no-cache --out of --output of/x.csv",
        "evaluate EVIL --data data --split all --no-cache --output of/x.json --json",
        "evaluate EVIL --data data --split all --no-cache --output of/x.jsonl",
        "evaluate EVIL --data data --split all --no-cache --gallery of/x.html",
        "predict EVIL data",
        "predict EVIL data --json",
        "predict EVIL/no data",
        "probe EVIL --data data --no-cache",
        "data check data",
        "data check data --json --html of/y.html",
        "similar EVIL data/blue/000.png --data data --no-cache",
    ] {
        let done = place.run(&line.replace("EVIL", &evil));
        assert!(done.code.is_some() && !done.err.contains("panicked"), "{line}: {}", done.err);
        worked += usize::from(done.code == Some(0));
        still(line, &done.out);
        still(line, &done.err);
    }
    assert!(worked >= 10, "{worked}");
    let mut written = 0;
    for folder in [place.path("of"), place.path(&evil), place.path(&evil).join("compared")] {
        for name in list(&folder) {
            let made =
                name.ends_with(".svg") || name.starts_with("report.") || folder.ends_with("of");
            if let (true, Ok(text)) = (made, fs::read_to_string(folder.join(&name))) {
                still(&name, &text);
                written += 1;
            }
        }
    }
    assert!(written >= 10, "{written}");
    // They say the same.
    let report = fs::read_to_string(place.path("of/report.txt")).unwrap();
    assert!(report.contains("\\u{1b}[31mred\\u{9b}2J\\u{202e}"), "{report}");
    let line = format!("predict {evil} data/blue/000.png --json --top-k 3");
    let first = place.run(&line).ok().out;
    assert!(first.contains(r"\\u{1b}[31mred"), "{first}");
}
