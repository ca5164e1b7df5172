//! Everything a user can get wrong: exit code, message, and nothing half-written.

use std::fs;

use crate::support::{self, Done, Place, TRAIN, trained};

fn with_weights(place: &Place, name: &str) -> Done {
    place.run(
        &TRAIN
            .replace("--weights none", &format!("--weights {name}"))
            .replace("--out run", "--out new"),
    )
}

#[test]
fn weights_that_cannot_be_used() {
    let place = trained(5, "");
    with_weights(&place, "gone.h5").fails(1, &["cannot read gone.h5"]);
    let good = fs::read(place.path("run/weights/last.safetensors")).unwrap();
    for (name, bytes, expected) in [
        ("empty", &b""[..], "an empty file"),
        ("half.safetensors", &good[..good.len() / 2], "a whole safetensors file"),
        ("header.safetensors", &good[..100], "a whole safetensors file"),
        ("text.h5", &b"<html>not found</html>"[..], "a web page"),
        ("cut.h5", &b"\x89HDF\r\n\x1a\n\0\0\0\0"[..], "HDF5"),
    ] {
        fs::write(place.path(name), bytes).unwrap();
        with_weights(&place, name).fails(1, &[name, expected, "hint:"]);
        place.run(&format!("predict {name} data/red/000.png")).fails(1, &[name]);
    }
    fs::create_dir(place.path("folder.h5")).unwrap();
    with_weights(&place, "folder.h5").fails(1, &["a folder"]);
    let line = TRAIN.replace("--weights none", "--weights run/weights/last.safetensors");
    let line = line.replace("resnet20", "resnet32").replace("--out run", "--out new");
    place.run(&line).fails(1, &["weights of resnet32", "weights of resnet20", "--model resnet20"]);
    assert!(!place.path("new").exists());
    // Its own architecture loads; only the head starts again.
    with_weights(&place, "run/weights/last.safetensors").ok();
}

