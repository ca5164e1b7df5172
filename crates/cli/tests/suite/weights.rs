//! `export` and `weights inspect` on the real binary.

use std::fs;
use std::process::Command;

use crate::support::{Done, Place, TRAIN, trained};

const MODEL: &str = "run/weights/best.safetensors";

#[test]
fn what_export_writes_is_read_again_and_its_script_is_printed() {
    let place = trained(5, "");
    let before = place.run(&format!("predict {MODEL} data/red --json")).ok().out;
    // The old name of the format is the same.
    for format in ["pytorch", "safetensors"] {
        let line = format!("export {MODEL} --format {format} --out e.safetensors");
        let done = place.run(&line).ok();
        assert!(done.out.contains("from e_model import load, predict"), "{}", done.out);
        assert!(done.err.contains("wrote e.safetensors and e_model.py"), "{}", done.err);
        let json = place.run(&format!("{line} --json")).ok().json();
        assert_eq!(json["files"], serde_json::json!(["e.safetensors", "e_model.py"]));
        for file in ["e.safetensors", "e_model.py"] {
            assert!(place.path(file).exists(), "{file}");
        }
        assert_eq!(place.run("predict e.safetensors data/red --json").ok().out, before);
    }
    let line = format!("export {MODEL} --format keras --out e.weights.h5 --json");
    let json = place.run(&line).ok().json();
    assert_eq!(json["file"], "e.weights.h5");
    assert!(json["script"].as_str().unwrap().contains("load_weights(\"e.weights.h5\")"), "{json}");
    let json = place.run("weights inspect e.weights.h5 --json").ok().json();
    assert_eq!(json["format"], "keras3");
    let fits = serde_json::json!([{"net": "resnet20", "head": true, "classes": 3}]);
    assert_eq!(json["fits"], fits);
    let text = place.run(&format!("weights inspect {MODEL}")).ok().out;
    for part in
        ["headstart model", "classes: blue, green, red", "fits: resnet20, with its head of 3"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(text.contains("conv1_conv/kernel") && text.contains("3x3x3x16"), "{text}");
    // The net starts from what was exported.
    for file in ["e.weights.h5", "e.safetensors"] {
        let line = TRAIN.replace("--weights none", &format!("--weights {file}"));
        place.run(&line.replace("--out run", &format!("--out run-{file}"))).ok();
    }
}

#[test]
fn onnx_is_written_in_floats_and_in_bytes() {
    let place = trained(5, "");
    let json = place.run(&format!("export {MODEL} --format onnx --out e.onnx --json")).ok().json();
    assert!(json["script"].as_str().unwrap().contains("InferenceSession(\"e.onnx\")"), "{json}");
    assert!(json.get("int8").is_none(), "{json}");
    let line = format!("export {MODEL} --format onnx --out b.onnx --int8 --data data");
    let json =
        place.run(&format!("{line} --calibration-images 6 --split train --json")).ok().json();
    let int8 = &json["int8"];
    assert_eq!(
        (&int8["calibration_images"], &int8["split"]),
        (&6.into(), &"train".into()),
        "{json}"
    );
    assert!(int8["agreement"].as_f64().unwrap() > 0.5 && int8["samples"].as_u64().unwrap() > 6);
    let size = |name: &str| fs::metadata(place.path(name)).unwrap().len();
    assert!(size("b.onnx") * 3 < size("e.onnx"));
    // Every image here is a test image of its own class folders; the figures are printed.
    let said = place.run(&line).ok();
    assert!(said.err.contains("int8") && said.err.contains("accuracy"), "{}", said.err);
    place.run(&format!("export {MODEL} --format onnx --out x.onnx --int8")).fails(2, &["--data"]);
    let keras = format!("export {MODEL} --format keras --out x.weights.h5 --int8 --data data");
    place.run(&keras).fails(2, &["--int8", "onnx"]);
    place.run(&line.replace("b.onnx", "x.pb")).fails(2, &["x.pb", ".onnx"]);
    place.run(&line.replace("--data data", "--data gone")).fails(1, &["gone"]);
    let none = format!("{line} --calibration-images 0").replace("b.onnx", "x.onnx");
    place.run(&none).fails(2, &["--calibration-images", "1 to 1000000"]);
    assert!(!place.path("x.onnx").exists());
}

#[test]
fn an_export_of_a_bf16_run_says_that_it_computes_in_f32() {
    let place = Place::new();
    place.data(6);
    for (precision, says) in [("bf16", true), ("f32", false)] {
        place
            .run(&format!(
                "train --data data --model resnet20 --weights none --image-size 16 --epochs 1 --batch-size 8 --no-cache \
                 --precision {precision} --out {precision}"
            ))
            .ok();
        for (format, ending) in
            [("onnx", "onnx"), ("pytorch", "safetensors"), ("keras", "weights.h5")]
        {
            let line = format!("export {precision} --format {format} --out {precision}.{ending}");
            let done = place.run(&line).ok();
            let said =
                done.err.contains("computed in bf16") && done.err.contains("--precision f32");
            assert_eq!(said, says, "{line}: {}", done.err);
        }
    }
}

#[test]
fn exports_that_cannot_be_leave_nothing() {
    let place = trained(5, "");
    let export = |format: &str, out: &str| {
        place.run(&format!("export {MODEL} --format {format} --out {out}"))
    };
    export("keras", "e.h5").fails(2, &["e.h5", "ends in .weights.h5"]);
    export("keras", ".weights.h5").fails(2, &["ends in .weights.h5"]);
    export("pytorch", "e.pth").fails(2, &["e.pth", "ends in .safetensors", "torch.save"]);
    export("onnx", "e.safetensors").fails(2, &["ends in .onnx", "--format pytorch"]);
    export("pickle", "e.pkl").fails(2, &["pickle", "pytorch", "keras", "onnx"]);
    export("keras", "gone/e.weights.h5").fails(1, &["gone/e.weights.h5", "not there"]);
    let line = "--format keras --out e.weights.h5";
    place.run(&format!("export resnet5O {line}")).fails(2, &["resnet5O", "did you mean resnet50"]);
    place.run(&format!("export gone.safetensors {line}")).fails(1, &["gone.safetensors"]);
    place.run(&format!("export {MODEL} --weights x.h5 {line}")).fails(2, &["--weights"]);
    place.holds(&["data", "run"]);
    // A disk that is full after 32 kB.
    for (format, out) in [("keras", "e.weights.h5"), ("pytorch", "e.safetensors")] {
        let binary = env!("CARGO_BIN_EXE_headstart");
        let script = format!(
            "trap '' XFSZ; ulimit -f 64; exec {binary} export {MODEL} --format {format} --out {out}"
        );
        let run = Command::new("sh").args(["-c", &script]).current_dir(place.path("")).output();
        Done::from(run.unwrap()).fails(1, &["cannot write", out]);
        place.holds(&["data", "run"]);
    }
}

#[test]
fn help_lists_every_format_and_what_loads_it() {
    let help = Place::new().run("export --help").ok().out;
    for part in ["pytorch", "state_dict", "torch.nn.Module", "keras", "load_weights", "onnx"] {
        assert!(help.contains(part), "no {part} in {help}");
    }
    assert!(help.lines().filter(|l| l.starts_with("  headstart export ")).count() == 2, "{help}");
}

#[test]
fn files_that_are_no_weights_are_refused_by_inspect() {
    let place = Place::new();
    for (name, bytes, expected) in [
        ("empty.pth", &b""[..], "an empty file"),
        ("text.h5", b"<html>", "a web page"),
        ("model.json", b"{\"format\": \"graph-model\"}", "a TensorFlow.js layers model"),
        ("cut.keras", b"PK\x03\x04", "PyTorch"),
        ("run.pth", b"\x80\x02}X\x01\0\0\0acos\nsystem\n(X\x05\0\0\0touchtRs.", "os.system"),
    ] {
        fs::write(place.path(name), bytes).unwrap();
        place.run(&format!("weights inspect {name}")).fails(1, &[name, expected]);
    }
    place.run("weights inspect gone.h5").fails(1, &["cannot read gone.h5"]);
    place.run("weights").fails(2, &["inspect"]);
}
