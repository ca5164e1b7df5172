//! Sizes from outside that are far too large: an error at once that names them, without memory for what they ask.

use std::fs;
use std::process::Command;

use crate::support::{Done, Place, TRAIN};

/// Runs a command that may take 3 GB of addresses.
fn within_3_gb(place: &Place, line: &str) -> Done {
    let plain = place.command(line);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 3000000 && exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap());
    plain.get_envs().for_each(|(name, value)| {
        command.env(name, value.unwrap());
    });
    command.output().unwrap().into()
}

#[test]
fn numbers_that_wrap_or_have_no_end_are_wrong_usage() {
    let place = Place::new();
    place.data(3);
    for (line, flag, expected) in [
        ("train --cache-memory 17592186044416", "--cache-memory <MB>", "0 to 1073741824"),
        ("train --cache-disk 17592186044416", "--cache-disk <MB>", "0 to 1073741824"),
        ("train --save-every 18446744073709551615", "--save-every <TIME>", "0 to 1000000000"),
        ("train --save-every 9223372036854775807", "--save-every <TIME>", "0 to 1000000000"),
        ("train --recipe auto --budget 500years", "--budget <TIME>", "1ms to 365days"),
        ("recipe --data data --budget 584542046090years", "--budget <TIME>", "1ms to 365days"),
        ("recipe --data data --cache-memory 17592186044416", "--cache-memory <MB>", "1073741824"),
        ("train --epochs 18446744073709551615", "--epochs <N>", "0 to 1000000"),
        ("train --batch-size 0", "--batch-size <N|auto>", "1 to 65536, or auto"),
        ("train --accumulate 0", "--accumulate <STEPS>", "1 to 1000000"),
        ("train --unfreeze head:18446744073709551615", "--unfreeze", "1 to 1000000 epochs"),
        ("summary resnet50 --image-size 9223372036854775807", "--image-size", "1 to 4096"),
        ("summary resnet50 --upsample 9223372036854775807", "--upsample", "1 to 64"),
        ("summary resnet50 --classes 18446744073709551615", "--classes", "1 to 1000000"),
        ("explain --batch-size 18446744073709551615", "--batch-size", "1 to 65536"),
        ("bench --image-size 9223372036854775807", "--image-size", "1 to 4096"),
        ("bench --threads 18446744073709551615", "--threads", "0 to 1024"),
        ("predict resnet20 x.png --top-k 0", "--top-k", "1 to 1000000"),
        ("lr-find --steps 18446744073709551615", "--steps", "10 to 10000"),
        ("evaluate resnet20 --data data --bootstrap 18446744073709551615", "--bootstrap", "100000"),
    ] {
        place.run(line).fails(2, &["invalid value", flag, expected]);
    }
    place.holds(&["data"]);
}

#[test]
fn settings_in_a_file_have_the_same_ranges() {
    let place = Place::new();
    for (line, parts) in [
        ("cache-memory = 17592186044416", ["cache-memory", "0 to 1073741824"]),
        ("image-size = 9223372036854775807", ["image-size", "1 to 4096"]),
        ("upsample = 9223372036854775807", ["upsample", "1 to 64"]),
        ("epochs = 9223372036854775807", ["epochs", "0 to 1000000"]),
        ("fine-tune-epochs = 9223372036854775807", ["fine-tune-epochs", "0 to 1000000"]),
        ("batch-size = 9223372036854775807", ["batch-size", "1 to 65536"]),
        ("accumulate = 9223372036854775807", ["accumulate", "1 to 1000000"]),
        ("patience = 9223372036854775807", ["patience", "0 to 1000000"]),
        ("limit = 9223372036854775807", ["limit", "1 to 1000000000"]),
        ("threads = 9223372036854775807", ["threads", "0 to 1024"]),
        ("unfreeze = [\"head:9223372036854775807\"]", ["unfreeze", "1 to 1000000 epochs"]),
    ] {
        let text =
            format!("data = \"synthetic:2x8x8\"\nmodel = \"resnet20\"\nimage-size = 8\n{line}\n");
        let own = line.split(" =").next().unwrap();
        let text =
            if own == "image-size" { text.replacen("image-size = 8\n", "", 1) } else { text };
        fs::write(place.path("c.toml"), text).unwrap();
        let done = within_3_gb(&place, "train --config c.toml --out new");
        assert!(matches!(done.code, Some(1 | 2)), "{line}: {:?} {}", done.code, done.err);
        let code = done.code.unwrap();
        done.fails(code, &parts);
    }
    place.holds(&["c.toml"]);
}