#[test]
fn tensors_of_another_net_are_refused_with_shapes_and_the_nearest_name() {
    let place = trained(5, "");
    // The same file without its card is nothing but tensors.
    let bytes = fs::read(place.path("run/weights/last.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.as_object_mut().unwrap().remove("__metadata__");
    let text = serde_json::to_vec(&header).unwrap();
    let plain = [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[8 + length..]].concat();
    fs::write(place.path("plain.safetensors"), &plain).unwrap();
    with_weights(&place, "plain.safetensors").ok();
    let inspected = place.run("weights inspect plain.safetensors").ok().out;
    assert!(inspected.contains("fits: resnet20") && !inspected.contains("refused"), "{inspected}");
    // An inspection says of damaged weights what training says.
    let at = header["conv1_bn/moving_variance"]["data_offsets"][0].as_u64().unwrap() as usize;
    let mut damaged = plain;
    damaged[8 + text.len() + at..][..4].copy_from_slice(&(-2f32).to_le_bytes());
    fs::write(place.path("damaged.safetensors"), damaged).unwrap();
    let said =
        "expected variances of 0 or more in conv1_bn/moving_variance, found 1 of 16 below it";
    let inspected = place.run("weights inspect damaged.safetensors").ok().out;
    assert!(inspected.contains(&format!("refused: damaged.safetensors: {said}")), "{inspected}");
    let line = TRAIN
        .replace("--weights none", "--weights plain.safetensors")
        .replace("--out run", "--out wrong");
    place.run(&line.replace("plain", "damaged")).fails(1, &[said]);
    place.run(&line.replace("resnet20", "resnet32")).fails(
        1,
        &[
            "conv2_block4_1_conv/kernel of shape [3, 3, 16, 16]",
            "no such tensor; the nearest is conv2_block",
        ],
    );
    place
        .run(&line.replace("resnet20", "resnet50").replace("size 16", "size 32"))
        .fails(1, &["conv1_conv/kernel of shape [7, 7, 3, 64]", "found shape [3, 3, 3, 16]"]);
    place.run("evaluate plain.safetensors --data data").fails(1, &["weights alone"]);
    assert!(!place.path("wrong").exists());
}

#[test]
fn corrupt_images_are_named_skipped_and_counted() {
    let place = Place::new();
    place.data(6);
    fs::write(place.path("data/red/bad.png"), "not an image").unwrap();
    fs::write(place.path("data/green/zero.jpg"), "").unwrap();
    let good = fs::read(place.path("data/red/000.png")).unwrap();
    fs::write(place.path("data/red/cut.png"), &good[..good.len() / 2]).unwrap();
    let done = place.run(TRAIN).ok();
    for part in ["skipped: 3 files", "red/bad.png", "green/zero.jpg", "red/cut.png"] {
        assert!(done.err.contains(part), "no {part:?} in: {}", done.err);
    }
    let model = "run/weights/best.safetensors";
    let done = place.run(&format!("predict {model} data/red --json")).fails(1, &["red/bad.png"]);
    assert_eq!(done.out.lines().count(), 6);
    assert!(
        done.err.contains("skipped 2 of 8 images") && done.err.contains("cut.png"),
        "{}",
        done.err
    );
    place
        .run(&format!("predict {model} data/red/bad.png data/green/zero.jpg gone.png"))
        .fails(1, &["skipped 3 of 3 images", "bad.png", "zero.jpg", "gone.png"]);
    // Many with the same reason are counted.
    for i in 0..7 {
        place.image(&format!("data/violet/{i}.png"), 16, [90, 10, 200], i);
    }
    let done = place.run("evaluate run --data data --split train").ok();
    let counted = "skipped 7 files, such as data/violet/0.png: of class violet, which the model";
    assert!(done.err.contains(counted), "{}", done.err);
    assert_eq!(done.err.matches("violet").count(), 2, "{}", done.err);
    let bad = Place::new();
    for class in ["a", "b"] {
        fs::create_dir_all(bad.path(&format!("data/{class}"))).unwrap();
        fs::write(bad.path(&format!("data/{class}/x.png")), "no").unwrap();
    }
    bad.run(TRAIN).fails(1, &["data"]);
    bad.holds(&["data"]);
}

#[test]
fn photos_that_are_not_there_are_said_to_be_missing() {
    let place = trained(5, "");
    let done = place.run("predict run nosuch.jpg").fails(1, &["nosuch.jpg", "no such file"]);
    assert!(!done.err.contains("skipped"), "{}", done.err);
    place
        .run("predict run gone/a.jpg gone/b.jpg")
        .fails(1, &["gone/a.jpg", "as for 1 more", "folder gone does not exist"]);
    place
        .run("predict run nosuch.jpg data/red/000.png")
        .fails(1, &["nosuch.jpg", "1 that is not there"]);
}

#[test]
fn class_folders_that_cannot_be_used() {
    let empty = Place::new();
    empty.data(4);
    fs::create_dir(empty.path("data/yellow")).unwrap();
    empty.run(TRAIN).fails(1, &["yellow"]);
    empty.holds(&["data"]);

    let one = Place::new();
    for i in 0..9 {
        one.image(&format!("data/only/{i}.png"), 16, [9, 9, 9], i);
    }
    one.run(TRAIN).fails(1, &["only", "at least"]);
    one.holds(&["data"]);

    let stranger = Place::new();
    for (folder, classes) in [("train", &["a", "b"][..]), ("test", &["a", "c"])] {
        for class in classes {
            for i in 0..5 {
                stranger.image(&format!("data/{folder}/{class}/{i}.png"), 16, [1, 2, 3], i);
            }
        }
    }
    stranger.run(&TRAIN.replace("--test-split 0.2", "")).fails(1, &["c", "train"]);
    stranger.holds(&["data"]);

    let none = Place::new();
    none.run(TRAIN).fails(1, &["data"]);
    fs::create_dir(none.path("data")).unwrap();
    none.run(TRAIN).fails(1, &["data"]);
    none.holds(&["data"]);
}

#[test]
fn an_unknown_class_cannot_be_evaluated() {
    let place = trained(5, "");
    place.image("other/red/1.png", 16, [200, 0, 0], 1);
    place.image("other/gren/1.png", 16, [0, 200, 0], 1);
    // Those that it knows are measured, and the others named.
    let done = place.run("evaluate run/weights/last.safetensors --data other --json").ok();
    assert_eq!(done.json()["samples"], 1);
    let said =
        "other/gren/1.png: of class gren, which the model does not know (did you mean green?)";
    assert!(done.err.contains(said.trim_start_matches("other/")), "{}", done.err);
    fs::remove_dir_all(place.path("other/red")).unwrap();
    place
        .run("evaluate run/weights/last.safetensors --data other")
        .fails(1, &["class gren", "did you mean green?"]);
}

#[test]
fn numbers_that_do_not_fit() {
    let place = Place::new();
    place.data(5);
    place.run(&format!("{TRAIN} --batch-size 8")).fails(2, &["--batch-size"]);
    let line = |flags: &str| TRAIN.replace("--batch-size 8", flags);
    place.run(&line("--batch-size 0")).fails(2, &["--batch-size", "1 to 65536"]);
    place.run(&line("--learning-rate 0")).fails(2, &["--learning-rate", "positive"]);
    place.run(&line("--learning-rate NaN")).fails(2, &["--learning-rate"]);
    place.run(&line("--weight-decay=-1")).fails(2, &["--weight-decay", "0 or more", "found -1"]);
    place.run(&line("--optimizer adam --beta-1 1")).fails(2, &["--beta-1", "below 1"]);
    place
        .run(&line("--schedule cosine --warmup-epochs 2"))
        .fails(2, &["--warmup-epochs", "below 2"]);
    place.run(&line("--schedule cosine --schedule-alpha 2")).fails(2, &["alpha", "0 to 1"]);
    place.run(&line("--augment crop:0")).fails(2, &["crop:PIXELS", "1 to 4096"]);
    place.run(&line("--augment flip,flop")).fails(2, &["flop", "flip, vflip, crop:PIXELS"]);
    place.run(&line("--augment rotate")).fails(2, &["rotate:DEGREES", "up to 180"]);
    place.run(&line("--augment jitter:0.4,0.4")).fails(2, &["jitter:BRIGHTNESS", "0.4,0.4"]);
    place.run(&line("--augment randaugment:2,31")).fails(2, &["randaugment:COUNT,MAGNITUDE"]);
    place.run(&line("--validation-split 1.5")).fails(2, &["--validation-split"]);
    place.run(&line("--threads 100000")).fails(2, &["--threads"]);
    place.run(&line("--image-size 8")).fails(2, &["--image-size"]);
    place.holds(&["data"]);
}

#[test]
fn freeze_points_that_do_not_exist() {
    let place = Place::new();
    place.data(5);
    let line = |at: &str| format!("{TRAIN} --fine-tune-at {at}");
    place
        .run(&line("conv3_block1_2_con"))
        .fails(2, &["freeze point", "did you mean conv3_block1_2_conv"]);
    place.run(&line("1000")).fails(2, &["index from 0 to", "found 1000"]);
    place.run("summary resnet50 --fine-tune-at 175").fails(2, &["0 to 174"]);
    place.run("summary resnet5").fails(2, &["did you mean resnet50"]);
    place.run("bench --phase fine-tune --fine-tune-at nowhere").fails(2, &["freeze point"]);
    place.holds(&["data"]);
}

#[test]
fn run_folders_that_cannot_be_used() {
    let place = trained(5, "");
    let before = fs::read(place.path("run/results.csv")).unwrap();
    place.run(TRAIN).fails(1, &["run folder run", "--exist-ok"]);
    assert_eq!(fs::read(place.path("run/results.csv")).unwrap(), before);
    place.run(&format!("{TRAIN} --exist-ok")).ok();
    fs::write(place.path("file"), "").unwrap();
    place.run(&TRAIN.replace("--out run", "--out file")).fails(1, &["run folder file", "a file"]);
    place.run(&TRAIN.replace("--out run", "--out file/below")).fails(1, &["file"]);
    place.run("plot nowhere").fails(1, &["nowhere/results.csv"]);
    fs::write(place.path("run/results.csv"), "epoch,loss\n1,2\n").unwrap();
    place.run("plot run").fails(1, &["results.csv", "rows of epoch,phase"]);
}

#[test]
fn a_loss_that_is_no_number_stops_training_and_keeps_the_last_good_weights() {
    let place = Place::new();
    place.data(8);
    let line =
        format!("{TRAIN} --fine-tune-at 0 --fine-tune-epochs 50 --fine-tune-learning-rate 1e38");
    place
        .run(&line)
        .fails(1, &["the loss became", "step", "epoch 3 (fine-tune)", "--fine-tune-learning-rate"]);
    let csv = fs::read_to_string(place.path("run/results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let done = place.run("evaluate run/weights/last.safetensors --data data --json").ok();
    assert!(done.json()["loss"].as_f64().unwrap().is_finite());
}

#[test]
fn contradictory_flags() {
    let place = Place::new();
    place.data(5);
    let line = |flags: &str| {
        format!("{} {flags}", TRAIN.replace("--epochs 2", "").replace("--image-size 16", ""))
    };
    place.run(&line("--upsample 2 --image-size 32")).fails(2, &["--upsample", "--image-size"]);
    place
        .run(&line("--upsample 2 --interpolation bicubic"))
        .fails(2, &["interpolation", "bicubic"]);
    place.run(&line("--momentum 0.9")).fails(2, &["momentum", "--optimizer sgd"]);
    place.run(&line("--optimizer sgd --nesterov")).fails(2, &["momentum"]);
    place.run(&line("--optimizer adam --momentum 0.9")).fails(2, &["momentum", "found adam"]);
    place.run(&line("--schedule-alpha 0.1")).fails(2, &["--schedule-alpha", "--schedule cosine"]);
    place.run(&line("--epochs 0")).fails(2, &["--fine-tune-at"]);
    place.run(&line("--fine-tune-epochs 3")).fails(2, &["--fine-tune-at"]);
    place.run(&line("--exist-ok").replace("--out run", "")).fails(2, &["--out"]);
    place.run(&line("--modl resnet20")).fails(2, &["--model"]);
    place.run(&line("").replace("resnet20", "resnet21")).fails(2, &["did you mean resnet20"]);
    place.run("bench --phase forward --cached").fails(2, &["--cached"]);
    place
        .run("features resnet20 --data data --out f.txt")
        .fails(2, &[".safetensors, .npy or .csv"]);
    place
        .run("features resnet20 --weights none --data data --out f.npy --layer avg_pol")
        .fails(2, &["avg_pool"]);
    place.holds(&["data"]);
}

#[test]
fn configs_that_cannot_be_used() {
    let place = Place::new();
    place.data(5);
    place.run("train --config gone.toml").fails(1, &["gone.toml"]);
    fs::write(place.path("bad.toml"), "epochs = 3\nepoch = 5\n").unwrap();
    place.run("train --config bad.toml").fails(1, &["bad.toml", "epoch", "line 2"]);
    fs::write(place.path("both.toml"), "upsample = 7\nimage-size = 224\n").unwrap();
    place.run("train --config both.toml").fails(2, &["either upsample or image-size"]);
}

#[test]
fn an_instruction_set_that_does_not_exist_is_named() {
    let place = Place::new();
    let output =
        place.command("bench --model resnet20").env("HEADSTART_ISA", "mmx").output().unwrap();
    Done::from(output).fails(1, &["mmx", "HEADSTART_ISA"]);
}

/// Nobody writes where the photos are: they can lie on a read-only disk.
#[test]
fn commands_leave_the_data_as_it_is() {
    let place = trained(5, "");
    let files = |place: &Place| {
        let mut found = Vec::new();
        for class in ["red", "green", "blue"] {
            let folder = place.path("data").join(class);
            let changed = |path: &std::path::Path| fs::metadata(path).unwrap().modified().unwrap();
            found.push((class.to_string(), changed(&folder)));
            for name in support::list(&folder) {
                let path = folder.join(&name);
                found.push((
                    format!("{class}/{name} {:?}", fs::read(&path).unwrap()),
                    changed(&path),
                ));
            }
        }
        found.sort();
        (support::list(&place.path("data")).len(), found)
    };
    let before = files(&place);
    assert!(before.0 == 3 && before.1.len() > 12);
    place.run(&TRAIN.replace("--out run", "--out again")).ok();
    for command in [
        "data check data --html check.html",
        "evaluate run/weights/best.safetensors --data data --gallery gallery.html --out figures",
        "predict run/weights/best.safetensors data --output answers.csv",
        "features run/weights/best.safetensors --data data --out features.npy",
        "similar run/weights/best.safetensors data/red/000.png --data data --html similar.html",
        "export run/weights/best.safetensors --format onnx --out net.onnx --int8 --data data",
    ] {
        place.run(command).ok();
    }
    assert_eq!(files(&place), before);
}

#[test]
fn devices_that_are_not_there() {
    let place = trained(5, "");
    let predict = "predict run/weights/last.safetensors data/red/000.png --device";
    place.run(&format!("{predict} tpu")).fails(2, &["--device", "tpu", "gpu:N"]);
    // Without any driver the error says what is missing, else which adapters there are.
    place.run(&format!("{predict} gpu:99")).fails(1, &["expected", "found"]);
    place.run(&format!("{predict} gpu:0 --precision bf16")).fails(1, &["--precision", "f32"]);
    half_precision(&place, predict);
    let line = TRAIN.replace("--out run", "--out new");
    place.run(&format!("{line} --device gpu:99")).fails(1, &["expected", "found"]);
    assert!(!place.path("new").exists());
    let cpu = place.run(&format!("{predict} cpu --json")).ok().out;
    assert_eq!(place.run(&format!("{predict} auto --json")).ok().out, cpu);
}

/// f16 is for GPUs that have it, by either name.
fn half_precision(place: &Place, predict: &str) {
    for name in ["f16", "mixed_float16"] {
        let mends = ["--precision", "found f16", "--precision bf16", "--device gpu"];
        place.run(&format!("{predict} cpu --precision {name}")).fails(1, &mends);
        let line = TRAIN.replace("--out run", "--out new");
        place.run(&format!("{line} --device cpu --precision {name}")).fails(1, &mends);
        assert!(!place.path("new").exists());
    }
    place.run(&format!("{predict} cpu --precision f8")).fails(2, &["--precision", "f16"]);
    let doctor: serde_json::Value =
        serde_json::from_str(&place.run("doctor --json").ok().out).unwrap();
    let adapters = doctor["devices"].as_array().unwrap();
    for (number, adapter) in adapters.iter().enumerate() {
        let done = place.run(&format!("{predict} gpu:{number} --precision f16"));
        match adapter["half"].as_bool().unwrap() {
            true => done.ok(),
            false => done.fails(1, &[adapter["name"].as_str().unwrap(), "shader-f16", "f32"]),
        };
    }
    // Software is never taken by itself: `auto` says what there is.
    if adapters.iter().all(|adapter| adapter["kind"] == "software") {
        let done = place.run(&format!("{predict} auto --precision f16"));
        done.fails(1, &["expected", "found", "--precision f32 or bf16"]);
    }
}

#[test]
fn urls_need_a_build_that_has_them() {
    // `tests/objects.rs` is about such a build.
    if cfg!(feature = "objects") {
        return;
    }
    let place = trained(2, "");
    for line in [
        "data check s3://bucket/photos",
        "train --data gs://bucket/photos --model resnet20 --weights none --out new",
        "evaluate run --data az://container/photos",
        "predict run s3://bucket/photo.jpg data/red/000.png",
        "explain-image run https://server/photo.jpg --out seen.png",
        "similar run s3://bucket/photo.jpg --data data",
    ] {
        let url = line.split(' ').find(|word| word.contains("://")).unwrap();
        place.run(line).fails(1, &[url, "is built without", "hint:", "--features objects"]);
    }
    assert!(!place.path("new").exists() && !place.cache().join("objects").exists());
    // A path is no URL for what stands in it.
    place.run("data check ./s3://bucket/photos").fails(1, &["s3:/"]);
}

#[test]
fn outputs_at_urls_are_refused() {
    let place = Place::new();
    place.data(3);
    for line in [
        "train --data data --out s3://b/run",
        "predict resnet20 data --output s3://b/x.csv",
        "data check data --html gs://b/x.html",
        "features resnet20 --data data --out az://c/x",
    ] {
        place.run(line).fails(2, &["--", "a file or folder of this machine", "://", "hint:"]);
    }
    place.holds(&["data"]);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_named_and_control_nothing() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let run = |words: &[&[u8]]| -> Done {
        let mut command = place.command("");
        command.args(words.iter().map(|word| OsStr::from_bytes(word)));
        command.output().unwrap().into()
    };
    let done = run(&[b"train", b"--data", b"a\xe9b"]);
    done.fails(2, &["error: --data: expected text in UTF-8, found a\\xE9b", "hint: ", "ln -s"]);
    let done = run(&[b"train", b"--data=a\xe9b"]);
    done.fails(2, &["error: argument: ", "--data=a\\xE9b"]);
    run(&[b"predict", b"a\xe9b", b"b.png"]).fails(2, &["argument: ", "found a\\xE9b", "ln -s"]);
    for words in
        [&[&b"train"[..], b"--\x1b[2Jx"][..], &[b"\x1b[31mtrain"], &[b"train", b"\xc2\x9b2J"]]
    {
        let done = run(words);
        assert!(!done.err.contains(['\x1b', '\u{9b}']), "{:?}", done.err);
        done.fails(2, &["error: ", "--help"]);
    }
}
