//! Files that claim more than they are: refused within `--memory-limit`, by a program that could not have more if it tried.
#![cfg(unix)]

use std::fs;
use std::io::Write;

use crate::support::{Done, Place};

/// Runs `line` in 3 GB of addresses, with 128 MB for reading.
fn run(place: &Place, line: &str) -> Done {
    let command = place.command("");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -v 3000000; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(line.split_whitespace());
    shell.current_dir(place.path("."));
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.envs(variables).env("HEADSTART_MEMORY_LIMIT", "128").env("RAYON_NUM_THREADS", "2");
    shell.output().unwrap().into()
}

/// A file that is as long as it claims, and empty but for its start.
fn sparse(place: &Place, name: &str, start: &[u8], length: u64) {
    let mut file = fs::File::create(place.path(name)).unwrap();
    file.write_all(start).unwrap();
    file.set_len(length).unwrap();
}

/// A PNG of zeros, `side` pixels on each side.
fn png(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_compression(png::Compression::Fastest);
    encoder.write_header().unwrap().write_image_data(&vec![0; (side * side) as usize]).unwrap();
    bytes
}

#[test]
fn weights_larger_than_the_limit_are_refused_before_they_are_read() {
    let place = Place::new();
    let header = format!(
        "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}",
        1u64 << 38,
        1u64 << 40
    );
    let start = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    sparse(&place, "x.safetensors", &start, (8 + header.len() as u64) + (1 << 40));
    sparse(&place, "x.h5", b"\x89HDF\r\n\x1a\n", 1 << 40);
    let text = ["expected a file that can be read in 128 MiB of memory", "--memory-limit"];
    for file in ["x.safetensors", "x.h5"] {
        run(&place, &format!("weights inspect {file}")).fails(1, &text);
    }
    // A header of 90 MB: names without tensors.
    let names = format!("{{\"__metadata__\":{{{}\"b\":\"\"}}}}", "\"a\":\"\",".repeat(13_000_000));
    let bytes = [&(names.len() as u64).to_le_bytes()[..], names.as_bytes()].concat();
    fs::write(place.path("x.safetensors"), bytes).unwrap();
    run(&place, "weights inspect x.safetensors").fails(1, &text);
    // The same file with more memory, and too little for what is named in it.
    let limit = "weights inspect x.safetensors --memory-limit 16";
    run(&place, limit).fails(1, &["can be read in 16 MiB"]);
    fs::write(place.path("model.json"), "{".to_string() + &" ".repeat(4 << 20)).unwrap();
    run(&place, "weights inspect model.json").fails(1, &text);
    sparse(&place, "deep.json", "{\"a\":".repeat(200_000).as_bytes(), 1_000_000);
    run(&place, "weights inspect deep.json").fails(1, &["deep.json", "TensorFlow.js layers model"]);
}

#[test]
fn images_that_take_more_than_the_limit_are_left_out_by_name() {
    let place = Place::new();
    place.data(4);
    fs::write(place.path("data/red/large.png"), png(8_000)).unwrap();
    let gif = [&b"GIF89a"[..], &[0x10, 0x27, 0x10, 0x27, 0, 0, 0]].concat();
    fs::write(place.path("data/red/large.gif"), gif).unwrap();
    fs::write(place.path("data/red/large.ppm"), b"P6 9000 9000 255 ").unwrap();
    let done = run(&place, "data check data --threads 1").ok();
    for name in ["large.png", "large.gif", "large.ppm"] {
        assert!(done.out.contains(name), "{}", done.out);
    }
    assert!(done.out.contains("where reading may take 128 MiB (--memory-limit)"), "{}", done.out);
    // With enough it is an image as others are.
    let done = place.run("data check data --threads 1 --memory-limit 1024").ok();
    assert!(!done.out.contains("large.png: "), "{}", done.out);
}

#[test]
fn archives_and_tables_that_swell_are_refused() {
    let place = Place::new();
    place.data(3);
    // Names that take 200 MB, in an archive of zeros behind them.
    let long = "path,label\n".to_string() + &",".repeat(5 << 20);
    fs::write(place.path("long.csv"), long).unwrap();
    run(&place, "data check long.csv").fails(1, &["long.csv", "a line of 5242880 bytes"]);
    let wide = ",".repeat(1 << 20) + "path,label\n";
    fs::write(place.path("wide.csv"), wide).unwrap();
    run(&place, "data check wide.csv").fails(1, &["wide.csv", "columns, where 10000 are read"]);
    let rows = "path,label\n".to_string() + &"a,b\n".repeat(1 << 20);
    fs::write(place.path("rows.csv"), rows).unwrap();
    run(&place, "data check rows.csv").fails(1, &["rows.csv", "--memory-limit"]);
    sparse(&place, "sparse.csv", b"path,label\n", 1 << 40);
    run(&place, "data check sparse.csv").fails(1, &["sparse.csv", "at most 256 MiB"]);
    sparse(&place, "config.toml", b"data = \"sample\"\n", 1 << 40);
    run(&place, "train --config config.toml").fails(1, &["config.toml", "at most 4 MiB"]);
}

#[test]
fn the_limit_is_a_flag_of_every_command_and_a_variable() {
    let place = Place::new();
    let doctor = |line: &str, variable: Option<&str>| {
        let mut command = place.command(line);
        if let Some(value) = variable {
            command.env("HEADSTART_MEMORY_LIMIT", value);
        }
        Done::from(command.output().unwrap())
    };
    let reading = |done: Done| done.ok().json()["memory"]["reading"].as_u64().unwrap() >> 20;
    assert_eq!(reading(doctor("doctor --json --memory-limit 100", None)), 100);
    assert_eq!(reading(doctor("doctor --json", Some("200"))), 200);
    assert_eq!(reading(doctor("--memory-limit 300 doctor --json", Some("200"))), 300);
    let done = doctor("doctor --json", None).ok().json();
    assert_eq!(done["memory"]["reading"], done["memory"]["total"].as_u64().unwrap() / 2);
    for bad in ["", "none", "-1", "15", "1e3", "18446744073709551616"] {
        doctor("doctor", Some(bad)).fails(2, &["HEADSTART_MEMORY_LIMIT: expected megabytes", bad]);
    }
    doctor("doctor --memory-limit 15", None).fails(2, &["--memory-limit", "from 16 to 1073741824"]);
    let help = place.run("train --help-all").ok().out;
    assert!(help.contains("--memory-limit <MB>"), "{help}");
}