#[test]
fn nets_that_no_memory_holds_are_refused_before_it_is_taken() {
    let place = Place::new();
    let large = "--model resnet50 --image-size 4096 --upsample 2 --batch-size 65536 --threads 1";
    for command in ["bench", "explain", "bench --phase full", "bench --phase head --cached"] {
        let done = within_3_gb(&place, &format!("{command} {large}"));
        done.fails(1, &["expected at most", "MiB, the memory of this", "--batch-size"]);
    }
    // Two sizes that are right alone and too large together.
    let both = "--image-size 4096 --upsample 64";
    for command in ["summary resnet50", "explain", "bench"] {
        let done = within_3_gb(&place, &format!("{command} {both}"));
        done.fails(2, &["image size times upsampling", "1 to 8192", "262144"]);
    }
    place.data(5);
    let line = TRAIN.replace("--image-size 16", "--upsample 64").replace("resnet20", "resnet50");
    let line = line.replace("--batch-size 8", "--batch-size 4");
    for i in 0..5 {
        for class in ["red", "green", "blue"] {
            place.image(&format!("data/{class}/{i:03}.png"), 129, [1, 2, 3], i);
        }
    }
    within_3_gb(&place, &line).fails(1, &["image size times upsampling", "8256"]);
    place.holds(&["data"]);
}

/// A PNG that says it is that large, of black pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().unwrap();
    let line = (width as usize).div_ceil(8);
    writer.write_image_data(&vec![0; line * height as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn images_of_one_long_side_are_no_images() {
    let place = Place::new();
    place.data(5);
    place.run(TRAIN).ok();
    fs::write(place.path("wide.png"), png(100_000_000, 1)).unwrap();
    fs::write(place.path("high.png"), png(1, 100_000_000)).unwrap();
    let model = "run/weights/best.safetensors";
    for name in ["wide.png", "high.png"] {
        let part = ["100000000x1", "1x100000000"][usize::from(name == "high.png")];
        let parts = [name, part, "65535 on each side"];
        within_3_gb(&place, &format!("predict {model} {name} --threads 1")).fails(1, &parts);
        let line = format!("explain-image {model} {name} --out x.png --threads 1");
        within_3_gb(&place, &line).fails(1, &parts);
        fs::copy(place.path(name), place.path(&format!("data/red/{name}"))).unwrap();
    }
    let done = within_3_gb(&place, "data check data --threads 1").ok();
    assert!(done.out.contains("65535 on each side"), "{}", done.out);
    // Right at the limit.
    fs::write(place.path("long.png"), png(65_535, 1)).unwrap();
    within_3_gb(&place, &format!("predict {model} long.png --threads 1")).ok();
}

#[test]
fn files_longer_than_images_are_not_read() {
    let place = Place::new();
    place.data(5);
    place.run(TRAIN).ok();
    // Holes take no space on disk.
    let path = place.path("data/red/long.jpg");
    fs::write(&path, [0xff, 0xd8, 0xff, 0xe0]).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(6 << 30).unwrap();
    let model = "run/weights/best.safetensors";
    let parts = ["long.jpg", "a file of more than 256 MiB"];
    within_3_gb(&place, &format!("predict {model} data/red --threads 1")).fails(1, &parts);
    let line = format!("explain-image {model} data/red/long.jpg --out x.png --threads 1");
    within_3_gb(&place, &line).fails(1, &parts);
    let done = within_3_gb(&place, "data check data --threads 1").ok();
    assert!(done.out.contains("a file of 6144 MiB"), "{}", done.out);
}

#[cfg(unix)]
#[test]
fn links_that_reach_one_folder_in_many_ways_end() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.data(5);
    place.run(TRAIN).ok();
    // Two links a level, to the next level: 2^30 ways to the image at their end.
    for level in 0..30 {
        let folder = place.path(&format!("many/{level}"));
        fs::create_dir_all(&folder).unwrap();
        for name in ["a", "b"] {
            symlink(format!("../{}", level + 1), folder.join(name)).unwrap();
        }
    }
    place.image("many/30/x.png", 16, [9, 9, 9], 1);
    fs::create_dir(place.path("loop")).unwrap();
    symlink(".", place.path("loop/a")).unwrap();
    symlink(".", place.path("loop/b")).unwrap();
    place.image("loop/x.png", 16, [9, 9, 9], 1);
    let model = "run/weights/best.safetensors";
    for (folder, image) in [("loop", "loop/x.png"), ("many/0", "x.png")] {
        let done = place.run(&format!("predict {model} {folder} --json")).ok();
        assert_eq!(done.out.lines().count(), 1, "{folder}");
        assert!(done.out.contains(image), "{}", done.out);
    }
    let checked = place.run("data check many/0").ok().out;
    assert!(checked.contains("more than 16 links"), "{checked}");
}

#[test]
fn patterns_of_shards_with_endless_numbers_are_no_patterns() {
    let place = Place::new();
    let digits = "0".repeat(70_000);
    place.run(&format!("data check a{{{digits}..1}}.tar")).fails(1, &["a{000"]);
    place.run("data check a{0..99999999999999999999}.tar").fails(1, &["a{0..9"]);
    place.run("data check a{0..18446744073709551615}.tar").fails(1, &["1 to 100000 shards"]);
}
