//! Photos, tables, runs and checkpoints as people have them, on the real binary.

use std::fs;
use std::path::Path;

use crate::support::{self, Place, TRAIN};

/// `count` images in each class folder below `folder`, other ones in each folder.
fn classes(place: &Place, folder: &str, names: &[&str], count: u32) {
    let own: u32 = folder.bytes().map(u32::from).sum::<u32>() % 300;
    for (c, name) in names.iter().enumerate() {
        let colour = [[200, 30, 30], [30, 200, 30], [30, 30, 200]][c % 3];
        for i in 0..count {
            place.image(&format!("{folder}/{name}/{i}.png"), 16, colour, own + i + 40 * c as u32);
        }
    }
}

#[test]
fn folders_of_parts_are_not_classes() {
    for (train, other, part) in [
        ("seg_train", "seg_test", "test"),
        ("train_images", "val_images", "validation"),
        ("Training", "holdout", "test"),
        ("TrainSet", "dev", "validation"),
        ("train2017", "val2017", "validation"),
    ] {
        let place = Place::new();
        classes(&place, &format!("d/{train}"), &["daisy", "rose"], 6);
        classes(&place, &format!("d/{other}"), &["daisy", "rose"], 2);
        let found = place.run("data check d --json").ok().json();
        assert_eq!(found["classes"], serde_json::json!(["daisy", "rose"]), "{train}");
        let parts: Vec<&str> = found["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(parts, ["train", part], "{train} {other}");
    }
    for (a, b) in [("siteA", "siteB"), ("fold1", "fold2"), ("images", "masks")] {
        let place = Place::new();
        classes(&place, &format!("d/{a}"), &["daisy", "rose"], 3);
        classes(&place, &format!("d/{b}"), &["daisy", "rose"], 3);
        place.run("data check d").fails(1, &[a, b, "daisy, rose", "train, validation and test"]);
    }
    // Kaggle's test images have no labels.
    let place = Place::new();
    classes(&place, "d/train", &["daisy", "rose"], 6);
    for i in 0..3 {
        place.image(&format!("d/test/{i}.png"), 16, [1, 2, 3], i);
    }
    let text = place.run("data check d").ok().out;
    assert!(text.contains("3 images without labels"), "{text}");
    // Names that are not clear enough to be taken.
    let place = Place::new();
    classes(&place, "d/train", &["daisy", "rose"], 6);
    classes(&place, "d/valid2", &["daisy"], 3);
    for i in 0..3 {
        place.image(&format!("d/test1/{i}.png"), 16, [1, 2, 3], i);
        place.image(&format!("d/seg_pred/seg_pred/{i}.png"), 16, [1, 2, 3], 9 + i);
    }
    let text = place.run("data check d").ok().out;
    for part in [
        "as test1 has no class folders; `headstart predict`",
        "as seg_pred has no class folders; `headstart predict`",
        "in valid2, which is beside train; if it is a part, rename it validation",
    ] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn evaluation_goes_by_the_models_classes() {
    let place = Place::new();
    classes(&place, "data", &["daisy", "rose", "tulip"], 8);
    place.run(TRAIN).ok();
    classes(&place, "one", &["rose"], 2);
    classes(&place, "empty", &["daisy", "tulip"], 2);
    fs::create_dir_all(place.path("empty/rose")).unwrap();
    classes(&place, "vt/val", &["daisy", "rose", "tulip"], 2);
    classes(&place, "vt/test", &["daisy", "rose", "tulip"], 2);
    classes(&place, "more", &["daisy", "orchid"], 3);
    // The test images have a class that the training images beside them lack, and the model knows.
    classes(&place, "tx/train", &["daisy", "rose"], 2);
    classes(&place, "tx/test", &["daisy", "tulip"], 2);
    classes(&place, "others", &["lily", "orchid"], 3);
    let rows: String = ["daisy", "rose", "tulip"]
        .iter()
        .flat_map(|class| (0..3).map(move |i| format!("data/{class}/{i}.png,{class},test\n")))
        .collect();
    fs::write(place.path("test.csv"), format!("path,label,split\n{rows}")).unwrap();
    // The last are the run's own images, which are measured only where they are asked for.
    let sources =
        [("one", 2), ("empty", 4), ("vt", 6), ("tx", 4), ("more", 3), ("test.csv --split test", 9)];
    for (data, images) in sources {
        let done = place.run(&format!("evaluate run --data {data} --json")).ok();
        assert_eq!(done.json()["samples"], images, "{data}");
        if data == "more" {
            assert!(done.err.contains("orchid, which the model does not know"), "{}", done.err);
        }
    }
    place
        .run("evaluate run --data others")
        .fails(1, &["lily", "does not know", "classes are daisy, rose, tulip; rename folders"]);
}

#[test]
fn tables_are_read_as_spreadsheets_write_them() {
    let place = Place::new();
    classes(&place, "img", &["daisy", "rose", "caf\u{e9}"], 4);
    let names = ["daisy", "rose", "caf\u{e9}"];
    let rows = || names.iter().flat_map(|c| (0..4).map(move |i| (format!("img/{c}/{i}.png"), c)));
    let table = |separator: &str, header: &str| {
        let lines = rows().map(|(path, label)| format!("{path}{separator}{label}\n"));
        format!("{}\n{}", header.replace(',', separator), lines.collect::<String>())
    };
    let plain = table(",", "path,label");
    let utf_16: Vec<u8> =
        format!("\u{feff}{plain}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    // The paths go with the labels, so that only ASCII ones are there in Latin-1.
    let latin: Vec<u8> = table(",", "path,label")
        .replace("img/caf\u{e9}", "img/rose")
        .chars()
        .map(|c| c as u8)
        .collect();
    for (name, bytes) in [
        ("0.csv", plain.clone().into_bytes()),
        ("1.csv", table(";", "path,label").into_bytes()),
        ("2.csv", table("\t", "filename,class").into_bytes()),
        ("3.tsv", table("\t", "path,label").into_bytes()),
        ("4.txt", table(" ", "path,label").into_bytes()),
        ("5.csv", plain.replace('/', "\\").into_bytes()),
        ("6.csv", format!("\u{feff}{plain}").into_bytes()),
        ("7.csv", utf_16),
    ] {
        fs::write(place.path(name), bytes).unwrap();
        let found = place.run(&format!("data check {name} --json")).ok().json();
        assert_eq!(found["images"], 12, "{name}");
        assert_eq!(found["classes"], serde_json::json!(["caf\u{e9}", "daisy", "rose"]), "{name}");
    }
    fs::write(place.path("8.csv"), latin).unwrap();
    let text = place.run("data check 8.csv").fails(1, &["one label for each image"]);
    assert!(text.err.contains("caf\u{e9}"), "{}", text.err);
    // A quotation mark that is left open takes the rest of the table into one cell.
    fs::write(place.path("open.csv"), plain.replacen(",daisy", ",\"daisy", 1)).unwrap();
    place.run("data check open.csv").fails(1, &["open.csv", "left open", "row 1"]);
    // Paths that begin elsewhere.
    fs::write(place.path("9.csv"), plain.replace("img/", "photos/")).unwrap();
    place
        .run("data check 9.csv")
        .fails(1, &["relative to", "photos/daisy/0.png", "img/daisy/0.png"]);
    // Columns of splits by other names.
    let with = |name: &str, cell: &dyn Fn(usize) -> String| {
        let lines = rows()
            .enumerate()
            .map(|(i, (path, label))| format!("{path},{label},{}\n", cell(i % 4)));
        format!("path,label,{name}\n{}", lines.collect::<String>())
    };
    for (name, cells, part) in [
        ("is_valid", ["False", "False", "False", "True"], "validation"),
        ("set", ["train", "train", "train", "test"], "test"),
        ("dataset", ["training", "training", "training", "dev"], "validation"),
    ] {
        fs::write(place.path("s.csv"), with(name, &|i| cells[i].to_string())).unwrap();
        let found = place.run("data check s.csv --json").ok().json();
        assert_eq!(
            (&found["parts"][1]["name"], &found["parts"][1]["images"]),
            (&part.into(), &3.into())
        );
    }
    fs::write(place.path("f.csv"), with("fold", &|i| i.to_string())).unwrap();
    let text = place.run("data check f.csv").ok().out;
    assert!(text.contains("the column fold may say"), "{text}");
}

#[test]
fn names_are_one_class_however_their_letters_are_composed() {
    let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
    let place = Place::new();
    classes(&place, "d/train", &[composed, "rose"], 6);
    classes(&place, "d/test", &[apart, "rose"], 2);
    let found = place.run("data check d --json").ok().json();
    assert_eq!(found["classes"], serde_json::json!([composed, "rose"]));
    classes(&place, "data", &[composed, "rose"], 6);
    classes(&place, "mac", &[apart, "rose"], 3);
    place.run(TRAIN).ok();
    assert_eq!(place.run("evaluate run --data mac --json").ok().json()["samples"], 6);
    place.run(&format!("explain-image run data/rose/0.png --class {apart} --out e.png")).ok();
    place.run(&format!("{TRAIN} --exist-ok --class-weight {apart}=2")).ok();
}

#[test]
fn a_default_batch_is_no_error_for_few_photos() {
    let place = Place::new();
    classes(&place, "data", &["daisy", "rose"], 3);
    let line = "--data data --model resnet20 --image-size 16 --epochs 1";
    place.run(&format!("train {line} --validation-split 0.2 --out a")).ok();
    place.run(&format!("train {line} --validation-split 0.2 --head-solver lbfgs --out b")).ok();
    place.run("lr-find --data data --model resnet20 --image-size 16 --steps 10 --out lr.png").ok();
}

#[test]
fn files_that_are_not_read_are_named_and_netpbm_is_read() {
    let place = Place::new();
    classes(&place, "d", &["daisy", "rose"], 3);
    let files: [(&str, &[u8]); 5] = [
        ("scan.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("scan.jxl", b"\xff\x0a...."),
        ("scan.dng", b"II*\0...."),
        ("scan.svg", b"<svg xmlns='x'/>"),
        ("scan.dcm", b"\0\0\0\0\0\0\0\0"),
    ];
    for (name, bytes) in files {
        fs::write(place.path(&format!("d/rose/{name}")), bytes).unwrap();
    }
    let text = place.run("data check d").ok().out;
    for (name, _) in files {
        assert!(text.contains(name), "no {name} in {text}");
    }
    for kind in ["JPEG 2000", "camera raw", "SVG", "DICOM", "dcm2img", "rsvg-convert"] {
        assert!(text.contains(kind), "no {kind} in {text}");
    }
    // Files of one kind are counted together, also where only their names say what they are.
    for name in ["1.heic", "2.HEIC", "3.heif"] {
        fs::write(place.path(&format!("d/rose/{name}")), b"\0\0\0\x18ftypheic").unwrap();
    }
    fs::write(place.path("d/rose/4.heic"), b"what is this").unwrap();
    let text = place.run("data check d").ok().out;
    assert!(text.contains("4 of them: a file of HEIC"), "{text}");
    for (class, value) in [("a", 10u8), ("b", 200)] {
        fs::create_dir_all(place.path(&format!("g/{class}"))).unwrap();
        for i in 0..3 {
            let pixels = [value, i, value, 7];
            let file = [b"P5\n# a comment\n2 2\n255\n".as_slice(), &pixels].concat();
            fs::write(place.path(&format!("g/{class}/{i}.pgm")), file).unwrap();
        }
    }
    assert_eq!(place.run("data check g --json").ok().json()["images"], 6);
}

#[test]
fn a_run_is_resumed_from_anywhere_and_with_its_photos_elsewhere() {
    let place = Place::new();
    place.data(8);
    let run = place.path("run");
    let run = run.display();
    place.run(TRAIN).ok();
    fs::create_dir(place.path("deep")).unwrap();
    let mut elsewhere = place.command(&format!("train --resume {run}"));
    elsewhere.current_dir(place.path("deep"));
    let done: support::Done = elsewhere.output().unwrap().into();
    done.ok();
    fs::rename(place.path("data"), place.path("moved")).unwrap();
    place.run("train --resume run").fails(1, &["data"]);
    place.run("train --resume run --data moved").ok();
    // Other images are not those that the run was begun with.
    place.image("moved/red/000.png", 16, [1, 2, 3], 77);
    place
        .run("train --resume run --data moved")
        .fails(1, &["other test images", "added, removed or changed"]);
    let config = place.path("run/config.toml");
    assert!(fs::read_to_string(&config).unwrap().contains("data = \"moved\""));
    place.data(8);
    place.run("train --resume run --data data").ok();
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("learning-rate"), "{text}");
    let edited = text.replacen("\nlearning-rate = ", "\nlearning-rate = 1", 1);
    assert!(edited != text);
    fs::write(&config, edited).unwrap();
    place.run("train --resume run").fails(1, &["learning-rate", "--allow-changes"]);
    place.run("train --resume run --allow-changes").ok();
    // What cannot change is named, and so is a flag.
    let now = fs::read_to_string(&config).unwrap();
    for (from, to, why) in [
        ("batch-size = 8", "batch-size = 4", "counted in batches"),
        ("validation-split = 0.1", "validation-split = 0.3", "images of each split"),
    ] {
        let edited = now.replacen(from, to, 1);
        assert!(edited != now, "{now}");
        fs::write(&config, edited).unwrap();
        for flags in ["", "--allow-changes"] {
            place
                .run(&format!("train --resume run {flags}"))
                .fails(1, &[from, to, why, "start another run"]);
        }
    }
    fs::write(&config, now).unwrap();
    place
        .run("train --resume run --allow-changes --batch-size 4")
        .fails(2, &["batch-size = 8", "batch-size = 4, by a flag", "counted in batches"]);
    place
        .run("train --resume run --epochs 9")
        .fails(2, &["epochs = 9, by a flag", "other weights with --allow-changes"]);
    fs::write(&config, text).unwrap();
    place.run("train --resume run --allow-changes --epochs 3 --data ./data").ok();
    let now = fs::read_to_string(&config).unwrap();
    assert!(now.contains("epochs = 3\n") && now.contains("data = \"./data\""), "{now}");
    place.run("train --resume run").ok();
}

#[cfg(target_os = "linux")]
#[test]
fn progress_that_cannot_be_written_ends_nothing() {
    let place = Place::new();
    place.data(8);
    let full = fs::OpenOptions::new().write(true).open(Path::new("/dev/full")).unwrap();
    let status = place.command(TRAIN).stderr(full).stdout(std::process::Stdio::null()).status();
    assert!(status.unwrap().success() && place.path("run/report.html").exists());
}

#[test]
fn names_from_strangers_do_not_control_a_terminal() {
    let place = Place::new();
    classes(&place, "data", &["\u{1b}]0;PWN\u{7}a", "b"], 8);
    fs::write(place.path("data/b/\u{1b}[31mbad.png"), "no image").unwrap();
    for line in [
        "data check data".to_string(),
        TRAIN.to_string(),
        "evaluate run --data data".into(),
        "predict run data".into(),
        "summary run".into(),
    ] {
        let done = place.run(&line);
        assert!(!done.out.contains('\u{1b}') && !done.err.contains('\u{1b}'), "{line}");
    }
    // Model files and checkpoints from elsewhere: class names of the card, names of tensors, names in a pickle.
    let bytes = fs::read(place.path("run/weights/best.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    for (file, from, to) in [
        ("card.safetensors", "\\\"b\\\"]", "\\\"\\\\u001b]0;PWN\\\\u0007\\\"]"),
        ("tensor.safetensors", "\"conv1_conv/kernel\"", "\"\\u001b[31mconv1_conv/kernel\""),
    ] {
        let changed = header.replacen(from, to, 1);
        assert!(changed != header, "no {from} in {header}");
        let start = (changed.len() as u64).to_le_bytes();
        let all = [&start[..], changed.as_bytes(), &bytes[8 + length..]].concat();
        fs::write(place.path(file), all).unwrap();
    }
    let pickle = b"\x80\x02}X\x06\0\0\0weightc\x1b]0;PWN\x07\nsystem\n)Rs.";
    fs::write(place.path("x.pth"), pickle).unwrap();
    for line in [
        "predict card.safetensors data/b/0.png",
        "weights inspect card.safetensors",
        "summary card.safetensors",
        "weights inspect tensor.safetensors",
        "predict tensor.safetensors data/b/0.png",
        "weights inspect x.pth",
    ] {
        let done = place.run(line);
        assert!(done.out.len() + done.err.len() > 10, "{line}");
        assert!(!done.out.contains('\u{1b}') && !done.err.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn what_is_read_is_not_written() {
    let place = Place::new();
    place.data(8);
    place.run(TRAIN).ok();
    let rows: String = ["red", "green", "blue"]
        .iter()
        .flat_map(|c| (0..3).map(move |i| format!("data/{c}/00{i}.png,{c},test\n")))
        .collect();
    fs::write(place.path("t.csv"), format!("path,label,split\n{rows}")).unwrap();
    fs::copy(place.path("data/red/000.png"), place.path("in.png")).unwrap();
    fs::copy(place.path("run/weights/best.safetensors"), place.path("m.safetensors")).unwrap();
    for (line, file) in [
        ("explain-image run in.png --out in.png", "in.png"),
        ("evaluate run --data t.csv --output t.csv", "t.csv"),
        ("features run --data t.csv --out ./t.csv", "t.csv"),
        ("export m.safetensors --format pytorch --out m.safetensors", "m.safetensors"),
    ] {
        let before = fs::read(place.path(file)).unwrap();
        place.run(line).fails(2, &[file, "one that is read"]);
        assert!(fs::read(place.path(file)).unwrap() == before, "{line}");
    }
}

#[test]
fn another_seed_keeps_the_splits_of_training() {
    let place = Place::new();
    place.data(20);
    place.run(&format!("{TRAIN} --limit 20")).ok();
    let samples = |flags: &str| {
        place.run(&format!("evaluate run --data data {flags} --json")).ok().json()["samples"]
            .clone()
    };
    for (flags, images) in [("", 12), ("--seed 7", 12), ("--split all", 60), ("--split train", 43)]
    {
        assert_eq!(samples(flags), images, "{flags}");
    }
}

#[test]
fn a_page_keeps_its_images_though_some_of_them_were_trained_on() {
    let place = Place::new();
    classes(&place, "leak/train", &["daisy", "rose"], 8);
    classes(&place, "leak/test", &["daisy", "rose"], 4);
    // One or two of these are for validation.
    for i in 0..4 {
        let name = format!("daisy/{i}.png");
        let (from, to) = (format!("leak/train/{name}"), format!("leak/test/{name}"));
        fs::copy(place.path(&from), place.path(&to)).unwrap();
    }
    let line = TRAIN.replace("--data data", "--data leak").replace("--test-split 0.2", "");
    place.run(&line).ok();
    let page = || fs::read_to_string(place.path("run/report.html")).unwrap();
    let before = page();
    assert!(before.contains(" too, so it may be too good"));
    let again = place.run("report run").ok();
    assert!(!again.err.contains("without images"), "{}", again.err);
    assert_eq!(page().matches("<img").count(), before.matches("<img").count());
    assert!(page().contains(" too, so it may be too good"));
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    let place = Place::new();
    classes(&place, "data", &["daisy", "rose"], 4);
    let made = |name: &str| {
        let status = std::process::Command::new("mkfifo").arg(place.path(name)).status();
        assert!(status.unwrap().success());
    };
    ["pipe.png", "pipe.toml", "pipe.safetensors"].into_iter().for_each(made);
    let other = ["a named pipe"];
    place.run("train --data data --config pipe.toml --out run").fails(1, &other);
    place.run("weights inspect pipe.safetensors").fails(1, &other);
    place.run("predict resnet20 --weights cifar10 pipe.png").fails(1, &other);
}
