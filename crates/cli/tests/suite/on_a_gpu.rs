//! A run on a GPU, and what is done with it elsewhere.

use std::fs;

use crate::support::Place;
use crate::support::skip::skipped;

const TRAIN: &str = "train --data data --model resnet20 --weights none --image-size 16 --batch-size 8 \
                     --epochs 2 --test-split 0.2 --out run --device gpu:0";

/// A place with photos; none where there is no GPU.
fn place() -> Option<Place> {
    let place = Place::new();
    place.data(5);
    let doctor = place.run("doctor --json").ok().json();
    if doctor["devices"].get(0).is_none() {
        skipped("runs on a GPU: there is no GPU and no software for one");
        return None;
    }
    Some(place)
}

#[test]
fn a_report_is_made_again_where_the_run_was() {
    let Some(place) = place() else { return };
    place.run(&format!("{TRAIN} --precision f32")).ok();
    let read = |name: &str| fs::read_to_string(place.path("run").join(name)).unwrap();
    let (report, page) = (read("report.json"), read("report.html"));
    let flag = "<span>--device</span> gpu:0";
    assert_eq!(page.matches(flag).count(), 3, "{page}");
    place.run("report run").ok();
    assert_eq!(read("report.json"), report);
    // The processor rounds otherwise, which is no other result.
    place.run("report run --device cpu").ok();
    assert_eq!(read("report.json"), report);
    assert!(read("report.html").contains(flag));
}

#[test]
fn a_run_goes_on_elsewhere_by_flags() {
    let Some(place) = place() else { return };
    place.run(&format!("{TRAIN} --precision f32")).ok();
    let refused = place.run("train --resume run --device cpu --epochs 3");
    refused.fails(2, &["epochs = 3, by a flag", "--allow-changes"]);
    place.run("train --resume run --device cpu --epochs 3 --allow-changes").ok();
    let config = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(config.contains("device = \"cpu\"") && config.contains("epochs = 3\n"), "{config}");
    // It is a run of the processor now.
    place.run("train --resume run").ok();
    let rows = fs::read_to_string(place.path("run/results.csv")).unwrap();
    assert_eq!(rows.lines().count(), 4, "{rows}");
}

#[test]
fn half_precision_goes_on_in_single_on_the_processor() {
    let Some(place) = place() else { return };
    let done = place.run(&format!("{TRAIN} --precision f16"));
    if done.err.contains("shader-f16") {
        done.fails(1, &["f16"]);
        skipped("runs in f16: the GPU has no shader-f16");
        return;
    }
    done.ok();
    place.run("train --resume run --device cpu --allow-changes").fails(1, &["--precision", "f32"]);
    place.run("train --resume run --device cpu --precision f32 --epochs 3 --allow-changes").ok();
    place.run("train --resume run").ok();
}

#[test]
fn drivers_that_are_named_and_cannot_be_are_said() {
    let place = Place::new();
    let with = |line: &str, variable: &str, value: &str| {
        let mut command = place.command(line);
        command.env_remove("VK_DRIVER_FILES").env_remove("VK_ICD_FILENAMES").env(variable, value);
        crate::support::Done::from(command.output().unwrap())
    };
    fs::write(place.path("no.json"), "{}").unwrap();
    let nowhere = place.path("nowhere.json").display().to_string();
    let none = place.path("no.json").display().to_string();
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        let said = with("doctor", variable, &nowhere).ok().out;
        let missing = format!("{variable} names {nowhere}, which is not there");
        assert!(
            said.contains(&missing) && said.contains(&format!("{variable}={nowhere}")),
            "{said}"
        );
        let said = with("doctor", variable, &format!("{none}:{nowhere}")).ok().out;
        assert!(said.contains("which describes no driver") && said.contains(&missing), "{said}");
    }
    place.image("red.png", 16, [200, 20, 30], 1);
    let model = "predict resnet20 red.png --device gpu:0";
    with(model, "VK_DRIVER_FILES", &nowhere).fails(1, &["GPU", "VK_DRIVER_FILES names", "nowhere"]);
}

#[cfg(unix)]
#[test]
fn what_is_kept_of_tiles_is_never_written_into_a_pipe() {
    use std::os::unix::ffi::OsStrExt;

    let Some(place) = place() else { return };
    place.run(&format!("{TRAIN} --precision f32")).ok();
    fs::create_dir_all(place.cache()).unwrap();
    let pipe = place.cache().join("tiles.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut command = place.command("predict run data/red/000.png --device gpu:0");
    command.env("HEADSTART_TUNE", "on");
    crate::support::Done::from(command.output().unwrap()).ok();
    let mut command = place.command("predict run data/red/000.png --device gpu:0");
    command.env("HEADSTART_TUNE", std::ffi::OsStr::from_bytes(b"\xff"));
    let done = crate::support::Done::from(command.output().unwrap());
    done.fails(1, &["HEADSTART_TUNE", "on or off", "unset it"]);
}
