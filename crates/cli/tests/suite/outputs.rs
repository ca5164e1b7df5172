//! Outputs that are links, folders, pipes, devices or where nothing can be written: written to or refused, never replaced.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Stdio;

use crate::support::{Done, TRAIN, skip, trained};

/// Every flag that writes a file, with the ending that its name must have.
const FILES: [(&str, &str); 9] = [
    ("data check data --html", "html"),
    ("predict run data --output", "csv"),
    ("evaluate run --data data --output", "csv"),
    ("evaluate run --data data --gallery", "html"),
    ("features run --data data --out", "npy"),
    ("explain-image run data/red/001.png --out", "png"),
    ("similar run data/red/001.png --data data --html", "html"),
    ("export run --format onnx --out", "onnx"),
    ("train --data data --model resnet20 --image-size 16 --show-batch", "png"),
];

/// Every flag that writes a folder.
const FOLDERS: [&str; 3] = ["evaluate run --data data --out", "compare run run --out", "man"];

#[test]
fn what_cannot_be_written_is_refused_by_every_flag_and_stays_as_it_is() {
    let place = trained(5, "");
    fs::create_dir(place.path("folder")).unwrap();
    fs::write(place.path("file"), "old").unwrap();
    for (line, ending) in FILES {
        let name = |kind: &str| format!("{kind}.{ending}");
        let path = |kind: &str| place.path(&name(kind));
        fs::create_dir(path("is-folder")).unwrap();
        symlink("folder", path("to-folder")).unwrap();
        symlink("gone/x", path("to-gone")).unwrap();
        for (target, part) in [
            (name("is-folder"), "a folder"),
            (name("to-folder"), "a folder"),
            (name("to-gone"), "which is not there"),
            (format!("file/x.{ending}"), "which is a file"),
            (format!("gone/x.{ending}"), "which is not there"),
        ] {
            let done = place.run(&format!("{line} {target}"));
            done.fails(1, &["expected a file to write", part, &target]);
        }
        assert!(path("is-folder").is_dir() && path("to-folder").is_symlink());
        for kind in ["is-folder", "to-folder", "to-gone"] {
            let path = path(kind);
            if path.is_symlink() { fs::remove_file(path) } else { fs::remove_dir(path) }.unwrap();
        }
    }
    symlink("gone", place.path("to-gone")).unwrap();
    for line in FOLDERS {
        place.run(&format!("{line} file")).fails(1, &["file", "expected a folder, found a file"]);
        place.run(&format!("{line} file/below")).fails(1, &["expected a folder, found a file"]);
        place.run(&format!("{line} to-gone")).fails(1, &["to-gone", "a link to nothing"]);
    }
    let train = |out: &str| place.run(&TRAIN.replace("--out run", &format!("--out {out}")));
    train("to-gone").fails(1, &["run folder to-gone", "a link to nothing"]);
    train("file").fails(1, &["run folder file", "a file"]);
    train("file/below").fails(1, &["expected a folder, found a file"]);
    assert_eq!(fs::read(place.path("file")).unwrap(), b"old");
    place.holds(&["data", "file", "folder", "run", "to-gone"]);
}

#[test]
fn links_lead_to_their_files_and_devices_and_pipes_are_written_to() {
    let place = trained(5, "");
    fs::create_dir(place.path("folder")).unwrap();
    for (line, ending) in FILES {
        let path = |kind: &str| place.path(&format!("{kind}.{ending}"));
        fs::write(path("real"), "old").unwrap();
        symlink(format!("real.{ending}"), path("link")).unwrap();
        symlink("folder/later", path("ahead")).unwrap();
        for link in ["link", "ahead"] {
            place.run(&format!("{line} {link}.{ending}")).ok();
            assert!(path(link).is_symlink(), "{line} {link}");
        }
        assert!(fs::read(path("real")).unwrap() != b"old", "{line}");
        assert!(fs::metadata(place.path("folder/later")).unwrap().len() > 100, "{line}");
        fs::remove_file(place.path("folder/later")).unwrap();
        symlink("/dev/null", path("null")).unwrap();
        place.run(&format!("{line} null.{ending}")).ok();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        if cfg!(target_os = "linux") {
            symlink("/dev/full", path("full")).unwrap();
            let done = place.run(&format!("{line} full.{ending}"));
            done.fails(1, &["cannot write", "full", "space"]);
        }
        let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(fifo.success());
        let mut command = place.command(&format!("{line} fifo.{ending}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The other end is opened for writing here too, so that a command which fails leaves nobody waiting.
        let both = fs::File::options().read(true).write(true).open(path("fifo")).unwrap();
        let reader = fs::File::open(path("fifo")).unwrap();
        let read = std::thread::spawn(move || std::io::copy(&mut { reader }, &mut std::io::sink()));
        let done: Done = child.wait_with_output().unwrap().into();
        drop(both);
        done.ok();
        assert!(read.join().unwrap().unwrap() > 100, "{line}");
        assert!(fs::metadata(path("fifo")).unwrap().file_type().is_fifo(), "{line}");
        for kind in ["real", "link", "ahead", "null", "full", "fifo"] {
            let _ = fs::remove_file(path(kind));
        }
    }
}

#[test]
fn standard_output_is_written_to_wherever_it_goes() {
    let place = trained(5, "");
    symlink("/dev/stdout", place.path("out.csv")).unwrap();
    let rows = |text: &str| text.lines().filter(|line| line.contains("data/")).count();
    // A pipe.
    let done = place.run("predict run data --output out.csv").ok();
    assert!(done.out.starts_with("image,class,index") && rows(&done.out) == 15, "{}", done.out);
    // A file, which holds what the command prints after it too.
    let file = fs::File::create(place.path("log")).unwrap();
    let status = place.command("predict run data --output out.csv").stdout(file).status().unwrap();
    let text = fs::read_to_string(place.path("log")).unwrap();
    assert!(status.success() && rows(&text) == 15, "{text}");
    assert!(text.starts_with("image,class") && text.ends_with("out.csv: 15 images\n"), "{text}");
    assert!(
        place.run("data check data --html /dev/stdout").ok().out.starts_with("<!doctype html>")
    );
}

#[test]
fn a_folder_that_may_not_be_written_is_named_before_the_work() {
    let place = trained(5, "");
    let folder = place.path("closed");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("trial"), "").is_ok() {
        return skip::skipped("no folder is closed to this user");
    }
    for (line, ending) in FILES {
        let done = place.run(&format!("{line} closed/x.{ending}"));
        done.fails(1, &["cannot write", "closed/x", "denied"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_and_lists_that_cannot_be_written_are_errors() {
    let place = crate::support::Place::new();
    for line in [
        "--help",
        "--version",
        "help train",
        "train --help",
        "train --help-all",
        "completions bash",
        "man pages",
        "weights list",
        "summary resnet20",
        "doctor",
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done: Done = place.command(line).stdout(full).output().unwrap().into();
        done.fails(1, &["standard output"]);
    }
    // A reader that went away is no error.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done: Done = place.command("train --help-all").stdout(writer).output().unwrap().into();
    done.ok();
}
